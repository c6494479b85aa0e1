//! What versions of the API since 1.52 have, those of Docker 29, and what they no longer have.

use crate::version::Version;
use engine::{Cidr, Member, Network};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// The first of them.
pub const FIRST: Version = Version(52);

/// Takes out of an image's inspection what says nothing.
pub fn image(document: &mut Value, version: Version) {
    if version < FIRST {
        return;
    }
    let own = ["Parent", "Comment", "DockerVersion", "Author"];
    take(document, |name, value| own.contains(&name) && is_empty(value));
    let set = ["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir", "ExposedPorts"];
    take(&mut document["Config"], |name, value| set.contains(&name) && is_empty(value));
}

/// Takes out of a list of networks what only one of them has.
pub fn networks(list: &mut [Value], version: Version) {
    if version >= FIRST {
        list.iter_mut().for_each(|network| take(network, |name, _| name == "Containers"));
    }
}

/// Takes out of an event what was for clients of 2015.
pub fn event(document: &mut Value, version: Version) {
    if version >= FIRST {
        take(document, |name, _| ["status", "id", "from"].contains(&name));
    }
}

fn take(document: &mut Value, gone: impl Fn(&str, &Value) -> bool) {
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|name, value| !gone(name, value));
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// How many addresses of a network are taken, and how many are left to be given: `Status` of its inspection.
pub fn addresses(network: &Network, members: &[Member]) -> Value {
    let subnets = network.settings.subnets.iter().map(|subnet| {
        let of_members = members.iter().flat_map(|member| [member.place.ipv4, member.place.ipv6]).flatten();
        let mut taken: Vec<IpAddr> = of_members.map(|cidr| cidr.address()).collect();
        taken.extend(subnet.gateway);
        taken.extend(subnet.auxiliary.values());
        // The network's own address, and that for all in it; IPv6 has no such.
        taken.push(subnet.subnet.network().address());
        if !subnet.subnet.is_ipv6() {
            taken.push(subnet.subnet.last());
        }
        taken.retain(|address| subnet.subnet.contains(*address));
        taken.sort_unstable();
        taken.dedup();
        let range = subnet.ip_range.unwrap_or(subnet.subnet);
        let of_range = taken.iter().filter(|address| range.contains(**address)).count();
        let left = size(&range).saturating_sub(u64::try_from(of_range).unwrap_or(u64::MAX));
        (subnet.subnet.to_string(), json!({ "IPsInUse": taken.len(), "DynamicIPsAvailable": left }))
    });
    json!({ "IPAM": { "Subnets": subnets.collect::<Map<String, Value>>() } })
}

/// Addresses in a range; of a large one of IPv6 as many as can be counted.
fn size(range: &Cidr) -> u64 {
    let bits = if range.is_ipv6() { 128 } else { 32 } - u32::from(range.prefix());
    1_u64.checked_shl(bits).unwrap_or(u64::MAX)
}

/// What objects of a kind take, from the lines that were listed before 1.52.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Those that are used.
    pub active: usize,
    /// All of them.
    pub total: usize,
    /// Bytes.
    pub size: u64,
    /// Bytes of what is not used.
    pub reclaimable: u64,
}

/// One of `ImageUsage` and its like; with its lines where everything was asked for.
pub fn usage(taken: Taken, lines: Option<Value>) -> Value {
    let mut document = json!({
        "ActiveCount": taken.active,
        "TotalCount": taken.total,
        "TotalSize": taken.size,
        "Reclaimable": taken.reclaimable,
    });
    if let Some(lines) = lines {
        document["Items"] = lines;
    }
    document
}

/// Of a line whether it is used, and how many bytes it takes.
type About<'a> = &'a dyn Fn(&Value) -> (bool, u64);

/// What `system/df` has since 1.52 beside the lists, or in their place where `verbose` was asked for.
pub fn disk_usage(document: &mut Value, verbose: bool) {
    let number = |line: &Value, name: &str| line[name].as_u64().unwrap_or(0);
    let kinds: [(&str, &str, About<'_>); 4] = [
        ("Images", "ImageUsage", &|line| {
            (line["Containers"].as_i64() > Some(0), number(line, "Size").saturating_sub(number(line, "SharedSize")))
        }),
        ("Containers", "ContainerUsage", &|line| {
            (
                ["running", "paused", "restarting"].contains(&line["State"].as_str().unwrap_or("")),
                number(line, "SizeRw"),
            )
        }),
        ("Volumes", "VolumeUsage", &|line| {
            let usage = &line["UsageData"];
            (usage["RefCount"].as_i64() > Some(0), number(usage, "Size"))
        }),
        ("BuildCache", "BuildCacheUsage", &|_| (false, 0)),
    ];
    let layers = document["LayersSize"].as_u64();
    for (list, name, about) in kinds {
        let Some(lines) = document[list].as_array() else { continue };
        let all: Vec<(bool, u64)> = lines.iter().map(about).collect();
        let sum = |used: bool| all.iter().filter(|one| one.0 == used).map(|one| one.1).sum::<u64>();
        let size = layers.filter(|_| list == "Images").unwrap_or(sum(true) + sum(false));
        let active = all.iter().filter(|one| one.0).count();
        let taken = Taken { active, total: all.len(), size, reclaimable: sum(false).min(size) };
        document[name] = usage(taken, verbose.then(|| document[list].clone()));
    }
    let lists = ["Images", "Containers", "Volumes", "BuildCache", "LayersSize"];
    take(document, |name, value| value.is_null() || (verbose && lists.contains(&name)));
}

/// How lines of events are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// A line each.
    Plain(&'static str),
    /// RFC 7464: a separator before each.
    Sequence,
}

impl Lines {
    /// What a client accepts; the answer of always for whoever says nothing of the new ones.
    pub fn wanted(accept: Option<&str>, version: Version) -> Lines {
        let always = Lines::Plain("application/json");
        let accepted = accept.unwrap_or_default().split(',').map(|one| one.split(';').next().unwrap_or("").trim());
        let known = accepted.filter_map(|one| match one.to_ascii_lowercase().as_str() {
            "application/jsonl" => Some(Lines::Plain("application/jsonl")),
            "application/x-ndjson" => Some(Lines::Plain("application/x-ndjson")),
            "application/json-seq" => Some(Lines::Sequence),
            "application/json" => Some(always),
            _ => None,
        });
        if version < FIRST { always } else { { known }.next().unwrap_or(always) }
    }

    /// The answer's media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Lines::Plain(name) => name,
            Lines::Sequence => "application/json-seq",
        }
    }

    /// Writes one.
    pub fn write(self, document: &Value, to: &mut Vec<u8>) {
        if self == Lines::Sequence {
            to.push(0x1e);
        }
        to.extend_from_slice(document.to_string().as_bytes());
        to.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone() {
        let mut made = json!({"Parent": "", "Author": "me", "Config": {"Cmd": ["a"], "Env": [], "Labels": null}});
        image(&mut made, FIRST);
        assert_eq!(made, json!({"Author": "me", "Config": {"Cmd": ["a"]}}));
    }

    #[test]
    fn forms_of_events() {
        let new = |accept: &str| Lines::wanted(Some(accept), FIRST).media_type();
        assert_eq!(new("text/html, application/x-ndjson;q=0.9"), "application/x-ndjson");
        assert_eq!((new("*/*"), new("application/jsonl")), ("application/json", "application/jsonl"));
        assert_eq!(Lines::wanted(Some("application/json-seq"), Version(51)), Lines::Plain("application/json"));
        let mut bytes = vec![];
        Lines::wanted(Some("application/json-seq"), FIRST).write(&json!(1), &mut bytes);
        assert_eq!(bytes, b"\x1e1\n");
    }

    #[test]
    fn sums() {
        let mut document = json!({
            "LayersSize": 100,
            "Images": [{"Containers": 1, "Size": 60, "SharedSize": 0}, {"Containers": 0, "Size": 40, "SharedSize": 0}],
            "Volumes": [{"UsageData": {"RefCount": 0, "Size": 7}}],
        });
        disk_usage(&mut document, false);
        assert_eq!(
            document["ImageUsage"],
            json!({"ActiveCount": 1, "TotalCount": 2, "TotalSize": 100, "Reclaimable": 40})
        );
        assert_eq!(document["Images"].as_array().map(Vec::len), Some(2));
        disk_usage(&mut document, true);
        assert_eq!(document["VolumeUsage"]["Items"][0]["UsageData"]["Size"], 7);
        assert!(document.get("Volumes").is_none() && document.get("ContainerUsage").is_none());
    }
}
