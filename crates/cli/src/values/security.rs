//! `--security-opt KEY[=VALUE]`.

/// Brings the options to one form, `KEY=VALUE` or `no-new-privileges`. A seccomp profile that is named by its path is
/// replaced by its content, because only the caller knows the directory that the path is relative to.
pub fn resolve(options: &[String]) -> Result<Vec<String>, String> {
    options.iter().map(|option| one(option)).collect()
}

fn one(text: &str) -> Result<String, String> {
    // Docker accepts the older colon where there is no equals sign.
    let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
        Some(pair) => pair,
        None if matches!(text, "no-new-privileges" | "writable-cgroups") => return Ok(text.to_owned()),
        None => return Err(format!("Invalid --security-opt: {text:?}")),
    };
    match key {
        "seccomp" if !matches!(value, "unconfined" | "builtin" | "default" | "") => {
            let content = std::fs::read_to_string(value).map_err(|error| {
                format!(
                    "opening seccomp profile ({value}) failed: open {value}: {}",
                    super::environment::plain_error(&error)
                )
            })?;
            let profile: serde_json::Value = serde_json::from_str(&content)
                .map_err(|error| format!("compacting json for seccomp profile ({value}) failed: {error}"))?;
            Ok(format!("seccomp={profile}"))
        }
        "no-new-privileges" => {
            super::boolean::parse(value).map_err(|_| format!("invalid --security-opt value: {value:?}"))?;
            Ok(format!("{key}={value}"))
        }
        "writable-cgroups" if matches!(value, "true" | "false") => Ok(format!("{key}={value}")),
        "systempaths" if value != "unconfined" => Err(format!("Invalid --security-opt: {text:?}")),
        "seccomp" | "apparmor" | "label" | "systempaths" => Ok(format!("{key}={value}")),
        _ => Err(format!("Invalid --security-opt: {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (text, expected) in [
            ("no-new-privileges", "no-new-privileges"),
            ("no-new-privileges:true", "no-new-privileges=true"),
            ("no-new-privileges=false", "no-new-privileges=false"),
            ("seccomp=unconfined", "seccomp=unconfined"),
            ("seccomp:unconfined", "seccomp=unconfined"),
            ("apparmor=unconfined", "apparmor=unconfined"),
            ("label=type:svirt_t", "label=type:svirt_t"),
            ("systempaths=unconfined", "systempaths=unconfined"),
            ("writable-cgroups", "writable-cgroups"),
            ("writable-cgroups:false", "writable-cgroups=false"),
        ] {
            assert_eq!(one(text), Ok(expected.to_owned()), "{text}");
        }
        assert_eq!(one("writable-cgroups=1"), Err("Invalid --security-opt: \"writable-cgroups=1\"".into()));
        assert_eq!(one("foo"), Err("Invalid --security-opt: \"foo\"".into()));
        assert_eq!(one("foo=bar"), Err("Invalid --security-opt: \"foo=bar\"".into()));
        assert_eq!(
            one("seccomp=/nonexistent"),
            Err("opening seccomp profile (/nonexistent) failed: open /nonexistent: no such file or directory".into())
        );
    }

    #[test]
    fn a_profile_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }\n").unwrap();
        let option = format!("seccomp={}", file.path().display());
        assert_eq!(one(&option), Ok("seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}".into()));
        std::fs::write(&file, "{").unwrap();
        assert!(one(&option).unwrap_err().starts_with("compacting json for seccomp profile"));
    }
}
