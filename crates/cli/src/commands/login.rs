//! `login`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::registries::{self, LoginKept};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, isatty, tcgetattr, tcsetattr};
use std::io::{BufRead as _, Read as _, Write as _};

/// Authenticate to a registry
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS] [SERVER]", "Authenticate to a registry. Defaults to Docker's.");

#[derive(Args)]
struct Flags {
    /// Password or access token
    #[arg(short = 'p', long, value_name = "string")]
    password: Option<String>,
    /// Take the password or access token from standard input
    #[arg(long)]
    password_stdin: bool,
    /// User name
    #[arg(short = 'u', long, value_name = "string")]
    username: Option<String>,
    /// Name of the registry
    #[arg(value_name = "SERVER", default_value = "", hide_default_value = true)]
    server: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let domain = registries::registry_named(&flags.server)?;
    if flags.password.is_some() {
        output::remark("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        if flags.password_stdin {
            return Err(Failure::new("--password and --password-stdin are mutually exclusive"));
        }
    }
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (username, password) = if flags.password_stdin {
        let username =
            filled(&flags.username).ok_or_else(|| Failure::new("Must provide --username with --password-stdin"))?;
        (username, from_input()?)
    } else {
        match (filled(&flags.username), filled(&flags.password)) {
            (Some(username), Some(password)) => (username, password),
            (username, password) => ask(&domain, username, password)?,
        }
    };
    let kept = registries::login(&domain, &username, &password)?;
    if let LoginKept::File(path) = kept {
        session.warn(&format!(
            "your credentials are stored unencrypted in '{}'; a credential helper (\"credsStore\" in that file) keeps them better",
            path.display()
        ));
    }
    output::line("Login Succeeded")
}

/// The registry as Docker shows it.
pub fn shown(domain: &str) -> &str {
    if domain == oci::reference::DEFAULT_DOMAIN { "https://index.docker.io/v1/" } else { domain }
}

/// The password is all of the input, less the line's end that `echo` makes.
fn from_input() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(1 << 20)
        .read_to_string(&mut text)
        .map_err(|error| Failure::caused("standard input cannot be read", error))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let password = line.strip_suffix('\r').unwrap_or(line);
    match password.is_empty() {
        true => Err(Failure::new("the password on standard input is empty")),
        false => Ok(password.to_owned()),
    }
}

fn ask(domain: &str, username: Option<String>, password: Option<String>) -> Result<(String, String), Failure> {
    if !isatty(std::io::stdin()) {
        return Err(Failure::new("cannot perform an interactive login from a non TTY device"));
    }
    let username = match username {
        Some(username) => username,
        None => {
            let known = registries::login_name(domain);
            prompt(&known.as_ref().map_or("Username: ".to_owned(), |known| format!("Username ({known}): ")));
            let mut line = String::new();
            std::io::stdin()
                .lock()
                .read_line(&mut line)
                .map_err(|error| Failure::caused("the terminal cannot be read", error))?;
            match (line.trim(), known) {
                ("", Some(known)) => known,
                ("", None) => return Err(Failure::new("non-null username required")),
                (name, _) => name.to_owned(),
            }
        }
    };
    let password = match password {
        Some(password) => password,
        None => {
            prompt("Password: ");
            let password = hidden_line()?;
            output::remark("");
            password
        }
    };
    match password.is_empty() {
        true => Err(Failure::new("password required")),
        false => Ok((username, password)),
    }
}

fn prompt(text: &str) {
    let mut errors = std::io::stderr().lock();
    // Where nothing can be shown, what is typed counts all the same.
    _ = errors.write_all(text.as_bytes()).and_then(|()| errors.flush());
}

/// Reads a line byte by byte without showing it. Signals by keys are off meanwhile, so that none can end the program with
/// the terminal silent; control-C and control-D are read as what they are.
fn hidden_line() -> Result<String, Failure> {
    let failed = |errno: rustix::io::Errno| Failure::caused("the terminal cannot be read", errno);
    let terminal = std::io::stdin();
    let before = tcgetattr(&terminal).map_err(failed)?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
    silent.special_codes[SpecialCodeIndex::VMIN] = 1;
    silent.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(failed)?;
    let line = read_hidden(&mut terminal.lock());
    tcsetattr(&terminal, OptionalActions::Now, &before).map_err(failed)?;
    line
}

fn read_hidden(terminal: &mut impl std::io::Read) -> Result<String, Failure> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        let count = terminal.read(&mut byte).map_err(|error| Failure::caused("the terminal cannot be read", error))?;
        match byte[0] {
            _ if count == 0 => break,
            b'\n' | b'\r' => break,
            // Control-C.
            3 => return Err(Failure::Ended(130)),
            // Control-D.
            4 if line.is_empty() => break,
            // Backspace in its two forms, and control-U.
            8 | 0x7f => drop(line.pop()),
            0x15 => line.clear(),
            other => line.push(other),
        }
    }
    String::from_utf8(line).map_err(|_| Failure::new("the password is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed() {
        let read = |text: &str| read_hidden(&mut text.as_bytes());
        assert_eq!(read("secret\nrest").unwrap(), "secret");
        assert_eq!(read("wronh\x7fg\r").unwrap(), "wrong");
        assert_eq!(read("wrong\x15right\n").unwrap(), "right");
        assert_eq!(read("end").unwrap(), "end");
        assert!(matches!(read("x\x03"), Err(Failure::Ended(130))));
    }
}
