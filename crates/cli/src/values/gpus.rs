//! `--gpus all|NUMBER|device=…`: graphics processors, which are CDI devices here.

use super::quoted;

/// The kind by which the vendor's tool (nvidia-ctk) describes them.
const KIND: &str = "nvidia.com/gpu";

/// The devices that are asked for, by their CDI names.
pub fn parse(text: &str) -> Result<Vec<String>, String> {
    let (mut count, mut devices) = (None, Vec::new());
    for field in quoted::fields(text)? {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        match key {
            "count" if count.is_some() => return Err("gpu request key 'count' can be specified only once".into()),
            "count" => count = Some(value.to_owned()),
            "device" => devices.extend(value.split(',').map(str::to_owned)),
            // Those of a CDI device are all that its driver has.
            "capabilities" => {}
            "driver" if matches!(value, "" | "nvidia" | "cdi") => {}
            "driver" => return Err(format!("driver {value:?} is not supported: use --device VENDOR/CLASS=NAME")),
            "options" => return Err("options of a driver are not supported: GPUs are CDI devices here".into()),
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    let named = |name: &str| match name.contains('=') {
        true => name.to_owned(),
        false => format!("{KIND}={name}"),
    };
    match (count.as_deref(), devices.is_empty()) {
        (Some(_), false) => Err("cannot set both Count and DeviceIDs on device request".into()),
        (None, false) => Ok(devices.iter().map(|name| named(name)).collect()),
        (Some("all" | "-1"), true) => Ok(vec![named("all")]),
        (Some(number), true) => {
            let number: u16 =
                number.parse().map_err(|_| format!("count ({number}) value must be either \"all\" or an integer"))?;
            Ok((0..number).map(|index| named(&index.to_string())).collect())
        }
        (None, true) => Ok(vec![named("0")]),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn forms() {
        for (text, names) in [
            ("all", &["nvidia.com/gpu=all"][..]),
            ("2", &["nvidia.com/gpu=0", "nvidia.com/gpu=1"]),
            ("count=1", &["nvidia.com/gpu=0"]),
            ("device=GPU-3a,driver=nvidia", &["nvidia.com/gpu=GPU-3a"]),
            ("\"device=0,2\",capabilities=utility", &["nvidia.com/gpu=0", "nvidia.com/gpu=2"]),
            ("driver=cdi,device=vendor.com/gpu=x", &["vendor.com/gpu=x"]),
        ] {
            assert_eq!(parse(text).unwrap(), names, "{text}");
        }
        for text in ["many", "count=1,device=0", "foo=1", "driver=amd", "1,2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
