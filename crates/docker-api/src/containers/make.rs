//! `POST /containers/create`

use crate::context::Context;
use crate::create;
use crate::failure::Failure;
use crate::reply::{self, Reply};
use engine::Quiet;
use hyper::StatusCode;
use serde_json::json;

/// `POST /containers/create`
pub async fn create(mut context: Context) -> Result<Reply, Failure> {
    let content = context.content().await?;
    let asked = create::asked(&content, context.version)?;
    let mut options = asked.options;
    options.name = context.query.text("name").map(|name| name.trim_start_matches('/').to_owned());
    options.platform = crate::images::platforms::one(&context.query, "platform")?.map(|platform| platform.to_string());
    let (keeps_command, mut warnings) = (asked.keeps_command, asked.warnings);
    let peer = context.peer.clone();
    let created = context
        .workers()
        .translate(move |engine| {
            peer.check_container(engine, &mut options)?;
            if keeps_command && options.command.is_empty() {
                options.command = engine.image(&options.image)?.config.config.cmd.unwrap_or_default();
            }
            Ok(engine.create(&options, &mut Quiet)?)
        })
        .await?;
    warnings.extend(created.warnings);
    reply::json(StatusCode::CREATED, &json!({ "Id": created.id, "Warnings": warnings }))
}
