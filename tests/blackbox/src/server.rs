//! `dhow serve` in a test's directory, and clients for it: Debian's docker, curl, and a socket of our own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::case::skip;
use crate::host;
use crate::sandbox::{Output, Sandbox};

/// A running server. It ends with the value.
pub struct Server<'a> {
    sandbox: &'a Sandbox,
    child: Child,
    /// Its socket.
    pub socket: PathBuf,
}

impl<'a> Server<'a> {
    /// Starts one and waits until it listens.
    pub fn start(sandbox: &'a Sandbox) -> Result<Self> {
        Self::start_with(sandbox, &[])
    }

    /// The same with further words.
    pub fn start_with(sandbox: &'a Sandbox, words: &[&str]) -> Result<Self> {
        Self::start_telling(sandbox, words, Stdio::inherit())
    }

    /// The same, which tells of itself there.
    pub fn start_telling(sandbox: &'a Sandbox, words: &[&str], log: Stdio) -> Result<Self> {
        let socket = sandbox.path("docker.sock");
        let address = format!("unix://{}", socket.display());
        let mut command = sandbox.command([&["serve", "--host", &address], words].concat());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let server = Self { sandbox, child, socket };
        host::until("the server listens", sandbox.seconds(20), || Ok(UnixStream::connect(&server.socket).ok()))?;
        Ok(server)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it without a word.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Tells it to end, and waits for that. Fails when it takes long.
    pub fn end(&mut self) -> Result<()> {
        host::succeed(Command::new("kill").arg(self.child.id().to_string()))?;
        host::until("the server ends", self.sandbox.seconds(10), || Ok(self.child.try_wait()?))?;
        Ok(())
    }

    /// The command `docker ARGUMENTS` against this server.
    pub fn docker_command(&self, arguments: &[&str]) -> Result<Command> {
        let Some(program) = host::program("docker") else { return skip("docker is not installed") };
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.sandbox.path("home"));
        command.env("DOCKER_CONFIG", self.sandbox.path("docker"));
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
        command.args(arguments);
        Ok(command)
    }

    /// Runs docker to its end.
    pub fn docker(&self, arguments: &[&str]) -> Result<Output> {
        self.docker_with_input("", arguments)
    }

    /// Runs docker to its end with this input.
    pub fn docker_with_input(&self, input: &str, arguments: &[&str]) -> Result<Output> {
        self.sandbox.finish_command(self.docker_command(arguments)?, input)
    }

    /// Runs docker, which must succeed, and returns its output without the last line's end.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        self.docker(arguments)?.success()
    }

    /// A connection, with a request already sent: `POST /x HTTP/1.1`, with these headers and this content.
    pub fn send(&self, line: &str, headers: &str, content: &str) -> Result<UnixStream> {
        send(&self.socket, self.sandbox.seconds(20), line, headers, content)
    }

    /// A request and its whole answer: status and document.
    pub fn ask(&self, line: &str, content: &str) -> Result<(u16, Value)> {
        ask(&self.socket, self.sandbox.seconds(20), line, content)
    }

    /// A request and its whole answer: head and content.
    pub fn ask_raw(&self, line: &str, content: &str) -> Result<(String, String)> {
        ask_raw(&self.socket, self.sandbox.seconds(20), line, content)
    }
}

/// A request to whatever serves there, and its whole answer: status and document.
pub fn ask(socket: &Path, limit: Duration, line: &str, content: &str) -> Result<(u16, Value)> {
    let (head, body) = ask_raw(socket, limit, line, content)?;
    let status = status(&head)?;
    let document = if body.trim().is_empty() {
        Value::Null
    } else {
        serde_json::from_str(body.trim()).unwrap_or(Value::String(body))
    };
    eprintln!("> {line} {content}\n< {status} {}", document.to_string().chars().take(600).collect::<String>());
    Ok((status, document))
}

fn ask_raw(socket: &Path, limit: Duration, line: &str, content: &str) -> Result<(String, String)> {
    let mut stream = send(socket, limit, line, "Connection: close\r\n", content)?;
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes).context("read the answer")?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no head in {text:?}"))?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((head.to_owned(), if chunked { unchunked(body) } else { body.to_owned() }))
}

fn send(socket: &Path, limit: Duration, line: &str, headers: &str, content: &str) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    let length = if content.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", content.len()) };
    // What says nothing of its content has a document.
    let said = content.is_empty() || headers.to_ascii_lowercase().contains("content-type:");
    let kind = if said { "" } else { "Content-Type: application/json\r\n" };
    write!(stream, "{line} HTTP/1.1\r\nHost: d\r\n{headers}{kind}{length}\r\n")?;
    // A server that refuses what is too long does not read it to its end.
    drop(stream.write_all(content.as_bytes()));
    Ok(stream)
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // Both fail only when it has ended already; what it leaves is looked for afterwards.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            drop(host::succeed(Command::new("kill").arg(self.child.id().to_string())));
            let ended = || Ok(self.child.try_wait()?);
            drop(host::until("the server ends", Duration::from_secs(10), ended));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The status of an answer.
pub fn status(head: &str) -> Result<u16> {
    let number = head.split(' ').nth(1).and_then(|text| text.parse().ok());
    number.with_context(|| format!("no status in {head:?}"))
}

/// Reads the head of an answer and leaves what follows.
pub fn read_head(stream: &mut UnixStream) -> Result<String> {
    let mut head = vec![];
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(stream.read(&mut byte)? == 1, "the answer ends in its head: {:?}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..length).filter(|chunk| !chunk.is_empty()) else { break };
        whole.push_str(chunk);
        body = rest.get(length + 2..).unwrap_or_default();
    }
    whole
}
