//! What the value of a flag, or an argument, can be.

use super::{Source, Which};
use clap::Arg;

const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGKILL",
    "SIGPIPE",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

const CAPABILITIES: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Flags whose values are known; the name of a flag means the same with every verb unless the first column says more.
const FLAGS: &[(&str, &str, &[&str])] = &[
    ("", "attach", &["stderr", "stdin", "stdout"]),
    ("", "cap-add", CAPABILITIES),
    ("", "cap-drop", CAPABILITIES),
    ("", "cgroupns", &["host", "private"]),
    ("network create", "driver", &["bridge", "ipvlan", "macvlan"]),
    ("volume create", "driver", &["local"]),
    ("", "format", &["json", "table"]),
    ("", "health-on-failure", &["kill", "none", "restart", "stop"]),
    ("", "ipc", &["container:", "host", "none", "private", "shareable"]),
    ("", "log-driver", &["journald", "json-file", "local", "none", "syslog"]),
    ("", "log-level", &["debug", "error", "fatal", "info", "warn"]),
    ("", "pid", &["container:", "host"]),
    (
        "",
        "platform",
        &["linux/386", "linux/amd64", "linux/arm/v7", "linux/arm64", "linux/ppc64le", "linux/riscv64", "linux/s390x"],
    ),
    ("", "pull", &["always", "missing", "never"]),
    ("", "restart", &["always", "no", "on-failure", "unless-stopped"]),
    (
        "",
        "security-opt",
        &["apparmor=", "label=", "no-new-privileges", "seccomp=", "systempaths=unconfined", "writable-cgroups"],
    ),
    ("", "signal", SIGNALS),
    ("", "stop-signal", SIGNALS),
    ("", "type", &["config", "container", "image", "network", "secret", "volume"]),
    ("", "userns", &["auto", "host", "keep-id", "nomap"]),
    ("", "uts", &["host"]),
    ("", "volume-driver", &["local"]),
];

/// Where the values of a flag come from.
pub(super) fn of_flag(flag: &Arg, path: &str) -> Source {
    let Some(name) = flag.get_long() else { return Source::Nothing };
    match name {
        "config" if path.ends_with("run") || path.ends_with("create") => return Source::Configs,
        "cidfile" | "config" | "env-file" | "input" | "label-file" | "output" | "root" | "run-dir" | "volume" => {
            return Source::Files;
        }
        "context" => return Source::Contexts,
        "link" | "volumes-from" => return Source::Containers(Which::All),
        "net" | "network" => return Source::Networks,
        "secret" => return Source::Secrets,
        _ => {}
    }
    let known = FLAGS.iter().find(|(verb, flag, _)| *flag == name && (verb.is_empty() || *verb == path));
    known.map_or(Source::Nothing, |(_, _, words)| Source::Words(words))
}

/// Where an argument comes from: its name in the usage says what it is.
pub(super) fn of_argument(argument: &Arg, path: &str) -> Source {
    let verb = path.rsplit(' ').next().unwrap_or(path);
    let which = match verb {
        "attach" | "exec" | "kill" | "pause" | "stats" | "stop" | "top" | "xray" => Which::Running,
        "start" => Which::Stopped,
        "unpause" => Which::Paused,
        _ => Which::All,
    };
    let name = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    match (path, name) {
        ("cp" | "container cp", _) => Source::Copied,
        ("inspect", _) => Source::Objects,
        ("pull" | "image pull" | "push" | "image push", _) => Source::Images,
        (path, "NAME") if path.starts_with("secret ") => Source::Secrets,
        (path, "NAME") if path.starts_with("config ") => Source::Configs,
        ("completion", _) => Source::Words(super::scripts::SHELLS),
        (_, "CONTAINER") => Source::Containers(which),
        (_, "CONFIG") => Source::Configs,
        (_, "CONTEXT") => Source::Contexts,
        (_, "IMAGE" | "NAME" | "SOURCE_IMAGE" | "TARGET_IMAGE" | "REPOSITORY") => Source::Images,
        (_, "NETWORK") => Source::Networks,
        (_, "SECRET") => Source::Secrets,
        (_, "VOLUME") => Source::Volumes,
        (_, "DIR" | "DIRECTORY" | "FILE" | "PATH") => Source::Files,
        _ => Source::Nothing,
    }
}
