//! The flags of health checks.

use crate::values::duration;
use clap::Args;
use engine::{HealthAction, HealthOptions};

/// `--health-*`, `--no-healthcheck`.
#[derive(Args, Debug, Default)]
pub struct HealthFlags {
    /// Command to run to check health
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h) (default 30s)
    #[arg(long, value_name = "duration", value_parser = duration::parse, allow_hyphen_values = true)]
    health_interval: Option<i64>,
    /// What happens to a container that has become unhealthy: none, restart, kill or stop
    #[arg(long, value_name = "string", value_parser = action)]
    health_on_failure: Option<HealthAction>,
    /// Consecutive failures needed to report unhealthy (default 3)
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    health_retries: Option<i64>,
    /// Time between running the check during the start period (ms|s|m|h) (default 5s)
    #[arg(long, value_name = "duration", value_parser = duration::parse, allow_hyphen_values = true)]
    health_start_interval: Option<i64>,
    /// Start period in which failures do not count (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration::parse, allow_hyphen_values = true)]
    health_start_period: Option<i64>,
    /// Maximum time to allow one check to run (ms|s|m|h) (default 30s)
    #[arg(long, value_name = "duration", value_parser = duration::parse, allow_hyphen_values = true)]
    health_timeout: Option<i64>,
    /// Disable any HEALTHCHECK of the image
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthFlags {
    /// The engine's options.
    pub fn options(&self) -> HealthOptions {
        let command = self.health_cmd.as_ref().filter(|command| !command.is_empty());
        HealthOptions {
            disabled: self.no_healthcheck,
            test: command.map_or_else(Vec::new, |command| vec!["CMD-SHELL".into(), command.clone()]),
            interval: self.health_interval,
            timeout: self.health_timeout,
            start_period: self.health_start_period,
            start_interval: self.health_start_interval,
            retries: self.health_retries,
            on_failure: self.health_on_failure.unwrap_or_default(),
        }
    }
}

fn action(text: &str) -> Result<HealthAction, String> {
    match text {
        "" | "none" => Ok(HealthAction::None),
        "restart" => Ok(HealthAction::Restart),
        "kill" => Ok(HealthAction::Kill),
        "stop" => Ok(HealthAction::Stop),
        _ => Err("must be one of none, restart, kill or stop".into()),
    }
}
