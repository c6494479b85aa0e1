//! Finding what a container that is gone left on the host.
//!
//! The kernel removes a pair when the container's namespace ends; one that stays belongs to a namespace that something
//! still holds, or to a start that was killed half way. Elements of the maps are `ensure_rules`'s.

use crate::bridge::remove_link;
use crate::error::Error;
use crate::links;

/// Whether a device's name is one that [`crate::host_interface`] makes.
pub fn is_ours(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("dh") else { return false };
    let (id, index) = rest.split_at_checked(11).unwrap_or(("", ""));
    id.len() == 11
        && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && (index.is_empty() || (index.len() == 1 && index.bytes().all(|byte| byte.is_ascii_lowercase())))
}

/// Removes the host's ends of pairs that are ours by name and of which `is_alive` knows nothing. Returns their names.
///
/// # Errors
/// The kernel's refusal of the list or of a removal.
pub fn sweep(is_alive: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for link in links::list()? {
        let is_veth = link.kind.as_deref() == Some("veth");
        if is_veth && is_ours(&link.name) && !is_alive(&link.name) {
            remove_link(&link.name)?;
            removed.push(link.name);
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names() {
        for name in ["dh0123456789a", "dh0123456789ag"] {
            assert!(is_ours(name), "{name}");
        }
        for name in ["", "dh", "dhcp0", "dhow0", "dh0123456789", "dh0123456789A", "dh0123456789agg", "dh012345678é0"] {
            assert!(!is_ours(name), "{name}");
        }
        assert!(is_ours(&crate::host_interface("fedcba9876543210", 3)));
    }
}
