use super::*;
use crate::exit::Class;
use crate::verb::{Verb, parse};
use clap::FromArgMatches as _;
use engine::containers::options::{MountSource, NetworkMode};

const VERB: Verb = Verb {
    about: "",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    flags: ContainerFlags::augment_args,
    run: |_, _| Ok(()),
    class: Class::Run,
};

fn flags(line: &str) -> ContainerFlags {
    let words = line.split(' ').map(|word| word.replace('~', " ").into()).collect();
    let matches = parse(&VERB, "run", words).unwrap_or_else(|error| panic!("{line}: {error}"));
    ContainerFlags::from_arg_matches(&matches).unwrap()
}

fn options(line: &str) -> Options {
    flags(line).options().unwrap_or_else(|error| panic!("{line}: {}", error.render()))
}

fn refusal(line: &str) -> String {
    flags(line).options().unwrap_err().render()
}

#[test]
fn words_after_the_image_are_the_commands() {
    for (line, image, command) in [
        ("alpine", "alpine", ""),
        ("alpine ls -l /", "alpine", "ls -l /"),
        ("-i alpine -t --rm", "alpine", "-t --rm"),
        ("-- alpine -x", "alpine", "-x"),
        ("alpine -- ls", "alpine", "-- ls"),
        ("--name x alpine sh -c echo~hi", "alpine", "sh -c echo~hi"),
        ("alpine --help", "alpine", "--help"),
    ] {
        let options = options(line);
        assert_eq!(options.image, image, "{line}");
        assert_eq!(options.command.join(" ").replace("echo hi", "echo~hi"), command, "{line}");
    }
    let options = options("-i alpine -t --rm");
    assert!(options.open_stdin && !options.terminal && !options.auto_remove);
}

#[test]
fn combined_and_repeated_flags() {
    let o = options("-ite A=1 -e=B=2 -eC=3 -m64m -m 1g --memory-swap -1 --rm=false --init=true -u 1:2 x");
    assert!(o.open_stdin && o.terminal && o.init && !o.auto_remove);
    assert_eq!(o.env, ["A=1", "B=2", "C=3"]);
    assert_eq!((o.limits.memory, o.limits.memory_swap), (Some(1 << 30), Some(-1)));
    assert_eq!(o.user.as_deref(), Some("1:2"));
    assert!(options("--rm --rm x").auto_remove);
}

#[test]
fn everything_at_once() {
    let o = options(
        "--name n -w /w -h host --domainname dom --entrypoint  -l a=1 -l b --read-only --network none --cap-add ALL \
         --cap-drop NET_RAW --privileged --security-opt no-new-privileges --ulimit nofile=1:2 --device /dev/fuse \
         --sysctl net.a=1 --shm-size 32m --cpus 1.5 --cpuset-cpus 0-1 --pids-limit -1 -c 512 --oom-score-adj -5 \
         --stop-signal INT --stop-timeout -1 --log-opt max-size=1m --add-host h:1.2.3.4 --dns 1.1.1.1 -p 8080:80 \
         --tmpfs /t:size=1m --mount type=bind,src=/a,dst=/b,ro -v /c:/d --pull never --platform linux/arm64 \
         --group-add audio --ipc host --pid host --uts host --cgroupns private --cgroup-parent /p x",
    );
    assert_eq!(o.entrypoint.as_deref(), Some(&[String::new()][..]));
    assert_eq!(o.labels.into_iter().collect::<Vec<_>>(), [("a".into(), "1".into()), ("b".into(), String::new())]);
    assert_eq!(o.network, NetworkMode::None);
    assert_eq!(o.limits.nano_cpus, Some(1_500_000_000));
    assert_eq!((o.limits.pids, o.limits.cpu_shares), (Some(-1), Some(512)));
    assert_eq!(o.mounts.iter().map(|mount| mount.target.as_str()).collect::<Vec<_>>(), ["/d", "/b", "/t"]);
    assert!(matches!(o.mounts[0].source, MountSource::Bind { create: true, .. }));
    assert!(matches!(o.mounts[1].source, MountSource::Bind { create: false, .. }));
    assert_eq!((o.ports[0].host_port, o.ports[0].container_port), (8080, 80));
    assert_eq!((o.pull, o.stop_timeout, o.oom_score_adj), (PullPolicy::Never, Some(-1), Some(-5)));
}

#[test]
fn zero_is_no_limit() {
    assert_eq!(options("-m 0 --cpus 0 --pids-limit 0 --memory-swap 0 -c 0 x").limits, Limits::default());
}

#[test]
fn empty_values_are_as_no_flag() {
    let o = options("--name= -u= -w= --hostname= --platform= --stop-signal= --log-driver= --ipc= --cpuset-cpus= x");
    assert_eq!((o.name, o.user, o.working_directory, o.hostname), (None, None, None, None));
    assert_eq!((o.platform, o.stop_signal, o.log_driver, o.ipc_mode), (None, None, None, None));
    assert_eq!(o.limits, Limits::default());
}

#[test]
fn refusals() {
    for (line, text) in [
        ("--cpus 1 --cpu-quota 5 x", "conflicting options: --cpus and --cpu-period or --cpu-quota"),
        ("--log-driver none --log-opt a=b x", "invalid logging opts for driver none"),
        ("--security-opt foo x", "Invalid --security-opt: \"foo\""),
        ("-v data:/x:shared x", "invalid mode: shared"),
        ("--mount type=foo x", "invalid argument \"type=foo\" for \"--mount\" flag: target is required"),
        ("-p 99999 x", "invalid containerPort: 99999"),
        ("--network none --network mine x", "conflicting options: cannot attach both"),
        ("--env-file /nonexistent x", "open /nonexistent: no such file or directory"),
    ] {
        let found = refusal(line);
        assert!(found.contains(text), "{line}: {found}");
    }
}

#[test]
fn the_identifier_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cid");
    let line = format!("--cidfile {} x", path.display());
    drop(flags(&line).cidfile().unwrap());
    assert!(!path.exists());
    flags(&line).cidfile().unwrap().unwrap().write("abc").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "abc");
    assert!(flags(&line).cidfile().unwrap_err().render().contains("container ID file found"));
}
