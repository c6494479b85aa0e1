//! Packages of newer Debian suites, unpacked in a directory: for programs that this machine's suite has only in a version that is too
//! old for its kernel or for its peers. apt-get fetches them with lists and cache of its own, and checks Debian's signature, so that
//! the machine's packages neither change nor see the suite.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::{command, output, run as run_command};
use crate::{images, paths};

/// Whether the packages that a package needs come along.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// All of them, down to the C library.
    Along,
    /// The machine has them.
    Here,
}

/// Unpacks the packages as the suite has them into `place`.
pub fn unpack(place: &Path, suite: &str, packages: &[&str], needs: Needs) -> Result<()> {
    let mirror = images::mirror().context("apt-get does not know an archive of Debian's")?;
    let apt = place.join("apt");
    fs::create_dir_all(apt.join("lists/partial"))?;
    fs::create_dir_all(apt.join("cache/archives/partial"))?;
    // Nothing is installed: every package that is needed is fetched.
    fs::write(apt.join("status"), "")?;
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    fs::write(apt.join("sources.list"), format!("deb [signed-by={key}] {mirror} {suite} main\n"))?;
    let here = |name: &str, path: &str| format!("--option={name}={}", apt.join(path).display());
    let options = [
        here("Dir::Etc::SourceList", "sources.list"),
        here("Dir::State::Lists", "lists"),
        here("Dir::State::status", "status"),
        here("Dir::Cache", "cache"),
        "--option=Dir::Etc::SourceParts=/dev/null".to_owned(),
        "--option=Acquire::Languages=none".to_owned(),
        "--option=APT::Sandbox::User=root".to_owned(),
        "--quiet=2".to_owned(),
    ];
    run_command(command("apt-get", ["update"]).args(&options))?;
    let archives = match needs {
        Needs::Along => {
            let words = ["install", "--download-only", "--yes", "--no-install-recommends"];
            run_command(command("apt-get", words).args(packages).args(&options))?;
            apt.join("cache/archives")
        }
        Needs::Here => {
            run_command(command("apt-get", ["download"]).args(packages).args(&options).current_dir(&apt))?;
            apt.clone()
        }
    };
    let found = fs::read_dir(&archives)?.filter_map(Result::ok).map(|entry| entry.path());
    let found: Vec<PathBuf> = found.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect();
    if found.is_empty() {
        bail!("nothing was downloaded");
    }
    for archive in found {
        run_command(command("dpkg-deb", ["--extract"]).arg(archive).arg(place))?;
    }
    fs::remove_dir_all(apt)?;
    Ok(())
}

/// The suite, and of it firewalld with those modules for Python that nothing else here needs. Installed, it would watch over this machine.
const FIREWALLD: (&str, &[&str]) = ("bookworm", &["firewalld", "python3-firewall", "python3-nftables"]);

/// What is in the directory of [`firewalld`].
pub fn firewalld_recipe() -> String {
    format!("{FIREWALLD:?}")
}

/// firewalld in Python, which the tests start in a network of their own.
pub fn firewalld(place: &Path) -> Result<()> {
    let (suite, packages) = FIREWALLD;
    unpack(place, suite, packages, Needs::Here)?;
    let modules = place.join("usr/lib/python3/dist-packages");
    output(command("/usr/bin/python3", ["-c", "import dbus, gi, firewall, nftables"]).env("PYTHONPATH", modules))?;
    Ok(())
}

/// Suites whose criu is tried, in this order: the first one's goes with more kernels, the second one's does not change.
const CRIU: &[&str] = &["sid", "trixie"];

/// What is in the directory of [`criu`].
pub fn criu_recipe() -> String {
    format!("{CRIU:?}")
}

/// The variable with which the criu that was installed is found before the machine's own.
pub fn path_with_criu() -> Result<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    Ok(format!("PATH={}:{path}", paths::cache()?.join("clients/criu/bin").display()))
}

/// A criu that runs on this kernel. The one of Debian 12 (3.17.1) does not on Linux 6.18: `criu check` cannot read its vdso.
pub fn criu(place: &Path) -> Result<()> {
    let mut said = vec![];
    for suite in CRIU {
        let root = place.join(suite);
        let checked = unpack(&root, suite, &["criu"], Needs::Along).and_then(|()| criu_program(place, &root));
        match checked {
            Ok(version) => {
                println!("clients: criu {version} of {suite}");
                return Ok(());
            }
            Err(error) => said.push(format!("{suite}: {error:#}")),
        }
        if root.exists() {
            fs::remove_dir_all(root)?;
        }
    }
    bail!("{}", said.join("; "))
}

/// Starts criu with the libraries that came with it, and sees whether it works here. Returns its version.
fn criu_program(place: &Path, root: &Path) -> Result<String> {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let loader = libraries.join("ld-linux-x86-64.so.2");
    let program = root.join("usr/sbin/criu");
    let script = format!(
        "#!/bin/sh\nexec {} --library-path {} {} \"$@\"\n",
        loader.display(),
        libraries.display(),
        program.display()
    );
    let path = place.join("bin/criu");
    fs::create_dir_all(place.join("bin"))?;
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    let path = path.display().to_string();
    output(&mut command(&path, ["check"]))?;
    let said = output(&mut command(&path, ["--version"]))?;
    let version = said.lines().find_map(|line| line.strip_prefix("Version: ")).unwrap_or_default();
    Ok(version.to_owned())
}
