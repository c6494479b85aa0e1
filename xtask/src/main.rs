//! Chores of the project, one module per verb: packages, test images, a registry, a virtual machine, tests, benchmarks.
//!
//! Nothing here is part of the product. What is made once and costs minutes lies in [`paths::cache`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

mod bench;
mod clients;
mod command;
mod crash;
mod crowd;
mod disk;
mod docker_cli;
mod elf;
mod images;
mod newer;
mod paths;
mod registry;
mod setup;
mod test;
mod tidy;
mod vm;

const USAGE: &str = "\
usage: cargo xtask VERB

  test [PART...] [-- FILTER...] run all tests, or parts: tidy fmt clippy unit native user vm
  tidy [--bless]                check the rules of the house; list what is longer than it should be
  setup [--bench]               install the Debian packages that tests (and benchmarks) need
  images [--only NAME]          make the test images, as OCI and Docker archives
  clients                       install programs written for Docker for the tests of `dhow serve`
  registry [--port PORT]        serve the test images on loopback until interrupted
  bench api|engine|lists|load|network|oci|start [--rounds N]
                                dhow beside crun, runc, podman and docker
  crash [VERB,...]              cut dhow short at every system call; see docs/life.md
  crowd [--debug] [SECONDS]     64 processes at one engine, for five minutes
  docker-cli [DOCKER]           is all of a docker's command line in docs/docker-cli.md?
  vm [OPTION...] -- COMMAND     run a command in a virtual machine with pure cgroup v2; exits with its status
       --systemd, --selinux, --user tester, --share DIR, --memory MIB, --timeout SECONDS
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["setup"] => setup::run(&[setup::Set::Test]),
        ["setup", "--bench"] => setup::run(&[setup::Set::Test, setup::Set::Bench]),
        ["images"] => images::run(None),
        ["images", "--only", name] => images::run(Some(name)),
        ["clients"] => clients::run(),
        ["registry"] => registry::run(5000),
        ["registry", "--port", port] => port.parse().map_err(Into::into).and_then(registry::run),
        ["test", words @ ..] => test::run(words),
        ["tidy"] => tidy::run(false),
        ["tidy", "--bless"] => tidy::run(true),
        ["docker-cli"] => docker_cli::run("docker"),
        ["docker-cli", docker] => docker_cli::run(docker),
        ["bench", words @ ..] => bench::run(words),
        ["crash", words @ ..] => crash::run(words),
        ["crowd", words @ ..] => crowd::run(words),
        ["vm", words @ ..] => match vm::run(words) {
            Ok(status) => return ExitCode::from(status),
            Err(error) => Err(error),
        },
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
