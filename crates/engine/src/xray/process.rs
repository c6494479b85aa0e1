//! What `xray` shows of processes: the first one, its namespaces and who else is in them, its ids, its limits, and the others.

use super::{Section, field};
use crate::containers::Top;
use crate::containers::record::{Container, Status};
use std::fs;

/// The first process.
pub(super) fn first(pid: i32, status: &str) -> Section {
    let mut section = Section::new("Process");
    section.add("pid on the host", pid.to_string());
    section.add("pid inside", field(status, "NSpid").split_ascii_whitespace().last().unwrap_or("").to_owned());
    section.add("user ids", field(status, "Uid").replace('\t', " "));
    section.add("group ids", field(status, "Gid").replace('\t', " "));
    section.add("groups", field(status, "Groups"));
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|&b| b == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    section.add("command", words.join(" ").trim().to_owned());
    for (name, link) in [("executable", "exe"), ("working directory", "cwd")] {
        if let Ok(target) = fs::read_link(format!("/proc/{pid}/{link}")) {
            section.add(name, target.display().to_string());
        }
    }
    section.add("resident memory", field(status, "VmRSS"));
    section.add("processors", field(status, "Cpus_allowed_list"));
    section.add("memory nodes", field(status, "Mems_allowed_list"));
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default();
    section.add("oom_score_adj", score.trim());
    section
}

/// All that the container's cgroup has, or its process namespace where there is none.
pub(super) fn all(top: Top) -> Section {
    let mut section = Section::new("Processes");
    for row in top.processes {
        if let [pid, user, state, command] = row.as_slice() {
            section.note(pid.clone(), command.clone(), format!("{user}, {state}"));
        }
    }
    section
}

/// The columns that [`all`] wants.
pub(super) fn columns() -> [String; 1] {
    ["-opid,user,s,args".to_owned()]
}

/// The namespaces of the first process: whose they are, and which ids the user namespace has.
pub(super) fn namespaces(pid: i32, rootless: bool, containers: &[Container]) -> Section {
    let mut section = Section::new("Namespaces");
    let runs = |each: &&Container| matches!(each.status, Status::Running | Status::Paused) && each.run.pid != pid;
    let others: Vec<&Container> = containers.iter().filter(runs).collect();
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let link = |who: &str| fs::read_link(format!("/proc/{who}/ns/{name}")).ok();
        let Some(own) = link(&pid.to_string()) else { continue };
        let inode = own.to_string_lossy().trim_start_matches(|c| c != '[').trim_matches(['[', ']']).to_owned();
        let note = match name {
            // This process has moved into it.
            "user" if rootless && link("self").as_ref() == Some(&own) => "shared by all containers of this user".into(),
            // Ours is the host's but for the mounts, which are copies.
            _ if link("self").as_ref() == Some(&own) => "shared with the host".to_owned(),
            _ => {
                let shares = |each: &&&Container| link(&each.run.pid.to_string()).as_ref() == Some(&own);
                let names: Vec<&str> = others.iter().filter(shares).map(|each| each.name.as_str()).collect();
                if names.is_empty() { "its own".to_owned() } else { format!("shared with {}", names.join(", ")) }
            }
        };
        section.note(name, inode, note);
    }
    for (name, file) in [("user ids", "uid_map"), ("group ids", "gid_map")] {
        let map = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        section.add(name, map.lines().filter_map(range).collect::<Vec<_>>().join(", "));
    }
    section
}

/// A line of uid_map: first id inside, first id as this process sees it, how many (user_namespaces(7)).
fn range(line: &str) -> Option<String> {
    let numbers: Option<Vec<u64>> = line.split_ascii_whitespace().map(|word| word.parse().ok()).collect();
    let [inside, outside, size] = numbers?.try_into().ok()?;
    Some(match size {
        1 => format!("{inside} is {outside}"),
        _ if inside == outside && size >= u64::from(u32::MAX) => "as here".to_owned(),
        _ => format!("{inside} to {} are {outside} to {}", inside + size - 1, outside + size - 1),
    })
}

/// The limits of the first process (getrlimit(2)), which its children inherit.
pub(super) fn limits(pid: i32) -> Section {
    let mut section = Section::new("Limits of the process");
    let table = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    for line in table.lines().skip(1) {
        if let Some((name, value)) = limit(line) {
            section.add(name, value);
        }
    }
    section
}

/// A line of `/proc/PID/limits`, whose columns begin at fixed places (fs/proc/base.c).
fn limit(line: &str) -> Option<(String, String)> {
    let column = |from: usize, to: usize| line.get(from..to.min(line.len())).map(str::trim);
    let (name, soft, hard) = (column(0, 26)?, column(26, 47)?, column(47, 68)?);
    let unit = column(68, line.len()).unwrap_or_default();
    let unit = if unit.is_empty() || soft == "unlimited" { String::new() } else { format!(" {unit}") };
    let hard = if soft == hard { String::new() } else { format!(", at most {hard}") };
    Some((name.strip_prefix("Max ").unwrap_or(name).to_owned(), format!("{soft}{unit}{hard}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_limits_are_read() {
        assert_eq!(range("         0          0 4294967295"), Some("as here".into()));
        assert_eq!(range(" 0 1000 1"), Some("0 is 1000".into()));
        assert_eq!(range(" 1 100000 65536"), Some("1 to 65536 are 100000 to 165535".into()));
        assert_eq!(range("nonsense"), None);
        let line = "Max open files            1024                 524288               files     ";
        assert_eq!(limit(line), Some(("open files".into(), "1024 files, at most 524288".into())));
        let line = "Max cpu time              unlimited            unlimited            seconds   ";
        assert_eq!(limit(line), Some(("cpu time".into(), "unlimited".into())));
        let line = "Max nice priority         0                    0                    ";
        assert_eq!(limit(line), Some(("nice priority".into(), "0".into())));
        assert_eq!(limit("short"), None);
        // The kernel's own.
        let all = limits(i32::try_from(std::process::id()).unwrap()).facts;
        assert_eq!(all.len(), 16);
        assert!(all.iter().any(|fact| fact.name == "processes"));
    }
}
