//! `image diff`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::{Args, ValueEnum};
use serde_json::json;

/// Show what differs between two images, or what the topmost layer of one does
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] IMAGE [OLDER]",
    "Show what differs between two images, or what the topmost layer of one does"
);

#[derive(Args)]
struct Flags {
    /// json, or lines
    #[arg(long, value_name = "string", hide_possible_values = true)]
    format: Option<Format>,
    /// Name or identifier
    #[arg(value_name = "IMAGE")]
    image: String,
    /// What it is compared with
    #[arg(value_name = "OLDER")]
    older: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let changes = session.engine()?.image_diff(&flags.image, flags.older.as_deref())?;
    if let Some(Format::Json) = flags.format {
        let of = |wanted: char| -> Vec<String> {
            let some = changes.iter().filter(|change| change.letter == wanted);
            some.map(|change| String::from_utf8_lossy(&change.path).into_owned()).collect()
        };
        return output::json(&json!({"changed": of('C'), "added": of('A'), "deleted": of('D')}));
    }
    let mut text = Vec::new();
    for change in &changes {
        text.extend([change.letter as u8, b' ']);
        text.extend(&change.path);
        text.push(b'\n');
    }
    output::bytes(&text)
}
