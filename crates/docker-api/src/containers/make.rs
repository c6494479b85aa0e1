//! `POST /containers/create`

use crate::context::Context;
use crate::create;
use crate::failure::Failure;
use crate::reply::{self, Reply};
use engine::{Engine, Options, Quiet};
use hyper::StatusCode;
use serde_json::json;

/// `POST /containers/create`
pub async fn create(mut context: Context) -> Result<Reply, Failure> {
    let content = context.json().await?;
    let asked = create::asked(&content, context.version)?;
    let mut options = asked.options;
    options.name = context.query.text("name").map(|name| name.trim_start_matches('/').to_owned());
    options.platform = crate::images::platforms::one(&context.query, "platform")?.map(|platform| platform.to_string());
    let (keeps_command, mut warnings) = (asked.keeps_command, asked.warnings);
    if !is_image(&options.image) {
        return Err(Failure::bad("invalid reference format"));
    }
    let peer = context.peer.clone();
    let created = context
        .workers()
        .translate(move |engine| {
            peer.check_container(engine, &mut options)?;
            check_others(engine, &options)?;
            check_platform(engine, &options)?;
            if keeps_command && options.command.is_empty() {
                options.command = engine.image(&options.image)?.config.config.cmd.unwrap_or_default();
            }
            Ok(engine.create(&options, &mut Quiet)?)
        })
        .await?;
    warnings.extend(created.warnings);
    reply::json(StatusCode::CREATED, &json!({ "Id": created.id, "Warnings": warnings }))
}

/// Whether it can be the name of an image, or an identifier.
fn is_image(name: &str) -> bool {
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    hex.bytes().all(|byte| byte.is_ascii_hexdigit()) || oci::reference::Reference::parse(name).is_ok()
}

/// A container that is named and not there is the request's fault here, not something that was not found.
fn check_others(engine: &Engine, options: &Options) -> Result<(), Failure> {
    let modes = [&options.pid_mode, &options.ipc_mode].into_iter();
    let modes = modes.filter_map(|mode| mode.as_deref()?.strip_prefix("container:"));
    for name in modes.chain(options.volumes_from.iter().map(|from| from.container.as_str())) {
        engine.inspect(name).map_err(|error| Failure::bad(crate::failure::sentence(&error)))?;
    }
    Ok(())
}

/// An image for another platform than the one that is asked for is not the image that is wanted: clients pull that one then.
fn check_platform(engine: &Engine, options: &Options) -> Result<(), Failure> {
    let Some(wanted) = &options.platform else { return Ok(()) };
    let platform = wanted.parse().map_err(|_| Failure::bad(format!("invalid platform: {wanted:?}")))?;
    crate::images::platforms::check(&engine.image(&options.image)?, &options.image, &[platform])
}
