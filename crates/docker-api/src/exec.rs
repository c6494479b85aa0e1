//! Exec sessions: made first, started later, asked about afterwards. Docker keeps them in the daemon's memory; so does this.

use crate::access::{Peer, Tier};
use crate::context::{Context, Shared};
use crate::failure::Failure;
use crate::reply::{self, Reply};
use crate::streams::{self, Client, Ended, Joining};
use engine::{ExecOptions, Kind, Streams};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One session.
#[derive(Clone, Debug)]
struct Session {
    container: String,
    /// Who made it, as records name clients.
    owner: String,
    options: ExecOptions,
    streams: Streams,
    keys: Option<String>,
    pid: i32,
    started: bool,
    exit_code: Option<i32>,
    changed: Instant,
}

impl Session {
    /// Its client has heard that it is being started, and the container does not know of it yet.
    fn is_on_its_way(&self) -> bool {
        self.started && self.pid == 0 && self.exit_code.is_none()
    }
}

/// All sessions that were made here.
#[derive(Debug, Default)]
pub struct Sessions {
    all: Mutex<HashMap<String, Session>>,
    changes: AtomicU64,
}

/// How long a session that has ended, or was never started, can be asked about.
const KEPT: Duration = Duration::from_secs(600);
/// The exit code of a session that could not be started, for no reason of its program.
const NOT_STARTED: i32 = 128;
/// How long a resize waits for a session that is being started, and how often it looks; as long as Docker's.
const STARTING: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);
/// Sessions from which on the old ones are looked for.
const MANY: usize = 128;

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        // Nothing that can panic happens while it is held.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for who changes them. Whoever has looked before it changed something, and counts afterwards, hears of it.
    fn lock_to_change(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        let sessions = self.lock();
        self.changes.fetch_add(1, Relaxed);
        sessions
    }

    /// How often they have been changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    fn find(&self, id: &str) -> Result<Session, Failure> {
        self.lock().get(id).cloned().ok_or_else(|| Failure::missing(format!("No such exec instance: {id}")))
    }

    /// The same for a client: those below the full tier have only the sessions that they made.
    fn find_for(&self, id: &str, peer: &Peer) -> Result<Session, Failure> {
        let session = self.find(id)?;
        if peer.tier != Tier::Full && session.owner != peer.owner() {
            return Err(peer.denied(&format!("the exec session {id} is not yours")));
        }
        Ok(session)
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.lock_to_change().get_mut(id) {
            change(session);
            session.changed = Instant::now();
        }
    }

    fn add(&self, id: String, session: Session) {
        let mut sessions = self.lock_to_change();
        if sessions.len() >= MANY {
            sessions.retain(|_, each| (each.started && each.exit_code.is_none()) || each.changed.elapsed() < KEPT);
        }
        sessions.insert(id, session);
    }

    /// The sessions of a container that run or can still be started.
    pub fn of(&self, container: &str) -> Vec<String> {
        let sessions = self.lock();
        let own = sessions.iter().filter(|(_, each)| each.container == container && each.exit_code.is_none());
        own.map(|(id, _)| id.clone()).collect()
    }

    /// Forgets those of a container that is gone.
    pub fn forget(&self, container: &str) {
        self.lock_to_change().retain(|_, each| each.container != container);
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Asked {
    attach_stdin: Option<bool>,
    attach_stdout: Option<bool>,
    attach_stderr: Option<bool>,
    detach_keys: Option<String>,
    tty: Option<bool>,
    env: Option<Vec<String>>,
    cmd: Option<crate::create::Words>,
    privileged: Option<bool>,
    user: Option<String>,
    working_dir: Option<String>,
    console_size: Option<[u16; 2]>,
}

/// `POST /containers/{id}/exec`
pub async fn create(mut context: Context, wanted: &str) -> Result<Reply, Failure> {
    let asked: Asked = context.document().await?;
    let name = wanted.to_owned();
    let container = context.workers().quick(move |engine| engine.inspect(&name)).await?;
    let id = &container.id;
    match container.status {
        engine::Status::Running => {}
        engine::Status::Paused => {
            return Err(Failure::conflict(format!("container {wanted} is paused, unpause the container before exec")));
        }
        _ => return Err(Failure::conflict(format!("container {id} is not running"))),
    }
    let command = asked.cmd.map(|words| words.0).unwrap_or_default();
    if command.is_empty() {
        return Err(Failure::bad("No exec command specified"));
    }
    if asked.privileged.unwrap_or(false) && context.peer.tier != Tier::Full {
        return Err(context.peer.denied("a privileged exec is not allowed"));
    }
    if let Some(keys) = &asked.detach_keys {
        crate::containers::detach_keys(Some(keys))?;
    }
    let on = |switch: Option<bool>| switch.unwrap_or(false);
    let session_id = random_id()?;
    let session = Session {
        container: container.id.clone(),
        owner: context.peer.owner(),
        options: ExecOptions {
            command,
            env: asked.env.unwrap_or_default(),
            user: asked.user.filter(|user| !user.is_empty()),
            working_directory: asked.working_dir.filter(|directory| !directory.is_empty()),
            terminal: on(asked.tty),
            privileged: on(asked.privileged),
            size: size(asked.console_size),
            id: Some(session_id.clone()),
            ..ExecOptions::default()
        },
        streams: Streams {
            stdin: on(asked.attach_stdin),
            stdout: on(asked.attach_stdout),
            stderr: on(asked.attach_stderr),
        },
        keys: asked.detach_keys,
        pid: 0,
        started: false,
        exit_code: None,
        changed: Instant::now(),
    };
    context.shared.execs.add(session_id.clone(), session);
    reply::json(StatusCode::CREATED, &json!({ "Id": session_id }))
}

/// Docker sends zeros for "as it is".
fn size(size: Option<[u16; 2]>) -> Option<monitor::Size> {
    size.filter(|[rows, columns]| *rows > 0 && *columns > 0).map(|[rows, columns]| monitor::Size { rows, columns })
}

fn random_id() -> Result<String, Failure> {
    let mut bytes = [0_u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Failure::internal(format!("getrandom(32): {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Start {
    detach: Option<bool>,
    tty: Option<bool>,
    console_size: Option<[u16; 2]>,
}

/// `POST /exec/{id}/start`
pub async fn start(mut context: Context, id: &str) -> Result<Reply, Failure> {
    let asked: Start = context.optional_document().await?.unwrap_or_default();
    let session = context.shared.execs.find_for(id, &context.peer)?;
    if session.started {
        return Err(Failure::conflict(format!("exec command {id} has already run")));
    }
    let mut options = session.options.clone();
    let detach = asked.detach.unwrap_or(false);
    // Whether the stream is raw is said here once more, and it is this word that counts.
    let raw = asked.tty.unwrap_or(false);
    options.size = size(asked.console_size).or(options.size);
    options.streams = (!detach).then_some(session.streams);
    let container = session.container.clone();
    let status = context.workers().quick(move |engine| Ok(engine.inspect(&container)?.status)).await?;
    if status != engine::Status::Running {
        return Err(Failure::conflict(format!("container {} is not running", session.container)));
    }
    context.shared.execs.change(id, |session| session.started = true);
    if detach {
        let container = session.container.clone();
        let started = context.workers().quick(move |engine| Ok(engine.exec(&container, &options))).await?;
        return match started {
            Ok(exec) => {
                context.shared.execs.change(id, |session| session.pid = exec.pid);
                Ok(reply::empty(StatusCode::OK))
            }
            Err(error) => Err(failed(&context.shared, id, &error)),
        };
    }
    let media_type = streams::media_type(raw, context.version);
    let keys = (session.options.terminal && session.streams.stdin)
        .then(|| crate::containers::detach_keys(session.keys.as_deref()));
    let joining = Joining { streams: session.streams, multiplexed: !raw, keys: keys.transpose()? };
    if !context.headers.contains_key(hyper::header::UPGRADE) {
        let (mut client, reply) = Client::within(media_type, context.body)?;
        let (shared, id) = (context.shared.clone(), id.to_owned());
        tokio::spawn(async move {
            run(&shared, &id, session.container, options, joining, &mut client).await;
            client.close().await;
        });
        return Ok(reply);
    }
    let (shared, upgrade, id) = (context.shared.clone(), context.upgrade, id.to_owned());
    tokio::spawn(async move {
        // Started when the answer's head has been sent.
        match Client::take(upgrade).await {
            Ok(mut client) => {
                run(&shared, &id, session.container, options, joining, &mut client).await;
                client.close().await;
            }
            Err(_) => shared.execs.change(&id, |session| session.exit_code = Some(NOT_STARTED)),
        }
    });
    Ok(streams::upgraded(media_type))
}

/// Starts a session and joins the client to it. As with Docker, what cannot be started is told in the stream, and by the
/// session's exit code.
async fn run(
    shared: &Arc<Shared>,
    id: &str,
    container: String,
    options: ExecOptions,
    joining: Joining,
    client: &mut Client,
) {
    let multiplexed = joining.multiplexed;
    let started = shared.workers.quick(move |engine| Ok(engine.exec(&container, &options))).await;
    let said = match started {
        Ok(Ok(exec)) => {
            shared.execs.change(id, |session| session.pid = exec.pid);
            let Some(mut connection) = exec.stream else { return };
            // A client that leaves loses the exit status, which the monitor still knows.
            if let Ended::Exited(exit) = streams::join(client, &mut connection, joining).await {
                shared.execs.change(id, |session| session.exit_code = Some(exit.exit_code));
            }
            return;
        }
        Ok(Err(error)) => failed(shared, id, &error).message,
        Err(failure) => {
            shared.execs.change(id, |session| session.exit_code = Some(NOT_STARTED));
            failure.message
        }
    };
    let line = format!("{said}\r\n");
    let mut bytes = Vec::new();
    if multiplexed {
        streams::piece(monitor::Stream::Stdout, line.as_bytes(), &mut bytes);
    } else {
        bytes.extend_from_slice(line.as_bytes());
    }
    // A client that has gone hears nothing.
    drop(client.write(&bytes).await);
}

/// Notes that a session could not be started.
fn failed(shared: &Shared, id: &str, error: &engine::Error) -> Failure {
    let exit_code = match error.kind() {
        Kind::CommandNotFound => 127,
        Kind::CommandNotExecutable => 126,
        _ => NOT_STARTED,
    };
    shared.execs.change(id, |session| session.exit_code = Some(exit_code));
    let status = if error.kind() == Kind::Conflict { StatusCode::CONFLICT } else { StatusCode::BAD_REQUEST };
    Failure::new(status, format!("OCI runtime exec failed: {}", crate::failure::sentence(error)))
}

/// `GET /exec/{id}/json`
pub async fn inspect(context: Context, id: &str) -> Result<Reply, Failure> {
    let mut session = context.shared.execs.find_for(id, &context.peer)?;
    if session.started && session.exit_code.is_none() && !session.is_on_its_way() {
        let (container, wanted) = (session.container.clone(), id.to_owned());
        let known = context.workers().quick(move |engine| engine.exec_state(&container, &wanted)).await;
        match known {
            Ok(Some(state)) => session.exit_code = state.exit_code,
            // It died with its container.
            Ok(None) => session.exit_code = Some(137),
            Err(failure) if failure.status == StatusCode::NOT_FOUND => {
                context.shared.execs.forget(&session.container);
                return Err(Failure::missing(format!("No such exec instance: {id}")));
            }
            Err(failure) => return Err(failure),
        }
        if let Some(code) = session.exit_code {
            context.shared.execs.change(id, |session| session.exit_code = Some(code));
        }
    }
    let options = &session.options;
    reply::ok(&json!({
        "ID": id,
        "Running": session.started && session.exit_code.is_none(),
        "ExitCode": session.exit_code,
        "ProcessConfig": {
            "tty": options.terminal,
            "entrypoint": options.command.first(),
            "arguments": options.command.get(1..).unwrap_or_default(),
            "privileged": options.privileged,
            "user": options.user.as_deref().unwrap_or_default(),
        },
        "OpenStdin": session.streams.stdin,
        "OpenStderr": session.streams.stderr,
        "OpenStdout": session.streams.stdout,
        "CanRemove": session.exit_code.is_some(),
        "ContainerID": session.container,
        "DetachKeys": session.keys.as_deref().unwrap_or_default(),
        "Pid": session.pid,
    }))
}

/// `POST /exec/{id}/resize`
pub async fn resize(context: Context, id: &str) -> Result<Reply, Failure> {
    let session = context.shared.execs.find_for(id, &context.peer)?;
    let (rows, columns) = crate::containers::size(&context.query)?;
    if !session.started {
        context.shared.execs.change(id, |session| session.options.size = Some(monitor::Size { rows, columns }));
        return Ok(reply::empty(StatusCode::OK));
    }
    // A client sends the size of its terminal as soon as it has the answer's head.
    let patience = Instant::now() + STARTING;
    while context.shared.execs.find(id)?.is_on_its_way() && Instant::now() < patience {
        tokio::time::sleep(LOOK).await;
    }
    let wanted = id.to_owned();
    context.workers().quick(move |engine| engine.resize(&session.container, Some(&wanted), rows, columns)).await?;
    Ok(reply::empty(StatusCode::OK))
}
