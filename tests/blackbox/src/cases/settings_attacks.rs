//! What once went wrong in engines with what is asked of them, by its number: options that are passed over, lines in values.
//!
//! Each fails when its guard is taken out of `engine`.

use anyhow::{Result, ensure};

use crate::case::{cases, same};
use crate::sandbox::Sandbox;

cases![settings_attacks: cve_2025_65105_unknown_options_are_no_options, cve_2022_4318_lines_in_values];

fn cve_2025_65105_unknown_options_are_no_options(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for option in ["nonsense", "secomp=/profile", "no-new-privileges=maybe", "systempaths=most", "seccomp=", "label="] {
        let output = sandbox.dhow(["create", "--network", "none", "--security-opt", option, "busybox", "true"])?;
        ensure!(output.code != 0 && output.stderr.contains("--security-opt"), "{option}: {output:?}");
    }
    same!(sandbox.ok(["ps", "-aq"])?, "");
    Ok(())
}

/// What is written into the container's hosts, resolv.conf or passwd would be another line there.
fn cve_2022_4318_lines_in_values(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for (flag, value) in [
        ("--hostname", "a\n1.2.3.4 b"),
        ("--domainname", "a\nb"),
        ("--workdir", "/a\nroot2::0:0::/:/bin/sh"),
        ("--user", "1000\nroot2::0:0"),
        ("--add-host", "a:1.2.3.4\n1.2.3.4 b"),
        ("--add-host", "a\nb:1.2.3.4"),
        ("--dns", "1.2.3.4\nsearch b"),
        ("--dns-search", "a\nnameserver 1.2.3.4"),
        ("--dns-option", "a\nnameserver 1.2.3.4"),
    ] {
        let output = sandbox.dhow(["create", flag, value, "busybox", "true"])?;
        ensure!(output.code != 0, "{flag} {value:?} was taken");
        ensure!(!output.stderr.contains("panicked"), "{}", output.stderr);
    }
    same!(sandbox.ok(["ps", "-aq"])?, "");
    Ok(())
}
