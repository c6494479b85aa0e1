//! What a container became: its changes, its tree as an archive, an image of it.

use crate::access::Tier;
use crate::context::Context;
use crate::failure::Failure;
use crate::piped;
use crate::reply::{self, Reply};
use engine::{ChangeKind, CommitOptions};
use hyper::StatusCode;
use serde_json::{Value, json};

/// `GET /containers/{id}/changes`
pub async fn changes(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let name = wanted.to_owned();
    let changes = context.workers().patient(move |engine| engine.changes(&name)).await?;
    let listed = changes.iter().map(|change| {
        let kind = match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        };
        // Docker's list is text; what is none is shown as near as text comes.
        json!({ "Path": String::from_utf8_lossy(&change.path), "Kind": kind })
    });
    reply::ok(&listed.collect::<Value>())
}

/// `GET /containers/{id}/export`
pub async fn export(context: Context, wanted: &str) -> Result<Reply, Failure> {
    // Asked for before the status is sent; what fails later ends the archive too soon.
    let name = wanted.to_owned();
    let id = context.workers().quick(move |engine| engine.inspect(&name).map(|container| container.id)).await?;
    let (sink, content) = piped::out()?;
    let workers = context.workers().clone();
    tokio::spawn(async move {
        drop(workers.patient(move |engine| engine.export(&id, sink)).await);
    });
    Ok(piped::reply("application/octet-stream", content))
}

/// `POST /commit`
pub async fn commit(mut context: Context) -> Result<Reply, Failure> {
    let config: Option<Value> = context.optional_document().await?;
    let mut changes = config.as_ref().map(from_config).transpose()?.unwrap_or_default();
    changes.extend(instructions(context.query.all("changes")));
    let query = &context.query;
    let text = |key: &str| query.text(key).map(str::to_owned);
    let Some(container) = text("container") else {
        return Err(Failure::bad("bad parameter: missing container"));
    };
    let options = CommitOptions {
        reference: named(text("repo"), text("tag")),
        author: text("author").unwrap_or_default(),
        message: text("comment").unwrap_or_default(),
        changes,
        pause: query.switch_or("pause", true),
    };
    let peer = context.peer.clone();
    if peer.is_confined() && options.reference.is_some() {
        return Err(peer.denied("names of images are shared: a commit without one is allowed"));
    }
    let work = context.workers().patient_translate(move |engine| {
        let container =
            if peer.tier == Tier::Full { container } else { crate::access::usable(engine, &peer, &container)? };
        Ok(engine.commit(&container, &options)?)
    });
    let committed = work.await?;
    reply::json(StatusCode::CREATED, &json!({ "Id": committed.id }))
}

/// A repository with its tag; none without a repository.
pub fn named(repository: Option<String>, tag: Option<String>) -> Option<String> {
    let repository = repository?;
    Some(tag.map_or_else(|| repository.clone(), |tag| format!("{repository}:{tag}")))
}

/// Instructions of a Dockerfile: one parameter each, or a line each.
pub fn instructions<'a>(parameters: impl Iterator<Item = &'a str>) -> Vec<String> {
    let lines = parameters.flat_map(str::lines).map(str::trim);
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The body's configuration as instructions; what is empty in it stays as the container has it.
fn from_config(config: &Value) -> Result<Vec<String>, Failure> {
    let Some(fields) = config.as_object() else {
        return Err(Failure::bad("invalid JSON: a configuration is an object"));
    };
    let mut lines = Vec::new();
    for (name, value) in fields.iter().filter(|(_, value)| is_said(value)) {
        let wrong = || Failure::bad(format!("invalid JSON: {name} is not of its type"));
        let text = || value.as_str().filter(|text| !text.contains(['\n', '\r'])).ok_or_else(wrong);
        let keys = || value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()).ok_or_else(wrong);
        match name.as_str() {
            "Cmd" | "Entrypoint" => {
                let words: crate::create::Words = serde_json::from_value(value.clone()).map_err(|_| wrong())?;
                // The entry point first: it takes a command away that was there before.
                let at = if name == "Entrypoint" { 0 } else { lines.len() };
                lines.insert(at, format!("{} {}", name.to_uppercase(), json!(words.0)));
            }
            "Env" => {
                for pair in value.as_array().ok_or_else(wrong)? {
                    let (key, value) = pair.as_str().and_then(|pair| pair.split_once('=')).ok_or_else(wrong)?;
                    lines.push(format!("ENV {}={}", quoted(key)?, quoted(value)?));
                }
            }
            "Labels" => {
                for (key, value) in value.as_object().ok_or_else(wrong)? {
                    lines.push(format!("LABEL {}={}", quoted(key)?, quoted(value.as_str().ok_or_else(wrong)?)?));
                }
            }
            "ExposedPorts" => lines.extend(keys()?.iter().map(|port| format!("EXPOSE {port}"))),
            "Volumes" => lines.push(format!("VOLUME {}", json!(keys()?))),
            "User" => lines.push(format!("USER {}", text()?)),
            "WorkingDir" => lines.push(format!("WORKDIR {}", text()?)),
            "StopSignal" => lines.push(format!("STOPSIGNAL {}", text()?)),
            // What a container is, and an image cannot be.
            "Hostname" | "Domainname" | "AttachStdin" | "AttachStdout" | "AttachStderr" | "Tty" | "OpenStdin"
            | "StdinOnce" | "Image" | "NetworkDisabled" | "MacAddress" | "StopTimeout" | "HostConfig"
            | "NetworkingConfig" => {}
            other @ ("ArgsEscaped" | "Healthcheck" | "OnBuild" | "Shell") => {
                return Err(Failure::unsupported(&format!("{other} in the configuration of a commit")));
            }
            // No field of a configuration: Docker reads over it, and dockerode says `repo` and `tag` here as well.
            _ => {}
        }
    }
    Ok(lines)
}

/// A word of an instruction in quotation marks.
fn quoted(text: &str) -> Result<String, Failure> {
    if text.contains(['\n', '\r']) {
        return Err(Failure::unsupported("a line break in the configuration of a commit"));
    }
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Whether a field of a document is more than its type's empty value.
fn is_said(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        assert_eq!(instructions(["CMD a\n\n ENV b=c", "USER d"].into_iter()), ["CMD a", "ENV b=c", "USER d"]);
        assert_eq!(named(Some("a".into()), Some("b".into())).as_deref(), Some("a:b"));
        let config = json!({"Cmd": ["a"], "Entrypoint": ["b"], "Env": ["c=d \"e"], "User": "", "Tty": true});
        let lines = ["ENTRYPOINT [\"b\"]", "CMD [\"a\"]", "ENV \"c\"=\"d \\\"e\""];
        assert_eq!(from_config(&config).unwrap(), lines);
        assert!(from_config(&json!({"Shell": ["x"]})).is_err() && from_config(&json!({"User": "a\nRUN"})).is_err());
        assert!(from_config(&json!({"repo": "made", "tag": "1"})).unwrap().is_empty());
        assert_eq!(named(None, Some("b".into())), None);
        assert!(is_said(&json!({"a": null})) && !is_said(&json!([])) && !is_said(&Value::Null));
    }
}
