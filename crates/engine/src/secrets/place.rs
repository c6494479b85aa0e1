//! From a secret to a file, or a variable, of a container that starts.

use super::{SecretKind, SecretTarget, table};
use crate::containers::record::Settings;
use crate::containers::table::Entry;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use oci::runtime::{Mount, Spec};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use std::io::Write as _;
use std::path::Path;

/// Resolves defaults of a target and refuses what cannot be.
pub(super) fn settle(kind: SecretKind, name: &str, target: &SecretTarget) -> Result<SecretTarget> {
    match target {
        SecretTarget::File { path, uid, gid, mode } => {
            let place = if path.is_empty() { name } else { path };
            let place = match (place.starts_with('/'), kind) {
                (true, _) => place.to_owned(),
                (false, SecretKind::Secret) => format!("/run/secrets/{place}"),
                (false, SecretKind::Config) => format!("/{place}"),
            };
            crate::containers::settle::check_target(&place, false)?;
            if *mode > 0o7777 {
                let message = format!("invalid mode {mode:o} of {} {name}", kind.name());
                return Err(Error::new(Kind::InvalidArgument, message));
            }
            Ok(SecretTarget::File { path: place, uid: *uid, gid: *gid, mode: *mode })
        }
        SecretTarget::Environment { variable } => {
            let variable = if variable.is_empty() { name } else { variable };
            if variable.contains(['=', '\0']) {
                let message = format!("invalid environment variable {variable:?} of {} {name}", kind.name());
                return Err(Error::new(Kind::InvalidArgument, message));
            }
            Ok(SecretTarget::Environment { variable: variable.to_owned() })
        }
    }
}

/// Whether two would stand in each other's place.
pub(super) fn same(one: &SecretTarget, other: &SecretTarget) -> bool {
    match (one, other) {
        (SecretTarget::File { path: one, .. }, SecretTarget::File { path: other, .. }) => one == other,
        (SecretTarget::Environment { variable: one }, SecretTarget::Environment { variable: other }) => one == other,
        _ => false,
    }
}

/// Where a container has files of secrets: places that dhow made in it.
pub(crate) fn targets(settings: &Settings) -> impl Iterator<Item = &str> {
    settings.secrets.iter().filter_map(|one| match &one.target {
        SecretTarget::File { path, .. } => Some(path.as_str()),
        SecretTarget::Environment { .. } => None,
    })
}

impl Engine {
    /// Records the container's secrets in the transaction that records the container.
    pub(crate) fn record_secrets(&self, t: &rusqlite::Transaction<'_>, id: &str, settings: &Settings) -> Result<()> {
        settings.secrets.iter().try_for_each(|one| table::add_use(t, &one.id, id))
    }

    /// Writes the files of a container that is about to start, and adds them to its specification.
    pub(crate) fn place_secrets(&self, entry: &Entry, spec: &mut Spec) -> Result<()> {
        if entry.settings.secrets.is_empty() {
            return Ok(());
        }
        // Removed with the run directory, file by file.
        let directory = self.directories().container_run(&entry.id);
        for (number, one) in entry.settings.secrets.iter().enumerate() {
            let SecretTarget::File { path, uid, gid, mode } = &one.target else { continue };
            let content = table::content(self.database()?.read(), &one.id)?;
            let file = directory.join(format!("secret-{number}"));
            let owner = match &entry.settings.id_maps {
                None => (*uid, *gid),
                Some(maps) => maps.outside(*uid, *gid).ok_or_else(|| {
                    let (kind, name) = (one.kind.name(), &one.name);
                    let text =
                        format!("{kind} {name} is to belong to {uid}:{gid}, which the container's maps leave out");
                    Error::new(Kind::InvalidArgument, text)
                })?,
            };
            write(&file, &content, owner, *mode)
                .internal(|| format!("cannot write the file of {} {}", one.kind.name(), one.name))?;
            spec.mounts.push(Mount {
                destination: path.clone(),
                kind: Some("bind".into()),
                source: Some(file.display().to_string()),
                options: ["bind", "ro", "nosuid", "nodev", "rprivate"].map(str::to_owned).into(),
                ..Mount::default()
            });
        }
        let variables = self.secret_variables(&entry.settings)?;
        if let Some(process) = &mut spec.process {
            process.env.extend(variables);
        }
        Ok(())
    }

    /// The variables that hold secrets. They stand in no record.
    pub(crate) fn secret_variables(&self, settings: &Settings) -> Result<Vec<String>> {
        let mut variables = Vec::new();
        for one in &settings.secrets {
            let SecretTarget::Environment { variable } = &one.target else { continue };
            let content = table::content(self.database()?.read(), &one.id)?;
            let text = String::from_utf8(content).ok().filter(|text| !text.contains('\0')).ok_or_else(|| {
                let message = format!("{} {} cannot be a variable: it is not text", one.kind.name(), one.name);
                Error::new(Kind::InvalidArgument, message).hint("give it to the container as a file")
            })?;
            variables.push(format!("{variable}={text}"));
        }
        Ok(variables)
    }
}

/// The file belongs to nobody else from its first moment on.
fn write(path: &Path, content: &[u8], (uid, gid): (u32, u32), mode: u32) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = std::fs::File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(content)?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_by_kind() {
        let file = |path: &str| SecretTarget::File { path: path.into(), uid: 1, gid: 2, mode: 0o400 };
        for (kind, asked, expected) in [
            (SecretKind::Secret, "", "/run/secrets/a"),
            (SecretKind::Secret, "b", "/run/secrets/b"),
            (SecretKind::Secret, "/etc/b", "/etc/b"),
            (SecretKind::Config, "", "/a"),
            (SecretKind::Config, "/etc/x.conf", "/etc/x.conf"),
        ] {
            assert_eq!(settle(kind, "a", &file(asked)).unwrap(), file(expected));
        }
        for wrong in ["../x", "/", "/proc/x", "a\nb"] {
            assert!(settle(SecretKind::Secret, "a", &file(wrong)).is_err(), "{wrong}");
        }
        let variable = |name: &str| SecretTarget::Environment { variable: name.into() };
        assert_eq!(settle(SecretKind::Secret, "a", &variable("")).unwrap(), variable("a"));
        assert!(settle(SecretKind::Secret, "a", &variable("x=y")).is_err());
    }
}
