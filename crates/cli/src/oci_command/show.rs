//! What verbs print.

use std::fmt::Write as _;

use clap::Command;
use oci_runtime::{Error, Listed, Result};
use serde::Serialize;

use super::verbs::VERBS;

/// The list of verbs and of the flags before them.
pub fn help(name: &str, root: Command) -> String {
    let mut text = format!(
        "NAME:\n   {name} - Open Container Initiative runtime\n\n\
         USAGE:\n   {name} [global options] command [command options] [arguments...]\n\nCOMMANDS:\n"
    );
    for verb in VERBS {
        // Writing to a string does not fail.
        _ = writeln!(text, "  {:<11} {}", verb.name, verb.about);
    }
    let options = root.help_template("{options}").render_help().to_string();
    _ = writeln!(text, "\nGLOBAL OPTIONS:\n{}", options.trim_end());
    text
}

/// Prints a text; a reader that went away is no failure of the verb.
pub fn text(text: &str) -> Result<u8> {
    match crate::output::text(text) {
        Ok(()) => Ok(0),
        Err(_) => Ok(1),
    }
}

/// Prints JSON with runc's indentation.
pub fn json(value: &impl Serialize) -> Result<u8> {
    let json = serde_json::to_string_pretty(value).map_err(|error| Error::Refused(error.to_string()))?;
    text(&format!("{json}\n"))
}

/// Prints JSON in one line.
pub fn json_line(value: &impl Serialize) -> Result<u8> {
    let json = serde_json::to_string(value).map_err(|error| Error::Refused(error.to_string()))?;
    text(&format!("{json}\n"))
}

/// runc's table of containers.
pub fn table(list: &[Listed]) -> Result<u8> {
    let rows = list.iter().map(|each| {
        [&each.id, &each.pid.to_string(), &each.status.to_string(), &each.bundle, &each.created, &each.owner]
            .map(|cell| cell.replace(|letter: char| letter.is_control(), "?"))
    });
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    let widths: Vec<usize> =
        (0..6).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(9)).collect();
    let mut table = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        _ = writeln!(table, "{}", cells.join("   ").trim_end());
    }
    text(&table)
}
