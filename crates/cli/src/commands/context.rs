//! `context`: Docker's contexts say to which machine a command goes. dhow works on this one, which is the context
//! `default`; the verbs by which scripts ask for it are here.

use super::{Group, inspect, verb};
use crate::failure::Failure;
use crate::flags::format::{self, Column};
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use serde_json::json;

/// The group.
pub const GROUP: Group = Group {
    name: "context",
    about: "Manage contexts; default is the only one",
    verbs: &[(&["inspect"], &INSPECT), (&["ls", "list"], &LS), (&["show"], &SHOW), (&["use"], &USE)],
};

const INSPECT: Verb = verb!(
    InspectFlags,
    inspect,
    Other,
    "[OPTIONS] [CONTEXT] [CONTEXT...]",
    "Display detailed information on one or more contexts"
);
const LS: Verb = verb!(ListFlags, list, Other, "[OPTIONS]", "List contexts");
const SHOW: Verb = verb!(NoFlags, show, Other, "", "Print the name of the current context");
const USE: Verb = verb!(UseFlags, choose, Other, "CONTEXT", "Set the current docker context");

const COLUMNS: &[Column] =
    &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("DockerEndpoint", "DOCKER ENDPOINT"), ("Error", "ERROR")];
const TABLE: &str = "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";

#[derive(Args)]
struct NoFlags {}

#[derive(Args)]
struct InspectFlags {
    /// json, or a Go template
    #[arg(short = 'f', long, value_name = "string")]
    format: Option<String>,
    /// Names; default when absent
    #[arg(value_name = "CONTEXT")]
    contexts: Vec<String>,
}

#[derive(Args)]
struct ListFlags {
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Print only names
    #[arg(short = 'q', long)]
    quiet: bool,
}

#[derive(Args)]
struct UseFlags {
    /// default
    #[arg(value_name = "CONTEXT")]
    context: String,
}

/// Where programs that speak Docker's protocol find this machine: the socket of `dhow serve`, or what was chosen.
fn endpoint(session: &Session) -> Result<String, Failure> {
    match std::env::var("DOCKER_HOST") {
        Ok(host) if !host.is_empty() => Ok(host),
        _ => Ok(format!("unix://{}", session.config()?.run_root.join("docker.sock").display())),
    }
}

fn known(name: &str) -> Result<(), Failure> {
    match name {
        "default" => Ok(()),
        name => Err(Failure::new(format!("context {name:?}: context not found: default is the only one"))),
    }
}

fn inspect(session: &Session, flags: &InspectFlags) -> Result<(), Failure> {
    let host = endpoint(session)?;
    let names = if flags.contexts.is_empty() { vec!["default".to_owned()] } else { flags.contexts.clone() };
    inspect::several(&names, flags.format.as_deref(), |name| {
        known(name)?;
        Ok(json!({
            "Name": "default",
            "Metadata": {},
            "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } },
            "TLSMaterial": {},
            "Storage": { "MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>" },
        }))
    })
}

fn list(session: &Session, flags: &ListFlags) -> Result<(), Failure> {
    if flags.quiet {
        return output::line("default");
    }
    let row = json!({
        "Current": true,
        "Description": "This machine",
        "DockerEndpoint": endpoint(session)?,
        "Error": "",
        "Name": "default",
    });
    output::text(&format::list(flags.format.as_deref(), TABLE, COLUMNS, &[row])?)
}

fn show(_session: &Session, _flags: &NoFlags) -> Result<(), Failure> {
    output::line("default")
}

fn choose(_session: &Session, flags: &UseFlags) -> Result<(), Failure> {
    known(&flags.context)?;
    output::line("default")?;
    output::remark("Current context is now \"default\"");
    Ok(())
}
