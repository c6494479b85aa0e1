//! The policy's file: users, groups and certificates, and the tier of each. docs/docker-api.md describes it.

use super::peer::{Peer, Who};
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a client may do; each tier includes those before it, but that [`Tier::Own`] sees less than [`Tier::Read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Nothing.
    None,
    /// See what there is, but no file of a container.
    Read,
    /// Make containers without host mounts and privileges, and see and use those alone.
    Own,
    /// Everything that gives no power over the host.
    Safe,
    /// Everything: root, where the server is.
    Full,
}

impl Tier {
    /// As the file has it.
    pub fn name(self) -> &'static str {
        match self {
            Tier::None => "none",
            Tier::Read => "read",
            Tier::Own => "own",
            Tier::Safe => "safe",
            Tier::Full => "full",
        }
    }
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Option<Tier>,
    #[serde(default)]
    rule: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    user: Option<Id>,
    group: Option<Id>,
    certificate: Option<String>,
    tier: Tier,
}

/// A name or a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u32),
    Name(String),
}

/// Whom a rule is about.
#[derive(Debug, PartialEq, Eq)]
enum Whom {
    User(u32),
    Group(u32),
    Certificate(String),
}

#[derive(Debug)]
struct Rule {
    whom: Whom,
    tier: Tier,
    /// `rule 2 of /etc/dhow/access.toml (group ci)`
    shown: String,
}

/// Who may do what.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    default: Tier,
    shown: String,
    /// The user as whom the server runs: may do everything anyway.
    own: u32,
}

/// Largest file, in bytes.
const LARGEST: u64 = 1 << 20;

impl Policy {
    /// Everybody who may connect may do everything: the socket's mode decides.
    pub fn open() -> Policy {
        Policy { rules: Vec::new(), default: Tier::Full, shown: "no policy".into(), own: own() }
    }

    /// Reads a policy. The file must belong to root or to this user, and nobody else may write to it.
    ///
    /// # Errors
    /// A sentence with the path.
    pub fn read(path: &Path) -> Result<Policy, PolicyError> {
        let failed = |reason: String| PolicyError(format!("cannot use the policy {}: {reason}", path.display()));
        let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty());
        let file = std::fs::File::from(opened.map_err(|error| failed(error.to_string()))?);
        let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
        if !metadata.is_file() {
            return Err(failed("it is not a file".into()));
        }
        if metadata.mode() & 0o022 != 0 || ![0, own()].contains(&metadata.uid()) {
            return Err(failed("somebody else than its owner may write to it, or its owner is not root".into()));
        }
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
        Policy::parse(&text, &path.display().to_string()).map_err(failed)
    }

    fn parse(text: &str, name: &str) -> Result<Policy, String> {
        let document: Document = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let mut rules = Vec::new();
        for (at, written) in document.rule.into_iter().enumerate() {
            let number = at + 1;
            let (whom, words) = match (written.user, written.group, written.certificate) {
                (Some(user), None, None) => {
                    let (id, shown) =
                        resolve(user, "/etc/passwd", "user").map_err(|why| format!("rule {number}: {why}"))?;
                    (Whom::User(id), format!("user {shown}"))
                }
                (None, Some(group), None) => {
                    let (id, shown) =
                        resolve(group, "/etc/group", "group").map_err(|why| format!("rule {number}: {why}"))?;
                    (Whom::Group(id), format!("group {shown}"))
                }
                (None, None, Some(digest)) => {
                    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
                    if hex.len() != 64 || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                        return Err(format!("rule {number}: a certificate is sha256: and 64 small hexadecimal digits"));
                    }
                    (Whom::Certificate(digest.clone()), "its certificate".to_owned())
                }
                _ => return Err(format!("rule {number}: name one of user, group and certificate")),
            };
            rules.push(Rule { whom, tier: written.tier, shown: format!("rule {number} of {name} ({words})") });
        }
        let default = document.default.unwrap_or(Tier::None);
        Ok(Policy { rules, default, shown: format!("the default of {name}"), own: own() })
    }

    /// What a client may do: the first rule that is about it says.
    pub fn of(&self, who: Who) -> Peer {
        let found = self.rules.iter().find(|rule| match (&rule.whom, &who) {
            (Whom::User(wanted), Who::User { uid, .. }) => wanted == uid,
            (Whom::Group(wanted), Who::User { groups, .. }) => groups.contains(wanted),
            (Whom::Certificate(wanted), Who::Certificate(digest)) => wanted == digest,
            _ => false,
        });
        // Whoever is root, or owns the server, needs no server to do everything.
        let is_own = matches!(&who, Who::User { uid, .. } if *uid == 0 || *uid == self.own);
        let (tier, rule) = match found {
            _ if is_own => (Tier::Full, "no rule".to_owned()),
            Some(rule) => (rule.tier, rule.shown.clone()),
            None => (self.default, self.shown.clone()),
        };
        Peer { who, tier, rule }
    }
}

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// An id by its number, or by its name in one of the system's two tables.
fn resolve(id: Id, table: &str, kind: &str) -> Result<(u32, String), String> {
    let name = match id {
        Id::Number(number) => return Ok((number, number.to_string())),
        Id::Name(name) => name,
    };
    let text = std::fs::read_to_string(table).map_err(|error| format!("cannot read {table}: {error}"))?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    found.map(|id| (id, name.clone())).ok_or_else(|| format!("there is no {kind} {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, groups: &[u32]) -> Who {
        Who::User { uid, groups: groups.to_vec(), pid: 1 }
    }

    #[test]
    fn the_first_rule_decides() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let text = format!(
            "default = \"read\"\n[[rule]]\nuser = 4001\ntier = \"none\"\n[[rule]]\ngroup = 4100\ntier = \"own\"\n\
             [[rule]]\ngroup = 4200\ntier = \"safe\"\n[[rule]]\ncertificate = \"{digest}\"\ntier = \"full\"\n"
        );
        let policy = Policy::parse(&text, "p").unwrap();
        for (who, tier) in [
            (user(4001, &[4100]), Tier::None),
            (user(4002, &[1, 4100, 4200]), Tier::Own),
            (user(4002, &[4200]), Tier::Safe),
            (user(4002, &[1]), Tier::Read),
            (user(0, &[4100]), Tier::Full),
            (Who::Certificate(digest), Tier::Full),
            (Who::Certificate("sha256:".into()), Tier::Read),
            (Who::Anonymous, Tier::Read),
        ] {
            assert_eq!(policy.of(who.clone()).tier, tier, "{who}");
        }
        let denied = policy.of(user(4001, &[])).denied("x");
        assert_eq!(denied.message, "denied by rule 1 of p (user 4001) (tier none): x");
    }

    #[test]
    fn what_is_no_policy() {
        for text in [
            "x = 1",
            "default = \"root\"",
            "[[rule]]\ntier = \"own\"",
            "[[rule]]\nuser = 1\ngroup = 1\ntier = \"own\"",
            "[[rule]]\nuser = \"no such user\"\ntier = \"own\"",
            "[[rule]]\nuser = 1",
            "[[rule]]\ncertificate = \"CN=me\"\ntier = \"own\"",
        ] {
            assert!(Policy::parse(text, "p").is_err(), "{text}");
        }
        assert_eq!(Policy::parse("", "p").unwrap().of(user(4001, &[])).tier, Tier::None);
    }

    #[test]
    fn whose_file_it_may_be() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy");
        std::fs::write(&path, "default = \"own\"").unwrap();
        Policy::read(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(Policy::read(&path).unwrap_err().to_string().contains("may write to it"));
        assert!(Policy::read(directory.path()).is_err());
    }
}
