//! `POST /containers/{id}/attach`: the client's connection becomes the container's streams.

use super::life::leave;
use crate::context::{Context, Shared};
use crate::failure::Failure;
use crate::query::Query;
use crate::reply::Reply;
use crate::runs::{End, Joined, Ticket};
use crate::streams::{self, Client, Ended, Joining};
use engine::{Container, Status, Streams};
use jiff::Timestamp;
use monitor::client::Connection;
use monitor::logs::{Options, Reader};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What was asked.
#[derive(Clone, Copy, Debug)]
struct Asked {
    streams: Streams,
    /// What was said before.
    logs: bool,
    /// What is said from now on.
    stream: bool,
    /// Pieces with headers.
    multiplexed: bool,
    /// When it was asked: what a run that begins later says is newer, and what others said is older.
    came: Timestamp,
}

/// `POST /containers/{id}/attach`
pub async fn attach(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let name = wanted.to_owned();
    let container = context.workers().quick(move |engine| engine.inspect(&name)).await?;
    if container.status == Status::Paused {
        return Err(Failure::conflict(format!("container {wanted} is paused, unpause the container before attach")));
    }
    let asked = asked(&context.query, &container, false);
    let terminal = container.settings.terminal;
    let keys = super::detach_keys(context.query.text("detachKeys"))?;
    let joining = Joining {
        streams: asked.streams,
        multiplexed: asked.multiplexed,
        keys: (terminal && asked.streams.stdin).then_some(keys),
    };
    let source = source(&context.shared, &container, asked).await?;
    let media_type = streams::media_type(terminal, context.version);
    if !context.headers.contains_key(hyper::header::UPGRADE) {
        let (mut client, reply) = Client::within(media_type, context.body)?;
        let shared = context.shared;
        tokio::spawn(async move {
            serve(&shared, &container, source, &mut client, joining, asked).await;
            client.close().await;
        });
        return Ok(reply);
    }
    let (shared, upgrade) = (context.shared, context.upgrade);
    tokio::spawn(async move {
        if let Ok(mut client) = Client::take(upgrade).await {
            serve(&shared, &container, source, &mut client, joining, asked).await;
            client.close().await;
        }
    });
    Ok(streams::upgraded(media_type))
}

/// `GET /containers/{id}/attach/ws`: the same in the frames of a websocket, both streams as one.
pub async fn attach_web(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let accept = crate::websocket::accept(&context.headers)?;
    let name = wanted.to_owned();
    let container = context.workers().quick(move |engine| engine.inspect(&name)).await?;
    if container.status == Status::Paused {
        return Err(Failure::conflict(format!("container {wanted} is paused, unpause the container before attach")));
    }
    let mut asked = asked(&context.query, &container, true);
    if context.version < crate::version::Version(42) {
        // Before 1.42 a websocket had all streams, whatever was asked.
        asked.streams = Streams { stdin: container.settings.open_stdin, ..Streams::ALL };
    }
    let keys = super::detach_keys(context.query.text("detachKeys"))?;
    let keys = (container.settings.terminal && asked.streams.stdin).then_some(keys);
    let joining = Joining { streams: asked.streams, multiplexed: asked.multiplexed, keys };
    let source = source(&context.shared, &container, asked).await?;
    let (shared, upgrade) = (context.shared, context.upgrade);
    // Before 1.28 frames were text.
    let binary = context.version >= crate::version::Version(28);
    tokio::spawn(async move {
        if let Ok(mut client) = Client::take_web(upgrade, binary).await {
            serve(&shared, &container, source, &mut client, joining, asked).await;
            client.close().await;
        }
    });
    streams::upgraded_web(&accept)
}

fn asked(query: &Query, container: &Container, web: bool) -> Asked {
    Asked {
        came: Timestamp::now(),
        multiplexed: !container.settings.terminal && !web,
        streams: Streams {
            stdin: query.switch("stdin") && container.settings.open_stdin,
            stdout: query.switch("stdout"),
            stderr: query.switch("stderr"),
        },
        logs: query.switch("logs"),
        stream: query.switch("stream"),
    }
}

/// Where the streams come from.
enum Source {
    /// It runs.
    Running(Connection),
    /// It does not run; whoever starts it joins us.
    Next(Ticket, oneshot::Receiver<Joined>),
    /// Only what was said before.
    Log,
}

async fn source(shared: &Shared, container: &Container, asked: Asked) -> Result<Source, Failure> {
    if !asked.stream {
        return Ok(Source::Log);
    }
    if container.status == Status::Running {
        let (id, streams) = (container.id.clone(), asked.streams);
        return Ok(Source::Running(shared.workers.quick(move |engine| engine.attach(&id, streams)).await?));
    }
    let (ticket, receiver) = shared.runs.attach(&container.id, asked.streams);
    Ok(Source::Next(ticket, receiver))
}

async fn serve(
    shared: &Arc<Shared>,
    container: &Container,
    source: Source,
    client: &mut Client,
    joining: Joining,
    asked: Asked,
) {
    let id = &container.id;
    let (mut connection, ends, replay) = match source {
        Source::Log => {
            replay_log(shared, container, asked, Span::All, client).await;
            return;
        }
        Source::Running(connection) => (connection, Vec::new(), asked.logs.then_some(None)),
        Source::Next(ticket, receiver) => {
            if asked.logs && !replay_log(shared, container, asked, Span::All, client).await {
                return;
            }
            let joined = tokio::select! {
                joined = next_run(shared, container, ticket, receiver) => joined,
                () = client.gone() => return,
            };
            match joined {
                Some(Joined::First(connection, ends)) => (connection, ends, None),
                Some(Joined::Later) => match attach_now(shared, id, asked.streams).await {
                    // Its run began without us: what it has said since is in the log.
                    Some(connection) => (connection, Vec::new(), Some(Some(asked.came))),
                    None => {
                        // It has ended already; the log has all of it.
                        replay_log(shared, container, asked, Span::Since(asked.came), client).await;
                        return;
                    }
                },
                // It could not be started, or has gone.
                None => return,
            }
        }
    };
    if let Some(since) = replay {
        let span = Span::Until(since, connection.log_position());
        if !replay_log(shared, container, asked, span, client).await {
            return;
        }
    }
    let ended = streams::join(client, &mut connection, joining).await;
    finish(shared, id, ended, connection, ends);
}

/// Waits for the next run, whoever begins it; `None` when there is none.
async fn next_run(
    shared: &Shared,
    container: &Container,
    ticket: Ticket,
    mut receiver: oneshot::Receiver<Joined>,
) -> Option<Joined> {
    loop {
        let is_there = tokio::select! {
            joined = &mut receiver => return joined.ok(),
            is_there = started_by_others(shared, container) => is_there,
        };
        if shared.runs.withdraw(&container.id, ticket) {
            return is_there.then_some(Joined::Later);
        }
        // It was started here, and whoever does that is about to tell: with what is handed over comes the output of a run that may
        // have ended, and of a container that has gone with it.
    }
}

/// Waits until somebody has started the container: somebody else than this server, or somebody here who has not told us yet.
/// False when the container has gone.
async fn started_by_others(shared: &Shared, before: &Container) -> bool {
    for pause in super::wait::pauses() {
        tokio::time::sleep(pause).await;
        let id = before.id.clone();
        match shared.workers.quick(move |engine| engine.inspect(&id)).await {
            Ok(now) if now.run.started_at != before.run.started_at => return true,
            Err(failure) if failure.status == hyper::StatusCode::NOT_FOUND => return false,
            Ok(_) | Err(_) => {}
        }
    }
    false
}

async fn attach_now(shared: &Shared, id: &str, streams: Streams) -> Option<Connection> {
    let id = id.to_owned();
    shared.workers.quick(move |engine| engine.attach(&id, streams)).await.ok()
}

/// Tells those who wait for the end, or leaves it to somebody else to wait for it.
fn finish(shared: &Arc<Shared>, id: &str, ended: Ended, connection: Connection, ends: Vec<oneshot::Sender<End>>) {
    match ended {
        Ended::Exited(exit) => {
            for sender in ends {
                // One that has gone is not told.
                drop(sender.send(End { exit_code: exit.exit_code }));
            }
            shared.runs.ring();
        }
        Ended::Left | Ended::Lost => {
            tokio::spawn(leave(shared.clone(), id.to_owned(), connection, ends));
        }
    }
}

/// A part of a log.
#[derive(Clone, Copy)]
enum Span {
    /// All that there is.
    All,
    /// What was said since.
    Since(Timestamp),
    /// What was said since, up to a place from which on it comes over the connection.
    Until(Option<Timestamp>, Option<monitor::wire::LogPosition>),
}

/// Writes a part of what the log has. False when the client has gone.
async fn replay_log(shared: &Shared, container: &Container, asked: Asked, span: Span, client: &mut Client) -> bool {
    let id = container.id.clone();
    let Ok(place) = shared.workers.quick(move |engine| engine.log_place(&id)).await else { return true };
    let (since, until) = match span {
        Span::All => (None, None),
        Span::Since(since) => (Some(since), None),
        Span::Until(since, until) => (since, until),
    };
    let (stdout, stderr) = (asked.streams.stdout, asked.streams.stderr);
    let options = Options { stdout, stderr, since, ..Options::all(place.path) };
    let Ok(mut reader) = Reader::open(options) else { return true };
    let mut bytes = Vec::new();
    loop {
        let reached = until.is_some_and(|until| reader.has_reached(until));
        let entry = if reached { Ok(None) } else { reader.next_entry() };
        let more = match entry {
            Ok(Some(entry)) => {
                if !asked.multiplexed {
                    bytes.extend_from_slice(entry.text);
                } else {
                    streams::piece(entry.stream, entry.text, &mut bytes);
                }
                true
            }
            Ok(None) | Err(_) => false,
        };
        if bytes.len() > CHUNK || !more {
            if client.write(&bytes).await.is_err() {
                return false;
            }
            bytes.clear();
        }
        if !more {
            return true;
        }
    }
}

/// Bytes that are written at once.
const CHUNK: usize = 32 << 10;
