//! Docker's flags that dhow knows but does not have yet: each gets its own sentence instead of "unknown flag".

/// Flags and what they belong to.
const LATER: &[(&[&str], &str)] = &[
    (&["kernel-memory"], "a limit of the kernel's own memory, which Linux 5.4 removed,"),
    (&["use-api-socket"], "the API socket"),
    (&["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"], "limits of Windows"),
    (&["checkpoint", "checkpoint-dir"], "checkpoints"),
    (&["tree"], "the tree of images"),
    (&["config-from", "config-only", "ingress", "cluster"], "networks and volumes of a swarm"),
    (&["link"], "removing single links"),
    (&["tls", "tlscacert", "tlscert", "tlskey", "tlsverify"], "a server to talk to"),
];

/// The sentence for a flag as it was written, with its dashes.
pub fn reason(flag: &str) -> Option<String> {
    let name = flag.split('=').next().unwrap_or_default();
    let bare = name.trim_start_matches('-');
    LATER
        .iter()
        .find(|(names, _)| names.contains(&bare) && (bare.len() > 1 || !name.starts_with("--")))
        .map(|(_, what)| format!("{name} is not supported yet: dhow does not have {what} so far"))
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn table() {
        assert_eq!(
            reason("--tree=x").unwrap(),
            "--tree is not supported yet: dhow does not have the tree of images so far"
        );
        assert!(reason("--bogus").is_none());
        assert!(reason("--s").is_none());
    }
}
