//! Lines of the file `schemata`: `L3:0=fff;1=ff`, `MB:0=50`. The kernel writes the same in other words: filled up with spaces
//! and zeros, with all domains, and bandwidth rounded up to the next step.

/// The resource and the value of each domain.
fn parse(line: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let (resource, values) = line.split_once(':')?;
    let values =
        values.split(';').map(|value| value.split_once('=').map(|(domain, value)| (domain.trim(), value.trim())));
    Some((resource.trim(), values.collect::<Option<_>>()?))
}

/// The first line of `asked` that `present` does not agree with, beside what stands there. What `later` says of the same
/// domain is what counts of both. `step` is that of bandwidth.
pub(super) fn difference(asked: &[String], later: &[String], present: &str, step: u64) -> Option<(String, String)> {
    let later: Vec<_> = later.iter().filter_map(|line| parse(line)).collect();
    let said_later = |resource: &str, domain: &str| {
        later.iter().any(|(name, values)| *name == resource && values.iter().any(|(id, _)| *id == domain))
    };
    for line in asked.iter().flat_map(|lines| lines.lines()) {
        let differs = |present: &str| Some((line.to_owned(), present.trim().to_owned()));
        let Some((resource, values)) = parse(line) else { return differs("") };
        let found =
            present.lines().find_map(|line| parse(line).filter(|(name, _)| *name == resource).map(|it| (line, it)));
        let Some((text, (_, present))) = found else { return differs("") };
        for (domain, value) in values.into_iter().filter(|(domain, _)| !said_later(resource, domain)) {
            let there = present.iter().find(|(id, _)| *id == domain);
            if !there.is_some_and(|(_, there)| same(resource, value, there, step)) {
                return differs(text);
            }
        }
    }
    None
}

fn same(resource: &str, asked: &str, present: &str, step: u64) -> bool {
    if asked == present {
        return true;
    }
    if resource.ends_with("MB") {
        let (Ok(asked), Ok(present)) = (asked.parse::<u64>(), present.parse::<u64>()) else { return false };
        return asked == present || asked.checked_next_multiple_of(step) == Some(present);
    }
    let mask = |text: &str| u64::from_str_radix(text, 16).ok();
    mask(asked).is_some() && mask(asked) == mask(present)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESENT: &str = "    MB:0=50;1=100\n    L3:0=00f;1=fff\nL3CODE:0=f\n";

    fn differs(asked: &str, later: &str) -> bool {
        let lines = |text: &str| text.split_terminator('|').map(str::to_owned).collect::<Vec<_>>();
        difference(&lines(asked), &lines(later), PRESENT, 10).is_some()
    }

    #[test]
    fn the_kernels_words_for_the_same() {
        for same in
            ["L3:0=f", "L3:1=FFF;0=f", "L3:0=f|MB:0=50", "MB:0=41", "L3CODE:0=0f", "MB: 0 = 50", "L3:0=f\nMB:0=50"]
        {
            assert!(!differs(same, ""), "{same}");
        }
        for other in
            ["L3:0=ff", "L3:2=f", "MB:0=51", "MB:0=39", "L2:0=f", "L3", "L3:0", "L3:0=f;", "MB:0=-1", "L3CODE:0=x"]
        {
            assert!(differs(other, ""), "{other}");
        }
    }

    #[test]
    fn what_is_said_later_counts() {
        assert!(!differs("L3:0=1;1=fff", "L3:0=f"));
        assert!(differs("L3:0=1;1=f", "L3:0=f"));
    }

    #[test]
    fn both_are_told() {
        let asked = ["L3:0=1".to_owned()];
        let told = difference(&asked, &[], PRESENT, 0).unwrap();
        assert_eq!(told, ("L3:0=1".to_owned(), "L3:0=00f;1=fff".to_owned()));
    }
}
