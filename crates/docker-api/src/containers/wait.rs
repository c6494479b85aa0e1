//! `POST /containers/{id}/wait`: headers at once, the document when it is over.
//!
//! `docker run` waits before it starts; whoever answers only when there is something to say keeps it from starting.

use super::life::end_of;
use crate::context::{Context, Shared};
use crate::failure::Failure;
use crate::polled;
use crate::reply::{self, Reply};
use crate::runs::End;
use engine::{Container, Waiting};
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    NotRunning,
    NextExit,
    Removed,
}

/// `POST /containers/{id}/wait`
pub async fn wait(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let condition = match context.query.text("condition") {
        None | Some("not-running") => Condition::NotRunning,
        Some("next-exit") => Condition::NextExit,
        Some("removed") => Condition::Removed,
        Some(other) => return Err(Failure::bad(format!("invalid condition: {other:?}"))),
    };
    let name = wanted.to_owned();
    let container = context.workers().quick(move |engine| engine.inspect(&name)).await?;
    // On the list before the headers go out: the client starts the container when it has them.
    let end = context.shared.runs.end(&container.id);
    let (sender, reply) = reply::stream("application/json");
    let shared = context.shared;
    tokio::spawn(async move {
        let waited = async {
            match condition {
                Condition::NotRunning => end_of(&shared, &container.id).await.unwrap_or(0),
                Condition::NextExit => next_exit(&shared, &container, end).await,
                Condition::Removed => removed(&shared, &container, end).await,
            }
        };
        tokio::select! {
            code = waited => drop(sender.send(format!("{{\"StatusCode\":{code}}}\n").into()).await),
            () = sender.closed() => {}
        }
    });
    Ok(reply)
}

/// How often it is looked at what others than this server do: first soon, then seldom.
pub fn pauses() -> impl Iterator<Item = Duration> {
    (0_u32..).map(|step| Duration::from_millis(200 << step.min(6)))
}

/// The end, when it is told; never, when whoever could tell has gone.
async fn heard(end: &mut Option<oneshot::Receiver<End>>) -> End {
    if let Some(receiver) = end {
        let told = receiver.await;
        *end = None;
        if let Ok(told) = told {
            return told;
        }
    }
    std::future::pending().await
}

async fn next_exit(shared: &Arc<Shared>, before: &Container, end: oneshot::Receiver<End>) -> i32 {
    let mut end = Some(end);
    for pause in pauses() {
        let id = before.id.clone();
        match shared.workers.quick(move |engine| engine.begin_wait(&id)).await {
            Ok(Waiting::Running(pending)) => {
                tokio::select! {
                    exit = polled::exit(pending) => match exit {
                        Ok(exit) => return exit.exit_code,
                        Err(_) => return end_of(shared, &before.id).await.unwrap_or(0),
                    },
                    end = heard(&mut end) => return end.exit_code,
                }
            }
            // Others than this server started it, and it has ended already.
            Ok(Waiting::Ended(now)) if now.run.finished_at != before.run.finished_at => return now.run.exit_code,
            Ok(Waiting::Ended(_)) => {}
            Err(failure) if failure.status == StatusCode::NOT_FOUND => {
                return last_word(shared, &before.id, end).await.unwrap_or(0);
            }
            Err(_) => {}
        }
        tokio::select! {
            end = heard(&mut end) => return end.exit_code,
            () = shared.runs.rung() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    0
}

/// How long the end of a run that this server started may take to be told after its container has gone: as long as the last
/// of its output needs.
const LAST_WORD: Duration = Duration::from_secs(10);

/// The exit code of a container that is gone, if its last run was started here.
async fn last_word(shared: &Shared, id: &str, end: Option<oneshot::Receiver<End>>) -> Option<i32> {
    let end = end?;
    if shared.runs.is_awaited(id) {
        // Nobody here has started it.
        return None;
    }
    tokio::time::timeout(LAST_WORD, end).await.ok()?.ok().map(|end| end.exit_code)
}

async fn removed(shared: &Arc<Shared>, before: &Container, end: oneshot::Receiver<End>) -> i32 {
    let mut end = Some(end);
    let mut code = before.run.exit_code;
    let mut ended = false;
    for pause in pauses() {
        let id = before.id.clone();
        match shared.workers.quick(move |engine| engine.begin_wait(&id)).await {
            Ok(Waiting::Running(pending)) => {
                tokio::select! {
                    exit = polled::exit(pending) => code = exit.map_or(code, |exit| exit.exit_code),
                    end = heard(&mut end), if !ended => (code, ended) = (end.exit_code, true),
                }
                continue;
            }
            Ok(Waiting::Ended(now)) => code = if ended { code } else { now.run.exit_code },
            Err(failure) if failure.status == StatusCode::NOT_FOUND => {
                return if ended { code } else { last_word(shared, &before.id, end).await.unwrap_or(code) };
            }
            Err(_) => {}
        }
        tokio::select! {
            end = heard(&mut end), if !ended => (code, ended) = (end.exit_code, true),
            () = shared.runs.rung() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    code
}
