//! Published ports: `0.0.0.0:8080->80/tcp`.

pub use docker_json::with_protocol;
use engine::{Container, PublishedPort, Status};

/// The addresses on the host; a port published on all addresses has two.
pub fn host_sides(port: &PublishedPort) -> impl Iterator<Item = String> + use<> {
    let addresses = match port.host_ip.as_str() {
        "" => vec!["0.0.0.0".to_owned(), "[::]".to_owned()],
        address if address.contains(':') => vec![format!("[{address}]")],
        address => vec![address.to_owned()],
    };
    let number = port.host_port;
    addresses.into_iter().map(move |address| format!("{address}:{number}"))
}

/// The column PORTS of `ps`: published ports, then those that the image only names.
pub fn column(container: &Container) -> String {
    if !matches!(container.status, Status::Running | Status::Paused) {
        return String::new();
    }
    let published = &container.ports;
    let mut words: Vec<String> = published
        .iter()
        .flat_map(|port| host_sides(port).map(move |host| format!("{host}->{}/{}", port.container_port, port.protocol)))
        .collect();
    let named = published.iter().map(|port| format!("{}/{}", port.container_port, port.protocol)).collect::<Vec<_>>();
    let exposed = &container.settings.exposed_ports;
    words.extend(exposed.iter().map(|port| with_protocol(port)).filter(|port| !named.contains(port)));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use docker_json::sample::container;

    #[test]
    fn as_docker_lists_them() {
        let port = |host_ip: &str, host_port, container_port| PublishedPort {
            protocol: "tcp".into(),
            host_ip: host_ip.into(),
            host_port,
            container_port,
            ..PublishedPort::default()
        };
        let mut c = container(Status::Running);
        c.ports = vec![port("", 8080, 80), port("127.0.0.1", 8443, 443), port("::1", 1, 2)];
        c.settings.exposed_ports = vec!["80/tcp".into(), "6379".into()];
        assert_eq!(
            column(&c),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 127.0.0.1:8443->443/tcp, [::1]:1->2/tcp, 6379/tcp"
        );
        c.status = Status::Exited;
        assert_eq!(column(&c), "");
    }
}
