//! `GET /containers/{id}/logs`: what a container wrote, from its log, followed as long as it runs.

use crate::context::Context;
use crate::failure::Failure;
use crate::polled;
use crate::query::Query;
use crate::reply::{self, Reply};
use crate::streams;
use bytes::Bytes;
use engine::Settings;
use jiff::Timestamp;
use monitor::Stream;
use monitor::logs::{Next, Options, Reader};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc::Sender;

/// A point in time: seconds since 1970 with a fraction, or RFC 3339. Zero is none.
///
/// # Errors
/// 400 for anything else.
pub fn instant(query: &Query, key: &str) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = query.text(key).filter(|text| *text != "0") else { return Ok(None) };
    let invalid = || Failure::bad(format!("invalid value for {key:?}: failed to parse {text:?} as a point in time"));
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Some(time));
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    let seconds: i64 = seconds.parse().map_err(|_| invalid())?;
    let nanoseconds: i32 = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
    Timestamp::new(seconds, if seconds < 0 { -nanoseconds } else { nanoseconds }).map(Some).map_err(|_| invalid())
}

/// `GET /containers/{id}/logs`
pub async fn logs(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let query = &context.query;
    let (stdout, stderr) = (query.switch("stdout"), query.switch("stderr"));
    if !stdout && !stderr {
        return Err(Failure::bad("Bad parameters: you must choose at least one stream"));
    }
    let follow = query.switch("follow");
    let (since, until) = (instant(query, "since")?, instant(query, "until")?);
    // Docker takes what is no number, or negative, for all.
    let tail = query.text("tail").and_then(|text| text.parse().ok());
    let (name, timestamps, wants_details) = (wanted.to_owned(), query.switch("timestamps"), query.switch("details"));
    let (place, settings) =
        context.workers().quick(move |engine| Ok((engine.log_place(&name)?, engine.inspect(&name)?.settings))).await?;
    let details = if wants_details { attributes(&settings) } else { String::new() };
    let reader = Reader::open(Options {
        path: place.path,
        stdout,
        stderr,
        tail,
        since,
        until,
        follow: follow.then_some(place.run_directory),
    })?;
    let media_type = streams::media_type(place.terminal, context.version);
    let (sender, reply) = reply::stream(media_type);
    let writer = Writer::new(timestamps, details, !place.terminal);
    tokio::spawn(async move {
        tokio::select! {
            () = copy(reader, writer, &sender, until) => {}
            () = sender.closed() => {}
        }
    });
    Ok(reply)
}

/// What `details` puts in front of a line: the log's options `labels` and `env` name what is shown.
fn attributes(settings: &Settings) -> String {
    let wanted = |key: &str| -> Vec<String> {
        let names = settings.log_options.get(key);
        names.map(|names| names.split(',').map(str::to_owned).collect()).unwrap_or_default()
    };
    let (labels, env) = (wanted("labels"), wanted("env"));
    let labels =
        settings.labels.iter().filter(|(key, _)| labels.contains(key)).map(|(key, value)| format!("{key}={value}"));
    let env = settings.env.iter().filter(|pair| pair.split('=').next().is_some_and(|key| env.iter().any(|e| e == key)));
    let mut words: Vec<String> = labels.chain(env.cloned()).collect();
    words.sort();
    format!("{} ", words.join(","))
}

/// Lines as pieces of the answer.
struct Writer {
    timestamps: bool,
    details: String,
    multiplexed: bool,
    gathered: Vec<u8>,
    /// The last piece of each stream ended its line, so the next one gets what stands in front.
    fresh: [bool; 2],
}

/// Bytes that are sent at once.
const CHUNK: usize = 32 << 10;

impl Writer {
    fn new(timestamps: bool, details: String, multiplexed: bool) -> Writer {
        Writer { timestamps, details, multiplexed, gathered: Vec::new(), fresh: [true; 2] }
    }

    fn add(&mut self, stream: Stream, time: &str, text: &[u8]) {
        let mut line = Vec::with_capacity(text.len() + 40);
        let fresh = &mut self.fresh[usize::from(stream == Stream::Stderr)];
        if *fresh {
            if self.timestamps {
                line.extend_from_slice(time.as_bytes());
                line.push(b' ');
            }
            line.extend_from_slice(self.details.as_bytes());
        }
        *fresh = text.ends_with(b"\n");
        line.extend_from_slice(text);
        if self.multiplexed {
            streams::piece(stream, &line, &mut self.gathered);
        } else {
            self.gathered.append(&mut line);
        }
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.gathered).into()
    }
}

async fn copy(mut reader: Reader, mut writer: Writer, sender: &Sender<Bytes>, until: Option<Timestamp>) {
    let watched = Watched::new(&reader);
    loop {
        let pending = match reader.try_next() {
            Ok(Next::Entry(entry)) => {
                writer.add(entry.stream, entry.time, entry.text);
                if writer.gathered.len() < CHUNK {
                    continue;
                }
                false
            }
            Ok(Next::Pending) => true,
            // What cannot be read ends the answer: its status has been sent.
            Ok(Next::End) | Err(_) => {
                if !writer.gathered.is_empty() {
                    // A client that has gone needs nothing more.
                    drop(sender.send(writer.take()).await);
                }
                return;
            }
        };
        if !writer.gathered.is_empty() && sender.send(writer.take()).await.is_err() {
            return;
        }
        if pending {
            wait(watched.as_ref(), until).await;
            if reader.look().is_err() {
                return;
            }
        }
    }
}

/// A log that is followed, in the event loop.
struct Watched {
    /// inotify(7) reads like a pipe.
    log: pipe::Receiver,
    monitor: UnixStream,
}

impl Watched {
    /// `None` when the kernel cannot tell, or the log is not followed.
    fn new(reader: &Reader) -> Option<Watched> {
        let mut descriptors = reader.descriptors();
        let (log, monitor) = (descriptors.next()?, descriptors.next()?);
        let log = std::fs::File::from(log.try_clone_to_owned().ok()?);
        Some(Watched { log: pipe::Receiver::from_file_unchecked(log).ok()?, monitor: polled::watch(monitor).ok()? })
    }

    /// Waits until something was written, or the monitor has gone.
    async fn changed(&self) {
        let written = async {
            // What happened is not read with care: that something did is enough.
            let mut events = [0; 4096];
            while self.log.readable().await.is_ok() {
                let mut any = false;
                while self.log.try_read(&mut events).is_ok_and(|n| n > 0) {
                    any = true;
                }
                if any {
                    return;
                }
            }
        };
        tokio::select! {
            () = written => {}
            _ = self.monitor.readable() => {}
        }
    }
}

/// Waits until there may be more, or the last moment that is wanted has passed.
async fn wait(watched: Option<&Watched>, until: Option<Timestamp>) {
    let left = until.map(|until| Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default());
    let last = async {
        match left {
            Some(left) => tokio::time::sleep(left + Duration::from_millis(1)).await,
            None => std::future::pending().await,
        }
    };
    let more = async {
        match watched {
            Some(watched) => watched.changed().await,
            // The kernel cannot tell.
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    tokio::select! {
        () = last => {}
        () = more => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants() {
        let at = |text: &str| instant(&Query::parse(&format!("since={text}")), "since");
        assert_eq!(at("0").unwrap(), None);
        assert_eq!(at("1136073600.5").unwrap().unwrap().to_string(), "2006-01-01T00:00:00.5Z");
        assert_eq!(at("2006-01-01T00:00:00Z").unwrap().unwrap().as_second(), 1_136_073_600);
        assert!(at("yesterday").is_err());
    }

    #[test]
    fn what_stands_in_front_of_lines() {
        let mut writer = Writer::new(true, "a=1 ".into(), false);
        for text in ["one\n", "two ", "halves\n"] {
            writer.add(Stream::Stdout, "T", text.as_bytes());
        }
        assert_eq!(writer.take(), "T a=1 one\nT a=1 two halves\n");
        let mut writer = Writer::new(false, String::new(), true);
        writer.add(Stream::Stderr, "T", b"x\n");
        assert_eq!(&writer.take()[..], b"\x02\0\0\0\0\0\0\x02x\n");
    }
}
