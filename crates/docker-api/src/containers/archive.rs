//! `/containers/{id}/archive` and `/containers/{id}/export`: files in and out, as tar archives.

use crate::context::Context;
use crate::failure::Failure;
use crate::piped;
use crate::reply::{self, Reply};
use base64::Engine as _;
use engine::{ArchiveIn, PathStat};
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::json;
use std::time::Duration;
use tokio::sync::oneshot;

const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

/// Go's bits for what is no plain file, and its place for the three special permissions.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o020_000 => (1 << 26) | (1 << 21),
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special.iter().filter(|(bit, _)| mode & bit != 0).fold(0, |all, (_, bit)| all | bit);
    (mode & 0o777) | kind | special
}

/// What stands at a path, as the header has it.
fn header(stat: &PathStat) -> Result<HeaderValue, Failure> {
    let time = jiff::Timestamp::new(stat.mtime, i32::try_from(stat.mtime_nanoseconds).unwrap_or(0)).unwrap_or_default();
    let document = json!({
        "name": stat.name,
        "size": stat.size,
        "mode": go_mode(stat.mode),
        "mtime": time.to_string(),
        "linkTarget": stat.link_target,
    });
    let text = base64::engine::general_purpose::STANDARD.encode(document.to_string());
    HeaderValue::from_str(&text).map_err(|_| Failure::internal("the file's description does not fit in a header"))
}

fn path(context: &Context) -> Result<String, Failure> {
    context.query.text("path").map(str::to_owned).ok_or_else(|| Failure::bad("bad parameter: missing path"))
}

/// `HEAD /containers/{id}/archive`
pub async fn stat(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let (name, path) = (wanted.to_owned(), path(&context)?);
    let stat = context.workers().quick(move |engine| engine.path_stat(&name, &path)).await?;
    let mut reply = reply::empty(StatusCode::OK);
    reply.headers_mut().insert(STAT, header(&stat)?);
    Ok(reply)
}

/// `GET /containers/{id}/archive`
pub async fn get(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let (name, path) = (wanted.to_owned(), path(&context)?);
    let (begun, found) = oneshot::channel();
    let (sink, content) = piped::out()?;
    let workers = context.workers().clone();
    let work = tokio::spawn(async move {
        let begin = move |stat: &PathStat| drop(begun.send(stat.clone()));
        workers.patient(move |engine| engine.archive_out(&name, &path, begin, sink)).await
    });
    let Ok(stat) = found.await else {
        // It has failed before anything was found.
        return match work.await {
            Ok(Err(failure)) => Err(failure),
            _ => Err(Failure::internal("the archive could not be made")),
        };
    };
    let mut reply = piped::reply("application/x-tar", content);
    reply.headers_mut().insert(STAT, header(&stat)?);
    Ok(reply)
}

/// How long nothing may come of an archive: a container that does not run cannot be started or removed meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// `PUT /containers/{id}/archive`
pub async fn put(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let (name, path) = (wanted.to_owned(), path(&context)?);
    let options = ArchiveIn {
        keep_kinds: context.query.switch("noOverwriteDirNonDir"),
        // Docker's words for "as the archive says" and its contrary are the other way round.
        owner_is_user: !context.query.switch_or("copyUIDGID", true),
        ..ArchiveIn::default()
    };
    let (source, feed) = piped::in_within(context.body, PATIENCE)?;
    let workers = context.shared.workers.clone();
    let work = workers.patient(move |engine| engine.archive_in(&name, &path, source, &options));
    let (result, ()) = tokio::join!(work, feed);
    result?;
    Ok(reply::empty(StatusCode::OK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o040_755), 0o755 | (1 << 31));
        assert_eq!(go_mode(0o041_777), 0o777 | (1 << 31) | (1 << 20));
        assert_eq!(go_mode(0o120_777), 0o777 | (1 << 27));
    }
}
