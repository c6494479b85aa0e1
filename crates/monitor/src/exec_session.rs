//! Starting a process in the running container as a session of its own.

use crate::confinement::Confinement;
use crate::error::{Error, Kind};
use crate::launch;
use crate::session::{self, Ends, Label, Session, Stdio, Terminal};
use crate::wire::Exec;

/// Starts it. Returns when its `execve` has succeeded.
pub(crate) fn start(
    exec: Exec,
    container: &Session,
    confinement: &Confinement,
    label: Option<Label<'_>>,
) -> Result<Session, Error> {
    let attached = exec.attach.map(|attach| attach.streams);
    if !exec.terminal {
        let (stdio, ends) = session::pipes(attached.is_some_and(|streams| streams.stdin), attached.is_some(), label)?;
        let (running, _) = launch::exec(exec.process, stdio, None, container, confinement)?;
        return Ok(Session::new(exec.id, running, ends, None, true));
    }
    let (running, master) = launch::exec(exec.process, Stdio::Terminal, exec.size, container, confinement)?;
    let master = master.ok_or_else(|| Error::refused(Kind::Failed, "the runtime made no terminal"))?;
    let terminal = Terminal::new(master);
    if let Some(size) = exec.size {
        terminal.resize(size)?;
    }
    // Without a client the terminal is still read, so that the process does not wait for ever.
    let ends: Ends = terminal.ends(attached.is_none_or(|streams| streams.stdin))?;
    Ok(Session::new(exec.id, running, ends, Some(terminal), true))
}
