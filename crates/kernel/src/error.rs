//! The one error of this crate: a system call that failed, printed as strace prints it.

use std::fmt;

use rustix::io::Errno;

/// Shorthand for a result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A system call that failed.
///
/// Prints as `fsmount(proc): EPERM (Operation not permitted)`; lines that the kernel left in a file system context's
/// log follow after a semicolon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    call: String,
    errno: Errno,
    log: Vec<String>,
}

impl Error {
    /// `call` is the system call with its arguments, as strace would print it.
    pub fn new(call: impl Into<String>, errno: Errno) -> Self {
        Self { call: call.into(), errno, log: Vec::new() }
    }

    /// With the lines that the kernel logged about the failure.
    #[must_use]
    pub fn with_log(mut self, log: Vec<String>) -> Self {
        self.log = log;
        self
    }

    /// The call with its arguments.
    #[must_use]
    pub fn call(&self) -> &str {
        &self.call
    }

    /// What the kernel answered.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// What the kernel logged about it; usually empty.
    #[must_use]
    pub fn log(&self) -> &[String] {
        &self.log
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.call, describe(self.errno))?;
        for line in &self.log {
            write!(formatter, "; kernel: {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// `EPERM (Operation not permitted)`.
#[must_use]
pub fn describe(errno: Errno) -> String {
    let io = std::io::Error::from_raw_os_error(errno.raw_os_error());
    let text = io.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match name(errno) {
        Some(name) => format!("{name} ({text})"),
        None => format!("errno {} ({text})", errno.raw_os_error()),
    }
}

/// The symbolic name, such as `ENOENT`, of those error numbers that this program's system calls can return.
#[must_use]
pub fn name(errno: Errno) -> Option<&'static str> {
    macro_rules! names {
        ($($name:ident)*) => {
            match errno.raw_os_error() {
                $(libc::$name => Some(stringify!($name)),)*
                _ => None,
            }
        };
    }
    names! {
        EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST
        EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM
        ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENODATA ETIME ENOLINK EPROTO EBADMSG EOVERFLOW
        EILSEQ EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP
        EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET
        ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE
        EUCLEAN EREMOTEIO EDQUOT ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED ELIBBAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_like_strace() {
        let error = Error::new("fsmount(proc)", Errno::PERM).with_log(vec!["e proc: no".to_owned()]);
        assert_eq!(error.to_string(), "fsmount(proc): EPERM (Operation not permitted); kernel: e proc: no");
    }
}
