//! A container's state in Docker's words: `Up 3 seconds`, `Exited (0) 5 seconds ago`.

use super::elapsed;
use engine::containers::record::{Container, Status};
use jiff::Timestamp;

/// The column STATUS of `ps`.
pub fn sentence(container: &Container, now: Timestamp) -> String {
    let run = &container.run;
    match container.status {
        Status::Created => "Created".into(),
        Status::Removing => "Removal In Progress".into(),
        Status::Running => format!("Up {}", up(&run.started_at, now)),
        Status::Paused => format!("Up {} (Paused)", up(&run.started_at, now)),
        Status::Exited => match elapsed::since(&run.finished_at, now) {
            Some(words) => format!("Exited ({}) {words} ago", run.exit_code),
            None => format!("Exited ({})", run.exit_code),
        },
    }
}

fn up(started: &str, now: Timestamp) -> String {
    elapsed::since(started, now).unwrap_or_else(|| "Less than a second".into())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use engine::containers::record::{Run, Settings};

    /// A container in a given state, for tests here and elsewhere.
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
            run: Run {
                pid: 42,
                started_at: "2026-01-02T11:59:57Z".into(),
                finished_at,
                exit_code: 3,
                ..Run::default()
            },
            address: None,
            networks: vec![],
            ports: vec![],
            directory: "/var/lib/dhow/containers/x".into(),
        }
    }

    #[test]
    fn table() {
        let now = "2026-01-02T12:00:00Z".parse().unwrap();
        for (status, text) in [
            (Status::Created, "Created"),
            (Status::Running, "Up 3 seconds"),
            (Status::Paused, "Up 3 seconds (Paused)"),
            (Status::Exited, "Exited (3) 5 seconds ago"),
            (Status::Removing, "Removal In Progress"),
        ] {
            assert_eq!(sentence(&container(status), now), text);
        }
    }
}
