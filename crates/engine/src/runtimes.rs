//! OCI runtimes of others, that make containers in place of our own: `--runtime`.
//!
//! Names are in `runtimes.json` in the data root, and in Docker's `daemon.json` under `runtimes`, both in Docker's form. A
//! container keeps what its runtime's name meant when it was made.

use crate::containers::options::Options;
use crate::containers::record::Settings;
use crate::containers::table::Entry;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use monitor::{ExternalLaunch, ExternalRuntime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Our own, which needs no program but this one.
pub const OWN: &str = "dhow";

/// Names that Docker's users write for want of another: its default. Unless they are configured they mean our own.
pub const DEFAULTS: [&str; 2] = ["runc", "io.containerd.runc.v2"];

/// Runtimes that are found by their name where nobody has configured them, as in Podman.
const KNOWN: [&str; 6] = ["crun", "kata-runtime", "krun", "ocijail", "runsc", "youki"];

/// Where they are looked for.
const DIRECTORIES: [&str; 7] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/run/current-system/sw/bin"];

/// Below the data root.
const FILE: &str = "runtimes.json";

/// Docker's.
const DAEMON: &str = "/etc/docker/daemon.json";

/// A runtime of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// As it was asked for.
    pub name: String,
    /// Its file.
    pub program: PathBuf,
    /// Arguments before the verb.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
}

/// An entry of a configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Configured {
    path: PathBuf,
    runtime_args: Vec<String>,
    runtime_type: String,
}

impl Engine {
    /// The runtimes that are configured, by name.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what it should be.
    pub fn runtimes(&self) -> Result<Vec<Runtime>> {
        let configured = self.configured()?;
        let complete =
            |(name, one): (String, Configured)| Runtime { name, program: one.path, arguments: one.runtime_args };
        Ok(configured.into_iter().filter(|(_, one)| !one.path.as_os_str().is_empty()).map(complete).collect())
    }

    fn configured(&self) -> Result<BTreeMap<String, Configured>> {
        let mut all = match read(Path::new(DAEMON))? {
            Some(mut daemon) => parse(DAEMON, daemon["runtimes"].take())?,
            None => BTreeMap::new(),
        };
        let own = self.directories().data.join(FILE);
        if let Some(value) = read(&own)? {
            all.extend(parse(&own.display().to_string(), value)?);
        }
        Ok(all)
    }

    /// At creation: what the name means.
    pub(crate) fn settle_runtime(&self, settings: &mut Settings, options: &Options) -> Result<()> {
        let name = options.runtime.as_deref().unwrap_or_default();
        settings.runtime = match name {
            "" | OWN => None,
            path if path.contains('/') => Some(at_path(path)?),
            name => self.named(name)?,
        };
        let Some(runtime) = &settings.runtime else { return Ok(()) };
        let refused = |what: &str| {
            Err(Error::new(Kind::InvalidArgument, format!("--runtime {}: {what}", runtime.name))
                .hint("leave --runtime out: dhow's own can do it"))
        };
        if self.host()?.user_namespace {
            return refused("an ordinary user's containers are made by dhow's own runtime only");
        }
        if settings.id_maps.is_some() {
            return refused("a container with ids of its own (--userns) is made by dhow's own runtime only");
        }
        if crate::lower::mounts::root_propagation(settings).as_deref() == Some("rshared") {
            return refused("a shared mount would be shared with dhow's preparations, and not with the host");
        }
        Ok(())
    }

    fn named(&self, name: &str) -> Result<Option<Runtime>> {
        if let Some(found) = self.configured()?.remove(name) {
            if found.path.as_os_str().is_empty() {
                let kind = found.runtime_type;
                let text = format!(
                    "runtime {name} is configured by its type {kind:?}, a shim of containerd, which dhow does not call"
                );
                return Err(Error::new(Kind::InvalidArgument, text).hint("configure it by the path of its program"));
            }
            let runtime = Runtime { name: name.to_owned(), program: found.path, arguments: found.runtime_args };
            return executable(&runtime.program).map(|()| Some(runtime));
        }
        if DEFAULTS.contains(&name) {
            return Ok(None);
        }
        let found = DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file());
        match found.filter(|_| KNOWN.contains(&name)) {
            Some(program) => Ok(Some(Runtime { name: name.to_owned(), program, arguments: Vec::new() })),
            None => Err(Error::new(Kind::InvalidArgument, format!("unknown or invalid runtime name: {name}")).hint(
                format!(
                    "known are dhow, those of {DAEMON} and {}, and paths",
                    self.directories().data.join(FILE).display()
                ),
            )),
        }
    }

    /// What the monitor needs to have a container made by somebody else.
    pub(crate) fn external_launch(
        &self,
        entry: &Entry,
        spec: &oci::runtime::Spec,
    ) -> Result<Option<Box<ExternalLaunch>>> {
        let Some(runtime) = self.external(&entry.id, &entry.settings) else { return Ok(None) };
        let mut specification = spec.clone();
        let confinement = crate::lower::confinement(&entry.settings, self.host()?)?;
        if let Some(linux) = &mut specification.linux {
            linux.seccomp = confinement.filter.document(&entry.settings, self.host()?)?;
            if let Some(seccomp) = &mut linux.seccomp {
                // They make filtered calls cheaper, and older runtimes refuse them all.
                seccomp.flags = None;
            }
        }
        Ok(Some(Box::new(ExternalLaunch { runtime, specification })))
    }

    /// A container's runtime, if it is not our own, with the directory that it works in.
    pub(crate) fn external(&self, id: &str, settings: &Settings) -> Option<ExternalRuntime> {
        let runtime = settings.runtime.as_ref()?;
        let directory = self.directories().run.join("runtimes").join(id);
        Some(ExternalRuntime { program: runtime.program.clone(), arguments: runtime.arguments.clone(), directory })
    }
}

fn at_path(path: &str) -> Result<Runtime> {
    let program = PathBuf::from(path);
    if !program.is_absolute() {
        return Err(Error::new(Kind::InvalidArgument, format!("--runtime {path}: the path is not absolute")));
    }
    executable(&program)?;
    Ok(Runtime { name: path.to_owned(), program, arguments: Vec::new() })
}

fn executable(program: &Path) -> Result<()> {
    let what = || format!("cannot execute the runtime {}", program.display());
    let metadata = std::fs::metadata(program).kind(Kind::InvalidArgument, what)?;
    if !metadata.is_file() {
        return Err(Error::new(Kind::InvalidArgument, format!("{}: it is no file", what())));
    }
    rustix::fs::access(program, rustix::fs::Access::EXEC_OK).kind(Kind::InvalidArgument, what)
}

fn read(path: &Path) -> Result<Option<serde_json::Value>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).internal(|| format!("cannot read {}", path.display())),
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .kind(Kind::InvalidArgument, || format!("{} is not the JSON that it should be", path.display())),
    }
}

fn parse(file: &str, value: serde_json::Value) -> Result<BTreeMap<String, Configured>> {
    if value.is_null() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_value(value).kind(Kind::InvalidArgument, || format!("the runtimes in {file} cannot be understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_form() {
        let text = r#"{"crun": {"path": "/usr/bin/crun", "runtimeArgs": ["--debug"]},
                       "kata": {"runtimeType": "io.containerd.kata.v2", "options": {"ConfigPath": "/x"}}}"#;
        let found = parse("x", serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(found["crun"].path, Path::new("/usr/bin/crun"));
        assert_eq!(found["crun"].runtime_args, ["--debug"]);
        assert_eq!(found["kata"].runtime_type, "io.containerd.kata.v2");
        assert!(parse("x", serde_json::Value::Null).unwrap().is_empty());
        assert!(
            parse("x", serde_json::json!({"a": {"path": 1}})).unwrap_err().to_string().contains("the runtimes in x")
        );
    }

    #[test]
    fn paths() {
        assert!(at_path("./crun").unwrap_err().to_string().contains("not absolute"));
        assert!(at_path("/nonexistent/crun").unwrap_err().to_string().contains("cannot execute the runtime"));
        assert!(at_path("/etc").unwrap_err().to_string().contains("it is no file"));
        assert_eq!(at_path("/bin/sh").unwrap().program, Path::new("/bin/sh"));
    }
}
