//! `--secret NAME[,type=mount|env][,target=…][,uid=…][,gid=…][,mode=…]`, as Podman has it, and `--config`, the same with
//! swarm's words.

use engine::{SecretKind, SecretTarget, SecretUse};

/// Reads a secret.
pub fn secret(text: &str) -> Result<SecretUse, String> {
    parse(SecretKind::Secret, text)
}

/// Reads a configuration.
pub fn config(text: &str) -> Result<SecretUse, String> {
    parse(SecretKind::Config, text)
}

fn parse(kind: SecretKind, text: &str) -> Result<SecretUse, String> {
    let word = kind.name();
    let (mut name, mut target, mut variable) = (String::new(), String::new(), false);
    let (mut uid, mut gid, mut mode) = (None, None, None);
    for (position, part) in text.split(',').enumerate() {
        let Some((key, value)) = part.split_once('=') else {
            if position > 0 || part.is_empty() {
                return Err(format!("invalid {word} {text:?}: expected NAME[,KEY=VALUE…]"));
            }
            name = part.to_owned();
            continue;
        };
        let number = |radix| {
            u32::from_str_radix(value, radix).map_err(|_| format!("invalid {key} {value:?} of {word} {name:?}"))
        };
        match key {
            "source" | "src" | "id" => name = value.to_owned(),
            "target" | "dst" | "destination" => target = value.to_owned(),
            "type" => {
                variable = match value {
                    "mount" => false,
                    "env" if kind == SecretKind::Secret => true,
                    _ => return Err(format!("type {value:?} of {word} {name:?} is unknown: use mount or env")),
                };
            }
            "uid" => uid = Some(number(10)?),
            "gid" => gid = Some(number(10)?),
            "mode" => mode = Some(number(8)?),
            _ => {
                return Err(format!(
                    "option {key:?} of {word} {name:?} is unknown: target, type, uid, gid and mode are known"
                ));
            }
        }
    }
    if name.is_empty() {
        return Err(format!("invalid {word} {text:?}: a name is required"));
    }
    if variable && (uid.is_some() || gid.is_some() || mode.is_some()) {
        return Err(format!("{word} {name:?} is a variable: it has no uid, gid or mode"));
    }
    let target = match variable {
        true => SecretTarget::Environment { variable: target },
        false => SecretTarget::File {
            path: target,
            uid: uid.unwrap_or(0),
            gid: gid.unwrap_or(0),
            mode: mode.unwrap_or(0o444),
        },
    };
    Ok(SecretUse { kind, name, id: String::new(), target })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, uid: u32, gid: u32, mode: u32) -> SecretTarget {
        SecretTarget::File { path: path.into(), uid, gid, mode }
    }

    #[test]
    fn forms() {
        for (text, name, target) in [
            ("a", "a", file("", 0, 0, 0o444)),
            ("a,target=/x,uid=5,gid=6,mode=0400", "a", file("/x", 5, 6, 0o400)),
            ("source=a,target=b", "a", file("b", 0, 0, 0o444)),
            ("a,type=env", "a", SecretTarget::Environment { variable: String::new() }),
            ("a,type=env,target=TOKEN", "a", SecretTarget::Environment { variable: "TOKEN".into() }),
        ] {
            let read = secret(text).unwrap();
            assert_eq!((read.name.as_str(), &read.target, read.kind), (name, &target, SecretKind::Secret), "{text}");
        }
        for text in ["", "a,b", "target=x", "a,mode=9", "a,uid=x", "a,type=file", "a,foo=1", "a,type=env,mode=400"] {
            assert!(secret(text).is_err(), "{text}");
        }
        assert!(config("a,type=env").is_err());
    }
}
