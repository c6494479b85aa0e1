//! Exit statuses. The only place where a kind of failure becomes a number.
//!
//! Docker's: a mistake in a flag is 125 everywhere, a wrong number of arguments or an unknown verb is 1. `run` ends
//! and `create` end with 125 when what is asked of dhow itself is wrong; `run` when dhow fails, with 126 when the program cannot be executed and 127 when it does not exist; `exec`
//! has the last two; other verbs end with 1. A container's own status is passed on.

use crate::failure::Failure;
use engine::Kind;

/// Verbs by their exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `run`
    Run,
    /// `create`
    Create,
    /// `exec`
    Exec,
    /// All others.
    Other,
}

/// dhow itself failed in `run`, or a flag is wrong.
const OWN: u8 = 125;
/// The program exists but cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The program does not exist.
const NOT_FOUND: u8 = 127;
/// Any failure of another verb.
const GENERAL: u8 = 1;
/// A template of `inspect` or `events` that cannot be read.
const TEMPLATE: u8 = 64;
/// What a shell reports for a program that SIGPIPE ended.
const BROKEN_PIPE: u8 = 128 + 13;

/// The status for a failure of a verb.
pub fn code(class: Class, failure: &Failure) -> u8 {
    match failure {
        Failure::Usage(usage) if usage.flag => OWN,
        Failure::Usage(_) | Failure::Shown => GENERAL,
        Failure::Engine(error) => kind(class, error.kind()),
        Failure::Local(local) if local.outside => GENERAL,
        Failure::Local(_) if class == Class::Create => OWN,
        Failure::Local(_) => own(class),
        Failure::Template(_) => TEMPLATE,
        Failure::Ended(status) => u8::try_from(*status).unwrap_or(GENERAL),
        Failure::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => BROKEN_PIPE,
        Failure::Output(_) => GENERAL,
    }
}

fn kind(class: Class, kind: Kind) -> u8 {
    match kind {
        Kind::CommandNotFound | Kind::SourceNotFound if runs(class) => NOT_FOUND,
        Kind::CommandNotExecutable if runs(class) => NOT_EXECUTABLE,
        Kind::CommandNotFound
        | Kind::CommandNotExecutable
        | Kind::NotFound
        | Kind::Conflict
        | Kind::InvalidArgument
        | Kind::NotModified
        | Kind::Unauthorized
        | Kind::Forbidden
        | Kind::Unavailable
        | Kind::Corrupt
        | Kind::SourceNotFound
        | Kind::Internal => own(class),
    }
}

/// Whether the verb executes a program.
fn runs(class: Class) -> bool {
    matches!(class, Class::Run | Class::Exec)
}

fn own(class: Class) -> u8 {
    match class {
        Class::Run => OWN,
        Class::Create | Class::Exec | Class::Other => GENERAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Usage;

    #[test]
    fn table() {
        let engine = |kind| Failure::Engine(engine::Error::new(kind, "x"));
        let usage = |flag| Failure::Usage(Usage { message: String::new(), usage: String::new(), flag });
        for (class, failure, status) in [
            (Class::Run, engine(Kind::NotFound), 125),
            (Class::Run, engine(Kind::CommandNotFound), 127),
            (Class::Run, engine(Kind::CommandNotExecutable), 126),
            (Class::Run, engine(Kind::SourceNotFound), 127),
            (Class::Other, engine(Kind::SourceNotFound), 1),
            (Class::Exec, engine(Kind::CommandNotFound), 127),
            (Class::Exec, engine(Kind::Conflict), 1),
            (Class::Other, engine(Kind::CommandNotFound), 1),
            (Class::Other, engine(Kind::NotFound), 1),
            (Class::Run, usage(true), 125),
            (Class::Run, usage(false), 1),
            (Class::Other, usage(true), 125),
            (Class::Run, Failure::new("x"), 125),
            (Class::Run, Failure::outside("the input device is not a TTY"), 1),
            (Class::Other, Failure::new("x"), 1),
            (Class::Run, Failure::Ended(137), 137),
            (Class::Create, Failure::new("x"), 125),
            (Class::Create, engine(Kind::InvalidArgument), 1),
            (Class::Other, Failure::Template("x".into()), 64),
            (Class::Other, Failure::Shown, 1),
        ] {
            assert_eq!(code(class, &failure), status, "{class:?} {failure:?}");
        }
    }
}
