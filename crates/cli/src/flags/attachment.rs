//! Which of our streams are connected to the container's.

use crate::failure::Failure;
use crate::values::streams::Stream;
use engine::Streams;
use rustix::termios::isatty;

/// The streams of `run`: those named by `-a`, or output and errors, and input with `-i`.
pub fn choose(named: &[Stream], interactive: bool) -> Streams {
    if named.is_empty() {
        return Streams { stdin: interactive, stdout: true, stderr: true };
    }
    Streams {
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

/// The size of the terminal at hand, rows and columns: a container's or command's terminal begins with it.
pub fn own_terminal() -> Option<(u16, u16)> {
    let size = monitor::terminal::size(std::io::stdin()).or_else(|| monitor::terminal::size(std::io::stdout()))?;
    Some((size.rows, size.columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_streams_only() {
        assert_eq!(choose(&[], false), Streams { stdin: false, stdout: true, stderr: true });
        assert_eq!(choose(&[], true), Streams { stdin: true, stdout: true, stderr: true });
        assert_eq!(choose(&[Stream::Stderr], true), Streams { stdin: false, stdout: false, stderr: true });
    }
}
