//! What Docker's API is, as facts: operations, parameters, and the fields of documents (`tests/schema/facts.py`).

pub mod known;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// An operation.
#[derive(Debug, Default)]
pub struct Operation {
    /// What it belongs to: `Container`, `Swarm`.
    pub tag: String,
    /// The names of its parameters behind the question mark.
    pub query: Vec<String>,
    /// The kind of the document that it takes.
    pub body: Option<String>,
    /// The statuses that it answers, with the kinds of what they hold.
    pub answers: BTreeMap<u16, String>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Facts {
    /// By `METHOD /path/{name}`.
    pub operations: BTreeMap<String, Operation>,
    /// The fields of documents, each with its kind; in front of a kind `!` for one that must be there and `?` for null.
    pub types: BTreeMap<String, BTreeMap<String, String>>,
}

/// What was found in answers.
#[derive(Debug, Default)]
pub struct Seen {
    /// `Type.Field`.
    pub fields: BTreeSet<String>,
    /// What is not as it should be, with where it was.
    pub wrong: BTreeSet<String>,
}

/// Those of the newest version that is answered.
pub fn facts() -> Facts {
    parse(include_str!("../../schema/docker-1.56.facts"))
}

fn parse(text: &str) -> Facts {
    let mut facts = Facts::default();
    let (mut operation, mut document) = (String::new(), String::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (line.starts_with(' '), words.as_slice()) {
            (false, ["operation", method, path, tag]) => {
                operation = format!("{method} {path}");
                let new = Operation { tag: (*tag).to_owned(), ..Operation::default() };
                facts.operations.insert(operation.clone(), new);
                document.clear();
            }
            (false, ["type", name]) => {
                (*name).clone_into(&mut document);
                facts.types.insert(document.clone(), BTreeMap::new());
            }
            (true, [field, kind]) if !document.is_empty() => {
                let fields = facts.types.entry(document.clone()).or_default();
                fields.insert((*field).to_owned(), (*kind).to_owned());
            }
            (true, [place, rest @ ..]) => {
                let Some(current) = facts.operations.get_mut(&operation) else { continue };
                match (*place, rest) {
                    ("query", [name, ..]) => current.query.push((*name).to_owned()),
                    ("body", [kind]) => current.body = Some((*kind).to_owned()),
                    ("status", [status, kind @ ..]) => {
                        let status = status.parse().unwrap_or(0);
                        current.answers.insert(status, kind.first().map(|kind| (*kind).to_owned()).unwrap_or_default());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    facts
}

impl Facts {
    /// The operation that a method and a path (without version and query) are.
    pub fn operation(&self, method: &str, path: &str) -> Option<&str> {
        let fits = |pattern: &str| {
            let (wanted, given): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
            // The names of images have slashes in them.
            if let (Some(at), true) = (wanted.iter().position(|word| *word == "{name}"), given.len() >= wanted.len()) {
                let after = wanted.len() - at - 1;
                return wanted[..at] == given[..at] && wanted[at + 1..] == given[given.len() - after..];
            }
            wanted.len() == given.len()
                && wanted.iter().zip(&given).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
        };
        let all = self
            .operations
            .keys()
            .filter(|key| key.split_once(' ').is_some_and(|(wanted, pattern)| wanted == method && fits(pattern)));
        // `/containers/json` before `/containers/{id}`.
        all.min_by_key(|key| key.matches('{').count()).map(String::as_str)
    }

    /// Compares a document with its kind; `extra` are fields `Type.Field` that are known not to be in the schema,
    /// or to be null where it does not say so.
    pub fn compare(&self, value: &Value, kind: &str, place: &str, extra: &BTreeSet<String>, seen: &mut Seen) {
        let kind = kind.trim_start_matches('!');
        let (nullable, kind) = kind.strip_prefix('?').map_or((false, kind), |rest| (true, rest));
        let mut wrong = |why: &str| {
            seen.wrong
                .insert(format!("{place} ({kind}): {why}: {}", value.to_string().chars().take(80).collect::<String>()));
        };
        if value.is_null() {
            // Go writes lists, maps and documents that are not there as null.
            if !nullable && matches!(kind, "string" | "integer" | "number" | "boolean") {
                wrong("null");
            }
            return;
        }
        match kind {
            "any" => {}
            "string" if value.is_string() => {}
            "integer" if value.is_i64() || value.is_u64() => {}
            "number" if value.is_number() => {}
            "boolean" if value.is_boolean() => {}
            "string" | "integer" | "number" | "boolean" => wrong("another type"),
            _ if kind.starts_with('[') => match value.as_array() {
                Some(list) => {
                    list.iter().for_each(|one| self.compare(one, &kind[1..], &format!("{place}[]"), extra, seen))
                }
                None => wrong("no list"),
            },
            _ if kind.starts_with('{') => match value.as_object() {
                Some(map) => {
                    map.values().for_each(|one| self.compare(one, &kind[1..], &format!("{place}{{}}"), extra, seen))
                }
                None => wrong("no map"),
            },
            _ => match (self.types.get(kind), value.as_object()) {
                (Some(fields), Some(map)) => {
                    for (name, inner) in map {
                        let field = format!("{kind}.{name}");
                        match fields.get(name) {
                            Some(_) if inner.is_null() && extra.contains(&field) => {}
                            Some(kind) => self.compare(inner, kind, &format!("{place}.{name}"), extra, seen),
                            None if extra.contains(&field) => {}
                            None => drop(seen.wrong.insert(format!("{place}.{name} ({kind}): not in the schema"))),
                        }
                        seen.fields.insert(field);
                    }
                    let missing =
                        fields.iter().filter(|(name, kind)| kind.starts_with('!') && !map.contains_key(*name));
                    for (name, _) in missing {
                        seen.wrong.insert(format!("{place}.{name} ({kind}): must be there"));
                    }
                }
                (None, _) => wrong("no such type"),
                (_, None) => wrong("no document"),
            },
        }
    }

    /// The types that a kind is made of.
    pub fn within(&self, kind: &str, all: &mut BTreeSet<String>) {
        let name = kind.trim_start_matches(['!', '?', '[', '{']);
        if let Some(fields) = self.types.get(name)
            && all.insert(name.to_owned())
        {
            fields.values().for_each(|inner| self.within(inner, all));
        }
    }

    /// Each field of a document, the inner ones included, as `Type.Field` and a document in which its value is of a wrong type.
    pub fn wrongly(&self, kind: &str, depth: usize) -> Vec<(String, Value)> {
        let Some(fields) = self.types.get(kind) else { return Vec::new() };
        let mut all = Vec::new();
        for (name, shape) in fields {
            let shape = shape.trim_start_matches(['!', '?']);
            all.push((format!("{kind}.{name}"), json!({ name: wrong_value(shape) })));
            let inner = shape.trim_start_matches(['[', '{']);
            if depth > 0 {
                let lists: Vec<char> = shape.chars().take_while(|letter| matches!(letter, '[' | '{')).collect();
                for (field, document) in self.wrongly(inner, depth - 1) {
                    let wrapped = lists.iter().rev().fold(document, |document, letter| match letter {
                        '[' => json!([document]),
                        _ => json!({ "80/tcp": document }),
                    });
                    all.push((field, json!({ name: wrapped })));
                }
            }
        }
        all
    }
}

fn wrong_value(shape: &str) -> Value {
    match shape.chars().next() {
        Some('[' | '{') => json!(7),
        _ if shape == "string" => json!([7]),
        _ => json!("x"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_found() {
        let facts = facts();
        for (line, wanted) in [
            ("GET /containers/json", "GET /containers/json"),
            ("GET /containers/abc/json", "GET /containers/{id}/json"),
            ("DELETE /images/a/b", "DELETE /images/{name}"),
            ("GET /images/a/b/json", "GET /images/{name}/json"),
            ("GET /images/json", "GET /images/json"),
            ("GET /images/get", "GET /images/get"),
        ] {
            let (method, path) = line.split_once(' ').unwrap();
            assert_eq!(facts.operation(method, path), Some(wanted));
        }
        assert_eq!(facts.operation("GET", "/nosuch"), None);
        assert!(facts.types["ContainerSummary"].contains_key("Mounts"));
    }

    #[test]
    fn drift_is_found() {
        let facts = facts();
        let mut seen = Seen::default();
        let document = json!({"Id": 5, "Nosuch": 1, "Names": null, "Ports": [{"IP": "x"}]});
        facts.compare(&document, "ContainerSummary", "list", &BTreeSet::new(), &mut seen);
        assert_eq!(seen.wrong.len(), 4, "{:?}", seen.wrong);
        assert!(seen.fields.contains("PortSummary.IP"));
    }
}
