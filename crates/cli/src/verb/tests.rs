use super::*;

/// What a command line is told when it is refused before the verb's work.
fn refusal(line: &str) -> String {
    let words = std::iter::once("dhow").chain(line.split(' ').filter(|word| !word.is_empty()));
    let failure = match start(words.map(OsString::from)) {
        Err(failure) => failure,
        Ok(Start { verb, path, rest, .. }) => match parse(verb, &path, rest) {
            Ok(_) => return "accepted".into(),
            Err(error) => usage_failure(verb, &path, &error),
        },
    };
    let status = crate::exit::code(Class::Other, &failure);
    let text = failure.render();
    format!("{status} {}", text.lines().next().unwrap_or_default().trim_start_matches("dhow: error: "))
}

#[test]
fn every_verb_is_well_formed() {
    root().debug_assert();
    let groups = commands::GROUPS.iter().flat_map(|group| group.verbs);
    for (names, verb) in commands::VERBS.iter().chain(groups) {
        command(verb, names[0]).debug_assert();
        command(verb, names[0]).mut_args(switch).debug_assert();
    }
}

#[test]
fn refusals() {
    for (line, text) in [
        ("bogus", "1 unknown command: dhow bogus"),
        ("build .", "1 'dhow build' is not supported yet"),
        ("container bogus", "1 unknown command: dhow container bogus"),
        ("--bogus ps", "125 unknown flag: --bogus"),
        ("-H tcp://x ps", "1 --host is not supported: dhow works without a server"),
        ("ps --bogus", "125 unknown flag: --bogus"),
        ("ps -x", "125 unknown shorthand flag: -x"),
        ("ps extra", "1 'dhow ps' accepts no arguments"),
        ("run", "1 'dhow run' requires at least 1 argument"),
        ("exec x", "1 'dhow exec' requires at least 2 arguments"),
        ("rename x", "1 'dhow rename' requires at least 2 arguments"),
        ("rename x y z", "1 'dhow rename' requires 2 arguments"),
        ("run -p", "125 flag needs an argument: --publish"),
        ("run -m foo x", "125 invalid argument \"foo\" for \"-m, --memory\" flag: invalid size: 'foo'"),
        ("run --ulimit x=1 x", "125 invalid argument \"x=1\" for \"--ulimit\" flag: invalid ulimit type: x"),
        ("run -e =a x", "125 invalid argument \"=a\" for \"-e, --env\" flag: invalid environment variable: =a"),
        (
            "run --stop-timeout a x",
            "125 invalid argument \"a\" for \"--stop-timeout\" flag: invalid digit found in string",
        ),
        ("images --tree", "125 --tree is not supported yet: dhow does not have the tree of images so far"),
        ("--tlsverify ps", "125 --tlsverify is not supported yet: dhow does not have a server to talk to so far"),
        (
            "run --rm=maybe x",
            "125 invalid argument \"maybe\" for \"--rm\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
    ] {
        assert_eq!(refusal(line), text, "{line}");
    }
}

#[test]
fn accepted() {
    for line in [
        "run -itd --rm alpine sh -c -x",
        "--root /x -D run alpine",
        "container ls -aq",
        "container list",
        "image ls",
        "image rm -f x",
        "system info",
        "container run --detach=true x",
        "stop -t -1 x",
        "stop --time 3 x",
        "logs -fn 10 x",
        "logs --tail -1 x",
        "exec -it x sh -c ls",
        "exec -e A=1 -u 0 -w / x ls -l",
        "attach --sig-proxy=false --no-stdin x",
        "start -ai x",
        "network create --ipv6 --internal -d bridge --subnet 10.0.0.0/8 x",
        "network connect --alias a --gw-priority -1 x y",
        "network ls -q",
        "run -P --network a --network name=b,alias=c --ip 10.0.0.1 --expose 80-90/udp x",
    ] {
        assert_eq!(refusal(line), "accepted", "{line}");
    }
}

#[test]
fn the_help_of_a_verb() {
    let verb = find(commands::VERBS, "stop").unwrap();
    let text = command(verb, "container stop").term_width(100).render_help().to_string();
    let expected = "\
Stop one or more running containers

Usage: dhow container stop [OPTIONS] CONTAINER [CONTAINER...]

Arguments:
  <CONTAINER>...  Names or identifiers

Options:
  -s, --signal <string>  Signal that asks the container to stop
  -t, --timeout <int>    Seconds to wait before killing it; -1 for no end
  -h, --help             Print usage
";
    assert_eq!(text, expected);
}

#[test]
fn the_help_of_run() {
    let verb = find(commands::VERBS, "run").unwrap();
    let text = command(verb, "run").term_width(120).render_help().to_string();
    assert_eq!(text, include_str!("run_help.txt"), "if the change is meant, put this into run_help.txt:\n{text}");
}

#[test]
fn the_help_of_dhow() {
    let text = crate::help::root();
    for line in [
        "Usage:  dhow [OPTIONS] COMMAND",
        "  run         Create and run a new container from an image",
        "  container   Manage containers",
        "  -D, --debug ",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(
        crate::help::group(commands::GROUPS.iter().find(|group| group.name == "image").unwrap())
            .contains("  ls          List images")
    );
}
