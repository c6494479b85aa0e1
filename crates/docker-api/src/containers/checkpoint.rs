//! `/containers/{id}/checkpoints`: a running container's processes in files, by criu. A start continues from one.

use crate::context::Context;
use crate::failure::Failure;
use crate::reply::{self, Reply};
use engine::CheckpointChoices;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;

/// What a client asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    #[serde(rename = "CheckpointID")]
    name: Option<String>,
    #[serde(rename = "CheckpointDir")]
    directory: Option<String>,
    #[serde(rename = "Exit")]
    exit: Option<bool>,
}

/// A directory on the server's machine, where one was named.
fn directory(text: Option<&str>) -> Option<PathBuf> {
    text.filter(|text| !text.is_empty()).map(PathBuf::from)
}

/// `POST /containers/{id}/checkpoints`
pub async fn create(mut context: Context, wanted: &str) -> Result<Reply, Failure> {
    let asked: Asked = context.document().await?;
    let (wanted, name, place) =
        (wanted.to_owned(), asked.name.unwrap_or_default(), directory(asked.directory.as_deref()));
    let choices = CheckpointChoices { leave_running: !asked.exit.unwrap_or(false), ..CheckpointChoices::default() };
    let work = move |engine: &engine::Engine| engine.checkpoint(&wanted, &name, place.as_deref(), choices);
    context.workers().patient(work).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

/// `GET /containers/{id}/checkpoints`
pub async fn list(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let (wanted, place) = (wanted.to_owned(), directory(context.query.text("dir")));
    let names = context.workers().quick(move |engine| engine.checkpoints(&wanted, place.as_deref())).await?;
    reply::ok(&names.iter().map(|name| json!({ "Name": name })).collect::<Vec<_>>())
}

/// `DELETE /containers/{id}/checkpoints/{name}`
pub async fn remove(context: Context, wanted: &str, name: &str) -> Result<Reply, Failure> {
    let (wanted, name, place) = (wanted.to_owned(), name.to_owned(), directory(context.query.text("dir")));
    context.workers().patient(move |engine| engine.remove_checkpoint(&wanted, &name, place.as_deref())).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
