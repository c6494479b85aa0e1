//! Checkpoints: a running container's processes in files, and back, by criu (crate `runtime`).
//!
//! One is a directory with criu's files and `config.json`, below the container's own or where the caller says. It is made
//! under another name and renamed when it is whole. Its files are of the processes alone: the container's layer, its
//! volumes and its network stay what they are.

use super::checkpoint_making::{self, Making};
use super::options::RestartPolicy;
use super::record::{Container, Settings, Status};
use super::start::{Started, Streams};
use super::state::Step;
use super::table::{self, Entry};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use runtime::CheckpointOptions;
use std::path::{Path, PathBuf};

/// What stays open in the processes, and whether they do.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckpointChoices {
    /// The container goes on afterwards.
    pub leave_running: bool,
    /// With established TCP connections.
    pub tcp_established: bool,
    /// With file locks.
    pub file_locks: bool,
}

impl CheckpointChoices {
    /// Whether criu itself has to end the processes: one that is killed later would close its connections first.
    pub(super) fn ended_by_criu(self) -> bool {
        self.tcp_established && !self.leave_running
    }
}

impl Engine {
    /// Writes a running container into a checkpoint; it has ended afterwards unless it is to go on.
    ///
    /// # Errors
    /// [`Kind::Conflict`] for one that does not run and for a name that is taken, criu's refusal: it runs on then.
    pub fn checkpoint(
        &self,
        wanted: &str,
        name: &str,
        directory: Option<&Path>,
        choices: CheckpointChoices,
    ) -> Result<()> {
        let container = self.ready(wanted, Step::Checkpoint)?;
        self.only_root("checkpoint")?;
        only_our_own(&container.settings, "checkpoint")?;
        let place = self.checkpoint_place(&container.id, name, directory)?;
        if place.exists() {
            let text = format!("checkpoint with name {name} already exists for container {}", container.name);
            return Err(Error::new(Kind::Conflict, text));
        }
        let failed = || format!("Cannot checkpoint container {wanted}");
        let making = Making::begin(&place, name)?;
        let entry = table::find(self.database()?.read(), &container.id)?;
        let options = CheckpointOptions {
            images: making.path().to_owned(),
            leave_running: !choices.ended_by_criu(),
            tcp_established: choices.tcp_established,
            file_locks: choices.file_locks,
            manage_cgroups: "ignore".to_owned(),
            ..CheckpointOptions::default()
        };
        let made = self.standing_still(&container, choices, || {
            self.write_checkpoint(&entry, &options)?;
            let about = serde_json::json!({
                "name": name, "created": crate::clock::now(),
                "tcpEstablished": choices.tcp_established, "fileLocks": choices.file_locks,
            });
            std::fs::write(making.path().join("config.json"), about.to_string()).internal(failed)?;
            making.finish(&place)
        });
        if let Err(error) = made {
            // The first error is the one to report.
            making.give_up();
            return Err(error);
        }
        self.record_of(&container.id, &container.name, &container.settings, "checkpoint", &[("name", name)]);
        self.end_checkpointed(&container, choices)
    }

    /// Does `work` while the container stands still, which goes on afterwards if it is to, or if that fails. Whoever is killed
    /// meanwhile leaves it paused, and not lost.
    pub(super) fn standing_still(
        &self,
        container: &Container,
        choices: CheckpointChoices,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if choices.ended_by_criu() || container.status != Status::Running {
            return work();
        }
        self.pause(&container.id)?;
        let made = work();
        if choices.leave_running || made.is_err() {
            // The first error is the one to report.
            let thawed = self.unpause(&container.id);
            return made.and(thawed);
        }
        made
    }

    /// The end of a container that is written, unless it is to go on.
    pub(super) fn end_checkpointed(&self, container: &Container, choices: CheckpointChoices) -> Result<()> {
        if choices.leave_running {
            return Ok(());
        }
        if choices.ended_by_criu() && container.settings.restart == RestartPolicy::No {
            return self.wait(&container.id).map(drop);
        }
        // It did not end by itself, and is not to be started again behind the caller's back.
        self.stop(&container.id, Some("KILL"), Some(0)).map(drop)
    }

    pub(super) fn write_checkpoint(&self, entry: &Entry, options: &CheckpointOptions) -> Result<()> {
        let mut spec = self.specification(entry)?;
        self.share(entry, &mut spec)?;
        let mut plan = self.runtime_plan(entry, &spec)?;
        let state = self.running_state(&entry.id)?;
        let path = crate::lower::cgroup_path(&entry.settings, &entry.id);
        if let Some(group) = crate::group::find(self.host()?, &path, state.as_ref())? {
            plan.cgroup = monitor::cgroup_directories(&group);
        }
        let pid = state.and_then(|state| rustix::process::Pid::from_raw(state.pid));
        let Some(pid) = pid else {
            return Err(Error::new(Kind::Conflict, format!("container {} is not running", entry.id)));
        };
        runtime::checkpoint(&plan, pid, options).internal(|| format!("Cannot checkpoint container {}", entry.name))
    }

    /// The names of a container's checkpoints.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for the container.
    pub fn checkpoints(&self, wanted: &str, directory: Option<&Path>) -> Result<Vec<String>> {
        let id = table::find(self.database()?.read(), wanted)?.id;
        let above = self.checkpoint_place(&id, "x", directory)?;
        let entries = crate::directories::entries(above.parent().unwrap_or(Path::new("/")))?;
        let whole = entries.into_iter().filter(|entry| entry.path().join("config.json").is_file());
        let names = whole.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        Ok(names)
    }

    /// Removes a checkpoint.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for the container or the checkpoint.
    pub fn remove_checkpoint(&self, wanted: &str, name: &str, directory: Option<&Path>) -> Result<()> {
        let place = self.known_checkpoint(wanted, name, directory)?;
        checkpoint_making::discard(&place, name)
    }

    /// Starts a container where a checkpoint of it left off.
    ///
    /// # Errors
    /// As [`Engine::start`]; [`Kind::NotFound`] for the checkpoint, criu's refusal.
    pub fn start_from(
        &self,
        wanted: &str,
        name: &str,
        directory: Option<&Path>,
        attach: Option<Streams>,
    ) -> Result<Started> {
        self.put_right();
        self.only_root("restore")?;
        only_our_own(&table::find(self.database()?.read(), wanted)?.settings, "restore")?;
        let images = self.known_checkpoint(wanted, name, directory)?;
        let about = std::fs::read(images.join("config.json")).internal(|| format!("cannot read checkpoint {name}"))?;
        let about: serde_json::Value = serde_json::from_slice(&about).unwrap_or_default();
        let said = |what: &str| about[what] == true;
        let program =
            runtime::criu_program().kind(Kind::Unavailable, || format!("cannot restore container {wanted}"))?;
        let files = CheckpointOptions {
            images,
            // The monitor that starts it does not have this process's $PATH.
            program: Some(program),
            tcp_established: said("tcpEstablished"),
            file_locks: said("fileLocks"),
            manage_cgroups: "ignore".to_owned(),
            ..CheckpointOptions::default()
        };
        self.start_with(wanted, attach, Some(files))
    }

    fn known_checkpoint(&self, wanted: &str, name: &str, directory: Option<&Path>) -> Result<PathBuf> {
        let entry = table::find(self.database()?.read(), wanted)?;
        let place = self.checkpoint_place(&entry.id, name, directory)?;
        if place.join("config.json").is_file() {
            return Ok(place);
        }
        Err(Error::new(Kind::NotFound, format!("checkpoint {name} does not exist for container {}", entry.name)))
    }

    fn checkpoint_place(&self, id: &str, name: &str, directory: Option<&Path>) -> Result<PathBuf> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if !name.starts_with(|first: char| first.is_ascii_alphanumeric())
            || !name.bytes().all(plain)
            || name.len() > 200
        {
            let text = format!("Invalid checkpoint ID ({name:?}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
            return Err(Error::new(Kind::InvalidArgument, text));
        }
        let above = match directory {
            Some(directory) => {
                std::path::absolute(directory).kind(Kind::InvalidArgument, || "--checkpoint-dir".into())?
            }
            None => self.directories().container(id).join("checkpoints"),
        };
        Ok(above.join(name))
    }

    /// criu restores ids, mounts and namespaces that only the machine's root may make.
    pub(super) fn only_root(&self, verb: &str) -> Result<()> {
        if self.host()?.user_namespace {
            let text = format!("{verb} needs root of the machine: criu cannot do it for an ordinary user's containers");
            return Err(Error::new(Kind::Unavailable, text));
        }
        Ok(())
    }
}

/// criu restores the mounts of a user namespace from within it, where the layers cannot be idmapped.
pub(super) fn only_our_own(settings: &Settings, verb: &str) -> Result<()> {
    let flag = match (&settings.id_maps, &settings.runtime) {
        (None, None) => return Ok(()),
        (Some(_), _) => format!("--userns {}", settings.userns_mode),
        (None, Some(runtime)) => format!("--runtime {}", runtime.name),
    };
    Err(Error::new(Kind::Unavailable, format!("{verb} is not supported for a container with {flag}")))
}
