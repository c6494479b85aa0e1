//! Instructions of a Dockerfile that change an image's configuration (`commit --change`, `import --change`).

use crate::error::{Error, Kind, Result};
use oci::image::{ContainerConfig, Healthcheck};
use std::iter::Peekable;
use std::str::Chars;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, message)
}

/// Applies all of them in their order; several may stand in one text, a line each. What a health check leaves open is as `below`.
pub(super) fn apply(config: &mut ContainerConfig, changes: &[String], below: Option<&Healthcheck>) -> Result<()> {
    let mut command_set = false;
    for line in changes.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let word = word.to_ascii_uppercase();
        if rest.is_empty() && word != "CMD" && word != "ENTRYPOINT" {
            return Err(invalid(format!("{word} requires at least one argument: {line:?}")));
        }
        match word.as_str() {
            "CMD" => {
                config.cmd = command(rest);
                command_set = true;
            }
            "ENTRYPOINT" => {
                config.entrypoint = command(rest);
                if !command_set {
                    // The image's command was meant for another program.
                    config.cmd = None;
                }
            }
            "ENV" => pairs(rest, &config.env)?.into_iter().for_each(|(key, value)| set_variable(config, &key, &value)),
            "LABEL" => config.labels.extend(pairs(rest, &config.env)?),
            "EXPOSE" => expose(config, &expanded(rest, &config.env)?)?,
            "ONBUILD" => on_build(config, rest)?,
            "STOPSIGNAL" => {
                let signal = expanded(rest, &config.env)?;
                crate::containers::signal_number(&signal)?;
                config.stop_signal = signal;
            }
            "USER" => config.user = expanded(rest, &config.env)?,
            "VOLUME" => volume(config, rest)?,
            "WORKDIR" => working_directory(config, &expanded(rest, &config.env)?),
            "HEALTHCHECK" => config.healthcheck = Some(super::config::over(healthcheck(rest)?, below)),
            _ => return Err(invalid(format!("{} is not a valid change command", word.to_ascii_lowercase()))),
        }
    }
    Ok(())
}

/// A JSON list as it is, anything else as a line for the shell.
fn command(text: &str) -> Option<Vec<String>> {
    match list(text) {
        Some(words) => Some(words),
        None if text.is_empty() => None,
        None => Some(vec!["/bin/sh".into(), "-c".into(), text.into()]),
    }
}

fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok().filter(|_| text.starts_with('['))
}

/// `KEY=VALUE …`, or the old form `KEY VALUE`.
fn pairs(text: &str, env: &[String]) -> Result<Vec<(String, String)>> {
    let words = words(text, env)?;
    let first = words.first().ok_or_else(|| invalid("a name is required"))?;
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        if value.trim().is_empty() {
            return Err(invalid(format!("{key:?} must have a value: use KEY=VALUE")));
        }
        return Ok(vec![(key.to_owned(), expanded(value.trim(), env)?)]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(invalid(format!("can't find = in {word:?}: must be of the form name=value"))),
    };
    words.iter().map(pair).collect()
}

/// Splits at white space outside of quotes; a backslash takes the next letter as it is, `$NAME` stands for a variable of the image.
fn words(text: &str, env: &[String]) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut any) = (String::new(), None, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => word.extend(letters.next()),
            ('$', None | Some('"')) => word.push_str(&variable(&mut letters, env)?),
            (letter, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => (quote, any) = (Some(letter), true),
            (letter, None) if letter.is_whitespace() => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (letter, _) => word.push(letter),
        }
    }
    if quote.is_some() {
        return Err(invalid(format!("a quotation mark is not closed in {text:?}")));
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// The text with its variables replaced.
fn expanded(text: &str, env: &[String]) -> Result<String> {
    let mut result = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if letters.peek() == Some(&'$') => result.extend(letters.next()),
            '$' => result.push_str(&variable(&mut letters, env)?),
            letter => result.push(letter),
        }
    }
    Ok(result)
}

/// What stands behind a `$`: `NAME`, `{NAME}`, `{NAME:-otherwise}` or `{NAME:+instead}`. Anything else is a dollar sign.
fn variable(letters: &mut Peekable<Chars<'_>>, env: &[String]) -> Result<String> {
    let is_part = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '_';
    let value = |name: &str| {
        let found = env.iter().find_map(|entry| entry.split_once('=').filter(|(key, _)| *key == name));
        found.map(|(_, value)| value.to_owned()).filter(|value| !value.is_empty())
    };
    if letters.next_if_eq(&'{').is_none() {
        let name: String = std::iter::from_fn(|| letters.next_if(is_part)).collect();
        return Ok(if name.is_empty() { "$".to_owned() } else { value(&name).unwrap_or_default() });
    }
    let inner: String = letters.by_ref().take_while(|letter| *letter != '}').collect();
    let (name, rest) = inner.split_at(inner.find(|letter| !is_part(&letter)).unwrap_or(inner.len()));
    let found = value(name);
    match (name, rest.split_at_checked(2)) {
        ("", _) => Err(invalid(format!("no variable is named in ${{{inner}}}"))),
        (_, None) if rest.is_empty() => Ok(found.unwrap_or_default()),
        (_, Some((":-", otherwise))) => Ok(found.unwrap_or_else(|| otherwise.to_owned())),
        (_, Some((":+", instead))) => Ok(found.map(|_| instead.to_owned()).unwrap_or_default()),
        _ => Err(invalid(format!("unsupported modifier in ${{{inner}}}"))),
    }
}

pub(super) fn set_variable(config: &mut ContainerConfig, key: &str, value: &str) {
    let entry = format!("{key}={value}");
    match config.env.iter_mut().find(|old| old.split_once('=').map(|(name, _)| name) == Some(key)) {
        Some(old) => *old = entry,
        None => config.env.push(entry),
    }
}

fn expose(config: &mut ContainerConfig, text: &str) -> Result<()> {
    for word in text.split_whitespace() {
        let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
            return Err(invalid(format!("invalid containerPort: {word}")));
        };
        if first > last || !matches!(protocol, "tcp" | "udp" | "sctp") {
            return Err(invalid(format!("invalid containerPort: {word}")));
        }
        config.exposed_ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    }
    Ok(())
}

pub(super) fn on_build(config: &mut ContainerConfig, text: &str) -> Result<()> {
    let word = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if matches!(word.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
        return Err(invalid(format!("{word} isn't allowed as an ONBUILD trigger")));
    }
    config.on_build.push(text.to_owned());
    Ok(())
}

fn volume(config: &mut ContainerConfig, text: &str) -> Result<()> {
    let paths = list(text).map_or_else(|| words(text, &config.env), Ok)?;
    if paths.iter().any(|path| path.trim().is_empty()) {
        return Err(invalid("VOLUME specified can not be an empty string"));
    }
    config.volumes.extend(paths);
    Ok(())
}

fn working_directory(config: &mut ContainerConfig, path: &str) {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", config.working_dir) };
    config.working_dir = crate::plain_path::plain_path(&whole);
}

fn healthcheck(text: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = text.trim();
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').ok_or_else(|| invalid(format!("the flag --{flag} needs a value")))?;
        let duration = || nanoseconds(value).ok_or_else(|| invalid(format!("invalid duration {value:?} of --{name}")));
        match name {
            "interval" => check.interval = duration()?,
            "timeout" => check.timeout = duration()?,
            "start-period" => check.start_period = duration()?,
            "start-interval" => check.start_interval = duration()?,
            "retries" => {
                let bad = || invalid(format!("invalid number {value:?} of --retries"));
                check.retries = value.parse().ok().filter(|number| *number >= 0).ok_or_else(bad)?;
            }
            _ => return Err(invalid(format!("unknown flag: --{name}"))),
        }
        rest = after.trim();
    }
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match (word.to_ascii_uppercase().as_str(), rest.trim()) {
        ("NONE", "") => vec!["NONE".into()],
        ("CMD", text) if !text.is_empty() => match list(text) {
            Some(words) => [vec!["CMD".to_owned()], words].concat(),
            None => vec!["CMD-SHELL".into(), text.into()],
        },
        _ => return Err(invalid(format!("unknown type {word:?} in HEALTHCHECK (try CMD)"))),
    };
    Ok(check)
}

/// Go's durations: `1m30s`, `500ms`.
fn nanoseconds(text: &str) -> Option<i64> {
    let mut total = 0_f64;
    let mut rest = text;
    if rest == "0" {
        return Some(0);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let factor = match unit {
            "ns" => 1.0,
            "us" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    (!text.is_empty() && total < i64::MAX as f64).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> ContainerConfig {
        let mut config = ContainerConfig {
            env: vec!["A=1".into()],
            cmd: Some(vec!["old".into()]),
            working_dir: "/srv".into(),
            ..ContainerConfig::default()
        };
        apply(&mut config, &changes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), None).unwrap();
        config
    }

    #[test]
    fn commands() {
        let strings = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(changed(&["CMD [\"a\", \"b c\"]"]).cmd, strings(&["a", "b c"]));
        assert_eq!(changed(&["cmd echo hi"]).cmd, strings(&["/bin/sh", "-c", "echo hi"]));
        let both = changed(&["ENTRYPOINT [\"x\"]"]);
        assert_eq!((both.entrypoint, both.cmd), (strings(&["x"]), None));
        let both = changed(&["CMD [\"y\"]", "ENTRYPOINT [\"x\"]"]);
        assert_eq!((both.entrypoint, both.cmd), (strings(&["x"]), strings(&["y"])));
    }

    #[test]
    fn the_rest() {
        let config = changed(&[
            "ENV A=2 B='x y' C=a\\ b",
            "ENV D one two",
            "LABEL k=\"v w\"\nLABEL l=",
            "EXPOSE 80 443/tcp 5000-5001/udp",
            "VOLUME [\"/a\"]",
            "VOLUME /b /c",
            "WORKDIR sub/../x",
            "USER 1:2",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN true",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f x",
        ]);
        assert_eq!(config.env, ["A=2", "B=x y", "C=a b", "D=one two"]);
        assert_eq!(
            config.labels.into_iter().collect::<Vec<_>>(),
            [("k".into(), "v w".into()), ("l".into(), String::new())]
        );
        assert_eq!(Vec::from_iter(config.exposed_ports), ["443/tcp", "5000/udp", "5001/udp", "80/tcp"]);
        assert_eq!(Vec::from_iter(config.volumes), ["/a", "/b", "/c"]);
        assert_eq!(
            (config.working_dir.as_str(), config.user.as_str(), config.stop_signal.as_str()),
            ("/srv/x", "1:2", "SIGINT")
        );
        assert_eq!(config.on_build, ["RUN true"]);
        let check = config.healthcheck.unwrap();
        assert_eq!(
            (check.interval, check.retries, check.test),
            (90_000_000_000, 3, vec!["CMD-SHELL".into(), "curl -f x".into()])
        );
    }

    #[test]
    fn refusals() {
        for bad in [
            "FROM x",
            "RUN true",
            "ENV",
            "ENV A",
            "EXPOSE x",
            "ENV A='",
            "ONBUILD FROM x",
            "HEALTHCHECK x",
            "STOPSIGNAL x",
        ] {
            let result = apply(&mut ContainerConfig::default(), &[bad.to_owned()], None);
            assert!(result.is_err(), "{bad}");
        }
        let error = apply(&mut ContainerConfig::default(), &["RUN x".to_owned()], None).unwrap_err();
        assert_eq!(error.to_string(), "run is not a valid change command");
    }

    #[test]
    fn variables() {
        let config = changed(&[
            "ENV B=$A/${A}x C=\"${A:-no}\" D=${NONE:-there} E=${A:+set} F='$A' G=\\$A H=$ I=$NONE.",
            "ENV A=2:$A",
            "WORKDIR /w/$A",
            "USER ${A}",
            "LABEL l=$B",
        ]);
        let expected = ["A=2:1", "B=1/1x", "C=1", "D=there", "E=set", "F=$A", "G=$A", "H=$", "I=."];
        assert_eq!(config.env, expected);
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/w/2:1", "2:1"));
        assert_eq!(config.labels["l"], "1/1x");
        for wrong in ["ENV X=${A:?no}", "ENV X=${}", "USER ${A!}"] {
            assert!(apply(&mut ContainerConfig::default(), &[wrong.to_owned()], None).is_err(), "{wrong}");
        }
    }
}
