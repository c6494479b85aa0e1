//! `Healthcheck`: a test and its times, nanoseconds all.

use crate::failure::Failure;
use engine::HealthOptions;
use serde::Deserialize;

/// What was asked.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    test: Option<Vec<String>>,
    interval: Option<i64>,
    timeout: Option<i64>,
    start_period: Option<i64>,
    start_interval: Option<i64>,
    retries: Option<i64>,
}

impl Healthcheck {
    /// As an image's configuration has it.
    pub(super) fn of_image(self) -> Result<oci::image::Healthcheck, Failure> {
        let options = self.options()?;
        Ok(oci::image::Healthcheck {
            test: if options.disabled { vec!["NONE".into()] } else { options.test },
            interval: options.interval.unwrap_or(0),
            timeout: options.timeout.unwrap_or(0),
            start_period: options.start_period.unwrap_or(0),
            start_interval: options.start_interval.unwrap_or(0),
            retries: options.retries.unwrap_or(0),
        })
    }

    /// Zero means: as the image has it.
    pub(super) fn options(self) -> Result<HealthOptions, Failure> {
        let test = self.test.unwrap_or_default();
        let disabled = test.first().is_some_and(|word| word == "NONE");
        if test.first().is_some_and(|word| !matches!(word.as_str(), "NONE" | "CMD" | "CMD-SHELL" | "")) {
            return Err(Failure::bad(format!("invalid healthcheck: unknown type {:?} in Test", test[0])));
        }
        let test = if disabled || test.first().is_some_and(String::is_empty) { Vec::new() } else { test };
        let given = |number: Option<i64>| number.filter(|number| *number != 0);
        for (name, time) in [
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
        ] {
            if given(time).is_some_and(|time| time < 1_000_000) {
                return Err(Failure::bad(format!("{name} in Healthcheck cannot be less than 1ms")));
            }
        }
        if self.retries.is_some_and(|retries| retries < 0) {
            return Err(Failure::bad("Retries in Healthcheck cannot be negative"));
        }
        Ok(HealthOptions {
            disabled,
            test,
            interval: given(self.interval),
            timeout: given(self.timeout),
            start_period: given(self.start_period),
            start_interval: given(self.start_interval),
            retries: given(self.retries),
            ..HealthOptions::default()
        })
    }
}
