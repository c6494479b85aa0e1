//! `DeviceRequests`: devices by what they can, which are devices of the Container Device Interface here.

use crate::failure::Failure;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The kind by which the vendor's tool (nvidia-ctk) describes its processors.
const GPU: &str = "nvidia.com/gpu";
/// What that vendor's devices can, in Docker's words.
const GPU_CAPABILITIES: &[&str] = &["gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display"];

/// A request for devices.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Request {
    driver: Option<String>,
    count: Option<i64>,
    #[serde(rename = "DeviceIDs")]
    device_ids: Option<Vec<String>>,
    capabilities: Option<Vec<Vec<String>>>,
    options: Option<BTreeMap<String, String>>,
}

/// The names of all devices that are asked for.
///
/// # Errors
/// 400 for a driver that is not known, and for what contradicts itself.
pub(super) fn names(requests: &[Request]) -> Result<Vec<String>, Failure> {
    requests.iter().try_fold(Vec::new(), |mut all, request| {
        all.extend(request.names()?);
        Ok(all)
    })
}

impl Request {
    fn names(&self) -> Result<Vec<String>, Failure> {
        let devices = self.device_ids.as_deref().unwrap_or_default();
        let count = self.count.unwrap_or(0);
        if count != 0 && !devices.is_empty() {
            return Err(Failure::bad("cannot set both Count and DeviceIDs on device request"));
        }
        if self.options.as_ref().is_some_and(|options| !options.is_empty()) {
            return Err(Failure::bad("options of a device driver are not supported: devices are CDI devices here"));
        }
        let driver = self.driver.as_deref().unwrap_or_default();
        match driver {
            "cdi" if devices.is_empty() => Err(Failure::bad("a device request for cdi names no DeviceIDs")),
            "cdi" => Ok(devices.to_vec()),
            "nvidia" | "nvidia.cdi" => Ok(gpus(count, devices)),
            "" if self.is_for_gpus() => Ok(gpus(count, devices)),
            _ => Err(Failure::bad(format!(
                "could not select device driver {driver:?} with capabilities: {:?}",
                self.capabilities.as_deref().unwrap_or_default()
            ))),
        }
    }

    /// Whether one of the sets of capabilities is one that the vendor's devices have.
    fn is_for_gpus(&self) -> bool {
        let known = |word: &String| GPU_CAPABILITIES.contains(&word.as_str());
        self.capabilities.iter().flatten().any(|set| !set.is_empty() && set.iter().all(known))
    }
}

/// All for a negative count; names that are whole stay so.
fn gpus(count: i64, devices: &[String]) -> Vec<String> {
    let named = |name: &str| if name.contains('=') { name.to_owned() } else { format!("{GPU}={name}") };
    match u16::try_from(count) {
        _ if !devices.is_empty() => devices.iter().map(|name| named(name)).collect(),
        Ok(count) => (0..count).map(|index| named(&index.to_string())).collect(),
        Err(_) => vec![named("all")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(document: Value) -> Result<Vec<String>, String> {
        let request: Request = serde_json::from_value(document).unwrap();
        names(&[request]).map_err(|failure| failure.message)
    }

    #[test]
    fn forms() {
        let gpu = json!([["gpu"]]);
        for (document, wanted) in [
            // As `docker run --gpus all`, `--gpus 2`, `--gpus device=GPU-3a` and `--device vendor.com/class=x` ask.
            (
                json!({"Driver": "", "Count": -1, "DeviceIDs": null, "Capabilities": gpu, "Options": {}}),
                &["nvidia.com/gpu=all"][..],
            ),
            (json!({"Count": 2, "Capabilities": [["gpu", "utility"]]}), &["nvidia.com/gpu=0", "nvidia.com/gpu=1"]),
            (json!({"DeviceIDs": ["GPU-3a"], "Capabilities": gpu}), &["nvidia.com/gpu=GPU-3a"]),
            (json!({"Driver": "cdi", "DeviceIDs": ["vendor.com/class=x"]}), &["vendor.com/class=x"]),
            // As Compose asks for `driver: nvidia`.
            (json!({"Driver": "nvidia", "Count": -1, "Capabilities": gpu}), &["nvidia.com/gpu=all"]),
            (json!({"Driver": "nvidia", "DeviceIDs": ["0"], "Capabilities": gpu}), &["nvidia.com/gpu=0"]),
        ] {
            assert_eq!(of(document.clone()).unwrap(), wanted, "{document}");
        }
    }

    #[test]
    fn refusals() {
        for (document, words) in [
            (json!({"Count": 1, "DeviceIDs": ["0"], "Capabilities": [["gpu"]]}), "both Count and DeviceIDs"),
            (json!({"Count": -1, "Capabilities": [["tpu"]]}), "could not select device driver"),
            (json!({"Count": -1}), "could not select device driver"),
            (
                json!({"Driver": "amd", "Count": -1, "Capabilities": [["gpu"]]}),
                "could not select device driver \"amd\"",
            ),
            (json!({"Driver": "cdi"}), "no DeviceIDs"),
            (json!({"Driver": "nvidia", "Options": {"a": "b"}}), "options"),
        ] {
            let said = of(document.clone()).unwrap_err();
            assert!(said.contains(words), "{document}: {said}");
        }
    }
}
