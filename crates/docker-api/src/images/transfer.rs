//! Images that come and go: pull, push, load, save, with Docker's progress objects.

use super::platforms;
use crate::containers::became::{instructions, named};
use crate::context::Context;
use crate::failure::Failure;
use crate::piped;
use crate::reply::{self, Reply};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use engine::registries::Account;
use engine::{
    Engine, ImportOptions, PullEvent, PullProgress, PushEvent, PushOptions, PushProgress, Quiet, SaveOptions,
};
use hyper::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

/// `POST /images/create`
pub async fn create(context: Context) -> Result<Reply, Failure> {
    if let Some(source) = context.query.text("fromSrc") {
        if source != "-" {
            return Err(Failure::unsupported(&format!(
                "fetching an archive (fromSrc={source}): send it, with fromSrc=-"
            )));
        }
        if context.peer.is_confined() {
            return Err(context.peer.denied("names of images are shared: importing is not allowed"));
        }
        return import(context).await;
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
    let platform = platforms::one(&context.query, "platform")?.map(|platform| platform.to_string());
    let account = account(&context.headers, &reference)?;
    stream(&context, move |engine, lines| {
        engine.use_registry_account(account);
        let mut progress = Lines { lines };
        let pulled = engine.pull(&reference, platform.as_deref(), &mut progress)?;
        progress.say(json!({ "status": format!("Digest: {}", pulled.digest) }));
        let what = if pulled.fresh { "Downloaded newer image" } else { "Image is up to date" };
        progress.say(json!({ "status": format!("Status: {what} for {}", pulled.reference) }));
        Ok(())
    })
    .await
}

/// `POST /images/create?fromSrc=-`
async fn import(context: Context) -> Result<Reply, Failure> {
    let query = &context.query;
    if platforms::one(query, "platform")?.is_some_and(|platform| platform.os != "linux") {
        return Err(Failure::bad("operating system is not supported"));
    }
    let text = |key: &str| query.text(key).map(str::to_owned);
    let options = ImportOptions {
        reference: named(text("repo"), text("tag")),
        message: text("message").unwrap_or_default(),
        changes: instructions(query.all("changes")),
        platform: text("platform"),
    };
    let (source, feed) = piped::in_from(context.body)?;
    let workers = context.shared.workers.clone();
    let work = workers.patient(move |engine| engine.import(source, &options));
    let (id, ()) = tokio::join!(work, feed);
    Ok(reply::text(StatusCode::OK, "application/json", format!("{}\r\n", json!({ "status": id? }))))
}

/// A failure as the last object of a stream.
fn last_object(failure: &Failure) -> String {
    let message = &failure.message;
    format!("{}\r\n", json!({ "errorDetail": { "message": message }, "error": message }))
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
            drop(sender.send(last_object(&failure).into()).await);
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
        // Whether the client has gone is asked for when the next piece comes.
        drop(self.lines.blocking_send(format!("{object}\r\n").into()));
    }
}

impl PullProgress for Lines {
    fn missing(&mut self, _reference: &str) {}

    fn is_wanted(&self) -> bool {
        !self.lines.is_closed()
    }

    fn resolved(&mut self, repository: &str, tag: &str) {
        // Without the registry, whichever it is.
        let reference = oci::reference::Reference::parse(repository);
        let name = reference.map_or_else(|_| repository.to_owned(), |reference| reference.path().to_owned());
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
pub async fn load(context: Context) -> Result<Reply, Failure> {
    let platform = platforms::one(&context.query, "platform")?;
    let (source, feed) = piped::in_from(context.body)?;
    let workers = context.shared.workers.clone();
    let work = workers.patient(move |engine| match platform {
        Some(platform) => engine.load_for(source, "the archive", &platform, &mut Quiet),
        None => engine.load(source, "the archive", &mut Quiet),
    });
    let (loaded, ()) = tokio::join!(work, feed);
    let loaded = match loaded {
        Ok(loaded) => loaded,
        // Docker has sent its status by then, whatever is wrong with the archive, and clients look for the failure in the content.
        Err(failure) => return Ok(reply::text(StatusCode::OK, "application/json", last_object(&failure))),
    };
    let mut text = String::new();
    for image in &loaded {
        let mut say = |line: String| text.push_str(&format!("{}\r\n", json!({ "stream": line })));
        if image.names.is_empty() {
            say(format!("Loaded image ID: {}\n", image.id));
        }
        image.names.iter().for_each(|name| say(format!("Loaded image: {name}\n")));
    }
    Ok(reply::text(StatusCode::OK, "application/json", text))
}

/// `GET /images/{name}/get` and, with `names`, `GET /images/get`
pub async fn save(context: Context, mut names: Vec<String>) -> Result<Reply, Failure> {
    names.extend(context.query.all("names").flat_map(|names| names.split(',')).map(str::to_owned));
    names.retain(|name| !name.is_empty());
    if names.is_empty() {
        return Err(Failure::bad("no image was named"));
    }
    // Asked for before the status is sent; what fails later ends the archive too soon.
    let wanted = names.clone();
    let platforms = platforms::asked(&context.query, "platform")?;
    if platforms.len() > 1 {
        return Err(Failure::bad("multiple platform parameters not supported"));
    }
    let checked = context.workers().translate(move |engine| {
        engine.check_save(&wanted)?;
        let named = |name: &String| platforms::check(&engine.image(name)?, name, &platforms);
        if platforms.is_empty() { Ok(()) } else { wanted.iter().try_for_each(named) }
    });
    checked.await?;
    let (mut sink, content) = piped::out()?;
    let workers = context.workers().clone();
    let options = SaveOptions::default();
    tokio::spawn(async move {
        drop(workers.patient(move |engine| engine.save(&names, &options, &mut sink)).await);
    });
    Ok(piped::reply("application/x-tar", content))
}

/// `POST /images/{name}/push`
pub async fn push(context: Context, name: &str) -> Result<Reply, Failure> {
    let tag = context.query.text("tag");
    let wanted = tag.map_or_else(|| name.to_owned(), |tag| format!("{name}:{tag}"));
    let account = account(&context.headers, &wanted)?;
    let platform = platforms::one(&context.query, "platform")?.map(|platform| platform.to_string());
    let options = PushOptions { all_tags: tag.is_none(), platform };
    stream(&context, move |engine, lines| {
        engine.use_registry_account(account);
        engine.push(&wanted, &options, &mut Lines { lines }).map(drop)
    })
    .await
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sent {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// The account in `X-Registry-Auth`, for the registry that the image is in and no other.
pub fn account(headers: &HeaderMap, reference: &str) -> Result<Option<Account>, Failure> {
    let Some(text) = headers.get("x-registry-auth") else { return Ok(None) };
    let invalid = || Failure::bad("invalid X-Registry-Auth header: it is not base64 of a JSON object");
    let text = text.to_str().map_err(|_| invalid())?.trim_end_matches('=');
    if text.is_empty() {
        return Ok(None);
    }
    // Docker's clients differ in which of the two alphabets they use.
    let bytes = URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).map_err(|_| invalid())?;
    let sent: Option<Sent> = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let sent = sent.unwrap_or_default();
    let (mut username, mut password) = (sent.username.unwrap_or_default(), sent.password.unwrap_or_default());
    if let (true, Some(auth)) = (username.is_empty(), sent.auth.filter(|auth| !auth.is_empty())) {
        let bytes = STANDARD_NO_PAD.decode(auth.trim_end_matches('=')).map_err(|_| invalid())?;
        let text = String::from_utf8(bytes).map_err(|_| invalid())?;
        let (user, secret) = text.split_once(':').ok_or_else(invalid)?;
        (username, password) = (user.to_owned(), secret.to_owned());
    }
    let identity_token = sent.identitytoken.unwrap_or_default();
    let registry_token = sent.registrytoken.unwrap_or_default();
    if username.is_empty() && identity_token.is_empty() && registry_token.is_empty() {
        return Ok(None);
    }
    let reference = oci::reference::Reference::parse(reference)
        .map_err(|_| Failure::bad(format!("invalid reference format: {reference:?}")))?;
    Ok(Some(Account { domain: reference.domain().to_owned(), username, password, identity_token, registry_token }))
}

impl PushProgress for Lines {
    fn begins(&mut self, repository: &str) {
        self.say(json!({ "status": format!("The push refers to repository [{repository}]") }));
    }

    fn pushing(&mut self, layer: &str, event: PushEvent) {
        self.say(match event {
            PushEvent::Waiting => json!({ "status": "Preparing", "progressDetail": {}, "id": layer }),
            PushEvent::Exists => json!({ "status": "Layer already exists", "progressDetail": {}, "id": layer }),
            PushEvent::Mounted(from) => {
                json!({ "status": format!("Mounted from {from}"), "progressDetail": {}, "id": layer })
            }
            PushEvent::Progress { done, total } => json!({
                "status": "Pushing",
                "progressDetail": { "current": done, "total": total },
                "progress": bar(done, total),
                "id": layer,
            }),
            PushEvent::Complete => json!({ "status": "Pushed", "progressDetail": {}, "id": layer }),
        });
    }

    fn pushed(&mut self, tag: &str, digest: &str, size: u64) {
        self.say(json!({ "status": format!("{tag}: digest: {digest} size: {size}") }));
        self.say(json!({ "progressDetail": {}, "aux": { "Tag": tag, "Digest": digest, "Size": size } }));
    }
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
