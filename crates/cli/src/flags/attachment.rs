//! Which of our streams are connected to the container's.

use crate::failure::Failure;
use crate::values::streams::Stream;
use engine::Attach;
use rustix::termios::isatty;

/// The streams of `run`: those named by `-a`, or output and errors, and input with `-i`.
pub fn choose(named: &[Stream], interactive: bool) -> Attach {
    if named.is_empty() {
        return Attach { stdin: interactive, stdout: true, stderr: true };
    }
    Attach {
        stdin: named.contains(&Stream::Stdin),
        stdout: named.contains(&Stream::Stdout),
        stderr: named.contains(&Stream::Stderr),
    }
}

/// Refuses to connect something else than a terminal to a container's terminal.
pub fn check_terminal(container_has_terminal: bool, stdin: bool) -> Result<(), Failure> {
    if container_has_terminal && stdin && !isatty(std::io::stdin()) {
        return Err(Failure::outside("the input device is not a TTY"));
    }
    Ok(())
}
