//! Documents whose field names differ in case from the specification's, as Go's programs take them.
//!
//! encoding/json looks for a field by its exact name and then for one that differs in case alone; several of one field are
//! taken in their order, objects together. What runc reads so must not be lost here in silence: `Seccomp` and `maskedpaths`
//! would leave a container without its filter and its masks. Keys that are data (`annotations`, `sysctl`, `unified`) are taken
//! as they are. Nothing is paid for by documents with the right names: they are read as they come, and only looked at.

use std::cell::Cell;
use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// A document with other names is kept in memory as a whole, where few bytes can become many.
const LONGEST: usize = 1 << 20;

/// Reads a document in which the case of field names does not matter; an exact name is preferred.
///
/// # Errors
/// As serde_json's; a document of more than 1 MiB that has names in another case.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    let differs = Cell::new(false);
    let mut exact = serde_json::Deserializer::from_slice(text);
    let read = T::deserialize(Watched { inner: &mut exact, differs: &differs }).and_then(|value| {
        exact.end()?;
        Ok(value)
    });
    match differs.get() {
        false => read,
        true if text.len() > LONGEST => Err(serde::de::Error::custom("names of fields in another case than they have")),
        true => T::deserialize(Loose(serde_json::from_slice(text)?)),
    }
}

/// The field that a key means.
fn meant(key: &str, fields: &'static [&'static str]) -> Option<&'static str> {
    let exact = fields.iter().find(|field| **field == key);
    exact.or_else(|| fields.iter().find(|field| in_one_case(field).eq(in_one_case(key)))).copied()
}

/// Two letters beyond ASCII are another case of one of it (Unicode, CaseFolding.txt): the long s, and the sign of kelvin.
fn in_one_case(name: &str) -> impl Iterator<Item = char> {
    name.chars().map(|letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => letter.to_ascii_lowercase(),
    })
}

/// Something of serde's that hands everything on, and notices names in another case.
struct Watched<'a, T> {
    inner: T,
    differs: &'a Cell<bool>,
}

macro_rules! hand_on {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method($($argument,)* Watcher { inner: visitor, fields: &[], differs: self.differs })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Watched<'_, D> {
    type Error = D::Error;

    hand_on! {
        deserialize_any(); deserialize_bool(); deserialize_char(); deserialize_str(); deserialize_string();
        deserialize_i8(); deserialize_i16(); deserialize_i32(); deserialize_i64(); deserialize_f32(); deserialize_f64();
        deserialize_u8(); deserialize_u16(); deserialize_u32(); deserialize_u64(); deserialize_bytes();
        deserialize_byte_buf(); deserialize_option(); deserialize_unit(); deserialize_seq(); deserialize_map();
        deserialize_identifier(); deserialize_unit_struct(name: &'static str); deserialize_newtype_struct(name: &'static str);
        deserialize_tuple(length: usize); deserialize_tuple_struct(name: &'static str, length: usize);
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, Watcher { inner: visitor, fields, differs: self.differs })
    }

    // Words, not structures, in all that is read here.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_ignored_any(visitor)
    }
}

/// A visitor; of a structure, if `fields` is not empty.
struct Watcher<'a, V> {
    inner: V,
    fields: &'static [&'static str],
    differs: &'a Cell<bool>,
}

macro_rules! visit {
    ($($method:ident($type:ty);)*) => {$(
        fn $method<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watcher<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! { visit_bool(bool); visit_i64(i64); visit_u64(u64); visit_f64(f64); visit_str(&str); visit_string(String); }

    fn visit_borrowed_str<E: serde::de::Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.inner.visit_borrowed_str(value)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Watched { inner: deserializer, differs: self.differs })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Watched { inner: deserializer, differs: self.differs })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Entries { inner: elements, fields: &[], differs: self.differs })
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Entries { inner: entries, fields: self.fields, differs: self.differs })
    }
}

struct Entries<'a, A> {
    inner: A,
    fields: &'static [&'static str],
    differs: &'a Cell<bool>,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.inner.next_element_seed(Watched { inner: seed, differs: self.differs })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.fields {
            [] => self.inner.next_key_seed(seed),
            fields => self.inner.next_key_seed(Key { inner: seed, fields, differs: self.differs }),
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.next_value_seed(Watched { inner: seed, differs: self.differs })
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Watched<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        self.inner.deserialize(Watched { inner: deserializer, differs: self.differs })
    }
}

/// The name of a field.
struct Key<'a, T> {
    inner: T,
    fields: &'static [&'static str],
    differs: &'a Cell<bool>,
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        let Key { inner, fields, differs } = self;
        inner.deserialize(Key { inner: deserializer, fields, differs })
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Key<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let Key { inner, fields, differs } = self;
        inner.deserialize_str(Key { inner: visitor, fields, differs })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Key<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<V::Value, E> {
        if meant(key, self.fields).is_some_and(|field| field != key) {
            self.differs.set(true);
        }
        self.inner.visit_str(key)
    }
}

/// A value of a document in which field names may have another case.
struct Loose(Value);

/// The fields by the names that they have; several of one are one.
fn folded(map: Map<String, Value>, fields: &'static [&'static str]) -> Map<String, Value> {
    let mut all = Map::new();
    for (key, value) in map {
        let key = meant(&key, fields).map_or(key, str::to_owned);
        match all.get_mut(&key) {
            Some(before) => put_over(before, value),
            None => drop(all.insert(key, value)),
        }
    }
    all
}

fn put_over(before: &mut Value, after: Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in after {
                match before.get_mut(&key) {
                    Some(before) => put_over(before, value),
                    None => drop(before.insert(key, value)),
                }
            }
        }
        (before, after) => *before = after,
    }
}

fn loose_entries(map: Map<String, Value>) -> impl Iterator<Item = (String, Loose)> {
    map.into_iter().map(|(key, value)| (key, Loose(value)))
}

impl<'de> IntoDeserializer<'de, Error> for Loose {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Loose {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(list) => visitor.visit_seq(SeqDeserializer::new(list.into_iter().map(Loose))),
            Value::Object(map) => visitor.visit_map(MapDeserializer::new(loose_entries(map))),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => visitor.visit_map(MapDeserializer::new(loose_entries(folded(map, fields)))),
            other => other.deserialize_struct(name, fields, visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{LinuxResources, Process, Spec};

    fn spec(text: &str) -> Spec {
        from_slice(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_in_another_case_are_the_same_fields() {
        let exact = r#"{"ociVersion": "1.3.0", "process": {"cwd": "/", "noNewPrivileges": true, "user": {"uid": 5}},
            "linux": {"maskedPaths": ["/proc/keys"], "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}, "uidMappings": [{"containerID": 0, "hostID": 7, "size": 1}],
            "namespaces": [{"type": "pid"}], "resources": {"blockIO": {"weight": 10}, "hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}}}"#;
        let other = r#"{"OCIVERSION": "1.3.0", "Process": {"CWD": "/", "nonewprivileges": true, "User": {"UID": 5}},
            "LINUX": {"maskedpaths": ["/proc/keys"], "Seccomp": {"defaultaction": "SCMP_ACT_ALLOW", "SysCalls": [
                {"Names": ["swapon"], "ACTION": "SCMP_ACT_ERRNO"}]}, "uidmappings": [{"containerid": 0, "HostId": 7, "Size": 1}],
            "Namespaces": [{"Type": "pid"}], "resources": {"BlockIO": {"Weight": 10}, "hugePageLimits": [{"PageSize": "2MB", "Limit": 1}]}}}"#;
        assert_eq!(spec(exact), serde_json::from_str(exact).unwrap());
        assert_eq!(spec(other), spec(exact));
        // The long s, and the sign of kelvin.
        let far = from_slice::<LinuxResources>("{\"bloc\u{212a}IO\": {}, \"pid\u{17f}\": {}}".as_bytes()).unwrap();
        assert!(far.block_io.is_some() && far.pids.is_some());
        let process: Process = from_slice(br#"{"ARGS": ["x"], "Terminal": true}"#).unwrap();
        assert_eq!((process.args, process.terminal), (vec!["x".to_owned()], true));
    }

    #[test]
    fn several_of_one_field_are_taken_in_their_order() {
        let read = |text: &str| from_slice::<LinuxResources>(text.as_bytes()).unwrap();
        let both = read(r#"{"cpu": {"shares": 100, "cpus": "1"}, "CPU": {"Cpus": "0", "Mems": "0"}}"#);
        assert_eq!(both, read(r#"{"cpu": {"shares": 100, "cpus": "0", "mems": "0"}}"#));
        assert_eq!(read(r#"{"Memory": {"limit": 5}, "memory": {"limit": 6}}"#), read(r#"{"memory": {"limit": 6}}"#));
        assert_eq!(read(r#"{"memory": {"limit": 6}, "Memory": {"limit": 5}}"#), read(r#"{"memory": {"limit": 5}}"#));
        assert_eq!(read(r#"{"pids": {"limit": 6}, "PIDS": null}"#), LinuxResources::default());
    }

    #[test]
    fn keys_that_are_data_stay_as_they_are() {
        let text = r#"{"Annotations": {"A": "1", "a": "2"}, "linux": {"sysctl": {"net.X": "1"}, "resources": {"unified": {"memory.HIGH": "1"}}}}"#;
        let spec = spec(text);
        assert_eq!((spec.annotations["A"].as_str(), spec.annotations["a"].as_str()), ("1", "2"));
        let linux = spec.linux.unwrap();
        assert!(linux.sysctl.contains_key("net.X") && linux.resources.unwrap().unified.contains_key("memory.HIGH"));
    }

    #[test]
    fn what_is_wrong_stays_wrong() {
        let twice = br#"{"root": {"path": "a"}, "root": {"path": "b"}}"#;
        assert!(from_slice::<Spec>(twice).unwrap_err().to_string().contains("duplicate"));
        for text in [
            "{\"Linux\": {}} x",
            "{\"Linux\": 3}",
            "{\"linux\": {\"Namespaces\": [{}]}}",
            "",
            "{\"PROCESS\": {\"Cwd\": 1}}",
        ] {
            assert!(from_slice::<Spec>(text.as_bytes()).is_err(), "{text}");
        }
        let long = format!("{{\"Hostname\": \"x\", \"future\": [{}0]}}", "0,".repeat(LONGEST));
        assert!(from_slice::<Spec>(long.as_bytes()).unwrap_err().to_string().contains("another case"));
        let deep = format!("{{\"Linux\": {}", "[".repeat(100_000));
        assert!(from_slice::<Spec>(deep.as_bytes()).is_err());
    }
}
