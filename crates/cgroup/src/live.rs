//! The limits in force, read back from the kernel.

use crate::controller::Controller;
use crate::error::Result;
use crate::group::{Cgroup, Joined};
use crate::hierarchy::Version;
use crate::table::LIVE;
use rustix::fd::AsFd;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the kernel says now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// By directory, v2 first.
    pub groups: Vec<LiveGroup>,
}

/// One directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveGroup {
    /// Its version.
    pub version: Version,
    /// Its path.
    pub directory: PathBuf,
    /// The controllers that are in force in it.
    pub controllers: Vec<Controller>,
    /// Its files with limits.
    pub values: Vec<LiveValue>,
    /// Numbers of the BPF programs that decide about devices (v2); absent if the kernel does not tell this process.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device_programs: Option<Vec<u32>>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveValue {
    /// Its name.
    pub file: String,
    /// What is in it, without the last line end.
    pub value: String,
}

impl Cgroup {
    /// Reads every limit in force, for `xray`.
    ///
    /// # Errors
    /// A failed read other than "this kernel has no such file".
    pub fn limits(&self) -> Result<Limits> {
        let groups = self.joined.iter().map(|joined| self.live_group(joined)).collect::<Result<_>>()?;
        Ok(Limits { groups })
    }

    fn live_group(&self, joined: &Joined) -> Result<LiveGroup> {
        let directory = &joined.directory;
        let mount = &self.description.mounts[joined.mount];
        let controllers = match joined.version {
            Version::V1 => mount.controllers.clone(),
            Version::V2 => {
                let text = directory.read_if_there("cgroup.controllers")?.unwrap_or_default();
                text.split_ascii_whitespace().filter_map(Controller::from_v2_name).collect()
            }
        };
        let mut values = Vec::new();
        for (controller, v1, v2) in LIVE.iter().filter(|(controller, ..)| controllers.contains(controller)) {
            let files = if joined.version == Version::V1 { v1 } else { v2 };
            for file in *files {
                if let Some(text) = directory.read_if_there(file)? {
                    let value = text.trim_end().to_owned();
                    // Reading through here proves nothing about a file that is empty by design, such as io.max.
                    if !value.is_empty() || *controller == Controller::Cpuset {
                        values.push(LiveValue { file: (*file).to_owned(), value });
                    }
                }
            }
        }
        let device_programs = match joined.version {
            Version::V2 => kernel::bpf::device_programs(directory.as_fd()).ok(),
            Version::V1 => None,
        };
        Ok(LiveGroup {
            version: joined.version,
            directory: joined.path().to_owned(),
            controllers,
            values,
            device_programs,
        })
    }
}
