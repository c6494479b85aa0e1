//! `info`, `system info`

use super::verb;
use crate::display::amount;
use crate::failure::Failure;
use crate::flags::format;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::Info;
use serde_json::{Value, json};

/// Display system-wide information
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "Display system-wide information");

#[derive(Args)]
struct Flags {
    /// json, or a Go template
    #[arg(short = 'f', long, value_name = "string")]
    format: Option<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let info = session.engine()?.info()?;
    match &flags.format {
        Some(template) => output::line(&format::object(template, &tree(&info))?),
        None => output::text(&text(&info)),
    }
}

fn tree(info: &Info) -> Value {
    let security: Vec<String> = info.security.iter().map(|name| format!("name={name}")).collect();
    json!({
        "Containers": info.running + info.paused + info.stopped,
        "ContainersRunning": info.running,
        "ContainersPaused": info.paused,
        "ContainersStopped": info.stopped,
        "Images": info.images,
        "Driver": "overlayfs",
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        // Docker knows 1 and 2; a mixed set-up is 1 with something beside it.
        "CgroupVersion": info.cgroup_version.split(' ').next(),
        "SecurityOptions": security,
        "KernelVersion": info.kernel,
        "OperatingSystem": info.operating_system,
        "OSType": "linux",
        "Architecture": info.architecture,
        "NCPU": info.processors,
        "MemTotal": info.memory,
        "DockerRootDir": info.data_root,
        "RunDir": info.run_root,
        "Name": info.hostname,
        "ServerVersion": engine::VERSION,
    })
}

fn text(info: &Info) -> String {
    let security: String = info.security.iter().map(|name| format!("  {name}\n")).collect();
    format!(
        "Containers: {}\n Running: {}\n Paused: {}\n Stopped: {}\nImages: {}\nVersion: {}\nStorage driver: overlayfs\n\
         Logging driver: json-file\nCgroup driver: cgroupfs\nCgroup version: {}\nSecurity options:\n{security}\
         Kernel version: {}\nOperating system: {}\nArchitecture: {}\nCPUs: {}\nTotal memory: {}\nName: {}\n\
         Data directory: {}\nRun directory: {}\n",
        info.running + info.paused + info.stopped,
        info.running,
        info.paused,
        info.stopped,
        info.images,
        engine::VERSION,
        info.cgroup_version,
        info.kernel,
        info.operating_system,
        info.architecture,
        info.processors,
        amount::binary(info.memory),
        info.hostname,
        info.data_root.display(),
        info.run_root.display(),
    )
}
