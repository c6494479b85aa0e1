//! Configurations that nobody would write: whatever is in a `config.json`, a `process.json` or a profile for system
//! calls, lowering gives a plan or an error, and never panics, hangs or takes the machine's memory.
//!
//! Seeded, so that a failure can be repeated: `DHOW_MUTATIONS=1000000` for a long run, `DHOW_SEED` for another one.

#![recursion_limit = "256"]

use std::path::PathBuf;

use oci::runtime::{Process, Spec};
use runtime::PlanOptions;
use serde_json::{Map, Value, json};

/// xorshift64*, which is enough to choose by.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit.max(1) as u64) as usize
    }
}

fn start() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "process": {
            "terminal": true, "consoleSize": {"height": 24, "width": 80},
            "user": {"uid": 0, "gid": 0, "umask": 18, "additionalGids": [5, 6]},
            "args": ["sh", "-c", "true"], "env": ["PATH=/bin", "A=b"], "cwd": "/",
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
                "inheritable": [], "ambient": ["CAP_KILL"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "scheduler": {"policy": "SCHED_OTHER", "nice": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
            "execCPUAffinity": {"initial": "0-3", "final": "1"},
            "apparmorProfile": "p", "selinuxLabel": "l", "noNewPrivileges": true, "oomScoreAdj": 100
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "h", "domainname": "d",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "tmpcopyup"]},
            {"destination": "/b", "type": "bind", "source": "/a", "options": ["rbind", "rro", "idmap"],
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
                "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
        ],
        "hooks": {"prestart": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 3}]},
        "annotations": {"a": "b"},
        "linux": {
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            "sysctl": {"net.ipv4.ip_forward": "1"}, "cgroupsPath": "/a/b",
            "resources": {"memory": {"limit": 1000000, "swap": -1}, "cpu": {"shares": 2, "cpus": "0-1"},
                "pids": {"limit": 5}, "unified": {"memory.high": "1"},
                "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "mount"}, {"type": "uts"}, {"type": "user"},
                {"type": "ipc"}, {"type": "time"}, {"type": "cgroup", "path": "/proc/1/ns/cgroup"}],
            "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}],
            "timeOffsets": {"monotonic": {"secs": 5, "nanosecs": 1}},
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "rootfsPropagation": "slave",
            "mountLabel": "m", "personality": {"domain": "LINUX32", "flags": []},
            "intelRdt": {"closID": "gold", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "schemata": ["L2:0=f"],
                "enableMonitoring": true},
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-1", "flags": ["MPOL_F_STATIC_NODES"]},
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "listenerPath": "/run/x.sock",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [
                    {"names": ["read", "write", "nosuch"], "action": "SCMP_ACT_ALLOW"},
                    {"names": ["personality"], "action": "SCMP_ACT_NOTIFY",
                        "args": [{"index": 0, "value": 8, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}
                ]}
        }
    })
}

fn nasty(dice: &mut Dice) -> Value {
    let texts = [
        "",
        "/",
        "..",
        "../../x",
        "/proc/self/fd/7",
        "a\0b",
        "line\nline",
        "\u{202e}",
        "%s",
        "0-99999999",
        "1-",
        "-1",
        "SCMP_ACT_KILL",
        "SCMP_ACT_TRACE",
        "net.ipv4.conf.eth0/1.x",
        "kernel/../x",
        "MPOL_DEFAULT",
        "private",
        "rshared",
    ];
    match dice.below(14) {
        0 => Value::Null,
        1 => json!(dice.roll()),
        2 => json!(-(dice.below(1 << 40) as i64)),
        3 => json!(i64::MIN),
        4 => json!(u64::MAX),
        5 => json!(1e300),
        6 => json!(0),
        7 => json!("x".repeat(dice.below(5000))),
        8 => Value::Array(vec![Value::Null; dice.below(50)]),
        9 => json!({}),
        10 => json!(true),
        11 => json!([[[[[[[[{}]]]]]]]]),
        _ => json!(texts[dice.below(texts.len())]),
    }
}

/// Changes one place somewhere below.
fn mutate(value: &mut Value, dice: &mut Dice) {
    if dice.below(6) == 0 {
        *value = nasty(dice);
        return;
    }
    match value {
        Value::Object(map) if !map.is_empty() => {
            let at = dice.below(map.len());
            let Some(name) = map.keys().nth(at).cloned() else { return };
            match dice.below(12) {
                0 => drop(map.remove(&name)),
                1 => rename(map, &name, dice),
                _ => {
                    if let Some(inner) = map.get_mut(&name) {
                        mutate(inner, dice);
                    }
                }
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = dice.below(list.len());
            match dice.below(8) {
                0 => drop(list.remove(at)),
                1 => {
                    let again = vec![list[at].clone(); dice.below(400)];
                    list.extend(again);
                }
                _ => mutate(&mut list[at], dice),
            }
        }
        other => *other = nasty(dice),
    }
}

fn rename(map: &mut Map<String, Value>, name: &str, dice: &mut Dice) {
    let value = map.remove(name).unwrap_or_default();
    // In another case, beside one in its own.
    if dice.below(2) == 0 {
        map.insert(name.to_uppercase(), value.clone());
        if dice.below(2) == 0 {
            map.insert(name.to_owned(), value);
        }
        return;
    }
    let new = match nasty(dice) {
        Value::String(text) => text,
        other => other.to_string(),
    };
    map.insert(new, value);
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn lower(text: &[u8]) -> bool {
    let options = PlanOptions { id: "m".to_owned(), bundle: PathBuf::from("/bundle"), ..PlanOptions::default() };
    let Ok(spec) = oci::any_case::from_slice::<Spec>(text) else { return false };
    runtime::plan(&spec, &options).is_ok()
}

#[test]
fn changed_configurations_are_lowered_or_refused() {
    let mut dice = Dice(number("DHOW_SEED", 0x5eed) | 1);
    assert!(lower(start().to_string().as_bytes()), "the unchanged one is good");
    let mut good = 0u32;
    for _ in 0..number("DHOW_MUTATIONS", 6000) {
        let mut value = start();
        for _ in 0..=dice.below(4) {
            mutate(&mut value, &mut dice);
        }
        good += u32::from(lower(value.to_string().as_bytes()));
    }
    // Else nearly all of them would end in the JSON.
    assert!(good > 100, "{good} plans");
}

#[test]
fn changed_processes_are_lowered_or_refused() {
    let mut dice = Dice(number("DHOW_SEED", 0xbeef) | 1);
    for _ in 0..number("DHOW_MUTATIONS", 6000) {
        let mut value = start()["process"].take();
        for _ in 0..=dice.below(4) {
            mutate(&mut value, &mut dice);
        }
        if let Ok(process) = oci::any_case::from_slice::<Process>(value.to_string().as_bytes()) {
            drop(runtime::plan_process(&process, &PlanOptions::default(), None));
        }
    }
}

#[test]
fn changed_profiles_are_compiled_or_refused() {
    let mut dice = Dice(number("DHOW_SEED", 0xf117) | 1);
    for _ in 0..number("DHOW_MUTATIONS", 2000) {
        let mut value = start();
        for _ in 0..=dice.below(4) {
            mutate(&mut value["linux"]["seccomp"], &mut dice);
        }
        lower(value.to_string().as_bytes());
    }
}

#[test]
fn changed_bytes_are_refused() {
    let mut dice = Dice(number("DHOW_SEED", 0xb17e) | 1);
    let text = start().to_string().into_bytes();
    for _ in 0..number("DHOW_MUTATIONS", 6000) {
        let mut text = text.clone();
        for _ in 0..=dice.below(8) {
            let at = dice.below(text.len());
            match dice.below(3) {
                0 => text[at] = dice.roll() as u8,
                1 => text.truncate(at.max(1)),
                _ => text[at] ^= 1 << dice.below(8),
            }
        }
        lower(&text);
    }
}
