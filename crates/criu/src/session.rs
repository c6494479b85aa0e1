//! One `criu swrk`: started, asked once, answered while it works, and waited for.

use std::ffi::CString;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use kernel::clone::Clone as Cloning;
use kernel::exe::{self, Strings};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, WaitOptions};

use crate::error::{BoxError, Error, Result};
use crate::message::{self, Value, Writer};
use crate::options::{Action, Options};

/// The installed criu.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// Looks for it in `$PATH`.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        let executable =
            |path: &PathBuf| rustix::fs::access(path.as_path(), rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
        let mut places = std::env::split_paths(&path).filter(|directory| directory.is_absolute());
        let found = places.find_map(|directory| Some(directory.join("criu")).filter(executable));
        found.map(Self).ok_or(Error::Missing)
    }

    /// The one at this path.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// What criu tells and asks in the middle of its work.
#[derive(Debug)]
pub struct Notice {
    /// Which step: `post-dump`, `setup-namespaces`, `post-restore`, `orphan-pts-master`, …
    pub step: String,
    /// The restored first process, as this process sees it; 0 where there is none.
    pub pid: i32,
    /// What came along: the terminal's other end.
    pub descriptor: Option<OwnedFd>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The restored first process, a child of this one.
    pub pid: Option<i32>,
    /// criu's version as one number: 40101 is 4.1.1.
    pub version: i32,
}

/// Asks criu once. `before` runs in the new process before it becomes criu: there it may enter namespaces and mount things.
///
/// # Errors
/// criu's refusal with the end of its log, or whatever kept it from working.
pub fn run(
    program: &Program,
    action: Action,
    options: &Options<'_>,
    before: impl FnOnce(Pid) -> std::result::Result<(), BoxError>,
    mut notice: impl FnMut(Notice) -> std::result::Result<(), BoxError>,
) -> Result<Outcome> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|errno| kernel::Error::new("socketpair(AF_UNIX, SOCK_SEQPACKET)", errno))?;
    let process = Process::start(program, theirs, options, before)?;
    let place = options.works_where_it_is.then(|| process.directory()).transpose()?;
    let mut request = Writer::default();
    request.number(1, action.number());
    if action != Action::Version {
        let work = place.as_ref().map(AsFd::as_fd).or(options.work);
        request.message(2, Options { work, ..options.clone() }.encode(action));
    }
    send(&ours, request)?;
    let mut failure = None;
    let outcome = loop {
        let (bytes, descriptor) = receive(&ours)?;
        if bytes.is_empty() {
            break Err(Error::Gone(quote(options)));
        }
        let answer = Answer::read(&bytes)?;
        if answer.is_notice {
            let told = notice(Notice { step: answer.step, pid: answer.notice_pid, descriptor });
            let mut reply = Writer::default();
            reply.number(1, 6);
            reply.number(3, i64::from(told.is_ok()));
            send(&ours, reply)?;
            failure = failure.or(told.err());
            continue;
        }
        if answer.success {
            break Ok(Outcome { pid: answer.restored, version: answer.version });
        }
        break Err(Error::Failed { action: action.name(), errno: answer.errno, log: quote(options) });
    };
    drop(ours);
    process.wait();
    match failure {
        Some(error) => Err(Error::Caller(error)),
        None => outcome,
    }
}

/// The version of the installed criu as one number: 40101 is 4.1.1.
///
/// # Errors
/// As [`run`].
pub fn version(program: &Program) -> Result<i32> {
    run(program, Action::Version, &Options::default(), |_| Ok(()), |_| Ok(())).map(|outcome| outcome.version)
}

/// criu, until it is waited for.
struct Process {
    pid: Pid,
    waited: bool,
}

impl Process {
    fn start(
        program: &Program,
        socket: OwnedFd,
        options: &Options<'_>,
        before: impl FnOnce(Pid) -> std::result::Result<(), BoxError>,
    ) -> Result<Self> {
        let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (reader, writer) = pipe.map_err(|errno| kernel::Error::new("pipe2(O_CLOEXEC)", errno))?;
        let path = CString::new(program.0.as_os_str().as_encoded_bytes()).map_err(|_| Error::Missing)?;
        let number = socket.as_raw_fd().to_string();
        let arguments = Strings::new(["criu", "swrk", number.as_str()])?;
        // A monitor has none, and criu calls programs of the system.
        let search = std::env::var_os("PATH").is_none().then(|| "PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        let variables: Vec<String> = std::env::vars_os()
            .filter(|(name, _)| name != kernel::heap::WITHOUT_CACHES.0)
            .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?)))
            .chain(search)
            .collect();
        let environment = Strings::new(variables.iter().map(String::as_str))?;
        let ignored = exe::ignored_signals();
        let child = Cloning::default().spawn(|| {
            let work = || -> std::result::Result<(), BoxError> {
                before(rustix::process::getpid())?;
                for fd in options.inherited.iter().map(|(_, fd)| fd.as_raw_fd()).chain([socket.as_raw_fd()]) {
                    kernel::descriptors::keep_over_exec(fd)?;
                }
                exe::reset_signals(ignored);
                match exe::execute(&path, &arguments, &environment) {
                    Ok(never) => match never {},
                    Err(errno) => Err(kernel::Error::new(format!("execve({path:?})"), errno).into()),
                }
            };
            if let Err(error) = work() {
                let mut text = error.to_string();
                let mut source = error.source();
                while let Some(inner) = source {
                    text = format!("{text}: {inner}");
                    source = inner.source();
                }
                // The other end may be gone, and then nobody wants to know.
                rustix::io::write(&writer, text.as_bytes()).ok();
            }
            1
        })?;
        drop((writer, socket));
        let process = Self { pid: child.pid, waited: false };
        let mut text = String::new();
        std::fs::File::from(reader).read_to_string(&mut text).ok();
        if text.is_empty() { Ok(process) } else { Err(Error::Start(text)) }
    }

    /// Its working directory, by a mount of its own namespace.
    fn directory(&self) -> Result<OwnedFd> {
        use rustix::fs::{Mode, OFlags};
        let path = format!("/proc/{}/cwd", self.pid.as_raw_nonzero());
        rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| kernel::Error::new(format!("open({path:?}, O_DIRECTORY)"), errno).into())
    }

    fn wait(mut self) {
        self.reap();
    }

    fn reap(&mut self) {
        let wait = || rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
        // Reaped elsewhere is as good.
        rustix::io::retry_on_intr(wait).ok();
        self.waited = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.waited {
            // Its socket's other end is closed by now, which ends it; this is for one that hangs.
            rustix::process::kill_process(self.pid, rustix::process::Signal::KILL).ok();
            self.reap();
        }
    }
}

fn send(socket: &OwnedFd, message: Writer) -> Result<()> {
    let bytes = message.into_bytes();
    let send = || rustix::net::send(socket, &bytes, SendFlags::NOSIGNAL);
    match rustix::io::retry_on_intr(send) {
        // It has ended, and its last words are still to be read.
        Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
        Err(errno) => Err(kernel::Error::new("send(<criu>)", errno).into()),
    }
}

fn receive(socket: &OwnedFd) -> Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut buffer = vec![0; 64 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        rustix::net::recvmsg(socket.as_fd(), &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    });
    let length = match received {
        Ok(received) => received.bytes,
        Err(Errno::CONNRESET) => 0,
        Err(errno) => return Err(kernel::Error::new("recvmsg(<criu>)", errno).into()),
    };
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            descriptor = descriptors.next();
        }
    }
    buffer.truncate(length);
    Ok((buffer, descriptor))
}

/// `criu_resp`.
#[derive(Debug, Default)]
struct Answer {
    is_notice: bool,
    success: bool,
    restored: Option<i32>,
    step: String,
    notice_pid: i32,
    errno: i32,
    version: i32,
}

impl Answer {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut answer = Self::default();
        for (field, value) in message::fields(bytes).ok_or(Error::Garbled)? {
            match (field, value) {
                (1, value) => answer.is_notice = value.int() == 6,
                (2, value) => answer.success = value.int() == 1,
                (4, Value::Bytes(inner)) => {
                    let fields = message::fields(inner).ok_or(Error::Garbled)?;
                    answer.restored = fields.iter().find(|(field, _)| *field == 1).map(|(_, pid)| pid.int());
                }
                (5, Value::Bytes(inner)) => {
                    for (field, value) in message::fields(inner).ok_or(Error::Garbled)? {
                        match field {
                            1 => answer.step = value.text(),
                            2 => answer.notice_pid = value.int(),
                            _ => {}
                        }
                    }
                }
                (7, value) => answer.errno = value.int(),
                (10, Value::Bytes(inner)) => {
                    let fields = message::fields(inner).ok_or(Error::Garbled)?;
                    let part = |wanted| {
                        fields
                            .iter()
                            .find(|(field, _)| *field == wanted)
                            .map_or(0, |(_, value)| value.int().clamp(0, 99))
                    };
                    answer.version = part(1) * 10000 + part(2) * 100 + part(4);
                }
                _ => {}
            }
        }
        Ok(answer)
    }
}

/// The last lines of the log that are about an error.
fn quote(options: &Options<'_>) -> String {
    let Some(directory) = options.work.or(options.images) else { return String::new() };
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NOFOLLOW;
    let Ok(file) = rustix::fs::openat(directory, &options.log_file, flags, rustix::fs::Mode::empty()) else {
        return String::new();
    };
    let mut text = Vec::new();
    std::fs::File::from(file).take(4 << 20).read_to_end(&mut text).ok();
    let text = String::from_utf8_lossy(&text).into_owned();
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("Error")).collect();
    let last = &errors[errors.len().saturating_sub(5)..];
    last.iter()
        .map(|line| format!("\n{}", line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let mut notify = Writer::default();
        notify.text(1, "post-restore");
        notify.number(2, 4711);
        let mut answer = Writer::default();
        answer.number(1, 6);
        answer.number(2, 1);
        answer.message(5, notify);
        let answer = Answer::read(&answer.into_bytes()).unwrap();
        assert!(answer.is_notice && answer.success);
        assert_eq!((answer.step.as_str(), answer.notice_pid), ("post-restore", 4711));
        assert!(Answer::read(&[0x22, 0xff]).is_err());
    }
}
