//! `--network none|host|bridge`.

use engine::containers::options::NetworkMode;

/// Reads the networks asked for; none at all means the default bridge.
pub fn parse(names: &[String]) -> Result<NetworkMode, String> {
    let mut chosen: Option<NetworkMode> = None;
    for name in names {
        let mode = one(name)?;
        if chosen.as_ref().is_some_and(|before| *before != mode) {
            return Err("conflicting options: a container can be given one network, not several, for now".into());
        }
        chosen = Some(mode);
    }
    Ok(chosen.unwrap_or_default())
}

fn one(text: &str) -> Result<NetworkMode, String> {
    // Docker's long form has further keys (alias, ip, …), which have no meaning on these three.
    let name = match text.strip_prefix("name=") {
        Some(name) if !name.contains(',') => name,
        _ => text,
    };
    match name {
        "bridge" | "default" => Ok(NetworkMode::Bridge),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        _ if name.starts_with("container:") => {
            Err(format!("--network {name} is not supported yet: bridge, host and none are"))
        }
        _ => Err(format!(
            "network {name} not found: networks of your own are not supported yet, bridge, host and none are"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let parse = |names: &[&str]| super::parse(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(parse(&[]), Ok(NetworkMode::Bridge));
        assert_eq!(parse(&["none"]), Ok(NetworkMode::None));
        assert_eq!(parse(&["name=host"]), Ok(NetworkMode::Host));
        assert_eq!(parse(&["default", "bridge"]), Ok(NetworkMode::Bridge));
        assert!(parse(&["none", "host"]).unwrap_err().starts_with("conflicting options"));
        assert!(parse(&["mine"]).unwrap_err().starts_with("network mine not found"));
        assert!(parse(&["container:x"]).is_err());
    }
}
