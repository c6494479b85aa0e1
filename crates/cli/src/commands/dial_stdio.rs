//! `system dial-stdio`: standard input and output become a connection to `dhow serve`. Docker's clients call it at the other
//! end of ssh:// addresses.

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// Join standard streams to the server
pub const VERB: Verb =
    verb!(Flags, execute, Other, "", "Join standard input and output to `dhow serve`, for ssh:// addresses");

#[derive(Args)]
struct Flags {}

fn execute(session: &Session, _flags: &Flags) -> Result<(), Failure> {
    let path = session.engine()?.directories().run.join("docker.sock");
    let failed =
        |error| Failure::caused(format!("cannot connect to {}: is `dhow serve` running there?", path.display()), error);
    let mut socket = UnixStream::connect(&path).map_err(failed)?;
    let mut incoming = socket.try_clone().map_err(failed)?;
    // Ends with the process: what is typed after the server has closed is nobody's.
    let typed = move || {
        let mut buffer = vec![0; CHUNK];
        let mut input = std::io::stdin().lock();
        while let Ok(n) = input.read(&mut buffer) {
            if n == 0 || socket.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        // The server may have closed already.
        drop(socket.shutdown(Shutdown::Write));
    };
    std::thread::Builder::new().spawn(typed).map_err(|error| Failure::caused("cannot start a thread", error))?;
    let mut out = output::unbuffered()?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match incoming.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => out.write_all(&buffer[..n]).map_err(Failure::Output)?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::caused("the server's answer cannot be read", error)),
        }
    }
}

/// Bytes that are copied at once.
const CHUNK: usize = 64 << 10;
