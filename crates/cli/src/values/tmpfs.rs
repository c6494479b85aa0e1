//! `--tmpfs PATH[:OPTIONS]`.

use super::size;
use engine::containers::options::{Mount, MountSource};

/// Reads one tmpfs. Size and mode are taken out of the options; what is left goes to mount(2) as it stands.
pub fn parse(text: &str) -> Result<Mount, String> {
    let (target, words) = text.split_once(':').unwrap_or((text, ""));
    if !target.starts_with('/') {
        return Err(format!("invalid mount path: '{target}' mount path must be absolute"));
    }
    let (mut limit, mut mode, mut read_only, mut options) = (None, None, false, Vec::new());
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            // A share of the machine's memory is for the kernel to compute.
            Some(("size", value)) if value.ends_with('%') => options.push(word.to_owned()),
            Some(("size", value)) => limit = Some(size::parse(value)?),
            Some(("mode", value)) => mode = Some(octal(value)?),
            Some(("uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol" | "huge", _)) => options.push(word.to_owned()),
            None if matches!(word, "ro" | "rw") => read_only = word == "ro",
            None if FLAGS.contains(&word) => options.push(word.to_owned()),
            _ => return Err(format!("invalid tmpfs option {word:?}")),
        }
    }
    Ok(Mount {
        source: MountSource::Tmpfs { size: limit, mode, options },
        target: target.to_owned(),
        read_only,
        relabel: None,
    })
}

/// The words of mount(8) that Docker allows for a tmpfs.
const FLAGS: &[&str] = &[
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "mand",
    "nomand",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
    "noswap",
];

/// Reads a mode in octal digits.
pub fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| format!("invalid mode {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (text, target, size, mode, read_only, options) in [
            ("/x", "/x", None, None, false, ""),
            ("/x:size=1m", "/x", Some(1 << 20), None, false, ""),
            ("/x:rw,size=64k,mode=1777,exec", "/x", Some(64 << 10), Some(0o1777), false, "exec"),
            ("/x:ro,size=50%,uid=5", "/x", None, None, true, "size=50%,uid=5"),
        ] {
            let mount = parse(text).unwrap();
            let options = options.split(',').filter(|o| !o.is_empty()).map(String::from).collect();
            assert_eq!(mount.source, MountSource::Tmpfs { size, mode, options }, "{text}");
            assert_eq!((mount.target.as_str(), mount.read_only), (target, read_only), "{text}");
        }
        assert_eq!(parse("foo"), Err("invalid mount path: 'foo' mount path must be absolute".into()));
        assert_eq!(parse("/x:bogus"), Err("invalid tmpfs option \"bogus\"".into()));
        assert_eq!(parse("/x:size=a"), Err("invalid size: 'a'".into()));
        assert_eq!(parse("/x:mode=9"), Err("invalid mode \"9\"".into()));
    }
}
