//! Lowering needs no root and touches no kernel: what comes out is compared with what was reviewed.

mod support;

use oci::runtime::{LinuxIDMapping, LinuxNamespace, LinuxNamespaceType, POSIXRlimit, Spec};
use runtime::{PlanOptions, RootSource};
use support::{mount, spec};

fn options() -> PlanOptions {
    PlanOptions {
        id: "box".into(),
        bundle: "/bundle".into(),
        root: Some(RootSource::Overlay {
            lower: vec!["/layers/top".into(), "/layers/bottom".into()],
            upper: Some("/box/upper".into()),
            work: Some("/box/work".into()),
            userxattr: false,
            volatile: true,
        }),
        user: Some("redis".into()),
        create_cwd: true,
        new_keyring: true,
        ..PlanOptions::default()
    }
}

fn full() -> Spec {
    let mut spec = spec(&["sh", "-c", "true"]);
    let process = spec.process.as_mut().unwrap();
    process.rlimits = vec![POSIXRlimit { kind: "RLIMIT_NOFILE".into(), soft: 10, hard: 20 }];
    process.oom_score_adj = Some(100);
    spec.mounts.push(mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro", "nosuid"]));
    spec.mounts.push(mount("bind", "data", "/data", &["rbind", "rro", "rslave", "noatime"]));
    spec.linux.as_mut().unwrap().sysctl.insert("net.ipv4.conf.eth0/1.forwarding".into(), "1".into());
    spec
}

#[test]
fn an_ordinary_container() {
    let plan = runtime::plan(&full(), &options()).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan).unwrap());
    // What is sent to a monitor arrives as it was.
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<runtime::Plan>(&text).unwrap(), plan);
}

/// Changes a specification and gives the sentence with which it is refused.
fn refused(change: impl FnOnce(&mut Spec)) -> String {
    let mut spec = full();
    change(&mut spec);
    runtime::plan(&spec, &PlanOptions { user: None, ..options() }).unwrap_err().to_string()
}

#[test]
fn wrong_specifications_are_refused_with_a_sentence() {
    let linux = |spec: &mut Spec, change: fn(&mut oci::runtime::Linux)| change(spec.linux.as_mut().unwrap());
    let process = |spec: &mut Spec, change: fn(&mut oci::runtime::Process)| change(spec.process.as_mut().unwrap());
    let user = LinuxNamespace { kind: LinuxNamespaceType::User, path: None };
    let lines = [
        refused(|spec| spec.process = None),
        refused(|spec| process(spec, |process| process.args.clear())),
        refused(|spec| process(spec, |process| process.cwd = "etc".into())),
        refused(|spec| process(spec, |process| process.env.push("AWS_SECRET_ACCESS_KEY".into()))),
        refused(|spec| process(spec, |process| process.user.uid = 1 << 31)),
        refused(|spec| process(spec, |process| process.oom_score_adj = Some(1001))),
        refused(|spec| process(spec, |process| process.rlimits[0].kind = "RLIMIT_X".into())),
        refused(|spec| process(spec, |process| process.rlimits[0].soft = 30)),
        refused(|spec| linux(spec, |linux| linux.namespaces.clear())),
        refused(|spec| {
            linux(spec, |linux| {
                linux.namespaces.retain(|each| each.kind != LinuxNamespaceType::Mount);
                linux.namespaces.push(LinuxNamespace { kind: LinuxNamespaceType::User, path: None });
                linux.uid_mappings = vec![LinuxIDMapping::default()];
            });
        }),
        refused(|spec| {
            linux(spec, |linux| {
                linux.namespaces.retain(|each| each.kind != LinuxNamespaceType::Mount);
                linux.rootfs_propagation = Some("shared".into());
            });
        }),
        refused(|spec| linux(spec, |linux| linux.namespaces.push(linux.namespaces[0].clone()))),
        refused(|spec| spec.linux.as_mut().unwrap().namespaces.push(user.clone())),
        refused(|spec| linux(spec, |linux| linux.uid_mappings = vec![LinuxIDMapping::default()])),
        refused(|spec| linux(spec, |linux| drop(linux.sysctl.insert("kernel.core_pattern".into(), "|/x".into())))),
        refused(|spec| {
            linux(spec, |linux| drop(linux.sysctl.insert("net/../kernel/core_pattern".into(), "|/x".into())))
        }),
        refused(|spec| {
            linux(spec, |linux| linux.namespaces.retain(|each| each.kind != LinuxNamespaceType::Network));
        }),
        refused(|spec| spec.mounts.push(mount("tmpfs", "tmpfs", "/proc", &[]))),
        refused(|spec| spec.mounts.push(mount("tmpfs", "tmpfs", "/", &[]))),
        refused(|spec| spec.mounts.push(mount("", "x", "/x", &[]))),
        refused(|spec| {
            let mut groups = mount("tmpfs", "x", "/x", &[]);
            groups.gid_mappings = vec![LinuxIDMapping::default()];
            spec.mounts.push(groups);
        }),
        refused(|spec| linux(spec, |linux| linux.masked_paths.push("proc".into()))),
        refused(|spec| linux(spec, |linux| linux.rootfs_propagation = Some("both".into()))),
        refused(|spec| {
            let hook = oci::runtime::Hook { path: "/bin/true".into(), timeout: Some(0), ..Default::default() };
            spec.hooks = Some(oci::runtime::Hooks { poststop: vec![hook], ..Default::default() });
        }),
        refused(|spec| {
            let rdt = oci::runtime::LinuxIntelRdt { clos_id: Some("../x".into()), ..Default::default() };
            spec.linux.as_mut().unwrap().intel_rdt = Some(rdt);
        }),
        refused(|spec| {
            let mut device =
                oci::runtime::LinuxDevice { path: "/dev/x".into(), kind: "p".into(), ..Default::default() };
            device.uid = Some(u32::MAX);
            spec.linux.as_mut().unwrap().devices.push(device);
        }),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}
