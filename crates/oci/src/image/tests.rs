use super::*;
use proptest::prelude::*;

const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn descriptor(media_type: &str) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{HEX}","size":3}}"#)
}

fn manifest(extra: &str) -> String {
    let (config, layer) = (descriptor(media_type::OCI_CONFIG), descriptor(media_type::OCI_LAYER_GZIP));
    format!(r#"{{"schemaVersion":2,{extra}"config":{config},"layers":[{layer}]}}"#)
}

fn index(extra: &str) -> String {
    format!(r#"{{"schemaVersion":2,{extra}"manifests":[{}]}}"#, descriptor(media_type::OCI_MANIFEST))
}

#[test]
fn both_families() {
    for (name, text) in [
        (media_type::OCI_MANIFEST, manifest("")),
        (
            media_type::DOCKER_MANIFEST,
            manifest(r#""mediaType":"application/vnd.docker.distribution.manifest.v2+json","#),
        ),
        ("application/json", manifest("")),
        ("text/plain; charset=utf-8", manifest("")),
    ] {
        let Document::Manifest(parsed) = Document::parse(text.as_bytes(), Some(name)).unwrap() else {
            panic!("{text}")
        };
        assert_eq!(parsed.layers[0].size, 3);
        assert_eq!(parsed.foreign_kind(), None);
    }
    let Document::Index(parsed) = Document::parse(index("").as_bytes(), Some(media_type::OCI_INDEX)).unwrap() else {
        panic!()
    };
    // One entry without a platform stands for every platform.
    assert!(parsed.select(&Platform::host()).is_some());
    assert!(Document::parse(manifest(r#""annotations":null,"#).as_bytes(), None).is_ok());
}

#[test]
fn ambiguous_or_foreign_documents_are_refused() {
    let layers = r#""layers":[],"#;
    let oci_index = format!(r#""mediaType":"{}","#, media_type::OCI_INDEX);
    let docker = format!(r#""mediaType":"{}","#, media_type::DOCKER_MANIFEST);
    let table = [
        (index(layers), None, "both manifests and config"),
        (index(&format!(r#""config":{},"#, descriptor("x"))), None, "both manifests and config"),
        (index(r#""Layers":[],"#), None, "some programs read as"),
        (index("\"layer\u{17f}\":[],"), None, "some programs read as"),
        (manifest(layers), None, "twice"),
        (manifest(&oci_index), None, "it calls itself"),
        (manifest(""), Some(media_type::OCI_INDEX), "it was announced as"),
        (index(""), Some(media_type::DOCKER_MANIFEST), "it was announced as"),
        (manifest(&docker), Some(media_type::OCI_MANIFEST), "and was announced as"),
        (manifest("").replace(":2,", ":1,"), None, "version 1"),
        (manifest(r#""fsLayers":[],"#), None, "version 1"),
        (manifest(""), Some("application/vnd.docker.distribution.manifest.v1+prettyjws"), "version 1"),
        (manifest("").replace(":2,", ":3,"), None, "schemaVersion is not 2"),
        (r#"{"schemaVersion":2}"#.into(), None, "neither"),
        ("[]".into(), None, "malformed"),
        ("<html>".into(), None, "malformed"),
        (manifest("").replace("\"size\":3", "\"size\":-3"), None, "malformed"),
        (manifest("").replace("\"size\":3", "\"size\":3e30"), None, "malformed"),
        (manifest("").replace(HEX, "../../etc/passwd"), None, "malformed"),
        (" ".repeat(5 << 20), None, "more than 4194304 are not read"),
    ];
    for (text, content_type, expected) in table {
        let error = Document::parse(text.as_bytes(), content_type).expect_err(&text).to_string();
        assert!(error.contains(expected), "{error} for {}", &text[..text.len().min(200)]);
    }
}

#[test]
fn best_entry_of_an_index() {
    let entry = |os: &str, architecture: &str, variant: &str, size: u64| Descriptor {
        platform: Some(Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.into(),
            ..Platform::default()
        }),
        ..Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(b""), size)
    };
    let mut attestation = entry("linux", "amd64", "", 9);
    attestation.annotations.insert(annotation::DOCKER_REFERENCE_TYPE.into(), "attestation-manifest".into());
    let index = Index {
        schema_version: 2,
        media_type: None,
        artifact_type: None,
        manifests: vec![
            attestation,
            entry("linux", "386", "", 1),
            entry("linux", "x86_64", "", 2),
            entry("linux", "amd64", "", 3),
            entry("linux", "arm", "v6", 4),
            entry("unknown", "unknown", "", 5),
        ],
        subject: None,
        annotations: BTreeMap::new(),
    };
    let size = |platform: &str| index.select(&platform.parse().unwrap()).map(|entry| entry.size);
    assert_eq!(size("linux/amd64"), Some(2));
    assert_eq!(size("linux/386"), Some(1));
    assert_eq!(size("linux/arm/v7"), Some(4));
    assert_eq!(size("linux/arm64"), Some(4));
    assert_eq!(size("linux/s390x"), None);
    assert_eq!(index.platforms().len(), 5);
}

#[test]
fn a_full_configuration() {
    let text = format!(
        r#"{{"architecture":"arm","os":"linux","variant":"v7","created":"2026-01-02T03:04:05Z","author":null,
        "config":{{"User":"1000:1000","ExposedPorts":{{"80/tcp":{{}},"53/udp":null}},"Env":["A=b"],"Entrypoint":["/e"],
        "Cmd":"sh","Volumes":{{"/data":{{}}}},"WorkingDir":"/w","Labels":{{"k":"v"}},"StopSignal":"SIGQUIT",
        "Healthcheck":{{"Test":["CMD","true"],"Interval":30000000000,"Retries":3,"Timeout":null}},"OnBuild":null,
        "Shell":["/bin/bash","-c"],"ArgsEscaped":true,"AttachStdin":false,"Memory":0,"OpenStdin":null}},
        "container_config":null,"docker_version":"1.12","rootfs":{{"type":"layers","diff_ids":["sha256:{HEX}"]}},
        "history":[null,{{"created_by":"ADD x","empty_layer":true}}]}}"#
    );
    let parsed = ImageConfig::parse(text.as_bytes()).unwrap();
    assert_eq!(parsed.platform.to_string(), "linux/arm/v7");
    assert_eq!(parsed.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
    assert_eq!(parsed.config.exposed_ports.iter().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
    assert_eq!(parsed.config.healthcheck.as_ref().unwrap().interval, 30_000_000_000);
    assert!(parsed.config.args_escaped && parsed.config.on_build.is_empty());
    assert_eq!(parsed.history.len(), 2);
    let again = ImageConfig::parse(&serde_json::to_vec(&parsed).unwrap()).unwrap();
    assert_eq!(again, parsed);
    let Document::Manifest(manifest) = Document::parse(manifest("").as_bytes(), None).unwrap() else { panic!() };
    parsed.check_layers(&manifest).unwrap();
    let error = ImageConfig::default().check_layers(&manifest).unwrap_err().to_string();
    assert_eq!(error, "the manifest has 1 layers and the image configuration has 0");
}

#[test]
fn nulls_everywhere_are_empty() {
    let text = r#"{"architecture":null,"os":null,"config":null,"rootfs":null,"history":null,"variant":null,
        "os.version":null,"os.features":null}"#;
    assert_eq!(ImageConfig::parse(text.as_bytes()).unwrap(), ImageConfig::default());
    assert_eq!(ImageConfig::parse(b"{}").unwrap(), ImageConfig::default());
    let text = r#"{"config":{"ExposedPorts":null,"Env":null,"Cmd":null,"Entrypoint":null,"Volumes":null,"Labels":null,
        "Healthcheck":null,"StopTimeout":null,"ArgsEscaped":null,"User":null,"Shell":null}}"#;
    assert_eq!(ImageConfig::parse(text.as_bytes()).unwrap(), ImageConfig::default());
    assert!(ImageConfig::parse(br#"{"rootfs":{"type":"vhd"}}"#).is_err());
    assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":["sha256:../../x"]}}"#).is_err());
}

#[test]
fn docker_archives() {
    let text = r#"[{"Config":"abc.json","RepoTags":null,"Layers":["a/layer.tar"],"Parent":""}]"#;
    let list = ArchiveImage::parse_list(text.as_bytes()).unwrap();
    assert_eq!(list[0].layers, ["a/layer.tar"]);
    assert!(ArchiveImage::parse_list(b"{}").is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        Document::parse(&bytes, None).ok();
        ImageConfig::parse(&bytes).ok();
        ArchiveImage::parse_list(&bytes).ok();
    }

    #[test]
    fn damaged_documents_are_parsed_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        for text in [manifest(""), index("")] {
            let mut bytes = text.into_bytes();
            let position = at.index(bytes.len());
            bytes[position] = byte;
            Document::parse(&bytes, Some(media_type::OCI_MANIFEST)).ok();
            ImageConfig::parse(&bytes).ok();
            bytes.truncate(cut.index(bytes.len()));
            Document::parse(&bytes, None).ok();
        }
    }
}
