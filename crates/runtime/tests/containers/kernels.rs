//! Kernels that lack a system call.

use crate::support::{Bundle, chain, in_child, mount, run, spec};

pub fn kernels_without_a_system_call() {
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
            // In the mount namespace of this process.
            let linux = spec.linux.as_mut().unwrap();
            linux.namespaces.retain(|each| each.kind != oci::runtime::LinuxNamespaceType::Mount);
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
