//! What this server is, and what it is not: a member of a swarm, a host of plugins.

use crate::context::Context;
use crate::failure::Failure;
use crate::reply::{self, Reply};
use crate::version::{NEWEST, OLDEST, Version};
use engine::registries::{self, Account};
use engine::{Info, Kind};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};
use serde::Deserialize;
use serde_json::{Value, json};

/// `GET /_ping`, `HEAD /_ping`
pub fn ping(head: bool) -> Reply {
    let content = if head { "" } else { "OK" };
    let mut reply = reply::text(StatusCode::OK, "text/plain; charset=utf-8", content);
    let headers = reply.headers_mut();
    // 1: no BuildKit. Without the header clients guess from the version.
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("1"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    reply
}

/// The processor's name as Go has it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// `GET /version`
pub fn version() -> Result<Reply, Failure> {
    let names = rustix::system::uname();
    let kernel = names.release().to_string_lossy().into_owned();
    let version = engine::VERSION;
    reply::ok(&json!({
        "Platform": { "Name": "dhow" },
        "Components": [{
            "Name": "Engine",
            "Version": version,
            "Details": {
                "ApiVersion": NEWEST.to_string(),
                "Arch": architecture(),
                "BuildTime": "",
                "Experimental": "false",
                "GitCommit": "",
                "GoVersion": "",
                "KernelVersion": kernel,
                "MinAPIVersion": OLDEST.to_string(),
                "Os": "linux",
            },
        }],
        "Version": version,
        "ApiVersion": NEWEST.to_string(),
        "MinAPIVersion": OLDEST.to_string(),
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel,
        "BuildTime": "",
    }))
}

/// `GET /info`
pub async fn info(context: Context) -> Result<Reply, Failure> {
    let info = context.workers().quick(|engine| engine.info()).await?;
    let mut document = document(&info);
    if context.version < Version(50) {
        document["BridgeNfIptables"] = false.into();
        document["BridgeNfIp6tables"] = false.into();
    }
    if context.version < Version(49) {
        for commit in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            document[commit]["Expected"] = "".into();
        }
        document["RegistryConfig"]["AllowNondistributableArtifactsCIDRs"] = Value::Null;
        document["RegistryConfig"]["AllowNondistributableArtifactsHostnames"] = Value::Null;
    }
    if context.version < Version(41) {
        document["SystemStatus"] = Value::Null;
    }
    reply::ok(&document)
}

/// All names that a container's `Runtime` can have: our own, those that mean it where nobody has configured them, and those that are
/// configured. Clients look here before they ask for one.
fn runtimes(info: &Info) -> Value {
    let own = [engine::runtimes::OWN].into_iter().chain(engine::runtimes::DEFAULTS);
    let own = own.map(|name| (name.to_owned(), json!({ "path": engine::runtimes::OWN })));
    let others = info.runtimes.iter().map(|runtime| {
        let mut about = json!({ "path": runtime.program });
        if !runtime.arguments.is_empty() {
            about["runtimeArgs"] = runtime.arguments.clone().into();
        }
        (runtime.name.clone(), about)
    });
    Value::Object(own.chain(others).collect())
}

/// What the engine and the machine are, by the names of Docker's fields.
pub fn document(info: &Info) -> Value {
    let mut all = facts(info);
    for part in [abilities(), constants()] {
        if let (Some(all), Value::Object(part)) = (all.as_object_mut(), part) {
            all.extend(part);
        }
    }
    all
}

/// What differs from machine to machine.
fn facts(info: &Info) -> Value {
    let mut security: Vec<String> = info.security.iter().map(|name| named(name)).collect();
    // Docker knows 1 and 2; a mixed set-up is 1 with something beside it.
    let cgroup = info.cgroup_version.split(' ').next().unwrap_or("1");
    if cgroup == "2" {
        security.push("name=cgroupns".into());
    }
    json!({
        "ID": info.hostname,
        "Runtimes": runtimes(info),
        "Containers": info.running + info.paused + info.stopped,
        "ContainersRunning": info.running,
        "ContainersPaused": info.paused,
        "ContainersStopped": info.stopped,
        "Images": info.images,
        "SystemTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string(),
        "CgroupVersion": cgroup,
        "KernelVersion": info.kernel,
        "OperatingSystem": info.operating_system,
        "Architecture": info.architecture,
        "NCPU": info.processors,
        "MemTotal": info.memory,
        "DockerRootDir": info.data_root,
        "Name": info.hostname,
        "ServerVersion": engine::VERSION,
        "SecurityOptions": security,
        "HttpProxy": info.proxies.http,
        "HttpsProxy": info.proxies.https,
        "NoProxy": info.proxies.none,
        "Warnings": info.warnings,
        "RegistryConfig": registries(&info.registries),
    })
}

/// Registries as Docker's daemon shows its own configuration of them.
fn registries(configured: &engine::ConfiguredRegistries) -> Value {
    let loopback = ["::1/128", "127.0.0.0/8"];
    let networks: Vec<&str> =
        loopback.into_iter().chain(configured.insecure_networks.iter().map(String::as_str)).collect();
    let index = |name: &str, mirrors: &[String], secure: bool| json!({ "Name": name, "Mirrors": mirrors, "Secure": secure, "Official": name == "docker.io" });
    let named = configured.insecure.iter().map(|name| (name.clone(), index(name, &[], false)));
    let hub = ("docker.io".to_owned(), index("docker.io", &configured.mirrors, true));
    json!({
        "InsecureRegistryCIDRs": networks,
        "IndexConfigs": named.chain([hub]).collect::<serde_json::Map<_, _>>(),
        "Mirrors": configured.mirrors,
    })
}

/// What the engine can limit and where it keeps things.
fn abilities() -> Value {
    json!({
        "Driver": "overlayfs",
        "DriverStatus": [["Supports d_type", "true"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": null,
            "Log": ["journald", "json-file", "local", "none", "syslog"],
        },
        "MemoryLimit": true,
        "SwapLimit": true,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "IPv4Forwarding": true,
        "OomKillDisable": false,
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "DefaultRuntime": "dhow",
        // Containers live on when this server ends.
        "LiveRestoreEnabled": true,
        "InitBinary": "dhow-init",
    })
}

/// What clients read and dhow has nothing for.
fn constants() -> Value {
    let commit = json!({ "ID": "" });
    json!({
        "Debug": false,
        "NFd": 0,
        "NGoroutines": 0,
        "NEventsListener": 0,
        "OSVersion": "",
        "OSType": "linux",
        "IndexServerAddress": "https://index.docker.io/v1/",
        "GenericResources": null,
        "Labels": [],
        "ExperimentalBuild": false,
        "Isolation": "",
        "ContainerdCommit": commit,
        "RuncCommit": commit,
        "InitCommit": commit,
        "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
        "DefaultAddressPools": [],
        "FirewallBackend": { "Driver": "nftables" },
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": null,
        },
    })
}

/// `seccomp` with its profile, the others by name.
fn named(name: &str) -> String {
    match name {
        "seccomp" => "name=seccomp,profile=builtin".into(),
        name => format!("name={name}"),
    }
}

/// What belongs to a swarm, as a Docker outside of one answers.
pub fn no_swarm() -> Failure {
    Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    )
}

/// Who wants to make a swarm or to join one. Docker refuses both with these words where containers live on without the
/// server, as they do here; the status is the one of everything else outside of a swarm.
pub fn never_a_swarm() -> Failure {
    Failure::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "--live-restore daemon configuration is incompatible with swarm mode: containers of dhow live on without its server",
    )
}

/// Who wants to leave one.
pub fn not_part_of_a_swarm() -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "This node is not part of a swarm")
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    username: Option<String>,
    password: Option<String>,
    serveraddress: Option<String>,
    identitytoken: Option<String>,
}

/// `POST /auth`: tries an account and keeps nothing; clients keep it themselves.
pub async fn auth(mut context: Context) -> Result<Reply, Failure> {
    let login: Login = context.document().await?;
    let account = Account {
        domain: registries::registry_named(login.serveraddress.as_deref().unwrap_or_default())?,
        username: login.username.unwrap_or_default(),
        password: login.password.unwrap_or_default(),
        identity_token: login.identitytoken.unwrap_or_default(),
        registry_token: String::new(),
    };
    context.workers().patient(move |_| registries::try_account(&account)).await?;
    reply::ok(&json!({ "Status": "Login Succeeded", "IdentityToken": "" }))
}

/// `GET /system/df`
pub async fn usage(context: Context) -> Result<Reply, Failure> {
    let known = ["container", "image", "volume", "build-cache"];
    let types: Vec<String> = context.query.all("type").map(str::to_owned).collect();
    if let Some(other) = types.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Failure::bad(format!("unknown object type: {other}")));
    }
    let version = context.version;
    let mut document = context.workers().patient_translate(move |engine| used(engine, &types, version)).await?;
    if context.version < Version(42) {
        document["BuilderSize"] = 0.into();
    }
    if context.version >= crate::newer::FIRST {
        crate::newer::disk_usage(&mut document, context.query.switch("verbose"));
    }
    reply::ok(&document)
}

/// What the wanted types use; all of them when none is named.
fn used(engine: &engine::Engine, types: &[String], version: Version) -> Result<Value, Failure> {
    let wants = |name: &str| types.is_empty() || types.iter().any(|wanted| wanted == name);
    let mut document = json!({});
    if wants("build-cache") {
        document["BuildCache"] = json!([]);
    }
    if wants("image") {
        let usage = engine.images_usage()?;
        document["LayersSize"] = usage.layers.into();
        let line = |used: &engine::ImageUsage| {
            let mut line = docker_json::summary::image(&used.image);
            line["Containers"] = used.image.containers.into();
            // Measured in blocks; a part is not more than the whole.
            line["SharedSize"] = used.shared.min(used.image.size).into();
            line
        };
        document["Images"] = usage.images.iter().map(line).collect::<Vec<_>>().into();
    }
    if wants("container") {
        let form = (jiff::Timestamp::now(), version);
        let all = engine.lines(engine::Detail::Networks)?;
        let line = |container| serde_json::to_value(crate::containers::list::line(engine, container, form, true));
        let lines = all.iter().map(line).collect::<Result<Vec<_>, _>>();
        document["Containers"] = lines.map_err(reply::unwritable)?.into();
    }
    if wants("volume") {
        let mut lines = Vec::new();
        for volume in engine.volumes()? {
            let mut line = docker_json::volume::value(&volume)?;
            let size = match engine.volume_size(&volume.name) {
                Err(error) if error.kind() == Kind::NotFound => continue,
                size => size?,
            };
            line["UsageData"] = json!({ "RefCount": volume.containers.len(), "Size": size });
            lines.push(line);
        }
        document["Volumes"] = lines.into();
    }
    Ok(document)
}
