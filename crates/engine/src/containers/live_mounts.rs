//! Mounts that are given to a container, or taken from it, also while it runs.
//!
//! Order, and what a kill leaves. Adding: the volumes, the record, then the mount; a kill before the last leaves a mount that
//! `inspect` shows and the next start makes. Removing: the mount, then the record; a kill in between leaves one that the same
//! command removes. Docker has neither.

use super::options::{Mount, MountSource};
use super::record::Settings;
use super::table::{self, Entry};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use kernel::namespaces::{self, Namespaces};
use runtime::MountPlan;
use rustix::process::Pid;
use std::os::fd::{AsFd, OwnedFd};

impl Engine {
    /// Mounts something in a container, at once if it runs, and from now on with every start.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when the container has a mount there; what `create` refuses; the kernel's refusal, and then nothing is
    /// changed.
    pub fn add_mount(&self, wanted: &str, mount: &Mount) -> Result<()> {
        self.put_right();
        let entry = table::find(self.database()?.read(), wanted)?;
        super::settle::check_target(&mount.target, entry.settings.privileged)?;
        if entry.settings.id_maps.is_some() && self.running_state(&entry.id)?.is_some() {
            let mode = &entry.settings.userns_mode;
            let text = format!("a mount cannot be added to a running container with --userns {mode}");
            return Err(Error::new(Kind::Unavailable, text).hint("stop it, add the mount, and start it again"));
        }
        let mut mount = mount.clone();
        self.settle_mount(&mut mount)?;
        not_there(&entry.settings, &mount)?;
        let alone = Entry { settings: Settings { mounts: vec![mount.clone()], ..entry.settings.clone() }, ..entry };
        self.make_missing_sources(&alone.settings)?;
        self.ensure_named_volumes(&alone.settings)?;
        // What is wrong with it is found before anything is recorded.
        let plan = self.live_plan(&alone)?;
        self.database()?.write(|t| {
            self.record_mounts(t, &alone.id, &alone.settings)?;
            table::change_settings_in(t, &alone.id, |stored| {
                not_there(stored, &mount)?;
                stored.mounts.push(mount.clone());
                Ok(())
            })
        })?;
        let made = self.prepare_volumes(&alone, true).and_then(|()| match self.mounts_of_running(&alone.id)? {
            Some(container) => mount_now(&plan, &container, &mount.target),
            None => Ok(()),
        });
        if let Err(error) = made {
            // The first error is the one to report; what stays recorded, `inspect` shows.
            self.forget_mount(&alone.id, &mount.target).unwrap_or_default();
            return Err(error);
        }
        self.record_of(&alone.id, &alone.name, &alone.settings, "update", &[]);
        Ok(())
    }

    /// Takes a mount from a container, at once if it runs. A volume stays, as one without users.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when it has no mount there; the kernel's refusal.
    pub fn remove_mount(&self, wanted: &str, target: &str) -> Result<()> {
        self.put_right();
        let entry = table::find(self.database()?.read(), wanted)?;
        if !entry.settings.mounts.iter().any(|mount| same(&mount.target, target)) {
            return Err(Error::new(Kind::NotFound, format!("container {wanted} has no mount on {target}"))
                .hint(format!("`dhow inspect {wanted}` lists its mounts")));
        }
        if let Some(container) = self.mounts_of_running(&entry.id)? {
            crate::view::isolated(|| {
                // One that a kill has kept from being made is not there.
                runtime::live::detach(target, container.as_fd())
                    .map(drop)
                    .internal(|| format!("cannot unmount {target} of container {wanted}"))
            })?;
        }
        self.forget_mount(&entry.id, target)?;
        self.record_of(&entry.id, &entry.name, &entry.settings, "update", &[]);
        Ok(())
    }

    /// The plan of the only mount that an entry has.
    fn live_plan(&self, alone: &Entry) -> Result<MountPlan> {
        let spec = self.specification(alone)?;
        if let Some(label) = spec.linux.as_ref().and_then(|linux| linux.mount_label.as_deref()) {
            crate::relabel::apply(&alone.settings, label, &self.directories().container(&alone.id))?;
        }
        // What the caller asks for comes after what every container has.
        self.runtime_plan(alone, &spec)?
            .mounts
            .pop()
            .ok_or_else(|| Error::new(Kind::Internal, "the plan of a mount has no mount"))
    }

    /// The mount namespace of a container that runs.
    fn mounts_of_running(&self, id: &str) -> Result<Option<OwnedFd>> {
        let Some(state) = self.running_state(id)? else { return Ok(None) };
        let Some(pid) = Pid::from_raw(state.pid.max(0)) else { return Ok(None) };
        let opened = namespaces::open(pid, Namespaces::MOUNT);
        // Asked after it was opened: now it is that of the process with this start time.
        if monitor::process_start_time(state.pid) != Some(state.pid_start_time) {
            return Ok(None);
        }
        opened.map(Some).internal(|| format!("cannot find the mounts of container {id}"))
    }

    fn forget_mount(&self, id: &str, target: &str) -> Result<()> {
        self.database()?.write(|t| {
            let mut gone = None;
            let mut left = Settings::default();
            table::change_settings_in(t, id, |stored| {
                let position = stored.mounts.iter().position(|mount| same(&mount.target, target));
                gone = position.map(|position| stored.mounts.remove(position));
                left.mounts.clone_from(&stored.mounts);
                Ok(())
            })?;
            match gone.map(|mount| mount.source) {
                Some(MountSource::Volume(volume)) => {
                    let same = |mount: &Mount| matches!(&mount.source, MountSource::Volume(other) if other.name == volume.name);
                    match left.mounts.iter().any(same) {
                        true => Ok(()),
                        false => crate::volumes::table::remove_use(t, &volume.name, id),
                    }
                }
                Some(MountSource::Image(image)) => {
                    let same = |mount: &Mount| matches!(&mount.source, MountSource::Image(other) if other.id == image.id);
                    match left.mounts.iter().any(same) {
                        true => Ok(()),
                        false => crate::volumes::table::remove_image_mount(t, &image.id, id),
                    }
                }
                _ => Ok(()),
            }
        })
    }
}

fn mount_now(plan: &MountPlan, container: &OwnedFd, target: &str) -> Result<()> {
    crate::view::isolated(|| {
        runtime::live::tree(plan)
            .and_then(|tree| runtime::live::attach(plan, tree, container.as_fd()))
            .internal(|| format!("cannot mount on {target}"))
    })
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

fn not_there(settings: &Settings, mount: &Mount) -> Result<()> {
    match settings.mounts.iter().any(|other| same(&other.target, &mount.target)) {
        true => Err(Error::new(Kind::Conflict, format!("Duplicate mount point: {}", mount.target))
            .hint("remove that mount first, with --mount-rm")),
        false => Ok(()),
    }
}
