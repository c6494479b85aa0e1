//! From what the image and the caller say of health checks to what the monitor does.

use super::exec::ExecOptions;
use super::list::with_status;
use super::options::{HealthAction, HealthOptions};
use super::record::Status;
use super::table::Entry;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use monitor::{HealthPlan, OnFailure};
use oci::image::Healthcheck;
use std::time::Duration;

/// Docker's default between two checks, and for one.
const INTERVAL: Duration = Duration::from_secs(30);
/// Docker's default between two checks during the start period.
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// Docker takes no shorter time: a check each few microseconds would be all that the machine does.
const SHORTEST: i64 = 1_000_000;

/// The caller's words over the image's. `None`: nobody said anything.
pub(super) fn settle(own: &HealthOptions, image: Option<&Healthcheck>) -> Result<Option<Healthcheck>> {
    let invalid = |message: &str| Err(Error::new(Kind::InvalidArgument, message.to_owned()));
    let times = [
        ("interval", own.interval),
        ("timeout", own.timeout),
        ("start-period", own.start_period),
        ("start-interval", own.start_interval),
    ];
    if own.disabled {
        if !own.test.is_empty() || own.retries.is_some() || times.iter().any(|(_, time)| time.is_some()) {
            return invalid("--no-healthcheck conflicts with --health-* options");
        }
        return Ok(Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() }));
    }
    for (name, time) in times {
        match time {
            Some(time) if time < 0 => return invalid(&format!("--health-{name} cannot be negative")),
            Some(time) if time > 0 && time < SHORTEST => {
                return invalid(&format!("--health-{name} cannot be less than 1ms"));
            }
            _ => {}
        }
    }
    if own.retries.is_some_and(|retries| retries < 0) {
        return invalid("--health-retries cannot be negative");
    }
    let mut result = image.cloned().unwrap_or_default();
    if !own.test.is_empty() {
        result.test.clone_from(&own.test);
    }
    for (place, value) in [
        (&mut result.interval, own.interval),
        (&mut result.timeout, own.timeout),
        (&mut result.start_period, own.start_period),
        (&mut result.start_interval, own.start_interval),
        (&mut result.retries, own.retries),
    ] {
        if let Some(value) = value.filter(|&value| value != 0) {
            *place = value;
        }
    }
    let known = matches!(result.test.first().map(String::as_str), None | Some("NONE" | "CMD" | "CMD-SHELL"));
    if !known && own.test.is_empty() {
        // An image's own mistake must not keep it from running.
        result.test.clear();
    } else if !known {
        return invalid(&format!("unknown type of health check {:?}: use CMD or CMD-SHELL", result.test[0]));
    }
    Ok((result != Healthcheck::default()).then_some(result))
}

/// What is executed; `None` where nothing is.
fn command(check: &Healthcheck) -> Option<Vec<String>> {
    let (kind, rest) = check.test.split_first()?;
    match kind.as_str() {
        "CMD" if !rest.is_empty() => Some(rest.to_vec()),
        "CMD-SHELL" => Some(vec!["/bin/sh".into(), "-c".into(), rest.first()?.clone()]),
        _ => None,
    }
}

fn time(nanoseconds: i64, default: Duration) -> Duration {
    u64::try_from(nanoseconds).ok().filter(|&time| time > 0).map_or(default, Duration::from_nanos)
}

impl Engine {
    /// The checks of a container, for its monitor.
    pub(super) fn health_plan(&self, entry: &Entry) -> Result<Option<HealthPlan>> {
        let Some(check) = &entry.settings.health else { return Ok(None) };
        let Some(command) = command(check) else { return Ok(None) };
        let text = command.join(" ");
        let options = ExecOptions { command, ..ExecOptions::default() };
        let process = crate::lower::exec_process(&entry.settings, &options, self.host()?)?;
        let container = with_status(self, entry.clone(), Status::Created);
        let process = self.exec_launch(&container, process, &entry.settings.user, false)?;
        Ok(Some(HealthPlan {
            process,
            command: text,
            interval: time(check.interval, INTERVAL),
            timeout: time(check.timeout, INTERVAL),
            start_period: time(check.start_period, Duration::ZERO),
            start_interval: time(check.start_interval, START_INTERVAL),
            retries: u32::try_from(if check.retries > 0 { check.retries } else { RETRIES }).unwrap_or(u32::MAX),
            on_failure: match entry.settings.health_on_failure {
                HealthAction::None => OnFailure::None,
                HealthAction::Restart => OnFailure::Restart,
                HealthAction::Kill => OnFailure::Kill,
                HealthAction::Stop => OnFailure::Stop,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_over_the_image() {
        let image = Healthcheck { test: vec!["CMD".into(), "true".into()], interval: 7, ..Healthcheck::default() };
        let own = HealthOptions { retries: Some(5), timeout: Some(2_000_000), ..HealthOptions::default() };
        let result = settle(&own, Some(&image)).unwrap().unwrap();
        assert_eq!((result.interval, result.timeout, result.retries), (7, 2_000_000, 5));
        assert_eq!(command(&result).unwrap(), ["true"]);
        let none = HealthOptions { disabled: true, ..HealthOptions::default() };
        assert_eq!(command(&settle(&none, Some(&image)).unwrap().unwrap()), None);
        let shell = HealthOptions { test: vec!["CMD-SHELL".into(), "a b".into()], ..HealthOptions::default() };
        assert_eq!(command(&settle(&shell, None).unwrap().unwrap()).unwrap(), ["/bin/sh", "-c", "a b"]);
        assert_eq!(settle(&HealthOptions::default(), None).unwrap(), None);
        let bad = HealthOptions { disabled: true, retries: Some(1), ..HealthOptions::default() };
        assert!(settle(&bad, None).is_err());
        assert!(settle(&HealthOptions { interval: Some(5), ..HealthOptions::default() }, None).is_err());
        assert!(settle(&HealthOptions { test: vec!["FOO".into()], ..HealthOptions::default() }, None).is_err());
    }
}
