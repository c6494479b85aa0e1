//! What can happen to a container in each of its states, and what it is afterwards.
//!
//! ```text
//!              create
//!                │
//!                ▼         start, restart          ends, and no policy wants it again
//!            ┌─────────┐ ──────────────▶ ┌─────────┐ ──────────────────────▶ ┌────────┐
//!            │ created │                 │ running │                         │ exited │
//!            └─────────┘      ┌───────── └─────────┘ ◀────────────────────── └────────┘
//!                │            │ pause      ▲  ▲  │      start, restart            │
//!                │            ▼            │  │  │ ends, and its policy           │
//!                │       ┌────────┐ unpause│  │  │ wants it again                 │
//!                │       │ paused │ ───────┘  │  ▼                                │
//!                │       └────────┘        ┌────────────┐  stop, kill             │
//!                │        ends, stop,      │ restarting │ ─────────────▶ exited   │
//!                │        kill ▶ exited    └────────────┘                         │
//!                ▼                                                                ▼
//!            ┌──────────────────────────────────────────────────────────────────────┐
//!            │ removing: rm, rm -f in every state; a kill in between is finished    │
//!            │ by the next command's sweep, so that nothing leads back from here    │
//!            └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Nobody stores the state: it is what the row in the database and the container's monitor say together ([`Engine::observe`]).
//! A row without a run that began is `created`; with a monitor that answers, `running`, `paused` or `restarting` by its word;
//! else `exited`. So no process can leave a container in a state that is not true.
//!
//! [`after`] is the whole table. What it refuses is an error of [`Kind::Conflict`] in Docker's words, with an [`Impossible`] as
//! its cause; that the container is in the state asked for already is [`Kind::NotModified`], where Docker says so.

use super::record::{Container, Status};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// What can happen to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `start`.
    Start,
    /// `stop`.
    Stop,
    /// `kill` with a signal that ends it.
    Kill,
    /// `restart`.
    Restart,
    /// `pause`.
    Pause,
    /// `unpause`.
    Unpause,
    /// `exec`.
    Exec,
    /// `attach`.
    Attach,
    /// `top`.
    Top,
    /// A new size for its terminal.
    Resize,
    /// A look through a running container.
    Look,
    /// `checkpoint create`; when the container does not go on, its end follows.
    Checkpoint,
    /// `rm`.
    Remove,
    /// `rm -f`.
    RemoveByForce,
    /// Its first process ends.
    End,
    /// The same, and its restart policy wants it again.
    EndForNow,
}

impl Step {
    /// All of them.
    pub const ALL: [Step; 16] = [
        Step::Start,
        Step::Stop,
        Step::Kill,
        Step::Restart,
        Step::Pause,
        Step::Unpause,
        Step::Exec,
        Step::Attach,
        Step::Top,
        Step::Resize,
        Step::Look,
        Step::Checkpoint,
        Step::Remove,
        Step::RemoveByForce,
        Step::End,
        Step::EndForNow,
    ];

    /// As in "cannot … container".
    fn words(self) -> &'static str {
        match self {
            Step::Start => "start",
            Step::Stop => "stop",
            Step::Kill => "kill",
            Step::Restart => "restart",
            Step::Pause => "pause",
            Step::Unpause => "unpause",
            Step::Exec => "exec in",
            Step::Attach => "attach to",
            Step::Top => "look at the processes of",
            Step::Resize => "resize",
            Step::Look => "look through",
            Step::Checkpoint => "checkpoint",
            Step::Remove | Step::RemoveByForce => "remove",
            Step::End | Step::EndForNow => "end",
        }
    }
}

/// What a step comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The container is in this state.
    Becomes(Status),
    /// It stays as it is; something happens in it.
    Stays,
    /// Nothing happens: it is so already.
    Already,
}

/// A step that a container in this state cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a container that is {} cannot take the step {step:?}", .status.name())]
pub struct Impossible {
    /// Where it stands.
    pub status: Status,
    /// What was to happen.
    pub step: Step,
}

/// The table.
///
/// # Errors
/// For a step that is impossible in that state.
pub fn after(status: Status, step: Step) -> std::result::Result<After, Impossible> {
    use After::{Already, Becomes, Stays};
    use Status::{Created, Exited, Paused, Removing, Restarting, Running};
    let impossible = Err(Impossible { status, step });
    match (status, step) {
        (Removing, Step::RemoveByForce | Step::Remove) => Ok(Already),
        (Removing, _) => impossible,
        (_, Step::RemoveByForce) | (Created | Exited, Step::Remove) => Ok(Becomes(Removing)),
        (Running | Paused | Restarting, Step::Remove) => impossible,

        (Created | Exited, Step::Start | Step::Restart) => Ok(Becomes(Running)),
        // In the pause between two runs: the next one comes at once.
        (Running | Paused | Restarting, Step::Restart) | (Restarting, Step::Start) => Ok(Becomes(Running)),
        (Running, Step::Start) => Ok(Already),
        (Paused, Step::Start) => impossible,

        (Created | Exited, Step::Stop) => Ok(Already),
        (Running | Paused | Restarting, Step::Stop | Step::Kill) => Ok(Becomes(Exited)),

        (Running, Step::Pause) => Ok(Becomes(Paused)),
        (Paused, Step::Unpause) => Ok(Becomes(Running)),
        (Paused, Step::Exec) | (Restarting, Step::Pause | Step::Exec | Step::Top | Step::Resize) => impossible,
        (Running | Paused | Restarting, Step::Exec | Step::Attach | Step::Top | Step::Resize | Step::Look) => Ok(Stays),

        (Running | Paused, Step::Checkpoint) => Ok(Stays),
        (Created | Exited | Restarting, Step::Checkpoint) => impossible,
        (Running | Paused, Step::End) => Ok(Becomes(Exited)),
        (Running | Paused, Step::EndForNow) => Ok(Becomes(Restarting)),
        // It could not be started again.
        (Restarting, Step::End) => Ok(Becomes(Exited)),

        (Paused, Step::Pause) | (Running | Restarting, Step::Unpause) | (Restarting, Step::EndForNow) => impossible,
        (
            Created | Exited,
            Step::Kill
            | Step::Pause
            | Step::Unpause
            | Step::Exec
            | Step::Attach
            | Step::Top
            | Step::Resize
            | Step::Look
            | Step::End
            | Step::EndForNow,
        ) => impossible,
    }
}

impl Engine {
    /// The container, if it can take the step now.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Conflict`] with an [`Impossible`] as its cause.
    pub(crate) fn ready(&self, wanted: &str, step: Step) -> Result<Container> {
        let container = self.inspect(wanted)?;
        match after(container.status, step) {
            Ok(_) => Ok(container),
            Err(impossible) => Err(refusal(wanted, &container, impossible)),
        }
    }
}

/// Docker's sentence for what is impossible.
pub(crate) fn refusal(wanted: &str, container: &Container, impossible: Impossible) -> Error {
    let Impossible { status, step } = impossible;
    let id = &container.id;
    let message = match (status, step) {
        (_, Step::Remove) => {
            let first = if status == Status::Paused { "unpause and then " } else { "" };
            let state = status.name();
            let name = &container.name;
            format!(
                "cannot remove container \"/{name}\": container is {state}: {first}stop the container before removing or force remove"
            )
        }
        (Status::Paused, Step::Start) => "cannot start a paused container, try unpause instead".to_owned(),
        (Status::Paused, Step::Pause) => format!("container {wanted} is already paused"),
        (Status::Paused, Step::Exec) => format!("container {wanted} is paused, unpause the container before exec"),
        (Status::Running | Status::Restarting, Step::Unpause) => format!("container {wanted} is not paused"),
        (Status::Restarting, _) => format!("Container {id} is restarting, wait until the container is running"),
        (Status::Removing, _) => {
            format!("cannot {} container: {wanted}: container {id} is being removed", step.words())
        }
        _ => format!("cannot {} container: {wanted}: container {id} is not running", step.words()),
    };
    Error::caused(Kind::Conflict, message, impossible)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [Status; 6] =
        [Status::Created, Status::Running, Status::Paused, Status::Restarting, Status::Exited, Status::Removing];

    #[test]
    fn nothing_leads_back_from_removing_and_nothing_to_created() {
        for step in Step::ALL {
            assert!(!matches!(after(Status::Removing, step), Ok(After::Becomes(_) | After::Stays)), "{step:?}");
            for status in STATES {
                assert_ne!(after(status, step), Ok(After::Becomes(Status::Created)), "{status:?} {step:?}");
            }
        }
    }

    #[test]
    fn every_state_is_reached_and_every_container_can_be_removed() {
        let mut reached = vec![Status::Created];
        let mut next = 0;
        while let Some(&status) = reached.get(next) {
            for step in Step::ALL {
                if let Ok(After::Becomes(new)) = after(status, step)
                    && !reached.contains(&new)
                {
                    reached.push(new);
                }
            }
            next += 1;
        }
        assert!(STATES.iter().all(|status| reached.contains(status)), "{reached:?}");
        for status in STATES {
            assert!(after(status, Step::RemoveByForce).is_ok(), "{status:?}");
        }
    }

    #[test]
    fn what_does_not_run_cannot_end() {
        for status in STATES {
            assert_eq!(after(status, Step::End).is_ok(), status.is_running(), "{status:?}");
        }
    }
}
