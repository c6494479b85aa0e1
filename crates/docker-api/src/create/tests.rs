use super::*;
use engine::{MountSource, NetworkMode};

fn parse(document: Value) -> Result<Asked, Failure> {
    asked(document.to_string().as_bytes(), crate::version::NEWEST)
}

#[test]
fn what_the_command_line_sends() {
    let content = r#"{
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": true, "AttachStderr": true,
        "Tty": true, "OpenStdin": true, "StdinOnce": true, "Env": null, "Cmd": ["ls"], "Image": "busybox",
        "Volumes": {}, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {},
        "HostConfig": {
            "Binds": ["/a:/b:ro"], "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}},
            "NetworkMode": "default", "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": true, "VolumeDriver": "",
            "VolumesFrom": null, "CapAdd": null, "CapDrop": null, "Dns": [], "DnsOptions": [], "DnsSearch": [],
            "ExtraHosts": null, "GroupAdd": null, "IpcMode": "", "Cgroup": "", "Links": null, "OomScoreAdj": 0,
            "PidMode": "", "Privileged": false, "PublishAllPorts": false, "ReadonlyRootfs": false, "SecurityOpt": null,
            "UTSMode": "", "UsernsMode": "", "ShmSize": 0, "ConsoleSize": [24, 80], "Isolation": "", "CpuShares": 0,
            "Memory": 67108864, "NanoCpus": 0, "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": [],
            "CpuPeriod": 0, "CpuQuota": 0, "CpusetCpus": "", "Devices": [], "DeviceCgroupRules": null,
            "DeviceRequests": null, "KernelMemory": 0, "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": -1,
            "OomKillDisable": false, "PidsLimit": 0, "Ulimits": null, "CpuCount": 0, "MaskedPaths": null,
            "ReadonlyPaths": null
        },
        "NetworkingConfig": {"EndpointsConfig": {"default": null}}
    }"#;
    let asked = asked(content.as_bytes(), Version(41)).unwrap();
    let options = &asked.options;
    assert_eq!((options.image.as_str(), options.command.as_slice()), ("busybox", &["ls".to_owned()][..]));
    assert!(options.terminal && options.open_stdin && options.auto_remove && options.entrypoint.is_none());
    assert_eq!(options.limits.memory, Some(64 << 20));
    assert_eq!(options.terminal_size, Some((24, 80)));
    assert_eq!((options.ports[0].host_port, options.ports[0].container_port), (8080, 80));
    assert!(matches!(&options.mounts[0].source, MountSource::Bind { path, .. } if path == "/a"));
    assert_eq!(options.front_end["Config"]["StdinOnce"], true);
    assert_eq!(options.front_end["HostConfig"]["Binds"], json!(["/a:/b:ro"]));
    assert_eq!(options.front_end["HostConfig"].get("VolumesFrom"), None);
}

#[test]
fn forms_of_commands() {
    let asked = parse(json!({"Image": "x", "Cmd": "true", "Entrypoint": []})).unwrap();
    assert_eq!(asked.options.command, ["true"]);
    assert!(asked.keeps_command);
    assert!(!parse(json!({"Image": "x", "Entrypoint": [""]})).unwrap().keeps_command);
}

#[test]
fn nothing_is_ignored() {
    let failure = parse(json!({"Image": "x", "HostConfig": {"Cgroup": "container:a"}})).unwrap_err();
    assert_eq!(failure.status, 501, "{failure}");
    // Whoever asks in the words of a version that had it is told; Docker takes it in silence since.
    let document = json!({"Image": "x", "HostConfig": {"KernelMemory": 1, "KernelMemoryTCP": 1}}).to_string();
    for (version, warnings) in [(41, 2), (42, 1), (51, 1), (52, 0)] {
        assert_eq!(asked(document.as_bytes(), Version(version)).unwrap().warnings.len(), warnings, "1.{version}");
    }
    for document in [
        json!({"Image": "x", "HostConfig": {"DeviceRequests": [{"Count": -1}]}}),
        json!({}),
        json!({"Image": "x", "Env": "A=1"}),
        json!({"Image": "x", "ExposedPorts": {"x/tcp": {}}}),
        json!({"Image": "x", "HostConfig": {"PortBindings": {"80/xyz": []}}}),
        json!({"Image": "x", "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}}}),
        json!({"Image": "x", "HostConfig": {"Binds": ["/a:b"]}}),
        json!({"Image": "x", "HostConfig": {"Binds": ["/a:/b:ro,rw"]}}),
        json!({"Image": "x", "HostConfig": {"Mounts": [{"Type": "bind", "Target": "/x"}]}}),
        json!({"Image": "x", "HostConfig": {"RestartPolicy": {"Name": "sometimes"}}}),
        json!({"Image": "x", "HostConfig": {"SecurityOpt": ["x"]}}),
        json!({"Image": "x", "HostConfig": {"ShmSize": -1}}),
    ] {
        assert_eq!(parse(document.clone()).unwrap_err().status, 400, "{document}");
    }
}

#[test]
fn networks() {
    let of = |host: Value, endpoints: Value| {
        let config = json!({ "EndpointsConfig": endpoints });
        parse(json!({"Image": "x", "HostConfig": host, "NetworkingConfig": config})).map(|asked| asked.options)
    };
    let plain = of(json!({"NetworkMode": "default"}), json!({"default": null})).unwrap();
    assert_eq!((plain.network, plain.networks.len()), (NetworkMode::Bridge, 0));
    let endpoint = json!({"Aliases": ["db"], "IPAMConfig": {"IPv4Address": "10.1.2.3"}});
    let two = of(json!({"NetworkMode": "b"}), json!({"a": null, "b": endpoint})).unwrap().networks;
    assert_eq!(two.iter().map(|request| request.network.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!((two[0].aliases.as_slice(), two[0].ipv4), (&["db".to_owned()][..], "10.1.2.3".parse().ok()));
    // Compose v1 names the network as the mode and nowhere else.
    assert_eq!(of(json!({"NetworkMode": "mine"}), json!({})).unwrap().networks[0].network, "mine");
    let joined = of(json!({"NetworkMode": "container:web"}), Value::Null).unwrap();
    assert_eq!(joined.network, NetworkMode::Container("web".into()));
    assert!(of(json!({"NetworkMode": "host"}), json!({"a": null})).is_err());
    assert!(of(json!({}), json!({"a": {"IPAMConfig": {"IPv4Address": "x"}}})).is_err());
}

#[test]
fn volumes() {
    let host = json!({"Binds": ["data:/d:ro", "/h:/h"], "VolumesFrom": ["a:ro"], "Mounts": [
        {"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {"NoCopy": true, "Subpath": "s"}},
    ]});
    let asked = parse(json!({"Image": "x", "Volumes": {"/a": {}, "/h/": {}}, "HostConfig": host})).unwrap();
    let kinds: Vec<_> = asked.options.mounts.iter().map(|mount| (mount.target.as_str(), &mount.source)).collect();
    assert!(matches!(kinds[0], ("/d", MountSource::Volume(volume)) if volume.name == "data" && !volume.anonymous));
    assert!(matches!(kinds[1], ("/h", MountSource::Bind { .. })));
    assert!(matches!(kinds[2], ("/v", MountSource::Volume(volume)) if volume.no_copy && volume.subpath == "s"));
    assert!(matches!(kinds[3], ("/a", MountSource::Volume(volume)) if volume.anonymous));
    // Something is mounted there already.
    assert_eq!(kinds.len(), 4);
    assert!(asked.options.volumes_from[0].read_only);
}

#[test]
fn health_and_restart() {
    let asked = parse(json!({
        "Image": "x",
        "Healthcheck": {"Test": ["CMD", "a b"], "Interval": 1_000_000_000, "Retries": 2},
        "HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}},
    }));
    let options = asked.unwrap().options;
    // An argument with a space in it stays one.
    assert_eq!(options.health.test, ["CMD", "a b"]);
    assert_eq!((options.health.interval, options.health.retries), (Some(1_000_000_000), Some(2)));
    assert_eq!((options.restart.name(), options.restart.maximum()), ("on-failure", 3));
    assert!(parse(json!({"Image": "x", "Healthcheck": {"Test": ["NONE"]}})).unwrap().options.health.disabled);
    assert!(parse(json!({"Image": "x", "Healthcheck": {"Interval": 5}})).is_err());
}

#[test]
fn ports_without_a_place() {
    let host = json!({"PortBindings": {"80/tcp": [], "81/udp": null, "82": [{"HostPort": "1"}]}});
    let document = json!({"Image": "x", "HostConfig": host}).to_string();
    let ask = |version| super::asked(document.as_bytes(), Version(version)).unwrap();
    let ports = ask(51).options.ports.iter().map(|port| (port.container_port, port.host_port)).collect::<Vec<_>>();
    assert_eq!(ports, [(80, 0), (81, 0), (82, 1)]);
    assert_eq!(ask(51).warnings, Vec::<String>::new());
    assert!(ask(52).warnings[0].contains("80/tcp, 81/udp"));
}

#[test]
fn system_paths() {
    let host =
        json!({"MaskedPaths": [], "ReadonlyPaths": [], "SecurityOpt": ["seccomp:unconfined"], "NetworkMode": "host"});
    let asked = parse(json!({"Image": "x", "HostConfig": host})).unwrap();
    assert_eq!(asked.options.security_options, ["seccomp=unconfined", "systempaths=unconfined"]);
    assert_eq!((&asked.options.masked_paths, &asked.options.readonly_paths), (&None, &None));
    assert_eq!(asked.options.network, NetworkMode::Host);
    let own = parse(json!({"Image": "x", "HostConfig": {"MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": null}}));
    let own = own.unwrap().options;
    assert_eq!((own.masked_paths, own.readonly_paths), (Some(vec!["/proc/kcore".to_owned()]), None));
}
