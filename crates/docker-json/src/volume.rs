//! A volume as `GET /volumes/{name}` answers.

use crate::{Error, time};
use engine::Volume;
use engine::volumes::DRIVER;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The volume as a JSON value.
pub fn value(volume: &Volume) -> Result<Value, Error> {
    let some = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| map.clone());
    crate::to_value(&Inspect {
        // Docker has whole seconds here.
        created_at: match volume.created_at.split_once('.') {
            Some((seconds, _)) => format!("{seconds}Z"),
            None => time(&volume.created_at),
        },
        driver: DRIVER,
        labels: some(&volume.labels),
        mountpoint: volume.mountpoint.display().to_string(),
        name: volume.name.clone(),
        options: some(&volume.options),
        scope: "local",
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspect {
    created_at: String,
    driver: &'static str,
    labels: Option<BTreeMap<String, String>>,
    mountpoint: String,
    name: String,
    options: Option<BTreeMap<String, String>>,
    scope: &'static str,
}
