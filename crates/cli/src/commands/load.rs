//! `load`

use super::verb;
use crate::display::progress;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::values::environment::plain_error;
use crate::values::platform;
use crate::verb::Verb;
use clap::Args;
use engine::{PullProgress, Quiet};
use rustix::termios::isatty;
use std::fs::File;
use std::os::fd::AsFd as _;

/// Load an image from a tar archive or standard input
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "Load an image from a tar archive or STDIN");

#[derive(Args)]
struct Flags {
    /// Archive to read instead of standard input
    #[arg(short = 'i', long, value_name = "file")]
    input: Option<String>,
    /// Platform of a multi-platform archive (os/arch[/variant])
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Say only what was loaded
    #[arg(short = 'q', long)]
    quiet: bool,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let source = source(flags.input.as_deref())?;
    let mut shown = progress::of_archive();
    let progress: &mut dyn PullProgress = if flags.quiet { &mut Quiet } else { &mut shown };
    let name = flags.input.as_deref().unwrap_or("the archive on standard input");
    let engine = session.engine()?;
    let loaded = match flags.platform.as_deref() {
        Some(text) => engine.load_for(source, name, &platform::parse(text)?, progress)?,
        None => engine.load(source, name, progress)?,
    };
    for image in loaded {
        if image.names.is_empty() {
            output::line(&format!("Loaded image ID: {}", image.id))?;
        }
        for name in &image.names {
            output::line(&format!("Loaded image: {name}"))?;
        }
    }
    Ok(())
}

fn source(path: Option<&str>) -> Result<File, Failure> {
    let Some(path) = path.filter(|path| *path != "-") else {
        if isatty(std::io::stdin()) {
            return Err(Failure::new("requested load from stdin, but stdin is empty"));
        }
        let copy = std::io::stdin().as_fd().try_clone_to_owned();
        return copy.map(File::from).map_err(|error| Failure::caused("standard input cannot be read", error));
    };
    File::open(path).map_err(|error| Failure::new(format!("open {path}: {}", plain_error(&error))))
}
