//! Which events are wanted. Keys must all hold, of the values of a key one; of labels all.

use super::{Event, Type};
use crate::error::{Error, Kind, Result};

/// The keys that Docker knows.
const KEYS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// Conditions on events. Without any, every event is wanted.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    conditions: Vec<(String, String)>,
}

impl EventFilter {
    /// Adds a condition, such as `container` and `web`.
    ///
    /// # Errors
    /// [`Kind::InvalidArgument`] for a key that does not exist.
    pub fn add(&mut self, key: &str, value: &str) -> Result<()> {
        if !KEYS.contains(&key) {
            return Err(Error::new(Kind::InvalidArgument, format!("invalid filter '{key}'")));
        }
        self.conditions.push((key.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Whether an event is wanted.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        let labels = self.of("label").all(|label| {
            let (key, value) = label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value)));
            event.attributes.get(key).is_some_and(|found| value.is_none_or(|value| found == value))
        });
        labels
            && self.any("event", |action| {
                // `exec_start` also means `exec_start: ls`.
                event.action == action || event.action.split_once(": ").is_some_and(|(head, _)| head == action)
            })
            && self.any("type", |name| event.kind.name() == name)
            && self.any("scope", |scope| scope == "local")
            && self.any("container", |name| event.kind == Type::Container && is_named(event, name))
            && self.any("volume", |name| event.kind == Type::Volume && is_named(event, name))
            && self.any("network", |name| event.kind == Type::Network && is_named(event, name))
            && self.any("daemon", |name| event.kind == Type::Daemon && is_named(event, name))
            && self.any("image", |name| is_image(event, name))
            && ["config", "node", "plugin", "secret", "service"].iter().all(|key| self.of(key).next().is_none())
    }

    fn of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.conditions.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn any(&self, key: &str, mut holds: impl FnMut(&str) -> bool) -> bool {
        self.of(key).next().is_none() || self.of(key).any(&mut holds)
    }
}

/// Docker takes the beginning of an identifier, or of a name.
fn is_named(event: &Event, wanted: &str) -> bool {
    event.actor.starts_with(wanted) || event.attributes.get("name").is_some_and(|name| name.starts_with(wanted))
}

/// An image's own events, and those of containers made from it; with or without tag.
fn is_image(event: &Event, wanted: &str) -> bool {
    let bare = |name: &str| match name.rsplit_once(':') {
        Some((front, tag)) if !tag.contains('/') => front.to_owned(),
        _ => name.to_owned(),
    };
    let same = |name: &str| name == wanted || bare(name) == wanted;
    match event.kind {
        Type::Image => same(&event.actor) || event.attributes.get("name").is_some_and(|name| same(name)),
        Type::Container => event.attributes.get("image").is_some_and(|name| same(name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let event = Event {
            time: 1,
            kind: Type::Container,
            action: "exec_start: ls -l".into(),
            actor: "0123".into(),
            attributes: [("name", "web"), ("image", "busybox:1"), ("tier", "front")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        };
        let holds = |pairs: &[(&str, &str)]| {
            let mut filter = EventFilter::default();
            pairs.iter().for_each(|(key, value)| filter.add(key, value).unwrap());
            filter.matches(&event)
        };
        for (pairs, expected) in [
            (&[][..], true),
            (&[("type", "container"), ("event", "exec_start")], true),
            (&[("event", "exec_start: ls -l")], true),
            (&[("event", "start")], false),
            (&[("event", "start"), ("event", "exec_start")], true),
            (&[("container", "web")], true),
            (&[("container", "012")], true),
            (&[("container", "x")], false),
            (&[("image", "busybox")], true),
            (&[("image", "busy")], false),
            (&[("label", "tier=front"), ("label", "tier")], true),
            (&[("label", "tier=back")], false),
            (&[("network", "web")], false),
        ] {
            assert_eq!(holds(pairs), expected, "{pairs:?}");
        }
        assert!(EventFilter::default().add("foo", "x").is_err());
    }
}
