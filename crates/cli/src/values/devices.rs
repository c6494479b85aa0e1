//! `--device HOST[:CONTAINER[:rwm]]`, or a device that a vendor describes (CDI): `VENDOR/CLASS=NAME`.

/// Checks the form and returns the text as it is; whether the device exists is the engine's question.
pub fn parse(text: &str) -> Result<String, String> {
    if !text.starts_with('/') && text.contains('/') && text.contains('=') {
        return Ok(text.to_owned());
    }
    let parts: Vec<&str> = text.split(':').collect();
    let permissions = |word: &str| !word.is_empty() && word.chars().all(|c| "rwm".contains(c));
    let good = match parts.as_slice() {
        [host] => host.starts_with('/'),
        [host, second] => host.starts_with('/') && (second.starts_with('/') || permissions(second)),
        [host, container, mode] => host.starts_with('/') && container.starts_with('/') && permissions(mode),
        _ => false,
    };
    if !good {
        return Err(format!("invalid device specification: {text}"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn table() {
        for text in ["/dev/fuse", "/dev/a:/dev/b", "/dev/a:rw", "/dev/a:/dev/b:rwm", "nvidia.com/gpu=all"] {
            assert_eq!(parse(text), Ok(text.to_owned()));
        }
        for text in ["", "fuse", "/dev/a:b:c", "/dev/a:/dev/b:x", "/a:/b:r:w", "::::"] {
            assert_eq!(parse(text), Err(format!("invalid device specification: {text}")));
        }
    }
}
