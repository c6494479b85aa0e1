//! Whether what was found is still true: told by anybody, in a few system calls that wait for nobody.
//!
//! An engine belongs to a thread, and blocks. Most answers to who polls need none: that the database has not changed since, that the
//! monitor has said nothing new, and that it lives, is seen in the head of the database's log, in the metadata of one file, and in one lock.

use super::lock;
use super::stamp::Word;
use crate::wal_head::Head;
use std::path::PathBuf;

/// What an inspection was made from, for who has no engine. True for as long as the engine lives that made it.
#[derive(Clone, Debug)]
pub struct Glance {
    database: Head,
    /// What there is of the container's run.
    run: PathBuf,
    word: Option<Word>,
}

impl Glance {
    pub(super) fn new(database: Head, run: PathBuf, word: Option<Word>) -> Glance {
        Glance { database, run, word }
    }

    /// Whether an inspection would find the same: five system calls at most, and no lock is waited for.
    ///
    /// What killed processes have left of other containers it neither sees nor puts right, so who asks so often should have an engine
    /// look now and then.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.database.is_current()
            && Word::of(&self.run).is_some_and(|word| word == self.word)
            // Without a word there is nobody who could have gone.
            && (self.word.is_none() || lock::is_held(&self.run))
    }
}
