//! What helpers of mount(8) add for file servers: the kernel mounts by number, and by a version that is said.
//!
//! mount.nfs(8) and mount.cifs(8) look a name up before they mount. Nothing calls them here, so `addr=NAME` is looked up at each
//! start, as Docker does: a name may have got another address since, and a server that is away keeps nobody from `create`.

use crate::error::{Error, Kind, Result};
use oci::runtime::{Mount, Spec};
use std::net::{IpAddr, ToSocketAddrs};

/// File systems whose option `addr` is that of a server (nfs(5), mount.cifs(8)).
const OF_SERVERS: &[&str] = &["cifs", "nfs", "nfs4", "smb3"];

/// Puts addresses in the places of names.
///
/// # Errors
/// [`Kind::Unavailable`] for a name that has no address.
pub(crate) fn resolve(spec: &mut Spec) -> Result<()> {
    spec.mounts.iter_mut().try_for_each(|mount| resolve_with(mount, look_up))
}

fn resolve_with(mount: &mut Mount, look_up: impl Fn(&str) -> Result<IpAddr>) -> Result<()> {
    let kind = mount.kind.as_deref().unwrap_or_default();
    if !OF_SERVERS.contains(&kind) {
        return Ok(());
    }
    let of_option = |option: &String| option.strip_prefix("addr=").map(str::to_owned);
    let found = mount.options.iter().enumerate().find_map(|(at, option)| Some((at, of_option(option)?)));
    match found {
        Some((_, name)) if name.parse::<IpAddr>().is_ok() => {}
        Some((at, name)) => mount.options[at] = format!("addr={}", look_up(&name)?),
        // `//server/share` names it already.
        None if matches!(kind, "cifs" | "smb3") => {
            let source = mount.source.as_deref().unwrap_or_default();
            let server = source.strip_prefix("//").and_then(|rest| rest.split('/').next());
            if let Some(server) = server.filter(|server| !server.is_empty()) {
                let address = server.parse().map_or_else(|_| look_up(server), Ok)?;
                mount.options.push(format!("addr={address}"));
            }
        }
        None => {}
    }
    mount.options.extend(version(kind, &mount.options).map(str::to_owned));
    Ok(())
}

/// mount(2) takes the third for `nfs` and the fourth for `nfs4`, where nothing is said; fsconfig(2) the second for both
/// (`NFS_DEFAULT_VERSION`, fs/nfs/internal.h), which hardly a server speaks (EPROTONOSUPPORT).
fn version(kind: &str, options: &[String]) -> Option<&'static str> {
    const SAID: [&str; 6] = ["vers=", "nfsvers=", "minorversion=", "v2", "v3", "v4"];
    if options.iter().any(|option| SAID.iter().any(|said| option.starts_with(said))) {
        return None;
    }
    match kind {
        "nfs" => Some("vers=3"),
        "nfs4" => Some("vers=4"),
        _ => None,
    }
}

fn look_up(name: &str) -> Result<IpAddr> {
    let failed = || format!("failed to mount local volume: error resolving passed in network volume address {name:?}");
    let mut found = (name, 0).to_socket_addrs().map_err(|error| Error::caused(Kind::Unavailable, failed(), error))?;
    found.next().map(|address| address.ip()).ok_or_else(|| Error::new(Kind::Unavailable, failed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(kind: &str, source: &str, options: &[&str]) -> Vec<String> {
        let mut mount = Mount {
            kind: Some(kind.to_owned()),
            source: Some(source.to_owned()),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            ..Mount::default()
        };
        let table = |name: &str| match name {
            "nas" => Ok(IpAddr::from([192, 0, 2, 7])),
            _ => Err(Error::new(Kind::Unavailable, name.to_owned())),
        };
        match resolve_with(&mut mount, table) {
            Ok(()) => mount.options,
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn names_become_addresses() {
        assert_eq!(resolved("nfs", ":/x", &["rw", "addr=nas", "v4.2"]), ["rw", "addr=192.0.2.7", "v4.2"]);
        assert_eq!(resolved("nfs4", ":/x", &["addr=nobody"]), ["nobody"]);
        // Numbers, and what only looks alike, stay.
        for option in ["addr=192.0.2.1", "addr=2001:db8::1", "clientaddr=nas"] {
            assert_eq!(resolved("nfs", ":/x", &[option]), [option, "vers=3"]);
        }
        assert_eq!(resolved("cifs", "//nas/share", &["ro"]), ["ro", "addr=192.0.2.7"]);
        assert_eq!(resolved("cifs", "//192.0.2.9/share", &[]), ["addr=192.0.2.9"]);
        assert_eq!(resolved("cifs", "//nobody/share", &[]), ["nobody"]);
        assert_eq!(resolved("nfs4", ":/x", &["soft"]), ["soft", "vers=4"]);
        assert_eq!(resolved("nfs4", ":/x", &["vers=4.1"]), ["vers=4.1"]);
        assert_eq!(resolved("nfs", ":/x", &["nfsvers=4"]), ["nfsvers=4"]);
        assert_eq!(resolved("tmpfs", "tmpfs", &["addr=nobody"]), ["addr=nobody"]);
    }
}
