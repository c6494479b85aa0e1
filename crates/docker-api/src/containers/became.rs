//! What a container became: its changes, its tree as an archive, an image of it.

use crate::access::Tier;
use crate::context::Context;
use crate::failure::Failure;
use crate::piped;
use crate::reply::{self, Reply};
use engine::{ChangeKind, CommitOptions, ConfigParts};
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
    let body: Option<Value> = context.optional_document().await?;
    let (config, mut changes) = body.as_ref().map(from_config).transpose()?.unwrap_or_default();
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
        config,
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

/// The body's configuration as its parts, and as instructions where these say the same; what is empty in it stays as the container
/// has it.
fn from_config(config: &Value) -> Result<(ConfigParts, Vec<String>), Failure> {
    let Some(fields) = config.as_object() else {
        return Err(Failure::bad("invalid JSON: a configuration is an object"));
    };
    let (mut parts, mut lines) = (ConfigParts::default(), Vec::new());
    for (name, value) in fields.iter().filter(|(_, value)| is_said(value)) {
        let wrong = || Failure::bad(format!("invalid JSON: {name} is not of its type"));
        let text = || value.as_str().filter(|text| !text.contains(['\n', '\r'])).ok_or_else(wrong);
        let keys = || value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()).ok_or_else(wrong);
        match name.as_str() {
            "Cmd" | "Entrypoint" => {
                // The entry point first: it takes a command away that was there before.
                let at = if name == "Entrypoint" { 0 } else { lines.len() };
                let words: crate::create::Words = typed(name, value)?;
                lines.insert(at, format!("{} {}", name.to_uppercase(), json!(words.0)));
            }
            "Env" => {
                let pairs: Vec<String> = typed(name, value)?;
                let split = |pair: String| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
                parts.env = pairs.into_iter().map(split).collect::<Option<_>>().ok_or_else(wrong)?;
            }
            "Labels" => parts.labels = typed(name, value)?,
            "Healthcheck" => parts.healthcheck = Some(crate::create::healthcheck(typed(name, value)?)?),
            "OnBuild" => parts.on_build = typed(name, value)?,
            "Shell" => parts.shell = typed(name, value)?,
            "ArgsEscaped" => parts.args_escaped = typed(name, value)?,
            "ExposedPorts" => lines.extend(keys()?.iter().map(|port| format!("EXPOSE {port}"))),
            "Volumes" => lines.push(format!("VOLUME {}", json!(keys()?))),
            "User" => lines.push(format!("USER {}", text()?)),
            "WorkingDir" => lines.push(format!("WORKDIR {}", text()?)),
            "StopSignal" => lines.push(format!("STOPSIGNAL {}", text()?)),
            // The rest is what a container is, and an image cannot be, or no field of a configuration: Docker reads over it, and
            // dockerode says `repo` and `tag` here as well.
            _ => {}
        }
    }
    Ok((parts, lines))
}

fn typed<T: serde::de::DeserializeOwned>(name: &str, value: &Value) -> Result<T, Failure> {
    let wrong = |_| Failure::bad(format!("invalid JSON: {name} is not of its type"));
    serde_json::from_value(value.clone()).map_err(wrong)
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
        let config = json!({
            "Cmd": ["a"], "Entrypoint": ["b"], "Env": ["c=d \"e\n"], "User": "", "Tty": true, "Labels": {"l": "1"},
            "Healthcheck": {"Test": ["CMD", "x"], "Interval": 2_000_000_000_u64, "Retries": 0},
            "OnBuild": ["RUN a"], "Shell": ["/bin/ash", "-c"], "ArgsEscaped": false, "repo": "made",
        });
        let (parts, lines) = from_config(&config).unwrap();
        assert_eq!(lines, ["ENTRYPOINT [\"b\"]", "CMD [\"a\"]"]);
        assert_eq!((&parts.env[0].1, &parts.labels["l"]), (&"d \"e\n".to_owned(), &"1".to_owned()));
        let check = parts.healthcheck.unwrap();
        assert_eq!((check.test.len(), check.interval, check.retries), (2, 2_000_000_000, 0));
        assert_eq!((parts.on_build.len(), parts.shell.len(), parts.args_escaped), (1, 2, false));
        for wrong in [
            json!({"Shell": "x"}),
            json!({"User": "a\nRUN"}),
            json!({"Env": ["a"]}),
            json!({"Labels": {"a": 1}}),
            json!({"Healthcheck": {"Test": ["SHELL"]}}),
        ] {
            assert_eq!(from_config(&wrong).unwrap_err().status, StatusCode::BAD_REQUEST, "{wrong}");
        }
        assert_eq!(named(None, Some("b".into())), None);
        assert!(is_said(&json!({"a": null})) && !is_said(&json!([])) && !is_said(&Value::Null));
    }
}
