//! Real containers on the real kernel. Needs root.
#![allow(clippy::print_stdout, reason = "this is a test harness; it reports on standard output")]

mod support;

use std::process::ExitCode;

use runtime::{Error, ExecPlan, RootSource, Stdio};
use support::{Bundle, chain, mount, pipes, read, run, shell, spec, wait};

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("exit_codes_arrive", exit_codes_arrive),
    ("programs_that_are_not_there_or_cannot_run", programs_that_are_not_there_or_cannot_run),
    ("the_world_inside", the_world_inside),
    ("a_directory_is_a_root", a_directory_is_a_root),
    ("a_read_only_root", a_read_only_root),
    ("masked_and_read_only_paths", masked_and_read_only_paths),
    ("capabilities_as_pid_1_sees_them", capabilities_as_pid_1_sees_them),
    ("users_by_name_and_number", users_by_name_and_number),
    ("no_descriptor_leaks", no_descriptor_leaks),
    ("links_in_the_image_do_not_lead_out", links_in_the_image_do_not_lead_out),
    ("bind_mounts", bind_mounts),
    ("a_terminal", a_terminal),
    ("exec_joins_everything", exec_joins_everything),
    ("errors_name_the_step_and_the_call", errors_name_the_step_and_the_call),
    ("working_directories", working_directories),
    ("user_namespaces", user_namespaces),
    ("namespaces_by_path", namespaces_by_path),
    ("hooks_are_called_in_order", hooks_are_called_in_order),
    ("limits_and_parameters", limits_and_parameters),
    ("tmpcopyup_copies", tmpcopyup_copies),
    ("cgroups_are_joined_and_shown", cgroups_are_joined_and_shown),
    ("id_mapped_mounts", id_mapped_mounts),
    ("inside_a_user_namespace", inside_a_user_namespace),
    ("kernels_without_a_system_call", kernels_without_a_system_call),
    ("an_exec_with_a_terminal", an_exec_with_a_terminal),
    ("a_dropped_container_is_gone", a_dropped_container_is_gone),
    ("time_offsets", time_offsets),
    ("seccomp_filters", seccomp_filters),
    ("layers_with_long_paths", layers_with_long_paths),
    ("a_supervised_filter", a_supervised_filter),
    ("an_init_reaps_and_passes_signals", an_init_reaps_and_passes_signals),
    ("an_unknown_apparmor_profile", an_unknown_apparmor_profile),
    ("nothing_is_left_on_the_host", nothing_is_left_on_the_host),
];

fn main() -> ExitCode {
    if std::env::args().next().is_some_and(|name| name.ends_with("dhow-init")) {
        return runtime::init::main();
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: containers: needs root");
        return ExitCode::SUCCESS;
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut failed = Vec::new();
    for (name, test) in TESTS {
        if filter.as_deref().is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        let result = std::panic::catch_unwind(test);
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        if result.is_err() {
            failed.push(*name);
        }
    }
    println!("test result: {} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn exit_codes_arrive() {
    assert_eq!(shell("exit 0").status, 0);
    assert_eq!(shell("exit 42").status, 42);
    assert_eq!(shell("kill -9 $$").status, 0, "PID 1 cannot kill itself");
}

fn programs_that_are_not_there_or_cannot_run() {
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

fn the_world_inside() {
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

fn a_directory_is_a_root() {
    let bundle = Bundle::new();
    let mut options = bundle.options();
    options.root = Some(RootSource::Directory { path: bundle.lower() });
    let plan = runtime::plan(&spec(&["sh", "-c", "echo new > /file; cat /file"]), &options).unwrap();
    assert_eq!(run(&plan).unwrap().text, "new\n");
    assert_eq!(std::fs::read_to_string(bundle.lower().join("file")).unwrap(), "new\n");
    options.root = Some(RootSource::Overlay {
        lower: vec![bundle.lower()],
        upper: None,
        work: None,
        userxattr: false,
        volatile: false,
    });
    let mut spec = spec(&["sh", "-c", "touch /other; echo $?"]);
    for place in ["proc", "dev", "sys"] {
        std::fs::create_dir_all(bundle.lower().join(place)).unwrap();
    }
    spec.mounts.retain(|mount| mount.destination != "/x");
    assert!(run(&runtime::plan(&spec, &options).unwrap()).unwrap().text.ends_with("1\n"));
}

fn a_read_only_root() {
    let bundle = Bundle::new();
    let mut spec = spec(&["sh", "-c", "touch /x; touch /dev/shm/x && echo shm"]);
    spec.root.as_mut().unwrap().readonly = true;
    let output = run(&bundle.plan(&spec)).unwrap();
    assert!(output.text.contains("Read-only file system") && output.text.ends_with("shm\n"), "{}", output.text);
}

fn masked_and_read_only_paths() {
    let bundle = Bundle::new();
    // Files and directories that every kernel has, beside Docker's list.
    let mut spec = spec(&[
        "sh",
        "-c",
        "cat /proc/cpuinfo | wc -c; cat /proc/version | wc -c; ls /sys/firmware | wc -l; ls /sys/block | wc -l; \
         echo 9000 > /proc/sys/kernel/msgmax; touch /sys/firmware/x; touch /sys/block/x; stat -c %t:%T /proc/cpuinfo; \
         stat -f -c %T /sys/block",
    ]);
    let linux = spec.linux.as_mut().unwrap();
    linux.masked_paths.extend(["/proc/cpuinfo", "/proc/version", "/sys/block", "/no/such"].map(str::to_owned));
    let output = run(&bundle.plan(&spec)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(output.text.starts_with("0\n0\n0\n0\n"), "{}", output.text);
    assert_eq!(output.text.matches("Read-only file system").count(), 3, "{}", output.text);
    assert!(output.text.ends_with("1:3\ntmpfs\n"), "{}", output.text);
}

fn capabilities_as_pid_1_sees_them() {
    let script = "grep -E 'Cap|NoNewPrivs|Groups' /proc/1/status";
    let output = shell(script);
    let docker = "00000000a80425fb";
    for wanted in ["CapInh:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t0"] {
        assert!(output.text.contains(wanted), "{}", output.text);
    }
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(output.text.contains(&format!("{set}:\t{docker}")), "{}", output.text);
    }
    // CVE-2018-10856, CVE-2016-8867: none of them for a user other than root.
    let bundle = Bundle::new();
    let mut spec = spec(&["sh", "-c", script]);
    let process = spec.process.as_mut().unwrap();
    process.user.uid = 1000;
    process.user.gid = 1000;
    process.user.additional_gids = vec![26, 27];
    process.no_new_privileges = true;
    let output = run(&bundle.plan(&spec)).unwrap();
    for wanted in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Groups:\t26 27"] {
        assert!(output.text.contains(wanted), "{}", output.text);
    }
    assert!(output.text.contains(&format!("CapBnd:\t{docker}")), "{}", output.text);
    // With ambient capabilities they are kept.
    let capabilities = spec.process.as_mut().unwrap().capabilities.as_mut().unwrap();
    capabilities.inheritable = vec!["CAP_KILL".into()];
    capabilities.ambient = vec!["CAP_KILL".into()];
    let output = run(&bundle.plan(&spec)).unwrap();
    assert!(output.text.contains("CapEff:\t0000000000000020"), "{}", output.text);
}

fn users_by_name_and_number() {
    let bundle = Bundle::new();
    let mut options = bundle.options();
    options.user = Some("user".into());
    let spec = spec(&["sh", "-c", "id -u; id -g; grep Groups /proc/self/status; echo $HOME; echo x > /dev/stdout"]);
    let output = run(&runtime::plan(&spec, &options).unwrap()).unwrap();
    assert_eq!(output.text, "1000\n1000\nGroups:\t26 \n/home/user\nx\n");
    options.user = Some("nobody".into());
    let error = run(&runtime::plan(&spec, &options).unwrap()).err().unwrap();
    assert!(matches!(error, Error::Refused(_)), "{error}");
}

fn no_descriptor_leaks() {
    // The directory itself is the one descriptor that `ls` has opened.
    let file = std::fs::File::open("/etc/hostname").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let output = shell("ls /proc/self/fd");
    assert_eq!(output.text, "0\n1\n2\n3\n");
}

/// CVE-2023-27561, CVE-2025-54867, CVE-2026-41579, CVE-2019-18837: H1 in small.
fn links_in_the_image_do_not_lead_out() {
    let bundle = Bundle::new();
    let outside = bundle.path.path().join("outside");
    std::fs::create_dir_all(outside.join("pts")).unwrap();
    for name in ["proc", "sys"] {
        let link = bundle.lower().join(name);
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        let error = run(&bundle.plan(&spec(&["true"]))).err().unwrap();
        let text = chain(&error);
        assert!(text.contains("ELOOP"), "{text}");
        std::fs::remove_file(&link).unwrap();
    }
    // A link for /dev is followed, inside.
    std::os::unix::fs::symlink(&outside, bundle.lower().join("dev")).unwrap();
    std::fs::remove_dir_all(bundle.lower().join("etc")).unwrap();
    std::os::unix::fs::symlink("../../../../../..", bundle.lower().join("etc")).unwrap();
    let mut options = bundle.options();
    options.user = Some(String::new());
    options.create_cwd = true;
    let mut hostile = spec(&["sh", "-c", "echo hello > /etc/dhow-was-here"]);
    hostile.process.as_mut().unwrap().cwd = "/etc/made/here".into();
    hostile.mounts.push(mount("bind", "/etc/hostname", "/etc/hostname", &["rbind"]));
    let output = run(&runtime::plan(&hostile, &options).unwrap()).unwrap();
    assert_eq!(output.status, 0, "{}", output.text);
    let entries: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(entries, ["pts"]);
    assert_eq!(std::fs::read_dir(outside.join("pts")).unwrap().count(), 0);
    assert!(!std::path::Path::new("/dhow-was-here").exists());
    assert!(!std::path::Path::new("/made").exists());
    // CVE-2025-31133: /dev/null of the image is a link to a file that must not become what masks.
    let bundle = Bundle::new();
    std::fs::create_dir_all(bundle.lower().join("dev")).unwrap();
    std::os::unix::fs::symlink("/proc/sys/kernel/core_pattern", bundle.lower().join("dev/null")).unwrap();
    let mut spec = spec(&["sh", "-c", "stat -c %t:%T /proc/cpuinfo"]);
    spec.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
    spec.linux.as_mut().unwrap().masked_paths.push("/proc/cpuinfo".into());
    let output = run(&bundle.plan(&spec));
    if let Ok(output) = output {
        assert_eq!(output.text, "1:3\n");
    }
}

fn bind_mounts() {
    let bundle = Bundle::new();
    let data = bundle.path.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("file"), "data").unwrap();
    let source = data.to_str().unwrap();
    let file = data.join("file");
    let mut spec = spec(&[
        "sh",
        "-c",
        "cat /data/file /one; echo; echo new > /data/new; touch /ro/x; echo $?; grep -c ' /ro .*ro,nosuid' /proc/self/mountinfo",
    ]);
    spec.mounts.extend([
        mount("bind", source, "/data", &["rbind", "rprivate"]),
        mount("bind", source, "/ro", &["rbind", "rro", "nosuid"]),
        mount("bind", file.to_str().unwrap(), "/one", &["bind", "ro"]),
    ]);
    let output = run(&bundle.plan(&spec)).unwrap();
    assert!(output.text.starts_with("datadata\n"), "{}", output.text);
    assert!(output.text.ends_with("1\n1\n"), "{}", output.text);
    assert_eq!(std::fs::read_to_string(data.join("new")).unwrap(), "new\n");
}

fn a_terminal() {
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

fn exec_joins_everything() {
    let bundle = Bundle::new();
    let (stdio, output) = pipes();
    let plan = bundle.plan(&spec(&["sh", "-c", "sleep 100 & wait"]));
    let container = runtime::create(&plan, stdio, |_| Ok(())).unwrap().start().unwrap();
    let exec = |arguments: &[&str]| {
        let mut process = plan.process.clone();
        process.args = arguments.iter().map(|each| (*each).to_owned()).collect();
        let plan = ExecPlan { process, cgroup: plan.cgroup.clone(), keyring: None };
        let (stdio, output) = pipes();
        let started = runtime::exec(&plan, support::borrow(&container.pidfd), container.pid, stdio)?;
        let text = read(output);
        Ok::<_, Error>((wait(&started), text))
    };
    let (status, text) = exec(&["sh", "-c", "hostname; for n in cgroup ipc mnt net pid uts user time; do test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done; ls /proc/self/fd | wc -l; grep CapEff /proc/self/status; exit 7"]).unwrap();
    assert_eq!((status, text.as_str()), (7, "box\n4\nCapEff:\t00000000a80425fb\n"));
    assert!(exec(&["nosuch"]).unwrap_err().is_not_found());
    assert!(exec(&["plain"]).unwrap_err().is_not_executable());
    rustix::process::pidfd_send_signal(&container.pidfd, rustix::process::Signal::KILL).unwrap();
    assert_eq!(wait(&container), 137);
    drop(output);
}

fn errors_name_the_step_and_the_call() {
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

/// CVE-2024-21626.
fn working_directories() {
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

fn user_namespaces() {
    use oci::runtime::{LinuxIDMapping, LinuxNamespace, LinuxNamespaceType};
    let bundle = Bundle::new();
    for directory in ["", "lower", "upper", "work"] {
        use std::os::unix::fs::PermissionsExt;
        let path = bundle.path.path().join(directory);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for directory in ["upper", "work", "lower"] {
        std::os::unix::fs::chown(bundle.path.path().join(directory), Some(100_000), Some(100_000)).unwrap();
    }
    let mut spec = spec(&[
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; echo x > /dev/null && echo null; touch /x && stat -c %u /x",
    ]);
    let linux = spec.linux.as_mut().unwrap();
    linux.namespaces.push(LinuxNamespace { kind: LinuxNamespaceType::User, path: None });
    let mapping = LinuxIDMapping { container_id: 0, host_id: 100_000, size: 65536 };
    linux.uid_mappings = vec![mapping];
    linux.gid_mappings = vec![mapping];
    let mut options = bundle.options();
    options.root = Some(RootSource::Overlay {
        lower: vec![bundle.lower()],
        upper: Some(bundle.path.path().join("upper")),
        work: Some(bundle.path.path().join("work")),
        userxattr: true,
        volatile: false,
    });
    let output = run(&runtime::plan(&spec, &options).unwrap()).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let words: Vec<&str> = output.text.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "null", "0"], "{}", output.text);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(bundle.path.path().join("upper/x")).unwrap().uid(), 100_000);
}

fn namespaces_by_path() {
    use oci::runtime::LinuxNamespaceType as Kind;
    let bundle = Bundle::new();
    let (stdio, _output) = pipes();
    let first = runtime::create(&bundle.plan(&spec(&["sleep", "100"])), stdio, |_| Ok(())).unwrap().start().unwrap();
    let second = Bundle::new();
    let mut joined =
        spec(&["sh", "-c", "hostname; ps | grep -c 'sleep 100'; readlink /proc/self/ns/net; readlink /proc/1/ns/net"]);
    joined.hostname = None;
    for namespace in &mut joined.linux.as_mut().unwrap().namespaces {
        let name = match namespace.kind {
            Kind::Pid => "pid",
            Kind::Network => "net",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            _ => continue,
        };
        namespace.path = Some(format!("/proc/{}/ns/{name}", first.pid.as_raw_nonzero()));
    }
    let output = run(&second.plan(&joined)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let lines: Vec<&str> = output.text.lines().collect();
    assert_eq!(lines[0], "box");
    assert_ne!(lines[1], "0", "{}", output.text);
    assert_eq!(lines[2], lines[3]);
    rustix::process::pidfd_send_signal(&first.pidfd, rustix::process::Signal::KILL).unwrap();
    wait(&first);
}

fn hooks_are_called_in_order() {
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
    assert_eq!(error.to_string(), "hook \"/bin/sh\" ended with status 3: broken");
}

fn limits_and_parameters() {
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

fn tmpcopyup_copies() {
    let bundle = Bundle::new();
    std::fs::create_dir_all(bundle.lower().join("data/inner")).unwrap();
    std::fs::write(bundle.lower().join("data/inner/file"), "content").unwrap();
    std::os::unix::fs::symlink("inner/file", bundle.lower().join("data/link")).unwrap();
    let mut spec = spec(&["sh", "-c", "cat /data/link; grep -c ' /data ' /proc/self/mounts"]);
    spec.mounts.push(mount("tmpfs", "tmpfs", "/data", &["tmpcopyup"]));
    let output = run(&bundle.plan(&spec)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(output.text, "content1\n");
}

fn nothing_is_left_on_the_host() {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = (mounts(), descriptors());
    for _ in 0..20 {
        assert_eq!(shell("exit 0").status, 0);
    }
    assert_eq!((mounts(), descriptors()), before);
}

fn cgroups_are_joined_and_shown() {
    let root = std::path::Path::new("/sys/fs/cgroup");
    let name = format!("dhow-test-{}", std::process::id());
    let mut cgroup = runtime::CgroupPlan::default();
    if root.join("cgroup.controllers").exists() {
        cgroup.unified = Some(root.join(&name));
    } else {
        for hierarchy in ["pids", "freezer"] {
            // Beneath the group of this process, which may be where it has the right to make one.
            let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
            let line = own.lines().find(|line| line.split(':').nth(1) == Some(hierarchy)).unwrap();
            let path = line.split(':').nth(2).unwrap().trim_matches('/');
            cgroup.legacy.push((hierarchy.to_owned(), root.join(hierarchy).join(path).join(&name)));
        }
    }
    let directories: Vec<_> =
        cgroup.unified.iter().chain(cgroup.legacy.iter().map(|(_, path)| path)).cloned().collect();
    for directory in &directories {
        std::fs::create_dir(directory).unwrap();
    }
    let legacy = !cgroup.legacy.is_empty();
    let bundle = Bundle::new();
    let mut options = bundle.options();
    options.cgroup = cgroup;
    let script = "cat /proc/self/cgroup; ls -d /sys/fs/cgroup/*; cat /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/pids/cgroup.procs 2>/dev/null; \
                  touch /sys/fs/cgroup/x; mkdir /sys/fs/cgroup/pids/x";
    let mut spec = spec(&["sh", "-c", script]);
    spec.mounts.push(mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]));
    let output = run(&runtime::plan(&spec, &options).unwrap());
    for directory in &directories {
        for _ in 0..100 {
            // The kernel lets go of a process shortly after it was waited for.
            if std::fs::remove_dir(directory).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(!directory.exists());
    }
    let output = output.unwrap_or_else(|error| panic!("{}", chain(&error)));
    if legacy {
        for wanted in [":pids:/\n", ":freezer:/\n", "/sys/fs/cgroup/freezer\n/sys/fs/cgroup/pids\n1\n"] {
            assert!(output.text.contains(wanted), "{wanted:?} is not in {}", output.text);
        }
    } else {
        assert!(output.text.contains("0::/\n"), "{}", output.text);
    }
    assert_eq!(output.text.matches("Read-only file system").count(), 1 + usize::from(legacy), "{}", output.text);
}

fn id_mapped_mounts() {
    use oci::runtime::LinuxIDMapping;
    let bundle = Bundle::new();
    // The temporary directory may be on a file system that cannot; the probe is the call itself.
    let data = bundle.path.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "x").unwrap();
    let mut spec = spec(&["sh", "-c", "stat -c %u:%g /data/file; touch /data/new"]);
    let mut mapped = mount("bind", data.to_str().unwrap(), "/data", &["bind", "idmap"]);
    mapped.uid_mappings = vec![LinuxIDMapping { container_id: 0, host_id: 7000, size: 10 }];
    mapped.gid_mappings = vec![LinuxIDMapping { container_id: 0, host_id: 8000, size: 10 }];
    spec.mounts.push(mapped);
    match run(&bundle.plan(&spec)) {
        Ok(output) => {
            assert_eq!(output.text, "7000:8000\ntouch: /data/new: Value too large for defined data type\n");
        }
        Err(error) if error.errno() == Some(rustix::io::Errno::INVAL) => {
            println!("SKIP: id_mapped_mounts: {}", chain(&error))
        }
        Err(error) => panic!("{}", chain(&error)),
    }
}

/// Runs a closure in a child process; gives whether it returned without panic.
fn in_child(namespaces: kernel::namespaces::Namespaces, work: impl FnOnce() -> i32) -> i32 {
    let child = kernel::clone::Clone { namespaces, ..Default::default() }.spawn(work).unwrap();
    let (_, status) =
        rustix::process::waitpid(Some(child.pid), rustix::process::WaitOptions::empty()).unwrap().unwrap();
    status.exit_status().unwrap_or(255)
}

/// Root without privilege over the host: what dhow is for an ordinary user.
fn inside_a_user_namespace() {
    use kernel::namespaces::Namespaces;
    let bundle = Bundle::new();
    for directory in ["upper", "work", "lower"] {
        std::os::unix::fs::chown(bundle.path.path().join(directory), Some(100_000), Some(100_000)).unwrap();
    }
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(bundle.path.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (reading, writing) = rustix::pipe::pipe().unwrap();
    let child = kernel::clone::Clone { namespaces: Namespaces::USER | Namespaces::MOUNT, ..Default::default() }
        .spawn(|| {
            rustix::io::read(&reading, &mut [0u8; 1]).unwrap();
            kernel::prctl::set_identity(0, 0, Some(&[])).unwrap();
            for host_network in [false, true] {
                let mut options = bundle.options();
                if let Some(RootSource::Overlay { userxattr, .. }) = &mut options.root {
                    *userxattr = true;
                }
                let mut spec = spec(&[
                    "sh",
                    "-c",
                    "id -u; echo x > /dev/null && hostname && ls /sys/class/net/lo >/dev/null && echo net",
                ]);
                if host_network {
                    let kinds = &mut spec.linux.as_mut().unwrap().namespaces;
                    kinds.retain(|each| each.kind != oci::runtime::LinuxNamespaceType::Network);
                }
                let output =
                    run(&runtime::plan(&spec, &options).unwrap()).unwrap_or_else(|error| panic!("{}", chain(&error)));
                assert_eq!(output.text, "0\nbox\nnet\n", "host network: {host_network}");
            }
            0
        })
        .unwrap();
    for name in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{}/{name}", child.pid.as_raw_nonzero()), "0 100000 65536").unwrap();
    }
    rustix::io::write(&writing, b"x").unwrap();
    let (_, status) =
        rustix::process::waitpid(Some(child.pid), rustix::process::WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
}

/// A filter that answers ENOSYS to one system call, for this process and its children: x86-64 numbers.
fn without(number: u32) {
    let instruction = |code: u16, jt: u8, jf: u8, k: u32| {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&code.to_ne_bytes());
        bytes[2] = jt;
        bytes[3] = jf;
        bytes[4..].copy_from_slice(&k.to_ne_bytes());
        bytes
    };
    let enosys = 0x0005_0000 | 38;
    let program = [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 0, 1, number),
        instruction(0x06, 0, 0, enosys),
        instruction(0x06, 0, 0, 0x7fff_0000),
    ];
    kernel::seccomp::load(&program, 0).unwrap();
}

fn kernels_without_a_system_call() {
    if !cfg!(target_arch = "x86_64") {
        println!("SKIP: kernels_without_a_system_call: its numbers are those of x86-64");
        return;
    }
    let calls = [
        ("clone3", 435),
        ("close_range", 436),
        ("openat2", 437),
        ("mount_setattr", 442),
        ("statx", 332),
        ("pidfd_open", 434),
    ];
    for (name, number) in calls {
        let status = in_child(kernel::namespaces::Namespaces::NONE, || {
            let bundle = Bundle::new();
            without(number);
            let script = "hostname; stat -c %t:%T /proc/cpuinfo; touch /sys/x; echo 1 > /proc/sys/kernel/msgmax; echo $(ls /proc/self/fd)";
            let mut spec = spec(&["sh", "-c", script]);
            spec.linux.as_mut().unwrap().masked_paths.push("/proc/cpuinfo".into());
            let source = bundle.path.path().to_str().unwrap();
            spec.mounts.push(mount("bind", source, "/mnt", &["rbind", "ro", "rprivate"]));
            let output = run(&bundle.plan(&spec)).unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            let wanted = "box\n1:3\ntouch: /sys/x: Read-only file system\nsh: can't create /proc/sys/kernel/msgmax: Read-only file system\n0 1 2 3\n";
            assert_eq!(output.text, wanted, "{name}");
            spec.root.as_mut().unwrap().readonly = true;
            spec.process.as_mut().unwrap().args[2] = "touch /x /mnt/x; echo $?".into();
            let output = run(&bundle.plan(&spec)).unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
            assert_eq!(output.text.matches("Read-only file system").count(), 2, "{name}: {}", output.text);
            0
        });
        assert_eq!(status, 0, "{name}");
    }
    // Without the mount interface of Linux 5.2 there is no container, and the error says so.
    let status = in_child(kernel::namespaces::Namespaces::NONE, || {
        let bundle = Bundle::new();
        without(430);
        let error = run(&bundle.plan(&spec(&["true"]))).err().unwrap();
        i32::from(!chain(&error).contains("fsopen(\"overlay\", FSOPEN_CLOEXEC): ENOSYS (Function not implemented)"))
    });
    assert_eq!(status, 0);
}

fn an_exec_with_a_terminal() {
    let bundle = Bundle::new();
    let (stdio, _output) = pipes();
    let plan = bundle.plan(&spec(&["sleep", "100"]));
    let container = runtime::create(&plan, stdio, |_| Ok(())).unwrap().start().unwrap();
    let mut process = plan.process.clone();
    process.args = ["sh", "-c", "tty; exit 3"].map(str::to_owned).to_vec();
    process.terminal = Some((10, 20));
    let exec = ExecPlan { process, cgroup: plan.cgroup.clone(), keyring: None };
    let started = runtime::exec(&exec, support::borrow(&container.pidfd), container.pid, Stdio::Terminal).unwrap();
    let terminal = started.terminal.as_ref().unwrap().try_clone().unwrap();
    assert_eq!(wait(&started), 3);
    assert_eq!(read(terminal), "/dev/pts/0\r\n");
    rustix::process::pidfd_send_signal(&container.pidfd, rustix::process::Signal::KILL).unwrap();
    wait(&container);
}

fn a_dropped_container_is_gone() {
    let bundle = Bundle::new();
    let (stdio, output) = pipes();
    let created = runtime::create(&bundle.plan(&spec(&["true"])), stdio, |_| Ok(())).unwrap();
    let pid = created.pid();
    drop(created);
    assert_eq!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH));
    assert_eq!(read(output), "");
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

fn time_offsets() {
    use oci::runtime::{LinuxNamespace, LinuxNamespaceType, LinuxTimeOffset};
    let bundle = Bundle::new();
    let mut spec = spec(&["sh", "-c", "cat /proc/uptime; cat /proc/self/timens_offsets"]);
    let linux = spec.linux.as_mut().unwrap();
    linux.namespaces.push(LinuxNamespace { kind: LinuxNamespaceType::Time, path: None });
    linux.time_offsets.insert("boottime".into(), LinuxTimeOffset { secs: 1_000_000, nanosecs: 0 });
    let output = run(&bundle.plan(&spec)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let uptime: f64 = output.text.split_whitespace().next().unwrap().parse().unwrap();
    assert!(uptime > 1_000_000.0, "{}", output.text);
}

fn seccomp_filters() {
    let bundle = Bundle::new();
    for no_new_privileges in [false, true] {
        let mut spec = spec(&["sh", "-c", "mkdir /x 2>&1; grep Seccomp: /proc/self/status"]);
        let process = spec.process.as_mut().unwrap();
        process.no_new_privileges = no_new_privileges;
        process.user.uid = 1000;
        let mut options = bundle.options();
        let instruction = |code: u16, jt: u8, jf: u8, k: u32| {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&code.to_ne_bytes());
            (bytes[2], bytes[3]) = (jt, jf);
            bytes[4..].copy_from_slice(&k.to_ne_bytes());
            bytes
        };
        // mkdir(2) of x86-64 answers ENOSYS.
        let instructions = vec![
            instruction(0x20, 0, 0, 0),
            instruction(0x15, 0, 1, 83),
            instruction(0x06, 0, 0, 0x0005_0000 | 38),
            instruction(0x06, 0, 0, 0x7fff_0000),
        ];
        options.filter = Some(runtime::FilterPlan { instructions, flags: 0, listener: None });
        let plan = runtime::plan(&spec, &options).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        let plan: runtime::Plan = serde_json::from_str(&text).unwrap();
        let output = run(&plan).unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert!(output.text.contains("Seccomp:\t2"), "{}", output.text);
        assert!(output.text.contains("Function not implemented"), "{}", output.text);
    }
}

/// Paths too long for `lowerdir+`, which take the way of Linux before 6.5.
fn layers_with_long_paths() {
    let bundle = Bundle::new();
    let long = "x".repeat(200);
    let mut lower = Vec::new();
    for index in 0..130 {
        let path = bundle.path.path().join(&long).join(format!("{index:060}"));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(format!("file{index}")), "x").unwrap();
        lower.push(path);
    }
    lower.push(bundle.lower());
    let mut options = bundle.options();
    options.root = Some(RootSource::Overlay {
        lower,
        upper: Some(bundle.path.path().join("upper")),
        work: Some(bundle.path.path().join("work")),
        userxattr: false,
        volatile: true,
    });
    let spec = spec(&["sh", "-c", "ls -d /file* | wc -l; touch /new; grep -c overlay /proc/self/mounts"]);
    let output = run(&runtime::plan(&spec, &options).unwrap()).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(output.text, "130\n1\n");
    assert!(bundle.path.path().join("upper/new").exists());
}

fn a_supervised_filter() {
    use oci::runtime::LinuxSeccomp;
    use std::io::Read;
    let bundle = Bundle::new();
    let socket = bundle.path.path().join("socket");
    let profile = format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": {socket:?}, "listenerMetadata": "hello",
            "syscalls": [{{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}}]}}"#
    );
    let mut spec = spec(&["sh", "-c", "mkdir /x; echo $?"]);
    spec.linux.as_mut().unwrap().seccomp = Some(serde_json::from_str::<LinuxSeccomp>(&profile).unwrap());
    let plan = bundle.plan(&spec);
    let error = run(&plan).err().unwrap();
    assert!(
        chain(&error).starts_with("hand the system call filter's listener to its supervisor: connect("),
        "{}",
        chain(&error)
    );
    let listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (stdio, output) = pipes();
    let started = runtime::create(&plan, stdio, |_| Ok(())).unwrap().start().unwrap();
    let (mut connection, _) = listening.accept().unwrap();
    let mut text = String::new();
    // Read as bytes, the descriptor that came along is closed, and the supervised call answers ENOSYS.
    connection.read_to_string(&mut text).unwrap();
    assert!(text.contains(r#""fds":["seccompFd"]"#) && text.contains(r#""metadata":"hello""#), "{text}");
    wait(&started);
    assert_eq!(read(output), "mkdir: can't create directory '/x': Function not implemented\n1\n");
}

fn an_init_reaps_and_passes_signals() {
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

/// The label is written to the container's own procfs, and the kernel's refusal arrives.
fn an_unknown_apparmor_profile() {
    if !kernel::lsm::apparmor_enabled() {
        println!("SKIP: an_unknown_apparmor_profile: this kernel has no AppArmor");
        return;
    }
    let bundle = Bundle::new();
    let mut spec = spec(&["true"]);
    spec.process.as_mut().unwrap().apparmor_profile = Some("dhow-test-nosuch".into());
    let text = chain(&run(&bundle.plan(&spec)).err().unwrap());
    let wanted = "use the AppArmor profile \"dhow-test-nosuch\": write(<proc>/thread-self/attr/apparmor/exec, \"exec dhow-test-nosuch\"): ENOENT";
    assert!(text.starts_with(wanted), "{text}");
}
