//! `completion`

use super::verb;
use crate::completion::scripts;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// Print the completion script of a shell
pub const VERB: Verb =
    verb!(Flags, execute, Other, "SHELL", "Print the completion script of a shell: bash, fish or zsh");

#[derive(Args)]
struct Flags {
    /// Do not show what a candidate means
    #[arg(long)]
    no_descriptions: bool,
    /// bash, fish or zsh
    #[arg(value_name = "SHELL")]
    shell: String,
}

fn execute(_session: &Session, flags: &Flags) -> Result<(), Failure> {
    let script = scripts::of(&flags.shell, crate::program::name()).ok_or_else(|| {
        Failure::new(format!("there is no completion for {:?}: bash, fish and zsh have one", flags.shell))
    })?;
    output::text(&match flags.no_descriptions {
        true => script
            .replace("__complete \"", "__completeNoDesc \"")
            .replace("__complete $words", "__completeNoDesc $words"),
        false => script,
    })
}
