//! `cp`
//!
//! Which name a copy gets depends on both ends (module `rules`); the files travel as a tar stream between the engine's
//! verbs, one on each side of a pipe.

mod rules;

use super::verb;
use crate::display::amount;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::archives::{Owners, Unpack, local};
use engine::{ArchiveIn, Engine, Kind};
use rules::{Destination, Source, place};
use std::io::{IsTerminal as _, Read};
use std::path::{Path, PathBuf};

/// Copy files/folders between a container and the local filesystem
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- ...",
    "Copy files/folders between a container and the local filesystem"
);

#[derive(Args)]
struct Flags {
    /// In a container, give all files to its user; outside, keep the owners
    #[arg(short = 'a', long)]
    archive: bool,
    /// Copy what a link at the source leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing about what was copied
    #[arg(short = 'q', long)]
    quiet: bool,
    /// CONTAINER:PATH, a path of the host, or - for a tar stream
    #[arg(value_name = "SRC_PATH", required = true)]
    source: String,
    /// The same
    #[arg(value_name = "DEST_PATH", required = true)]
    destination: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    if flags.source.is_empty() {
        return Err(Failure::new("source can not be empty"));
    }
    if flags.destination.is_empty() {
        return Err(Failure::new("destination can not be empty"));
    }
    match (rules::container(&flags.source), rules::container(&flags.destination)) {
        (Some(_), Some(_)) => Err(Failure::new("copying between containers is not supported")),
        (None, None) => Err(Failure::new("must specify at least one container source")),
        (Some((name, path)), None) => out(&session.engine()?, flags, name, path),
        (None, Some((name, path))) => into(&session.engine()?, flags, name, path),
    }
}

fn out(engine: &Engine, flags: &Flags, container: &str, path: &str) -> Result<(), Failure> {
    let to_stdout = flags.destination == "-";
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(Failure::new("cowardly refusing to write an archive to a terminal: redirect the output"));
    }
    let target = if to_stdout { PathBuf::new() } else { output_path(&flags.destination)? };
    let mut path = path.to_owned();
    let mut shown = rules::last_name(&path);
    if flags.follow_link {
        let stat = engine.path_stat(container, &path)?;
        if stat.is_link() {
            path = stat.link_target;
        }
    }
    if to_stdout {
        return Ok(engine.archive_out(container, &path, |_| {}, output::unbuffered()?)?);
    }
    if !flags.follow_link {
        shown = rules::last_name(&path);
    }
    let archived = rules::last_name(&path);
    let (reader, writer) = pipe()?;
    let (sender, stat) = std::sync::mpsc::channel();
    let owners = if flags.archive { Owners::Archive } else { Owners::Caller };
    let (sent, received) = std::thread::scope(|scope| {
        let unpacking = scope.spawn(move || -> Result<u64, Failure> {
            // Nothing is sent when the source cannot be read, which its own error says.
            let Ok(is_directory) = stat.recv() else { return Ok(0) };
            let source = Source { is_directory, name: &shown };
            let target = Destination::of_host(&target);
            let (directory, name) = place(&source, &target)?;
            let rename = (name != archived).then(|| (rules::archived(&archived), name.into_bytes()));
            let options = Unpack { owners, keep_kinds: true, rename, ..Unpack::default() };
            let mut counted = Counted { stream: reader, bytes: 0 };
            local::unpack_into(Path::new(&directory), &mut counted, &options)?;
            // What follows the end mark.
            std::io::copy(&mut counted, &mut std::io::sink())
                .map_err(|error| Failure::caused("read the archive", error))?;
            Ok(counted.bytes)
        });
        let begin = |stat: &engine::PathStat| sender.send(stat.is_directory()).unwrap_or_default();
        let sent = engine.archive_out(container, &path, begin, writer);
        drop(sender);
        (sent, unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    // When unpacking fails it closes the pipe, and packing fails for that.
    let bytes = match (sent, received) {
        (_, Err(failure)) => return Err(failure),
        (Err(error), _) => return Err(error.into()),
        (Ok(()), Ok(bytes)) => bytes,
    };
    done(flags, bytes, &flags.destination);
    Ok(())
}

fn into(engine: &Engine, flags: &Flags, container: &str, path: &str) -> Result<(), Failure> {
    let mut path = path.to_owned();
    let mut stat = engine.path_stat(container, &path);
    if let Ok(link) = &stat
        && link.is_link()
    {
        path.clone_from(&link.link_target);
        stat = engine.path_stat(container, &path);
    }
    let stat = match stat {
        Ok(stat) if !stat.is_directory() && !stat.is_file() => {
            return Err(Failure::new(format!(
                "destination \"{container}:{path}\" must be a directory or a regular file"
            )));
        }
        Ok(stat) => Some(stat),
        Err(error) if error.kind() == Kind::NotFound => {
            // Of a missing path the directory may still exist; a missing container is the end.
            engine.inspect(container)?;
            None
        }
        Err(error) => return Err(error.into()),
    };
    let is_directory = stat.as_ref().is_some_and(engine::PathStat::is_directory);
    let options = ArchiveIn { keep_kinds: true, owner_is_user: flags.archive, rename: None };
    if flags.source == "-" {
        if !is_directory {
            return Err(Failure::new(format!("destination \"{container}:{path}\" must be a directory")));
        }
        return Ok(engine.archive_in(container, &path, std::io::stdin(), &options)?);
    }
    let source = rules::of_host(&flags.source, flags.follow_link)?;
    let target = Destination { path: path.clone(), exists: stat.is_some(), is_directory };
    let (directory, name) = place(&Source { is_directory: source.is_directory, name: &source.name }, &target)?;
    let (reader, writer) = pipe()?;
    let (sent, received) = std::thread::scope(|scope| {
        let packing =
            scope.spawn(move || local::pack(&source.path, &name, std::io::BufWriter::with_capacity(64 << 10, writer)));
        let mut counted = Counted { stream: reader, bytes: 0 };
        let received = engine.archive_in(container, &directory, &mut counted, &options);
        let bytes = counted.bytes;
        drop(counted);
        (packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), received.map(|()| bytes))
    });
    let bytes = match (sent, received) {
        // A source that cannot be read ends the archive in the middle, and unpacking fails for that.
        (Err(error), _) if error.kind() == Kind::NotFound => return Err(error.into()),
        (_, Err(error)) => return Err(error.into()),
        (Err(error), _) => return Err(error.into()),
        (Ok(()), Ok(bytes)) => bytes,
    };
    done(flags, bytes, &flags.destination);
    Ok(())
}

/// Docker says it on a terminal only.
fn done(flags: &Flags, bytes: u64, destination: &str) {
    if !flags.quiet && std::io::stderr().is_terminal() {
        output::remark(&format!("Successfully copied {} to {destination}", amount::transferred(bytes)));
    }
}

fn pipe() -> Result<(std::io::PipeReader, std::io::PipeWriter), Failure> {
    std::io::pipe().map_err(|error| Failure::caused("cannot make a pipe", error))
}

/// The absolute path of the destination, whose directory must exist.
fn output_path(path: &str) -> Result<PathBuf, Failure> {
    let absolute = rules::absolute(path)?;
    let above = Path::new(absolute.trim_end_matches('/')).parent().unwrap_or(Path::new("/")).to_owned();
    if !above.exists() {
        return Err(Failure::new(format!(
            "invalid output path: directory {:?} does not exist",
            above.display().to_string()
        )));
    }
    match std::fs::metadata(&absolute) {
        Ok(there) if !there.is_dir() && !there.is_file() => {
            Err(Failure::new(format!("invalid output path: {absolute:?} must be a directory or a regular file")))
        }
        _ => Ok(absolute.into()),
    }
}

/// Counts what is read.
struct Counted<R> {
    stream: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}
