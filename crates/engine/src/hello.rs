//! `dhow/hello`, the image inside the binary: a container that prints what the kernel gave it.
//!
//! The image has no layer. Its one file is this program, bind-mounted read-only; called as `hello` it runs [`main`],
//! which only looks: at /proc and /sys as every container sees them.

use crate::images::ImageDefaults;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Names under which the image is known.
const NAMES: &[&str] = &["dhow/hello", "dhow/hello:latest", "docker.io/dhow/hello", "docker.io/dhow/hello:latest"];

/// The identifier of the image in the database.
pub(crate) const ID: &str = "builtin:hello";

/// Where the program stands in the container.
const PROGRAM: &str = "/hello";

/// The built-in image of that name, if there is one.
pub(crate) fn builtin(name: &str) -> Option<ImageDefaults> {
    NAMES.contains(&name).then(|| ImageDefaults {
        id: ID.into(),
        entrypoint: vec![PROGRAM.into()],
        ..ImageDefaults::default()
    })
}

/// The path at which this program is mounted for the image.
pub(crate) fn program_path(image_id: &str) -> Option<&'static str> {
    (image_id == ID).then_some(PROGRAM)
}

/// What the container prints.
pub(crate) fn main() -> ExitCode {
    let report = report();
    match rustix::io::write(rustix::stdio::stdout(), report.as_bytes()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn report() -> String {
    let mut text = String::from("Hello from dhow!\n\nThis is a container, and this is what the kernel gave it.\n");
    section(&mut text, "Namespaces", namespaces());
    section(&mut text, "Cgroup and limits", cgroup());
    section(&mut text, "Capabilities", capabilities());
    section(&mut text, "System calls", system_calls());
    section(&mut text, "Mounts", mounts());
    section(&mut text, "Network", network());
    text.push_str("\nTo see the same from outside, run `dhow xray CONTAINER` on a running one.\n");
    text
}

fn section(text: &mut String, title: &str, lines: Vec<String>) {
    text.push_str(&format!("\n{title}\n"));
    for line in lines {
        text.push_str(&format!("  {line}\n"));
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn namespaces() -> Vec<String> {
    let mut lines = Vec::new();
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        if let Ok(link) = std::fs::read_link(format!("/proc/self/ns/{name}")) {
            lines.push(format!("{name:<8}{}", link.display()));
        }
    }
    lines.push(format!("{:<8}{}", "host", read("/proc/sys/kernel/hostname").trim()));
    lines.push(format!("{:<8}{} of its own processes", "pid", std::process::id()));
    lines
}

fn cgroup() -> Vec<String> {
    let mut lines: Vec<String> =
        read("/proc/self/cgroup").lines().map(|line| format!("{:<16}{line}", "member of")).collect();
    for (name, files) in [
        ("memory limit", ["memory.max", "memory/memory.limit_in_bytes"]),
        ("tasks limit", ["pids.max", "pids/pids.max"]),
        ("processors", ["cpuset.cpus.effective", "cpuset/cpuset.effective_cpus"]),
        ("processor quota", ["cpu.max", "cpu/cpu.cfs_quota_us"]),
    ] {
        let value = files.iter().map(|file| read(&format!("/sys/fs/cgroup/{file}"))).find(|value| !value.is_empty());
        if let Some(value) = value {
            lines.push(format!("{name:<16}{}", meaning(value.trim())));
        }
    }
    lines
}

/// The kernel's ways to say "no limit": `max`, -1, and the largest multiple of a page.
fn meaning(value: &str) -> &str {
    match value {
        "max" | "max 100000" | "-1" | "9223372036854771712" => "none",
        other => other,
    }
}

fn status(field: &str) -> String {
    let all = read("/proc/self/status");
    let line = all.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or("").trim().to_owned()
}

fn capabilities() -> Vec<String> {
    let effective = u64::from_str_radix(&status("CapEff"), 16).unwrap_or(0);
    let names: Vec<&str> = kernel::capabilities::Set::from_bits(effective).names().collect();
    if names.is_empty() {
        return vec!["none".into()];
    }
    names.chunks(4).map(|row| row.join(" ")).collect()
}

fn system_calls() -> Vec<String> {
    let filter = match status("Seccomp").as_str() {
        "2" => format!("filtered ({} filter)", status("Seccomp_filters")),
        "0" => "not filtered".into(),
        other => format!("mode {other}"),
    };
    let privileges = if status("NoNewPrivs") == "1" { "cannot be gained" } else { "can be gained by set-id programs" };
    vec![format!("{:<16}{filter}", "seccomp"), format!("{:<16}{privileges}", "privileges")]
}

fn mounts() -> Vec<String> {
    let mut lines = Vec::new();
    for line in read("/proc/self/mountinfo").lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(dash) = fields.iter().position(|&field| field == "-") else { continue };
        let (Some(target), Some(options), Some(kind)) = (fields.get(4), fields.get(5), fields.get(dash + 1)) else {
            continue;
        };
        lines.push(format!("{target:<32}{kind:<10}{options}"));
    }
    lines
}

fn network() -> Vec<String> {
    let mut lines = Vec::new();
    let table = read("/proc/self/net/dev");
    let interfaces: Vec<&str> = table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    let mut text = String::new();
    for interface in interfaces {
        // Writing to a String cannot fail.
        write!(text, "{interface} ").unwrap_or_default();
    }
    lines.push(format!("{:<16}{}", "interfaces", text.trim()));
    for line in read("/proc/self/net/fib_trie").lines().collect::<Vec<_>>().windows(2) {
        if line[1].contains("/32 host LOCAL") {
            let address = line[0].trim_start_matches([' ', '|', '-', '+']).trim();
            let entry = format!("{:<16}{address}", "address");
            if !lines.contains(&entry) {
                lines.push(entry);
            }
        }
    }
    lines
}
