//! Signatures as cosign makes them, made here with openssl: by keys of each kind, and by certificates with a log's promise; the
//! same as Sigstore's bundles.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::digest::Digest;
use oci::reference::Reference;
use serde_json::{Value, json};
use signature::{Policy, Signature, Subject, Transport};
use std::path::Path;
use std::process::Command;

const NAME: &str = "r.test/team/app";

/// Runs openssl in the directory; false when it is not installed.
fn openssl(directory: &Path, line: &str) -> bool {
    let output = match Command::new("openssl").args(line.split_whitespace()).current_dir(directory).output() {
        Ok(output) => output,
        Err(_) => {
            #[allow(clippy::print_stderr, reason = "a test that cannot run says why")]
            {
                eprintln!("SKIP: the program openssl is not installed");
            }
            return false;
        }
    };
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

fn key(directory: &Path, name: &str, kind: &str) -> bool {
    openssl(directory, &format!("genpkey {kind} -out {name}.key"))
        && openssl(directory, &format!("pkey -in {name}.key -pubout -out {name}.pub"))
}

fn sign(directory: &Path, name: &str, message: &[u8]) -> Vec<u8> {
    std::fs::write(directory.join("message"), message).unwrap();
    let text = String::from_utf8(
        Command::new("openssl")
            .current_dir(directory)
            .args(["pkey", "-noout", "-text", "-in"])
            .arg(format!("{name}.key"))
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    match text.contains("ED25519") {
        true => openssl(directory, &format!("pkeyutl -sign -rawin -inkey {name}.key -in message -out signed")),
        false => openssl(directory, &format!("dgst -sha256 -sign {name}.key -out signed message")),
    };
    std::fs::read(directory.join("signed")).unwrap()
}

fn statement(digest: &Digest, name: &str) -> Vec<u8> {
    let text = json!({
        "critical": {
            "identity": {"docker-reference": name}, "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    serde_json::to_vec(&text).unwrap()
}

fn by_key(directory: &Path, key: &str, statement: &[u8]) -> Signature {
    let signature = STANDARD.encode(sign(directory, key, statement));
    Signature { statement: STANDARD.encode(statement), signature, ..Signature::default() }
}

fn policy(directory: &Path, requirement: Value) -> Policy {
    let text = json!({"default": [requirement]}).to_string();
    Policy::parse(text.as_bytes(), &directory.join("policy.json")).unwrap()
}

fn check(policy: &Policy, digest: &Digest, signatures: &[Signature]) -> Result<(), String> {
    let name: Reference = format!("{NAME}:1").parse().unwrap();
    let subject = Subject { transport: Transport::Registry, name: Some(&name), digests: std::slice::from_ref(digest) };
    policy.check(&subject, signatures).map_err(|refusal| refusal.to_string())
}

fn with_key(key: &str) -> Value {
    json!({"type": "sigstoreSigned", "keyPath": format!("{key}.pub"), "signedIdentity": {"type": "matchRepository"}})
}

#[test]
fn by_keys_of_each_kind() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let digest = Digest::sha256(b"manifest");
    let kinds = [
        ("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        ("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
        ("ed25519", "-algorithm ED25519"),
        ("rsa", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
    ];
    for (name, kind) in kinds {
        if !key(directory, name, kind) {
            return;
        }
    }
    let good = statement(&digest, NAME);
    for (name, _) in kinds {
        let policy = policy(directory, with_key(name));
        let signature = by_key(directory, name, &good);
        check(&policy, &digest, std::slice::from_ref(&signature)).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Bad ones beside it count for nothing, in either order.
        let bad = Signature { statement: STANDARD.encode(b"{}"), ..signature.clone() };
        check(&policy, &digest, &[bad.clone(), signature.clone()]).unwrap();
        check(&policy, &digest, &[signature.clone(), bad.clone()]).unwrap();
        let refused = |signatures: &[Signature], digest: &Digest| check(&policy, digest, signatures).unwrap_err();
        assert!(refused(&[], &digest).contains("it has no signature"), "{name}");
        assert!(refused(&[bad], &digest).contains("it is by another key"), "{name}");
        let error = refused(std::slice::from_ref(&signature), &Digest::sha256(b"other"));
        assert!(error.contains(&format!("it is for {digest}")), "{name}: {error}");
        let other = by_key(directory, name, &statement(&digest, "r.test/team/other"));
        assert!(refused(&[other], &digest).contains("it is for the name \"r.test/team/other\""), "{name}");
        // One bit of the statement or of the signature.
        let mut changed = good.clone();
        changed[30] ^= 1;
        let changed = Signature { statement: STANDARD.encode(changed), ..signature.clone() };
        assert!(refused(&[changed], &digest).contains("another key"), "{name}");
        let mut made = STANDARD.decode(&signature.signature).unwrap();
        let last = made.len() - 1;
        made[last] ^= 1;
        let changed = Signature { signature: STANDARD.encode(made), ..signature.clone() };
        assert!(refused(&[changed], &digest).contains("another key"), "{name}");
        let long = Signature { statement: "A".repeat(1 << 20), ..signature };
        assert!(refused(&[long], &digest).contains("too long"), "{name}");
    }
    // A key of one kind does not check another's, and several keys are a choice.
    let by_rsa = by_key(directory, "rsa", &good);
    let p256 = policy(directory, with_key("p256"));
    assert!(check(&p256, &digest, std::slice::from_ref(&by_rsa)).unwrap_err().contains("another key"));
    let both = policy(
        directory,
        json!({"type": "sigstoreSigned", "keyPaths": ["p256.pub", "rsa.pub"], "signedIdentity": {"type": "matchRepository"}}),
    );
    check(&both, &digest, &[by_rsa]).unwrap();
    // A thousand signatures are not looked at (CVE-2024-29903).
    let bad = Signature { signature: "AAAA".into(), statement: STANDARD.encode(&good), ..Signature::default() };
    let mut many = vec![bad; 1000];
    many.push(by_key(directory, "p256", &good));
    assert!(check(&p256, &digest, &many).is_err());
}

#[test]
fn material_that_cannot_be_used_is_a_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::write(directory.join("empty.pub"), "").unwrap();
    std::fs::write(directory.join("private.pub"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        .unwrap();
    std::fs::write(directory.join("noise.pub"), "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
        .unwrap();
    let digest = Digest::sha256(b"manifest");
    for (requirement, expected) in [
        (with_key("empty"), "cannot be used"),
        (with_key("private"), "cannot be used"),
        (with_key("noise"), "cannot be used"),
        (with_key("missing"), "cannot be used"),
        (json!({"type": "sigstoreSigned"}), "neither a key nor fulcio"),
        (json!({"type": "signedBy", "keyType": "GPGKeys"}), "does not verify"),
        (json!({"type": "reject"}), "rejects it"),
    ] {
        let error = check(&policy(directory, requirement.clone()), &digest, &[]).unwrap_err();
        assert!(error.contains(expected), "{requirement}: {error}");
    }
    check(&policy(directory, json!({"type": "insecureAcceptAnything"})), &digest, &[]).unwrap();
}

/// A little Fulcio and a little Rekor.
fn authority(directory: &Path) -> bool {
    const CONFIG: &str = "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\n[root]\nbasicConstraints=critical,CA:true\n\
        keyUsage=critical,keyCertSign\n[between]\nbasicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign\n\
        extendedKeyUsage=codeSigning\n\
        [leaf]\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\nsubjectAltName=critical,email:dev@r.test\n\
        1.3.6.1.4.1.57264.1.1=DER:68:74:74:70:73:3a:2f:2f:69:64:70\n1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:https\\://idp\n\
        [robot]\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n\
        subjectAltName=critical,URI:https://ci.test/flow\n1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:https\\://idp\n\
        [server]\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName=critical,email:dev@r.test\n\
        1.3.6.1.4.1.57264.1.1=DER:68:74:74:70:73:3a:2f:2f:69:64:70\n";
    std::fs::write(directory.join("c.cnf"), CONFIG).unwrap();
    let curve = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
    if !["root", "between", "leaf", "rekor", "other"].iter().all(|name| key(directory, name, curve)) {
        return false;
    }
    openssl(directory, "req -x509 -config c.cnf -extensions root -subj /CN=root -days 30 -key root.key -out root.pem");
    let issue = |name: &str, section: &str, subject: &str, by: &str, key: &str| {
        openssl(directory, &format!("req -new -config c.cnf -subj {subject} -key {key}.key -out {name}.csr"));
        let by = format!("-CA {by}.pem -CAkey {by}.key -CAcreateserial");
        openssl(
            directory,
            &format!("x509 -req -days 1 -in {name}.csr {by} -extfile c.cnf -extensions {section} -out {name}.pem"),
        );
    };
    issue("between", "between", "/CN=between", "root", "between");
    issue("leaf", "leaf", "/CN=x", "between", "leaf");
    issue("robot", "robot", "/CN=x", "between", "leaf");
    issue("server", "server", "/CN=x", "between", "leaf");
    true
}

fn promise(directory: &Path, statement: &[u8], signature: &str, maker: &str, time: u64) -> String {
    let body = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
        "data": {"hash": {"algorithm": "sha256", "value": Digest::sha256(statement).hex()}},
        "signature": {"content": signature, "publicKey": {"content": STANDARD.encode(maker)}},
    }});
    let body = STANDARD.encode(body.to_string());
    let canonical = format!("{{\"body\":\"{body}\",\"integratedTime\":{time},\"logID\":\"c0ffee\",\"logIndex\":7}}");
    let stamp = STANDARD.encode(sign(directory, "rekor", canonical.as_bytes()));
    let payload = json!({"body": body, "integratedTime": time, "logIndex": 7, "logID": "c0ffee"});
    json!({"SignedEntryTimestamp": stamp, "Payload": payload}).to_string()
}

#[test]
fn by_a_certificate_and_a_log() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    if !authority(directory) {
        return;
    }
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let requirement = |issuer: &str, mail: &str| {
        json!({
            "type": "sigstoreSigned", "signedIdentity": {"type": "matchRepository"}, "rekorPublicKeyPath": "rekor.pub",
            "fulcio": {"caPath": "root.pem", "oidcIssuer": issuer, "subjectEmail": mail},
        })
    };
    let trusting = policy(directory, requirement("https://idp", "dev@r.test"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let digest = Digest::sha256(b"manifest");
    let text = statement(&digest, NAME);
    let made = |certificate: &str, key: &str, time: u64| {
        let mut signature = by_key(directory, key, &text);
        signature.certificate = Some(read(certificate));
        signature.chain = Some(read("between.pem") + &read("root.pem"));
        signature.bundle = Some(promise(directory, &text, &signature.signature, &read(certificate), time));
        signature
    };
    let good = made("leaf.pem", "leaf", now);
    check(&trusting, &digest, std::slice::from_ref(&good)).unwrap();
    let refused = |signature: Signature| check(&trusting, &digest, &[signature]).unwrap_err();
    assert!(refused(Signature { bundle: None, ..good.clone() }).contains("not in the log"));
    assert!(refused(Signature { certificate: None, ..good.clone() }).contains("no certificate"));
    assert!(refused(Signature { chain: None, ..good.clone() }).contains("not the policy's authority's"));
    // Two days later the certificate was no longer good; two days earlier not yet.
    for time in [now + 172_800, now - 172_800] {
        assert!(refused(made("leaf.pem", "leaf", time)).contains("not good when it signed"));
    }
    // Signed by somebody who only has the certificate.
    assert!(refused(made("leaf.pem", "other", now)).contains("not by its certificate's key"));
    // A certificate for servers.
    assert!(refused(made("server.pem", "leaf", now)).contains("not the policy's authority's"));
    // The entry of another signature (CVE-2022-36056), and one that the log did not sign.
    let other = by_key(directory, "leaf", b"something else");
    let bundle = promise(directory, b"something else", &other.signature, &read("leaf.pem"), now);
    assert!(refused(Signature { bundle: Some(bundle), ..good.clone() }).contains("about another signature"));
    let mut bundle: Value = serde_json::from_str(good.bundle.as_ref().unwrap()).unwrap();
    bundle["Payload"]["integratedTime"] = json!(now + 1);
    assert!(refused(Signature { bundle: Some(bundle.to_string()), ..good.clone() }).contains("not the policy's log's"));
    for text in ["", "{}", "[]", "{\"SignedEntryTimestamp\":\"\",\"Payload\":{}}"] {
        assert!(refused(Signature { bundle: Some(text.into()), ..good.clone() }).contains("malformed"), "{text}");
    }
    for (issuer, mail, expected) in
        [("https://idp", "else@r.test", "by another signer"), ("https://other", "dev@r.test", "somebody else vouched")]
    {
        let policy = policy(directory, requirement(issuer, mail));
        let error = check(&policy, &digest, std::slice::from_ref(&good)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    // A key with a log: the entry must be there and be about this key.
    let logged = json!({
        "type": "sigstoreSigned", "keyPath": "other.pub", "rekorPublicKeyPath": "rekor.pub",
        "signedIdentity": {"type": "matchRepository"},
    });
    let logged = policy(directory, logged);
    let mut by_other = by_key(directory, "other", &text);
    assert!(check(&logged, &digest, std::slice::from_ref(&by_other)).unwrap_err().contains("not in the log"));
    by_other.bundle = Some(promise(directory, &text, &by_other.signature, &read("other.pub"), now));
    check(&logged, &digest, std::slice::from_ref(&by_other)).unwrap();
    by_other.bundle = Some(promise(directory, &text, &by_other.signature, &read("leaf.pub"), now));
    assert!(check(&logged, &digest, &[by_other]).unwrap_err().contains("about another signature"));
}

const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

fn in_toto(digest: &Digest, predicate: &str) -> Vec<u8> {
    let subject = json!([{"digest": {"sha256": digest.hex()}, "annotations": {}}]);
    let kind = "https://in-toto.io/Statement/v1";
    json!({"_type": kind, "subject": subject, "predicateType": predicate, "predicate": {}}).to_string().into_bytes()
}

/// A bundle as `cosign sign` of version 3.1 writes it with a key and without a log.
fn bundle(directory: &Path, key: &str, payload: &[u8]) -> Value {
    let kind = "application/vnd.in-toto+json";
    let message = [format!("DSSEv1 28 {kind} {} ", payload.len()).as_bytes(), payload].concat();
    let made = STANDARD.encode(sign(directory, key, &message));
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "x"}},
        "dsseEnvelope": {"payload": STANDARD.encode(payload), "payloadType": kind, "signatures": [{"sig": made}]},
    })
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, &parts.concat()).as_ref().to_vec()
}

/// The entry of a bundle in the little Rekor, as the second of two.
fn record(directory: &Path, bundle: &Value, maker: &str, time: u64) -> Value {
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let signature = &bundle["dsseEnvelope"]["signatures"][0]["sig"];
    let body = json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
        "envelopeHash": {"algorithm": "sha256", "value": "00"},
        "payloadHash": {"algorithm": "sha256", "value": Digest::sha256(&payload).hex()},
        "signatures": [{"signature": signature, "verifier": STANDARD.encode(maker)}],
    }})
    .to_string();
    let encoded = STANDARD.encode(&body);
    let canonical = format!("{{\"body\":\"{encoded}\",\"integratedTime\":{time},\"logID\":\"c0ffee\",\"logIndex\":7}}");
    let promise = STANDARD.encode(sign(directory, "rekor", canonical.as_bytes()));
    let beside = sha256(&[&[0], b"the first"]);
    let root = STANDARD.encode(sha256(&[&[1], &beside, &sha256(&[&[0], body.as_bytes()])]));
    let note = format!("rekor.test - 1\n2\n{root}\n");
    let signed = STANDARD.encode([&[1, 2, 3, 4], &sign(directory, "rekor", note.as_bytes())[..]].concat());
    json!({
        "logIndex": "7", "logId": {"keyId": STANDARD.encode([0xc0, 0xff, 0xee])}, "integratedTime": time.to_string(),
        "kindVersion": {"kind": "dsse", "version": "0.0.1"}, "inclusionPromise": {"signedEntryTimestamp": promise},
        "inclusionProof": {
            "logIndex": "1", "rootHash": root, "treeSize": "2", "hashes": [STANDARD.encode(beside)],
            "checkpoint": {"envelope": format!("{note}\n\u{2014} rekor.test {signed}\n")},
        },
        "canonicalizedBody": encoded,
    })
}

fn of(bundle: &Value) -> Signature {
    Signature::from_bundle(bundle.to_string())
}

#[test]
fn bundles_by_keys() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for (name, kind) in [("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"), ("ed25519", "-algorithm ED25519")]
    {
        if !key(directory, name, kind) {
            return;
        }
    }
    let digest = Digest::sha256(b"manifest");
    let requirement = |key: &str| {
        let identity = json!({"type": "digestOnly"});
        json!({"type": "sigstoreSigned", "keyPath": format!("{key}.pub"), "signedIdentity": identity})
    };
    for name in ["p256", "ed25519"] {
        let policy = policy(directory, requirement(name));
        let good = bundle(directory, name, &in_toto(&digest, SIGNED));
        check(&policy, &digest, &[of(&good)]).unwrap();
        let bad = Signature::from_bundle("{}".to_owned());
        check(&policy, &digest, &[bad.clone(), of(&good), bad]).unwrap();
        let refused = |bundle: &Value| check(&policy, &digest, &[of(bundle)]).unwrap_err();
        let other = Digest::sha256(b"other");
        assert!(check(&policy, &other, &[of(&good)]).unwrap_err().contains(&format!("it is for {digest}")), "{name}");
        let attestation = bundle(directory, name, &in_toto(&digest, "https://slsa.dev/provenance/v1"));
        assert!(refused(&attestation).contains("it is an attestation"), "{name}");
        assert!(refused(&bundle(directory, name, b"{}")).contains("not a statement about an image"), "{name}");
        // Each part that is signed, and each that says how to read it.
        let payload = STANDARD.encode(in_toto(&other, SIGNED));
        for (place, value, expected) in [
            ("/dsseEnvelope/payload", json!(payload), "it is by another key"),
            ("/dsseEnvelope/payload", json!("?"), "malformed"),
            ("/dsseEnvelope/payloadType", json!("text/plain"), "not a statement about an image"),
            ("/dsseEnvelope/signatures/0/sig", json!("AAAA"), "it is by another key"),
            ("/dsseEnvelope/signatures", json!([]), "not exactly one signature"),
            ("/dsseEnvelope", json!(null), "malformed"),
            (
                "/mediaType",
                json!("application/vnd.dev.sigstore.bundle+json;version=0.1"),
                "version that is not supported",
            ),
            ("/mediaType", json!("A".repeat(300 << 10)), "too long"),
        ] {
            let mut changed = good.clone();
            *changed.pointer_mut(place).unwrap() = value;
            assert!(refused(&changed).contains(expected), "{name} {place}: {}", refused(&changed));
        }
        let mut bare = good.clone();
        bare["messageSignature"] = json!({"signature": "AAAA"});
        assert!(refused(&bare).contains("malformed"), "{name}");
        bare.as_object_mut().unwrap().remove("dsseEnvelope");
        assert!(refused(&bare).contains("bare bytes"), "{name}");
    }
    // It has no name, so that a policy that asks for one does not take it; other keys' are other keys'.
    let good = of(&bundle(directory, "p256", &in_toto(&digest, SIGNED)));
    let named = policy(directory, with_key("p256"));
    assert!(check(&named, &digest, std::slice::from_ref(&good)).unwrap_err().contains("digestOnly takes it"));
    let other = policy(directory, requirement("ed25519"));
    assert!(check(&other, &digest, &[good]).unwrap_err().contains("it is by another key"));
    // The older form has a name, which digestOnly leaves alone.
    let older = by_key(directory, "p256", &statement(&digest, "r.test/elsewhere"));
    check(&policy(directory, requirement("p256")), &digest, &[older]).unwrap();
}

fn trusted_root(directory: &Path, end: &str) -> Value {
    let read = |name: &str| {
        let text = std::fs::read_to_string(directory.join(name)).unwrap();
        text.lines().filter(|line| !line.starts_with("-----")).collect::<String>()
    };
    let valid = json!({"start": "2020-01-01T00:00:00.000Z", "end": end});
    let chain = json!([{"rawBytes": read("between.pem")}, {"rawBytes": read("root.pem")}]);
    json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [{"baseUrl": "https://rekor.test", "publicKey": {"rawBytes": read("rekor.pub"), "validFor": valid}}],
        "certificateAuthorities": [{"certChain": {"certificates": chain}, "validFor": valid}],
        "ctlogs": [], "timestampAuthorities": [],
    })
}

#[test]
fn bundles_by_certificates_and_a_log() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    if !authority(directory) {
        return;
    }
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let raw = |name: &str| read(name).lines().filter(|line| !line.starts_with("-----")).collect::<String>();
    std::fs::write(directory.join("trusted.json"), trusted_root(directory, "2999-01-01T00:00:00Z").to_string())
        .unwrap();
    std::fs::write(directory.join("former.json"), trusted_root(directory, "2021-01-01T00:00:00Z").to_string()).unwrap();
    let requirement = |root: &str, signer: Value| {
        let mut fulcio = json!({"oidcIssuer": "https://idp"});
        fulcio.as_object_mut().unwrap().extend(signer.as_object().unwrap().clone());
        let identity = json!({"type": "digestOnly"});
        json!({"type": "sigstoreSigned", "signedIdentity": identity, "trustedRootPath": root, "fulcio": fulcio})
    };
    let mail = json!({"subjectEmail": "dev@r.test"});
    let trusting = policy(directory, requirement("trusted.json", mail.clone()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let digest = Digest::sha256(b"manifest");
    let made = |certificate: &str, key: &str, time: u64| {
        let mut made = bundle(directory, key, &in_toto(&digest, SIGNED));
        let record = record(directory, &made, &read(certificate), time);
        made["verificationMaterial"] = json!({"certificate": {"rawBytes": raw(certificate)}, "tlogEntries": [record]});
        made
    };
    let good = made("leaf.pem", "leaf", now);
    check(&trusting, &digest, &[of(&good)]).unwrap();
    let refused = |bundle: &Value| check(&trusting, &digest, &[of(bundle)]).unwrap_err();
    for time in [now + 172_800, now - 172_800] {
        assert!(refused(&made("leaf.pem", "leaf", time)).contains("not good when it signed"));
    }
    assert!(refused(&made("leaf.pem", "other", now)).contains("not by its certificate's key"));
    assert!(refused(&made("server.pem", "leaf", now)).contains("not the policy's authority's"));
    assert!(refused(&made("robot.pem", "leaf", now)).contains("by another signer"));
    let former = policy(directory, requirement("former.json", mail));
    assert!(check(&former, &digest, &[of(&good)]).unwrap_err().contains("not the policy's log's"));
    let robot = policy(directory, requirement("trusted.json", json!({"subjectUri": "https://ci.test/flow"})));
    check(&robot, &digest, &[of(&made("robot.pem", "leaf", now))]).unwrap();
    assert!(check(&robot, &digest, &[of(&good)]).unwrap_err().contains("by another signer"));
    let another = bundle(directory, "leaf", &in_toto(&Digest::sha256(b"else"), SIGNED));
    let another = record(directory, &another, &read("leaf.pem"), now);
    let entry = "/verificationMaterial/tlogEntries/0";
    for (place, value, expected) in [
        ("/verificationMaterial/tlogEntries", json!([]), "not in the log"),
        ("/verificationMaterial/certificate", json!(null), "no certificate"),
        (entry, another, "about another signature"),
        (format!("{entry}/integratedTime").as_str(), json!((now + 1).to_string()), "not the policy's log's"),
        (format!("{entry}/logIndex").as_str(), json!(-1), "malformed"),
        (format!("{entry}/inclusionPromise").as_str(), json!(null), "has no promise"),
        (format!("{entry}/inclusionProof").as_str(), json!(null), "not proved"),
        (format!("{entry}/inclusionProof/logIndex").as_str(), json!("0"), "not proved"),
        (format!("{entry}/inclusionProof/treeSize").as_str(), json!("3"), "not proved"),
        (format!("{entry}/inclusionProof/hashes").as_str(), json!([]), "not proved"),
        (format!("{entry}/inclusionProof/rootHash").as_str(), json!("AAAA"), "not proved"),
        (format!("{entry}/inclusionProof/checkpoint/envelope").as_str(), json!("a\n2\nb\n\n"), "not proved"),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(place).unwrap() = value;
        assert!(refused(&changed).contains(expected), "{place}: {}", refused(&changed));
    }
    let place = format!("{entry}/inclusionProof/checkpoint/envelope");
    let mut changed = good.clone();
    let note = changed.pointer(&place).unwrap().as_str().unwrap().replace("- 1", "- 2");
    *changed.pointer_mut(&place).unwrap() = json!(note);
    assert!(refused(&changed).contains("not proved"));
}

/// Xorshift: the same changes at each run, so that a failure comes back.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count.max(1) as u64) as usize
    }

    fn bytes(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let at = self.below(bytes.len());
        match self.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, self.below(256) as u8),
            // Lengths of DER are where it hurts.
            2 if !bytes.is_empty() => bytes[at] = [0, 0x7f, 0x80, 0x84, 0xff][self.below(5)],
            _ if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            _ => {}
        }
        bytes
    }

    fn value(&mut self, old: &Value) -> Value {
        let odd =
            [json!(null), json!(""), json!("0"), json!("-1"), json!(u64::MAX), json!([]), json!({}), json!([[[]]])];
        match (old.as_str(), self.below(4)) {
            (_, 0) => odd[self.below(odd.len())].clone(),
            (Some(text), 1) => json!(String::from_utf8_lossy(&self.bytes(text.as_bytes().to_vec()))),
            (Some(text), _) => match STANDARD.decode(text) {
                Ok(bytes) => json!(STANDARD.encode(self.bytes(bytes))),
                Err(_) => json!(text.repeat(2)),
            },
            _ => odd[self.below(odd.len())].clone(),
        }
    }
}

/// The places of a document, as pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(n, value)| places(value, &format!("{at}/{n}"), found));
        }
        _ => {}
    }
}

#[test]
fn a_changed_bundle_counts_for_no_other_image() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    if !authority(directory) {
        return;
    }
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    std::fs::write(directory.join("trusted.json"), trusted_root(directory, "2999-01-01T00:00:00Z").to_string())
        .unwrap();
    let trusting = policy(
        directory,
        json!({"type": "sigstoreSigned", "signedIdentity": {"type": "digestOnly"}, "trustedRootPath": "trusted.json",
            "fulcio": {"oidcIssuer": "https://idp", "subjectEmail": "dev@r.test"}}),
    );
    let (digest, other) = (Digest::sha256(b"manifest"), Digest::sha256(b"other"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let made = |digest: &Digest| {
        let mut made = bundle(directory, "leaf", &in_toto(digest, SIGNED));
        let record = record(directory, &made, &read("leaf.pem"), now);
        let raw = read("leaf.pem").lines().filter(|line| !line.starts_with("-----")).collect::<String>();
        made["verificationMaterial"] = json!({"certificate": {"rawBytes": raw}, "tlogEntries": [record]});
        made
    };
    let good = made(&digest);
    check(&trusting, &digest, &[of(&good)]).unwrap();
    // The payload of a bundle for the other image, by a key that nobody trusts.
    let payload = STANDARD.encode(in_toto(&other, SIGNED));
    let mut all = Vec::new();
    places(&good, "", &mut all);
    let (mut dice, mut counted) = (Dice(0x5eed), 0);
    for round in 0..4000 {
        let mut changed = good.clone();
        if round % 2 == 0 {
            changed["dsseEnvelope"]["payload"] = json!(payload);
        }
        for _ in 0..=dice.below(2) {
            let place = &all[dice.below(all.len())];
            if let Some(old) = changed.pointer(place).cloned() {
                *changed.pointer_mut(place).unwrap() = dice.value(&old);
            }
        }
        let mut text = changed.to_string().into_bytes();
        if round % 5 == 0 {
            text = dice.bytes(text);
        }
        let signature = Signature::from_bundle(String::from_utf8_lossy(&text).into_owned());
        assert!(check(&trusting, &other, std::slice::from_ref(&signature)).is_err(), "{signature:?}");
        counted += u32::from(check(&trusting, &digest, &[signature]).is_ok());
    }
    // Otherwise every change was refused for a reason that has nothing to do with what it says.
    assert!((10..1000).contains(&counted), "{counted} of 4000 still counted");
}

#[test]
fn bundles_by_a_key_and_a_log() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    if !authority(directory) {
        return;
    }
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    std::fs::write(directory.join("trusted.json"), trusted_root(directory, "2999-01-01T00:00:00Z").to_string())
        .unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let digest = Digest::sha256(b"manifest");
    // The entry must be there, and be this key's.
    let logged = json!({
        "type": "sigstoreSigned", "keyPath": "other.pub", "trustedRootPath": "trusted.json",
        "signedIdentity": {"type": "digestOnly"},
    });
    let logged = policy(directory, logged);
    let mut by_other = bundle(directory, "other", &in_toto(&digest, SIGNED));
    assert!(check(&logged, &digest, &[of(&by_other)]).unwrap_err().contains("not in the log"));
    for (maker, is_good) in [("other.pub", true), ("leaf.pub", false)] {
        let record = record(directory, &by_other, &read(maker), now);
        by_other["verificationMaterial"]["tlogEntries"] = json!([record]);
        assert_eq!(check(&logged, &digest, &[of(&by_other)]).is_ok(), is_good, "{maker}");
    }
}

#[test]
fn trusted_roots_that_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let kind = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";
    let key = json!({"rawBytes": "AAAA", "validFor": {"start": "yesterday"}});
    let chains = json!([{"certChain": {"certificates": []}, "validFor": {}}]);
    for (text, expected) in [
        (json!([]), "cannot be used"),
        (json!({"mediaType": "text/plain"}), "cannot be used"),
        (json!({"mediaType": kind, "tlogs": [{"publicKey": key}]}), "cannot be used"),
        (json!({"mediaType": kind, "certificateAuthorities": chains}), "cannot be used"),
        (json!({"mediaType": kind}), "without a log"),
    ] {
        std::fs::write(directory.join("root.json"), text.to_string()).unwrap();
        let fulcio = json!({"oidcIssuer": "https://idp", "subjectEmail": "dev@r.test"});
        let requirement = json!({"type": "sigstoreSigned", "trustedRootPath": "root.json", "fulcio": fulcio});
        let error = check(&policy(directory, requirement), &Digest::sha256(b"manifest"), &[]).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
