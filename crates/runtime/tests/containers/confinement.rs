//! What a container's processes may not do or see.

use runtime::Error;

use crate::support::{Bundle, chain, pipes, read, run, shell, spec, wait};

pub fn a_read_only_root() {
    let bundle = Bundle::new();
    let mut spec = spec(&["sh", "-c", "touch /x; touch /dev/shm/x && echo shm"]);
    spec.root.as_mut().unwrap().readonly = true;
    let output = run(&bundle.plan(&spec)).unwrap();
    assert!(output.text.contains("Read-only file system") && output.text.ends_with("shm\n"), "{}", output.text);
}

pub fn masked_and_read_only_paths() {
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

pub fn capabilities_as_pid_1_sees_them() {
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

pub fn users_by_name_and_number() {
    let bundle = Bundle::new();
    let mut options = bundle.options();
    options.user = Some("user".into());
    let spec = spec(&["sh", "-c", "id -u; id -g; grep Groups /proc/self/status; echo $HOME; echo x > /dev/stdout"]);
    let output = run(&runtime::plan(&spec, &options).unwrap()).unwrap();
    assert_eq!(output.text, "1000\n1000\nGroups:\t26 1000 \n/home/user\nx\n");
    options.user = Some("nobody".into());
    let error = run(&runtime::plan(&spec, &options).unwrap()).err().unwrap();
    assert!(matches!(error, Error::Refused(_)), "{error}");
}

pub fn no_descriptor_leaks() {
    // The directory itself is the one descriptor that `ls` has opened.
    let file = std::fs::File::open("/etc/hostname").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let output = shell("ls /proc/self/fd");
    assert_eq!(output.text, "0\n1\n2\n3\n");
}

pub fn seccomp_filters() {
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

pub fn a_supervised_filter() {
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
        chain(&error)
            .starts_with("hand over the system call filter's listener: failed to connect with seccomp agent: connect("),
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

/// The label is written to the container's own procfs, and the kernel's refusal arrives.
pub fn an_unknown_apparmor_profile() {
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
