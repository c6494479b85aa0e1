//! `update`

use super::{each_named, verb};
use crate::failure::Failure;
use crate::session::Session;
use crate::values::{cpus, mount, ports, restart, size};
use crate::verb::Verb;
use clap::Args;
use engine::{IoLimits, Limits, Mount, PublishedPort, UpdateOptions};

/// Update configuration of one or more containers
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers"
);

#[derive(Args)]
struct Flags {
    /// Period of the processor quota in microseconds
    #[arg(long, value_name = "int")]
    cpu_period: Option<u64>,
    /// Relative weight of block devices (10 to 1000)
    #[arg(long, value_name = "uint16")]
    blkio_weight: Option<u16>,
    /// Period of real-time scheduling in microseconds (cgroup v1)
    #[arg(long, value_name = "int")]
    cpu_rt_period: Option<u64>,
    /// Real-time share of that period in microseconds (cgroup v1)
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// Processor time per period in microseconds
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Relative weight among containers
    #[arg(short = 'c', long, value_name = "int")]
    cpu_shares: Option<u64>,
    /// Number of processors
    #[arg(long, value_name = "decimal", value_parser = cpus::parse, allow_hyphen_values = true)]
    cpus: Option<i64>,
    /// Processors on which to run (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// Memory nodes from which to allocate (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short = 'm', long, value_name = "bytes", value_parser = size::limit)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = size::limit)]
    memory_reservation: Option<i64>,
    /// Limit of memory and swap together; -1 for unlimited swap
    #[arg(long, value_name = "bytes", value_parser = size::or_unlimited, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Limit of tasks; -1 for unlimited
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// What to do when the container ends: no, always, unless-stopped or on-failure[:max-retries]
    #[arg(long, value_name = "string")]
    restart: Option<String>,
    /// Mount something, also while the container runs, as run --mount does
    #[arg(long, value_name = "mount")]
    mount_add: Vec<String>,
    /// Unmount what is mounted at this path of the container
    #[arg(long, value_name = "path")]
    mount_rm: Vec<String>,
    /// Publish a port, also while the container runs, as run -p does
    #[arg(long, value_name = "list")]
    publish_add: Vec<String>,
    /// Take back what leads to a port of the container: 80, 53/udp
    #[arg(long, value_name = "port")]
    publish_rm: Vec<String>,
    /// Names or identifiers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    if flags.cpus.is_some_and(|cpus| cpus > 0) && (flags.cpu_period.is_some() || flags.cpu_quota.is_some()) {
        return Err(Failure::new("conflicting options: --cpus and --cpu-period or --cpu-quota cannot both be set"));
    }
    let given = |flag: &Option<String>| flag.clone().filter(|value| !value.is_empty());
    let limits = Limits {
        memory: flags.memory.filter(|bytes| *bytes != 0),
        memory_swap: flags.memory_swap.filter(|bytes| *bytes != 0),
        memory_reservation: flags.memory_reservation.filter(|bytes| *bytes != 0),
        nano_cpus: flags.cpus.filter(|cpus| *cpus != 0),
        cpu_shares: flags.cpu_shares.filter(|shares| *shares != 0),
        cpu_period: flags.cpu_period.filter(|period| *period != 0),
        cpu_quota: flags.cpu_quota.filter(|quota| *quota != 0),
        cpuset_cpus: given(&flags.cpuset_cpus),
        cpuset_mems: given(&flags.cpuset_mems),
        // Docker: 0 lifts the limit.
        pids: flags.pids_limit.map(|limit| if limit == 0 { -1 } else { limit }),
        cpu_realtime_period: flags.cpu_rt_period.filter(|period| *period != 0),
        cpu_realtime_runtime: flags.cpu_rt_runtime.filter(|runtime| *runtime != 0),
        io: IoLimits { weight: flags.blkio_weight.filter(|weight| *weight != 0), ..IoLimits::default() },
        ..Limits::default()
    };
    let options = UpdateOptions { limits, restart: flags.restart.as_deref().map(restart::parse).transpose()? };
    let live = Live::read(flags)?;
    let changes = options.limits.any() || options.restart.is_some();
    if !changes && !live.any() {
        return Err(Failure::new("you must provide one or more flags when using this command"));
    }
    let engine = session.engine()?;
    each_named(&flags.containers, |name| {
        if changes {
            engine.update(name, &options)?.iter().for_each(|warning| session.warn(warning));
        }
        // What is taken back first may be what is given anew.
        live.mount_rm.iter().try_for_each(|target| engine.remove_mount(name, target))?;
        if !live.publish_rm.is_empty() {
            engine.remove_ports(name, &live.publish_rm)?;
        }
        live.mount_add.iter().try_for_each(|mount| engine.add_mount(name, mount))?;
        if !live.publish_add.is_empty() {
            engine.add_ports(name, &live.publish_add)?;
        }
        Ok(())
    })
}

/// What Docker can only choose when a container is made.
struct Live {
    mount_add: Vec<Mount>,
    mount_rm: Vec<String>,
    publish_add: Vec<PublishedPort>,
    publish_rm: Vec<(u16, String)>,
}

impl Live {
    fn read(flags: &Flags) -> Result<Self, Failure> {
        let directory = || std::env::current_dir().ok();
        let mount = |text: &String| {
            mount::parse(text, &directory)
                .map_err(|error| Failure::new(format!("invalid argument {text:?} for \"--mount-add\" flag: {error}")))
        };
        let publish_add = flags.publish_add.iter().map(|text| ports::parse(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Live {
            mount_add: flags.mount_add.iter().map(mount).collect::<Result<_, _>>()?,
            mount_rm: flags.mount_rm.clone(),
            publish_add: publish_add.into_iter().flatten().collect(),
            publish_rm: flags.publish_rm.iter().map(|text| container_port(text)).collect::<Result<_, _>>()?,
        })
    }

    fn any(&self) -> bool {
        !(self.mount_add.is_empty()
            && self.mount_rm.is_empty()
            && self.publish_add.is_empty()
            && self.publish_rm.is_empty())
    }
}

/// `PORT[/PROTOCOL]`
fn container_port(text: &str) -> Result<(u16, String), Failure> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let known = matches!(protocol, "tcp" | "udp" | "sctp");
    match port.parse() {
        Ok(port) if known && port != 0 => Ok((port, protocol.to_owned())),
        _ => Err(Failure::new(format!("invalid port {text:?}: give the container's, such as 80 or 53/udp"))),
    }
}
