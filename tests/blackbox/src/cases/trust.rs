//! Who signed an image, and what a registry has beside it: a policy at pull and at use, referrers, tags, deletion.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::registry::{Layout, Registry};
use crate::sandbox::{Output, Sandbox};

cases![trust: signatures_decide, bundles_decide, policies_that_cannot_be_used, archives_by_policy, encrypted_layers, tags_referrers_delete];

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// An answer: status, headers in lower case, body.
type Answer = (u16, BTreeMap<String, String>, Vec<u8>);

fn ask(address: &str, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    let accept = format!("Accept: {MANIFEST}, application/vnd.oci.image.index.v1+json");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{accept}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").context("no head")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = crate::server::status(&head)?;
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Ok((status, fields, answer[end + 4..].to_vec()))
}

/// Puts a blob into a repository and returns its descriptor.
fn put_blob(sandbox: &Sandbox, address: &str, repository: &str, kind: &str, bytes: &[u8]) -> Result<Value> {
    let file = sandbox.file("blob", bytes)?;
    let text = host::succeed(Command::new("sha256sum").arg(file))?;
    let digest = format!("sha256:{}", text.split(' ').next().unwrap_or_default());
    let (_, fields, _) = ask(address, "POST", &format!("/v2/{repository}/blobs/uploads/"), kind, b"")?;
    let place = fields.get("location").context("no place")?;
    let path = place.split_once(address).map_or(place.as_str(), |(_, path)| path);
    let separator = if path.contains('?') { '&' } else { '?' };
    let (status, ..) =
        ask(address, "PUT", &format!("{path}{separator}digest={digest}"), "application/octet-stream", bytes)?;
    same!(status, 201);
    Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
}

fn digest_of(address: &str, repository: &str, tag: &str) -> Result<String> {
    let (status, fields, _) = ask(address, "GET", &format!("/v2/{repository}/manifests/{tag}"), MANIFEST, b"")?;
    same!(status, 200);
    Ok(fields.get("docker-content-digest").context("no digest")?.clone())
}

/// A key pair and a signature of an image by it, as cosign makes them.
struct Signer<'a> {
    sandbox: &'a Sandbox,
    name: &'static str,
}

impl<'a> Signer<'a> {
    fn new(sandbox: &'a Sandbox, name: &'static str, kind: &[&str]) -> Result<Self> {
        if host::program("openssl").is_none() {
            return skip("openssl is not installed");
        }
        let signer = Signer { sandbox, name };
        host::succeed(Command::new("openssl").arg("genpkey").args(kind).args(["-out", &signer.file("key")?]))?;
        let public = signer.file("pub")?;
        host::succeed(Command::new("openssl").args(["pkey", "-in", &signer.file("key")?, "-pubout", "-out", &public]))?;
        Ok(signer)
    }

    fn file(&self, kind: &str) -> Result<String> {
        let path = self.sandbox.path("files").join(format!("{}.{kind}", self.name));
        path.to_str().map(str::to_owned).context("a path that is not text")
    }

    /// The signature of a message, in base64.
    fn made(&self, message: &[u8]) -> Result<String> {
        let message = self.sandbox.file("statement", message)?;
        let key = self.file("key")?;
        let mut command = Command::new("openssl");
        match self.name {
            "ed25519" => command.args(["pkeyutl", "-sign", "-rawin", "-inkey", &key, "-in", &message]),
            _ => command.args(["dgst", "-sha256", "-sign", &key, &message]),
        };
        let made = command.output()?.stdout;
        self.base64(&made)
    }

    fn base64(&self, bytes: &[u8]) -> Result<String> {
        let file = self.sandbox.file("bytes", bytes)?;
        Ok(host::succeed(Command::new("base64").args(["-w0", &file]))?.trim().to_owned())
    }

    /// The same as cosign 3 does it: a manifest that refers to the image, with a bundle whose parts are in the repository.
    fn bundle(&self, address: &str, repository: &str, digest: &str, predicate: &str) -> Result<Vec<u8>> {
        let (kind, statement) = ("application/vnd.in-toto+json", "https://in-toto.io/Statement/v1");
        let hex = digest.strip_prefix("sha256:").context("another digest")?;
        let subject = json!([{"digest": {"sha256": hex}, "annotations": {}}]);
        let payload = json!({"_type": statement, "subject": subject, "predicateType": predicate, "predicate": {}});
        let payload = payload.to_string();
        let made = self.made(format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len()).as_bytes())?;
        let payload = self.base64(payload.as_bytes())?;
        let bundle = json!({
            "mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": "x"}},
            "dsseEnvelope": {"payload": payload, "payloadType": kind, "signatures": [{"sig": made}]},
        });
        let layer = put_blob(self.sandbox, address, repository, BUNDLE, bundle.to_string().as_bytes())?;
        let config = put_blob(self.sandbox, address, repository, EMPTY, b"{}")?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "artifactType": BUNDLE,
            "annotations": {"dev.sigstore.bundle.predicateType": predicate},
            "subject": {"mediaType": MANIFEST, "digest": digest, "size": 1},
        });
        Ok(manifest.to_string().into_bytes())
    }

    /// The manifest of a signature, whose parts are in the repository; with `subject`, one that refers to the image.
    fn sign(&self, address: &str, repository: &str, digest: &str, subject: Option<Value>) -> Result<Vec<u8>> {
        let statement = json!({
            "critical": {
                "identity": {"docker-reference": format!("{address}/{repository}")},
                "image": {"docker-manifest-digest": digest}, "type": "cosign container image signature",
            },
            "optional": null,
        })
        .to_string();
        let made = self.made(statement.as_bytes())?;
        let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
        let mut layer = put_blob(self.sandbox, address, repository, kind, statement.as_bytes())?;
        layer["annotations"] = json!({"dev.cosignproject.cosign/signature": made});
        let config = put_blob(self.sandbox, address, repository, "application/vnd.oci.image.config.v1+json", b"{}")?;
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        if let Some(subject) = subject {
            manifest["artifactType"] = "application/vnd.dev.cosign.artifact.sig.v1+json".into();
            manifest["subject"] = subject;
        }
        Ok(manifest.to_string().into_bytes())
    }

    fn requirement(&self) -> Result<Value> {
        Ok(
            json!({"type": "sigstoreSigned", "keyPath": self.file("pub")?, "signedIdentity": {"type": "matchRepository"}}),
        )
    }
}

fn policy(sandbox: &Sandbox, default: &Value, docker: Value) -> Result<String> {
    sandbox.file("policy.json", json!({"default": [default], "transports": {"docker": docker}}).to_string())
}

fn under(sandbox: &Sandbox, policy: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = sandbox.command(arguments);
    command.env("DHOW_SIGNATURE_POLICY", policy);
    sandbox.finish_command(command, "")
}

fn signatures_decide(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::empty(sandbox, "registry", None)?;
    let (address, repository) = (registry.address.as_str(), "team/app");
    let name = format!("{address}/{repository}:1");
    let curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let (p256, ed25519) =
        (Signer::new(sandbox, "p256", &curve)?, Signer::new(sandbox, "ed25519", &["-algorithm", "ED25519"])?);
    sandbox.load("busybox")?;
    sandbox.ok(["tag", "busybox", &name])?;
    sandbox.ok(["push", "-q", &name])?;
    let digest = digest_of(address, repository, "1")?;
    sandbox.ok(["rmi", "-f", "busybox", &name])?;
    let anything = json!({"type": "insecureAcceptAnything"});
    let wanting = |signer: &Signer<'_>| policy(sandbox, &anything, json!({address: [signer.requirement()?]}));
    let file = wanting(&p256)?;
    // Nobody signed it: nothing comes, and nothing is left.
    under(sandbox, &file, &["pull", &name])?.fails(1, &["may not be used", "has no signature"])?;
    under(sandbox, &file, &["run", "--rm", "--network", "none", &name, "true"])?.fails(125, &["has no signature"])?;
    same!(sandbox.ok(["images", "-q"])?, "");
    // Without a policy it is as ever, and what came so is not used under one.
    sandbox.ok(["pull", "-q", &name])?;
    let run = ["run", "--rm", "--network", "none", &name, "echo", "runs"];
    same!(sandbox.ok(run)?, "runs");
    under(sandbox, &file, &run)?.fails(125, &["has no signature", "dhow pull"])?;
    let id = sandbox.ok(["images", "-q", "--no-trunc"])?;
    under(sandbox, &file, &["create", &id, "true"])?.fails(1, &["has no signature"])?;
    // Signed under cosign's tag.
    let tag = format!("{}.sig", digest.replace(':', "-"));
    let signature = p256.sign(address, repository, &digest, None)?;
    same!(ask(address, "PUT", &format!("/v2/{repository}/manifests/{tag}"), MANIFEST, &signature)?.0, 201);
    under(sandbox, &file, &["pull", "-q", &name])?.success()?;
    same!(under(sandbox, &file, &run)?.success()?, "runs");
    same!(under(sandbox, &file, &["run", "--rm", "--network", "none", &id, "echo", "id"])?.success()?, "id");
    // Another name for the same image was not signed, and another key did not sign it.
    sandbox.ok(["tag", &name, &format!("{address}/team/other:1")])?;
    let other = format!("{address}/team/other:1");
    under(sandbox, &file, &["run", "--rm", &other, "true"])?.fails(125, &["it is for the name"])?;
    sandbox.ok(["rmi", &other])?;
    let file = wanting(&ed25519)?;
    under(sandbox, &file, &run)?.fails(125, &["by another key"])?;
    sandbox.load("busybox")?;
    let mount = format!("type=image,source={name},target=/i");
    under(sandbox, &file, &["run", "--rm", "--mount", &mount, "busybox", "true"])?.fails(125, &["by another key"])?;
    sandbox.ok(["rmi", "busybox"])?;
    // Signed by the other as a referrer; this registry keeps no list of them, so who pushes does.
    let subject = json!({"mediaType": MANIFEST, "digest": digest, "size": 1});
    let referrer = ed25519.sign(address, repository, &digest, Some(subject))?;
    let place = format!("/v2/{repository}/manifests/by-ed25519");
    same!(ask(address, "PUT", &place, MANIFEST, &referrer)?.0, 201);
    let entry = json!({
        "mediaType": MANIFEST, "digest": digest_of(address, repository, "by-ed25519")?, "size": referrer.len(),
        "artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json",
    });
    let kind = "application/vnd.oci.image.index.v1+json";
    let list = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).to_string();
    let place = format!("/v2/{repository}/manifests/{}", digest.replace(':', "-"));
    same!(ask(address, "PUT", &place, kind, list.as_bytes())?.0, 201);
    under(sandbox, &file, &["pull", "-q", &name])?.success()?;
    same!(under(sandbox, &file, &run)?.success()?, "runs");
    contains!(sandbox.ok(["registry", "referrers", &name])?, "application/vnd.dev.cosign.artifact.sig.v1+json");
    same!(sandbox.ok(["registry", "referrers", "-q", "--artifact-type", "no/such", &name])?, "");
    contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
    Ok(())
}

/// Signatures as cosign 3 attaches them, in a registry that keeps no list of referrers: cosign then keeps it, under a tag, and
/// calls them by the type of their configuration.
fn bundles_decide(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::empty(sandbox, "registry", None)?;
    let (address, repository) = (registry.address.as_str(), "team/app");
    let name = format!("{address}/{repository}:1");
    let signer = Signer::new(sandbox, "p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])?;
    sandbox.load("busybox")?;
    sandbox.ok(["tag", "busybox", &name])?;
    sandbox.ok(["push", "-q", &name])?;
    let digest = digest_of(address, repository, "1")?;
    sandbox.ok(["rmi", "-f", "busybox", &name])?;
    let anything = json!({"type": "insecureAcceptAnything"});
    let mut requirement = signer.requirement()?;
    let named = policy(sandbox, &anything, json!({address: [requirement.clone()]}))?;
    let named = sandbox.file("named.json", fs::read(named)?)?;
    requirement["signedIdentity"] = json!({"type": "digestOnly"});
    let file = policy(sandbox, &anything, json!({address: [requirement]}))?;
    let refer = |tag: &str, manifest: &[u8]| -> Result<Value> {
        same!(ask(address, "PUT", &format!("/v2/{repository}/manifests/{tag}"), MANIFEST, manifest)?.0, 201);
        let digest = digest_of(address, repository, tag)?;
        Ok(json!({"mediaType": MANIFEST, "digest": digest, "size": manifest.len(), "artifactType": EMPTY}))
    };
    let list = |entries: &[Value]| -> Result<()> {
        let kind = "application/vnd.oci.image.index.v1+json";
        let list = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string();
        let place = format!("/v2/{repository}/manifests/{}", digest.replace(':', "-"));
        same!(ask(address, "PUT", &place, kind, list.as_bytes())?.0, 201);
        Ok(())
    };
    // What somebody trusted says about its parts is no signature; one of another image is not this one's.
    let slsa = signer.bundle(address, repository, &digest, "https://slsa.dev/provenance/v1")?;
    let slsa = refer("slsa", &slsa)?;
    list(std::slice::from_ref(&slsa))?;
    under(sandbox, &file, &["pull", &name])?.fails(1, &["may not be used", "has no signature"])?;
    let signed = "https://sigstore.dev/cosign/sign/v1";
    let other = refer("other", &signer.bundle(address, repository, &format!("sha256:{}", "a".repeat(64)), signed)?)?;
    list(&[slsa.clone(), other.clone()])?;
    under(sandbox, &file, &["pull", &name])?.fails(1, &["may not be used", "it is for sha256:aaaa"])?;
    let good = refer("good", &signer.bundle(address, repository, &digest, signed)?)?;
    list(&[slsa, other, good])?;
    under(sandbox, &named, &["pull", &name])?.fails(1, &["signs no name", "digestOnly"])?;
    same!(sandbox.ok(["images", "-q"])?, "");
    under(sandbox, &file, &["pull", "-q", &name])?.success()?;
    // At use, too.
    let run = ["run", "--rm", "--network", "none", &name, "echo", "runs"];
    same!(under(sandbox, &file, &run)?.success()?, "runs");
    under(sandbox, &named, &run)?.fails(125, &["signs no name", "digestOnly"])
}

fn policies_that_cannot_be_used(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let run = ["run", "--rm", "--network", "none", "busybox", "true"];
    for text in ["", "{", "{}", r#"{"default": [{"type": "whatever"}]}"#, r#"{"default": [{"type": "signedBy"}]}"#] {
        let file = sandbox.file("policy.json", text)?;
        under(sandbox, &file, &run)?.fails(125, &["policy"])?;
    }
    under(sandbox, "/no/such/file", &run)?.fails(125, &["/no/such/file", "does not exist"])?;
    let reject = policy(sandbox, &json!({"type": "reject"}), json!({}))?;
    under(sandbox, &reject, &run)?.fails(125, &["may not be used", "rejects it"])?;
    // One line turns it on: the user's own file.
    let home = sandbox.path("home");
    fs::create_dir_all(home.join("dhow"))?;
    fs::copy(&reject, home.join("dhow/policy.json"))?;
    let mut command = sandbox.command(run);
    command.env("XDG_CONFIG_HOME", &home);
    sandbox.finish_command(command, "")?.fails(125, &["rejects it"])?;
    // What is inside the program came with it.
    under(sandbox, &reject, &["run", "--rm", "--network", "none", "dhow/hello"])?.success()?;
    Ok(())
}

fn archives_by_policy(sandbox: &Sandbox) -> Result<()> {
    let (oci, docker) = (sandbox.archive("busybox", "oci")?, sandbox.archive("busybox", "docker")?);
    let text = json!({
        "default": [{"type": "reject"}],
        "transports": {"oci-archive": {"": [{"type": "insecureAcceptAnything"}]}},
    });
    let file = sandbox.file("policy.json", text.to_string())?;
    under(sandbox, &file, &["load", "-i", &docker])?.fails(1, &["rejects it"])?;
    same!(sandbox.ok(["images", "-q"])?, "");
    under(sandbox, &file, &["load", "-i", &oci])?.success()?;
    // Loaded, but it came from no registry that is trusted.
    under(sandbox, &file, &["create", "busybox"])?.fails(1, &["rejects it"])
}

/// CVE-2022-24778: an image whose layers are encrypted is refused, also when its plain layer lies in the store.
fn encrypted_layers(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let layout = Layout::unpack(sandbox, "busybox")?;
    let (_, mut manifest) = layout.manifest()?;
    manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted".into();
    let bytes = manifest.to_string();
    let file = sandbox.file("manifest", &bytes)?;
    let sum = host::succeed(Command::new("sha256sum").arg(&file))?;
    let digest = format!("sha256:{}", sum.split(' ').next().unwrap_or_default());
    fs::copy(&file, layout.blob(&digest))?;
    let entry = json!({"mediaType": MANIFEST, "digest": digest, "size": bytes.len()});
    fs::write(layout.0.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string())?;
    let archive = layout.pack(sandbox, "encrypted.tar")?;
    sandbox.dhow(["load", "-i", &archive])?.fails(1, &["is encrypted", "keeps no keys"])?;
    let address = layout.serve()?;
    sandbox.dhow(["pull", &format!("{address}/x:1")])?.fails(1, &["is encrypted", "keeps no keys"])?;
    same!(sandbox.ok(["images", "-q"])?.lines().count(), 1);
    Ok(())
}

fn tags_referrers_delete(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::empty(sandbox, "registry", None)?;
    let name = format!("{}/team/app", registry.address);
    sandbox.load("busybox")?;
    for tag in ["1", "2", "three"] {
        sandbox.ok(["tag", "busybox", &format!("{name}:{tag}")])?;
        sandbox.ok(["push", "-q", &format!("{name}:{tag}")])?;
    }
    // In the registry's order, which need not be the alphabet's.
    let mut tags: Vec<String> =
        sandbox.ok(["registry", "tags", "--format", "{{.Tag}}", &name])?.lines().map(str::to_owned).collect();
    tags.sort();
    same!(tags, ["1", "2", "three"]);
    let text = sandbox.ok(["search", "--list-tags", "--limit", "2", &name])?;
    same!(text.lines().next().map(|line| line.split_whitespace().collect::<Vec<_>>()), Some(vec!["NAME", "TAG"]));
    same!(text.lines().count(), 3);
    sandbox.dhow(["registry", "tags", &format!("{name}:1")])?.fails(1, &["tags are listed of a repository"])?;
    sandbox.dhow(["registry", "tags", &format!("{}/no/such", registry.address)])?.fails(1, &["no/such"])?;
    same!(sandbox.ok(["registry", "referrers", "-q", &format!("{name}:1")])?, "");
    sandbox.dhow(["registry", "referrers", &format!("{name}:4")])?.fails(1, &["4"])?;
    // This registry deletes manifests, not tags; what that would take along is said.
    sandbox.dhow(["registry", "delete", &name])?.fails(1, &["neither a tag nor a digest"])?;
    let digest = digest_of(&registry.address, "team/app", "1")?;
    sandbox.dhow(["registry", "delete", &format!("{name}:1")])?.fails(1, &["no deletion of single tags", &digest])?;
    let whole = format!("{name}@{digest}");
    contains!(sandbox.ok(["registry", "delete", &whole])?, format!("Deleted: {whole}"));
    sandbox.dhow(["registry", "delete", &whole])?.fails(1, &["not"])?;
    sandbox.dhow(["pull", &format!("{name}:2")])?.fails(1, &["not found"])
}
