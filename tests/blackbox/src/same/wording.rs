//! Errors of the two engines: Docker's words and dhow's, and when they say the same.
//!
//! dhow's errors are its own sentences, with causes and hints below. So they are compared without the ornaments around them, and
//! where the words still differ, dhow's must name everything from the command line that Docker's names: the container, the flag, the
//! value at fault. What a container writes to its standard error is compared to the letter.

/// How two answers' standard errors compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// To the letter, but for ornaments.
    Same,
    /// Both refuse and name the same things.
    OwnWords,
    /// Not.
    Different,
}

/// Compares what dhow wrote with what Docker wrote to the same command.
pub fn compare(command: &str, docker: &[String], dhow: &[String]) -> Likeness {
    let (docker, own) = (bare(docker), bare(dhow));
    if docker == own {
        return Likeness::Same;
    }
    let complaint =
        |line: &String| ["dhow: error: ", "  caused by: ", "  hint: "].iter().any(|start| line.starts_with(start));
    let (complaints, mut lines): (Vec<_>, Vec<_>) = dhow.iter().cloned().partition(complaint);
    let mut refusals = docker.clone();
    refusals.retain(|line| match lines.iter().position(|own| own == line) {
        // What the container wrote: neither engine has a say in it.
        Some(place) => {
            lines.remove(place);
            false
        }
        None => true,
    });
    if complaints.is_empty() || refusals.is_empty() || !lines.is_empty() {
        return Likeness::Different;
    }
    let all = complaints.join("\n");
    // Names that nothing has and values at fault count. Flags and verbs are in every sentence; what a substitution makes is not here.
    let plain: String =
        command.split("$(").enumerate().map(|(at, part)| if at == 0 { part } else { after(part) }).collect();
    let words = plain
        .split_whitespace()
        .enumerate()
        .filter(|(at, word)| *at > 2 || !word.bytes().all(|letter| letter.is_ascii_lowercase()));
    let parts =
        words.filter(|(_, word)| !word.starts_with('-')).flat_map(|(_, word)| word.split(['"', '\'', ':', '=', ',']));
    let counts = |part: &&str| part.len() > 2 && refusals.iter().any(|line| line.contains(*part));
    let named = parts.filter(counts).all(|part| all.contains(part));
    if named { Likeness::OwnWords } else { Likeness::Different }
}

/// What follows a substitution.
fn after(part: &str) -> &str {
    part.split_once(')').map_or("", |(_, rest)| rest)
}

/// Without "Error response from daemon" and the like, without hints where to read on, the first letter small.
fn bare(lines: &[String]) -> Vec<String> {
    let mut bare = vec![];
    for line in lines {
        if ["See 'docker", "Run 'docker", "  caused by: ", "  hint: "].iter().any(|start| line.starts_with(start))
            || line.is_empty()
        {
            continue;
        }
        let mut rest = line.as_str();
        let mut ornate = false;
        while let Some(less) = ["docker: ", "dhow: error: ", "Error response from daemon: ", "Error: "]
            .iter()
            .find_map(|start| rest.strip_prefix(start))
        {
            rest = less;
            ornate = true;
        }
        bare.push(if ornate || rest.starts_with("unknown ") { uncapped(rest) } else { rest.to_owned() });
    }
    bare
}

fn uncapped(text: &str) -> String {
    let text = text.strip_suffix('.').unwrap_or(text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::{Likeness, compare};

    #[test]
    fn likeness() {
        for (command, docker, dhow, wanted) in [
            ("docker exec box x", "err", "err", Likeness::Same),
            ("docker exec box x", "err", "other", Likeness::Different),
            (
                "docker rm no-such",
                "Error: No such container: no-such",
                "dhow: error: no such container: no-such",
                Likeness::Same,
            ),
            (
                "docker rm no-such",
                "Error: No such container: no-such",
                "dhow: error: nothing is called no-such",
                Likeness::OwnWords,
            ),
            ("docker rm no-such", "Error: No such container: no-such", "dhow: error: no", Likeness::Different),
            ("docker rm no-such", "Error: No such container: no-such", "", Likeness::Different),
        ] {
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(compare(command, &lines(docker), &lines(dhow)), wanted, "{docker} / {dhow}");
        }
    }
}
