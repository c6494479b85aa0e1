//! From an OCI specification to what the monitor executes: the parts that depend on where things are.

use crate::containers::record::Container;
use crate::containers::table::Entry;
use crate::engine::Engine;
use crate::error::{Context, Kind, Result};
use oci::digest::Digest;
use oci::runtime::{Process, Spec};
use runtime::{ExecPlan, Plan, PlanOptions, RootSource};
use store::Writable;

/// The caller's supplementary groups, and those that devices bring.
fn groups(entry: &Entry, spec: &Spec) -> Vec<String> {
    let of_devices = spec.process.iter().flat_map(|process| &process.user.additional_gids);
    entry.settings.group_add.iter().cloned().chain(of_devices.map(ToString::to_string)).collect()
}

impl Engine {
    /// The plan of a container's start. Pure but for the paths of its layers.
    pub(crate) fn runtime_plan(&self, entry: &Entry, spec: &Spec) -> Result<Plan> {
        let host = self.host()?;
        let confinement = crate::lower::confinement(&entry.settings, host)?;
        let options = PlanOptions {
            id: entry.id.clone(),
            filter: confinement.filter.program(&entry.settings, host)?,
            bundle: self.directories().container(&entry.id),
            root: Some(self.root_source(entry)?),
            user: Some(entry.settings.user.clone()),
            additional_groups: groups(entry, spec),
            create_cwd: true,
            new_keyring: true,
            bind_mounts_keep_attributes: true,
            root_has_outside_ids: entry.settings.stored_shift().is_some(),
            oom_score_adj_is_a_wish: self.host()?.user_namespace,
            ..PlanOptions::default()
        };
        runtime::plan(spec, &options).kind(Kind::InvalidArgument, || "the container cannot be made as asked".into())
    }

    /// The layers under the container's own directory.
    pub(crate) fn root_source(&self, entry: &Entry) -> Result<RootSource> {
        let failed = || format!("cannot find the layers of container {}", entry.id);
        let store = self.store()?;
        let mut topmost_first = self.layer_digests(entry)?;
        topmost_first.reverse();
        let mut lower = match entry.settings.stored_shift() {
            None => store.layers().lower(&topmost_first),
            Some(shift) => store.layers().lower_shifted(&topmost_first, &shift),
        }
        .internal(failed)?;
        if lower.is_empty() {
            // overlayfs wants one lower directory at least.
            let empty = self.directories().data.join("empty");
            crate::directories::make(&empty, 0o755)?;
            lower.push(empty);
        }
        let writable = Writable::open(store, &entry.id).internal(failed)?;
        Ok(RootSource::Overlay {
            lower,
            upper: Some(writable.upper()),
            work: Some(writable.work()),
            userxattr: self.host()?.user_namespace,
            // What a container that goes with its end wrote need not outlive a power cut. A limited layer has a journal, and
            // the mark of such a mount could not be taken away from outside.
            volatile: entry.settings.auto_remove && !crate::quota::is_limited(&entry.settings),
        })
    }

    /// DiffIDs of the container's layers, lowest first.
    pub(crate) fn layer_digests(&self, entry: &Entry) -> Result<Vec<Digest>> {
        let layers = entry.settings.layers.iter().map(|text| text.parse());
        layers
            .collect::<std::result::Result<_, _>>()
            .kind(Kind::Corrupt, || format!("the record of container {} cannot be read", entry.id))
    }

    /// The plan of another program in a running container.
    pub(crate) fn exec_plan(
        &self,
        container: &Container,
        process: &Process,
        user: &str,
        privileged: bool,
    ) -> Result<ExecPlan> {
        let options = PlanOptions {
            id: container.id.clone(),
            bundle: container.directory.clone(),
            user: Some(user.to_owned()),
            additional_groups: container.settings.group_add.clone(),
            oom_score_adj_is_a_wish: true,
            ..PlanOptions::default()
        };
        let host = self.host()?;
        let filter = match privileged {
            true => None,
            false => crate::lower::confinement(&container.settings, host)?.filter.program(&container.settings, host)?,
        };
        let process = runtime::plan_process(process, &options, filter)
            .kind(Kind::InvalidArgument, || "the program cannot be executed as asked".into())?;
        Ok(ExecPlan {
            process,
            cgroup: runtime::CgroupPlan::default(),
            keyring: Some(format!("_ses.{}", container.id)),
            no_other_cgroup: false,
            own_namespaces: Vec::new(),
            in_foreign_mounts: false,
        })
    }
}
