//! `container checkpoint`, as Podman has it

use super::super::{each_named, verb};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::{ArchiveCompression, CheckpointChoices, CheckpointExport, Kind};

/// Write running containers into checkpoints or an archive
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Write running containers into checkpoints, or one into an archive"
);

/// What a checkpoint without a name is called; `container restore` looks for it.
pub const NAME: &str = "checkpoint";

#[derive(Args)]
struct Flags {
    /// Compression of the archive: none, gzip or zstd
    #[arg(short = 'c', long, value_name = "string", default_value = "zstd")]
    compress: String,
    /// Write an archive, for another time or another machine
    #[arg(short = 'e', long, value_name = "string")]
    export: Option<String>,
    /// Keep locks of files
    #[arg(long)]
    file_locks: bool,
    /// Leave what the container changed in its image out of the archive
    #[arg(long)]
    ignore_rootfs: bool,
    /// Leave the content of volumes out of the archive
    #[arg(long)]
    ignore_volumes: bool,
    /// Keep criu's log and figures in the archive
    #[arg(short = 'k', long)]
    keep: bool,
    /// Leave the container running after the checkpoint
    #[arg(short = 'R', long)]
    leave_running: bool,
    /// Keep established TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Names or identifiers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let checkpoint = CheckpointChoices {
        leave_running: flags.leave_running,
        tcp_established: flags.tcp_established,
        file_locks: flags.file_locks,
    };
    let compression = match flags.compress.as_str() {
        "none" => ArchiveCompression::None,
        "gzip" => ArchiveCompression::Gzip,
        "zstd" => ArchiveCompression::Zstd,
        other => return Err(Failure::new(format!("invalid --compress {other:?}: use none, gzip or zstd"))),
    };
    let Some(path) = &flags.export else {
        if flags.ignore_rootfs || flags.ignore_volumes || flags.keep {
            return Err(Failure::new(
                "--ignore-rootfs, --ignore-volumes and --keep are for an archive: add --export FILE",
            ));
        }
        let engine = session.engine()?;
        return each_named(&flags.containers, |name| {
            // As Podman has it, there is one of this kind, and the last one counts.
            match engine.remove_checkpoint(name, NAME, None) {
                Err(error) if error.kind() != Kind::NotFound => return Err(error.into()),
                _ => {}
            }
            Ok(engine.checkpoint(name, NAME, None, checkpoint)?)
        });
    };
    let [name] = flags.containers.as_slice() else {
        return Err(Failure::new("an archive holds one container: --export needs a single one"));
    };
    let choices = CheckpointExport {
        checkpoint,
        compression,
        ignore_root: flags.ignore_rootfs,
        ignore_volumes: flags.ignore_volumes,
        keep_logs: flags.keep,
    };
    let engine = session.engine()?;
    engine.inspect(name)?;
    output::to_private_file(path, |file| Ok(engine.export_checkpoint(name, &choices, file)?))?;
    output::line(name)
}
