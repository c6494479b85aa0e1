//! Documents of the kinds that the OCI image specification 1.1 shows as examples (manifest.md, image-index.md, image-layout.md,
//! config.md, descriptor.md), with the facts that each of them is there for, and what its schema forbids.

use oci::digest::Digest;
use oci::image::{Descriptor, Document, ImageConfig, Index, Layout, Manifest, media_type};
use oci::platform::Platform;
use serde_json::{Value, json};

fn digest(number: u64) -> String {
    Digest::sha256(&number.to_be_bytes()).to_string()
}

fn blob(kind: &str, size: u64) -> Value {
    json!({ "mediaType": kind, "digest": digest(size), "size": size })
}

fn with(mut document: Value, changes: &[(&str, Value)]) -> Value {
    for (name, value) in changes {
        document[*name] = value.clone();
    }
    document
}

fn manifest(document: &Value) -> Manifest {
    match Document::parse(document.to_string().as_bytes(), Some(media_type::OCI_MANIFEST)) {
        Ok(Document::Manifest(manifest)) => *manifest,
        other => panic!("{document}: {other:?}"),
    }
}

fn index(document: &Value) -> Index {
    match Document::parse(document.to_string().as_bytes(), Some(media_type::OCI_INDEX)) {
        Ok(Document::Index(index)) => index,
        other => panic!("{document}: {other:?}"),
    }
}

/// manifest.md, "Example Image Manifest": three layers, a subject, annotations.
fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": blob(media_type::OCI_CONFIG, 7023),
        "layers": [
            blob(media_type::OCI_LAYER_GZIP, 32_654), blob(media_type::OCI_LAYER_GZIP, 16_724),
            blob(media_type::OCI_LAYER_GZIP, 73_109),
        ],
        "subject": blob(media_type::OCI_MANIFEST, 7682),
        "annotations": { "com.example.key1": "value1", "com.example.key2": "value2" },
    })
}

#[test]
fn image_manifests() {
    let parsed = manifest(&image());
    assert_eq!(parsed.layers.iter().map(|layer| layer.size).collect::<Vec<_>>(), [32_654, 16_724, 73_109]);
    assert_eq!((parsed.config.size, parsed.foreign_kind()), (7023, None));
    assert_eq!(parsed.subject.as_ref().map(|subject| subject.size), Some(7682));
    assert_eq!(parsed.annotations["com.example.key2"], "value2");
    // What is written is what was read.
    assert_eq!(serde_json::to_value(&parsed).unwrap(), image());
    // `mediaType` may be absent, and fields of later versions may be there.
    let mut older = image();
    older.as_object_mut().unwrap().remove("mediaType");
    assert_eq!(manifest(&older).media_type, None);
    assert_eq!(manifest(&with(image(), &[("com.example.later", json!({ "a": [1] }))])).layers.len(), 3);
    // Every kind of layer, and one that is none of those.
    for kind in [media_type::OCI_LAYER, media_type::OCI_LAYER_ZSTD, "application/vnd.example.layer.v1"] {
        assert_eq!(manifest(&with(image(), &[("layers", json!([blob(kind, 9)]))])).layers[0].media_type, kind);
    }
}

/// manifest.md, "Guidelines for Artifact Usage": with content, without a configuration, and without content.
#[test]
fn artifacts_are_no_images() {
    let empty = json!({
        "mediaType": media_type::OCI_EMPTY, "size": 2, "digest": Digest::sha256(b"{}").to_string(), "data": "e30=",
    });
    assert_eq!(empty["digest"], "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    let artifact = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/vnd.example+type",
        "config": empty, "layers": [empty], "annotations": { "oci.opencontainers.image.created": "2023-01-02T03:04:05Z" },
    });
    let parsed = manifest(&artifact);
    assert_eq!(parsed.foreign_kind(), Some("application/vnd.example+type"));
    assert_eq!(parsed.config.data.as_deref(), Some("e30="));
    assert_eq!(serde_json::to_value(&parsed).unwrap(), artifact);
    let with_content = with(artifact.clone(), &[("layers", json!([blob("application/vnd.example+type", 1234)]))]);
    assert_eq!(manifest(&with_content).layers[0].size, 1234);
    let with_configuration = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": blob("application/vnd.example.config.v1+json", 123), "layers": [blob("application/vnd.example.data.v1.tar+gzip", 1234)],
    });
    assert_eq!(manifest(&with_configuration).foreign_kind(), Some("application/vnd.example.config.v1+json"));
}

/// image-index.md: two platforms; a manifest of another kind among images; nested indexes.
#[test]
fn image_indexes() {
    let entry = |size, architecture: &str| {
        with(
            blob(media_type::OCI_MANIFEST, size),
            &[("platform", json!({ "architecture": architecture, "os": "linux" }))],
        )
    };
    let document = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry(7143, "ppc64le"), entry(7682, "amd64")],
        "annotations": { "com.example.key1": "value1" },
    });
    let parsed = index(&document);
    let chosen = |platform| parsed.select(&platform).map(|entry| entry.size);
    assert_eq!(chosen(Platform::new("linux", "amd64", "")), Some(7682));
    assert_eq!(chosen(Platform::new("linux", "ppc64le", "")), Some(7143));
    assert_eq!(chosen(Platform::new("linux", "riscv64", "")), None);
    assert_eq!(serde_json::to_value(&parsed).unwrap(), document);
    // An empty list is an index, and offers nothing.
    assert!(index(&with(document.clone(), &[("manifests", json!([]))])).select(&Platform::host()).is_none());
    // image-layout.md: an index of things of many kinds, told by their annotations.
    let named = |kind: &str, name: &str| {
        with(blob(kind, 7143), &[("annotations", json!({ "org.opencontainers.image.ref.name": name }))])
    };
    let layout = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "annotations": { "com.example.index.revision": "r124356" },
        "manifests": [
            named(media_type::OCI_INDEX, "v1.0"), with(entry(7143, "ppc64le"), &[("annotations", json!({
                "org.opencontainers.image.ref.name": "stable-release" }))]),
            with(blob("application/xml", 7143), &[("annotations", json!({ "org.freedesktop.specifications.metainfo.type": "AppStream" }))]),
        ],
    });
    let parsed = index(&layout);
    assert_eq!(parsed.manifests[0].media_type, media_type::OCI_INDEX);
    assert_eq!(parsed.select(&Platform::new("linux", "ppc64le", "")).map(|entry| entry.size), Some(7143));
    assert_eq!(serde_json::to_value(&parsed).unwrap(), layout);
    let text = br#"{ "imageLayoutVersion": "1.0.0" }"#;
    assert_eq!(serde_json::from_slice::<Layout>(text).unwrap().image_layout_version, "1.0.0");
}

/// descriptor.md: with addresses, with an artifact's type, of SHA-512.
#[test]
fn descriptors() {
    let read = |value: &Value| serde_json::from_value::<Descriptor>(value.clone());
    let plain = blob(media_type::OCI_MANIFEST, 7682);
    for more in [
        json!({}),
        json!({ "urls": ["https://example.com/example-manifest"] }),
        json!({ "artifactType": "application/example" }),
        json!({ "annotations": { "a": "" } }),
        json!({ "platform": { "architecture": "arm", "os": "windows", "os.version": "10.0.14393.1066", "os.features": ["win32k"], "variant": "v7" } }),
        json!({ "digest": format!("sha512:{}", "0a".repeat(64)) }),
    ] {
        let mut whole = plain.clone();
        more.as_object().unwrap().iter().for_each(|(name, value)| whole[name] = value.clone());
        let parsed = read(&whole).unwrap_or_else(|error| panic!("{whole}: {error}"));
        assert_eq!(serde_json::to_value(&parsed).unwrap(), whole);
    }
    for wrong in [
        json!({ "digest": "sha256:no" }),
        json!({ "digest": "" }),
        json!({ "digest": "e692418e4cbaf90ca69d05a66403747baa33ee08806650b51fab815ad7fc331f" }),
        json!({ "size": -1 }),
        json!({ "size": "7682" }),
        json!({ "size": 18_446_744_073_709_551_616.0 }),
        json!({ "size": null }),
        json!({ "urls": "https://example.com" }),
        json!({ "annotations": { "a": 1 } }),
    ] {
        let mut whole = plain.clone();
        wrong.as_object().unwrap().iter().for_each(|(name, value)| whole[name] = value.clone());
        assert!(read(&whole).is_err(), "{whole}");
    }
}

/// What the schemas of manifest and index forbid.
#[test]
fn documents_that_are_no_documents() {
    let table = [
        with(image(), &[("schemaVersion", json!("2"))]),
        with(image(), &[("schemaVersion", json!(3))]),
        with(image(), &[("mediaType", json!("application/vnd.oci.image.index.v1+json"))]),
        with(image(), &[("layers", json!({}))]),
        with(image(), &[("layers", json!([{}]))]),
        with(image(), &[("config", json!({ "mediaType": media_type::OCI_CONFIG, "size": 2 }))]),
        with(image(), &[("config", Value::Null)]),
        with(image(), &[("annotations", json!({ "key": ["value"] }))]),
        with(image(), &[("subject", json!("sha256:none"))]),
        with(image(), &[("manifests", json!([]))]),
    ];
    for document in table {
        let parsed = Document::parse(document.to_string().as_bytes(), Some(media_type::OCI_MANIFEST));
        assert!(parsed.is_err(), "{document}: {parsed:?}");
    }
}

/// config.md, "Example": every field, history with and without layers.
#[test]
fn image_configurations() {
    let document = json!({
        "created": "2015-10-31T22:22:56.015925234Z",
        "author": "A Person <person@example.com>",
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": "alice", "ExposedPorts": { "8080/tcp": {} },
            "Env": ["PATH=/usr/bin:/bin", "FOO=oci_is_a", "BAR=well_written_spec"],
            "Entrypoint": ["/bin/my-app-binary"], "Cmd": ["--foreground", "--config", "/etc/my-app.d/default.cfg"],
            "Volumes": { "/var/job-result-data": {}, "/var/log/my-app-logs": {} }, "WorkingDir": "/home/alice",
            "Labels": { "com.example.project.git.url": "https://example.com/project.git" }, "StopSignal": "SIGTERM",
        },
        "rootfs": { "type": "layers", "diff_ids": [digest(32_654), digest(16_724)] },
        "history": [
            { "created": "2015-10-31T22:22:54.690851953Z", "created_by": "/bin/sh -c #(nop) ADD file in /" },
            { "created": "2015-10-31T22:22:55.613815829Z", "created_by": "/bin/sh -c #(nop) CMD [\"sh\"]", "empty_layer": true },
            { "created": "2015-10-31T22:22:56.329850019Z", "created_by": "/bin/sh -c apk add curl" },
        ],
    });
    let parsed = ImageConfig::parse(document.to_string().as_bytes()).unwrap();
    assert_eq!((parsed.platform.os.as_str(), parsed.config.user.as_str()), ("linux", "alice"));
    assert_eq!(parsed.config.cmd.as_ref().map(Vec::len), Some(3));
    assert_eq!(parsed.config.stop_signal, "SIGTERM");
    assert!(parsed.config.volumes.contains("/var/log/my-app-logs") && parsed.config.exposed_ports.contains("8080/tcp"));
    assert_eq!(parsed.history.iter().filter(|step| !step.empty_layer).count(), parsed.rootfs.diff_ids.len());
    // It belongs to a manifest of two layers, and to no other.
    let two = json!([blob(media_type::OCI_LAYER_GZIP, 1), blob(media_type::OCI_LAYER, 2)]);
    parsed.check_layers(&manifest(&with(image(), &[("layers", two)]))).unwrap();
    assert!(parsed.check_layers(&manifest(&image())).is_err());
    // The least that there can be: everything but the platform and the layers is optional.
    let least = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    assert!(ImageConfig::parse(least.to_string().as_bytes()).unwrap().config.env.is_empty());
    for wrong in [
        with(document.clone(), &[("rootfs", json!({ "type": "layers", "diff_ids": ["sha256:x"] }))]),
        with(document.clone(), &[("config", json!({ "Env": "PATH=/" }))]),
        with(document.clone(), &[("history", json!([{ "empty_layer": "true" }]))]),
        json!([]),
    ] {
        assert!(ImageConfig::parse(wrong.to_string().as_bytes()).is_err(), "{wrong}");
    }
}
