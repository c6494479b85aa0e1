//! Programs: how they are found, run and end.

use runtime::Stdio;

use crate::support::{self, Bundle, chain, in_child, mount, pipes, read, run, shell, spec, wait};

pub fn exit_codes_arrive() {
    assert_eq!(shell("exit 0").status, 0);
    assert_eq!(shell("exit 42").status, 42);
    assert_eq!(shell("kill -9 $$").status, 0, "PID 1 cannot kill itself");
}

pub fn programs_that_are_not_there_or_cannot_run() {
    let bundle = Bundle::new();
    let error = run(&bundle.plan(&spec(&["nosuch"]))).err().unwrap();
    assert!(error.is_not_found(), "{error}");
    assert_eq!(error.to_string(), "exec \"nosuch\": executable file not found in $PATH");
    let error = run(&bundle.plan(&spec(&["/no/such"]))).err().unwrap();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "exec \"/no/such\": ENOENT (No such file or directory)");
    let error = run(&bundle.plan(&spec(&["plain"]))).err().unwrap();
    assert!(error.is_not_executable());
    assert_eq!(error.to_string(), "exec \"plain\": EACCES (Permission denied)");
    assert!(run(&bundle.plan(&spec(&["/etc"]))).err().unwrap().is_not_executable());
}

pub fn the_world_inside() {
    let output = shell(
        "hostname; echo $$; ls /proc/self/fd/0 /dev/ptmx /dev/stdout; cat /proc/1/comm; ls /dev | wc -l; umask; echo $HOME",
    );
    let lines: Vec<&str> = output.text.lines().collect();
    assert_eq!(lines[..2], ["box", "1"], "{}", output.text);
    assert_eq!(lines[5], "sh", "{}", output.text);
    // null zero full random urandom tty fd stdin stdout stderr ptmx pts mqueue shm
    assert_eq!(lines[6], "14", "{}", output.text);
    assert_eq!(lines[7], "0022");
    let mounts = shell("cat /proc/self/mounts");
    for wanted in [
        "overlay / overlay rw,",
        "proc /proc proc rw,nosuid,nodev,noexec,relatime",
        "tmpfs /dev tmpfs rw,nosuid,size=65536k,mode=755",
        "devpts /dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666",
        "sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime",
        "mqueue /dev/mqueue mqueue rw,nosuid,nodev,noexec,relatime",
        "shm /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k",
        "proc /proc/sys proc ro,nosuid,nodev,noexec,relatime",
    ] {
        assert!(mounts.text.lines().any(|line| line.starts_with(wanted)), "{wanted} is not in\n{}", mounts.text);
    }
    // Everything of the host is gone.
    assert!(!mounts.text.contains("cgroup"), "{}", mounts.text);
}

/// CVE-2024-21626.
pub fn working_directories() {
    let bundle = Bundle::new();
    let leaked = support::open(std::path::Path::new("/"));
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    for number in 3..20 {
        let mut hostile = spec(&["pwd"]);
        hostile.process.as_mut().unwrap().cwd = format!("/proc/self/fd/{number}");
        let error = run(&bundle.plan(&hostile)).err().unwrap();
        assert!(error.to_string().starts_with("enter the working directory"), "{error}");
    }
    let mut options = bundle.options();
    options.create_cwd = true;
    let mut deep = spec(&["pwd"]);
    deep.process.as_mut().unwrap().cwd = "/a/b".into();
    assert_eq!(run(&runtime::plan(&deep, &options).unwrap()).unwrap().text, "/a/b\n");
}

pub fn limits_and_parameters() {
    let bundle = Bundle::new();
    let mut spec = spec(&[
        "sh",
        "-c",
        "ulimit -n; cat /proc/sys/kernel/msgmax /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_unprivileged_port_start",
    ]);
    let process = spec.process.as_mut().unwrap();
    process.rlimits = vec![oci::runtime::POSIXRlimit { kind: "RLIMIT_NOFILE".into(), soft: 100, hard: 200 }];
    process.oom_score_adj = Some(500);
    let linux = spec.linux.as_mut().unwrap();
    linux.sysctl.insert("kernel.msgmax".into(), "8193".into());
    linux.sysctl.insert("net.ipv4.ip_unprivileged_port_start".into(), "7".into());
    let output = run(&bundle.plan(&spec)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(output.text, "100\n8193\n500\n7\n");
}

pub fn a_terminal() {
    let bundle = Bundle::new();
    let mut spec = spec(&[
        "sh",
        "-c",
        "tty; test -t 0 && test -t 2 && echo yes; ls -l /dev/console | wc -l; stty size 2>/dev/null; echo x > /dev/tty",
    ]);
    let process = spec.process.as_mut().unwrap();
    process.terminal = true;
    process.console_size = Some(oci::runtime::ConsoleSize { height: 30, width: 100 });
    let created = runtime::create(&bundle.plan(&spec), Stdio::Terminal, |_| Ok(())).unwrap();
    let started = created.start().unwrap();
    let terminal = started.terminal.as_ref().unwrap().try_clone().unwrap();
    assert_eq!(kernel::terminal::size(support::borrow(&terminal)).unwrap(), (30, 100));
    let status = wait(&started);
    let text = read(terminal);
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("/dev/pts/0\r\nyes\r\n1\r\n"), "{text}");
    assert!(text.ends_with("x\r\n"), "{text}");
}

pub fn hooks_are_called_in_order() {
    use oci::runtime::{Hook, Hooks};
    let bundle = Bundle::new();
    let log = bundle.path.path().join("log");
    let hook = |name: &str| Hook {
        path: "/bin/sh".into(),
        args: vec![
            "sh".into(),
            "-c".into(),
            format!("grep -o '\"status\":\"[a-z]*\"' | sed 's/^/{name} /' >> {}", log.display()),
        ],
        env: vec!["PATH=/usr/bin:/bin".into()],
        timeout: Some(10),
    };
    let mut with_hooks = spec(&["true"]);
    with_hooks.hooks = Some(Hooks {
        prestart: vec![hook("prestart")],
        create_runtime: vec![hook("createRuntime")],
        create_container: vec![hook("createContainer")],
        ..Hooks::default()
    });
    assert_eq!(run(&bundle.plan(&with_hooks)).unwrap_or_else(|error| panic!("{}", chain(&error))).status, 0);
    let text = std::fs::read_to_string(&log).unwrap();
    let wanted =
        ["prestart", "createRuntime", "createContainer"].map(|name| format!("{name} \"status\":\"creating\"\n"));
    assert_eq!(text, wanted.concat());
    with_hooks.hooks.as_mut().unwrap().create_runtime[0].args[2] = "echo broken >&2; exit 3".into();
    let error = run(&bundle.plan(&with_hooks)).err().unwrap();
    assert_eq!(error.to_string(), "error running createRuntime hook #0: \"/bin/sh\" ended with status 3: broken");
    let hook = &mut with_hooks.hooks.as_mut().unwrap().create_runtime[0];
    (hook.args[2], hook.timeout) = (format!("echo $$ > {}; exec sleep 100", log.display()), Some(1));
    // It reads nothing of a state that no pipe holds.
    with_hooks.annotations.insert("long".into(), "x".repeat(300_000));
    let began = std::time::Instant::now();
    let error = run(&bundle.plan(&with_hooks)).err().unwrap();
    assert_eq!(error.to_string(), "error running createRuntime hook #0: \"/bin/sh\" took longer than 1 s");
    assert!(began.elapsed().as_secs() < 50, "the hook was waited for");
    let hook = std::fs::read_to_string(&log).unwrap();
    assert!(!std::path::Path::new("/proc").join(hook.trim()).exists(), "the hook goes on");
    let hook = &mut with_hooks.hooks.as_mut().unwrap().create_runtime[0];
    (hook.args[2], hook.timeout) = (format!("wc -c > {}", log.display()), Some(i64::MAX));
    assert_eq!(run(&bundle.plan(&with_hooks)).unwrap_or_else(|error| panic!("{}", chain(&error))).status, 0);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.lines().next().unwrap().trim().parse::<usize>().unwrap() > 300_000, "{text}");
}

pub fn errors_name_the_step_and_the_call() {
    let bundle = Bundle::new();
    let mut bad = spec(&["true"]);
    bad.mounts.push(mount("tmpfs", "tmpfs", "/tmp", &["nosuchoption=1"]));
    let text = chain(&run(&bundle.plan(&bad)).err().unwrap());
    assert_eq!(
        text,
        "mount tmpfs on /tmp: fsconfig(tmpfs, FSCONFIG_SET_STRING, \"nosuchoption\", \"1\"): EINVAL (Invalid argument); kernel: e tmpfs: Unknown parameter 'nosuchoption'"
    );
    let mut missing = spec(&["true"]);
    missing.mounts.push(mount("bind", "/no/such/place", "/mnt", &["bind"]));
    let text = chain(&run(&bundle.plan(&missing)).err().unwrap());
    assert_eq!(
        text,
        "bind /no/such/place on /mnt: open_tree(\"/no/such/place\", OPEN_TREE_CLONE): ENOENT (No such file or directory)"
    );
    let (stdio, _output) = pipes();
    let error = runtime::create(&bundle.plan(&spec(&["true"])), stdio, |_| Err("no network".into())).unwrap_err();
    assert_eq!(chain(&error), "set up the container from outside: no network");
}

pub fn a_dropped_container_is_gone() {
    let bundle = Bundle::new();
    let (stdio, output) = pipes();
    let created = runtime::create(&bundle.plan(&spec(&["true"])), stdio, |_| Ok(())).unwrap();
    let pid = created.pid();
    drop(created);
    assert_eq!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH));
    assert_eq!(read(output), "");
    // Killed while it waits: not taken for started. A failure that came long before is what is told.
    let (stdio, _output) = pipes();
    let created = runtime::create(&bundle.plan(&spec(&["true"])), stdio, |_| Ok(())).unwrap();
    rustix::process::pidfd_send_signal(created.pidfd(), rustix::process::Signal::KILL).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let error = created.start().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the container's first process ended before its program was executed (killed by signal 9)"
    );
    let mut bad = spec(&["true"]);
    bad.mounts.push(mount("bind", "/no/such/place", "/mnt", &["bind"]));
    let (stdio, _output) = pipes();
    let slowly = |_: &runtime::NewContainer<'_>| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(())
    };
    let error = runtime::run(&bundle.plan(&bad), stdio, slowly).unwrap_err();
    assert_eq!(error.to_string(), "bind /no/such/place on /mnt");
    // Its parent's death ends it as well.
    let (reading, writing) = rustix::pipe::pipe().unwrap();
    in_child(kernel::namespaces::Namespaces::NONE, || {
        let bundle = Bundle::new();
        let created = runtime::create(&bundle.plan(&spec(&["true"])), Stdio::Inherit, |_| Ok(())).unwrap();
        rustix::io::write(&writing, &created.pid().as_raw_nonzero().get().to_ne_bytes()).unwrap();
        std::mem::forget(created);
        0
    });
    let mut number = [0; 4];
    rustix::io::read(&reading, &mut number).unwrap();
    let path = format!("/proc/{}/stat", i32::from_ne_bytes(number));
    let ended =
        || std::fs::read_to_string(&path).map_or(true, |text| text.rsplit_once(')').unwrap().1.starts_with(" Z"));
    for _ in 0..200 {
        if ended() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the container waits for a parent that is gone");
}

pub fn an_init_reaps_and_passes_signals() {
    let bundle = Bundle::new();
    let program = std::env::current_exe().unwrap();
    let with_init = |script: &[&str]| {
        let mut arguments = vec!["/sbin/dhow-init", "--"];
        arguments.extend(script);
        let mut spec = spec(&arguments);
        spec.mounts.push(mount("bind", program.to_str().unwrap(), "/sbin/dhow-init", &["bind", "ro"]));
        bundle.plan(&spec)
    };
    // An orphan ends and is reaped; the program's status is the init's.
    let script = "(sh -c 'sleep 0.2' & ) ; sleep 0.5; ps | grep -c -E 'Z|defunct'; echo $$ $(cat /proc/1/comm); exit 5";
    let output = run(&with_init(&["sh", "-c", script])).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(output.text.ends_with("2 dhow-init\n"), "{}", output.text);
    assert_eq!(output.status, 5);
    assert_eq!(run(&with_init(&["nosuch"])).unwrap().status, 127);
    assert_eq!(run(&with_init(&["/bin/plain"])).unwrap().status, 126);
    let (stdio, output) = pipes();
    let script = "trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let started = runtime::create(&with_init(&["sh", "-c", script]), stdio, |_| Ok(())).unwrap().start().unwrap();
    let mut buffer = [0; 6];
    rustix::io::read(&output, &mut buffer).unwrap();
    rustix::process::pidfd_send_signal(&started.pidfd, rustix::process::Signal::TERM).unwrap();
    assert_eq!(wait(&started), 9);
    assert_eq!(read(output), "term\n");
    // Killed by a signal is 128 and its number.
    let output = run(&with_init(&["sh", "-c", "kill -9 $$"])).unwrap();
    assert_eq!(output.status, 137);
}
