//! `list`, `state` and `ps`: what there is.

use rustix::process::Pid;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::groups;
use crate::kin::Kin;
use crate::record::Status;
use crate::store::{Container, Store};

/// One container, as `state` and `list` print it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Version of the specification.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// Its name.
    pub id: String,
    /// Its first process, 0 when that has ended.
    pub pid: i32,
    /// What it is doing.
    pub status: Status,
    /// Directory of the bundle.
    pub bundle: String,
    /// Directory of the root file system.
    pub rootfs: String,
    /// When it was made, as RFC 3339.
    pub created: String,
    /// Annotations of the configuration.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
    /// User id of who made it; the name is for the caller to find.
    pub owner: String,
}

impl Container {
    /// What there is to say about it.
    ///
    /// # Errors
    /// As [`Container::status`].
    pub fn describe(&self) -> Result<Listed> {
        let record = &self.record;
        let status = self.status()?;
        Ok(Listed {
            oci_version: match record.spec.oci_version.as_str() {
                "" => oci::runtime::VERSION.to_owned(),
                version => version.to_owned(),
            },
            id: record.id.clone(),
            pid: if status == Status::Stopped { 0 } else { record.init_process_pid },
            status,
            bundle: record.bundle.display().to_string(),
            rootfs: record.rootfs.display().to_string(),
            created: record.created.clone(),
            annotations: record.spec.annotations.clone(),
            owner: if record.owner == 0 { "root".to_owned() } else { format!("#{}", record.owner) },
        })
    }
}

/// All containers that can be looked at, by name.
///
/// # Errors
/// A state directory that cannot be read. One container that cannot be is left out, with its reason in the second list.
pub fn list(store: &Store) -> Result<(Vec<Listed>, Vec<String>)> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for name in store.names()? {
        match store.find(&name).and_then(|container| container.describe()) {
            Ok(listed) => found.push(listed),
            // Deleted in the meantime.
            Err(Error::Missing) => {}
            Err(error) => problems.push(format!("load container {name}: {}", error.chain())),
        }
    }
    Ok((found, problems))
}

/// The processes of a container; of one without a cgroup, those that can be found (`kin`).
///
/// # Errors
/// No such container.
pub fn processes(store: &Store, id: &str) -> Result<Vec<Pid>> {
    let container = store.find(id)?;
    match groups::open(&container.record)? {
        Some(group) => Ok(group.processes()?),
        None => Ok(Kin::of(&container)?.map(|kin| kin.processes()).unwrap_or_default()),
    }
}
