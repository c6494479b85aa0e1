//! Root file systems and mounts.

use runtime::RootSource;

use crate::support::{Bundle, chain, mount, run, shell, spec};

pub fn a_directory_is_a_root() {
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

pub fn bind_mounts() {
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

pub fn tmpcopyup_copies() {
    let bundle = Bundle::new();
    std::fs::create_dir_all(bundle.lower().join("data/inner")).unwrap();
    std::fs::write(bundle.lower().join("data/inner/file"), "content").unwrap();
    std::os::unix::fs::symlink("inner/file", bundle.lower().join("data/link")).unwrap();
    let mut spec = spec(&["sh", "-c", "cat /data/link; grep -c ' /data ' /proc/self/mounts"]);
    spec.mounts.push(mount("tmpfs", "tmpfs", "/data", &["tmpcopyup"]));
    let output = run(&bundle.plan(&spec)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(output.text, "content1\n");
}

pub fn id_mapped_mounts() {
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

/// Paths too long for `lowerdir+`, which take the way of Linux before 6.5.
pub fn layers_with_long_paths() {
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

pub fn nothing_is_left_on_the_host() {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = (mounts(), descriptors());
    for _ in 0..20 {
        assert_eq!(shell("exit 0").status, 0);
    }
    assert_eq!((mounts(), descriptors()), before);
}
