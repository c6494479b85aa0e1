//! `cargo xtask registry`: Debian's `docker-registry` on loopback, holding the test images.
//!
//! The images are pushed once, into a storage directory in the cache; later starts only serve it.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::{command, run as run_command};
use crate::{images, paths};

/// The registry's storage, with every image pushed as `library/REPOSITORY:TAG`.
pub fn storage() -> Result<PathBuf> {
    let storage = paths::cache()?.join("registry");
    let stamp = storage.join("pushed");
    let directory = images::directory()?;
    let mut pushed = String::new();
    for (name, _) in images::names() {
        pushed += &fs::read_to_string(directory.join(format!("{name}.recipe")))
            .with_context(|| format!("image {name} is not made: `cargo xtask images`"))?;
    }
    if fs::read_to_string(&stamp).is_ok_and(|text| text == pushed) {
        return Ok(storage);
    }
    fs::create_dir_all(&storage)?;
    let port = 5999;
    let server = Server::start(&storage, port)?;
    for (name, reference) in images::names() {
        println!("registry: pushing {reference}");
        // Blobs and manifests as they are in the archive: what is pulled has the digests that the archive has.
        run_command(
            command("skopeo", ["copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false"])
                .arg("--insecure-policy")
                .arg(format!("oci-archive:{}", directory.join(format!("{name}.oci.tar")).display()))
                .arg(format!("docker://127.0.0.1:{port}/library/{reference}")),
        )?;
    }
    drop(server);
    fs::write(stamp, pushed)?;
    Ok(storage)
}

/// Serves until interrupted.
pub fn run(port: u16) -> Result<()> {
    images::run(None)?;
    let mut server = Server::start(&storage()?, port)?;
    println!("registry: http://127.0.0.1:{port}, for example 127.0.0.1:{port}/library/busybox");
    let status = server.child.wait()?;
    bail!("docker-registry: {status}");
}

/// A running registry; dropping it ends it.
struct Server {
    child: Child,
}

impl Server {
    fn start(storage: &Path, port: u16) -> Result<Self> {
        let configuration = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            storage.display()
        );
        let file = storage.join("configuration.yml");
        fs::write(&file, configuration)?;
        // It ends when we do, however we end.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .env("OTEL_TRACES_EXPORTER", "none")
            .spawn()
            .context("start docker-registry (package docker-registry)")?;
        let mut server = Self { child };
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("docker-registry: {status}");
            }
            if Instant::now() > until {
                bail!("docker-registry does not answer on port {port}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the process has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
