//! From a container's settings to the configuration of an image of it: as Docker's `commit` has it.

use super::{CommitOptions, ConfigParts, instructions};
use crate::containers::record::Settings;
use crate::error::Result;
use oci::image::{ContainerConfig, Healthcheck, History};

/// Puts what the container was run with over what its image says.
pub(super) fn of_container(config: &mut ContainerConfig, settings: &Settings) {
    config.env.clone_from(&settings.env);
    config.user.clone_from(&settings.user);
    config.working_dir.clone_from(&settings.working_directory);
    config.entrypoint = (!settings.entrypoint.is_empty()).then(|| settings.entrypoint.clone());
    config.cmd = (!settings.command.is_empty()).then(|| settings.command.clone());
    config.labels = settings.labels.clone();
    config.stop_signal.clone_from(&settings.stop_signal);
    config.exposed_ports.extend(settings.exposed_ports.iter().cloned());
    config.exposed_ports.extend(settings.ports.iter().map(|port| format!("{}/{}", port.container_port, port.protocol)));
    config.volumes = settings.volumes.iter().cloned().collect();
    config.healthcheck.clone_from(&settings.health);
}

/// Puts what was asked for over what the container has.
///
/// # Errors
/// For an instruction that cannot wait for a build.
pub(super) fn apply(config: &mut ContainerConfig, parts: &ConfigParts) -> Result<()> {
    for (key, value) in &parts.env {
        instructions::set_variable(config, key, value);
    }
    config.labels.extend(parts.labels.clone());
    if let Some(check) = &parts.healthcheck {
        config.healthcheck = Some(over(check.clone(), config.healthcheck.as_ref()));
    }
    if !parts.on_build.is_empty() {
        config.on_build.clear();
        parts.on_build.iter().try_for_each(|text| instructions::on_build(config, text))?;
    }
    if !parts.shell.is_empty() {
        config.shell.clone_from(&parts.shell);
    }
    config.args_escaped |= parts.args_escaped;
    Ok(())
}

/// A check with what it leaves open from another.
pub(super) fn over(mut check: Healthcheck, below: Option<&Healthcheck>) -> Healthcheck {
    let Some(below) = below else { return check };
    if check.test.is_empty() {
        check.test.clone_from(&below.test);
    }
    for (time, other) in [
        (&mut check.interval, below.interval),
        (&mut check.timeout, below.timeout),
        (&mut check.start_period, below.start_period),
        (&mut check.start_interval, below.start_interval),
        (&mut check.retries, below.retries),
    ] {
        if *time == 0 {
            *time = other;
        }
    }
    check
}

/// The line of the image's history.
pub(super) fn step(settings: &Settings, options: &CommitOptions) -> History {
    History {
        created: String::new(),
        created_by: settings.command.join(" "),
        author: options.author.clone(),
        comment: options.message.clone(),
        empty_layer: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stands_above_what_the_container_has() {
        let check = Healthcheck { test: vec!["CMD".into(), "old".into()], interval: 7, ..Healthcheck::default() };
        let settings = Settings { env: vec!["A=1".into()], health: Some(check), ..Settings::default() };
        let mut config = ContainerConfig { on_build: vec!["RUN old".into()], ..ContainerConfig::default() };
        of_container(&mut config, &settings);
        assert_eq!(config.healthcheck, settings.health);
        let parts = ConfigParts {
            env: vec![("A".into(), "two\nlines".into())],
            labels: [("k".to_owned(), "v".to_owned())].into(),
            healthcheck: Some(Healthcheck { retries: 3, ..Healthcheck::default() }),
            on_build: vec!["RUN a".into(), "RUN b".into()],
            shell: vec!["/bin/ash".into(), "-c".into()],
            args_escaped: false,
        };
        apply(&mut config, &parts).unwrap();
        assert_eq!((config.env[0].as_str(), config.labels["k"].as_str()), ("A=two\nlines", "v"));
        let check = config.healthcheck.clone().unwrap();
        assert_eq!((check.test[1].as_str(), check.interval, check.retries), ("old", 7, 3));
        assert_eq!((&config.on_build, &config.shell), (&parts.on_build, &parts.shell));
        let before = config.clone();
        apply(&mut config, &ConfigParts::default()).unwrap();
        assert_eq!(config, before);
        let wrong = ConfigParts { on_build: vec!["FROM a".into()], ..ConfigParts::default() };
        assert!(apply(&mut config, &wrong).is_err());
    }
}
