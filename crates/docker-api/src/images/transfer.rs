//! Images that come and go: pulling and loading, with Docker's progress objects.

use crate::context::Context;
use crate::failure::{Failure, sentence};
use crate::reply::{self, Reply};
use bytes::Bytes;
use engine::{Engine, PullEvent, PullProgress, Quiet};
use http_body_util::BodyExt;
use hyper::StatusCode;
use serde_json::{Value, json};
use std::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

/// `POST /images/create`
pub async fn create(context: Context) -> Result<Reply, Failure> {
    if let Some(source) = context.query.text("fromSrc") {
        return Err(Failure::unsupported(&format!("importing a file system (fromSrc={source})")));
    }
    let name = context.query.text("fromImage").unwrap_or_default();
    if name.is_empty() {
        return Err(Failure::bad("invalid reference format: fromImage is empty"));
    }
    let reference = match context.query.text("tag") {
        Some(digest) if digest.contains(':') => format!("{name}@{digest}"),
        Some(tag) => format!("{name}:{tag}"),
        None => name.to_owned(),
    };
    oci::reference::Reference::parse(&reference)
        .map_err(|_| Failure::bad(format!("invalid reference format: {reference:?}")))?;
    let platform = context.query.text("platform").map(str::to_owned);
    stream(&context, move |engine, lines| {
        let mut progress = Lines { lines };
        let pulled = engine.pull(&reference, platform.as_deref(), &mut progress)?;
        progress.say(json!({ "status": format!("Digest: {}", pulled.digest) }));
        let what = if pulled.fresh { "Downloaded newer image" } else { "Image is up to date" };
        progress.say(json!({ "status": format!("Status: {what} for {}", pulled.reference) }));
        Ok(())
    })
    .await
}

/// Runs something long that tells how it goes. A failure before the first word is the answer's status; one after it is the
/// last object, as the status has been sent.
async fn stream(
    context: &Context,
    work: impl FnOnce(&Engine, mpsc::Sender<Bytes>) -> Result<(), engine::Error> + Send + 'static,
) -> Result<Reply, Failure> {
    let (lines, mut said) = mpsc::channel::<Bytes>(16);
    let (failed, mut failure) = oneshot::channel();
    let workers = context.workers().clone();
    tokio::spawn(async move {
        let result = workers.patient(move |engine| work(engine, lines)).await;
        if let Err(error) = result {
            // Whoever asked has gone otherwise.
            drop(failed.send(error));
        }
    });
    let Some(first) = said.recv().await else {
        return match failure.await {
            Ok(failure) => Err(failure),
            Err(_) => Ok(reply::empty(StatusCode::OK)),
        };
    };
    let (sender, reply) = reply::stream("application/json");
    tokio::spawn(async move {
        let mut next = Some(first);
        while let Some(line) = next {
            if sender.send(line).await.is_err() {
                return;
            }
            next = said.recv().await;
        }
        if let Ok(failure) = (&mut failure).await {
            let message = &failure.message;
            let line = json!({ "errorDetail": { "message": message }, "error": message });
            drop(sender.send(format!("{line}\r\n").into()).await);
        }
    });
    Ok(reply)
}

/// Progress as a line of JSON for each step.
struct Lines {
    lines: mpsc::Sender<Bytes>,
}

impl Lines {
    fn say(&mut self, object: Value) {
        // A client that has gone does not stop a pull that others may wait for.
        drop(self.lines.blocking_send(format!("{object}\r\n").into()));
    }
}

impl PullProgress for Lines {
    fn missing(&mut self, _reference: &str) {}

    fn resolved(&mut self, repository: &str, tag: &str) {
        let name =
            repository.split_once('/').map_or_else(|| format!("library/{repository}"), |_| repository.to_owned());
        self.say(json!({ "status": format!("Pulling from {name}"), "id": tag }));
    }

    fn event(&mut self, layer: &str, event: PullEvent) {
        self.say(match event {
            PullEvent::Waiting => json!({ "status": "Pulling fs layer", "progressDetail": {}, "id": layer }),
            PullEvent::Exists => json!({ "status": "Already exists", "progressDetail": {}, "id": layer }),
            PullEvent::Progress { done, total } => json!({
                "status": "Downloading",
                "progressDetail": { "current": done, "total": total },
                "progress": bar(done, total),
                "id": layer,
            }),
            PullEvent::Complete => json!({ "status": "Pull complete", "progressDetail": {}, "id": layer }),
        });
    }
}

/// `[====>      ]  1.2MB/3.4MB`, fifty wide.
fn bar(done: u64, total: u64) -> String {
    let filled = usize::try_from((done.min(total) * 50).checked_div(total).unwrap_or(0)).unwrap_or(0);
    let arrow = if filled < 50 { ">" } else { "" };
    let empty = 50 - filled - arrow.len();
    format!("[{}{arrow}{}] {:>8}/{}", "=".repeat(filled), " ".repeat(empty), size(done), size(total))
}

/// Docker's sizes: four digits at most, powers of a thousand.
fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for larger in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    let digits = if unit == "B" || value >= 1000.0 {
        0
    } else if value >= 100.0 {
        1
    } else if value >= 10.0 {
        2
    } else {
        3
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// `POST /images/load`
pub async fn load(mut context: Context) -> Result<Reply, Failure> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| Failure::internal(format!("pipe2(O_CLOEXEC): {error}")))?;
    rustix::io::ioctl_fionbio(&writer, true).map_err(|error| Failure::internal(format!("ioctl(FIONBIO): {error}")))?;
    let mut writer = tokio::net::unix::pipe::Sender::from_owned_fd(writer)?;
    let workers = context.workers().clone();
    let work = tokio::spawn(async move {
        workers.patient(move |engine| engine.load(File::from(reader), "the archive", &mut Quiet)).await
    });
    // What cannot be read, or is no longer wanted, is an archive that ends too soon.
    while let Some(Ok(frame)) = context.body.frame().await {
        if let Ok(data) = frame.into_data()
            && writer.write_all(&data).await.is_err()
        {
            break;
        }
    }
    drop(writer);
    let loaded = work.await.map_err(|error| Failure::internal(sentence(&error)))??;
    let mut text = String::new();
    for image in &loaded {
        let line = if image.names.is_empty() {
            json!({ "stream": format!("Loaded image ID: {}\n", image.id) }).to_string()
        } else {
            let names =
                image.names.iter().map(|name| json!({ "stream": format!("Loaded image: {name}\n") }).to_string());
            names.collect::<Vec<_>>().join("\r\n")
        };
        text.push_str(&line);
        text.push_str("\r\n");
    }
    Ok(reply::text(StatusCode::OK, "application/json", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        assert_eq!(bar(0, 1000), format!("[>{}]       0B/1kB", " ".repeat(49)));
        assert_eq!(bar(1500, 1500), format!("[{}]    1.5kB/1.5kB", "=".repeat(50)));
        assert_eq!(bar(1, 0), format!("[>{}]       1B/0B", " ".repeat(49)));
        assert_eq!(size(123_456_789), "123.5MB");
    }
}
