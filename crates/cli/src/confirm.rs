//! The question before something that cannot be taken back.

use crate::failure::Failure;
use crate::output;
use std::io::BufRead as _;

/// Shows the warning and asks; anything but `y` and `yes` is a no, and so is the end of the input.
pub fn ask(warning: &str) -> Result<bool, Failure> {
    output::text(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    // An input that cannot be read has not said yes.
    let read = std::io::stdin().lock().read_line(&mut answer);
    if !answer.ends_with('\n') {
        output::text("\n")?;
    }
    Ok(read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
