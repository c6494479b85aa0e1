//! What a class may use and what its processes use, in the words of `runc events`.

use super::{Error, Group, LONGEST, Result};
use crate::files::Directory;
use rustix::io::Errno;
use serde::Serialize;

/// More domains than a machine has.
const DOMAINS: usize = 1024;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// What the machine's caches allow to ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    /// The default class's line of caches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema_root: Option<String>,
    /// The class's line of caches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// What the machine's memory controllers allow to ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<BandwidthInfo>,
    /// The default class's line of bandwidth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema_root: Option<String>,
    /// The class's line of bandwidth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// All lines of the class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Memory bandwidth by domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<BandwidthUse>>,
    /// Occupied cache by domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<CacheUse>>,
}

/// `info/L3`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheInfo {
    /// All bits of a mask.
    pub cbm_mask: String,
    /// How many a mask must have.
    pub min_cbm_bits: Option<u64>,
    /// How many classes there can be.
    pub num_closids: Option<u64>,
}

/// `info/MB`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BandwidthInfo {
    /// The steps.
    pub bandwidth_gran: Option<u64>,
    /// Whether they are linear.
    pub delay_linear: Option<u64>,
    /// The least.
    pub min_bandwidth: Option<u64>,
    /// How many classes there can be.
    pub num_closids: Option<u64>,
}

/// Memory bandwidth of one domain; what the hardware cannot tell at the moment is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BandwidthUse {
    /// Bytes to and from all memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_total_bytes: Option<u64>,
    /// Bytes to and from the domain's own memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_local_bytes: Option<u64>,
}

/// Cache of one domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheUse {
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llc_occupancy: Option<u64>,
}

impl Group {
    /// The figures of the container's monitoring group, or of its class if it has none.
    ///
    /// # Errors
    /// A file that cannot be read, or has no number where one belongs.
    pub fn figures(&self) -> Result<Figures> {
        let (all, own) = (schemata(&self.root)?, schemata(&self.class)?);
        let line = |lines: &[String], is: fn(&str) -> bool| {
            let mut found = lines.iter().filter(|line| line.split(':').next().is_some_and(is));
            found.next().cloned()
        };
        let mut figures = Figures { schemata: own.clone(), ..Figures::default() };
        let info = self.root.child("info")?;
        if let Some(l3) = there(info.child("L3"))? {
            figures.l3_cache_info = Some(CacheInfo {
                cbm_mask: read(&l3, "cbm_mask")?.unwrap_or_default(),
                min_cbm_bits: number(&l3, "min_cbm_bits")?,
                num_closids: number(&l3, "num_closids")?,
            });
            let is = |resource: &str| resource.starts_with("L3");
            (figures.l3_cache_schema_root, figures.l3_cache_schema) = (line(&all, is), line(&own, is));
        }
        if let Some(bandwidth) = there(info.child("MB"))? {
            figures.mem_bw_info = Some(BandwidthInfo {
                bandwidth_gran: number(&bandwidth, "bandwidth_gran")?,
                delay_linear: number(&bandwidth, "delay_linear")?,
                min_bandwidth: number(&bandwidth, "min_bandwidth")?,
                num_closids: number(&bandwidth, "num_closids")?,
            });
            let is = |resource: &str| resource == "MB";
            (figures.mem_bw_schema_root, figures.mem_bw_schema) = (line(&all, is), line(&own, is));
        }
        let events = match there(info.child("L3_MON"))? {
            Some(monitoring) => read(&monitoring, "mon_features")?.unwrap_or_default(),
            None => String::new(),
        };
        self.measure(&events, &mut figures)?;
        Ok(figures)
    }

    fn measure(&self, events: &str, figures: &mut Figures) -> Result<()> {
        let has = |event: &str| events.lines().any(|line| line.trim() == event);
        let (total, local, cache) = (has("mbm_total_bytes"), has("mbm_local_bytes"), has("llc_occupancy"));
        if !total && !local && !cache {
            return Ok(());
        }
        let group = self.monitoring.as_ref().unwrap_or(&self.class);
        let Some(data) = there(group.child("mon_data"))? else { return Ok(()) };
        let mut names = data.children()?;
        names.retain(|name| name.starts_with("mon_L3_"));
        names.sort();
        names.truncate(DOMAINS);
        let domains = names.iter().map(|name| data.child(name)).collect::<Result<Vec<_>, _>>()?;
        let figure = |wanted: bool, domain: &Directory, file| if wanted { number(domain, file) } else { Ok(None) };
        if total || local {
            let of = |domain: &Directory| {
                Ok(BandwidthUse {
                    mbm_total_bytes: figure(total, domain, "mbm_total_bytes")?,
                    mbm_local_bytes: figure(local, domain, "mbm_local_bytes")?,
                })
            };
            figures.mbm_stats = Some(domains.iter().map(of).collect::<Result<_>>()?);
        }
        if cache {
            let of = |domain: &Directory| Ok(CacheUse { llc_occupancy: number(domain, "llc_occupancy")? });
            figures.cmt_stats = Some(domains.iter().map(of).collect::<Result<_>>()?);
        }
        Ok(())
    }
}

fn there<T>(result: Result<T, crate::FailedCall>) -> Result<Option<T>> {
    match result {
        Err(failed) if failed.errno() == Errno::NOENT => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// The lines of a class; none where the machine can only monitor.
fn schemata(class: &Directory) -> Result<Vec<String>> {
    let text = read(class, "schemata")?.unwrap_or_default();
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

fn read(directory: &Directory, file: &str) -> Result<Option<String>> {
    Ok(there(directory.read_small(file, LONGEST))?.map(|text| text.trim().to_owned()))
}

/// A figure; none where the kernel has no such file, or writes that it cannot tell.
fn number(directory: &Directory, file: &str) -> Result<Option<u64>> {
    let Some(text) = read(directory, file)? else { return Ok(None) };
    match text.as_str() {
        "Unavailable" | "Error" | "Unassigned" => Ok(None),
        _ => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Error::NoNumber { path: directory.path().join(file), text: text.chars().take(80).collect() }),
        },
    }
}
