//! CNI plugins: networks of pods, as Kubernetes has them made (github.com/containernetworking/cni, SPEC.md, versions 0.4.0 to
//! 1.1.0).
//!
//! - [`NetworkList`]: a network's configuration, a list of plugins
//! - [`Cni`]: ADD, CHECK, DEL, GC over that list
//! - `plugin`: one plugin executed once; `cache`: what is remembered of each attachment
//!
//! An attachment is recorded before its first plugin is executed, with the configuration that was used, and forgotten after
//! the last DEL. So DEL uses what ADD used whatever has become of the file since, and what a kill left is found by GC.

mod cache;
mod list;
mod plugin;

use crate::error::{Error, Kind, Result};
use cache::{Cache, Entry};
pub use list::NetworkList;
use plugin::Call;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// The interface that a pod has on its network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Identifier of the pod, as the plugins are told it.
    pub container: String,
    /// Its network namespace, a path; for DEL it may be gone.
    pub namespace: PathBuf,
    /// Name of the interface.
    pub interface: String,
    /// Ports of the host that lead to the pod; for plugins with the capability `portMappings`.
    pub ports: Vec<PortMapping>,
    /// What plugins are told besides (`CNI_ARGS`), such as the pod's name and namespace.
    pub arguments: Vec<(String, String)>,
}

/// A port of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortMapping {
    /// On the host.
    pub host_port: u16,
    /// In the pod.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// An address of the host; every one where it is empty.
    #[serde(rename = "hostIP", skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
}

/// Where plugins are, and where is remembered what they were asked for.
#[derive(Clone, Debug)]
pub struct Cni {
    plugins: Vec<PathBuf>,
    cache: Cache,
}

impl crate::Engine {
    /// CNI plugins of these directories; what they are asked for is remembered beside this engine's containers.
    pub fn cni(&self, plugins: Vec<PathBuf>) -> Cni {
        Cni::new(plugins, self.directories().data.join("cni"))
    }
}

impl Cni {
    /// Plugins are looked for in these directories, in this order; results are kept in `cache`.
    pub fn new(plugins: Vec<PathBuf>, cache: PathBuf) -> Cni {
        Cni { plugins, cache: Cache::new(cache) }
    }

    /// Attaches a pod to a network, and returns the result of the last plugin.
    ///
    /// # Errors
    /// [`Kind::Conflict`] for an attachment that is there already; the first plugin's refusal, after all plugins have been asked
    /// to undo what they had done.
    pub fn add(&self, list: &NetworkList, attachment: &Attachment) -> Result<Value> {
        check_names(attachment)?;
        if self.cache.read(list, attachment)?.is_some() {
            let message = format!(
                "{} is on the CNI network {} already, by {}",
                attachment.container, list.name, attachment.interface
            );
            return Err(Error::new(Kind::Conflict, message));
        }
        let entry = Entry { attachment: attachment.clone(), list: list.clone(), result: None };
        self.cache.write(&entry)?;
        let mut result = None;
        for plugin in &list.plugins {
            match self.call("ADD", list, plugin, attachment, result.as_ref(), Map::new()) {
                Ok(new) => result = new.or(result),
                Err(error) => {
                    // The first error is the one to report; what stays is in the cache, for DEL and GC.
                    self.delete_entry(&Entry { result, ..entry }).unwrap_or_default();
                    return Err(error);
                }
            }
        }
        let entry = Entry { result, ..entry };
        self.cache.write(&entry)?;
        Ok(entry.result.unwrap_or_else(|| json!({ "cniVersion": list.version })))
    }

    /// Asks all plugins whether an attachment is as they made it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for one that was not made here; the first plugin that finds something wrong.
    pub fn check(&self, list: &NetworkList, attachment: &Attachment) -> Result<()> {
        let Some(entry) = self.cache.read(list, attachment)? else {
            let message =
                format!("{} is not on the CNI network {} by {}", attachment.container, list.name, attachment.interface);
            return Err(Error::new(Kind::NotFound, message));
        };
        if entry.list.disable_check || !entry.list.is_at_least(0, 4) {
            return Ok(());
        }
        let namespace = if attachment.namespace.as_os_str().is_empty() {
            &entry.attachment.namespace
        } else {
            &attachment.namespace
        };
        let attachment = Attachment { namespace: namespace.clone(), ..entry.attachment.clone() };
        for plugin in &entry.list.plugins {
            self.call("CHECK", &entry.list, plugin, &attachment, entry.result.as_ref(), Map::new())?;
        }
        Ok(())
    }

    /// Detaches a pod from a network; one that is not on it is detached already, as far as is known here.
    ///
    /// # Errors
    /// The refusal of a plugin. What it had to undo is remembered, and is tried again by the next DEL or GC.
    pub fn delete(&self, list: &NetworkList, attachment: &Attachment) -> Result<()> {
        check_names(attachment)?;
        let known = match self.cache.read(list, attachment) {
            Err(error) if error.kind() == Kind::Corrupt => None,
            read => read?,
        };
        // Plugins must take a DEL for what they never made: the pod may be another program's, or of before a lost cache.
        self.delete_entry(&known.unwrap_or_else(|| Entry {
            attachment: attachment.clone(),
            list: list.clone(),
            result: None,
        }))
    }

    fn delete_entry(&self, entry: &Entry) -> Result<()> {
        for plugin in entry.list.plugins.iter().rev() {
            let result = entry.result.as_ref().filter(|_| entry.list.is_at_least(0, 4));
            self.call("DEL", &entry.list, plugin, &entry.attachment, result, Map::new())?;
        }
        self.cache.remove(&entry.list.name, &entry.attachment)
    }

    /// Detaches everything from a network that is not among `valid` (pod and interface), and has plugins of version 1.1 clean up
    /// what they know besides; nothing where the configuration says `disableGC`. Returns what was detached.
    ///
    /// # Errors
    /// The first plugin's refusal, after everything has been tried.
    pub fn collect(&self, list: &NetworkList, valid: &[(String, String)]) -> Result<Vec<Attachment>> {
        if list.disable_collection {
            return Ok(Vec::new());
        }
        let is_valid = |of: &Attachment| valid.iter().any(|(id, name)| *id == of.container && *name == of.interface);
        let (mut gone, mut first) = (Vec::new(), None);
        for entry in self.cache.of_network(list)?.into_iter().filter(|entry| !is_valid(&entry.attachment)) {
            match self.delete_entry(&entry) {
                Ok(()) => gone.push(entry.attachment),
                Err(error) => first = first.or(Some(error)),
            }
        }
        if list.is_at_least(1, 1) {
            let valid: Vec<Value> =
                valid.iter().map(|(id, name)| json!({ "containerID": id, "ifname": name })).collect();
            let further = Map::from_iter([
                ("cni.dev/valid-attachments".to_owned(), json!(valid)),
                ("cni.dev/attachments".to_owned(), json!(valid)),
            ]);
            for plugin in &list.plugins {
                let asked = self.call("GC", list, plugin, &Attachment::default(), None, further.clone());
                first = first.or(asked.err());
            }
        }
        first.map_or(Ok(gone), Err)
    }

    /// A network's configuration, or where its file is gone, as one of its attachments remembers it: what was attached can be
    /// detached.
    ///
    /// # Errors
    /// As [`NetworkList::find`], if there is no attachment either.
    pub fn known(&self, directory: &Path, network: &str) -> Result<NetworkList> {
        match NetworkList::find(directory, network) {
            Err(error) if error.kind() == Kind::NotFound => self.cache.remembered(network).ok_or(error),
            other => other,
        }
    }

    /// The result of an attachment's ADD, as it is remembered.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] for a file that cannot be read.
    pub fn result(&self, list: &NetworkList, attachment: &Attachment) -> Result<Option<Value>> {
        Ok(self.cache.read(list, attachment)?.and_then(|entry| entry.result))
    }

    fn call(
        &self,
        command: &'static str,
        list: &NetworkList,
        plugin: &Map<String, Value>,
        attachment: &Attachment,
        previous: Option<&Value>,
        further: Map<String, Value>,
    ) -> Result<Option<Value>> {
        let mut configuration = plugin.clone();
        configuration.insert("cniVersion".into(), json!(list.version));
        configuration.insert("name".into(), json!(list.name));
        let able = configuration.remove("capabilities").is_some_and(|able| able["portMappings"] == true);
        if able && !attachment.ports.is_empty() {
            configuration.insert("runtimeConfig".into(), json!({ "portMappings": attachment.ports }));
        }
        if let Some(previous) = previous {
            configuration.insert("prevResult".into(), previous.clone());
        }
        configuration.extend(further);
        Call { command, directories: &self.plugins, attachment, configuration }.execute()
    }
}

/// What goes into file names and to plugins: the specification's alphabets.
fn check_names(attachment: &Attachment) -> Result<()> {
    let Attachment { container, interface, .. } = attachment;
    let is_word = |text: &str| {
        text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    };
    if !is_word(container) || container.len() > 128 {
        return Err(Error::new(Kind::InvalidArgument, format!("{container:?} cannot be the identifier of a pod")));
    }
    // A list of words with semicolons between them (the specification's CNI_ARGS).
    let is_plain = |text: &str| !text.is_empty() && !text.contains([';', '=', '\0']);
    if let Some((key, value)) = attachment.arguments.iter().find(|(key, value)| !is_plain(key) || !is_plain(value)) {
        return Err(Error::new(Kind::InvalidArgument, format!("{key}={value} cannot be an argument of CNI plugins")));
    }
    if network::check_name(interface).is_err() {
        return Err(Error::new(Kind::InvalidArgument, format!("invalid interface name {interface:?}")));
    }
    Ok(())
}
