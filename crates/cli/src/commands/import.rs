//! `import`, `image import`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::ImportOptions;

/// Import the contents from a tarball to create a filesystem image
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "[OPTIONS] file|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image"
);

#[derive(Args)]
struct Flags {
    /// Apply an instruction of a Dockerfile to the image
    #[arg(short = 'c', long, value_name = "list")]
    change: Vec<String>,
    /// Message
    #[arg(short = 'm', long, value_name = "string")]
    message: Option<String>,
    /// Platform of the image (os/arch[/variant])
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// The archive, compressed or not; - for standard input
    #[arg(value_name = "FILE", required = true)]
    file: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY")]
    repository: Option<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let file = flags.file.as_str();
    if file.starts_with("http://") || file.starts_with("https://") {
        return Err(Failure::new(format!(
            "importing from a URL is not supported: fetch {file} yourself and pass it as -"
        )));
    }
    let options = ImportOptions {
        reference: flags.repository.clone().filter(|name| !name.is_empty()),
        message: flags.message.clone().unwrap_or_else(|| format!("Imported from {file}")),
        changes: flags.change.clone(),
        platform: flags.platform.clone(),
    };
    let id = if file == "-" {
        session.engine()?.import(std::io::stdin(), &options)?
    } else {
        let archive = std::fs::File::open(file).map_err(|error| Failure::caused(format!("open {file}"), error))?;
        session.engine()?.import(archive, &options)?
    };
    output::line(&id)
}
