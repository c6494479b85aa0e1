//! Names of fields in requests, in any mixture of small and capital letters, as Go reads them.
//!
//! Docker's own server does not care, so some clients do not: docker-py sends `detachKeys`. Corrected is the text, before
//! anybody reads it: what is checked and what is done come from the same letters. A field that is there in two spellings is
//! refused by whoever reads the document, as one that is there twice.

use std::borrow::Cow;

/// Every field of a request's document, in the order of their small letters. Of two of the same letters there is none.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "AccessibilityRequirements", "AccessMode", "Aliases", "Annotations", "ArgsEscaped", "Attachable", "AttachStderr",
    "AttachStdin", "AttachStdout", "auth", "AutoRemove", "AuxAddress", "AuxiliaryAddresses", "Availability",
    "BindOptions", "Binds", "BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps", "BlkioWeight", "BlkioWeightDevice", "Capabilities", "CapacityRange", "CapAdd", "CapDrop",
    "Cgroup", "CgroupnsMode", "CgroupParent", "CgroupPermissions", "CheckDuplicate", "CheckpointDir", "CheckpointID",
    "ClusterVolumeSpec", "Cmd", "Config", "ConfigFrom", "ConfigOnly", "Consistency", "ConsoleSize", "Container",
    "ContainerIDFile", "Count", "CpuCount", "CpuPercent", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod",
    "CpuRealtimeRuntime", "CpusetCpus", "CpusetMems", "CpuShares", "CreateMountpoint", "Detach", "DetachKeys",
    "DeviceCgroupRules", "DeviceIDs", "DeviceRequests", "Devices", "Dns", "DNSNames", "DnsOptions", "DnsSearch",
    "Domainname", "Driver", "DriverConfig", "DriverOpts", "email", "EnableIPv4", "EnableIPv6", "EndpointConfig",
    "EndpointID", "EndpointsConfig", "Entrypoint", "Env", "Exit", "ExposedPorts", "ExtraHosts", "Force", "Gateway",
    "GlobalIPv6Address", "GlobalIPv6PrefixLen", "Group", "GroupAdd", "GwPriority", "Hard", "Healthcheck",
    "HostConfig", "HostIp", "Hostname", "HostPort", "identitytoken", "Image", "ImageOptions", "Ingress", "Init",
    "Internal", "Interval", "IOMaximumBandwidth", "IOMaximumIOps", "IPAddress", "IPAM", "IPAMConfig", "IpcMode",
    "IPPrefixLen", "IPRange", "IPv4Address", "IPv6Address", "IPv6Gateway", "Isolation", "KernelMemory",
    "KernelMemoryTCP", "Key", "Labels", "LimitBytes", "LinkLocalIPs", "Links", "LogConfig", "MacAddress",
    "MaskedPaths", "MaximumRetryCount", "Memory", "MemoryReservation", "MemorySwap", "MemorySwappiness", "Mode",
    "Mounts", "MountVolume", "Name", "NanoCpus", "Network", "NetworkDisabled", "NetworkID", "NetworkingConfig",
    "NetworkMode", "NoCopy", "NonRecursive", "OnBuild", "OomKillDisable", "OomScoreAdj", "OpenStdin", "Options",
    "password", "Path", "PathInContainer", "PathOnHost", "PidMode", "PidsLimit", "PortBindings", "Preferred",
    "Privileged", "Propagation", "PublishAllPorts", "Rate", "ReadOnly", "ReadOnlyForceRecursive",
    "ReadOnlyNonRecursive", "ReadonlyPaths", "ReadonlyRootfs", "registrytoken", "RequiredBytes", "Requisite",
    "RestartPolicy", "Retries", "Runtime", "Scope", "Secret", "Secrets", "SecurityOpt", "Segments", "serveraddress",
    "Sharing", "Shell", "ShmSize", "SizeBytes", "Soft", "Source", "Spec", "StartInterval", "StartPeriod", "StdinOnce",
    "StopSignal", "StopTimeout", "StorageOpt", "Subnet", "Subpath", "Sysctls", "Target", "Test", "Timeout", "Tmpfs",
    "TmpfsOptions", "Tty", "Type", "Ulimits", "Umask", "User", "username", "UsernsMode", "UTSMode", "VolumeDriver",
    "VolumeOptions", "Volumes", "VolumesFrom", "Weight", "WorkingDir",
];

/// Fields whose value, if it is an object, has keys that somebody chose.
const CHOSEN: &[&str] = &[
    "Annotations",
    "AuxiliaryAddresses",
    "Config",
    "DriverOpts",
    "EndpointsConfig",
    "ExposedPorts",
    "Labels",
    "Options",
    "PortBindings",
    "Segments",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// How deep documents of Docker's are, and more.
const DEPTH: usize = 32;

/// An object or a list that has begun.
#[derive(Clone, Copy, Default)]
struct Level {
    is_object: bool,
    /// Its keys are somebody's own.
    chosen: bool,
    /// So are those of the object that comes next.
    next_chosen: bool,
    /// What comes next is a key.
    at_key: bool,
}

/// A document with the names of its fields as everybody here writes them. What is no JSON is left as it is.
pub fn corrected(content: &[u8]) -> Cow<'_, [u8]> {
    let mut result = Cow::Borrowed(content);
    let (mut levels, mut at) = (Vec::<Level>::with_capacity(DEPTH), 0);
    while let Some(byte) = content.get(at) {
        match byte {
            b'{' | b'[' if levels.len() == DEPTH => return result,
            b'{' => {
                let chosen = levels.last().is_some_and(|level| level.next_chosen);
                levels.push(Level { is_object: true, chosen, at_key: true, next_chosen: false });
            }
            b'[' => levels.push(Level::default()),
            b'}' | b']' => drop(levels.pop()),
            b',' => {
                if let Some(level) = levels.last_mut() {
                    level.at_key = level.is_object;
                }
            }
            b'"' => {
                let end = end_of_text(content, at + 1);
                if let Some(level) = levels.last_mut().filter(|level| level.at_key) {
                    level.at_key = false;
                    let key = content.get(at + 1..end).unwrap_or_default();
                    let name = if level.chosen { None } else { known(key) };
                    level.next_chosen = name.is_some_and(|name| CHOSEN.binary_search(&name).is_ok());
                    if let Some(name) = name.filter(|name| name.as_bytes() != key)
                        && let Some(place) = result.to_mut().get_mut(at + 1..end)
                    {
                        place.copy_from_slice(name.as_bytes());
                    }
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    result
}

/// Where the quotation mark at a text's end is.
fn end_of_text(content: &[u8], mut at: usize) -> usize {
    while let Some(byte) = content.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    content.len()
}

/// The name of a field, which has as many bytes as the key.
fn known(key: &[u8]) -> Option<&'static str> {
    let small = |byte: &u8| byte.to_ascii_lowercase();
    let found =
        NAMES.binary_search_by(|name| name.bytes().map(|byte| byte.to_ascii_lowercase()).cmp(key.iter().map(small)));
    found.ok().and_then(|index| NAMES.get(index).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &str) -> String {
        String::from_utf8(corrected(content.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn tables_are_in_order() {
        let small: Vec<String> = NAMES.iter().map(|name| name.to_ascii_lowercase()).collect();
        assert!(small.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(CHOSEN.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(CHOSEN.iter().all(|name| known(name.as_bytes()) == Some(*name)));
    }

    #[test]
    fn names_are_corrected() {
        for (given, wanted) in [
            (r#"{"image":"IMAGE","hostconfig":{"MEMORY":1}}"#, r#"{"Image":"IMAGE","HostConfig":{"Memory":1}}"#),
            (
                r#"{ "detachKeys" : "ctrl-p" , "CMD":["cmd","env"]}"#,
                r#"{ "DetachKeys" : "ctrl-p" , "Cmd":["cmd","env"]}"#,
            ),
            (r#"{"a\"cmd":{"\\":{"cmd":1}},"":2}"#, r#"{"a\"cmd":{"\\":{"Cmd":1}},"":2}"#),
            (r#"[{"name":[[{"name":0}]]}]"#, r#"[{"Name":[[{"Name":0}]]}]"#),
        ] {
            assert_eq!(text(given), wanted);
        }
    }

    #[test]
    fn what_people_chose_stays() {
        for (given, wanted) in [
            (r#"{"labels":{"image":"x"},"image":"y"}"#, r#"{"Labels":{"image":"x"},"Image":"y"}"#),
            (r#"{"PortBindings":{"80":[{"hostport":"1"}]}}"#, r#"{"PortBindings":{"80":[{"HostPort":"1"}]}}"#),
            // A network that is called as a field is.
            (r#"{"EndpointsConfig":{"labels":{"links":[]}}}"#, r#"{"EndpointsConfig":{"labels":{"Links":[]}}}"#),
            (r#"{"ipam":{"config":[{"subnet":""}]}}"#, r#"{"IPAM":{"Config":[{"Subnet":""}]}}"#),
            (r#"{"logconfig":{"config":{"tag":"","mode":""}}}"#, r#"{"LogConfig":{"Config":{"tag":"","mode":""}}}"#),
        ] {
            assert_eq!(text(given), wanted);
        }
    }

    #[test]
    fn nonsense_is_left_alone() {
        for given in ["", "\"", "{\"", "{\"cmd", "}}]]", "{\"a\\", "{,,:\"", "null", "{\"cmd\\u0041\":1}"] {
            assert_eq!(text(given), if given == "{\"cmd" { "{\"Cmd" } else { given }, "{given}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(text(&deep), deep);
        assert!(matches!(corrected(br#"{"Image":"x","Labels":{"image":"y"}}"#), Cow::Borrowed(_)));
    }
}
