//! Images and neighbours that try to get at the host.

use runtime::{ExecPlan, Stdio};

use crate::support::{self, Bundle, chain, mount, pipes, read, run, spec, wait};

/// CVE-2023-27561, CVE-2025-54867, CVE-2026-41579, CVE-2019-18837: H1 in small.
pub fn links_in_the_image_do_not_lead_out() {
    let bundle = Bundle::new();
    let outside = bundle.path.path().join("outside");
    std::fs::create_dir_all(outside.join("pts")).unwrap();
    for name in ["proc", "sys"] {
        let link = bundle.lower().join(name);
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        let error = run(&bundle.plan(&spec(&["true"]))).err().unwrap();
        let text = chain(&error);
        assert!(text.contains("must be mounted on ordinary directory"), "{text}");
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

/// CVE-2021-30465, CVE-2024-45310, CVE-2015-1335: H2 in small. A volume shared with somebody who exchanges directories
/// and links on it all the time; whatever the outcome of a start, nothing appears outside.
pub fn mount_points_that_are_exchanged_meanwhile() {
    use rustix::fs::{CWD, RenameFlags};
    let bundle = Bundle::new();
    let outside = bundle.path.path().join("outside");
    let volume = bundle.path.path().join("volume");
    for directory in [&outside, &volume.join("a/b")] {
        std::fs::create_dir_all(directory).unwrap();
    }
    std::os::unix::fs::symlink(&outside, volume.join("link")).unwrap();
    let up = format!("../../../../../../../..{}", outside.display());
    std::os::unix::fs::symlink(up, volume.join("a/up")).unwrap();
    let racer = kernel::clone::Clone::default()
        .spawn(|| {
            loop {
                // Either may fail while the runtime makes what is missing.
                rustix::fs::renameat_with(CWD, volume.join("a"), CWD, volume.join("link"), RenameFlags::EXCHANGE).ok();
                rustix::fs::renameat_with(CWD, volume.join("a/b"), CWD, volume.join("a/up"), RenameFlags::EXCHANGE)
                    .ok();
            }
        })
        .unwrap();
    let file = bundle.path.path().join("lower/etc/passwd");
    let mut spec = spec(&["true"]);
    spec.mounts.extend([
        mount("bind", volume.to_str().unwrap(), "/volume", &["rbind"]),
        mount("tmpfs", "tmpfs", "/volume/a/b/new", &["tmpcopyup"]),
        mount("bind", file.to_str().unwrap(), "/volume/a/b/file", &["bind"]),
    ]);
    let plan = bundle.plan(&spec);
    let outcomes: Vec<bool> = (0..60).map(|_| run(&plan).is_ok()).collect();
    rustix::process::pidfd_send_signal(&racer.pidfd, rustix::process::Signal::KILL).unwrap();
    rustix::process::waitpid(Some(racer.pid), rustix::process::WaitOptions::empty()).unwrap();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{outcomes:?}");
    assert!(outcomes.contains(&true), "no start went through, so nothing was tested");
}

/// CVE-2016-9962: a process of the container that may trace sees neither descriptors nor program of one that joins.
pub fn an_exec_cannot_be_looked_into() {
    let bundle = Bundle::new();
    let mut watching = spec(&[
        "sh",
        "-c",
        "echo ready; while :; do for p in /proc/[0-9]*; do case $p in /proc/1) ;; *) \
         readlink $p/exe | grep -v busybox; ls $p/fd 2>/dev/null | grep -v -E '^[0-3]$';; esac; done; done",
    ]);
    let names = &mut watching.process.as_mut().unwrap().capabilities.as_mut().unwrap();
    for set in [&mut names.bounding, &mut names.effective, &mut names.permitted] {
        set.retain(|name| name != "CAP_SYS_PTRACE");
    }
    let (stdio, output) = pipes();
    let plan = bundle.plan(&watching);
    let container = runtime::run(&plan, stdio, |_| Ok(())).unwrap();
    let mut ready = [0; 6];
    rustix::io::read(&output, &mut ready).unwrap();
    let mut process = plan.process.clone();
    process.args = vec!["true".to_owned()];
    let exec = ExecPlan {
        process,
        cgroup: plan.cgroup.clone(),
        keyring: None,
        no_other_cgroup: false,
        own_namespaces: Vec::new(),
        in_foreign_mounts: false,
    };
    for _ in 0..30 {
        let started = runtime::exec(&exec, support::borrow(&container.pidfd), container.pid, Stdio::Inherit).unwrap();
        assert_eq!(wait(&started), 0);
    }
    rustix::process::pidfd_send_signal(&container.pidfd, rustix::process::Signal::KILL).unwrap();
    wait(&container);
    let program = std::env::current_exe().unwrap();
    let text = read(output);
    assert!(!text.contains(program.to_str().unwrap()), "{text}");
}
