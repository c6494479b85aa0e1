//! Paths by their text alone, as Docker takes those that a caller writes: links and what is there do not count.

/// An absolute path without `.`, `..`, double slashes and a slash at its end; `..` above the root is the root.
pub fn plain_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::plain_path;

    #[test]
    fn paths() {
        for (path, expected) in
            [("/", "/"), ("", "/"), ("/a/", "/a"), ("//a//./b", "/a/b"), ("/a/../..//b", "/b"), ("/a/b/..", "/a")]
        {
            assert_eq!(plain_path(path), expected, "{path}");
        }
    }
}
