//! The flags that map a container's ids, as Podman has them.

use clap::Args;

/// `--uidmap`, `--gidmap`, `--subuidname`, `--subgidname`.
#[derive(Args, Debug, Default)]
pub struct UserFlags {
    /// Map group ids (CONTAINER:HOST[:SIZE]); without --uidmap user ids too
    #[arg(long, value_name = "list")]
    pub gidmap: Vec<String>,
    /// Group ids are those of a name in /etc/subgid
    #[arg(long, value_name = "string")]
    pub subgidname: Option<String>,
    /// User ids are those of a name in /etc/subuid
    #[arg(long, value_name = "string")]
    pub subuidname: Option<String>,
    /// Map user ids (CONTAINER:HOST[:SIZE]); without --gidmap group ids too
    #[arg(long, value_name = "list")]
    pub uidmap: Vec<String>,
}
