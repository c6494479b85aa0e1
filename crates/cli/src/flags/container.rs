//! The flags of `create` and `run` that describe the container, and what they mean to the engine.

use crate::failure::Failure;
use crate::flags::attachment::own_terminal;
use crate::flags::health::HealthFlags;
use crate::flags::io::IoFlags;
use crate::flags::users::UserFlags;
use crate::values::{
    cpus, devices, environment, gpus, hosts, keyvalue, mount, network, ports, secret, security, signal, size, tmpfs,
    ulimit, volume,
};
use clap::Args;
use engine::SecretUse;
use engine::containers::options::{Limits, Options, PullPolicy, Ulimit};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Flags of `create` and `run`.
#[derive(Args, Debug, Default)]
pub struct ContainerFlags {
    /// Add a line to /etc/hosts (host:ip)
    #[arg(long, value_name = "list", value_parser = hosts::extra)]
    add_host: Vec<String>,
    /// Add an annotation to the container (passed to the OCI runtime)
    #[arg(long, value_name = "map", value_parser = keyvalue::annotation)]
    annotation: Vec<(String, String)>,
    /// Add a capability, or ALL
    #[arg(long, value_name = "list")]
    cap_add: Vec<String>,
    /// Drop a capability, or ALL
    #[arg(long, value_name = "list")]
    cap_drop: Vec<String>,
    /// Parent cgroup of the container
    #[arg(long, value_name = "string")]
    cgroup_parent: Option<String>,
    /// Cgroup namespace: host or private
    #[arg(long, value_name = "string", value_parser = cgroup_namespace)]
    cgroupns: Option<String>,
    /// Write the container ID to the file
    #[arg(long, value_name = "file")]
    cidfile: Option<String>,
    /// Period of the processor quota in microseconds
    #[arg(long, value_name = "int")]
    cpu_period: Option<u64>,
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
    /// Give the container a config as a file (name[,target=,uid=,gid=,mode=])
    #[arg(long, value_name = "config", value_parser = secret::config)]
    config: Vec<SecretUse>,
    /// Processors on which to run (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// Memory nodes from which to allocate (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Add a device of the host (host[:container[:rwm]], or vendor/class=name by CDI)
    #[arg(long, value_name = "list", value_parser = devices::parse)]
    device: Vec<String>,
    /// Allow devices by a rule (TYPE MAJOR:MINOR ACCESS)
    #[arg(long, value_name = "list")]
    device_cgroup_rule: Vec<String>,
    #[command(flatten)]
    io: IoFlags,
    /// Do not verify signatures of the image (default true, and nothing else)
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = crate::values::boolean::parse, hide = true)]
    disable_content_trust: Option<bool>,
    /// Set name servers
    #[arg(long, value_name = "list", value_parser = hosts::server)]
    dns: Vec<String>,
    /// Set options of the resolver
    #[arg(long, alias = "dns-opt", value_name = "list")]
    dns_option: Vec<String>,
    /// Set search domains
    #[arg(long, value_name = "list")]
    dns_search: Vec<String>,
    /// NIS domain name
    #[arg(long, value_name = "string")]
    domainname: Option<String>,
    /// Replace the image's entry point; empty removes it
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    entrypoint: Option<String>,
    /// Set an environment variable (KEY=VALUE), or take it over (KEY)
    #[arg(short = 'e', long, value_name = "list", value_parser = environment::parse)]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "file")]
    env_file: Vec<String>,
    /// Say that the container listens on a port, or a range of them
    #[arg(long, value_name = "list")]
    expose: Vec<String>,
    /// Add GPUs by CDI (all, a number, or device=0,1)
    #[arg(long, value_name = "gpu-request", value_parser = gpus::parse)]
    gpus: Vec<Vec<String>>,
    /// Add a supplementary group
    #[arg(long, value_name = "list")]
    group_add: Vec<String>,
    #[command(flatten)]
    health: HealthFlags,
    #[command(flatten)]
    users: UserFlags,
    /// Host name of the container
    #[arg(short = 'h', long, value_name = "string")]
    hostname: Option<String>,
    /// Run an init as PID 1 that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Keep standard input open even if not attached
    #[arg(short = 'i', long)]
    interactive: bool,
    /// IPv4 address on the network
    #[arg(long, value_name = "ip")]
    ip: Option<String>,
    /// IPv6 address on the network
    #[arg(long, value_name = "ip")]
    ip6: Option<String>,
    /// IPC namespace: private, shareable, host, none or container:NAME
    #[arg(long, value_name = "string", value_parser = ipc_mode)]
    ipc: Option<String>,
    /// Isolation technology: default
    #[arg(long, value_name = "string", value_parser = isolation, hide = true)]
    isolation: Option<String>,
    /// Set a label (KEY[=VALUE])
    #[arg(short = 'l', long, value_name = "list", value_parser = keyvalue::label)]
    label: Vec<(String, String)>,
    /// Read labels from a file
    #[arg(long, value_name = "file")]
    label_file: Vec<String>,
    /// Give another container a name for this one alone (container[:name])
    #[arg(long, value_name = "list")]
    link: Vec<String>,
    /// Link-local address on the network
    #[arg(long, value_name = "list")]
    link_local_ip: Vec<String>,
    /// Log driver: json-file, local, journald, syslog or none
    #[arg(long, value_name = "string")]
    log_driver: Option<String>,
    /// Option of the log driver (KEY=VALUE)
    #[arg(long, value_name = "list", value_parser = keyvalue::log_option)]
    log_opt: Vec<(String, String)>,
    /// Hardware address on the network
    #[arg(long, value_name = "string")]
    mac_address: Option<String>,
    /// Memory limit
    #[arg(short = 'm', long, value_name = "bytes", value_parser = size::limit)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = size::limit)]
    memory_reservation: Option<i64>,
    /// Limit of memory and swap together; -1 for unlimited swap
    #[arg(long, value_name = "bytes", value_parser = size::or_unlimited, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Tendency to swap (0 to 100, or -1 for the default; cgroup v1)
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    memory_swappiness: Option<i64>,
    /// Mount something (type=bind|volume|tmpfs|image,KEY=VALUE,…)
    #[arg(long, value_name = "mount")]
    mount: Vec<String>,
    /// Name of the container
    #[arg(long, value_name = "string")]
    name: Option<String>,
    /// Network: a name, host, none or container:NAME; several times, or name=NAME,alias=…,ip=…
    #[arg(long, alias = "net", value_name = "network")]
    network: Vec<String>,
    /// Let nothing be killed when the memory limit is reached (cgroup v1)
    #[arg(long)]
    oom_kill_disable: bool,
    /// Give the container another name on its network
    #[arg(long, alias = "net-alias", value_name = "list")]
    network_alias: Vec<String>,
    /// Add to the score by which the kernel chooses what to kill (-1000 to 1000)
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
    /// PID namespace: host, or container:NAME
    #[arg(long, value_name = "string", value_parser = pid_mode)]
    pid: Option<String>,
    /// Limit of tasks; -1 for unlimited
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Platform of a multi-platform image (os/arch[/variant])
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Give all privileges to the container
    #[arg(long)]
    privileged: bool,
    /// Publish a port ([[ip:]port:]port[/protocol])
    #[arg(short = 'p', long, value_name = "list")]
    publish: Vec<String>,
    /// Publish all ports that the image or --expose names
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// When to pull the image: always, missing or never
    #[arg(long, value_name = "string", value_parser = pull_policy)]
    pull: Option<PullPolicy>,
    /// Say nothing while pulling
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// What to do when the container ends: no, always, unless-stopped or on-failure[:max-retries]
    #[arg(long, value_name = "string")]
    restart: Option<String>,
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Runtime of the container: dhow, another by its name or its path
    #[arg(long, value_name = "string")]
    runtime: Option<String>,
    /// Give the container a secret (name[,type=mount|env,target=,uid=,gid=,mode=])
    #[arg(long, value_name = "secret", value_parser = secret::secret)]
    secret: Vec<SecretUse>,
    /// Security option (seccomp=, apparmor=, label=, no-new-privileges, systempaths=, writable-cgroups)
    #[arg(long, value_name = "list")]
    security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", value_parser = size::parse)]
    shm_size: Option<u64>,
    /// Signal that asks the container to stop
    #[arg(long, value_name = "string", value_parser = signal::parse_or_empty)]
    stop_signal: Option<String>,
    /// Seconds from that signal to SIGKILL; -1 for no end
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    stop_timeout: Option<i64>,
    /// Option of the container's writable layer (size=)
    #[arg(long, value_name = "list", value_parser = keyvalue::label)]
    storage_opt: Vec<(String, String)>,
    /// Set a kernel parameter of the container (KEY=VALUE)
    #[arg(long, value_name = "map", value_parser = keyvalue::sysctl)]
    sysctl: Vec<(String, String)>,
    /// Mount a tmpfs (PATH[:OPTIONS])
    #[arg(long, value_name = "list")]
    tmpfs: Vec<String>,
    /// Allocate a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// Limit of resources (NAME=SOFT[:HARD])
    #[arg(long, value_name = "ulimit", value_parser = ulimit::parse)]
    ulimit: Vec<Ulimit>,
    /// User and group (name|uid[:group|gid])
    #[arg(short = 'u', long, value_name = "string")]
    user: Option<String>,
    /// User namespace: host, auto[:size=N,…], keep-id[:uid=N,gid=N], nomap, or CONTAINER:HOST:SIZE[,…]
    #[arg(long, value_name = "string")]
    userns: Option<String>,
    /// Permissions that new files do not get, octal
    #[arg(long, value_name = "string", value_parser = umask)]
    umask: Option<u32>,
    /// UTS namespace: host, private or container:NAME
    #[arg(long, value_name = "string", value_parser = uts_mode)]
    uts: Option<String>,
    /// Mount a volume, or a directory or file of the host ([name|host:]container[:options])
    #[arg(short = 'v', long, value_name = "list")]
    volume: Vec<String>,
    /// Driver of volumes that are made: local
    #[arg(long, value_name = "string")]
    volume_driver: Option<String>,
    /// Take over the mounts of a container (CONTAINER[:ro])
    #[arg(long, value_name = "list", value_parser = volume::from_container)]
    volumes_from: Vec<engine::VolumesFrom>,
    /// Working directory in the container
    #[arg(short = 'w', long, value_name = "string")]
    workdir: Option<String>,
    /// The image, then the command with its arguments, flags of its own included.
    #[arg(value_name = "IMAGE", required = true, num_args = 1.., trailing_var_arg = true, hide = true)]
    words: Vec<String>,
}

/// How `run` and `create` behave around the container.
impl ContainerFlags {
    /// Whether standard input stays open.
    pub fn interactive(&self) -> bool {
        self.interactive
    }

    /// Whether pulling is silent.
    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// The file for the identifier, which must not be there yet.
    pub fn cidfile(&self) -> Result<Option<CidFile>, Failure> {
        self.cidfile.as_deref().map(CidFile::new).transpose()
    }

    /// The engine's options.
    pub fn options(&self) -> Result<Options, Failure> {
        self.check()?;
        let (image, command) = self.words.split_first().ok_or_else(|| Failure::new("an image is required"))?;
        let (network, networks) = network::parse(&self.network, &self.network_details())?;
        Ok(Options {
            image: image.clone(),
            pull: self.pull.unwrap_or_default(),
            platform: given(&self.platform),
            name: given(&self.name),
            command: command.to_vec(),
            entrypoint: self.entrypoint.clone().map(|word| vec![word]),
            env: environment::resolve(&self.env_file, &self.env, environment::own)?,
            user: given(&self.user),
            group_add: self.group_add.clone(),
            working_directory: given(&self.workdir),
            hostname: given(&self.hostname),
            domainname: given(&self.domainname),
            labels: self.labels()?,
            terminal: self.tty,
            terminal_size: own_terminal(),
            open_stdin: self.interactive,
            auto_remove: self.rm,
            mounts: self.mounts()?,
            volumes_from: self.volumes_from.clone(),
            storage_options: self.storage_opt.iter().cloned().collect(),
            read_only: self.read_only,
            network,
            networks,
            ports: self.ports()?,
            publish_all: self.publish_all,
            expose: self.expose.clone(),
            dns: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_option.clone(),
            extra_hosts: self.add_host.clone(),
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            privileged: self.privileged,
            security_options: security::resolve(&self.security_opt)?,
            ulimits: self.ulimit.clone(),
            annotations: self.annotation.iter().cloned().collect(),
            devices: self.device.iter().chain(self.gpus.iter().flatten()).cloned().collect(),
            device_rules: self.device_cgroup_rule.clone(),
            userns_mode: given(&self.userns),
            runtime: given(&self.runtime),
            sysctls: self.sysctl.iter().cloned().collect(),
            init: self.init,
            shm_size: self.shm_size,
            limits: self.limits()?,
            cgroup_parent: given(&self.cgroup_parent),
            cgroup_namespace: given(&self.cgroupns),
            pid_mode: given(&self.pid),
            ipc_mode: given(&self.ipc),
            uts_mode: given(&self.uts),
            oom_score_adj: self.oom_score_adj,
            umask: self.umask,
            stop_signal: given(&self.stop_signal),
            stop_timeout: self.stop_timeout,
            log_driver: given(&self.log_driver),
            log_options: self.log_options()?,
            restart: crate::values::restart::parse(self.restart.as_deref().unwrap_or_default())?,
            health: self.health.options(),
            secrets: self.secret.iter().chain(&self.config).cloned().collect(),
            ..self.users.options()
        })
    }

    /// Those of the flags come over those of the files.
    fn labels(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut labels = BTreeMap::new();
        for path in &self.label_file {
            labels.extend(keyvalue::file(path, "label", |_| Some(String::new()))?);
        }
        labels.extend(self.label.iter().cloned());
        Ok(labels)
    }

    /// What has one value only.
    fn check(&self) -> Result<(), Failure> {
        match self.disable_content_trust {
            Some(false) => {
                Err(Failure::new("content trust is not supported: images are verified by their digests only"))
            }
            _ => Ok(()),
        }
    }

    fn network_details(&self) -> network::Details<'_> {
        let given = |flag: &'_ Option<String>| flag.as_ref().is_some_and(|value| !value.is_empty());
        network::Details {
            aliases: &self.network_alias,
            ip: self.ip.as_deref().filter(|_| given(&self.ip)),
            ip6: self.ip6.as_deref().filter(|_| given(&self.ip6)),
            links: &self.link,
            link_local_ips: &self.link_local_ip,
            mac: self.mac_address.as_deref().filter(|_| given(&self.mac_address)),
        }
    }

    fn mounts(&self) -> Result<Vec<engine::containers::options::Mount>, Failure> {
        let directory = || std::env::current_dir().ok();
        let mut mounts = Vec::new();
        for text in &self.volume {
            mounts.push(volume::parse(text, self.volume_driver.as_deref().unwrap_or_default(), &directory)?);
        }
        for text in &self.mount {
            let mount = mount::parse(text, &directory);
            mounts.push(mount.map_err(|error| format!("invalid argument {text:?} for \"--mount\" flag: {error}"))?);
        }
        for text in &self.tmpfs {
            let mount = tmpfs::parse(text);
            mounts.push(mount.map_err(|error| format!("invalid argument {text:?} for \"--tmpfs\" flag: {error}"))?);
        }
        Ok(mounts)
    }

    fn ports(&self) -> Result<Vec<engine::containers::options::PublishedPort>, Failure> {
        let mut all = Vec::new();
        for text in &self.publish {
            for port in ports::parse(text)? {
                if !all.contains(&port) {
                    all.push(port);
                }
            }
        }
        Ok(all)
    }

    fn limits(&self) -> Result<Limits, Failure> {
        if self.cpus.is_some_and(|cpus| cpus > 0) && (self.cpu_period.is_some() || self.cpu_quota.is_some()) {
            return Err(Failure::new("conflicting options: --cpus and --cpu-period or --cpu-quota cannot both be set"));
        }
        // Docker's zero means: as if the flag were not there.
        Ok(Limits {
            memory: self.memory.filter(|bytes| *bytes != 0),
            memory_swap: self.memory_swap.filter(|bytes| *bytes != 0),
            memory_reservation: self.memory_reservation.filter(|bytes| *bytes != 0),
            nano_cpus: self.cpus.filter(|cpus| *cpus != 0),
            cpu_shares: self.cpu_shares.filter(|shares| *shares != 0),
            cpu_period: self.cpu_period.filter(|period| *period != 0),
            cpu_quota: self.cpu_quota.filter(|quota| *quota != 0),
            cpuset_cpus: given(&self.cpuset_cpus),
            cpuset_mems: given(&self.cpuset_mems),
            pids: self.pids_limit.filter(|limit| *limit != 0),
            cpu_realtime_period: self.cpu_rt_period.filter(|period| *period != 0),
            cpu_realtime_runtime: self.cpu_rt_runtime.filter(|runtime| *runtime != 0),
            memory_swappiness: swappiness(self.memory_swappiness)?,
            oom_kill_disable: self.oom_kill_disable,
            io: self.io.limits(),
        })
    }

    fn log_options(&self) -> Result<BTreeMap<String, String>, Failure> {
        if self.log_driver.as_deref() == Some("none") && !self.log_opt.is_empty() {
            return Err(Failure::new("invalid logging opts for driver none"));
        }
        Ok(self.log_opt.iter().cloned().collect())
    }
}

/// Docker's -1 is the kernel's default.
fn swappiness(value: Option<i64>) -> Result<Option<u64>, Failure> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u64::try_from(value) {
            Ok(value) if value <= 100 => Ok(Some(value)),
            _ => Err(Failure::new(format!("invalid value: {value}. Valid memory swappiness range is 0-100"))),
        },
    }
}

/// Docker takes an empty value for an absent flag.
fn given(flag: &Option<String>) -> Option<String> {
    flag.clone().filter(|value| !value.is_empty())
}

/// `--cidfile`: made before the container, written after it, removed when there is none.
#[derive(Debug)]
pub struct CidFile {
    path: PathBuf,
    file: Option<std::fs::File>,
}

impl CidFile {
    fn new(path: &str) -> Result<CidFile, Failure> {
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
        match opened {
            Ok(file) => Ok(CidFile { path: path.into(), file: Some(file) }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            ))),
            Err(error) => Err(Failure::caused(format!("failed to create the container ID file {path}"), error)),
        }
    }

    /// Writes the identifier.
    pub fn write(mut self, id: &str) -> Result<(), Failure> {
        use std::io::Write as _;
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.write_all(id.as_bytes()).map_err(|error| {
            Failure::caused(format!("the container ID file {} cannot be written", self.path.display()), error)
        })
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Still empty: no container was made. A file that cannot be removed stays as the sign of that.
            _ = std::fs::remove_file(&self.path);
        }
    }
}

fn pull_policy(text: &str) -> Result<PullPolicy, String> {
    match text {
        "missing" | "" => Ok(PullPolicy::Missing),
        "always" => Ok(PullPolicy::Always),
        "never" => Ok(PullPolicy::Never),
        _ => Err(format!("invalid pull option: '{text}': must be one of \"always\", \"missing\" or \"never\"")),
    }
}

fn umask(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = u32::from_str_radix(text, 8).ok().filter(|number| digits && *number <= 0o777);
    number.ok_or_else(|| format!("--umask: {text:?} is no octal number up to 0777"))
}

fn pid_mode(text: &str) -> Result<String, String> {
    match text {
        "" | "host" | "private" => Ok(text.to_owned()),
        _ if text.strip_prefix("container:").is_some_and(|name| !name.is_empty()) => Ok(text.to_owned()),
        _ => Err("--pid: invalid PID mode".into()),
    }
}

fn ipc_mode(text: &str) -> Result<String, String> {
    match text {
        "" | "host" | "private" | "shareable" | "none" => Ok(text.to_owned()),
        _ if text.strip_prefix("container:").is_some_and(|name| !name.is_empty()) => Ok(text.to_owned()),
        _ => Err(format!("invalid IPC mode: {text}")),
    }
}

/// Linux has one isolation only, which needs no further word.
fn isolation(text: &str) -> Result<String, String> {
    match text {
        "" | "default" => Ok(text.to_owned()),
        _ => Err(format!("invalid isolation {text:?} on linux")),
    }
}

fn uts_mode(text: &str) -> Result<String, String> {
    match text {
        "" | "host" | "private" => Ok(text.to_owned()),
        _ if text.strip_prefix("container:").is_some_and(|name| !name.is_empty()) => Ok(text.to_owned()),
        _ => Err("--uts: invalid UTS mode".into()),
    }
}

fn cgroup_namespace(text: &str) -> Result<String, String> {
    match text {
        "" | "host" | "private" => Ok(text.to_owned()),
        _ => Err("--cgroupns: invalid CGROUP mode".into()),
    }
}

#[cfg(test)]
mod tests;
