//! Naming, removing, pruning.

use super::platforms;
use crate::context::Context;
use crate::failure::Failure;
use crate::filters::Filters;
use crate::reply::{self, Reply};
use engine::{Kind, Removed};
use hyper::StatusCode;
use serde_json::{Value, json};

/// `POST /images/{name}/tag`
pub async fn tag(context: Context, name: &str) -> Result<Reply, Failure> {
    let repository = context.query.text("repo").unwrap_or_default();
    let target = match context.query.text("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    };
    let source = name.to_owned();
    context.workers().quick(move |engine| engine.tag(&source, &target)).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

fn lines(removed: &[Removed]) -> Vec<Value> {
    removed
        .iter()
        .map(|removed| match removed {
            Removed::Untagged(name) => json!({ "Untagged": name }),
            Removed::Deleted(id) => json!({ "Deleted": id }),
        })
        .collect()
}

/// `DELETE /images/{name}`
pub async fn remove(context: Context, name: &str) -> Result<Reply, Failure> {
    let (wanted, force) = (name.to_owned(), context.query.switch("force"));
    let platforms = platforms::asked(&context.query, "platforms")?;
    let work = context.workers().patient_translate(move |engine| {
        if !platforms.is_empty() {
            platforms::check(&engine.image(&wanted)?, &wanted, &platforms)?;
        }
        Ok(engine.remove_image(&wanted, force)?)
    });
    let removed = work.await?;
    reply::ok(&lines(&removed))
}

/// `POST /images/prune`
pub async fn prune(context: Context) -> Result<Reply, Failure> {
    let filters = Filters::parse(context.query.text("filters"), &["dangling", "label", "label!", "until"])?;
    let dangling = filters.switch("dangling")?.unwrap_or(true);
    let until = crate::containers::list::until(&filters)?;
    let (removed, space) = context
        .workers()
        .patient(move |engine| {
            let (mut removed, mut space) = (Vec::new(), 0);
            for image in engine.images()? {
                let old = until
                    .is_none_or(|until| image.created.parse::<jiff::Timestamp>().is_ok_and(|created| created <= until));
                let unnamed = image.names.is_empty();
                if image.containers > 0 || !old || (dangling && !unnamed) || !filters.labels(&image.labels) {
                    continue;
                }
                match engine.remove_image(&image.id, true) {
                    Ok(done) => {
                        space += image.size;
                        removed.extend(done);
                    }
                    // Somebody used or removed it in between.
                    Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok((removed, space))
        })
        .await?;
    reply::ok(&json!({ "ImagesDeleted": lines(&removed), "SpaceReclaimed": space }))
}
