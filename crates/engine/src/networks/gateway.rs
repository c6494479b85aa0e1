//! Which of its networks is a container's way out. Pure.
//!
//! Docker's rule: the highest priority, then the first name in the order of the alphabet; only networks that lead out.

use super::options::NetworkRequest;
use super::record::{Driver, Network, Place};
use std::cmp::Reverse;
use std::net::IpAddr;

/// A container on a network, with all that decides.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    /// The network.
    pub network: Network,
    /// What was asked for.
    pub request: NetworkRequest,
    /// What it got.
    pub place: Place,
}

impl Attached {
    fn leads_out(&self, ipv6: bool) -> bool {
        !self.network.settings.internal
            && self.network.settings.driver != Driver::Null
            && self.place.gateway(ipv6).is_some()
    }
}

/// The ways out: for IPv4 and IPv6, each the position in `all` of the network that is it.
pub(crate) fn ways_out(all: &[Attached]) -> [Option<usize>; 2] {
    [false, true].map(|ipv6| {
        let candidates = all.iter().enumerate().filter(|(_, each)| each.leads_out(ipv6));
        let best = candidates.min_by_key(|(_, each)| (Reverse(each.request.gateway_priority), &each.network.name));
        best.map(|(position, _)| position)
    })
}

/// The default routes: device inside and gateway.
pub(crate) fn routes(all: &[Attached]) -> Vec<(String, IpAddr)> {
    let [four, six] = ways_out(all);
    let route = |position: Option<usize>, ipv6| {
        let place = &all.get(position?)?.place;
        Some((place.interface.clone(), place.gateway(ipv6)?))
    };
    route(four, false).into_iter().chain(route(six, true)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::record::NetworkSettings;
    use super::*;

    fn attached(name: &str, priority: i32, internal: bool) -> Attached {
        let settings = NetworkSettings { internal, ..NetworkSettings::default() };
        let network = Network {
            id: name.into(),
            name: name.into(),
            created_at: String::new(),
            interface: String::new(),
            settings,
        };
        let request = NetworkRequest { gateway_priority: priority, ..NetworkRequest::named(name) };
        Attached { network, request, place: Place { gateway4: "10.0.0.1".parse().ok(), ..Place::default() } }
    }

    #[test]
    fn order() {
        let chosen = |all: &[Attached]| ways_out(all)[0].map(|position| all[position].network.name.clone());
        assert_eq!(chosen(&[attached("b", 0, false), attached("a", 0, false)]).as_deref(), Some("a"));
        assert_eq!(chosen(&[attached("a", 0, false), attached("b", 1, false)]).as_deref(), Some("b"));
        assert_eq!(chosen(&[attached("a", 9, true), attached("b", 0, false)]).as_deref(), Some("b"));
        assert_eq!(chosen(&[attached("a", 0, true)]), None);
        assert_eq!(ways_out(&[attached("a", 0, false)])[1], None, "no IPv6");
    }
}
