//! A test case: a function with a name, what it needs, and how it says that it cannot run.

use anyhow::Result;

use crate::sandbox::Sandbox;

/// A test.
pub struct Case {
    /// Module and function: `run::exit_code`.
    pub name: &'static str,
    /// The test.
    pub test: fn(&Sandbox) -> Result<()>,
    /// What it needs; without, it is skipped.
    pub needs: &'static [Need],
}

/// What a test needs beside dhow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Root's privileges on the machine.
    Root,
    /// Not to be root.
    User,
    /// A network that only root could have made: a wire to another machine (`crate::neighbour`).
    Lan,
    /// The virtual machine of `cargo xtask vm` with systemd as its first process. It is talked to, so root's test has no namespaces of its
    /// own: a systemd does not know who a process is that it cannot see. What the test changes on the machine ends with that.
    Systemd,
    /// No other test at the same time: it looks at things that all share, or measures.
    Alone,
    /// A quarter of an hour in place of a minute.
    Long,
}

/// The reason why a test cannot run here.
#[derive(Debug)]
pub struct Skip(pub String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Ends a test that cannot run here.
pub fn skip<T>(reason: impl Into<String>) -> Result<T> {
    Err(Skip(reason.into()).into())
}

/// Declares `CASES` of a module: `cases![run: exit_code, tty [Root, Alone]]`.
macro_rules! cases {
    ($module:ident: $($name:ident $([$($need:ident),*])?),* $(,)?) => {
        /// The tests of this module.
        pub const CASES: &[$crate::case::Case] = &[$(
            $crate::case::Case {
                name: concat!(stringify!($module), "::", stringify!($name)),
                test: $name,
                needs: &[$($($crate::case::Need::$need),*)?],
            }
        ),*];
    };
}
pub(crate) use cases;

/// Fails the test unless the two are equal; shows both.
macro_rules! same {
    ($left:expr, $right:expr $(, $($why:tt)+)?) => {{
        match (&$left, &$right) {
            (left, right) => anyhow::ensure!(
                left == right,
                "{} is {left:?}, wanted {right:?}{}",
                stringify!($left),
                String::new() $(+ ": " + &format!($($why)+))?
            ),
        }
    }};
}
pub(crate) use same;

/// Fails the test unless the text has the fragment; shows the text.
macro_rules! contains {
    ($text:expr, $fragment:expr) => {{
        match (&$text, &$fragment) {
            (text, fragment) => {
                anyhow::ensure!(text.contains(&fragment[..]), "{} has no {fragment:?}: {text}", stringify!($text));
            }
        }
    }};
}
pub(crate) use contains;
