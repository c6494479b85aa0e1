//! Containers for the tests of whoever prints one.

use engine::containers::record::{Run, Settings};
use engine::{Container, Endpoint, Mount, MountSource, Place, PublishedPort, Status};

/// A container in a given state.
pub fn container(status: Status) -> Container {
    let finished_at = match status {
        Status::Exited => "2026-01-02T11:59:55Z".to_owned(),
        _ => String::new(),
    };
    Container {
        id: "0123456789abcdef".repeat(4),
        name: "brave_otter".into(),
        created_at: "2026-01-02T11:58:00Z".into(),
        settings: Settings {
            image_name: "redis:7".into(),
            image_id: format!("sha256:{}", "ab".repeat(32)),
            entrypoint: vec!["docker-entrypoint.sh".into()],
            command: vec!["redis-server".into(), "--save".into()],
            ..Settings::default()
        },
        status,
        run: Run { pid: 42, started_at: "2026-01-02T11:59:57Z".into(), finished_at, exit_code: 3, ..Run::default() },
        address: None,
        networks: vec![],
        ports: vec![],
        health: None,
        directory: "/var/lib/dhow/containers/x".into(),
    }
}

/// One with an address, ports, mounts and devices.
pub fn running() -> Container {
    let mut c = container(Status::Running);
    c.networks = vec![Endpoint {
        network: "bridge".into(),
        place: Some(Place {
            ipv4: "172.17.0.2/16".parse().ok(),
            gateway4: "172.17.0.1".parse().ok(),
            mac: "02:42:ac:11:00:02".into(),
            ..Place::default()
        }),
        ..Endpoint::default()
    }];
    let port = PublishedPort { protocol: "tcp".into(), host_port: 8080, container_port: 80, ..Default::default() };
    c.settings.ports = vec![port.clone()];
    c.ports = vec![port];
    c.settings.exposed_ports = vec!["6379/tcp".into()];
    c.settings.labels = [("a".to_owned(), "1".to_owned())].into();
    c.settings.mounts = vec![
        Mount {
            source: MountSource::Bind {
                path: "/a".into(),
                create: true,
                propagation: None,
                recursive: true,
                below: engine::Below::ReadOnly,
                id_map: false,
            },
            target: "/b".into(),
            read_only: true,
            relabel: Some('z'),
        },
        Mount {
            source: MountSource::Tmpfs { size: Some(64), mode: Some(0o1777), options: vec![] },
            target: "/t".into(),
            read_only: false,
            relabel: None,
        },
    ];
    c.settings.devices = vec!["/dev/fuse".into(), "/dev/a:r".into(), "/dev/a:/dev/b:rw".into()];
    c
}
