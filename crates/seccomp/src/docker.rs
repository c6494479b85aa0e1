//! Profiles in Docker's own form (`--security-opt seccomp=FILE`), which is the runtime specification's with conditions:
//! rules for containers with or without a capability, for architectures and for kernels, and a map of architectures.

use crate::arch::Column;
use crate::default::KernelVersion;
use oci::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFlag, LinuxSyscall};
use serde::{Deserialize, Deserializer};

/// A profile file that is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Not the JSON that it should be.
    #[error("read the profile")]
    Json(#[from] serde_json::Error),
    /// Two fields that exclude each other.
    #[error("the profile has both {0:?} and {1:?}; use one of them")]
    Both(&'static str, &'static str),
    /// Not like `4.8`.
    #[error("{0:?} is not a kernel version")]
    Kernel(String),
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Option<LinuxSeccompAction>,
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    architectures: Vec<Arch>,
    #[serde(default, deserialize_with = "null_is_empty")]
    arch_map: Vec<Family>,
    flags: Option<Vec<LinuxSeccompFlag>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: Arch,
    #[serde(default, deserialize_with = "null_is_empty")]
    sub_architectures: Vec<Arch>,
}

#[derive(Deserialize)]
struct Rule {
    name: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    includes: Filter,
    #[serde(default, deserialize_with = "null_is_empty")]
    excludes: Filter,
    #[serde(flatten)]
    syscall: LinuxSyscall,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    #[serde(deserialize_with = "null_is_empty")]
    caps: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Resolves a profile for a container with this bounding set, on this kernel. `Ok(None)` for an empty profile, which
/// means no filter. A document of the runtime specification is a profile without conditions and accepted as such.
///
/// # Errors
/// See [`DockerError`].
pub fn from_docker<C: AsRef<str>>(
    json: &str,
    capabilities: &[C],
    kernel: KernelVersion,
    native: Arch,
) -> Result<Option<LinuxSeccomp>, DockerError> {
    let profile: Profile = serde_json::from_str(json)?;
    let Some(default_action) = profile.default_action else {
        if profile.syscalls.is_empty() {
            return Ok(None);
        }
        return Err(<serde_json::Error as serde::de::Error>::missing_field("defaultAction").into());
    };
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(DockerError::Both("architectures", "archMap"));
    }
    let mut architectures = profile.architectures;
    if let Some(family) = profile.arch_map.into_iter().find(|family| family.architecture == native) {
        architectures.push(family.architecture);
        architectures.extend(family.sub_architectures);
    }
    let mut syscalls = Vec::with_capacity(profile.syscalls.len());
    for mut rule in profile.syscalls {
        if let Some(name) = rule.name {
            if !rule.syscall.names.is_empty() {
                return Err(DockerError::Both("name", "names"));
            }
            rule.syscall.names.push(name);
        }
        if !excluded(&rule.excludes, capabilities, kernel, native)?
            && included(&rule.includes, capabilities, kernel, native)?
        {
            syscalls.push(rule.syscall);
        }
    }
    Ok(Some(LinuxSeccomp {
        default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags,
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    }))
}

/// Any of the words excludes.
fn excluded<C: AsRef<str>>(
    filter: &Filter,
    capabilities: &[C],
    kernel: KernelVersion,
    native: Arch,
) -> Result<bool, DockerError> {
    let has = |name: &String| capabilities.iter().any(|capability| capability.as_ref() == name);
    let version = filter.min_kernel.as_deref().map(version).transpose()?;
    Ok(filter.arches.iter().any(|arch| arch == docker_name(native))
        || filter.caps.iter().any(has)
        || version.is_some_and(|version| kernel >= version))
}

/// All of the words must be met.
fn included<C: AsRef<str>>(
    filter: &Filter,
    capabilities: &[C],
    kernel: KernelVersion,
    native: Arch,
) -> Result<bool, DockerError> {
    let has = |name: &String| capabilities.iter().any(|capability| capability.as_ref() == name);
    let version = filter.min_kernel.as_deref().map(version).transpose()?;
    Ok((filter.arches.is_empty() || filter.arches.iter().any(|arch| arch == docker_name(native)))
        && filter.caps.iter().all(has)
        && version.is_none_or(|version| kernel >= version))
}

fn docker_name(native: Arch) -> &'static str {
    match Column::of(native) {
        Some(Column::X86_64) => "amd64",
        Some(Column::X86) => "x86",
        Some(Column::X32) => "x32",
        Some(Column::Aarch64) => "arm64",
        Some(Column::Arm) => "arm",
        None => "",
    }
}

fn version(text: &str) -> Result<KernelVersion, DockerError> {
    let parse = || {
        let (major, minor) = text.split_once('.')?;
        Some(KernelVersion(major.parse().ok()?, minor.parse().ok()?))
    };
    parse().ok_or_else(|| DockerError::Kernel(text.chars().take(40).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: &str, capabilities: &[&str]) -> Vec<String> {
        let profile = from_docker(json, capabilities, KernelVersion(6, 1), Arch::X86_64).unwrap().unwrap();
        profile.syscalls.into_iter().flat_map(|syscall| syscall.names).collect()
    }

    #[test]
    fn conditions_are_resolved() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":
            ["SCMP_ARCH_X86"]}],"syscalls":[
            {"names":["a"],"action":"SCMP_ACT_ALLOW","args":null,"comment":"","includes":{},"excludes":{}},
            {"name":"b","action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["c"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]},"includes":null},
            {"names":["d"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["arm64"]}},
            {"names":["e"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"6.2"}},
            {"names":["f"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8","arches":["amd64"]}}]}"#;
        assert_eq!(names(json, &[]), ["a", "c", "f"]);
        assert_eq!(names(json, &["CAP_SYS_ADMIN"]), ["a", "b", "f"]);
    }

    #[test]
    fn what_is_no_profile() {
        let read = |json| from_docker(json, &["x"], KernelVersion(6, 1), Arch::X86_64);
        assert!(read("{}").unwrap().is_none());
        assert!(read(r#"{"syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW"}]}"#).is_err());
        assert!(read(r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#).is_err());
        let both =
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#;
        assert!(matches!(read(both), Err(DockerError::Both("name", "names"))));
        let kernel = r#"{"defaultAction":"SCMP_ACT_LOG","syscalls":[{"names":[],"action":"SCMP_ACT_ALLOW",
            "includes":{"minKernel":"five"}}]}"#;
        assert!(matches!(read(kernel), Err(DockerError::Kernel(_))));
    }
}
