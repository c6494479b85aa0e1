//! What the test images are made of.

use serde_json::{Value, json};

use super::layer::{Compression, Layer, Source};

/// An image: its layers for each platform, and what its configuration says.
#[derive(Debug)]
pub struct Image {
    /// Name of the archive files.
    pub name: &'static str,
    /// Repository and tag.
    pub reference: &'static str,
    /// The layers, lowest first, for each platform.
    pub platforms: &'static [Platform],
    /// How the layers are stored.
    pub compression: Compression,
    /// Environment beside `PATH`.
    environment: &'static [&'static str],
    path: &'static str,
    entrypoint: &'static [&'static str],
    command: &'static [&'static str],
    working_directory: &'static str,
    port: Option<&'static str>,
    volume: Option<&'static str>,
    stop_signal: Option<&'static str>,
}

/// The layers for one processor.
#[derive(Debug)]
pub struct Platform {
    /// Go's name of the processor, as images use it.
    pub architecture: &'static str,
    /// Lowest first.
    pub layers: &'static [Source],
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const fn amd64(layers: &'static [Source]) -> Platform {
    Platform { architecture: "amd64", layers }
}

const PLAIN: Image = Image {
    name: "",
    reference: "",
    platforms: &[],
    compression: Compression::Gzip,
    environment: &[],
    path: PATH,
    entrypoint: &[],
    command: &[],
    working_directory: "",
    port: None,
    volume: None,
    stop_signal: None,
};

const BUSYBOX: Image = Image {
    name: "busybox",
    reference: "busybox:latest",
    platforms: &[amd64(&[Source::Busybox])],
    command: &["sh"],
    ..PLAIN
};

const PYTHON: Source = Source::Packages {
    name: "python",
    packages: &["ca-certificates", "gcc", "libc6-dev", "python3", "python3-dev", "python3-pip", "python3-venv"],
    script: "ln -s /usr/bin/python3 /usr/local/bin/python3 && ln -s /usr/bin/python3 /usr/local/bin/python",
};

const REDIS: Source = Source::Packages {
    name: "redis",
    packages: &["redis-server", "redis-tools"],
    script: "install -m 755 /run/files/redis /usr/local/bin/docker-entrypoint.sh
        install -d -o redis -g redis /data",
};

const NGINX: Source = Source::Packages {
    name: "nginx",
    packages: &["nginx"],
    script: "rm /etc/nginx/sites-enabled/default
        mkdir -p /usr/share/nginx/html
        echo 'server { listen 80; root /usr/share/nginx/html; index index.html; }' >/etc/nginx/conf.d/default.conf
        echo 'Welcome to nginx' >/usr/share/nginx/html/index.html
        ln -sf /dev/stdout /var/log/nginx/access.log
        ln -sf /dev/stderr /var/log/nginx/error.log",
};

const POSTGRES: Source = Source::Packages {
    name: "postgres",
    packages: &["postgresql"],
    script: "install -m 755 /run/files/postgres /usr/local/bin/docker-entrypoint.sh
        install -d -m 700 -o postgres -g postgres /var/lib/postgresql/data",
};

const fn small_files() -> [Source; 20] {
    let mut layers = [Source::SmallFiles(0); 20];
    let mut number = 0;
    while number < 20 {
        layers[number] = Source::SmallFiles(number as u32 + 1);
        number += 1;
    }
    layers
}

const SMALL_FILES: [Source; 20] = small_files();

/// All images. Those that others need come first.
pub const RECIPES: &[Image] = &[
    BUSYBOX,
    Image { name: "busybox-zstd", reference: "busybox:zstd", compression: Compression::Zstd, ..BUSYBOX },
    Image { name: "busybox-plain", reference: "busybox:plain", compression: Compression::None, ..BUSYBOX },
    Image {
        name: "multi",
        reference: "multi:latest",
        platforms: &[
            Platform { architecture: "arm64", layers: &[Source::Text("arm64")] },
            amd64(&[Source::Busybox, Source::Text("amd64")]),
        ],
        ..BUSYBOX
    },
    Image { name: "layers20", reference: "layers20:latest", platforms: &[amd64(&SMALL_FILES)], ..PLAIN },
    Image {
        name: "debian",
        reference: "debian:12",
        platforms: &[amd64(&[Source::Debian])],
        command: &["bash"],
        ..PLAIN
    },
    Image {
        name: "python",
        reference: "python:3.11",
        platforms: &[amd64(&[Source::Debian, PYTHON])],
        environment: &["LANG=C.UTF-8"],
        command: &["python3"],
        ..PLAIN
    },
    Image {
        name: "redis",
        reference: "redis:7",
        platforms: &[amd64(&[Source::Debian, REDIS])],
        entrypoint: &["docker-entrypoint.sh"],
        command: &["redis-server"],
        working_directory: "/data",
        port: Some("6379/tcp"),
        volume: Some("/data"),
        ..PLAIN
    },
    Image {
        name: "nginx",
        reference: "nginx:latest",
        platforms: &[amd64(&[Source::Debian, NGINX])],
        command: &["nginx", "-g", "daemon off;"],
        port: Some("80/tcp"),
        stop_signal: Some("SIGQUIT"),
        ..PLAIN
    },
    Image {
        name: "postgres",
        reference: "postgres:15",
        platforms: &[amd64(&[Source::Debian, POSTGRES])],
        environment: &["PGDATA=/var/lib/postgresql/data", "LANG=C.UTF-8"],
        path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin",
        entrypoint: &["docker-entrypoint.sh"],
        command: &["postgres"],
        port: Some("5432/tcp"),
        volume: Some("/var/lib/postgresql/data"),
        stop_signal: Some("SIGINT"),
        ..PLAIN
    },
];

/// The layers of all platforms, for the stamp that tells whether an image is up to date.
pub fn layers(image: &Image) -> (Vec<&'static [Source]>, String) {
    (image.platforms.iter().map(|platform| platform.layers).collect(), super::rootfs::recipe())
}

/// The image's configuration as the OCI image specification has it.
pub fn configuration(image: &Image, platform: &Platform, layers: &[Layer]) -> Value {
    let environment: Vec<String> = std::iter::once(format!("PATH={}", image.path))
        .chain(image.environment.iter().map(|&each| each.to_owned()))
        .collect();
    let mut config = json!({ "Env": environment });
    for (key, words) in [("Entrypoint", image.entrypoint), ("Cmd", image.command)] {
        if !words.is_empty() {
            config[key] = json!(words);
        }
    }
    for (key, name) in [("ExposedPorts", image.port), ("Volumes", image.volume)] {
        if let Some(name) = name {
            config[key] = json!({ name: {} });
        }
    }
    if let Some(signal) = image.stop_signal {
        config["StopSignal"] = json!(signal);
    }
    if !image.working_directory.is_empty() {
        config["WorkingDir"] = json!(image.working_directory);
    }
    let created = "2025-01-01T00:00:00Z";
    json!({
        "created": created,
        "architecture": platform.architecture,
        "os": "linux",
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect::<Vec<_>>(),
        },
        "history": layers.iter().map(|_| json!({ "created": created, "created_by": "cargo xtask images" })).collect::<Vec<_>>(),
    })
}
