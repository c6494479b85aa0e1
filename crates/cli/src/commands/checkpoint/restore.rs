//! `container restore`, as Podman has it

use super::super::{each_named, verb};
use super::container::NAME;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::CheckpointImport;

/// Have containers go on where a checkpoint or an archive left off
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] CONTAINER [CONTAINER...] | --import FILE",
    "Have containers go on where their checkpoint, or an archive, left off"
);

#[derive(Args)]
struct Flags {
    /// Give the container of an archive what it had of the host: mounts, devices, privileges, namespaces
    #[arg(long)]
    allow_host: bool,
    /// Start the layer of an archive's container as its image is
    #[arg(long)]
    ignore_rootfs: bool,
    /// Take the volumes that are here in place of the archive's
    #[arg(long)]
    ignore_volumes: bool,
    /// Make a container of this archive
    #[arg(short = 'i', long, value_name = "string")]
    import: Option<String>,
    /// Keep the checkpoint
    #[arg(short = 'k', long)]
    keep: bool,
    /// Name of the container of an archive
    #[arg(short = 'n', long, value_name = "string")]
    name: Option<String>,
    /// Names or identifiers
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let Some(path) = &flags.import else {
        if flags.containers.is_empty() {
            return Err(Failure::new("name a container, or an archive with --import FILE"));
        }
        if flags.name.is_some() || flags.ignore_rootfs || flags.ignore_volumes || flags.allow_host {
            let text =
                "--name, --ignore-rootfs, --ignore-volumes and --allow-host are for an archive: add --import FILE";
            return Err(Failure::new(text));
        }
        let engine = session.engine()?;
        return each_named(&flags.containers, |name| {
            engine.start_from(name, NAME, None, None)?;
            if !flags.keep {
                engine.remove_checkpoint(name, NAME, None)?;
            }
            Ok(())
        });
    };
    if !flags.containers.is_empty() {
        return Err(Failure::new("an archive has its container in it: name none with --import"));
    }
    let options = CheckpointImport {
        name: flags.name.clone(),
        ignore_root: flags.ignore_rootfs,
        ignore_volumes: flags.ignore_volumes,
        allow_host: flags.allow_host,
        keep: flags.keep,
    };
    let file = std::fs::File::open(path).map_err(|error| Failure::caused(format!("cannot open {path}"), error))?;
    let started = session.engine()?.import_checkpoint(file, &options)?;
    started.warnings.iter().for_each(|warning| session.warn(warning));
    output::line(&started.id)
}
