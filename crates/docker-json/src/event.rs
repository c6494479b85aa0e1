//! An event as `GET /events` streams it, and as `docker events` prints it.

use engine::Event;
use jiff::Timestamp;
use serde_json::{Value, json};

/// As JSON, with the fields that older clients read.
pub fn value(event: &Event) -> Value {
    let mut value = json!({
        "Type": event.kind.name(),
        "Action": event.action,
        "Actor": { "ID": event.actor, "Attributes": event.attributes },
        "scope": "local",
        "time": event.time / 1_000_000_000,
        "timeNano": event.time,
    });
    if let (engine::events::Type::Container | engine::events::Type::Image, Some(map)) =
        (event.kind, value.as_object_mut())
    {
        map.insert("status".into(), event.action.clone().into());
        map.insert("id".into(), event.actor.clone().into());
        if let Some(image) = event.attributes.get("image") {
            map.insert("from".into(), image.clone().into());
        }
    }
    value
}

/// As templates see it.
pub fn fields(event: &Event) -> Value {
    let from = event.attributes.get("image").cloned().unwrap_or_default();
    json!({
        "Type": event.kind.name(),
        "Action": event.action,
        "Actor": { "ID": event.actor, "Attributes": event.attributes },
        "Status": event.action,
        "ID": event.actor,
        "From": from,
        "Scope": "local",
        "Time": event.time / 1_000_000_000,
        "TimeNano": event.time,
    })
}

/// As a line.
pub fn line(event: &Event) -> String {
    // The years that a 64-bit number of nanoseconds can hold are all years of this calendar.
    let time = Timestamp::from_nanosecond(event.time.into()).map(|time| format!("{time:.9}")).unwrap_or_default();
    let mut line = format!("{time} {} {} {}", event.kind.name(), plain(&event.action), plain(&event.actor));
    if !event.attributes.is_empty() {
        let pairs: Vec<String> =
            event.attributes.iter().map(|(key, value)| format!("{}={}", plain(key), plain(value))).collect();
        line.push_str(&format!(" ({})", pairs.join(", ")));
    }
    line
}

/// Labels and commands are other people's: none of them may begin a line or move the cursor.
fn plain(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_prints_it() {
        let event = Event {
            time: 1_767_355_200_000_000_005,
            kind: engine::events::Type::Container,
            action: "die".into(),
            actor: "abc".into(),
            attributes: [("name", "web"), ("exitCode", "3"), ("image", "busybox")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        };
        assert_eq!(
            line(&event),
            "2026-01-02T12:00:00.000000005Z container die abc (exitCode=3, image=busybox, name=web)"
        );
        let hostile = Event { action: "exec_create: a\nb".into(), attributes: Default::default(), ..event.clone() };
        assert!(line(&hostile).ends_with("container exec_create: a\\nb abc"));
        let value = value(&event);
        assert_eq!(
            (&value["status"], &value["from"], &value["time"]),
            (&json!("die"), &json!("busybox"), &json!(1_767_355_200))
        );
    }
}
