//! Making a container: nothing runs yet.
//!
//! Order, and what a kill at each point leaves: the run directory with its lock (found and removed by the next
//! [`crate::sweep`]); the row in the database (removed by the sweep when the container was to go after its run, otherwise
//! it is a created container whose directories are made at its start); the directories.

use super::options::{MountSource, NetworkMode, Options};
use super::record::Settings;
use super::settle::settle;
use super::table::{self, Entry};
use super::{lock, names_for};
use crate::engine::Engine;
use crate::error::{Context, Result};
use crate::images::PullProgress;
use crate::lower::{self, Place};
use crate::names;
use crate::networks::{Endpoint, Network, NetworkRequest};
use std::os::fd::OwnedFd;
use store::Writable;

/// A container that was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What the user should know, a sentence each.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Makes a container that can be started later.
    pub fn create(&self, options: &Options, progress: &mut dyn PullProgress) -> Result<Created> {
        let (entry, _lock) = self.create_held(options, progress)?;
        lock::release(self.directories(), &entry.id)?;
        // A machine that cannot be asked says it at the start.
        let mounts = cgroup::Hierarchy::detect().map(|hierarchy| hierarchy.mounts().to_vec()).unwrap_or_default();
        Ok(Created { warnings: foreseen(&entry.settings, &mounts), id: entry.id })
    }

    /// Makes a container and keeps hold of it.
    pub(crate) fn create_held(&self, options: &Options, progress: &mut dyn PullProgress) -> Result<(Entry, OwnedFd)> {
        self.put_right();
        let settings = self.settings(options, progress)?;
        self.ensure_named_volumes(&settings)?;
        let mut entry = self.new_entry(settings)?;
        let lock = lock::claim_new(self.directories(), &entry.id)?;
        if let Err(error) = self.record(&mut entry, options.name.as_deref()) {
            // Nothing else was made. What cannot be taken back now is found by the next sweep.
            drop(lock::release(self.directories(), &entry.id));
            return Err(error);
        }
        if let Err(error) = self.make_directories(&entry) {
            self.undo_creation(&entry.id);
            return Err(error);
        }
        self.record_of(&entry.id, &entry.name, &entry.settings, "create", &[]);
        Ok((entry, lock))
    }

    /// What `run --dry-run` prints: nothing is made.
    pub fn plan(&self, options: &Options, progress: &mut dyn PullProgress) -> Result<serde_json::Value> {
        let settings = self.settings(options, progress)?;
        let name = options.name.as_deref().map(names::bare).unwrap_or_default().to_owned();
        let entry = Entry { name, ..fresh("0".repeat(64), settings, Vec::new()) };
        let mut spec = self.specification(&entry)?;
        let plan = self.runtime_plan(&entry, &spec)?;
        if let Some(linux) = &mut spec.linux {
            // The plan has the compiled program; a reader wants the document.
            let confinement = lower::confinement(&entry.settings, self.host()?)?;
            linux.seccomp = confinement.filter.document(&entry.settings, self.host()?)?;
        }
        let value = |v: serde_json::Result<serde_json::Value>| v.internal(|| "cannot print the plan".into());
        Ok(serde_json::json!({
            "settings": value(serde_json::to_value(&entry.settings))?,
            "specification": value(serde_json::to_value(&spec))?,
            "plan": value(serde_json::to_value(&plan))?,
        }))
    }

    fn settings(&self, options: &Options, progress: &mut dyn PullProgress) -> Result<Settings> {
        if let Some(name) = &options.name {
            names::check(names::bare(name))?;
        }
        let image = self.image_for(options, progress)?;
        let mut settings = settle(options, &image)?;
        self.check_limit(&settings)?;
        self.settle_sharing(&mut settings)?;
        self.settle_users(&mut settings, options)?;
        settings.mounts = self.all_mounts(options, &image)?;
        super::settle::follow_the_host(&mut settings.mounts, &self.directories().data)?;
        self.settle_runtime(&mut settings, options)?;
        settings.secrets = self.settle_secrets(&options.secrets)?;
        for mount in &settings.mounts {
            // As Docker has it, `-v /path` is a volume of the configuration, which an image of the container keeps.
            if matches!(&mount.source, MountSource::Volume(volume) if volume.anonymous)
                && !settings.volumes.contains(&mount.target)
            {
                settings.volumes.push(mount.target.clone());
            }
        }
        if let NetworkMode::Container(wanted) = &settings.network {
            let owner = table::find(self.database()?.read(), wanted)?;
            settings.hostname = owner.settings.hostname;
            settings.network = NetworkMode::Container(owner.id);
        }
        Ok(settings)
    }

    /// A container with an identifier of its own, of which nothing is made yet. It gets its name when it is recorded.
    pub(super) fn new_entry(&self, settings: Settings) -> Result<Entry> {
        let endpoints = self.endpoints(&settings)?;
        self.check_links(&endpoints)?;
        let entry = fresh(names::identifier()?, settings, endpoints);
        // Lowering finds what is wrong with the request before anything is made.
        self.specification(&entry)?;
        Ok(entry)
    }

    /// The networks of a container that is being made.
    fn endpoints(&self, settings: &Settings) -> Result<Vec<Endpoint>> {
        let found = self.networks_for(&settings.network, &settings.networks)?;
        let endpoint = |(network, request): (Network, NetworkRequest)| Endpoint {
            network: network.name,
            network_id: network.id,
            request,
            place: None,
        };
        Ok(found.into_iter().map(endpoint).collect())
    }

    pub(crate) fn specification(&self, entry: &Entry) -> Result<oci::runtime::Spec> {
        let directory = self.directories().container(&entry.id);
        // Another container's network comes with the files that describe it.
        let (files, network) = match &entry.settings.network {
            NetworkMode::Container(id) => (self.directories().container(id), Some(self.network_namespace(id)?)),
            _ => (directory, None),
        };
        let program = self.program_for_containers()?;
        let sources = self.mount_sources(&entry.settings)?;
        let place = Place { id: &entry.id, directory: &files, program: &program, sources: &sources, network };
        lower::specification(&entry.settings, self.host()?, &place)
    }

    /// The file of a container's network namespace; of one that does not run, where it would be.
    fn network_namespace(&self, id: &str) -> Result<std::path::PathBuf> {
        let pid = self.running_state(id)?.map_or(0, |state| state.pid);
        Ok(format!("/proc/{pid}/ns/net").into())
    }

    fn record(&self, entry: &mut Entry, name: Option<&str>) -> Result<()> {
        self.record_with(entry, name, |_| Ok(()))
    }

    /// Records a container, and with it what `first` does.
    pub(super) fn record_with(
        &self,
        entry: &mut Entry,
        name: Option<&str>,
        first: impl Fn(&rusqlite::Transaction<'_>) -> Result<()>,
    ) -> Result<()> {
        self.database()?.write(|t| {
            first(t)?;
            // The image may have gone since it was looked up.
            self.check_image_exists(t, &entry.settings)?;
            self.claim_ranges(t, &mut entry.settings)?;
            for attempt in 0.. {
                entry.name = names_for(name, attempt)?;
                match table::insert(t, entry) {
                    Err(error) if name.is_none() && error.kind() == crate::Kind::Conflict && attempt < 20 => {}
                    result => {
                        result?;
                        self.record_secrets(t, &entry.id, &entry.settings)?;
                        return self.record_mounts(t, &entry.id, &entry.settings);
                    }
                }
            }
            Ok(())
        })
    }

    fn check_image_exists(&self, transaction: &rusqlite::Transaction<'_>, settings: &Settings) -> Result<()> {
        if settings.image_id == crate::hello::ID || crate::images::table::exists(transaction, &settings.image_id)? {
            return Ok(());
        }
        Err(crate::images::no_such_image(&settings.image_name))
    }

    /// The container's directories; those that exist stay as they are.
    pub(crate) fn make_directories(&self, entry: &Entry) -> Result<()> {
        self.make_missing_sources(&entry.settings)?;
        crate::directories::make(&self.directories().container(&entry.id), 0o711)?;
        let writable = Writable::open(self.store()?, &entry.id).internal(|| cannot_make(entry))?;
        self.make_shifted_layers(&entry.settings)?;
        self.merge_layers(&entry.settings)?;
        // Only with the container's own directories, as what it emptied later must stay so.
        self.prepare_volumes(entry, !writable.is_made())?;
        self.make_writable(entry)
    }

    /// What the container writes to, unless it is there.
    pub(super) fn make_writable(&self, entry: &Entry) -> Result<()> {
        let failed = || cannot_make(entry);
        if Writable::open(self.store()?, &entry.id).internal(failed)?.is_made() {
            return Ok(());
        }
        let mut layers = self.layer_digests(entry)?;
        layers.reverse();
        match crate::quota::limit(&entry.settings)? {
            None => {
                let additions = crate::users::additions(&entry.settings);
                self.writable_of(entry)?.make(&layers, &additions).internal(failed)
            }
            Some(size) => Writable::create_limited(self.store()?, &entry.id, &layers, size).internal(failed).map(drop),
        }
    }

    /// Docker: `-v` makes a directory of the host that is missing, `--mount` refuses it.
    pub(crate) fn make_missing_sources(&self, settings: &Settings) -> Result<()> {
        for mount in &settings.mounts {
            if let MountSource::Bind { path, create: true, .. } = &mount.source
                && std::fs::symlink_metadata(path).is_err()
            {
                crate::directories::make(std::path::Path::new(path), 0o755)?;
            }
        }
        Ok(())
    }

    /// Takes back what a failed creation made. What cannot be taken back now is found by the next sweep.
    fn undo_creation(&self, id: &str) {
        if self.forget(id, true).is_ok() && self.remove_directories(id).is_ok() {
            // The directory stays for the sweep if this fails, and the caller reports the first error.
            lock::release(self.directories(), id).unwrap_or_default();
        }
    }
}

fn cannot_make(entry: &Entry) -> String {
    format!("cannot make the directories of container {}", entry.id)
}

/// What will not be in force when the container runs, as far as it can be told before.
fn foreseen(settings: &Settings, mounts: &[cgroup::Mount]) -> Vec<String> {
    let swap = settings.limits.memory.is_some() || settings.limits.memory_swap.is_some();
    let accounts = |mount: &cgroup::Mount| {
        mount.version != cgroup::Version::V1
            || !mount.controllers.contains(&cgroup::Controller::Memory)
            || mount.mount_point.join("memory.memsw.limit_in_bytes").exists()
    };
    match swap && !mounts.iter().all(accounts) {
        true => vec!["the limit memory.swap is not in force: this kernel does not account for swap".to_owned()],
        false => Vec::new(),
    }
}

/// A container as it is before it is recorded.
fn fresh(id: String, settings: Settings, endpoints: Vec<Endpoint>) -> Entry {
    Entry {
        name: String::new(),
        created_at: crate::clock::now(),
        settings: with_identity(settings, &id),
        run: None,
        endpoints,
        published: None,
        id,
    }
}

/// A container's host name is the beginning of its identifier unless somebody chose one; with the host's network, the host's.
fn with_identity(mut settings: Settings, id: &str) -> Settings {
    if settings.hostname.is_empty() {
        let shared = settings.network == crate::NetworkMode::Host;
        let own = || id.get(..12).unwrap_or(id).to_owned();
        settings.hostname = if shared {
            rustix::system::uname().nodename().to_str().map_or_else(|_| own(), str::to_owned)
        } else {
            own()
        };
    }
    settings.selinux_level = crate::lower::selinux_level(id);
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_swap_accounting_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let mount = cgroup::Mount {
            version: cgroup::Version::V1,
            controllers: vec![cgroup::Controller::Memory],
            name: None,
            mount_point: directory.path().to_owned(),
            above: String::new(),
        };
        let mut settings = Settings::default();
        assert!(foreseen(&settings, std::slice::from_ref(&mount)).is_empty());
        settings.limits.memory = Some(1 << 20);
        assert_eq!(foreseen(&settings, std::slice::from_ref(&mount)).len(), 1);
        std::fs::write(directory.path().join("memory.memsw.limit_in_bytes"), "").unwrap();
        assert!(foreseen(&settings, &[mount]).is_empty());
    }
}
