//! `save`

use super::verb;
use crate::failure::Failure;
use crate::session::Session;
use crate::values::environment::plain_error;
use crate::verb::Verb;
use clap::Args;
use engine::{SaveFormat, SaveOptions};
use rustix::termios::isatty;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Save one or more images to a tar archive
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)"
);

#[derive(Args)]
struct Flags {
    /// Kind of archive: docker-archive, which is an OCI layout too, or oci-archive
    #[arg(long, value_name = "string", default_value = "docker-archive", hide_default_value = true)]
    format: Format,
    /// File to write instead of standard output
    #[arg(short = 'o', long, value_name = "string")]
    output: Option<PathBuf>,
    /// Save only if the images are for this platform (os/arch[/variant])
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Names or identifiers
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    DockerArchive,
    OciArchive,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let format = match flags.format {
        Format::DockerArchive => SaveFormat::Docker,
        Format::OciArchive => SaveFormat::Oci,
    };
    let options = SaveOptions { format, platform: flags.platform.clone() };
    let Some(path) = &flags.output else {
        if isatty(std::io::stdout()) {
            return Err(Failure::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        let mut sink = BufWriter::with_capacity(256 << 10, std::io::stdout().lock());
        session.engine()?.save(&flags.images, &options, &mut sink)?;
        return sink.flush().map_err(Failure::Output);
    };
    let mut target = Target::open(path)?;
    {
        let mut sink = BufWriter::with_capacity(256 << 10, &mut target.file);
        session.engine()?.save(&flags.images, &options, &mut sink)?;
        sink.flush().map_err(|error| Failure::caused(format!("cannot write {}", path.display()), error))?;
    }
    target.keep()
}

/// A file that appears under its name when it is complete.
struct Target {
    file: File,
    /// Its name meanwhile; none where the name is a device or a pipe, which is written as it is.
    temporary: Option<PathBuf>,
    path: PathBuf,
}

impl Target {
    fn open(path: &Path) -> Result<Target, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("open {}: {}", path.display(), plain_error(&error)));
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
            return Ok(Target { file, temporary: None, path: path.to_owned() });
        }
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().ok_or_else(|| Failure::new(format!("{} is not a file's name", path.display())))?);
        name.push(format!(".{}", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
        Ok(Target { file, temporary: Some(temporary), path: path.to_owned() })
    }

    fn keep(mut self) -> Result<(), Failure> {
        let Some(temporary) = self.temporary.take() else { return Ok(()) };
        std::fs::rename(&temporary, &self.path)
            .map_err(|error| Failure::caused(format!("cannot write {}", self.path.display()), error))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // The failure that brought us here is the one to tell.
            std::fs::remove_file(temporary).ok();
        }
    }
}
