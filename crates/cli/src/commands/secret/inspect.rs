//! `secret inspect`, `config inspect`

use super::super::{inspect, verb};
use super::kind;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::{Engine, SecretKind};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Display secrets, without their content
pub const SECRET: Verb = verb!(
    SecretFlags,
    |session: &Session, flags: &SecretFlags| execute(session, &flags.shared, false, flags.showsecret),
    Other,
    "[OPTIONS] SECRET [SECRET...]",
    "Display detailed information on one or more secrets"
);

/// Display configurations
pub const CONFIG: Verb = verb!(
    Flags,
    |session: &Session, flags: &Flags| execute(session, flags, true, true),
    Other,
    "[OPTIONS] CONFIG [CONFIG...]",
    "Display detailed information on one or more configs"
);

#[derive(Args)]
struct SecretFlags {
    #[command(flatten)]
    shared: Flags,
    /// Show the content too
    #[arg(long)]
    showsecret: bool,
}

#[derive(Args)]
struct Flags {
    /// json, or a Go template
    #[arg(short = 'f', long, value_name = "string")]
    format: Option<String>,
    /// Print the information in a human friendly format
    #[arg(long)]
    pretty: bool,
    /// Names or identifiers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

fn execute(session: &Session, flags: &Flags, config: bool, shown: bool) -> Result<(), Failure> {
    let engine = session.engine()?;
    let kind = kind(config);
    if flags.pretty {
        if flags.format.is_some() {
            return Err(Failure::new("--format is incompatible with human friendly format"));
        }
        return flags.names.iter().try_for_each(|name| pretty(&engine, kind, name, shown));
    }
    inspect::several(&flags.names, flags.format.as_deref(), |name| value(&engine, kind, name, shown))
}

pub fn value(engine: &Engine, kind: SecretKind, name: &str, shown: bool) -> Result<Value, Failure> {
    let secret = engine.secret(kind, name)?;
    let mut spec = json!({ "Name": secret.name, "Labels": secret.labels });
    if shown {
        let content = engine.secret_content(kind, &secret.id)?;
        match kind {
            // The API's form of it.
            SecretKind::Config => spec["Data"] = base64(&content).into(),
            SecretKind::Secret => spec["SecretData"] = String::from_utf8_lossy(&content).into(),
        }
    }
    Ok(json!({
        "ID": secret.id,
        "Version": { "Index": 1 },
        "CreatedAt": secret.created_at,
        "UpdatedAt": secret.created_at,
        "Spec": spec,
        "Size": secret.size,
        "Containers": secret.containers,
    }))
}

fn pretty(engine: &Engine, kind: SecretKind, name: &str, shown: bool) -> Result<(), Failure> {
    let secret = engine.secret(kind, name)?;
    let mut text = format!("ID:              {}\nName:            {}\n", secret.id, secret.name);
    if !secret.labels.is_empty() {
        text.push_str("Labels:\n");
        for (key, value) in &secret.labels {
            // Writing to a string does not fail.
            _ = writeln!(text, " - {key}={value}");
        }
    }
    _ = writeln!(text, "Created at:      {}", docker_json::elapsed::go(&secret.created_at));
    if shown {
        let content = engine.secret_content(kind, &secret.id)?;
        _ = writeln!(text, "Data:\n{}", String::from_utf8_lossy(&content));
    }
    output::text(&text)
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = (number >> (18 - 6 * place)) & 63;
            text.push(if place > three.len() { '=' } else { char::from(DIGITS[digit as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn vectors_of_the_specification() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
