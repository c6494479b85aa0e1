//! Registries for tests: Debian's docker-registry as a process of its own, and a tiny HTTP server that can misbehave.
#![allow(dead_code, reason = "each test program uses a part")]

use oci::digest::Digest;
use oci::image::{Descriptor, media_type};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A request as the tiny server saw it.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

type Handler = dyn Fn(&Request, &mut TcpStream) + Send + Sync;

/// An HTTP server on loopback; each connection has its own thread, each request goes to the handler.
pub struct Server {
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    is_over: Arc<AtomicBool>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let (log, over) = (requests.clone(), is_over.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let (handler, log) = (handler.clone(), log.clone());
                std::thread::spawn(move || serve(stream, &*handler, &log));
            }
        });
        Server { port, requests, is_over }
    }

    pub fn domain(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn seen(&self, target: &str) -> usize {
        self.requests().iter().filter(|request| request.target.starts_with(target)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

fn serve(stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        // A TLS handshake begins with 0x16: this is no TLS server, and says so by hanging up.
        match reader.fill_buf() {
            Ok([0x16, ..]) | Ok([]) | Err(_) => return,
            Ok(_) => {}
        }
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace();
        let (method, target) =
            (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap_or(0);
            let Some((name, value)) = line.trim().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok();
        let request = Request { method, target, headers, body };
        log.lock().unwrap().push(request.clone());
        handler(&request, &mut writer);
    }
}

/// Writes a whole answer.
pub fn answer(stream: &mut TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8]) {
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).ok();
    stream.write_all(body).ok();
}

/// Writes only the head.
pub fn head(stream: &mut TcpStream, status: &str, headers: &[(&str, &str)]) {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).ok();
}

pub fn hang_up(stream: &TcpStream) {
    stream.shutdown(std::net::Shutdown::Both).ok();
}

/// A manifest with one layer.
pub fn manifest(layer: &Descriptor) -> Vec<u8> {
    let config = Descriptor::of(media_type::OCI_CONFIG, b"{}");
    serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer],
    }))
    .unwrap()
}

/// Bytes that do not repeat within any buffer.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Whether the programs are installed; says which one is not.
pub fn has_programs(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        !std::env::split_paths(&path).any(|directory| directory.join(program).exists())
    });
    if let Some(program) = missing {
        #[allow(clippy::print_stderr, reason = "a test that cannot run says why")]
        {
            eprintln!("SKIP: the program {program} is not installed");
        }
    }
    missing.is_none()
}

/// Debian's docker-registry with its storage in a temporary directory.
pub struct RealRegistry {
    child: Child,
    pub port: u16,
    pub directory: tempfile::TempDir,
}

impl RealRegistry {
    /// `http` and `auth` are YAML to be put into the configuration, each line with its indentation.
    pub fn start(prepare: impl FnOnce(&Path) -> (String, String)) -> RealRegistry {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (http, auth) = prepare(directory.path());
        let storage = directory.path().join("storage");
        let configuration = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:{port}\n{http}{auth}",
            storage.display()
        );
        let file = directory.path().join("config.yml");
        std::fs::write(&file, configuration).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "docker-registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        RealRegistry { child, port, directory }
    }

    pub fn plain() -> RealRegistry {
        RealRegistry::start(|_| (String::new(), String::new()))
    }

    pub fn domain(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An OCI layout with a multi-platform index under the tag `multi` and its amd64 image under `single`.
pub struct Layout {
    pub directory: tempfile::TempDir,
    pub index: Digest,
    pub layer: Vec<u8>,
}

impl Layout {
    pub fn make(layer_length: usize) -> Layout {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let store = |kind: &str, bytes: &[u8]| {
            let descriptor = Descriptor::of(kind, bytes);
            std::fs::write(root.join("blobs/sha256").join(descriptor.digest.hex()), bytes).unwrap();
            descriptor
        };
        let layer = gzip(&noise(layer_length));
        let layer_descriptor = store(media_type::OCI_LAYER_GZIP, &layer);
        let mut entries = Vec::new();
        for (architecture, variant) in [("arm64", "v8"), ("amd64", "")] {
            let config = serde_json::json!({
                "architecture": architecture, "os": "linux", "variant": variant, "config": {"Cmd": ["/hello"]},
                "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(&noise(layer_length))]},
            });
            let config = store(media_type::OCI_CONFIG, &serde_json::to_vec(&config).unwrap());
            let manifest = serde_json::json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer_descriptor],
            });
            let mut entry = store(media_type::OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
            entry.platform = Some(oci::platform::Platform {
                os: "linux".into(),
                architecture: architecture.into(),
                variant: variant.into(),
                ..Default::default()
            });
            entries.push(entry);
        }
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries});
        let mut top = store(media_type::OCI_INDEX, &serde_json::to_vec(&index).unwrap());
        let digest = top.digest.clone();
        let named = |descriptor: &mut Descriptor, name: &str| {
            descriptor.annotations.insert(oci::image::annotation::REF_NAME.into(), name.into());
        };
        named(&mut top, "multi");
        named(&mut entries[1], "single");
        let outer = serde_json::json!({"schemaVersion": 2, "manifests": [top, entries[1]]});
        std::fs::write(root.join("index.json"), serde_json::to_vec(&outer).unwrap()).unwrap();
        Layout { directory, index: digest, layer }
    }

    /// Pushes a tag with skopeo.
    pub fn push(&self, tag: &str, target: &str, more: &[&str]) {
        let source = format!("oci:{}:{tag}", self.directory.path().display());
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--all", "--dest-tls-verify=false", "--preserve-digests"])
            .args(more)
            .args([source, format!("docker://{target}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new("gzip").args(["-1", "-n"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}
