//! `GET /containers/{id}/json`

use crate::context::Context;
use crate::failure::Failure;
use crate::reply::{self, Reply};

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
        let sizes = context.workers().patient(move |engine| engine.container_sizes(&container)).await?;
        document["SizeRw"] = sizes.written.into();
        document["SizeRootFs"] = sizes.root.into();
    }
    reply::ok(&document)
}
