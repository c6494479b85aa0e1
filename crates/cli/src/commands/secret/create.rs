//! `secret create`, `config create`

use super::super::verb;
use super::kind;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::values::keyvalue;
use crate::verb::Verb;
use clap::Args;
use engine::NewSecret;
use std::io::Read as _;

/// Create a secret
pub const SECRET: Verb = verb!(
    SecretFlags,
    |session: &Session, flags: &SecretFlags| execute(session, &flags.shared, false, flags.env),
    Other,
    "[OPTIONS] SECRET [FILE|-]",
    "Create a secret from a file or STDIN as content"
);

/// Create a configuration
pub const CONFIG: Verb = verb!(
    Flags,
    |session: &Session, flags: &Flags| execute(session, flags, true, false),
    Other,
    "[OPTIONS] CONFIG FILE|-",
    "Create a config from a file or STDIN"
);

#[derive(Args)]
struct SecretFlags {
    /// The content is that of the environment variable which FILE names
    #[arg(long)]
    env: bool,
    #[command(flatten)]
    shared: Flags,
}

#[derive(Args)]
struct Flags {
    /// Set a label (KEY[=VALUE])
    #[arg(short = 'l', long, value_name = "list", value_parser = keyvalue::label)]
    label: Vec<(String, String)>,
    /// Take the place of one of that name that no container uses
    #[arg(long)]
    replace: bool,
    /// Its name
    #[arg(value_name = "NAME", required = true)]
    name: String,
    /// Its content; - for standard input
    #[arg(value_name = "FILE")]
    file: Option<String>,
}

fn execute(session: &Session, flags: &Flags, config: bool, from_environment: bool) -> Result<(), Failure> {
    let content = match flags.file.as_deref() {
        Some(name) if from_environment => variable(name)?,
        None if from_environment => return Err(Failure::new("--env needs the name of a variable")),
        None if config => return Err(Failure::new("a file is required; - is standard input")),
        None | Some("-") => limited(std::io::stdin().lock(), "standard input")?,
        Some(path) => {
            let file = std::fs::File::open(path)
                .map_err(|error| Failure::caused(format!("Error reading content from {path:?}"), error))?;
            limited(file, path)?
        }
    };
    let secret = session.engine()?.create_secret(&NewSecret {
        kind: kind(config),
        name: flags.name.clone(),
        labels: flags.label.iter().cloned().collect(),
        content,
        replace: flags.replace,
    })?;
    output::line(&secret.id)
}

fn variable(name: &str) -> Result<Vec<u8>, Failure> {
    use std::os::unix::ffi::OsStringExt as _;
    let value = std::env::var_os(name);
    value
        .map(std::ffi::OsString::into_vec)
        .ok_or_else(|| Failure::new(format!("the environment variable {name} is not set")))
}

/// One byte more than is allowed is enough to be refused.
fn limited(source: impl std::io::Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let read = source.take(engine::secrets::LARGEST as u64 + 1).read_to_end(&mut content);
    read.map_err(|error| Failure::caused(format!("Error reading content from {name:?}"), error))?;
    Ok(content)
}
