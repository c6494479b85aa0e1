//! What can end a command early, and how that is shown.

use std::error::Error as StdError;
use std::fmt::Write as _;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line itself is wrong.
    Usage(Usage),
    /// The engine refused or failed.
    Engine(engine::Error),
    /// The front end refused or failed before, or besides, the engine.
    Local(Local),
    /// Nothing to say: the container's program ended with this status.
    Ended(i32),
    /// Nothing more to say: each failure has been shown when it happened.
    Shown,
    /// Standard output cannot be written.
    Output(std::io::Error),
}

/// A mistake in the command line.
#[derive(Debug)]
pub struct Usage {
    /// One sentence.
    pub message: String,
    /// The usage line of the verb.
    pub usage: String,
    /// Whether a flag is at fault, as opposed to the number of arguments or the verb.
    pub flag: bool,
}

/// A failure of the front end.
#[derive(Debug)]
pub struct Local {
    /// One sentence.
    pub message: String,
    /// What made it fail.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
    /// Whether it happened outside of the verb's own work, so that `run` ends with 1 instead of 125, as in Docker.
    pub outside: bool,
}

impl Failure {
    /// A sentence without a cause.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure::Local(Local { message: message.into(), source: None, outside: false })
    }

    /// A sentence with its cause.
    pub fn caused(message: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Failure {
        Failure::Local(Local { message: message.into(), source: Some(source.into()), outside: false })
    }

    /// A refusal for which even `run` ends with status 1.
    pub fn outside(message: impl Into<String>) -> Failure {
        Failure::Local(Local { message: message.into(), source: None, outside: true })
    }

    /// The text for standard error, empty if there is nothing to say.
    pub fn render(&self) -> String {
        match self {
            Failure::Ended(_) | Failure::Shown => String::new(),
            Failure::Usage(usage) => block(&usage.message, None, Some(&usage.usage)),
            Failure::Engine(error) => block(&error.to_string(), error.source(), error.advice()),
            Failure::Local(local) => {
                let source = local.source.as_deref().map(|source| source as &dyn StdError);
                block(&local.message, source, None)
            }
            Failure::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => String::new(),
            Failure::Output(error) => block("standard output cannot be written", Some(error), None),
        }
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Failure {
        Failure::Engine(error)
    }
}

impl From<docker_json::Error> for Failure {
    fn from(error: docker_json::Error) -> Failure {
        Failure::caused("what was found cannot be shown", error)
    }
}

/// The refusals of the flags' grammars.
impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::new(message)
    }
}

fn block(message: &str, source: Option<&dyn StdError>, hint: Option<&str>) -> String {
    let mut text = format!("{}: error: {message}\n", crate::program::name());
    let mut source = source;
    while let Some(cause) = source {
        // Writing to a string does not fail.
        _ = writeln!(text, "  caused by: {cause}");
        source = cause.source();
    }
    if let Some(hint) = hint {
        _ = writeln!(text, "  hint: {hint}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{Error, Kind};

    #[test]
    fn sentence_causes_and_hint() {
        let root = Error::new(Kind::Internal, "openat2(<root>, \"x\"): ENOENT (No such file or directory)");
        let middle = Error::caused(Kind::Internal, "read the passwd file of the container", root);
        let outer = Error::caused(Kind::InvalidArgument, "unable to find user bob", middle).hint("give a number");
        assert_eq!(
            Failure::from(outer).render(),
            "dhow: error: unable to find user bob\n  \
             caused by: read the passwd file of the container\n  \
             caused by: openat2(<root>, \"x\"): ENOENT (No such file or directory)\n  \
             hint: give a number\n"
        );
    }

    #[test]
    fn own_failures() {
        assert_eq!(Failure::new("no").render(), "dhow: error: no\n");
        assert_eq!(Failure::Ended(3).render(), "");
        let usage = Usage { message: "unknown flag: --x".into(), usage: "dhow ps [OPTIONS]".into(), flag: true };
        assert_eq!(Failure::Usage(usage).render(), "dhow: error: unknown flag: --x\n  hint: dhow ps [OPTIONS]\n");
    }
}
