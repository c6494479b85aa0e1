//! `inspect`, `container inspect`

use super::verb;
use crate::docker_json;
use crate::failure::Failure;
use crate::flags::format;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::{Engine, Kind};
use serde_json::Value;

/// Return low-level information on objects
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] NAME|ID [NAME|ID...]", "Return low-level information on Docker objects");

/// The same, of containers only
pub const CONTAINER: Verb = verb!(
    Flags,
    execute_containers,
    Other,
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Display detailed information on one or more containers"
);

#[derive(Args)]
struct Flags {
    /// json, or a Go template
    #[arg(short = 'f', long, value_name = "string")]
    format: Option<String>,
    /// Only objects of that type: container or image
    #[arg(long, value_name = "string")]
    r#type: Option<String>,
    /// Names or identifiers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let kind = match flags.r#type.as_deref() {
        None | Some("") => None,
        Some(kind @ ("container" | "image" | "network")) => Some(kind),
        Some(kind @ ("volume" | "node" | "plugin" | "secret" | "service" | "swarm" | "task" | "config")) => {
            return Err(Failure::new(format!("--type {kind} is not supported yet: container and image are")));
        }
        Some(kind) => return Err(Failure::new(format!("unknown type: {kind:?}"))),
    };
    let engine = session.engine()?;
    several(&flags.names, flags.format.as_deref(), |name| object(&engine, name, kind))
}

fn execute_containers(session: &Session, flags: &Flags) -> Result<(), Failure> {
    if flags.r#type.as_deref().is_some_and(|kind| kind != "container") {
        return Err(Failure::new("conflicting options: --type in 'container inspect'"));
    }
    let engine = session.engine()?;
    several(&flags.names, flags.format.as_deref(), |name| object(&engine, name, Some("container")))
}

/// The object of that name: a container before an image, as in Docker.
fn object(engine: &Engine, name: &str, kind: Option<&str>) -> Result<Value, Failure> {
    if kind == Some("network") {
        return network(engine, name);
    }
    if kind != Some("image") {
        match engine.inspect(name) {
            Ok(container) => return docker_json::container::value(&container),
            Err(error) if error.kind() == Kind::NotFound && kind.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    match engine.image(name) {
        Ok(image) => docker_json::image::value(&image),
        Err(error) if error.kind() == Kind::NotFound && kind.is_none() => match network(engine, name) {
            Err(Failure::Engine(error)) if error.kind() == Kind::NotFound => {
                Err(Failure::new(format!("No such object: {name}")))
            }
            other => other,
        },
        Err(error) => Err(error.into()),
    }
}

fn network(engine: &Engine, name: &str) -> Result<Value, Failure> {
    let (network, members) = engine.network(name)?;
    docker_json::network::value(&network, &members)
}

/// Prints what was found, then shows what was not. Without a format it is one list, empty if need be.
pub fn several(
    names: &[String],
    template: Option<&str>,
    find: impl Fn(&str) -> Result<Value, Failure>,
) -> Result<(), Failure> {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        match find(name) {
            Ok(value) => found.push(value),
            Err(failure) => failures.push(failure),
        }
    }
    match template {
        None => output::json(&found)?,
        Some(template) => {
            for value in &found {
                output::line(&format::object(template, value)?)?;
            }
        }
    }
    failures.iter().for_each(output::failure);
    if failures.is_empty() { Ok(()) } else { Err(Failure::Shown) }
}
