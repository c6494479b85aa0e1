//! `inspect`, `container inspect`

use super::verb;
use crate::failure::Failure;
use crate::flags::format;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::{Engine, Kind, SecretKind};
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
    /// Show what containers have written, and that with their images
    #[arg(short = 's', long)]
    size: bool,
    /// Only objects of that type: config, container, image, network, secret or volume
    #[arg(long, value_name = "string")]
    r#type: Option<String>,
    /// Names or identifiers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let kind = match flags.r#type.as_deref() {
        None | Some("") => None,
        Some(kind @ ("config" | "container" | "image" | "network" | "secret" | "volume")) => Some(kind),
        Some(kind @ ("node" | "plugin" | "service" | "swarm" | "task")) => {
            return Err(Failure::new(format!(
                "--type {kind} is not supported: config, container, image, network, secret and volume are"
            )));
        }
        Some(kind) => return Err(Failure::new(format!("unknown type: {kind:?}"))),
    };
    let engine = session.engine()?;
    several(&flags.names, flags.format.as_deref(), |name| object(&engine, name, kind, flags.size))
}

fn execute_containers(session: &Session, flags: &Flags) -> Result<(), Failure> {
    if flags.r#type.as_deref().is_some_and(|kind| kind != "container") {
        return Err(Failure::new("conflicting options: --type in 'container inspect'"));
    }
    let engine = session.engine()?;
    several(&flags.names, flags.format.as_deref(), |name| object(&engine, name, Some("container"), flags.size))
}

/// The object of that name: a container before an image, as in Docker.
fn object(engine: &Engine, name: &str, kind: Option<&str>, size: bool) -> Result<Value, Failure> {
    match kind {
        Some("config") => return super::secret::value(engine, SecretKind::Config, name),
        Some("network") => return network(engine, name),
        Some("secret") => return super::secret::value(engine, SecretKind::Secret, name),
        _ => {}
    }
    if kind.is_none_or(|kind| kind == "container") {
        match engine.inspect(name) {
            Ok(container) => {
                let mut value = docker_json::container::value(&container)?;
                if size {
                    let size = engine.container_size(&container)?;
                    value["SizeRw"] = size.own.into();
                    value["SizeRootFs"] = size.with_image.into();
                }
                return Ok(value);
            }
            Err(error) if error.kind() == Kind::NotFound && kind.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if kind.is_none_or(|kind| kind == "image") {
        match engine.image(name) {
            Ok(image) => return Ok(docker_json::image::value(&image)?),
            Err(error) if error.kind() == Kind::NotFound && kind.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    match engine.volume(name) {
        Ok(volume) => Ok(docker_json::volume::value(&volume)?),
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
    Ok(docker_json::network::value(&network, &members)?)
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
        Some(template) => rendered(template, &found)?,
    }
    failures.iter().for_each(output::failure);
    if failures.is_empty() { Ok(()) } else { Err(Failure::Shown) }
}

/// A line for each object. As in Docker, whoever gets none gets an empty one.
fn rendered(template: &str, found: &[Value]) -> Result<(), Failure> {
    if template != "json" {
        crate::template::Template::new(template).map_err(Failure::Template)?;
    }
    for (number, value) in found.iter().enumerate() {
        match format::object(template, value) {
            Ok(text) => output::line(&text)?,
            Err(failure) => {
                if number == 0 {
                    output::line("")?;
                }
                return Err(failure);
            }
        }
    }
    if found.is_empty() { output::line("") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use crate::template::Template;

    #[test]
    fn what_scripts_ask_for() {
        let value = docker_json::container::value(&docker_json::sample::running()).unwrap();
        for (template, text) in [
            ("{{.Name}}", "/brave_otter"),
            ("{{.State.Status}} {{.State.Running}} {{.State.Pid}}", "running true 42"),
            ("{{.State.StartedAt}} {{.State.FinishedAt}}", "2026-01-02T11:59:57Z 0001-01-01T00:00:00Z"),
            ("{{.Path}} {{.Args}}", "docker-entrypoint.sh [redis-server --save]"),
            ("{{.NetworkSettings.IPAddress}}", "172.17.0.2"),
            ("{{range .NetworkSettings.Networks}}{{.IPAddress}}/{{.IPPrefixLen}}{{end}}", "172.17.0.2/16"),
            ("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "8080"),
            ("{{range $p, $b := .NetworkSettings.Ports}}{{$p}} {{end}}", "6379/tcp 80/tcp "),
            (
                "{{json .HostConfig.Binds}} {{json .HostConfig.Tmpfs}}",
                "[\"/a:/b:ro,z\"] {\"/t\":\"size=64,mode=1777\"}",
            ),
            ("{{range .Mounts}}{{.Type}}:{{.Destination}}:{{.RW}} {{end}}", "bind:/b:false "),
            ("{{index .Config.Labels \"a\"}}{{.Config.Image}}", "1redis:7"),
            ("{{json .Config.Entrypoint}}", "[\"docker-entrypoint.sh\"]"),
            ("{{.HostConfig.NetworkMode}} {{.HostConfig.RestartPolicy.Name}}", "bridge no"),
            (
                "{{range .HostConfig.Devices}}{{.PathOnHost}}>{{.PathInContainer}}>{{.CgroupPermissions}} {{end}}",
                "/dev/fuse>/dev/fuse>rwm /dev/a>/dev/a>r /dev/a>/dev/b>rw ",
            ),
            ("{{.LogPath}}", &format!("/var/lib/dhow/containers/x/{}-json.log", "0123456789abcdef".repeat(4))),
        ] {
            assert_eq!(Template::new(template).unwrap().render(&value).as_deref(), Ok(text), "{template}");
        }
    }
}
