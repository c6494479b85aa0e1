//! `version`

use super::verb;
use crate::failure::Failure;
use crate::flags::format;
use crate::output;
use crate::program;
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

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Client and server are one program here; scripts ask for either, by the fields that Docker's have.
fn tree() -> Value {
    let api = docker_api::newest();
    let own = json!({
        "Version": program::version(),
        "ApiVersion": api,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": go_architecture(),
        "BuildTime": "",
        "KernelVersion": kernel(),
    });
    let (mut client, mut server) = (own.clone(), own);
    client["DefaultAPIVersion"] = api.clone().into();
    client["Context"] = "default".into();
    server["MinAPIVersion"] = docker_api::oldest().into();
    server["Experimental"] = false.into();
    server["Platform"] = json!({ "Name": format!("dhow {}", engine::VERSION) });
    server["Components"] = json!([{ "Name": "dhow", "Version": engine::VERSION }]);
    json!({ "Client": client, "Server": server })
}

fn text() -> String {
    let side = |title: &str| {
        format!(
            "{title}\n Version:           {}\n API version:       {}\n OS/Arch:           linux/{}\n",
            program::version(),
            docker_api::newest(),
            go_architecture()
        )
    };
    if program::is_docker() {
        return format!(
            "{} Context:           default\n\n{} dhow:\n  Version:          {}\n Kernel version:    {}\n",
            side("Client:"),
            side("Server:"),
            engine::VERSION,
            kernel()
        );
    }
    format!("{} Kernel version:    {}\n", side("dhow"), kernel())
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
