//! `top`

use super::verb;
use crate::display::table;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::{Container, Status};
use std::fs;

/// Display the running processes of a container
pub const VERB: Verb = verb!(Flags, execute, Other, "CONTAINER", "Display the running processes of a container");

#[derive(Args)]
struct Flags {
    /// The container. Options of ps are not supported.
    #[arg(value_name = "CONTAINER", required = true, num_args = 1.., trailing_var_arg = true)]
    words: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let [name] = flags.words.as_slice() else {
        return Err(Failure::new("options of ps are not supported: dhow reads the processes itself"));
    };
    let container = session.engine()?.inspect(name)?;
    if !matches!(container.status, Status::Running | Status::Paused) {
        return Err(Failure::new(format!("container {} is not running", container.id)));
    }
    let mut text = "UID\tPID\tPPID\tSTATE\tTIME\tCMD\n".to_owned();
    for process in processes(&container)? {
        text.push_str(&process);
        text.push('\n');
    }
    output::text(&table::align(&text))
}

/// The container's processes: those in its PID namespace, or in its cgroup when it shares the host's namespace.
fn processes(container: &Container) -> Result<Vec<String>, Failure> {
    let mark = |pid: &str| -> Option<Vec<u8>> {
        if container.settings.pid_mode == "host" {
            fs::read(format!("/proc/{pid}/cgroup")).ok()
        } else {
            fs::read_link(format!("/proc/{pid}/ns/pid")).ok().map(|link| link.into_os_string().into_encoded_bytes())
        }
    };
    let own = mark(&container.run.pid.to_string());
    let unreadable = |error| Failure::caused("/proc cannot be read", error);
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .map_err(unreadable)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids
        .into_iter()
        .map(|pid| pid.to_string())
        .filter(|pid| mark(pid) == own)
        .filter_map(|pid| line(&pid))
        .collect())
}

/// One process; `None` when it has just ended.
fn line(pid: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything; numbers start behind the last one. proc_pid_stat(5): utime and stime
    // are fields 14 and 15, in ticks of 1/100 s on every architecture that Linux has.
    let numbers: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks: u64 = numbers.get(11)?.parse::<u64>().ok()? + numbers.get(12)?.parse::<u64>().ok()?;
    let seconds = ticks / 100;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let mut command = words.join(" ").trim_end().replace(['\t', '\n'], " ");
    if command.is_empty() {
        command = format!("[{}]", field("Name")?);
    }
    let user = field("Uid")?.split_ascii_whitespace().next()?;
    Some(format!(
        "{user}\t{pid}\t{}\t{}\t{:02}:{:02}:{:02}\t{command}",
        field("PPid")?,
        field("State")?.split(' ').next()?,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
    ))
}
