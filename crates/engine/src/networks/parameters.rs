//! Kernel parameters of a container's own interface, as an option of its place on a network
//! (`com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,…`): `--sysctl` cannot name an interface
//! that is not there yet.

use super::options::NetworkRequest;
use crate::error::{Error, Kind, Result};

/// The option's name.
pub(super) const OPTION: &str = "com.docker.network.endpoint.sysctls";

/// The parameters that are asked for, as paths below `/proc/sys` of this interface, and their values.
///
/// # Errors
/// [`Kind::InvalidArgument`] for what is no parameter of an interface.
pub(super) fn asked(request: &NetworkRequest, interface: &str) -> Result<Vec<(String, String)>> {
    let Some(text) = request.driver_options.get(OPTION) else { return Ok(Vec::new()) };
    text.split(',').map(|each| one(each.trim(), interface)).collect()
}

fn one(text: &str, interface: &str) -> Result<(String, String)> {
    let parsed = text.split_once('=').and_then(|(name, value)| {
        let parts: Vec<&str> = name.split('.').collect();
        let ["net", family @ ("ipv4" | "ipv6" | "mpls"), kind @ ("conf" | "neigh"), "IFNAME", parameter] = *parts
        else {
            return None;
        };
        let is_name = !parameter.is_empty()
            && parameter.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let is_value = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
        (is_name && is_value).then(|| (format!("net/{family}/{kind}/{interface}/{parameter}"), value.to_owned()))
    });
    parsed.ok_or_else(|| {
        let message = format!("invalid {OPTION}: {text:?} is not of the form net.ipv4.conf.IFNAME.PARAMETER=VALUE");
        Error::new(Kind::InvalidArgument, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_an_interface() {
        let parsed = |text: &str| {
            let mut request = NetworkRequest::named("wire");
            request.driver_options.insert(OPTION.into(), text.into());
            asked(&request, "eth0.7")
        };
        assert_eq!(asked(&NetworkRequest::named("wire"), "eth0").unwrap(), []);
        let pair = |path: &str, value: &str| (path.to_owned(), value.to_owned());
        assert_eq!(
            parsed("net.ipv4.conf.IFNAME.log_martians=1, net.ipv6.neigh.IFNAME.gc_stale_time=60").unwrap(),
            [pair("net/ipv4/conf/eth0.7/log_martians", "1"), pair("net/ipv6/neigh/eth0.7/gc_stale_time", "60")]
        );
        for bad in [
            "",
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.all.log_martians=1",
            "net.ipv4.conf.eth0.log_martians=1",
            "net.ipv4.conf.IFNAME.log_martians",
            "net.ipv4.conf.IFNAME.log_martians=",
            "net.ipv4.conf.IFNAME.=1",
            "net.ipv4.conf.IFNAME.../../x=1",
            "net.ipv4.conf.IFNAME.a/b=1",
            "net.ipv4.conf.IFNAME.log_martians=1\n2",
            "net.core.conf.IFNAME.x=1",
            "kernel.conf.IFNAME.x=1",
            "net.ipv4.conf.IFNAME.log_martians=1,",
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }
}
