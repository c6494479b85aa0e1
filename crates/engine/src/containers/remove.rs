//! Removing. Idempotent: whatever a removal that was cut short left is removed by the next one, or by the next sweep.

use super::record::Status;
use super::state::{self, Impossible, Step};
use super::{lock, table};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use store::Writable;

impl Engine {
    /// Removes a container; one that runs only with `force`, which kills it. With `volumes`, its anonymous volumes go too
    /// unless another container uses them.
    pub fn remove(&self, wanted: &str, force: bool, volumes: bool) -> Result<()> {
        self.put_right();
        let entry = table::find(self.database()?.read(), wanted)?;
        let claimed = match self.claim_stopped(&entry.id) {
            // It was to go with the end of its run, which was cut short.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            other => other?,
        };
        let held = match claimed {
            Some(lock) => lock,
            None if !force => {
                let container = self.observe(entry)?;
                // It may have ended by itself meanwhile: the words are those of the moment when it was looked at.
                let status = if container.status.is_running() { container.status } else { Status::Running };
                return Err(state::refusal(wanted, &container, Impossible { status, step: Step::Remove }));
            }
            None => {
                table::mark_for_removal(&mut *self.database()?, &entry.id, volumes)?;
                self.kill_for_removal(&entry.id)?;
                let patience = std::time::Duration::from_secs(10);
                match lock::claim_within(self.directories(), &entry.id, patience)? {
                    Some(lock) => {
                        // A monitor that was killed while it ended has left what it had not removed yet.
                        self.end_processes(&entry.id, Some(&entry.settings))?;
                        lock
                    }
                    None => return Err(Error::new(Kind::Conflict, format!("container {wanted} does not end"))),
                }
            }
        };
        // Its monitor may have removed it already, as it does with one that is marked.
        table::mark_for_removal(&mut *self.database()?, &entry.id, volumes)?;
        let done = self.remove_held(&entry.id);
        drop(held);
        done
    }

    /// Removes a container whose lock the caller holds: directories, then the row, then the lock's own directory.
    pub(crate) fn remove_held(&self, id: &str) -> Result<()> {
        let known = table::find(self.database()?.read(), id).ok();
        self.remove_directories(id)?;
        let volumes = table::volumes_go(self.database()?.read(), id)?;
        self.forget(id, volumes)?;
        if let Some(entry) = known {
            self.record_of(id, &entry.name, &entry.settings, "destroy", &[]);
        }
        lock::release(self.directories(), id)
    }

    /// Forgets a container, with `volumes` its anonymous volumes too.
    pub(crate) fn forget(&self, id: &str, volumes: bool) -> Result<()> {
        let candidates = match volumes {
            true => crate::volumes::table::only_of(self.database()?.read(), id)?,
            false => Vec::new(),
        };
        if candidates.is_empty() {
            return table::delete(&mut *self.database()?, id);
        }
        // Marked before they are forgotten: from then on only the marks know of their directories.
        let held = candidates.iter().map(|name| self.hold_volume(name)).collect::<Result<Vec<_>>>()?;
        let gone = self.database()?.write(|t| {
            let gone = crate::volumes::table::only_of(t, id)?;
            t.execute("DELETE FROM container WHERE id = ?1", [id]).internal(|| "cannot forget the container".into())?;
            gone.iter().try_for_each(|name| crate::volumes::table::delete(t, name))?;
            Ok(gone)
        })?;
        for (name, held) in candidates.iter().zip(held) {
            if gone.contains(name) {
                self.discard_volume(name)?;
                self.record_volume("destroy", name);
            }
            held.release()?;
        }
        Ok(())
    }

    pub(crate) fn remove_directories(&self, id: &str) -> Result<()> {
        let failed = || format!("cannot remove the files of container {id}");
        Writable::open(self.store()?, id).internal(failed)?.remove_all().internal(failed)
    }

    /// Kills a container and waits for its end.
    fn kill_for_removal(&self, id: &str) -> Result<()> {
        let directory = self.directories().container_run(id);
        match monitor::client::Connection::open(&directory).and_then(|monitor| monitor.stop(Some(9), Some(0))) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == monitor::Kind::Gone => Ok(()),
            Err(error) => Err(error).internal(|| format!("cannot kill container {id}")),
        }
    }
}
