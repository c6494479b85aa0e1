//! `logs`

use super::verb;
use crate::failure::Failure;
use crate::session::Session;
use crate::values::instant;
use crate::verb::Verb;
use clap::Args;
use jiff::Timestamp;

/// Fetch the logs of a container
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] CONTAINER", "Fetch the logs of a container");

#[derive(Args)]
struct Flags {
    /// Show the attributes of each line
    #[arg(long)]
    details: bool,
    /// Go on with what is written from now on
    #[arg(short = 'f', long)]
    follow: bool,
    /// Only from that time on (2013-01-02T13:23:37Z, 1136073600, or 42m for 42 minutes ago)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    since: Option<String>,
    /// Number of lines from the end (default all)
    #[arg(short = 'n', long, value_name = "string", allow_hyphen_values = true)]
    tail: Option<String>,
    /// Show the time of each line
    #[arg(short = 't', long)]
    timestamps: bool,
    /// Only up to that time
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    until: Option<String>,
    /// Name or identifier
    container: String,
}

/// The number of lines; `None` is all of them. Docker takes what is no number, or negative, for all.
fn tail(text: Option<&str>) -> Option<usize> {
    text.and_then(|text| text.parse().ok())
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let now = Timestamp::now();
    let time = |text: &Option<String>, name: &str| {
        text.as_deref()
            .map(|text| instant::parse(text, now))
            .transpose()
            .map_err(|error| Failure::new(format!("invalid value for {name:?}: {error}")))
    };
    let (_since, _until) = (time(&flags.since, "since")?, time(&flags.until, "until")?);
    let _ = (tail(flags.tail.as_deref()), flags.details, flags.follow, flags.timestamps);
    let _place = session.engine()?.log_place(&flags.container)?;
    Ok(())
}
