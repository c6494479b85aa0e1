//! `GET /containers/{id}/json`

use crate::context::Context;
use crate::failure::Failure;
use crate::reply::{self, Reply};
use serde_json::{Value, json};

/// `GET /containers/{id}/json`
pub async fn inspect(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let name = wanted.to_owned();
    let container = context.workers().quick(move |engine| engine.inspect(&name)).await?;
    let mut document = docker_json::container::value(&container)?;
    on_the_default_bridge(&mut document["NetworkSettings"]);
    let sessions = context.shared.execs.of(&container.id);
    if !sessions.is_empty() {
        document["ExecIDs"] = sessions.into();
    }
    crate::newer::container(&mut document, context.version);
    if context.query.switch("size") {
        let sizes = context.workers().patient(move |engine| engine.container_sizes(&container)).await?;
        document["SizeRw"] = sizes.written.into();
        document["SizeRootFs"] = sizes.root.into();
    }
    reply::ok(&document)
}

/// The place on the default bridge, in the fields that held it before there were networks; Docker shows them up to 1.51.
fn on_the_default_bridge(settings: &mut Value) {
    let bridge = settings["Networks"]["bridge"].clone();
    for name in ["EndpointID", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway"] {
        let nothing = if name.ends_with("Len") { json!(0) } else { json!("") };
        settings[name] = bridge.get(name).cloned().unwrap_or(nothing);
    }
    settings["HairpinMode"] = false.into();
    settings["LinkLocalIPv6Address"] = "".into();
    settings["LinkLocalIPv6PrefixLen"] = 0.into();
    settings["SecondaryIPAddresses"] = Value::Null;
    settings["SecondaryIPv6Addresses"] = Value::Null;
}
