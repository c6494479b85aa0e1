//! Real containers: runtime, cgroup, network namespace, exec sessions, stop, pause, out of memory. Needs root.

#![allow(clippy::print_stdout, reason = "tests say why they skip")]

mod fixture;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use fixture::{Fixture, everything, log_text};
use monitor::client::{self, Connection, Event};
use monitor::wire::Size;
use monitor::{Attach, CgroupLaunch, ContainerLaunch, Exec, ExecLaunch, Exit, Kind, Launch, Streams};
use oci::runtime::{Linux, LinuxMemory, LinuxNamespace, LinuxNamespaceType, Mount, Process, Root, Spec};

/// A monitor's fixture for a container, or `None` without the rights to make one.
fn container(name: &str, arguments: &[&str]) -> Option<Fixture> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: containers with a cgroup need root");
        return None;
    }
    let mut fixture = Fixture::new(&["unused"]);
    make_root(&fixture.directory.path().join("rootfs"));
    let options = runtime::PlanOptions {
        id: "test".into(),
        bundle: fixture.directory.path().to_owned(),
        root: Some(runtime::RootSource::Directory { path: fixture.directory.path().join("rootfs") }),
        ..Default::default()
    };
    fixture.plan.launch = Launch::Container(Box::new(ContainerLaunch {
        restore: None,
        external: None,
        plan: runtime::plan(&spec(arguments), &options).unwrap(),
        cgroup: Some(CgroupLaunch {
            path: format!("/dhow-test-monitor-{name}-{}", std::process::id()),
            resources: Default::default(),
            optional: false,
            delegated: false,
        }),
        attachments: Vec::new(),
        direct: Vec::new(),
        names: None,
        held_ports: 0,
        guard: None,
        loopback: true,
        relay: None,
        user_network: false,
        one_way: false,
    }));
    Some(fixture)
}

fn launch(fixture: &mut Fixture) -> &mut ContainerLaunch {
    match &mut fixture.plan.launch {
        Launch::Container(launch) => launch,
        Launch::Command(_) => panic!("not a container"),
    }
}

fn make_root(path: &Path) {
    for directory in ["bin", "proc", "dev", "tmp"] {
        std::fs::create_dir_all(path.join(directory)).unwrap();
    }
    std::fs::copy("/bin/busybox", path.join("bin/busybox")).unwrap();
    for name in ["sh", "sleep", "cat", "echo", "seq", "stty", "kill", "ip", "head", "tail", "true", "tty", "readlink"] {
        std::os::unix::fs::symlink("busybox", path.join("bin").join(name)).unwrap();
    }
    std::fs::write(path.join("bin/data"), "no program").unwrap();
}

fn spec(arguments: &[&str]) -> Spec {
    use LinuxNamespaceType as Type;
    let mount = |kind: &str, destination: &str| Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(kind.into()),
        ..Mount::default()
    };
    Spec {
        oci_version: "1.3.0".into(),
        process: Some(Process {
            args: arguments.iter().map(|&text| text.to_owned()).collect(),
            env: vec!["PATH=/bin".into()],
            cwd: "/".into(),
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".into(), readonly: false }),
        mounts: vec![mount("proc", "/proc"), mount("tmpfs", "/dev"), mount("devpts", "/dev/pts")],
        linux: Some(Linux {
            namespaces: [Type::Pid, Type::Network, Type::Ipc, Type::Uts, Type::Mount]
                .map(|kind| LinuxNamespace { kind, path: None })
                .into(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

fn exec(fixture: &Fixture, id: &str, arguments: &[&str]) -> Exec {
    let Launch::Container(launch) = &fixture.plan.launch else { panic!("not a container") };
    let mut process = launch.plan.process.clone();
    process.args = arguments.iter().map(|&text| text.to_owned()).collect();
    process.terminal = None;
    let plan = runtime::ExecPlan {
        process,
        cgroup: Default::default(),
        keyring: None,
        no_other_cgroup: false,
        own_namespaces: Vec::new(),
        in_foreign_mounts: false,
    };
    Exec {
        id: id.to_owned(),
        process: ExecLaunch::Container(Box::new(plan)),
        terminal: false,
        size: None,
        attach: Some(Attach { streams: Streams::ALL, patience_seconds: None }),
    }
}

fn open(fixture: &Fixture) -> Connection {
    Connection::open(&fixture.plan.run_directory).unwrap()
}

/// Whether any hierarchy still has the container's cgroup.
fn cgroups(fixture: &mut Fixture) -> Vec<std::path::PathBuf> {
    let path = launch(fixture).cgroup.as_ref().unwrap().path.clone();
    let hierarchy = cgroup::Hierarchy::detect().unwrap();
    let path = format!("{}{path}", hierarchy.base().trim_end_matches('/'));
    let description = cgroup::Description { path, mounts: hierarchy.mounts().to_vec(), base: String::new() };
    cgroup::Cgroup::open(&description).unwrap().directories().into_iter().map(|(_, path)| path).collect()
}

#[test]
fn a_container_runs_and_leaves_nothing() {
    let Some(mut fixture) = container("runs", &["sh", "-c", "ip link; echo $$; exit 3"]) else { return };
    fixture.plan.attach_control = Some(Attach { streams: Streams::OUTPUT, patience_seconds: None });
    let (mut control, mut child) = fixture.spawn();
    control.started().unwrap();
    let (out, err, exit) = everything(&mut control);
    let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    assert_eq!(exit.exit_code, 3, "{out}{err}");
    assert!(out.contains("lo: <LOOPBACK,UP"), "{out}{err}");
    assert!(out.ends_with("\n1\n"), "{out}");
    child.wait().unwrap();
    assert_eq!(log_text(&fixture.plan.log.path, "stdout"), out.as_bytes());
    assert_eq!(cgroups(&mut fixture), Vec::<std::path::PathBuf>::new());
}

#[test]
fn missing_and_broken_programs_have_their_kinds() {
    for (program, kind, code) in [("nosuch", Kind::NotFound, 127), ("/bin/data", Kind::NotExecutable, 126)] {
        let Some(mut fixture) = container("wrong", &[program]) else { return };
        let (control, mut child) = fixture.spawn();
        let error = control.started().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        child.wait().unwrap();
        assert_eq!(Exit::read(&fixture.plan.exit_record).unwrap().unwrap().exit_code, code);
        assert!(cgroups(&mut fixture).is_empty());
    }
}

#[test]
fn exec_sessions_run_beside_each_other() {
    let Some(mut fixture) = container("exec", &["sleep", "100"]) else { return };
    let (control, mut child) = fixture.spawn();
    let pid = control.started().unwrap();
    let state = client::status(&fixture.plan.run_directory).unwrap();
    let namespace = std::fs::metadata(format!("/proc/{pid}/ns/net")).unwrap().ino();
    assert_eq!(state.network_namespace, namespace);
    assert_ne!(namespace, std::fs::metadata("/proc/self/ns/net").unwrap().ino());

    let script = "readlink /proc/1/exe; cat; echo err >&2; exit 9";
    let (_, mut first) = open(&fixture).exec(exec(&fixture, "first", &["sh", "-c", script])).unwrap();
    let (inside, second) = open(&fixture).exec(exec(&fixture, "second", &["sleep", "100"])).unwrap();
    assert!(cgroups(&mut fixture).iter().all(|path| {
        let processes = std::fs::read_to_string(path.join("cgroup.procs")).unwrap();
        processes.lines().any(|line| line == inside.to_string())
    }));
    first.send_input(b"typed\n").unwrap();
    first.close_input().unwrap();
    let (out, err, exit) = everything(&mut first);
    assert_eq!(String::from_utf8_lossy(&out), "/bin/busybox\ntyped\n");
    assert_eq!((&err[..], exit.exit_code), (&b"err\n"[..], 9));

    // Its client leaves, the session goes on, can be waited for, signalled, and is remembered.
    drop(second);
    let waiter = open(&fixture);
    let waiting = std::thread::spawn(move || waiter.wait(Some("second")).unwrap());
    std::thread::sleep(Duration::from_millis(50));
    let same = exec(&fixture, "second", &["true"]);
    assert_eq!(open(&fixture).exec(same).unwrap_err().kind(), Kind::Invalid);
    client::signal(&fixture.plan.run_directory, Some("second"), 15).unwrap();
    assert_eq!(waiting.join().unwrap().exit_code, 143);
    assert_eq!(client::wait(&fixture.plan.run_directory, Some("first")).unwrap().exit_code, 9);
    let sessions = client::status(&fixture.plan.run_directory).unwrap().sessions;
    let codes: Vec<_> = sessions.iter().map(|session| session.exit.as_ref().unwrap().exit_code).collect();
    assert_eq!(codes, [9, 143]);

    let missing = open(&fixture).exec(exec(&fixture, "third", &["nosuch"])).unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound, "{missing}");
    let broken = open(&fixture).exec(exec(&fixture, "fourth", &["/bin/data"])).unwrap_err();
    assert_eq!(broken.kind(), Kind::NotExecutable, "{broken}");

    // A session that is still there ends with the container, and its client is told.
    let (_, mut last) = open(&fixture).exec(exec(&fixture, "fifth", &["sleep", "100"])).unwrap();
    let detached = Exec { attach: None, ..exec(&fixture, "sixth", &["sh", "-c", "echo gone; sleep 100"]) };
    open(&fixture).exec(detached).unwrap();
    client::signal(&fixture.plan.run_directory, None, 9).unwrap();
    assert_eq!(everything(&mut last).2.signal, Some(9));
    child.wait().unwrap();
    assert!(Exit::read(&fixture.plan.exit_record).unwrap().unwrap().requested);
}

#[test]
fn terminals_of_container_and_session_have_their_sizes() {
    let Some(mut fixture) = container("tty", &["sh", "-c", "stty size; read line; echo got $line; stty size"]) else {
        return;
    };
    (fixture.plan.terminal, fixture.plan.stdin_open) = (true, true);
    fixture.plan.size = Some(Size { rows: 33, columns: 77 });
    fixture.plan.attach_control = Some(Attach { streams: Streams::ALL, patience_seconds: None });
    let (mut control, _child) = fixture.spawn();
    control.started().unwrap();
    let script = "tty; stty size; read x; stty size";
    let session = Exec {
        terminal: true,
        size: Some(Size { rows: 5, columns: 6 }),
        ..exec(&fixture, "tty", &["sh", "-c", script])
    };
    let (_, mut session) = open(&fixture).exec(session).unwrap();
    let mut first = Vec::new();
    while !first.ends_with(b"5 6\r\n") {
        match session.receive().unwrap().unwrap() {
            Event::Output(_, data) => first.extend_from_slice(data),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(first, b"/dev/pts/1\r\n5 6\r\n");
    client::resize(&fixture.plan.run_directory, Some("tty"), Size { rows: 7, columns: 8 }).unwrap();
    session.send_input(b"x\n").unwrap();
    let (out, _, exit) = everything(&mut session);
    let out = String::from_utf8_lossy(&out).replace('\r', "");
    assert!(out.ends_with("7 8\n"), "{out:?}");
    assert_eq!(exit.exit_code, 0);

    std::thread::sleep(Duration::from_millis(100));
    control.send(monitor::wire::Frame::Resize, &Size { rows: 44, columns: 55 }.to_bytes()).unwrap();
    control.send_input(b"hello\r").unwrap();
    let (out, _, _) = everything(&mut control);
    let out = String::from_utf8_lossy(&out).replace('\r', "");
    assert_eq!(out, "33 77\nhello\ngot hello\n44 55\n");
}

#[test]
fn pause_holds_and_stop_works_through_it() {
    let script = "trap 'exit 8' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
    let Some(mut fixture) = container("pause", &["sh", "-c", script]) else { return };
    let (control, mut child) = fixture.spawn();
    control.started().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    client::pause(&fixture.plan.run_directory).unwrap();
    assert!(client::status(&fixture.plan.run_directory).unwrap().paused);
    std::thread::sleep(Duration::from_millis(50));
    let length = || std::fs::metadata(&fixture.plan.log.path).unwrap().len();
    let before = length();
    assert!(before > 0);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(length(), before);
    let refused = open(&fixture).exec(exec(&fixture, "x", &["true"])).unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    client::unpause(&fixture.plan.run_directory).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(length() > before);
    client::pause(&fixture.plan.run_directory).unwrap();
    let exit = client::stop(&fixture.plan.run_directory, None, Some(5)).unwrap();
    assert_eq!(exit.exit_code, 8);
    child.wait().unwrap();
    assert!(cgroups(&mut fixture).is_empty());
}

#[test]
fn without_a_pid_namespace_what_is_left_behind_is_killed() {
    let script = "sleep 4242 >/dev/null 2>&1 & sleep 0.1; echo $!";
    let Some(mut fixture) = container("left", &["sh", "-c", script]) else { return };
    launch(&mut fixture).plan.namespaces.new.retain(|kind| *kind != LinuxNamespaceType::Pid);
    let (control, mut child) = fixture.spawn();
    control.started().unwrap();
    child.wait().unwrap();
    let left = String::from_utf8(log_text(&fixture.plan.log.path, "stdout")).unwrap();
    let command = std::fs::read(format!("/proc/{}/cmdline", left.trim())).unwrap_or_default();
    assert!(!command.windows(4).any(|part| part == b"4242"), "{left} still runs");
    assert!(cgroups(&mut fixture).is_empty());
    assert_eq!(Exit::read(&fixture.plan.exit_record).unwrap().unwrap().error, None);
}

#[test]
fn out_of_memory_is_reported() {
    let script = "head -c 200000000 /dev/zero | tail; exit 1";
    let Some(mut fixture) = container("oom", &["sh", "-c", script]) else { return };
    let memory = LinuxMemory { limit: Some(32 << 20), ..LinuxMemory::default() };
    launch(&mut fixture).cgroup.as_mut().unwrap().resources.memory = Some(memory);
    let (control, mut child) = fixture.spawn();
    control.started().unwrap();
    child.wait().unwrap();
    let exit = Exit::read(&fixture.plan.exit_record).unwrap().unwrap();
    assert!(exit.oom_killed, "{exit:?}");
}

#[test]
fn a_terminal_that_is_let_go_does_not_burn_the_processor() {
    let Some(mut fixture) = container("let-go", &["sh", "-c", "exec sleep 2 </dev/null >/dev/null 2>&1"]) else {
        return;
    };
    fixture.plan.terminal = true;
    let (control, mut child) = fixture.spawn();
    control.started().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    assert!(ticks < 20, "{ticks} ticks");
    child.wait().unwrap();
}

#[test]
fn a_hundred_sessions_in_a_row_leave_no_descriptor() {
    let Some(fixture) = container("hundred", &["sleep", "100"]) else { return };
    let (control, child) = fixture.spawn();
    control.started().unwrap();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().count();
    std::thread::sleep(Duration::from_millis(100));
    let before = descriptors();
    let start = Instant::now();
    for number in 0..100 {
        let session = exec(&fixture, &format!("s{number}"), &["echo", "x"]);
        let (_, mut connection) = open(&fixture).exec(session).unwrap();
        match connection.receive().unwrap().unwrap() {
            Event::Output(_, data) => assert_eq!(data, b"x\n"),
            other => panic!("{other:?}"),
        }
        assert_eq!(everything(&mut connection).2.exit_code, 0);
    }
    println!("exec and exit: {:?} each", start.elapsed() / 100);
    let sessions = client::status(&fixture.plan.run_directory).unwrap().sessions;
    assert_eq!(sessions.len(), 16);
    // The last connections are closed a moment after their answers.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(descriptors(), before);
    client::signal(&fixture.plan.run_directory, None, 9).unwrap();
}
