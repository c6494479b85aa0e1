//! `xray --tree`: who shares what on this host. Namespaces are read from the kernel; layers, volumes and networks from the
//! records, which say also who would share them.

use crate::containers::record::{Container, Status};
use crate::engine::Engine;
use crate::error::Result;
use crate::{MountSource, NetworkMode};
use std::collections::{BTreeMap, HashMap};

/// Something that is shared, and below it who shares it, or what lies upon it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// What it is.
    pub name: String,
    /// What there is to know of it; empty if nothing.
    pub note: String,
    /// Who shares it.
    pub below: Vec<Shared>,
}

impl Shared {
    fn new(name: impl Into<String>, note: impl Into<String>) -> Shared {
        Shared { name: name.into(), note: note.into(), below: Vec::new() }
    }
}

impl Engine {
    /// Looks at all containers together: namespaces, networks, volumes, layers, a tree of each.
    pub fn shares(&self) -> Result<Vec<Shared>> {
        let containers = self.list(true)?;
        let part = |name: &str, below| Shared { name: name.into(), note: String::new(), below };
        Ok(vec![
            part("Namespaces", namespaces(&containers)),
            part("Networks", networks(&containers)),
            part("Volumes", volumes(&containers)),
            part("Layers", self.layer_trees(&containers)?),
        ])
    }

    /// Layers upon layers, as images have them, with images and containers on top.
    fn layer_trees(&self, containers: &[Container]) -> Result<Vec<Shared>> {
        let mut top = Shared::default();
        let rows = crate::images::table::all(self.database()?.read())?;
        let mut layers: HashMap<String, Vec<String>> =
            rows.iter().map(|row| (row.id.clone(), row.layers.clone())).collect();
        for image in self.summaries(rows)? {
            let layers = layers.remove(&image.id).unwrap_or_default();
            let name = image.names.first().cloned().unwrap_or_else(|| short(&image.id).to_owned());
            place(&mut top, &layers).below.push(Shared::new(name, "image"));
        }
        for container in containers {
            let leaf = Shared::new(container.name.clone(), format!("container, {}", container.status.name()));
            place(&mut top, &container.settings.layers).below.push(leaf);
        }
        Ok(top.below)
    }
}

/// The topmost of some layers, made where it is missing.
fn place<'a>(tree: &'a mut Shared, layers: &[String]) -> &'a mut Shared {
    let mut here = tree;
    for layer in layers {
        let name = short(layer);
        let index = here.below.iter().position(|each| each.note == "layer" && each.name == name).unwrap_or_else(|| {
            here.below.push(Shared::new(name, "layer"));
            here.below.len() - 1
        });
        here = &mut here.below[index];
    }
    here
}

fn short(digest: &str) -> &str {
    let bare = digest.trim_start_matches("sha256:");
    bare.get(..12).unwrap_or(bare)
}

/// Namespaces that more than one of the containers and the host have.
fn namespaces(containers: &[Container]) -> Vec<Shared> {
    let mut found: BTreeMap<(&str, String), Shared> = BTreeMap::new();
    let running = || containers.iter().filter(|each| matches!(each.status, Status::Running | Status::Paused));
    for name in ["cgroup", "ipc", "net", "pid", "time", "user", "uts"] {
        let link = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{name}")).ok();
        let own = link("self");
        for container in running() {
            // One that has just ended has none.
            let Some(inode) = link(&container.run.pid.to_string()) else { continue };
            let is_ours = own.as_ref() == Some(&inode);
            let inode = inode.to_string_lossy().into_owned();
            let group = found
                .entry((name, inode.clone()))
                .or_insert_with(|| Shared::new(inode.replace(':', " "), if is_ours { "the host's" } else { "" }));
            group.below.push(Shared::new(container.name.clone(), ""));
        }
    }
    found.into_values().filter(|group| !group.note.is_empty() || group.below.len() > 1).collect()
}

fn networks(containers: &[Container]) -> Vec<Shared> {
    let mut found: BTreeMap<String, Shared> = BTreeMap::new();
    let mut add = |network: &str, name: &str, note: String| {
        let group = found.entry(network.to_owned()).or_insert_with(|| Shared::new(network, ""));
        group.below.push(Shared::new(name, note));
    };
    for container in containers {
        match &container.settings.network {
            NetworkMode::Bridge => {
                for endpoint in &container.networks {
                    let address = endpoint.place.as_ref().and_then(|place| place.ipv4);
                    let note = address.map(|address| address.address().to_string()).unwrap_or_default();
                    add(&endpoint.network, &container.name, note);
                }
            }
            NetworkMode::Host => add("host", &container.name, String::new()),
            NetworkMode::None => {}
            NetworkMode::Container(id) => {
                let other = containers.iter().find(|other| other.id == *id).map_or(short(id), |other| &other.name);
                add(&format!("that of {other}"), &container.name, String::new());
            }
        }
    }
    found.into_values().collect()
}

fn volumes(containers: &[Container]) -> Vec<Shared> {
    let mut found: BTreeMap<(bool, String), Shared> = BTreeMap::new();
    for container in containers {
        for mount in &container.settings.mounts {
            let (is_bind, source) = match &mount.source {
                MountSource::Volume(volume) => (false, &volume.name),
                MountSource::Bind { path, .. } => (true, path),
                MountSource::Image(_) | MountSource::Tmpfs { .. } => continue,
            };
            let note = if is_bind { "of the host" } else { "" };
            let group = found.entry((is_bind, source.clone())).or_insert_with(|| Shared::new(source, note));
            let access = if mount.read_only { ", read-only" } else { "" };
            group.below.push(Shared::new(container.name.clone(), format!("{}{access}", mount.target)));
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_shared_from_below() {
        let layers =
            |names: &[&str]| names.iter().map(|name| format!("sha256:{}", name.repeat(12))).collect::<Vec<_>>();
        let mut tree = Shared::default();
        place(&mut tree, &layers(&["a"])).below.push(Shared::new("base", "image"));
        place(&mut tree, &layers(&["a", "b"])).below.push(Shared::new("app", "image"));
        place(&mut tree, &layers(&["a", "b"])).below.push(Shared::new("box", "container"));
        place(&mut tree, &layers(&["c"])).below.push(Shared::new("other", "image"));
        let names = |node: &Shared| node.below.iter().map(|each| each.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&tree), ["aaaaaaaaaaaa", "cccccccccccc"]);
        assert_eq!(names(&tree.below[0]), ["base", "bbbbbbbbbbbb"]);
        assert_eq!(names(&tree.below[0].below[1]), ["app", "box"]);
    }
}
