//! `events`, `system events`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::template::{Template, unescape};
use crate::values::instant;
use crate::verb::Verb;
use clap::Args;
use docker_json::event;
use engine::{EventFilter, EventOptions};
use jiff::Timestamp;

/// Get real time events from the engine
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS]", "Get real time events from the server");

#[derive(Args)]
struct Flags {
    /// Show only some (container=, event=, image=, label=, network=, type=, volume=, …)
    #[arg(short = 'f', long, value_name = "filter")]
    filter: Vec<String>,
    /// json, or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show what happened from that time on
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    since: Option<String>,
    /// Show what happens up to that time, then end
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    until: Option<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let now = Timestamp::now();
    let time = |text: &Option<String>, name: &str| -> Result<Option<i64>, Failure> {
        let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let time = instant::parse(text, now);
        let time = time.map_err(|error| Failure::new(format!("invalid value for {name:?}: {error}")))?;
        Ok(Some(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)))
    };
    let mut filter = EventFilter::default();
    for flag in &flags.filter {
        let (key, value) = flag
            .split_once('=')
            .ok_or_else(|| Failure::new("invalid argument for --filter: bad format of filter (expected name=value)"))?;
        filter.add(&key.trim().to_ascii_lowercase(), value.trim())?;
    }
    let format = flags.format.as_deref().map(str::trim).filter(|format| !format.is_empty());
    let template = match format {
        None | Some("json" | "{{json .}}") => None,
        Some(format) => Some(Template::new(&unescape(format)).map_err(Failure::Template)?),
    };
    let options = EventOptions { since: time(&flags.since, "since")?, until: time(&flags.until, "until")?, filter };
    let mut reader = session.engine()?.events(options)?;
    while let Some(event) = reader.next_event()? {
        let line = match (&template, format) {
            (Some(template), _) => template.render(&event::fields(&event))?,
            (None, Some(_)) => event::value(&event).to_string(),
            (None, None) => event::line(&event),
        };
        output::line(&line)?;
    }
    Ok(())
}
