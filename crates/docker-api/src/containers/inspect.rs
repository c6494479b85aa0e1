//! `GET /containers/{id}/json`

use crate::context::Context;
use crate::failure::Failure;
use crate::reply::{self, Reply};
use serde_json::Value;

/// `GET /containers/{id}/json`
pub async fn inspect(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let name = wanted.to_owned();
    let container = context.workers().quick(move |engine| engine.inspect(&name)).await?;
    let mut document = docker_json::container::value(&container)?;
    let sessions = context.shared.execs.of(&container.id);
    if !sessions.is_empty() {
        document["ExecIDs"] = sessions.into();
    }
    if context.query.switch("size") {
        sizes(&mut document);
    }
    reply::ok(&document)
}

/// The writable layer is not measured: zero, as Docker says of one that nobody has written to.
fn sizes(document: &mut Value) {
    document["SizeRw"] = 0.into();
    document["SizeRootFs"] = 0.into();
}
