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
        None => {
            for warning in &info.warnings {
                output::remark(warning);
            }
            output::text(&text(&info))
        }
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

/// By Docker's names, which scripts look for.
fn text(info: &Info) -> String {
    let security: String = info.security.iter().map(|name| format!("  {name}\n")).collect();
    let runtimes: String = info.runtimes.iter().map(|runtime| format!(" {}", runtime.name)).collect();
    format!(
        "Containers: {}\n Running: {}\n Paused: {}\n Stopped: {}\nImages: {}\nServer Version: {}\nStorage Driver: overlayfs\n\
         Logging Driver: json-file\nCgroup Driver: cgroupfs\nCgroup Version: {}\nRuntimes: dhow{runtimes}\nDefault Runtime: dhow\n\
         Security Options:\n{security}Kernel Version: {}\nOperating System: {}\nOSType: linux\nArchitecture: {}\nCPUs: {}\n\
         Total Memory: {}\nName: {}\nDocker Root Dir: {}\nRun Directory: {}\n{}",
        info.running + info.paused + info.stopped,
        info.running,
        info.paused,
        info.stopped,
        info.images,
        program::version(),
        info.cgroup_version,
        info.kernel,
        info.operating_system,
        info.architecture,
        info.processors,
        amount::binary(info.memory),
        info.hostname,
        info.data_root.display(),
        info.run_root.display(),
        registries(info),
    )
}

/// Proxies and registries, with lines as Docker's client has them.
fn registries(info: &Info) -> String {
    let mut text = String::new();
    let proxies = &info.proxies;
    for (name, value) in [("HTTP Proxy", &proxies.http), ("HTTPS Proxy", &proxies.https), ("No Proxy", &proxies.none)] {
        if !value.is_empty() {
            text.push_str(&format!("{name}: {value}\n"));
        }
    }
    let mut list = |title: &str, entries: &mut dyn Iterator<Item = &str>| {
        text.push_str(&format!("{title}:\n"));
        entries.for_each(|entry| text.push_str(&format!(" {entry}\n")));
    };
    let configured = &info.registries;
    let loopback = ["::1/128", "127.0.0.0/8"].into_iter();
    let insecure = configured.insecure.iter().map(String::as_str).chain(loopback);
    list("Insecure Registries", &mut insecure.chain(configured.insecure_networks.iter().map(String::as_str)));
    if !configured.mirrors.is_empty() {
        list("Registry Mirrors", &mut configured.mirrors.iter().map(String::as_str));
    }
    text
}
