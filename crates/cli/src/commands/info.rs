//! `info`, `system info`

use super::verb;
use crate::display::amount;
use crate::failure::Failure;
use crate::flags::format;
use crate::output;
use crate::program;
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

/// The fields of Docker's API, and those of its client.
fn tree(info: &Info) -> Value {
    let mut tree = docker_api::info(info);
    tree["ServerVersion"] = program::version().into();
    tree["RunDir"] = info.run_root.display().to_string().into();
    tree["ClientInfo"] = json!({
        "Debug": false,
        "Version": program::version(),
        "Context": "default",
        "Plugins": [],
        "Warnings": null,
    });
    tree
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
