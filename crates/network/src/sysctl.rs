//! Network settings under `/proc/sys/net`, of the network namespace of the calling thread.
//!
//! A name in a path (an interface) never contains a slash: [`crate::links::check_name`] ran before.

use crate::error::{Error, failed_io};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;

/// A setting that we changed and what it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Below `/proc/sys`, for example `net/ipv4/ip_forward`.
    pub setting: String,
    /// What stood there before.
    pub before: String,
    /// What stands there now.
    pub after: String,
}

/// Sets a value unless it stands there already. A setting that does not exist (no IPv6 in the kernel) is left alone.
///
/// # Errors
/// What `open` or `write` of the file give: `EROFS` where `/proc/sys` is read-only, `EACCES` without privilege.
pub fn set(setting: &str, value: &str) -> Result<Option<Changed>, Error> {
    let path = format!("/proc/sys/{setting}");
    let before = match fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed_io(format!("read({path:?})"), &error)),
    };
    if before == value {
        return Ok(None);
    }
    fs::write(&path, value).map_err(|error| failed_io(format!("write({path:?}, {value:?})"), &error))?;
    Ok(Some(Changed { setting: setting.to_owned(), before, after: value.to_owned() }))
}

/// Sets a value without reading it first: in a network namespace that was just made.
pub(crate) fn force(setting: &str, value: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/{setting}");
    match fs::write(&path, value) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(failed_io(format!("write({path:?}, {value:?})"), &error))
        }
        _ => Ok(()),
    }
}

/// Sets a value that somebody wants: a setting that does not exist is an error.
pub(crate) fn require(setting: &str, value: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/{setting}");
    fs::write(&path, value).map_err(|error| failed_io(format!("write({path:?}, {value:?})"), &error))
}

/// Whether the setting is there and has this value.
pub(crate) fn is(setting: &str, value: &str) -> bool {
    fs::read_to_string(format!("/proc/sys/{setting}")).is_ok_and(|text| text.trim() == value)
}

/// The kernel has IPv6.
pub(crate) fn has_ipv6() -> bool {
    fs::exists("/proc/sys/net/ipv6").unwrap_or_default()
}
