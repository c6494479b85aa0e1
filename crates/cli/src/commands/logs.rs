//! `logs`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::values::instant;
use crate::verb::Verb;
use clap::Args;
use engine::Settings;
use jiff::Timestamp;
use monitor::log_file::Stream;
use monitor::logs::{Entry, Next, Options, Reader};
use std::io::Write as _;

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
fn tail(text: Option<&str>) -> Option<u64> {
    text.and_then(|text| text.parse().ok())
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let now = Timestamp::now();
    let time = |text: &Option<String>, name: &str| {
        let parsed = text.as_deref().filter(|text| !matches!(*text, "" | "0")).map(|text| instant::parse(text, now));
        parsed.transpose().map_err(|error| Failure::new(format!("invalid value for {name:?}: {error}")))
    };
    let (since, until) = (time(&flags.since, "since")?, time(&flags.until, "until")?);
    let engine = session.engine()?;
    let place = engine.log_place(&flags.container)?;
    let details = if flags.details { attributes(&engine.inspect(&flags.container)?.settings) } else { String::new() };
    let unreadable = |error| Failure::caused(format!("the log of {} cannot be read", flags.container), error);
    let mut reader = Reader::open(Options {
        path: place.path,
        stdout: true,
        stderr: true,
        tail: tail(flags.tail.as_deref()),
        since,
        until,
        follow: flags.follow.then_some(place.run_directory),
    })
    .map_err(unreadable)?;
    let mut printer = Printer::new(flags.timestamps, details);
    loop {
        match reader.try_next().map_err(unreadable)? {
            Next::Entry(entry) => printer.entry(&entry)?,
            Next::Pending => {
                printer.flush()?;
                reader.wait().map_err(unreadable)?;
            }
            Next::End => return printer.flush(),
        }
    }
}

/// What `--details` puts in front of a line: the log's options `labels` and `env` name what is shown, as in Docker.
fn attributes(settings: &Settings) -> String {
    let wanted = |key: &str| settings.log_options.get(key).map(|names| names.split(',').map(str::to_owned).collect());
    let labels: Vec<String> = wanted("labels").unwrap_or_default();
    let env: Vec<String> = wanted("env").unwrap_or_default();
    let labels =
        settings.labels.iter().filter(|(key, _)| labels.contains(key)).map(|(key, value)| format!("{key}={value}"));
    let env = settings.env.iter().filter(|pair| pair.split('=').next().is_some_and(|key| env.iter().any(|e| e == key)));
    let mut words: Vec<String> = labels.chain(env.cloned()).collect();
    words.sort();
    format!("{} ", words.join(","))
}

/// Writes lines to the stream they came from, many at a time while there are many.
struct Printer {
    timestamps: bool,
    details: String,
    pending: Vec<u8>,
    stream: Stream,
    /// The last piece ended its line, so the next one gets what stands in front.
    fresh: bool,
}

/// Bytes that are written at once.
const CHUNK: usize = 64 << 10;

impl Printer {
    fn new(timestamps: bool, details: String) -> Printer {
        Printer { timestamps, details, pending: Vec::new(), stream: Stream::Stdout, fresh: true }
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), Failure> {
        if entry.stream != self.stream || self.pending.len() >= CHUNK {
            self.flush()?;
            self.stream = entry.stream;
        }
        if self.fresh && self.timestamps {
            self.pending.extend_from_slice(entry.time.as_bytes());
            self.pending.push(b' ');
        }
        if self.fresh {
            self.pending.extend_from_slice(self.details.as_bytes());
        }
        self.pending.extend_from_slice(entry.text);
        self.fresh = entry.text.ends_with(b"\n");
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let done = match self.stream {
            Stream::Stdout => output::bytes(&self.pending),
            Stream::Stderr => std::io::stderr().lock().write_all(&self.pending).map_err(Failure::Output),
        };
        self.pending.clear();
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_stand_at_the_beginning_of_lines() {
        let mut printer = Printer::new(true, "a=1 ".into());
        for text in ["one\n", "two ", "halves\n"] {
            printer.entry(&Entry { stream: Stream::Stdout, time: "T", text: text.as_bytes() }).unwrap();
        }
        assert_eq!(String::from_utf8_lossy(&printer.pending), "T a=1 one\nT a=1 two halves\n");
    }

    #[test]
    fn attributes_and_tails() {
        let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut settings = Settings {
            labels: pairs(&[("app", "web"), ("x", "y")]),
            env: vec!["MODE=test".into(), "PATH=/bin".into()],
            ..Settings::default()
        };
        assert_eq!(attributes(&settings), " ");
        settings.log_options = pairs(&[("labels", "app"), ("env", "MODE")]);
        assert_eq!(attributes(&settings), "MODE=test,app=web ");
        assert_eq!((tail(Some("10")), tail(Some("all")), tail(Some("-1")), tail(None)), (Some(10), None, None, None));
    }
}
