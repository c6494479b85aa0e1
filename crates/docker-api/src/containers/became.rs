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
    Ok(piped::reply("application/x-tar", content))
}

/// `POST /commit`
pub async fn commit(mut context: Context) -> Result<Reply, Failure> {
    let config: Option<Value> = context.optional_document().await?;
    if config.is_some_and(|config| config.as_object().is_some_and(|fields| fields.values().any(is_said))) {
        return Err(Failure::unsupported("a commit with a configuration in the body (the parameter changes does it)"));
    }
    let query = &context.query;
    let text = |key: &str| query.text(key).map(str::to_owned);
    let Some(container) = text("container") else {
        return Err(Failure::bad("bad parameter: missing container"));
    };
    let options = CommitOptions {
        reference: named(text("repo"), text("tag")),
        author: text("author").unwrap_or_default(),
        message: text("comment").unwrap_or_default(),
        changes: instructions(query.all("changes")),
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
        assert_eq!(named(None, Some("b".into())), None);
        assert!(is_said(&json!({"a": null})) && !is_said(&json!([])) && !is_said(&Value::Null));
    }
}
