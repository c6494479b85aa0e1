//! Registries to pull from: Debian's `docker-registry` over the images that `cargo xtask registry` pushed, and a server of our
//! own that answers wrongly.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};

use crate::case::skip;
use crate::host::{self, Background};
use crate::sandbox::Sandbox;

/// A registry with the test images, on loopback in the test's network namespace.
pub struct Registry {
    _server: Background,
    /// `127.0.0.1:PORT`.
    pub address: String,
}

impl Registry {
    /// Starts one that serves these repositories (`busybox`), and asks for a password if one is given as `htpasswd` has it.
    /// Nothing is to be pushed there: the blobs are those of all tests.
    pub fn start(sandbox: &Sandbox, repositories: &[&str], password_file: Option<&str>) -> Result<Self> {
        let source = PathBuf::from(std::env::var_os("DHOW_REGISTRY").context("DHOW_REGISTRY is not set")?);
        let storage = sandbox.path("registry");
        if host::program("docker-registry").is_some() {
            copy(&source.join("docker/registry/v2"), &storage.join("docker/registry/v2"), repositories)?;
        }
        Self::over(sandbox, &storage, password_file)
    }

    /// Starts an empty one, to push to; `name` tells it from others of the test.
    pub fn empty(sandbox: &Sandbox, name: &str, password_file: Option<&str>) -> Result<Self> {
        Self::over(sandbox, &sandbox.path(name), password_file)
    }

    fn over(sandbox: &Sandbox, storage: &Path, password_file: Option<&str>) -> Result<Self> {
        if host::program("docker-registry").is_none() {
            return skip("docker-registry is not installed");
        }
        let address = free_address()?;
        let mut configuration = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: '{address}'}}\n",
            storage.display()
        );
        if let Some(file) = password_file {
            configuration += &format!("auth: {{htpasswd: {{realm: test, path: {file}}}}}\n");
        }
        let file = sandbox.file(&format!("{}.yml", address.replace(':', "-")), configuration)?;
        let child = Command::new("docker-registry")
            .args(["serve", &file])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env("OTEL_TRACES_EXPORTER", "none")
            .spawn()?;
        let server = Background(child);
        host::until("the registry answers", sandbox.seconds(20), || Ok(TcpStream::connect(&address).ok()))?;
        Ok(Self { _server: server, address })
    }
}

/// Copies the repositories wanted, and shares the blobs.
fn copy(from: &Path, to: &Path, repositories: &[&str]) -> Result<()> {
    let library = to.join("repositories/library");
    fs::create_dir_all(&library)?;
    for name in repositories {
        host::succeed(Command::new("cp").arg("-r").arg(from.join("repositories/library").join(name)).arg(&library))?;
    }
    std::os::unix::fs::symlink(from.join("blobs"), to.join("blobs")).context("link the blobs")?;
    Ok(())
}

/// A port that nobody listens on, in the test's own network namespace.
pub fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// A server that gives each request to the function, which writes the whole answer. It ends with the test's process.
pub fn serve(answer: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let answer = std::sync::Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = std::sync::Arc::clone(&answer);
            thread::spawn(move || {
                // A client that gives up half way is what some tests want.
                drop(converse(&stream, answer.as_ref()));
            });
        }
    });
    Ok(address)
}

fn converse(stream: &TcpStream, answer: &impl Fn(&str, &mut TcpStream) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
    }
    let mut stream = stream.try_clone()?;
    answer(first.trim(), &mut stream)?;
    stream.flush()?;
    stream.shutdown(std::net::Shutdown::Both)
}

/// An image unpacked from its OCI archive, to be served blob by blob or packed again.
pub struct Layout(pub PathBuf);

impl Layout {
    /// Unpacks an image's archive into the test's directory.
    pub fn unpack(sandbox: &Sandbox, image: &str) -> Result<Self> {
        let directory = sandbox.path("layout");
        fs::create_dir_all(&directory)?;
        host::succeed(Command::new("tar").args(["-xf", &sandbox.archive(image, "oci")?, "-C"]).arg(&directory))?;
        Ok(Self(directory))
    }

    /// Packs it as an archive again and returns its path.
    pub fn pack(&self, sandbox: &Sandbox, name: &str) -> Result<String> {
        let file = sandbox.file(name, "")?;
        host::succeed(Command::new("tar").args(["-cf", &file, "-C"]).arg(&self.0).args([
            "index.json",
            "oci-layout",
            "blobs",
        ]))?;
        Ok(file)
    }

    /// The file of a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.0.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    fn json(path: &Path) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    /// Digest of the manifest, and the manifest.
    pub fn manifest(&self) -> Result<(String, serde_json::Value)> {
        let digest = Self::json(&self.0.join("index.json"))?["manifests"][0]["digest"]
            .as_str()
            .context("no manifest")?
            .to_owned();
        let manifest = Self::json(&self.blob(&digest))?;
        Ok((digest, manifest))
    }

    /// Digest of a layer.
    pub fn layer(&self, number: usize) -> Result<String> {
        Ok(self.manifest()?.1["layers"][number]["digest"].as_str().context("no layer")?.to_owned())
    }

    /// Serves it as a registry would, under any repository and tag.
    pub fn serve(self) -> Result<String> {
        let (digest, _) = self.manifest()?;
        serve(move |request, stream| {
            let path = request.split(' ').nth(1).unwrap_or_default();
            let file = if path.contains("/manifests/") {
                self.blob(&digest)
            } else if let Some((_, blob)) = path.split_once("/blobs/") {
                self.blob(blob)
            } else {
                return write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{{}}");
            };
            let kind = if path.contains("/manifests/") {
                "application/vnd.oci.image.manifest.v1+json"
            } else {
                "application/octet-stream"
            };
            let bytes = fs::read(file)?;
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
            if request.starts_with("HEAD") { Ok(()) } else { stream.write_all(&bytes) }
        })
    }
}
