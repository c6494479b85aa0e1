//! The flags that map a container's ids, as Podman has them.

use clap::Args;
use engine::Options;

/// `--uidmap`, `--gidmap`, `--subuidname`, `--subgidname`.
#[derive(Args, Debug, Default)]
pub struct UserFlags {
    /// Map group ids (CONTAINER:HOST[:SIZE]); without --uidmap user ids too
    #[arg(long, value_name = "list")]
    gidmap: Vec<String>,
    /// Group ids are those of a name in /etc/subgid
    #[arg(long, value_name = "string")]
    subgidname: Option<String>,
    /// User ids are those of a name in /etc/subuid
    #[arg(long, value_name = "string")]
    subuidname: Option<String>,
    /// Map user ids (CONTAINER:HOST[:SIZE]); without --gidmap group ids too
    #[arg(long, value_name = "list")]
    uidmap: Vec<String>,
}

impl UserFlags {
    /// Options with what these say, and nothing else.
    pub fn options(&self) -> Options {
        let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        Options {
            uid_maps: self.uidmap.clone(),
            gid_maps: self.gidmap.clone(),
            sub_uid_name: given(&self.subuidname),
            sub_gid_name: given(&self.subgidname),
            ..Options::default()
        }
    }
}
