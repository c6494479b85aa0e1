//! `top`

use super::verb;
use crate::display::table;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Display the running processes of a container
pub const VERB: Verb =
    verb!(Flags, execute, Other, "CONTAINER [ps OPTIONS]", "Display the running processes of a container");

#[derive(Args)]
struct Flags {
    /// The container, then options of ps that choose columns: -ef, aux, -e, -o LIST
    #[arg(value_name = "CONTAINER", required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let (name, options) = flags.words.split_first().ok_or_else(|| Failure::new("a container is required"))?;
    let top = session.engine()?.top(name, options)?;
    let mut text = String::new();
    for row in std::iter::once(&top.titles).chain(&top.processes) {
        text.push_str(&row.join("\t"));
        text.push('\n');
    }
    output::text(&table::align(&text))
}
