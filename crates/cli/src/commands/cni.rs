//! `cni add|check|del|gc`: a pod's network by CNI plugins, as Kubernetes has it made; the door for trying a configuration.

use super::{Group, verb};
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use engine::cni::{Attachment, Cni, NetworkList, PortMapping};
use std::path::PathBuf;

/// The group `cni`.
pub const GROUP: Group = Group {
    name: "cni",
    about: "Attach network namespaces to CNI networks",
    verbs: &[(&["add"], &ADD), (&["check"], &CHECK), (&["del"], &DEL), (&["gc"], &GC)],
};

/// Attach
const ADD: Verb =
    verb!(One, add, Other, "[OPTIONS] NETWORK ID NETNS", "Attach a network namespace, and print the plugins' result");
/// Check
const CHECK: Verb =
    verb!(One, check, Other, "[OPTIONS] NETWORK ID [NETNS]", "Check an attachment that was made by add");
/// Detach
const DEL: Verb = verb!(One, del, Other, "[OPTIONS] NETWORK ID [NETNS]", "Detach a network namespace; it may be gone");
/// Collect
const GC: Verb = verb!(Valid, gc, Other, "[OPTIONS] NETWORK", "Detach everything that is not named");

#[derive(Args)]
struct Places {
    /// Directory of the networks' configurations
    #[arg(long, value_name = "dir", default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
    /// Directory of plugins; may be given several times
    #[arg(long, value_name = "dir", default_values = ["/opt/cni/bin", "/usr/lib/cni"])]
    bin_dir: Vec<PathBuf>,
    /// Name of the network
    network: String,
}

#[derive(Args)]
struct One {
    #[command(flatten)]
    places: Places,
    /// Identifier of the pod
    id: String,
    /// Path of its network namespace
    netns: Option<PathBuf>,
    /// Name of its interface
    #[arg(long, value_name = "name", default_value = "eth0")]
    ifname: String,
    /// Further argument for the plugins (KEY=VALUE), such as K8S_POD_NAME=web
    #[arg(long = "arg", value_name = "list", value_parser = argument)]
    arguments: Vec<(String, String)>,
    /// Port of the host for a port of the pod ([ADDRESS:]HOST:POD[/PROTOCOL]), for plugins that map ports
    #[arg(short = 'p', long, value_name = "list", value_parser = mapping)]
    publish: Vec<PortMapping>,
}

#[derive(Args)]
struct Valid {
    #[command(flatten)]
    places: Places,
    /// An attachment that stays (ID/INTERFACE)
    #[arg(long, value_name = "list", value_parser = pair)]
    valid: Vec<(String, String)>,
}

fn mapping(text: &str) -> Result<PortMapping, String> {
    let wrong = || format!("{text:?} is not [ADDRESS:]HOST:POD[/PROTOCOL]");
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (host, pod) = ports.rsplit_once(':').ok_or_else(wrong)?;
    let (address, host) = host.rsplit_once(':').unwrap_or(("", host));
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(wrong());
    }
    let (host_port, container_port) = (host.parse().map_err(|_| wrong())?, pod.parse().map_err(|_| wrong())?);
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(format!("{protocol:?} is not tcp, udp or sctp"));
    }
    Ok(PortMapping { host_port, container_port, protocol: protocol.to_owned(), host_ip: address.to_owned() })
}

fn argument(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (id, name) = text.split_once('/').ok_or_else(|| format!("{text:?} is not ID/INTERFACE"))?;
    Ok((id.to_owned(), name.to_owned()))
}

fn open(session: &Session, places: &Places) -> Result<(Cni, NetworkList), Failure> {
    let engine = session.engine()?;
    Ok((engine.cni(places.bin_dir.clone()), NetworkList::find(&places.conf_dir, &places.network)?))
}

/// For what may have been attached before the configuration went.
fn open_known(session: &Session, places: &Places) -> Result<(Cni, NetworkList), Failure> {
    let cni = session.engine()?.cni(places.bin_dir.clone());
    let list = cni.known(&places.conf_dir, &places.network)?;
    Ok((cni, list))
}

fn attachment(flags: &One) -> Attachment {
    Attachment {
        container: flags.id.clone(),
        namespace: flags.netns.clone().unwrap_or_default(),
        interface: flags.ifname.clone(),
        ports: flags.publish.clone(),
        arguments: flags.arguments.clone(),
    }
}

fn add(session: &Session, flags: &One) -> Result<(), Failure> {
    if flags.netns.is_none() {
        return Err(Failure::new("cni add needs the path of a network namespace"));
    }
    let (cni, list) = open(session, &flags.places)?;
    let result = cni.add(&list, &attachment(flags))?;
    output::line(&result.to_string())
}

fn check(session: &Session, flags: &One) -> Result<(), Failure> {
    let (cni, list) = open_known(session, &flags.places)?;
    Ok(cni.check(&list, &attachment(flags))?)
}

fn del(session: &Session, flags: &One) -> Result<(), Failure> {
    let (cni, list) = open_known(session, &flags.places)?;
    Ok(cni.delete(&list, &attachment(flags))?)
}

fn gc(session: &Session, flags: &Valid) -> Result<(), Failure> {
    let (cni, list) = open_known(session, &flags.places)?;
    for gone in cni.collect(&list, &flags.valid)? {
        output::line(&format!("{}/{}", gone.container, gone.interface))?;
    }
    Ok(())
}
