use super::*;

fn found(line: &str) -> (Vec<String>, Option<Source>) {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let (last, done) = words.split_last().unwrap();
    let starting = |candidates: Vec<Candidate>| {
        candidates.into_iter().map(|(word, _)| word).filter(|word| word.starts_with(last.as_str())).collect()
    };
    match place(done, last) {
        Place::Flags(command) => (starting(flags(&command)), None),
        Place::Verbs(entries, groups) => (starting(verbs(entries, groups)), None),
        Place::Of(source) => (Vec::new(), Some(source)),
    }
}

#[test]
fn words() {
    for (line, expected) in [
        ("ren", &["rename"][..]),
        ("cont", &["container", "context"]),
        ("container re", &["rename", "restart", "restore"]),
        ("--root /x -D image pu", &["pull", "push"]),
        ("run --mem", &["--memory", "--memory-reservation", "--memory-swap", "--memory-swappiness"]),
        ("container run -it --rm --cidf", &["--cidfile"]),
        ("--run", &["--run-dir"]),
        ("help sta", &["start", "stats"]),
    ] {
        assert_eq!(found(line).0, expected, "{line}");
    }
}

#[test]
fn sources() {
    let running = Source::Containers(Which::Running);
    let all = Source::Containers(Which::All);
    for (line, expected) in [
        ("run ", Source::Images),
        ("run -it --rm ", Source::Images),
        ("run -e A=1 --name x ", Source::Images),
        ("run --network ", Source::Networks),
        ("run --network=", Source::Networks),
        ("run -v ", Source::Files),
        ("run -itv ", Source::Files),
        ("run busybox ", Source::Files),
        ("run busybox --net ", Source::Files),
        ("run --name ", Source::Nothing),
        ("--root ", Source::Files),
        ("exec ", running),
        ("exec -u 0 x ls ", Source::Files),
        ("stop -t 3 a ", running),
        ("start ", Source::Containers(Which::Stopped)),
        ("container unpause ", Source::Containers(Which::Paused)),
        ("rm -f ", all),
        ("rm a b ", all),
        ("logs x ", Source::Nothing),
        ("network connect ", Source::Networks),
        ("network connect x ", all),
        ("volume rm x ", Source::Volumes),
        ("rmi ", Source::Images),
        ("inspect ", Source::Objects),
        ("cp ", Source::Copied),
        ("load -i ", Source::Files),
        ("ps ", Source::Nothing),
        ("bogus ", Source::Nothing),
    ] {
        assert_eq!(found(line).1, Some(expected), "{line}");
    }
    assert!(matches!(found("run --pull ").1, Some(Source::Words(["always", "missing", "never"]))));
    assert!(matches!(found("network create -d ").1, Some(Source::Words(["bridge", ..]))));
}
