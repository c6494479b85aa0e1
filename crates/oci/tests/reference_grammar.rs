//! References made by the grammar and not by hand: all that it allows is read as what it was made of, and what is broken in one
//! place is refused. The grammar is written down here a second time, as the distribution project has it.

use oci::reference::{MAX_PATH, Reference};
use proptest::prelude::*;

/// The parts of one reference.
#[derive(Clone, Debug)]
struct Parts {
    domain: Option<String>,
    path: Vec<String>,
    tag: Option<String>,
    digest: Option<String>,
}

impl Parts {
    fn text(&self) -> String {
        let mut text = self.domain.as_ref().map(|domain| format!("{domain}/")).unwrap_or_default();
        text.push_str(&self.path.join("/"));
        if let Some(tag) = &self.tag {
            text.push_str(&format!(":{tag}"));
        }
        if let Some(digest) = &self.digest {
            text.push_str(&format!("@{digest}"));
        }
        text
    }
}

fn domain() -> impl Strategy<Value = String> {
    let label = "[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?";
    let port = "(:[1-9][0-9]{0,3})?";
    let hosts = [
        // A dot or a port says that it is a host.
        format!("{label}(\\.{label}){{1,3}}{port}"),
        format!("{label}:[1-9][0-9]{{0,3}}"),
        format!("localhost{port}"),
        format!("\\[[0-9a-f]{{1,4}}(:[0-9a-f]{{1,4}}){{7}}\\]{port}"),
    ];
    proptest::strategy::Union::new(hosts.map(|pattern| proptest::string::string_regex(&pattern).unwrap()))
}

fn parts() -> impl Strategy<Value = Parts> {
    let component = "[a-z0-9]{1,8}((\\.|_|__|-{1,4})[a-z0-9]{1,5}){0,3}";
    (
        proptest::option::of(domain()),
        proptest::collection::vec(component, 1..5),
        proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}"),
        proptest::option::of(prop_oneof!["sha256:[0-9a-f]{64}", "sha512:[0-9a-f]{128}"]),
    )
        .prop_map(|(domain, path, tag, digest)| Parts { domain, path, tag, digest })
        // Without a host, `localhost` would be one; 64 hexadecimal digits alone are an identifier; docker.io moves the path.
        .prop_filter("no reference of its own kind", |parts| {
            let docker = matches!(parts.domain.as_deref(), Some("docker.io" | "index.docker.io"));
            let first = parts.path[0].as_str();
            !docker
                && !(parts.domain.is_none() && parts.path.len() > 1 && (first == "localhost" || first.contains('.')))
                && parts.path.join("/").len() + 8 <= MAX_PATH
        })
}

proptest! {
    #[test]
    fn what_the_grammar_makes_is_read(parts in parts()) {
        let text = parts.text();
        let read: Reference = text.parse().map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let path = parts.path.join("/");
        match &parts.domain {
            Some(domain) => {
                prop_assert_eq!(read.domain(), domain);
                prop_assert_eq!(read.path(), &path);
            }
            None => {
                prop_assert_eq!(read.domain(), "docker.io");
                let whole = if parts.path.len() == 1 { format!("library/{path}") } else { path };
                prop_assert_eq!(read.path(), whole);
            }
        }
        prop_assert_eq!(read.tag(), parts.tag.as_deref());
        prop_assert_eq!(read.digest().map(ToString::to_string), parts.digest);
    }

    #[test]
    fn one_wrong_byte_is_refused_or_moves_nothing(parts in parts(), at in any::<prop::sample::Index>(), wrong in "[ \\t\\n\\\\\"'%?#&*|<>;,~^$!(){}\u{0}\u{7f}é]") {
        let mut text = parts.text();
        let at = at.index(text.len());
        text.replace_range(at..=at, &wrong);
        prop_assert!(text.parse::<Reference>().is_err(), "{:?} is taken", text);
    }

    #[test]
    fn separators_are_where_they_may_be(parts in parts(), index in any::<prop::sample::Index>(), edge in any::<bool>(), separator in "[._-]") {
        let mut parts = parts;
        let at = index.index(parts.path.len());
        let component = &mut parts.path[at];
        if edge { component.insert_str(0, &separator) } else { component.push_str(&separator) }
        prop_assert!(parts.text().parse::<Reference>().is_err(), "{} is taken", parts.text());
    }

    #[test]
    fn parts_of_any_bytes_never_leave_their_place(domain in domain(), path in "\\PC{0,30}", tag in "\\PC{0,10}") {
        // Whatever is in the path and the tag, the host that is asked is the one that stands in front.
        if let Ok(read) = format!("{domain}/{path}:{tag}").parse::<Reference>() {
            prop_assert!(read.domain() == domain || matches!(domain.as_str(), "docker.io" | "index.docker.io"), "{} in place of {domain}", read.domain());
            prop_assert!(!read.path().split('/').any(|part| part.is_empty() || part == "." || part == ".."));
        }
    }
}
