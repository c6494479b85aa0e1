//! Fills a store with many images and containers in seconds, so that one can see what lists cost: `cargo run -p engine --example
//! fill -- DATA-ROOT RUN-ROOT IMAGES CONTAINERS`, as root, on an empty data root.
//!
//! Ten images share a layer, each has a name and a label. Their documents and layers are stored as an import stores them, the
//! rows go in by one transaction. Containers are made of `dhow/hello`.

use engine::{Config, Engine, NetworkMode, Options, Quiet};
use oci::digest::Digest;
use rusqlite::{Connection, params};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use store::{Ownership, Store};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Images that have the same layer.
const SHARING: usize = 10;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if that fails.
            drop(std::io::Write::write_all(&mut std::io::stderr(), format!("{error}\n").as_bytes()));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [data, run, images, containers] = words.as_slice() else {
        return Err("fill DATA-ROOT RUN-ROOT IMAGES CONTAINERS".into());
    };
    let engine = Engine::open(Config { data_root: data.into(), run_root: run.into(), program: None })?;
    // Makes the database.
    engine.info()?;
    let store = Store::open(data, Ownership::default())?;
    let mut connection = Connection::open(Path::new(data).join("dhow.db"))?;
    let transaction = connection.transaction()?;
    let mut layer = None;
    for number in 0..images.parse()? {
        if number % SHARING == 0 {
            layer = Some(store.layers().import(None, archive(number).as_slice())?);
        }
        let layer = layer.as_ref().ok_or("the first image has a layer")?;
        image(&store, &transaction, layer, number)?;
    }
    transaction.commit()?;
    let options = Options { image: "dhow/hello".into(), network: NetworkMode::None, ..Options::default() };
    for _ in 0..containers.parse()? {
        engine.create(&options, &mut Quiet)?;
    }
    Ok(())
}

/// One more image of a layer.
fn image(store: &Store, connection: &Connection, layer: &store::Layer, number: usize) -> Outcome<()> {
    let created = format!("2026-01-01T00:{:02}:{:02}Z", number / 60 % 60, number % 60);
    let labels = json!({ "number": number.to_string() });
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": { "Cmd": ["true"], "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": [layer.diff_id.to_string()] },
    })
    .to_string();
    let id = Digest::sha256(config.as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": id.to_string(),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer.diff_id.to_string(),
            "size": layer.archive_size,
        }],
    })
    .to_string();
    store.blobs().put(config.as_bytes())?;
    let manifest = store.blobs().put(manifest.as_bytes())?.to_string();
    let (id, size) = (id.to_string(), layer.size.cast_signed());
    connection.execute(
        "INSERT INTO image (id, manifest, created, size, labels) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![id, manifest, created, size, labels.to_string()],
    )?;
    let diff_id = layer.diff_id.to_string();
    connection.execute("INSERT INTO image_layer VALUES (?1, 0, ?2)", params![id, diff_id])?;
    let name = format!("docker.io/fill/image{number}:latest");
    connection.execute("INSERT INTO image_name VALUES (?1, ?2)", params![name, id])?;
    Ok(())
}

/// A tar archive with one file, its number.
fn archive(number: usize) -> Vec<u8> {
    let content = number.to_string();
    let mut header = [0; 512];
    let mut put = |place: usize, text: &str| header[place..place + text.len()].copy_from_slice(text.as_bytes());
    put(0, "number");
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(content.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}
