//! Starting, stopping, killing, freezing, renaming, removing.

use crate::access::Tier;
use crate::context::{Context, Shared};
use crate::failure::Failure;
use crate::filters::Filters;
use crate::polled;
use crate::reply::{self, Reply};
use crate::runs::{End, Joined};
use engine::{Kind, PruneFilter, Status, Streams, Waiting};
use hyper::StatusCode;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// `POST /containers/{id}/start`
pub async fn start(mut context: Context, wanted: &str) -> Result<Reply, Failure> {
    if let Some(keys) = context.query.text("detachKeys") {
        super::detach_keys(Some(keys))?;
    }
    // Before 1.24 a start could change the configuration; whoever still tries is told.
    let content = context.content().await?;
    if !matches!(content.trim_ascii(), b"" | b"{}" | b"null") {
        return Err(Failure::bad("starting container with non-empty request body was removed in API version 1.24"));
    }
    let from = context.query.text("checkpoint").map(|name| Continued {
        name: name.to_owned(),
        directory: context.query.text("checkpoint-dir").map(Into::into),
    });
    if from.is_some() && context.peer.tier != Tier::Full {
        return Err(context.peer.denied("to continue from a checkpoint is not allowed"));
    }
    start_joined(&context.shared, wanted, from).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// A checkpoint to continue from.
struct Continued {
    name: String,
    directory: Option<std::path::PathBuf>,
}

/// Starts a container and joins those who wait for it to the monitor.
async fn start_joined(shared: &Arc<Shared>, wanted: &str, from: Option<Continued>) -> Result<(), Failure> {
    let name = wanted.to_owned();
    let container = shared.workers.quick(move |engine| engine.inspect(&name)).await?;
    let id = container.id;
    if container.status == Status::Paused {
        return Err(Failure::conflict("cannot start a paused container, try unpause instead"));
    }
    let mut waiting = shared.runs.take(&id);
    let first = waiting.attached.first().map(|attached| attached.streams);
    // Without streams the control connection still tells the end.
    let streams = first.or_else(|| (!waiting.ends.is_empty()).then(Streams::default));
    let own = id.clone();
    let start = move |engine: &engine::Engine| {
        Ok(match from {
            Some(from) => engine.start_from(&own, &from.name, from.directory.as_deref(), streams),
            None => engine.start(&own, streams),
        })
    };
    let started = shared.workers.quick(start).await?;
    match started {
        Ok(started) => {
            if let Some(connection) = started.stream {
                let ends = std::mem::take(&mut waiting.ends);
                if waiting.attached.is_empty() {
                    tokio::spawn(watch(shared.clone(), id.clone(), connection, ends));
                } else {
                    let first = waiting.attached.remove(0);
                    if let Err(Joined::First(connection, ends)) = first.sender.send(Joined::First(connection, ends)) {
                        tokio::spawn(watch(shared.clone(), id.clone(), connection, ends));
                    }
                }
            }
            for later in waiting.attached {
                // One that has gone is not joined.
                drop(later.sender.send(Joined::Later));
            }
            late_comers(shared, &id);
            Ok(())
        }
        Err(error) if matches!(error.kind(), Kind::NotModified | Kind::Conflict) => {
            shared.runs.put_back(&id, waiting);
            Err(error.into())
        }
        Err(error) => {
            let exit_code = match error.kind() {
                Kind::CommandNotFound => 127,
                Kind::CommandNotExecutable => 126,
                _ => 128,
            };
            // Those who are attached see their connection end; those who wait are told if there will be no next run.
            if container.settings.auto_remove {
                tell(waiting.ends, exit_code);
                shared.runs.ring();
            } else {
                shared.runs.put_back(&id, crate::runs::Waiting { attached: Vec::new(), ends: waiting.ends });
            }
            Err(error.into())
        }
    }
}

fn tell(ends: Vec<oneshot::Sender<End>>, exit_code: i32) {
    for sender in ends {
        // One that has gone is not told.
        drop(sender.send(End { exit_code }));
    }
}

/// Those who began to wait while the start was on its way.
fn late_comers(shared: &Arc<Shared>, id: &str) {
    let late = shared.runs.take(id);
    for late in late.attached {
        drop(late.sender.send(Joined::Later));
    }
    if !late.ends.is_empty() {
        tokio::spawn(wait_and_tell(shared.clone(), id.to_owned(), late.ends));
    }
}

/// Reads a control connection for nothing but the end of the run.
async fn watch(
    shared: Arc<Shared>,
    id: String,
    mut connection: monitor::client::Connection,
    ends: Vec<oneshot::Sender<End>>,
) {
    match crate::streams::drain(&mut connection).await {
        Some(exit) => {
            tell(ends, exit.exit_code);
            shared.runs.ring();
        }
        None => wait_and_tell(shared, id, ends).await,
    }
}

/// Waits for the end of a run and tells it to those who want to hear it.
async fn wait_and_tell(shared: Arc<Shared>, id: String, ends: Vec<oneshot::Sender<End>>) {
    if ends.is_empty() {
        return;
    }
    let exit_code = end_of(&shared, &id).await.unwrap_or(255);
    tell(ends, exit_code);
    shared.runs.ring();
}

/// A client has left the control connection of a run; those who wait for its end still hear of it.
pub async fn leave(
    shared: Arc<Shared>,
    id: String,
    connection: monitor::client::Connection,
    ends: Vec<oneshot::Sender<End>>,
) {
    if ends.is_empty() {
        return;
    }
    let name = id.clone();
    let waiting = shared.workers.quick(move |engine| engine.begin_wait(&name)).await;
    // Now somebody else listens. Kept any longer, its output would fill the connection and stop the process.
    drop(connection);
    match waiting {
        Ok(waiting) => tell(ends, end_of_wait(&shared, &id, waiting).await.unwrap_or(255)),
        Err(_) => tell(ends, 255),
    }
    shared.runs.ring();
}

/// The exit code of the present or last run.
///
/// # Errors
/// 404 when the container is gone.
pub async fn end_of(shared: &Shared, id: &str) -> Result<i32, Failure> {
    let name = id.to_owned();
    let waiting = shared.workers.quick(move |engine| engine.begin_wait(&name)).await?;
    end_of_wait(shared, id, waiting).await
}

async fn end_of_wait(shared: &Shared, id: &str, waiting: Waiting) -> Result<i32, Failure> {
    match waiting {
        Waiting::Ended(container) => Ok(container.run.exit_code),
        Waiting::Running(pending) => match polled::exit(pending).await {
            Ok(exit) => Ok(exit.exit_code),
            Err(_) => {
                let name = id.to_owned();
                Ok(shared.workers.quick(move |engine| engine.inspect(&name)).await?.run.exit_code)
            }
        },
    }
}

/// `t`, the seconds before SIGKILL.
fn timeout(context: &Context) -> Result<Option<i64>, Failure> {
    context.query.number("t")
}

/// `POST /containers/{id}/stop`
pub async fn stop(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let (name, timeout) = (wanted.to_owned(), timeout(&context)?);
    let signal = context.query.text("signal").map(str::to_owned);
    let stopped = context.workers().patient(move |engine| engine.stop(&name, signal.as_deref(), timeout)).await?;
    context.shared.runs.ring();
    Ok(reply::empty(if stopped { StatusCode::NO_CONTENT } else { StatusCode::NOT_MODIFIED }))
}

/// `POST /containers/{id}/restart`
pub async fn restart(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let (name, timeout) = (wanted.to_owned(), timeout(&context)?);
    let signal = context.query.text("signal").map(str::to_owned);
    context.workers().patient(move |engine| engine.restart(&name, signal.as_deref(), timeout)).await?;
    // Those who wait for the next run look again.
    context.shared.runs.ring();
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// How long the end of what was killed is waited for.
const DYING: Duration = Duration::from_secs(10);

/// `POST /containers/{id}/kill`
pub async fn kill(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let name = wanted.to_owned();
    let signal = context.query.text("signal").unwrap_or("KILL").to_owned();
    let deadly = matches!(signal.to_ascii_uppercase().trim_start_matches("SIG"), "KILL" | "9");
    let work = context.workers().quick(move |engine| {
        let id = engine.inspect(&name)?.id;
        engine.kill(&id, &signal)?;
        Ok(id)
    });
    let id = work.await?;
    if deadly {
        // As with Docker, whoever asks afterwards finds it ended. One that is removed by then has ended, too.
        drop(tokio::time::timeout(DYING, end_of(&context.shared, &id)).await);
    }
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/pause`
pub async fn pause(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let name = wanted.to_owned();
    context.workers().quick(move |engine| engine.pause(&name)).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/unpause`
pub async fn unpause(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let name = wanted.to_owned();
    context.workers().quick(move |engine| engine.unpause(&name)).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/rename`
pub async fn rename(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let name = wanted.to_owned();
    let new = context.query.text("name").unwrap_or_default().trim_start_matches('/').to_owned();
    if new.is_empty() {
        return Err(Failure::bad("Neither old nor new names may be empty"));
    }
    context.workers().quick(move |engine| engine.rename(&name, &new)).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/resize`
pub async fn resize(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let name = wanted.to_owned();
    let (rows, columns) = super::size(&context.query)?;
    context.workers().quick(move |engine| engine.resize(&name, None, rows, columns)).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `DELETE /containers/{id}`
pub async fn remove(context: Context, wanted: &str) -> Result<Reply, Failure> {
    if context.query.switch("link") {
        return Err(Failure::conflict("Conflict, cannot remove the default link name of the container"));
    }
    let (name, force, volumes) = (wanted.to_owned(), context.query.switch("force"), context.query.switch("v"));
    let id = context
        .workers()
        .patient(move |engine| {
            let id = engine.inspect(&name)?.id;
            engine.remove(&id, force, volumes)?;
            Ok(id)
        })
        .await?;
    gone(&context.shared, &id);
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `DELETE /containers/{id}/{name}?link=1`: the name by which a container knows another, and neither of the two.
pub async fn unlink(context: Context, wanted: &str, name: &str) -> Result<Reply, Failure> {
    if !context.query.switch("link") {
        return Err(Failure::missing(format!("No such container: {wanted}/{name}")));
    }
    let (wanted, name) = (wanted.to_owned(), name.to_owned());
    context.workers().quick(move |engine| engine.unlink(&wanted, &name)).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// Tells those whom the removal of a container concerns.
fn gone(shared: &Shared, id: &str) {
    shared.execs.forget(id);
    shared.runs.ring();
}

/// `POST /containers/prune`
pub async fn prune(context: Context) -> Result<Reply, Failure> {
    let filters = Filters::parse(context.query.text("filters"), &["label", "label!", "until"])?;
    let filter = PruneFilter {
        until: super::list::until(&filters)?,
        labels: filters.pairs("label"),
        without_labels: filters.pairs("label!"),
    };
    let pruned = context.workers().patient(move |engine| engine.prune_containers(&filter)).await?;
    pruned.ids.iter().for_each(|id| gone(&context.shared, id));
    reply::ok(&json!({ "ContainersDeleted": pruned.ids, "SpaceReclaimed": pruned.bytes }))
}
