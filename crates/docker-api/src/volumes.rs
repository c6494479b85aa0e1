//! `/volumes/…`

use crate::context::Context;
use crate::failure::Failure;
use crate::filters::Filters;
use crate::reply::{self, Reply};
use engine::{NewVolume, Volume};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    name: Option<String>,
    driver: Option<String>,
    driver_opts: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    cluster_volume_spec: Option<Value>,
}

/// `POST /volumes/create`; one that exists is an answer, not a failure.
pub async fn create(mut context: Context) -> Result<Reply, Failure> {
    let asked: Asked = context.optional_document().await?.unwrap_or_default();
    if asked.cluster_volume_spec.is_some() {
        return Err(Failure::unsupported("a volume of a swarm (ClusterVolumeSpec)"));
    }
    let mut new = NewVolume {
        name: asked.name.filter(|name| !name.is_empty()),
        driver: asked.driver.unwrap_or_default(),
        options: asked.driver_opts.unwrap_or_default(),
        labels: asked.labels.unwrap_or_default(),
    };
    context.peer.check_volume(&mut new)?;
    let volume = context.workers().quick(move |engine| engine.create_volume(&new)).await?;
    if !context.peer.owns(&volume.labels) {
        return Err(context.peer.denied(&format!("the volume {} is not yours", volume.name)));
    }
    reply::json(StatusCode::CREATED, &docker_json::volume::value(&volume)?)
}

/// `GET /volumes`
pub async fn list(context: Context) -> Result<Reply, Failure> {
    let filters = Filters::parse(context.query.text("filters"), &["dangling", "driver", "label", "name"])?;
    let dangling = filters.switch("dangling")?;
    let volumes = context.workers().quick(|engine| engine.volumes()).await?;
    let kept = volumes.iter().filter(|volume| {
        dangling.is_none_or(|wanted| wanted == volume.containers.is_empty())
            && filters.any("driver", |driver| driver == "local")
            && filters.any("name", |name| volume.name.contains(name))
            && filters.labels(&volume.labels)
            && context.peer.owns(&volume.labels)
    });
    let all = kept.map(|volume| Ok(docker_json::volume::value(volume)?)).collect::<Result<Vec<Value>, Failure>>()?;
    reply::ok(&json!({ "Volumes": all, "Warnings": null }))
}

/// `GET /volumes/{name}`
pub async fn inspect(context: Context, name: &str) -> Result<Reply, Failure> {
    let wanted = name.to_owned();
    let volume = context.workers().quick(move |engine| engine.volume(&wanted)).await?;
    if !context.peer.owns(&volume.labels) {
        return Err(context.peer.denied(&format!("the volume {name} is not yours")));
    }
    reply::ok(&docker_json::volume::value(&volume)?)
}

/// `DELETE /volumes/{name}`
pub async fn remove(context: Context, name: &str) -> Result<Reply, Failure> {
    let (wanted, force) = (name.to_owned(), context.query.switch("force"));
    let peer = context.peer.clone();
    context
        .workers()
        .patient_translate(move |engine| {
            if peer.is_confined() && !engine.volume(&wanted).is_ok_and(|volume| peer.owns(&volume.labels)) {
                return Err(peer.denied(&format!("the volume {wanted} is not yours")));
            }
            Ok(engine.remove_volume(&wanted, force)?)
        })
        .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /volumes/prune`: before 1.42 those with names, too.
pub async fn prune(context: Context) -> Result<Reply, Failure> {
    let filters = Filters::parse(context.query.text("filters"), &["all", "label", "label!"])?;
    let all = filters.switch("all")?.unwrap_or(false) || context.version < crate::version::Version(42);
    let pruned = context
        .workers()
        .patient(move |engine| engine.prune_volumes(all, &|volume: &Volume| filters.labels(&volume.labels)))
        .await?;
    reply::ok(&json!({ "VolumesDeleted": pruned.names, "SpaceReclaimed": pruned.bytes }))
}
