//! From a method and a path to a handler: the table of operations.

use crate::containers::{
    archive, attach, became, checkpoint, inspect, life, list, logs, make, stats, top, update, wait,
};
use crate::context::Context;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::{events, exec, images, networks, system, volumes};
use hyper::Method;

/// Calls the handler of a path, whose segments are decoded.
///
/// # Errors
/// 404 for what is no operation, and what the handler refuses.
pub async fn call(method: &Method, segments: &[String], context: Context) -> Result<Reply, Failure> {
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let get = matches!(*method, Method::GET | Method::HEAD);
    let post = *method == Method::POST;
    let delete = *method == Method::DELETE;
    match segments.as_slice() {
        ["_ping"] if get => Ok(system::ping(*method == Method::HEAD)),
        ["version"] if get => system::version(),
        ["info"] if get => system::info(context).await,
        ["containers", rest @ ..] => containers(method, rest, context).await,
        ["exec", id, "start"] if post => exec::start(context, id).await,
        ["exec", id, "resize"] if post => exec::resize(context, id).await,
        ["exec", id, "json"] if get => exec::inspect(context, id).await,
        ["events"] if get => events::events(context).await,
        ["networks", rest @ ..] => on_networks(method, rest, context).await,
        ["volumes", rest @ ..] => on_volumes(method, rest, context).await,
        ["system", "df"] if get => system::usage(context).await,
        ["auth"] if post => system::auth(context).await,
        ["images", rest @ ..] => images(method, rest, context).await,
        ["commit"] if post => became::commit(context).await,
        ["distribution", name @ .., "json"] if get && !name.is_empty() => {
            images::ask::distribution(context, &name.join("/")).await
        }
        ["build"] if post => Err(Failure::unsupported("building images")),
        // There is none, so there is nothing to remove from it.
        ["build", "prune"] if post => {
            crate::reply::ok(&serde_json::json!({ "CachesDeleted": null, "SpaceReclaimed": 0 }))
        }
        ["metrics"] if get => crate::metrics::metrics(context).await,
        ["session" | "grpc"] if post => Err(Failure::missing("page not found: there is no BuildKit in this server")),
        ["nodes" | "services" | "tasks" | "secrets" | "configs", ..] if get || post || delete => {
            Err(system::no_swarm())
        }
        ["swarm", "init" | "join"] if post => Err(system::never_a_swarm()),
        ["swarm", "leave"] if post => Err(system::not_part_of_a_swarm()),
        ["swarm", ..] if get || post => Err(system::no_swarm()),
        ["plugins"] if get => crate::reply::ok(&serde_json::json!([])),
        ["plugins", "privileges"] | ["plugins", "pull" | "create"] if get || post => {
            Err(Failure::unsupported("a plugin"))
        }
        ["plugins", name @ .., "json" | "enable" | "disable" | "upgrade" | "push" | "set"] if get || post => {
            Err(Failure::missing(format!("plugin {:?} not found", name.join("/"))))
        }
        ["plugins", name @ ..] if delete => Err(Failure::missing(format!("plugin {:?} not found", name.join("/")))),
        _ => Err(Failure::missing("page not found")),
    }
}

async fn containers(method: &Method, segments: &[&str], context: Context) -> Result<Reply, Failure> {
    let get = matches!(*method, Method::GET | Method::HEAD);
    let post = *method == Method::POST;
    match segments {
        ["json"] if get => list::list(context).await,
        ["create"] if post => make::create(context).await,
        ["prune"] if post => life::prune(context).await,
        [id] if *method == Method::DELETE => life::remove(context, id).await,
        [id, name] if *method == Method::DELETE => life::unlink(context, id, name).await,
        [id, "json"] if get => inspect::inspect(context, id).await,
        [id, "logs"] if get => logs::logs(context, id).await,
        [id, "top"] if get => top::top(context, id).await,
        [id, "archive"] if *method == Method::HEAD => archive::stat(context, id).await,
        [id, "archive"] if *method == Method::GET => archive::get(context, id).await,
        [id, "archive"] if *method == Method::PUT => archive::put(context, id).await,
        [id, "stats"] if get => stats::stats(context, id).await,
        [id, "update"] if post => update::update(context, id).await,
        [id, "attach"] if post => attach::attach(context, id).await,
        [id, "exec"] if post => exec::create(context, id).await,
        [id, "attach", "ws"] if get => attach::attach_web(context, id).await,
        [id, "checkpoints"] if get => checkpoint::list(context, id).await,
        [id, "checkpoints"] if post => checkpoint::create(context, id).await,
        [id, "checkpoints", name] if *method == Method::DELETE => checkpoint::remove(context, id, name).await,
        [id, "changes"] if get => became::changes(context, id).await,
        [id, "export"] if get => became::export(context, id).await,
        [id, "kill"] if post => life::kill(context, id).await,
        [id, "pause"] if post => life::pause(context, id).await,
        [id, "rename"] if post => life::rename(context, id).await,
        [id, "resize"] if post => life::resize(context, id).await,
        [id, "restart"] if post => life::restart(context, id).await,
        [id, "start"] if post => life::start(context, id).await,
        [id, "stop"] if post => life::stop(context, id).await,
        [id, "unpause"] if post => life::unpause(context, id).await,
        [id, "wait"] if post => wait::wait(context, id).await,
        _ => Err(Failure::missing("page not found")),
    }
}

async fn on_networks(method: &Method, segments: &[&str], context: Context) -> Result<Reply, Failure> {
    let get = matches!(*method, Method::GET | Method::HEAD);
    let post = *method == Method::POST;
    match segments {
        [] | [""] if get => networks::list(context).await,
        ["create"] if post => networks::create(context).await,
        ["prune"] if post => networks::prune(context).await,
        [id] if get => networks::inspect(context, id).await,
        [id] if *method == Method::DELETE => networks::remove(context, id).await,
        [id, "connect"] if post => networks::connect(context, id).await,
        [id, "disconnect"] if post => networks::disconnect(context, id).await,
        _ => Err(Failure::missing("page not found")),
    }
}

async fn on_volumes(method: &Method, segments: &[&str], context: Context) -> Result<Reply, Failure> {
    let get = matches!(*method, Method::GET | Method::HEAD);
    let post = *method == Method::POST;
    match segments {
        [] if get => volumes::list(context).await,
        ["create"] if post => volumes::create(context).await,
        ["prune"] if post => volumes::prune(context).await,
        [name] if get => volumes::inspect(context, name).await,
        [name] if *method == Method::DELETE => volumes::remove(context, name).await,
        // Only a volume of a swarm can be changed.
        [_] if *method == Method::PUT => Err(system::no_swarm()),
        _ => Err(Failure::missing("page not found")),
    }
}

/// The names of images have slashes in them.
async fn images(method: &Method, segments: &[&str], context: Context) -> Result<Reply, Failure> {
    let get = matches!(*method, Method::GET | Method::HEAD);
    let post = *method == Method::POST;
    match segments {
        ["json"] if get => images::ask::list(context).await,
        ["create"] if post => images::transfer::create(context).await,
        ["get"] if get => images::transfer::save(context, Vec::new()).await,
        ["search"] if get => images::ask::search(context).await,
        ["load"] if post => images::transfer::load(context).await,
        ["prune"] if post => images::change::prune(context).await,
        [name @ .., "json"] if get && !name.is_empty() => images::ask::inspect(context, &name.join("/")).await,
        [name @ .., "attestations"] if get && !name.is_empty() => {
            images::ask::attestations(context, &name.join("/")).await
        }
        [name @ .., "history"] if get && !name.is_empty() => images::ask::history(context, &name.join("/")).await,
        [name @ .., "get"] if get && !name.is_empty() => images::transfer::save(context, vec![name.join("/")]).await,
        [name @ .., "push"] if post && !name.is_empty() => images::transfer::push(context, &name.join("/")).await,
        [name @ .., "tag"] if post && !name.is_empty() => images::change::tag(context, &name.join("/")).await,
        name if *method == Method::DELETE && !name.is_empty() => images::change::remove(context, &name.join("/")).await,
        _ => Err(Failure::missing("page not found")),
    }
}
