//! `--restart`: `no`, `always`, `unless-stopped`, `on-failure[:N]`.

use engine::RestartPolicy;

/// Reads a policy.
pub fn parse(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
    let maximum = match count {
        None | Some("") if name != "on-failure" || count.is_none() => 0,
        Some(count) => match count.parse::<i64>() {
            Ok(number) if number < 0 => return Err("maximum retry count cannot be negative".into()),
            Ok(number) => u32::try_from(number).map_err(|_| "maximum retry count is too large".to_owned())?,
            Err(_) => return Err("maximum retry count must be an integer".into()),
        },
        None => 0,
    };
    match name {
        "on-failure" => Ok(RestartPolicy::OnFailure { maximum }),
        _ if maximum > 0 => Err(format!(
            "invalid restart policy: maximum retry count cannot be used with '{name}', only with 'on-failure'"
        )),
        "" | "no" => Ok(RestartPolicy::No),
        "always" => Ok(RestartPolicy::Always),
        "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
        _ => Err(format!(
            "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (text, expected) in [
            ("no", RestartPolicy::No),
            ("", RestartPolicy::No),
            ("always", RestartPolicy::Always),
            ("unless-stopped", RestartPolicy::UnlessStopped),
            ("on-failure", RestartPolicy::OnFailure { maximum: 0 }),
            ("on-failure:3", RestartPolicy::OnFailure { maximum: 3 }),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["sometimes", "always:3", "on-failure:x", "on-failure:-1", "on-failure:"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
