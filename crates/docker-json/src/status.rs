//! A container's state in Docker's words: `Up 3 seconds`, `Exited (0) 5 seconds ago`.

use crate::elapsed;
use engine::containers::record::{Container, Status};
use jiff::Timestamp;

/// The column STATUS of `ps`.
pub fn sentence(container: &Container, now: Timestamp) -> String {
    let run = &container.run;
    match container.status {
        Status::Created => "Created".into(),
        Status::Removing => "Removal In Progress".into(),
        Status::Restarting => match elapsed::since(&run.finished_at, now) {
            Some(words) => format!("Restarting ({}) {words} ago", run.exit_code),
            None => format!("Restarting ({})", run.exit_code),
        },
        Status::Running => match &container.health {
            Some(health) => format!("Up {} ({})", up(&run.started_at, now), health_words(health.status)),
            None => format!("Up {}", up(&run.started_at, now)),
        },
        Status::Paused => format!("Up {} (Paused)", up(&run.started_at, now)),
        Status::Exited => match elapsed::since(&run.finished_at, now) {
            Some(words) => format!("Exited ({}) {words} ago", run.exit_code),
            None => format!("Exited ({})", run.exit_code),
        },
    }
}

fn health_words(status: engine::HealthStatus) -> &'static str {
    match status {
        engine::HealthStatus::Starting => "health: starting",
        engine::HealthStatus::Healthy => "healthy",
        engine::HealthStatus::Unhealthy => "unhealthy",
    }
}

fn up(started: &str, now: Timestamp) -> String {
    elapsed::since(started, now).unwrap_or_else(|| "Less than a second".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::container;

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
