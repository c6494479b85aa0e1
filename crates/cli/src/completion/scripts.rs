//! The scripts by which shells ask.

/// The shells that there is a script for.
pub const SHELLS: &[&str] = &["bash", "fish", "zsh"];

const BASH: &str = include_str!("bash.sh");
const FISH: &str = include_str!("fish.fish");
const ZSH: &str = include_str!("zsh.zsh");

/// The script of a shell for a program of that name; `None` for a shell without one.
pub fn of(shell: &str, program: &str) -> Option<String> {
    let script = match shell {
        "bash" => BASH,
        "fish" => FISH,
        "zsh" => ZSH,
        _ => return None,
    };
    Some(script.replace("dhow", program))
}
