//! Namespaces and cgroups, new and joined.

use runtime::{Error, ExecPlan, RootSource, Stdio};

use crate::support::{self, Bundle, chain, mount, pipes, read, run, spec, wait};

pub fn exec_joins_everything() {
    let bundle = Bundle::new();
    let (stdio, output) = pipes();
    let plan = bundle.plan(&spec(&["sh", "-c", "sleep 100 & wait"]));
    let container = runtime::create(&plan, stdio, |_| Ok(())).unwrap().start().unwrap();
    let exec = |arguments: &[&str]| {
        let mut process = plan.process.clone();
        process.args = arguments.iter().map(|each| (*each).to_owned()).collect();
        let plan = ExecPlan {
            process,
            cgroup: plan.cgroup.clone(),
            keyring: None,
            no_other_cgroup: false,
            own_namespaces: Vec::new(),
            in_foreign_mounts: false,
        };
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

pub fn an_exec_with_a_terminal() {
    let bundle = Bundle::new();
    let (stdio, _output) = pipes();
    let plan = bundle.plan(&spec(&["sleep", "100"]));
    let container = runtime::create(&plan, stdio, |_| Ok(())).unwrap().start().unwrap();
    let mut process = plan.process.clone();
    process.args = ["sh", "-c", "tty; grep Cpus_allowed_list /proc/self/status; exit 3"].map(str::to_owned).to_vec();
    process.terminal = Some((10, 20));
    process.affinity = Some((vec![], vec![1]));
    let exec = ExecPlan {
        process,
        cgroup: plan.cgroup.clone(),
        keyring: None,
        no_other_cgroup: false,
        own_namespaces: Vec::new(),
        in_foreign_mounts: false,
    };
    let started = runtime::exec(&exec, support::borrow(&container.pidfd), container.pid, Stdio::Terminal).unwrap();
    let terminal = started.terminal.as_ref().unwrap().try_clone().unwrap();
    assert_eq!(wait(&started), 3);
    assert_eq!(read(terminal), "/dev/pts/0\r\nCpus_allowed_list:\t0\r\n");
    rustix::process::pidfd_send_signal(&container.pidfd, rustix::process::Signal::KILL).unwrap();
    wait(&container);
}

pub fn user_namespaces() {
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
    let output = run(&with_its_own_files(&spec, &options)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let words: Vec<&str> = output.text.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "null", "0"], "{}", output.text);
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(bundle.path.path().join("upper/x")).unwrap().uid(), 100_000);
}

pub fn namespaces_by_path() {
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

pub fn cgroups_are_joined_and_shown() {
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

/// Root without privilege over the host: what dhow is for an ordinary user.
pub fn inside_a_user_namespace() {
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

pub fn time_offsets() {
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

/// A pod whose user namespace is shared: the second container's own namespaces belong to it.
pub fn a_user_namespace_by_path() {
    use oci::runtime::{LinuxIDMapping, LinuxNamespace, LinuxNamespaceType as Kind};
    use std::os::unix::fs::PermissionsExt;
    let bundles = [Bundle::new(), Bundle::new()];
    for bundle in &bundles {
        std::fs::set_permissions(bundle.path.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for directory in ["upper", "work", "lower"] {
            std::os::unix::fs::chown(bundle.path.path().join(directory), Some(100_000), Some(100_000)).unwrap();
        }
    }
    let plan = |bundle: &Bundle, spec: &oci::runtime::Spec| {
        let mut options = bundle.options();
        if let Some(RootSource::Overlay { userxattr, .. }) = &mut options.root {
            *userxattr = true;
        }
        with_its_own_files(spec, &options)
    };
    let mut first = spec(&["sleep", "100"]);
    let linux = first.linux.as_mut().unwrap();
    linux.namespaces.push(LinuxNamespace { kind: Kind::User, path: None });
    let mapping = LinuxIDMapping { container_id: 0, host_id: 100_000, size: 65536 };
    (linux.uid_mappings, linux.gid_mappings) = (vec![mapping], vec![mapping]);
    let (stdio, _output) = pipes();
    let first = runtime::run(&plan(&bundles[0], &first), stdio, |_| Ok(())).unwrap();
    let script =
        "hostname; id -u; cat /proc/self/uid_map; grep CapEff /proc/self/status; ps | grep -c 'sleep 100'; touch /x";
    let mut second = spec(&["sh", "-c", script]);
    second.hostname = None;
    let linux = second.linux.as_mut().unwrap();
    linux.namespaces.push(LinuxNamespace { kind: Kind::User, path: None });
    for namespace in &mut linux.namespaces {
        let name = match namespace.kind {
            Kind::User => "user",
            Kind::Network => "net",
            Kind::Pid => "pid",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            _ => continue,
        };
        namespace.path = Some(format!("/proc/{}/ns/{name}", first.pid.as_raw_nonzero()));
    }
    let output = run(&plan(&bundles[1], &second)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let words: Vec<&str> = output.text.split_whitespace().collect();
    assert_eq!(words[..7], ["box", "0", "0", "100000", "65536", "CapEff:", "00000000a80425fb"], "{}", output.text);
    assert_ne!(words[7], "0", "{}", output.text);
    rustix::process::pidfd_send_signal(&first.pidfd, rustix::process::Signal::KILL).unwrap();
    wait(&first);
}

/// A new user namespace with somebody else's network, as a container that joins another's does.
pub fn a_new_user_namespace_with_a_network_by_path() {
    use oci::runtime::{LinuxIDMapping, LinuxNamespace, LinuxNamespaceType as Kind};
    use std::os::unix::fs::PermissionsExt;
    let (owner, bundle) = (Bundle::new(), Bundle::new());
    let (stdio, _output) = pipes();
    let first = runtime::run(&owner.plan(&spec(&["sleep", "100"])), stdio, |_| Ok(())).unwrap();
    std::fs::set_permissions(bundle.path.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for directory in ["upper", "work", "lower"] {
        std::os::unix::fs::chown(bundle.path.path().join(directory), Some(100_000), Some(100_000)).unwrap();
    }
    let mut options = bundle.options();
    if let Some(RootSource::Overlay { userxattr, .. }) = &mut options.root {
        *userxattr = true;
    }
    let mut second = spec(&["sh", "-c", "readlink /proc/self/ns/net; id -u; ls /sys/class/net"]);
    let linux = second.linux.as_mut().unwrap();
    linux.namespaces.push(LinuxNamespace { kind: Kind::User, path: None });
    let mapping = LinuxIDMapping { container_id: 0, host_id: 100_000, size: 65536 };
    (linux.uid_mappings, linux.gid_mappings) = (vec![mapping], vec![mapping]);
    let path = format!("/proc/{}/ns/net", first.pid.as_raw_nonzero());
    let network = linux.namespaces.iter_mut().find(|each| each.kind == Kind::Network).unwrap();
    network.path = Some(path.clone());
    // Its sysfs belongs to the host's user namespace, so the host's is shown (`target` of the fallback for EPERM).
    let output = run(&with_its_own_files(&second, &options)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let wanted = std::fs::read_link(&path).unwrap();
    assert!(output.text.starts_with(&format!("{}\n0\n", wanted.display())), "{}", output.text);
    rustix::process::pidfd_send_signal(&first.pidfd, rustix::process::Signal::KILL).unwrap();
    wait(&first);
}

/// A plan whose layers belong to the container's ids on the disk already.
fn with_its_own_files(spec: &oci::runtime::Spec, options: &runtime::PlanOptions) -> runtime::Plan {
    let mut plan = runtime::plan(spec, options).unwrap();
    plan.root.id_map = None;
    plan
}
