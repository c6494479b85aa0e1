//! From a container's settings to the configuration of an image of it: as Docker's `commit` has it.

use super::CommitOptions;
use crate::containers::record::Settings;
use oci::image::{ContainerConfig, History};

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
