//! Starting a process in the running container as a session of its own.

use crate::error::{Error, Kind};
use crate::launch::{self, Confinement};
use crate::plan::Launch;
use crate::session::{self, Ends, Running, Session, Stdio, Terminal};
use crate::wire::Exec;

/// Starts it. Returns when its `execve` has succeeded.
pub(crate) fn start(
    exec: Exec,
    launch: &Launch,
    confinement: &Confinement,
    container: &Session,
) -> Result<Session, Error> {
    let target = Running { pid: container.pid, pidfd: launch::duplicate(&container.pidfd)? };
    let attached = exec.attach.map(|attach| attach.streams);
    if !exec.terminal {
        let (stdio, ends) = session::pipes(attached.is_some_and(|streams| streams.stdin), attached.is_some())?;
        let (running, _) = launch::exec(launch, confinement, &exec.process, stdio, &target)?;
        return Session::new(exec.id, running, ends, None, true);
    }
    let (running, master) = launch::exec(launch, confinement, &exec.process, Stdio::Terminal, &target)?;
    let master = master.ok_or_else(|| Error::refused(Kind::Failed, "the runtime made no terminal"))?;
    let terminal = Terminal::new(master);
    if let Some(size) = exec.size {
        terminal.resize(size)?;
    }
    // Without a client the terminal is still read, so that the process does not wait for ever.
    let ends: Ends = terminal.ends(attached.is_none_or(|streams| streams.stdin))?;
    Session::new(exec.id, running, ends, Some(terminal), true)
}
