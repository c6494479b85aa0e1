//! `GET /containers/{id}/top`: the host's ps(1), and of its lines those that are the container's.

use crate::context::Context;
use crate::failure::Failure;
use crate::reply::{self, Reply};
use engine::{Container, Engine, Status};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// `GET /containers/{id}/top`
pub async fn top(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let name = wanted.to_owned();
    let arguments = context.query.text("ps_args").unwrap_or("-ef").to_owned();
    let (titles, processes) = context.workers().translate(move |engine| lines(engine, &name, &arguments)).await?;
    reply::ok(&json!({ "Titles": titles, "Processes": processes }))
}

type Table = (Vec<String>, Vec<Vec<String>>);

fn lines(engine: &Engine, name: &str, arguments: &str) -> Result<Table, Failure> {
    let container = engine.inspect(name)?;
    if !matches!(container.status, Status::Running | Status::Paused) {
        return Err(Failure::conflict(format!("container {} is not running", container.id)));
    }
    let own = processes(&container)?;
    let output = Command::new("ps")
        .args(arguments.split_ascii_whitespace())
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .map_err(|error| Failure::internal(format!("cannot run ps, which shows the processes: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::bad(format!("ps {arguments}: {said}")));
    }
    table(&String::from_utf8_lossy(&output.stdout), &own)
}

/// Titles and the lines of these processes. The last column may have spaces in it.
fn table(text: &str, own: &BTreeSet<i32>) -> Result<Table, Failure> {
    let mut all = text.lines();
    let titles: Vec<String> = all.next().unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
    let column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| Failure::bad("Couldn't find PID field in ps output"))?;
    let mut lines = Vec::new();
    for line in all {
        let mut fields: Vec<String> = Vec::new();
        let mut rest = line.trim();
        while fields.len() + 1 < titles.len() && !rest.is_empty() {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            fields.push(rest[..end].to_owned());
            rest = rest[end..].trim_start();
        }
        fields.push(rest.to_owned());
        if fields.get(column).and_then(|pid| pid.parse().ok()).is_some_and(|pid| own.contains(&pid)) {
            lines.push(fields);
        }
    }
    Ok((titles, lines))
}

/// The container's processes: those in its PID namespace, or in its cgroup when it shares the host's namespace.
fn processes(container: &Container) -> Result<BTreeSet<i32>, Failure> {
    let mark = |pid: i32| -> Option<Vec<u8>> {
        if container.settings.pid_mode == "host" {
            fs::read(format!("/proc/{pid}/cgroup")).ok()
        } else {
            fs::read_link(format!("/proc/{pid}/ns/pid")).ok().map(|link| link.into_os_string().into_encoded_bytes())
        }
    };
    let own = mark(container.run.pid);
    let entries = fs::read_dir("/proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter(|pid| mark(*pid) == own).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_has_spaces() {
        let text = "UID   PID  PPID CMD\nroot   10     1 sh -c sleep 5\nroot   11    10 sleep 5\nroot 1 0 init\n";
        let (titles, lines) = table(text, &[10, 11].into()).unwrap();
        assert_eq!(titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(lines, [["root", "10", "1", "sh -c sleep 5"], ["root", "11", "10", "sleep 5"]]);
        assert!(table("A B\n", &BTreeSet::new()).is_err());
    }
}
