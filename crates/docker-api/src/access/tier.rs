//! Which operations a tier may call, and on which containers. What is not listed here needs the full tier.

use super::creation;
use super::peer::Peer;
use super::policy::Tier;
use crate::context::Shared;
use crate::failure::Failure;
use hyper::Method;

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing but to be let in at all.
    Greeting,
    /// To see what there is. Lists show a confined client its own.
    Look,
    /// To see what all have, which a confined client may not.
    LookAtAll,
    /// To see a container.
    LookAt,
    /// To direct a container's life.
    Steer,
    /// To get at a container's files and processes: as good as being inside.
    Enter,
    /// A session of `exec`, which belongs to whoever made it.
    Session,
    /// To make something of one's own; the handler says what it may be.
    Make,
    /// To bring an image from its registry.
    Pull,
    /// To change what all share.
    Share,
    /// Everything else.
    Full,
}

/// What an operation needs, by method and path; the path's second segment is the container, if there is one.
fn need(method: &Method, segments: &[&str]) -> Need {
    let get = matches!(*method, Method::GET | Method::HEAD);
    let post = *method == Method::POST;
    let delete = *method == Method::DELETE;
    match segments {
        ["_ping" | "version"] if get => Need::Greeting,
        ["info" | "metrics" | "events"] | ["containers" | "images", "json"] | ["volumes" | "networks"] if get => {
            Need::Look
        }
        ["system", "df"] if get => Need::LookAtAll,
        ["images", "search"] | ["distribution", ..] if get => Need::Pull,
        ["images", .., "json" | "history"] if get => Need::Look,
        ["images", .., "get"] if get => Need::Share,
        ["volumes" | "networks", _] if get => Need::Look,
        ["containers", "create"] | ["volumes" | "networks", "create"] if post => Need::Make,
        ["volumes" | "networks", "prune"] | ["containers" | "images", "prune"] | ["build", "prune"] if post => {
            Need::Share
        }
        ["volumes" | "networks", _] if delete => Need::Make,
        ["networks", _, "connect" | "disconnect"] if post => Need::Make,
        ["images", "create"] if post => Need::Pull,
        ["auth"] if post => Need::Pull,
        ["images", "load"] | ["images", .., "tag" | "push"] if post => Need::Share,
        ["images", ..] if delete => Need::Share,
        ["commit"] if post => Need::Make,
        ["exec", _, "start" | "resize"] if post => Need::Session,
        ["exec", _, "json"] if get => Need::Session,
        ["containers", rest @ ..] => container(method, rest),
        _ => Need::Full,
    }
}

fn container(method: &Method, segments: &[&str]) -> Need {
    let get = matches!(*method, Method::GET | Method::HEAD);
    let post = *method == Method::POST;
    match segments {
        [_, "json" | "logs" | "top" | "stats" | "changes"] if get => Need::LookAt,
        [_, "wait"] if post => Need::LookAt,
        [_, "start" | "stop" | "restart" | "kill" | "pause" | "unpause" | "rename" | "resize"] if post => Need::Steer,
        [_] | [_, _] if *method == Method::DELETE => Need::Steer,
        [_, "archive"] | [_, "attach", "ws"] | [_, "export"] => Need::Enter,
        [_, "attach" | "exec" | "update"] if post => Need::Enter,
        _ => Need::Full,
    }
}

/// Lets a request through or denies it. In the path that is handed on, a container that was looked at is named by its
/// identifier, so that it is the one that is worked on.
///
/// # Errors
/// 403 with the rule; 404 for a container that is not there.
pub async fn admit(
    peer: &Peer,
    shared: &Shared,
    method: &Method,
    mut segments: Vec<String>,
) -> Result<Vec<String>, Failure> {
    if peer.tier == Tier::Full {
        return Ok(segments);
    }
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    let need = need(method, &words);
    let operation = format!("{method} /{}", words.join("/"));
    let allowed = match (peer.tier, need) {
        (Tier::None, _) | (_, Need::Full) => false,
        (Tier::Read, Need::Greeting | Need::Look | Need::LookAtAll | Need::LookAt) => true,
        (Tier::Read, _) | (Tier::Own, Need::Share | Need::LookAtAll) => false,
        (Tier::Own | Tier::Safe | Tier::Full, _) => true,
    };
    if !allowed {
        shared.metrics.denied.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        return Err(peer.denied(&format!("{operation} is not allowed")));
    }
    let concerned = matches!((peer.tier, need), (Tier::Own, Need::LookAt | Need::Steer) | (_, Need::Enter));
    if let (true, Some(name)) = (concerned, segments.get_mut(1)) {
        let (wanted, own) = (name.clone(), peer.clone());
        *name = shared.workers.translate(move |engine| creation::usable(engine, &own, &wanted)).await?;
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_needs_everything() {
        for (method, path, wanted) in [
            (Method::GET, "_ping", Need::Greeting),
            (Method::GET, "containers/json", Need::Look),
            (Method::HEAD, "containers/x/archive", Need::Enter),
            (Method::GET, "containers/x/archive", Need::Enter),
            (Method::GET, "containers/x/attach/ws", Need::Enter),
            (Method::GET, "containers/x/logs", Need::LookAt),
            (Method::POST, "containers/x/exec", Need::Enter),
            (Method::POST, "containers/x/checkpoints", Need::Full),
            (Method::DELETE, "containers/x/checkpoints/y", Need::Full),
            (Method::DELETE, "containers/x/name", Need::Steer),
            (Method::PATCH, "containers/x", Need::Full),
            (Method::POST, "containers/x/nosuch", Need::Full),
            (Method::GET, "images/a/b/json", Need::Look),
            (Method::POST, "images/create", Need::Pull),
            (Method::DELETE, "images/a/b", Need::Share),
            (Method::POST, "swarm/init", Need::Full),
            (Method::POST, "build", Need::Full),
            (Method::POST, "session", Need::Full),
            (Method::GET, "", Need::Full),
        ] {
            let segments: Vec<&str> = path.split('/').collect();
            assert_eq!(need(&method, &segments), wanted, "{method} {path}");
        }
    }
}
