//! Clients that do not take their answers.
//!
//! An answer that is ready as a whole, such as a list, stays in memory until it is taken, and so does what the connection has.
//! Whoever takes nothing of it for minutes is let go. Streams are another matter: their pieces are few, and who follows a log may look at
//! a page of it for hours.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// How long a client may take nothing of an answer. The kernel tells of what is taken only when there is room again for most of
/// what it holds for a client, 200 KiB as a rule.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long the kernel has taken nothing for a client.
#[derive(Debug)]
pub struct Taking {
    patience: Duration,
    full: Option<Pin<Box<Sleep>>>,
}

impl Default for Taking {
    fn default() -> Taking {
        Taking::within(PATIENCE)
    }
}

impl Taking {
    /// With another patience than the usual one.
    pub fn within(patience: Duration) -> Taking {
        Taking { patience, full: None }
    }

    /// Passes on what became of a write, and an error in its place when nothing was taken for too long of an answer that is `whole`.
    pub fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>, whole: bool) -> Poll<io::Result<T>> {
        if written.is_ready() || !whole {
            self.full = None;
            return written;
        }
        let patience = self.patience;
        let full = self.full.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        full.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}
