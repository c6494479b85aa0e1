//! `man`

use super::{GROUPS, VERBS, verb};
use crate::failure::Failure;
use crate::manual;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use std::path::{Path, PathBuf};

/// Write the manual pages
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[COMMAND...]", "Print the manual page of a command, or write them all");

#[derive(Args)]
struct Flags {
    /// Write all pages to a directory, such as /usr/local/share/man/man1
    #[arg(short = 'o', long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The command, as in: container ls
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

fn execute(_session: &Session, flags: &Flags) -> Result<(), Failure> {
    if let Some(directory) = &flags.output {
        return all(directory);
    }
    let unknown = || Failure::new(format!("unknown command: dhow {}", flags.command.join(" ")));
    let page = match flags.command.as_slice() {
        [] => manual::root(),
        [name] => match crate::verb::find(VERBS, name) {
            Some(verb) => manual::verb(verb, name),
            None => manual::group(GROUPS.iter().find(|group| group.name == name).ok_or_else(unknown)?),
        },
        [group, name] => {
            let verbs = GROUPS.iter().find(|each| each.name == group).ok_or_else(unknown)?.verbs;
            manual::verb(crate::verb::find(verbs, name).ok_or_else(unknown)?, &format!("{group} {name}"))
        }
        _ => return Err(unknown()),
    };
    output::text(&page)
}

/// One page for each command, under its name with dashes.
fn all(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)
        .map_err(|error| Failure::caused(format!("cannot make {}", directory.display()), error))?;
    let write = |path: &str, page: String| {
        let name = if path.is_empty() { "dhow.1".to_owned() } else { format!("dhow-{}.1", path.replace(' ', "-")) };
        let file = directory.join(name);
        std::fs::write(&file, page).map_err(|error| Failure::caused(format!("cannot write {}", file.display()), error))
    };
    write("", manual::root())?;
    for (names, verb) in VERBS {
        write(names[0], manual::verb(verb, names[0]))?;
    }
    for group in GROUPS {
        write(group.name, manual::group(group))?;
        for (names, verb) in group.verbs {
            let path = format!("{} {}", group.name, names[0]);
            write(&path, manual::verb(verb, &path))?;
        }
    }
    Ok(())
}
