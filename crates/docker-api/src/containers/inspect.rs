//! `GET /containers/{id}/json`

use crate::context::{Context, Shared};
use crate::failure::Failure;
use crate::reply::{self, Reply};
use bytes::Bytes;
use docker_json::container::Inspect;
use engine::Engine;

/// `GET /containers/{id}/json`
pub async fn inspect(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let (name, shared) = (wanted.to_owned(), context.shared.clone());
    let document = if context.query.switch("size") {
        context.workers().patient_translate(move |engine| document(engine, &shared, &name, true)).await?
    } else {
        let same = Some(format!("inspect {wanted}"));
        let work = move |engine: &Engine| document(engine, &shared, &name, false);
        context.shared.flights.join(context.workers(), same, work).await?
    };
    Ok(reply::document(document))
}

fn document(engine: &Engine, shared: &Shared, name: &str, sizes: bool) -> Result<Bytes, Failure> {
    let container = engine.inspect(name)?;
    let mut shown = Inspect::new(&container)?.on_the_default_bridge();
    shown.exec_ids = Some(shared.execs.of(&container.id)).filter(|sessions| !sessions.is_empty());
    if sizes {
        let sizes = engine.container_sizes(&container)?;
        (shown.size_rw, shown.size_root_fs) = (Some(sizes.written), Some(sizes.root));
    }
    reply::written(&shown)
}
