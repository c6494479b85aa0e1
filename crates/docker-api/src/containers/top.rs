//! `GET /containers/{id}/top`

use crate::context::Context;
use crate::failure::Failure;
use crate::reply::{self, Reply};
use serde_json::json;

/// `GET /containers/{id}/top`
pub async fn top(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let name = wanted.to_owned();
    let arguments = context.query.text("ps_args").unwrap_or("-ef");
    let arguments: Vec<String> = arguments.split_ascii_whitespace().map(str::to_owned).collect();
    let top = context.workers().quick(move |engine| engine.top(&name, &arguments)).await?;
    reply::ok(&json!({ "Titles": top.titles, "Processes": top.processes }))
}
