//! `GET /events`: what happened, and what happens, a line of JSON each. Headers are sent before anything happens.

use crate::access::Peer;
use crate::context::{Context, Shared};
use crate::failure::Failure;
use crate::newer::Lines;
use crate::reply::{self, Reply};
use crate::version::Version;
use bytes::Bytes;
use engine::{Event, EventFilter, EventOptions, EventReader};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::mpsc::Sender;

/// `GET /events`
pub async fn events(context: Context) -> Result<Reply, Failure> {
    let time = |key| -> Result<Option<i64>, Failure> {
        let time = crate::containers::logs::instant(&context.query, key)?;
        Ok(time.map(|time| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)))
    };
    let (since, until) = (time("since")?, time("until")?);
    let filter = filter(context.query.text("filters"))?;
    let options = EventOptions { since, until, filter };
    let reader = context.workers().quick(move |engine| engine.events(options)).await?;
    let accept = context.headers.get(hyper::header::ACCEPT).and_then(|value| value.to_str().ok());
    let form = (Lines::wanted(accept, context.version), context.version);
    let (sender, reply) = reply::stream(form.0.media_type());
    let mut seen = Seen { shared: context.shared, peer: context.peer, own: BTreeMap::new() };
    tokio::spawn(async move {
        tokio::select! {
            () = copy(reader, &sender, until, (&mut seen, form)) => {}
            () = sender.closed() => {}
        }
    });
    Ok(reply)
}

fn filter(text: Option<&str>) -> Result<EventFilter, Failure> {
    let mut filter = EventFilter::default();
    let Some(text) = text else { return Ok(filter) };
    let invalid = || Failure::bad(format!("invalid filters: {text:?} is not a JSON object of lists"));
    let Ok(Value::Object(document)) = serde_json::from_str(text) else { return Err(invalid()) };
    for (key, values) in document {
        let values: Vec<String> = match values {
            Value::Array(list) => list.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect(),
            Value::Object(set) => set.into_iter().map(|(value, _)| value).collect(),
            Value::String(value) => vec![value],
            _ => return Err(invalid()),
        };
        for value in values {
            filter.add(&key, &value)?;
        }
    }
    Ok(filter)
}

/// Bytes that are sent at once.
const CHUNK: usize = 32 << 10;

/// What a client may hear of: a confined one of its own containers and nothing else.
struct Seen {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    /// Containers that were asked about, and whether they are its own.
    own: BTreeMap<String, bool>,
}

/// Containers that are remembered at most.
const REMEMBERED: usize = 4096;

impl Seen {
    async fn may_hear(&mut self, event: &Event) -> bool {
        if !self.peer.is_confined() {
            return true;
        }
        if event.kind != engine::events::Type::Container {
            return false;
        }
        if let Some(own) = self.own.get(&event.actor) {
            return *own;
        }
        // One that is gone already is nobody's.
        let (id, peer) = (event.actor.clone(), self.peer.clone());
        let asked = self.shared.workers.quick(move |engine| Ok(peer.made(&engine.inspect(&id)?))).await;
        let own = asked.unwrap_or(false);
        if self.own.len() >= REMEMBERED {
            self.own.clear();
        }
        self.own.insert(event.actor.clone(), own);
        own
    }
}

async fn copy(
    mut reader: EventReader,
    sender: &Sender<Bytes>,
    until: Option<i64>,
    (seen, form): (&mut Seen, (Lines, Version)),
) {
    let watched = reader.descriptor().and_then(|fd| fd.try_clone_to_owned().ok());
    let watched = watched.and_then(|fd| pipe::Receiver::from_file_unchecked(std::fs::File::from(fd)).ok());
    let mut gathered = Vec::new();
    loop {
        // Asked before reading: what is written in the last moment is read by the reading that follows.
        let over = reader.is_over();
        let more = match reader.try_next() {
            Ok(Some(event)) if !seen.may_hear(&event).await => continue,
            Ok(Some(event)) => {
                let mut document = docker_json::event::value(&event);
                crate::newer::event(&mut document, form.1);
                form.0.write(&document, &mut gathered);
                true
            }
            Ok(None) => false,
            // What cannot be read ends the answer: its status has been sent.
            Err(_) => return,
        };
        if more && gathered.len() < CHUNK {
            continue;
        }
        if !gathered.is_empty() && sender.send(std::mem::take(&mut gathered).into()).await.is_err() {
            return;
        }
        if !more && over {
            return;
        }
        if !more {
            wait(watched.as_ref(), until).await;
        }
    }
}

/// Waits until there may be more, or the last moment that is wanted has come.
async fn wait(watched: Option<&pipe::Receiver>, until: Option<i64>) {
    let left = until.map(|until| {
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        Duration::from_nanos(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
    });
    let more = async {
        let Some(watched) = watched else {
            // The kernel cannot tell.
            tokio::time::sleep(Duration::from_millis(100)).await;
            return;
        };
        // What happened is not read with care: that something did is enough.
        let mut news = [0; 4096];
        while watched.readable().await.is_ok() {
            let mut any = false;
            while watched.try_read(&mut news).is_ok_and(|n| n > 0) {
                any = true;
            }
            if any {
                return;
            }
        }
    };
    match left {
        Some(left) => drop(tokio::time::timeout(left, more).await),
        None => more.await,
    }
}
