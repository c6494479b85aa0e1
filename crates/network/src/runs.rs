//! Ports as they are written down: neighbours together, so that a range of hundreds takes no more room than one.
//!
//! For `#[serde(with = "network::runs")]` on lists. A run is its first port with the member `count`; a port by itself is
//! written as ever, so that what was written port by port is read, too.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// More than all ports of all protocols on some addresses: a file that says so is not one of ours.
const MOST: usize = 1 << 19;

/// What can have a neighbour.
pub trait Numbered: Sized + Clone + PartialEq {
    /// The one so many numbers further on; `None` behind the last number.
    fn further(&self, by: u16) -> Option<Self>;
}

#[derive(Serialize, Deserialize)]
struct Run<T> {
    #[serde(flatten)]
    first: T,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    count: u32,
}

fn one() -> u32 {
    1
}

fn is_one(count: &u32) -> bool {
    *count == 1
}

/// Writes the list.
///
/// # Errors
/// The serializer's.
pub fn serialize<T: Numbered + Serialize, S: Serializer>(list: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    let mut runs: Vec<Run<T>> = Vec::new();
    for each in list {
        match runs.last_mut() {
            Some(run) if u16::try_from(run.count).ok().and_then(|by| run.first.further(by)).as_ref() == Some(each) => {
                run.count += 1;
            }
            _ => runs.push(Run { first: each.clone(), count: 1 }),
        }
    }
    runs.serialize(serializer)
}

/// Reads a list, in its order.
///
/// # Errors
/// The deserializer's; runs over the end of all numbers, or without end.
pub fn deserialize<'de, T: Numbered + Deserialize<'de>, D: Deserializer<'de>>(reader: D) -> Result<Vec<T>, D::Error> {
    let mut list = Vec::new();
    for run in Vec::<Run<T>>::deserialize(reader)? {
        for by in 0..run.count {
            let port = u16::try_from(by).ok().and_then(|by| run.first.further(by));
            list.push(port.ok_or_else(|| D::Error::custom("a run of ports goes over the last number"))?);
            if list.len() > MOST {
                return Err(D::Error::custom("more ports than there are"));
            }
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Protocol, PublishedPort};

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    #[serde(transparent)]
    struct Ports(#[serde(with = "super")] Vec<PublishedPort>);

    fn port(host_port: u16, container_port: u16, ip: &str) -> PublishedPort {
        let host_ip = ip.parse().unwrap();
        PublishedPort { protocol: Protocol::Tcp, host_ip, host_port, container_port, bypass_firewall: false }
    }

    #[test]
    fn a_range_is_short_and_comes_back() {
        let mut all: Vec<_> = (0..850).map(|by| port(20_000 + by, 80 + by, "0.0.0.0")).collect();
        all.extend((0..850).map(|by| port(20_000 + by, 80 + by, "::")));
        all.extend([port(65_535, 1, "::"), port(1, 2, "::"), port(3, 3, "::"), port(3, 3, "::")]);
        let text = serde_json::to_string(&Ports(all.clone())).unwrap();
        assert!(text.len() < 700, "{text}");
        assert_eq!(serde_json::from_str::<Ports>(&text).unwrap().0, all);
        // As it was written before there were runs.
        let plain = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Ports>(&plain).unwrap().0, all);
    }

    #[test]
    fn runs_end_with_the_numbers() {
        let run = |count: u64, times: usize| {
            let one = serde_json::to_string(&port(1, 1, "::")).unwrap();
            let one = one.replace('}', &format!(",\"count\":{count}}}"));
            serde_json::from_str::<Ports>(&format!("[{}]", vec![one; times].join(","))).map(|ports| ports.0.len())
        };
        assert_eq!(run(65_535, 1).unwrap(), 65_535);
        assert_eq!(run(0, 1).unwrap(), 0);
        run(65_536, 1).unwrap_err();
        run(u64::from(u32::MAX), 1).unwrap_err();
        run(65_535, 20).unwrap_err();
    }
}
