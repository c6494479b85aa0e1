//! The processes of a container, in the columns of ps(1): read from /proc, as the host need not have a `ps`.

use super::record::Container;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use std::collections::BTreeMap;
use std::fs;

/// A table of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// Headings.
    pub titles: Vec<String>,
    /// One row for each process, by rising process id.
    pub processes: Vec<Vec<String>>,
}

/// A column: what it shows, and its heading.
type Column = (Show, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    Uid,
    User,
    Gid,
    Group,
    Pid,
    ParentPid,
    ProcessorPercent,
    /// The same without a fraction.
    ProcessorWhole,
    MemoryPercent,
    VirtualSize,
    ResidentSize,
    Terminal,
    State,
    StateLetter,
    StartTime,
    Time,
    Elapsed,
    Nice,
    Threads,
    Name,
    Command,
}

/// The names of ps(1), their headings, and what they show.
const SPECIFIERS: &[(&[&str], &str, Show)] = &[
    (&["user", "euser", "uname"], "USER", Show::User),
    (&["uid", "euid"], "UID", Show::Uid),
    (&["group", "egroup"], "GROUP", Show::Group),
    (&["gid", "egid"], "GID", Show::Gid),
    (&["pid", "tgid"], "PID", Show::Pid),
    (&["ppid"], "PPID", Show::ParentPid),
    (&["pcpu", "%cpu"], "%CPU", Show::ProcessorPercent),
    (&["c"], "C", Show::ProcessorWhole),
    (&["pmem", "%mem"], "%MEM", Show::MemoryPercent),
    (&["vsz", "vsize"], "VSZ", Show::VirtualSize),
    (&["rss", "rssize", "rsz"], "RSS", Show::ResidentSize),
    (&["tty", "tname", "tt"], "TTY", Show::Terminal),
    (&["stat"], "STAT", Show::State),
    (&["s", "state"], "S", Show::StateLetter),
    (&["stime", "start_time", "start"], "STIME", Show::StartTime),
    (&["time", "cputime"], "TIME", Show::Time),
    (&["etime"], "ELAPSED", Show::Elapsed),
    (&["ni", "nice"], "NI", Show::Nice),
    (&["nlwp", "thcount"], "NLWP", Show::Threads),
    (&["comm", "ucmd", "ucomm"], "COMMAND", Show::Name),
    (&["args", "cmd", "command"], "COMMAND", Show::Command),
];

/// `ps -ef`.
const FULL: &[(&str, Show)] = &[
    ("UID", Show::User),
    ("PID", Show::Pid),
    ("PPID", Show::ParentPid),
    ("C", Show::ProcessorWhole),
    ("STIME", Show::StartTime),
    ("TTY", Show::Terminal),
    ("TIME", Show::Time),
    ("CMD", Show::Command),
];

/// `ps aux`.
const USERS: &[(&str, Show)] = &[
    ("USER", Show::User),
    ("PID", Show::Pid),
    ("%CPU", Show::ProcessorPercent),
    ("%MEM", Show::MemoryPercent),
    ("VSZ", Show::VirtualSize),
    ("RSS", Show::ResidentSize),
    ("TTY", Show::Terminal),
    ("STAT", Show::State),
    ("START", Show::StartTime),
    ("TIME", Show::Time),
    ("COMMAND", Show::Command),
];

/// `ps -e`.
const SHORT: &[(&str, Show)] =
    &[("PID", Show::Pid), ("TTY", Show::Terminal), ("TIME", Show::Time), ("CMD", Show::Name)];

impl Engine {
    /// The processes of a running container. `options` are those of ps(1) that choose columns: `-ef` (the default), `aux`,
    /// `-e`, and `-o` with a list of columns.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it does not run, [`Kind::InvalidArgument`] for other options.
    pub fn top(&self, wanted: &str, options: &[String]) -> Result<Top> {
        let columns = columns(options)?;
        let container = self.ready(wanted, super::state::Step::Top)?;
        let machine = Machine::read();
        let processes = pids(&container)?
            .into_iter()
            .filter_map(|pid| {
                let process = Process::read(pid)?;
                Some(columns.iter().map(|(show, _)| process.cell(*show, &machine)).collect())
            })
            .collect();
        Ok(Top { titles: columns.into_iter().map(|(_, title)| title).collect(), processes })
    }
}

fn columns(options: &[String]) -> Result<Vec<Column>> {
    let fixed = |list: &[(&str, Show)]| list.iter().map(|(title, show)| (*show, (*title).to_owned())).collect();
    let mut named: Vec<Column> = Vec::new();
    let (mut full, mut users) = (options.is_empty(), false);
    let mut words = options.iter();
    while let Some(word) = words.next() {
        let list = if word == "--format" {
            words.next().cloned()
        } else if let Some(list) = word.strip_prefix("--format=") {
            Some(list.to_owned())
        } else {
            let (letters, rest) = match word.split_once('o') {
                Some((letters, rest)) => (letters, Some(rest)),
                None => (word.as_str(), None),
            };
            for letter in letters.trim_start_matches('-').chars() {
                match letter {
                    'f' | 'F' => full = true,
                    'u' => users = true,
                    // Which processes are shown is clear, and nothing is cut.
                    'e' | 'A' | 'a' | 'x' | 'w' | 'H' => {}
                    _ => return Err(unknown(word)),
                }
            }
            match rest {
                Some("") => words.next().cloned(),
                Some(list) => Some(list.to_owned()),
                None => continue,
            }
        };
        let list = list.ok_or_else(|| unknown(word))?;
        for part in list.split([',', ' ']).filter(|part| !part.is_empty()) {
            named.push(specifier(part)?);
        }
    }
    if !named.is_empty() {
        if !named.iter().any(|(show, _)| *show == Show::Pid) {
            // Docker needs it to tell whose processes they are; its users' scripts all name it.
            return Err(Error::new(Kind::InvalidArgument, "Couldn't find PID field in ps output")
                .hint("add pid to the columns"));
        }
        return Ok(named);
    }
    Ok(match (users, full) {
        (true, _) => fixed(USERS),
        (_, true) => fixed(FULL),
        _ => fixed(SHORT),
    })
}

fn specifier(text: &str) -> Result<Column> {
    let (name, title) = text.split_once('=').map_or((text, None), |(name, title)| (name, Some(title)));
    let found = SPECIFIERS.iter().find(|(names, _, _)| names.contains(&name));
    let (_, standard, show) = found.ok_or_else(|| {
        Error::new(Kind::InvalidArgument, format!("unknown user-defined format specifier \"{name}\""))
            .hint("known are those of ps(1) that name users, ids, times, sizes and the command")
    })?;
    Ok((*show, title.unwrap_or(standard).to_owned()))
}

fn unknown(word: &str) -> Error {
    Error::new(Kind::InvalidArgument, format!("the option {word:?} of ps is not supported"))
        .hint("known are -ef, aux, -e, and -o with a list of columns: dhow reads the processes itself")
}

/// The container's processes: those in its PID namespace, or in its mount namespace when it shares another's.
fn pids(container: &Container) -> Result<Vec<i32>> {
    let private = container.settings.pid_mode.is_empty() || container.settings.pid_mode == "private";
    let kind = if private { "pid" } else { "mnt" };
    let mark = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let own = mark(container.run.pid);
    let entries = fs::read_dir("/proc").internal(|| "cannot read /proc".into())?;
    let mut pids: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    Ok(pids.into_iter().filter(|&pid| own.is_some() && mark(pid) == own).collect())
}

/// What columns need beside the process.
struct Machine {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
    memory: u64,
    uptime: u64,
}

impl Machine {
    fn read() -> Machine {
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds = uptime.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        Machine {
            users: names("/etc/passwd"),
            groups: names("/etc/group"),
            memory: crate::info::memory().max(1),
            uptime: seconds,
        }
    }
}

/// Names by number of passwd(5) or group(5).
fn names(path: &str) -> BTreeMap<u32, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        Some((number.parse().ok()?, name.to_owned()))
    };
    text.lines().rev().filter_map(entry).collect()
}

/// One process as /proc shows it.
struct Process {
    pid: i32,
    status: String,
    /// From the third field of proc_pid_stat(5) on.
    stat: Vec<String>,
    command: String,
}

/// Ticks of a second on every architecture that Linux has.
const TICKS: u64 = 100;

impl Process {
    /// `None` when it has just ended.
    fn read(pid: i32) -> Option<Process> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may contain anything; numbers start behind the last one.
        let stat: Vec<String> = stat.rsplit_once(')')?.1.split_ascii_whitespace().map(str::to_owned).collect();
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<_> = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let command = words.join(" ").trim_end().replace(|c: char| c.is_control(), " ");
        Some(Process { pid, status, stat, command })
    }

    fn field(&self, name: &str) -> &str {
        let value = self.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim()
    }

    /// A field of proc_pid_stat(5) by its number there.
    fn number(&self, field: usize) -> u64 {
        self.stat.get(field - 3).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The effective id of `Uid` or `Gid`.
    fn effective(&self, name: &str) -> u32 {
        self.field(name).split_ascii_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn kibibytes(&self, name: &str) -> u64 {
        self.field(name).split_ascii_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn seconds(&self) -> u64 {
        (self.number(14) + self.number(15)) / TICKS
    }

    /// Since its start, in seconds.
    fn age(&self, machine: &Machine) -> u64 {
        machine.uptime.saturating_sub(self.number(22) / TICKS)
    }

    /// Percent of one processor over its life.
    fn processor(&self, machine: &Machine) -> f64 {
        self.seconds() as f64 * 100.0 / self.age(machine).max(1) as f64
    }

    fn cell(&self, show: Show, machine: &Machine) -> String {
        match show {
            Show::Uid => self.effective("Uid").to_string(),
            Show::Gid => self.effective("Gid").to_string(),
            Show::User => name(&machine.users, self.effective("Uid")),
            Show::Group => name(&machine.groups, self.effective("Gid")),
            Show::Pid => self.pid.to_string(),
            Show::ParentPid => self.field("PPid").to_owned(),
            Show::ProcessorPercent => format!("{:.1}", self.processor(machine)),
            Show::ProcessorWhole => format!("{:.0}", self.processor(machine).floor().min(99.0)),
            Show::MemoryPercent => {
                format!("{:.1}", self.kibibytes("VmRSS") as f64 * 102_400.0 / machine.memory as f64)
            }
            Show::VirtualSize => self.kibibytes("VmSize").to_string(),
            Show::ResidentSize => self.kibibytes("VmRSS").to_string(),
            Show::Terminal => terminal(self.number(7)),
            Show::StateLetter => self.letter().to_owned(),
            Show::State => self.state(),
            Show::StartTime => start_time(self.age(machine)),
            Show::Time => clock(self.seconds()),
            Show::Elapsed => elapsed(self.age(machine)),
            Show::Nice => self.stat.get(19 - 3).cloned().unwrap_or_default(),
            Show::Threads => self.field("Threads").to_owned(),
            Show::Name => self.field("Name").to_owned(),
            Show::Command if self.command.is_empty() => format!("[{}]", self.field("Name")),
            Show::Command => self.command.clone(),
        }
    }

    fn letter(&self) -> &str {
        self.stat.first().map_or("?", String::as_str)
    }

    /// With ps(1)'s signs: high or low priority, session leader, threads, foreground.
    fn state(&self) -> String {
        let mut text = self.letter().to_owned();
        let nice: i64 = self.stat.get(19 - 3).and_then(|text| text.parse().ok()).unwrap_or(0);
        if nice != 0 {
            text.push(if nice < 0 { '<' } else { 'N' });
        }
        if self.number(6) == u64::from(self.pid.unsigned_abs()) {
            text.push('s');
        }
        if self.kibibytes("Threads") > 1 {
            text.push('l');
        }
        let foreground = self.stat.get(8 - 3).map(String::as_str);
        if foreground.is_some_and(|group| Some(group) == self.stat.get(5 - 3).map(String::as_str)) {
            text.push('+');
        }
        text
    }
}

/// A name of at most eight letters, as ps(1) has room for; the number where there is none.
fn name(names: &BTreeMap<u32, String>, id: u32) -> String {
    match names.get(&id) {
        Some(name) if name.chars().count() <= 8 => name.clone(),
        Some(name) => name.chars().take(7).chain(['+']).collect(),
        None => id.to_string(),
    }
}

/// The terminal's name by its device number: 136 and up are pseudo-terminals (Documentation/admin-guide/devices.txt).
fn terminal(number: u64) -> String {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    match major {
        0 => "?".to_owned(),
        4 => format!("tty{minor}"),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn elapsed(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{:02}", seconds % 60),
        (0, _) => format!("{hours:02}:{minutes:02}:{:02}", seconds % 60),
        _ => format!("{days}-{hours:02}:{minutes:02}:{:02}", seconds % 60),
    }
}

/// The time of day, or the date of what is older than a day, in UTC.
fn start_time(age: u64) -> String {
    let age = jiff::SignedDuration::from_secs(i64::try_from(age).unwrap_or(0));
    let start = jiff::Timestamp::now().checked_sub(age).unwrap_or_default();
    let format = if age.as_hours() >= 24 { "%b%d" } else { "%H:%M" };
    start.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(options: &[&str]) -> Result<Vec<String>> {
        let options: Vec<String> = options.iter().map(|&word| word.to_owned()).collect();
        Ok(columns(&options)?.into_iter().map(|(_, title)| title).collect())
    }

    #[test]
    fn options_of_ps() {
        let full = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
        assert_eq!(titles(&[]).unwrap(), full);
        assert_eq!(titles(&["-ef"]).unwrap(), full);
        assert_eq!(titles(&["-e"]).unwrap(), ["PID", "TTY", "TIME", "CMD"]);
        assert_eq!(titles(&["aux"]).unwrap()[2..4], ["%CPU", "%MEM"]);
        assert_eq!(titles(&["-o", "pid,comm"]).unwrap(), ["PID", "COMMAND"]);
        assert_eq!(titles(&["-eo", "pid=ID,cmd"]).unwrap(), ["ID", "COMMAND"]);
        assert_eq!(titles(&["-opid,user"]).unwrap(), ["PID", "USER"]);
        for wrong in [&["-o", "comm"][..], &["-o", "pid,foo"], &["-Z"], &["-o"], &["--forest"]] {
            assert_eq!(titles(wrong).unwrap_err().kind(), Kind::InvalidArgument, "{wrong:?}");
        }
    }

    #[test]
    fn this_process() {
        let machine = Machine::read();
        let own = Process::read(rustix::process::getpid().as_raw_nonzero().get()).unwrap();
        assert_eq!(own.cell(Show::Pid, &machine), own.pid.to_string());
        assert!(own.cell(Show::Command, &machine).contains("engine"));
        assert!(own.cell(Show::ResidentSize, &machine).parse::<u64>().unwrap() > 100);
        assert_eq!((terminal(0), terminal(0x8803)), ("?".to_owned(), "pts/3".to_owned()));
        assert_eq!(
            (elapsed(59), elapsed(3600), elapsed(90_061)),
            ("00:59".into(), "01:00:00".into(), "1-01:01:01".into())
        );
    }
}
