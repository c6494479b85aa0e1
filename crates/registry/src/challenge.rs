//! `WWW-Authenticate`: what a registry wants to see (RFC 9110, 11.6.1, and distribution's `docs/spec/auth/token.md`).

/// One way to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The challenges in a header's value, in its order. Schemes that we do not speak and everything after a syntax error are
/// left out.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut scanner = Scanner { rest: header };
    let mut challenges = Vec::new();
    let mut current: Option<(String, Vec<(String, String)>)> = None;
    loop {
        scanner.skip(&[' ', '\t', ',']);
        let Some(word) = scanner.token() else { break };
        scanner.skip(&[' ', '\t']);
        if !scanner.rest.starts_with('=') {
            challenges.extend(current.take().and_then(known));
            current = Some((word.to_ascii_lowercase(), Vec::new()));
            continue;
        }
        scanner.rest = &scanner.rest[1..];
        scanner.skip(&[' ', '\t']);
        let Some(value) = scanner.value() else { break };
        let Some((_, parameters)) = &mut current else { break };
        parameters.push((word.to_ascii_lowercase(), value));
    }
    challenges.extend(current.and_then(known));
    challenges
}

fn known((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Challenge> {
    let parameter = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameter("realm")?,
            service: parameter("service"),
            scope: parameter("scope"),
        }),
        _ => None,
    }
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn skip(&mut self, characters: &[char]) {
        self.rest = self.rest.trim_start_matches(characters);
    }

    fn token(&mut self) -> Option<&'a str> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            return self.token().map(str::to_owned);
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((position, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &quoted[position + 1..];
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                other => value.push(other),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(Into::into), scope: scope.map(Into::into) }
    }

    #[test]
    fn what_registries_send() {
        assert_eq!(
            parse(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#
            ),
            [bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push"))]
        );
        assert_eq!(parse(r#"Basic realm="Registry Realm""#), [Challenge::Basic]);
        assert_eq!(parse("basic"), [Challenge::Basic]);
        assert_eq!(
            parse(r#"Negotiate, Basic realm="a \"b\", c", BEARER Realm = x , scope=y"#),
            [Challenge::Basic, bearer("x", None, Some("y"))]
        );
        assert_eq!(parse(r#"Digest nonce="x", qop="auth""#), []);
        assert_eq!(parse(r#"Bearer service="no realm""#), []);
        assert_eq!(parse(r#"Bearer realm="never closed"#), []);
        assert_eq!(parse("realm=x"), []);
    }

    proptest! {
        #[test]
        fn any_header_is_survived(header in any::<String>()) {
            parse(&header);
        }

        #[test]
        fn any_near_header_is_survived(header in "(Basic|Bearer|[a-z]{1,3}|[ ,=\"\\\\]|realm=){0,20}") {
            parse(&header);
        }
    }
}
