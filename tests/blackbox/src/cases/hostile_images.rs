//! Images whose documents lie: archives and registries with JSON that other engines crashed on, believed, or read without end. Each
//! test has the number of the vulnerability that it is about. Archives that want out of their directory are in the tests of `store`,
//! registries that want passwords in those of `registry`.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same};
use crate::host;
use crate::registry::{Layout, Registry, serve};
use crate::sandbox::Sandbox;

cases![hostile_images:
    cve_2014_6407_2014_9356_2014_9358_names_in_archives, cve_2024_3727_digests_that_are_paths,
    cve_2020_1702_2023_25153_documents_without_end, cve_2021_21285_2024_36620_malformed_documents,
    cve_2021_20291_a_bad_layer_blocks_nobody, cve_2021_41092_a_broken_configuration_is_an_error,
    cve_2021_41190_ambiguous_documents, cve_2024_36621_pulls_of_one_image_at_once, compressed_docker_archives,
    prune_beside_pulls_and_runs,
];

/// An archive of plain files, or with `link`, of a symbolic link under that name beside them.
fn archive(files: &[(&str, &[u8])], link: Option<(&str, &str)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let links = link.map(|(name, target)| (name, &b""[..], target));
    for (name, data, target) in files.iter().map(|(name, data)| (*name, *data, "")).chain(links) {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000644\x000000000\x000000000\0");
        put(124, format!("{:011o}", data.len()).as_bytes());
        put(136, b"00000000000\0        ");
        put(156, if target.is_empty() { b"0" } else { b"2" });
        put(157, target.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(block);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// Loading fails with exit code 1 and one of these words, without a panic; nothing is left.
fn refused(sandbox: &Sandbox, what: &str, bytes: &[u8], words: &[&str]) -> Result<()> {
    let file = sandbox.file("hostile.tar", bytes)?;
    let mut command = Command::new("prlimit");
    let inner = sandbox.command(["load", "-i", &file]);
    // Whatever it claims, no more memory than this is asked for.
    command.arg("--as=2000000000").arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    sandbox.finish_command(command, "")?.fails(1, words).with_context(|| what.to_owned())?;
    same!(sandbox.ok(["images", "-q"])?, "", "{what}");
    let left = fs::read_dir(sandbox.path("data/layers")).map_or(0, Iterator::count);
    same!(left, 0, "{what}");
    Ok(())
}

fn cve_2014_6407_2014_9356_2014_9358_names_in_archives(sandbox: &Sandbox) -> Result<()> {
    let secret =
        sandbox.file("secret", r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#)?;
    let list = |config: &str, tags: &[&str], layers: &[&str]| {
        json!([{"Config": config, "RepoTags": tags, "Layers": layers}]).to_string().into_bytes()
    };
    for config in [secret.as_str(), &format!("../../../../../../../..{secret}"), "/etc/passwd", "", "."] {
        let bytes = archive(&[("manifest.json", &list(config, &["x:1"], &[]))], None);
        refused(sandbox, config, &bytes, &["is missing"])?;
    }
    // A link of the archive that leads to a file of the host.
    let bytes = archive(&[("manifest.json", &list("link", &["x:1"], &[]))], Some(("link", &secret)));
    refused(sandbox, "link", &bytes, &["is missing"])?;
    let config = fs::read(&secret)?;
    for tag in ["../../x:1", "x:1/../..", "UPPER:1", "x:", "-x", "x:1\n"] {
        let bytes = archive(&[("manifest.json", &list("c", &[tag], &[])), ("c", &config)], None);
        refused(sandbox, tag, &bytes, &["invalid reference format"])?;
    }
    let with_layer =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:../../../etc"]}}"#;
    let bytes = archive(&[("manifest.json", &list("c", &["x:1"], &["l"])), ("c", with_layer), ("l", b"")], None);
    refused(sandbox, "diffID", &bytes, &["cannot be used"])
}

fn cve_2024_3727_digests_that_are_paths(sandbox: &Sandbox) -> Result<()> {
    for digest in
        ["sha256:../../../../etc/passwd", "../x", "sha256:", "sha256:ABC", "md5:d41d8cd98f00b204e9800998ecf8427e", ""]
    {
        let index = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 2}]});
        let bytes = archive(&[("index.json", index.to_string().as_bytes())], None);
        refused(sandbox, digest, &bytes, &["cannot be used"])?;
    }
    // By a registry's word too; nothing is asked for under such a name.
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let address = serve(move |request, stream| {
        if !request.contains("/manifests/") {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        let layer =
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "sha256:../../x", "size": 1});
        let body = json!({"schemaVersion": 2, "config": layer, "layers": [layer]}).to_string();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    })?;
    sandbox.dhow(["pull", &format!("{address}/x:1")])?.fails(1, &["cannot be used"])?;
    same!(asked.load(Ordering::SeqCst), 0);
    Ok(())
}

fn cve_2020_1702_2023_25153_documents_without_end(sandbox: &Sandbox) -> Result<()> {
    let long = vec![b' '; 5 << 20];
    refused(sandbox, "index", &archive(&[("index.json", &long)], None), &["more than the limit"])?;
    refused(sandbox, "list", &archive(&[("manifest.json", &long)], None), &["more than the limit"])?;
    let list = br#"[{"Config": "c", "RepoTags": ["x:1"], "Layers": []}]"#;
    refused(sandbox, "config", &archive(&[("manifest.json", list), ("c", &long)], None), &["more than the limit"])?;
    // A member that claims more than the archive has.
    let mut claims = archive(&[("index.json", b"{}")], None);
    claims[124..135].copy_from_slice(b"77777777777");
    let sum: u32 = claims[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    claims[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    refused(sandbox, "size", &claims, &["cut off"])?;
    let address = serve(|_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let chunk = [b"10000\r\n".to_vec(), vec![b' '; 65536], b"\r\n".to_vec()].concat();
        loop {
            stream.write_all(&chunk)?;
        }
    })?;
    sandbox.dhow(["pull", &format!("{address}/x:1")])?.fails(1, &["more than 4194304 are not read"])
}

fn cve_2021_21285_2024_36620_malformed_documents(sandbox: &Sandbox) -> Result<()> {
    let list = br#"[{"Config": "c", "RepoTags": ["x:1"], "Layers": []}]"#;
    let good = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    for text in [
        "",
        "null",
        "[]",
        "7",
        "{",
        "\"\"",
        "[null]",
        "{\"rootfs\":7}",
        "{\"rootfs\":{\"diff_ids\":[null]}}",
        "{\"rootfs\":{\"type\":\"base\"}}",
    ] {
        let bytes = archive(&[("manifest.json", list), ("c", text.as_bytes())], None);
        refused(sandbox, text, &bytes, &["cannot be used"])?;
    }
    for text in ["", "null", "{}", "7", "[7]", "[{\"Config\":7}]", "[{\"Config\":\"c\",\"Layers\":[null]}]"] {
        let bytes = archive(&[("manifest.json", text.as_bytes()), ("c", good.as_bytes())], None);
        let file = sandbox.file("hostile.tar", bytes)?;
        let output = sandbox.dhow(["load", "-i", &file])?;
        ensure!(output.code <= 1 && !output.stderr.contains("panicked"), "{text}: {}", output.stderr);
    }
    for text in [
        "null",
        "[]",
        "7",
        "{\"schemaVersion\":2,\"manifests\":[null]}",
        "{\"schemaVersion\":2,\"manifests\":[{\"size\":-1}]}",
    ] {
        refused(sandbox, text, &archive(&[("index.json", text.as_bytes())], None), &["cannot be used"])?;
    }
    // Deep nesting must not take the stack.
    let deep = "[".repeat(100_000);
    refused(sandbox, "deep", &archive(&[("index.json", deep.as_bytes())], None), &["cannot be used"])?;
    // A history of nulls is an odd one, and nothing to die of.
    let odd =
        good.replace("}}", "},\"history\":[null],\"config\":{\"Env\":null,\"Labels\":null,\"User\":\"4294967296\"}}");
    let file = sandbox.file("odd.tar", archive(&[("manifest.json", list), ("c", odd.as_bytes())], None))?;
    let output = sandbox.dhow(["load", "-i", &file])?;
    if output.code == 0 {
        sandbox.ok(["history", "x:1"])?;
        sandbox.ok(["image", "inspect", "x:1"])?;
        let output = sandbox.dhow(["run", "--rm", "--network", "none", "x:1", "/x"])?;
        ensure!(matches!(output.code, 125..=127) && !output.stderr.contains("panicked"), "{}", output.stderr);
    }
    ensure!(!output.stderr.contains("panicked"), "{}", output.stderr);
    Ok(())
}

fn cve_2021_20291_a_bad_layer_blocks_nobody(sandbox: &Sandbox) -> Result<()> {
    let layout = Layout::unpack(sandbox, "busybox")?;
    let layer = layout.blob(&layout.layer(0)?);
    let mut bytes = fs::read(&layer)?;
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xff);
    fs::write(&layer, bytes)?;
    let bad = layout.pack(sandbox, "bad.tar")?;
    let good = sandbox.archive("busybox", "oci")?;
    sandbox.dhow(["load", "-q", "-i", &bad])?.fails(1, &[&layout.layer(0)?])?;
    let both = [sandbox.spawn(["load", "-q", "-i", &bad])?, sandbox.spawn(["load", "-q", "-i", &good])?];
    let [bad_one, good_one] = both.map(std::process::Child::wait_with_output);
    // It has nothing to refuse when the other has been so quick that the layer is there, and is not read again.
    bad_one?;
    let good_one = good_one?;
    ensure!(good_one.status.success(), "{}", String::from_utf8_lossy(&good_one.stderr));
    same!(sandbox.busybox(&["--network", "none"], "echo runs")?, "runs");
    contains!(sandbox.ok(["system", "check"])?, "1 images, 1 layers, 2 documents: 0 problems");
    Ok(())
}

fn cve_2021_41092_a_broken_configuration_is_an_error(sandbox: &Sandbox) -> Result<()> {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    let address = serve(move |_, stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        write!(stream, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n")
    })?;
    let directory = sandbox.path("docker");
    fs::create_dir_all(&directory)?;
    for text in [
        r#"{"credsStore": "no-such-helper"}"#,
        r#"{"credsStore": "../../bin/sh"}"#,
        "{",
        r#"{"auths": {"ADDRESS": {"auth": "?"}}}"#,
    ] {
        fs::write(directory.join("config.json"), text.replace("ADDRESS", &address))?;
        sandbox.dhow(["pull", &format!("{address}/x:1")])?.fails(1, &["credentials"])?;
    }
    // Asked without a password each time, and never again with another.
    ensure!(seen.load(Ordering::SeqCst) <= 8, "{seen:?}");
    Ok(())
}

fn cve_2021_41190_ambiguous_documents(sandbox: &Sandbox) -> Result<()> {
    let descriptor = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": format!("sha256:{}", "a".repeat(64)), "size": 2});
    let both = json!({"schemaVersion": 2, "config": descriptor, "layers": [], "manifests": [descriptor]}).to_string();
    let twice = r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#.to_owned();
    let other_case = r#"{"schemaVersion":2,"manifests":[],"Manifests":[]}"#.to_owned();
    for text in [both, twice, other_case] {
        refused(sandbox, &text, &archive(&[("index.json", text.as_bytes())], None), &["cannot be used", "ambiguous"])?;
        let body = text.clone();
        let address =
            serve(move |_, stream| write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))?;
        sandbox.dhow(["pull", &format!("{address}/x:1")])?.fails(1, &["ambiguous"])?;
    }
    Ok(())
}

/// Also CVE-2024-36623: races between streams of the same layers.
fn cve_2024_36621_pulls_of_one_image_at_once(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::start(sandbox, &["multi"], None)?;
    let name = format!("{}/library/multi", registry.address);
    let pulls: Vec<_> = (0..6).map(|_| sandbox.spawn(["pull", "-q", &name])).collect::<Result<_>>()?;
    for pull in pulls {
        let output = pull.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    contains!(sandbox.ok(["system", "check"])?, "1 images,");
    contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
    same!(fs::read_dir(sandbox.path("data/staging")).map_or(0, Iterator::count), 0);
    Ok(())
}

/// What crane and Docker's containerd store write: Docker's archive with layers as registries have them.
fn compressed_docker_archives(sandbox: &Sandbox) -> Result<()> {
    let layout = Layout::unpack(sandbox, "busybox")?;
    let (_, manifest) = layout.manifest()?;
    let digest = |value: &Value| value["digest"].as_str().map(str::to_owned).context("no digest");
    let (config, layer) = (digest(&manifest["config"])?, digest(&manifest["layers"][0])?);
    let list = json!([{"Config": "config.json", "RepoTags": ["packed:1"], "Layers": ["layer.tar.gz"]}]).to_string();
    let (config, layer) = (fs::read(layout.blob(&config))?, fs::read(layout.blob(&layer))?);
    let bytes =
        archive(&[("manifest.json", list.as_bytes()), ("config.json", &config), ("layer.tar.gz", &layer)], None);
    let file = sandbox.file("packed.tar", bytes)?;
    contains!(sandbox.ok(["load", "-i", &file])?, "Loaded image: packed:1");
    same!(sandbox.ok(["run", "--rm", "--network", "none", "packed:1", "echo", "runs"])?, "runs");
    contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
    let saved = sandbox.path("files/saved.tar").to_string_lossy().into_owned();
    sandbox.ok(["save", "-o", &saved, "packed:1"])?;
    if host::program("skopeo").is_some() {
        let text = host::succeed(Command::new("skopeo").args(["inspect", &format!("docker-archive:{saved}")]))?;
        contains!(text, "\"Layers\"");
    }
    Ok(())
}

/// Several processes pull, run, remove and prune at once: nothing that is in use goes, and in the end nothing stays.
fn prune_beside_pulls_and_runs(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::start(sandbox, &["busybox", "multi"], None)?;
    let [one, two] = ["busybox", "multi"].map(|name| format!("{}/library/{name}", registry.address));
    let run = |name: &str, word: &str| sandbox.spawn(["run", "--rm", "--network", "none", name, "echo", word]);
    for _ in 0..if sandbox.is_slow() { 1 } else { 6 } {
        let runs = [run(&one, "a")?, run(&two, "b")?, run(&one, "a")?];
        let others = [
            sandbox.spawn(["image", "prune", "-a", "-f"])?,
            sandbox.spawn(["pull", "-q", &two])?,
            sandbox.spawn(["system", "prune", "-a", "-f"])?,
        ];
        for (child, word) in runs.into_iter().zip(["a", "b", "a"]) {
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // Between its pull and its start the image may be pruned; then that is what is said, and nothing else.
            let is_gone = output.status.code() == Some(125) && said.to_lowercase().contains("no such image");
            ensure!(is_gone || output.stdout == format!("{word}\n").as_bytes(), "{:?} {said}", output.status);
        }
        for child in others {
            let output = child.wait_with_output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
    }
    sandbox.ok(["image", "prune", "-a", "-f"])?;
    for name in ["layers", "blobs/sha256", "staging", "unsettled"] {
        same!(fs::read_dir(sandbox.path("data").join(name)).map_or(0, Iterator::count), 0, "{name}");
    }
    Ok(())
}
