//! What a verb is doing, for those who want to follow it (`--debug`), and what its caller should know.

use std::fmt;
use std::rc::Rc;

/// How much somebody should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A step, for those who look for a fault.
    Debug,
    /// Something that was asked for is not so.
    Warning,
}

type Listener = Rc<dyn Fn(Level, &str)>;

/// Who is told; nobody by default.
#[derive(Clone, Default)]
pub struct Progress {
    steps: bool,
    listener: Option<Listener>,
}

impl Progress {
    /// Tells `listener` of warnings, and with `steps` of each step.
    pub fn new(steps: bool, listener: impl Fn(Level, &str) + 'static) -> Self {
        Self { steps, listener: Some(Rc::new(listener)) }
    }

    /// `step` is only made when somebody listens.
    pub(crate) fn say(&self, step: impl FnOnce() -> String) {
        if let Some(listener) = self.listener.as_ref().filter(|_| self.steps) {
            listener(Level::Debug, &step());
        }
    }

    pub(crate) fn warn(&self, text: &str) {
        if let Some(listener) = &self.listener {
            listener(Level::Warning, text);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.listener.is_some() { "Progress(followed)" } else { "Progress" })
    }
}
