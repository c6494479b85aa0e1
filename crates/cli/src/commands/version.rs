//! `version`

use super::verb;
use crate::failure::Failure;
use crate::flags::format;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use serde_json::{Value, json};

/// Show the version
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "Show the version information");

#[derive(Args)]
struct Flags {
    /// json, or a Go template
    #[arg(short = 'f', long, value_name = "string")]
    format: Option<String>,
}

fn execute(_session: &Session, flags: &Flags) -> Result<(), Failure> {
    match &flags.format {
        Some(template) => output::line(&format::object(template, &tree())?),
        None => output::text(&text()),
    }
}

/// Client and server are one program here; scripts ask for either.
fn tree() -> Value {
    let names = rustix::system::uname();
    let side = json!({
        "Version": engine::VERSION,
        "Os": "linux",
        "Arch": go_architecture(),
        "KernelVersion": names.release().to_string_lossy(),
    });
    json!({ "Client": side, "Server": side })
}

fn text() -> String {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    format!(
        "dhow\n Version:        {}\n OS/Arch:        linux/{}\n Kernel version: {kernel}\n",
        engine::VERSION,
        go_architecture()
    )
}

/// The processor's name as Go and the image formats have it.
pub fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
