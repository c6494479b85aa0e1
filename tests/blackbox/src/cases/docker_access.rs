//! Who may do what over the Docker Engine API: tiers by peer credentials, ways round them, certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::registry::free_address;
use crate::sandbox::Sandbox;
use crate::server::Server;

cases![docker_access:
    tiers [Root], safe_tier [Root], own_things [Root], shared_things [Root], ways_round [Root], policy_is_read_again [Root], bad_policies [Root], certificates,
];

const READER: u32 = 4101;
const OWNER: u32 = 4102;
const OTHER: u32 = 4103;
const SAFE: u32 = 4104;
const STRANGER: u32 = 4105;

const POLICY: &str = "\
[[rule]]\nuser = 4101\ntier = \"read\"\n\
[[rule]]\ngroup = 4200\ntier = \"own\"\n\
[[rule]]\nuser = 4104\ntier = \"safe\"\n";

/// A server with a policy, and users who ask it.
struct Guarded<'a> {
    server: Server<'a>,
    sandbox: &'a Sandbox,
}

impl<'a> Guarded<'a> {
    fn start(sandbox: &'a Sandbox) -> Result<Guarded<'a>> {
        sandbox.load("busybox")?;
        let policy = sandbox.file("policy.toml", POLICY)?;
        // Others may pass through, and see nothing.
        fs::set_permissions(sandbox.directory(), fs::Permissions::from_mode(0o711))?;
        let server = Server::start_with(sandbox, &["--policy", &policy])?;
        Ok(Guarded { server, sandbox })
    }

    /// Asks as a user, who has the group 4200 beside the own one if it is one of the two owners.
    fn ask(&self, user: u32, line: &str, content: &Value) -> Result<(u16, Value)> {
        let (method, path) = line.split_once(' ').context("METHOD PATH")?;
        let mut command = Command::new("setpriv");
        let groups = if matches!(user, OWNER | OTHER) { "--groups=4999,4200" } else { "--clear-groups" };
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), groups]);
        command.args(["curl", "-s", "-m", "20", "-w", "\n%{http_code}", "-X", method]);
        if method == "HEAD" {
            command.arg("--head");
        }
        command.arg("--unix-socket").arg(&self.server.socket).arg(format!("http://d{path}"));
        if !content.is_null() {
            command.args(["-H", "Content-Type: application/json", "-d", &content.to_string()]);
        }
        let output = self.sandbox.finish_command(command, "")?;
        let (body, code) = output.stdout.trim_end().rsplit_once('\n').unwrap_or(("", output.stdout.trim()));
        let code = code.parse().with_context(|| format!("{line} as {user}: {output:?}"))?;
        eprintln!("{user}> {line} {content}\n< {code} {}", body.chars().take(300).collect::<String>());
        Ok((code, serde_json::from_str(body.trim()).unwrap_or(Value::String(body.to_owned()))))
    }

    fn denied(&self, user: u32, line: &str, content: &Value, words: &str) -> Result<()> {
        let (code, answer) = self.ask(user, line, content)?;
        same!(code, 403, "{line} {content} as {user}: {answer}");
        let message = answer["message"].as_str().unwrap_or_default();
        ensure!(message.starts_with("denied by ") && message.contains(words), "{line} as {user}: {message}");
        Ok(())
    }

    /// A running container of a user.
    fn run(&self, user: u32, name: &str, host_config: &Value) -> Result<String> {
        let (code, answer) = self.ask(user, &format!("POST /containers/create?name={name}"), &asked(host_config))?;
        same!(code, 201, "{answer}");
        let id = answer["Id"].as_str().context("no Id")?.to_owned();
        crate::audit::remember(self.sandbox.directory(), &id)?;
        same!(self.ask(user, &format!("POST /containers/{id}/start"), &Value::Null)?.0, 204);
        Ok(id)
    }
}

/// A container with no network and this besides.
fn asked(host_config: &Value) -> Value {
    let mut all = json!({"NetworkMode": "none"});
    for (key, value) in host_config.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": all})
}

fn tiers(sandbox: &Sandbox) -> Result<()> {
    let guarded = Guarded::start(sandbox)?;
    let none = Value::Null;
    guarded.server.ok(&["run", "-d", "--name", "roots", "--network", "none", "busybox", "sleep", "1000"])?;
    // Whom no rule is about may not even ask who is there; root needs no rule.
    guarded.denied(STRANGER, "GET /_ping", &none, "the default of ")?;
    same!(guarded.server.ask("GET /info", "")?.0, 200);
    for line in
        ["GET /_ping", "GET /info", "GET /containers/json", "GET /containers/roots/json", "GET /v1.41/images/json"]
    {
        same!(guarded.ask(READER, line, &none)?.0, 200, "{line}");
    }
    for line in [
        "POST /containers/create",
        "POST /containers/roots/stop",
        "DELETE /containers/roots",
        "GET /containers/roots/archive?path=/etc/passwd",
        "HEAD /containers/roots/archive?path=/etc/passwd",
        "GET /containers/roots/export",
        "GET /containers/roots/attach/ws?stream=1",
        "POST /containers/roots/attach?stream=1&stdout=1",
        "POST /containers/roots/exec",
        "POST /images/create?fromImage=busybox",
        "GET /images/busybox/get",
        "DELETE /images/busybox",
        "POST /commit?container=roots",
        "POST /volumes/create",
        "POST /containers/prune",
        "POST /build/prune",
        "POST /swarm/init",
        "PATCH /containers/roots",
        "GET //containers/roots/export",
        "GET /containers/%72oots/export",
        "GET /containers/roots/%65xport",
        "GET /v1.41//containers/roots/export",
    ] {
        let code = guarded.ask(READER, line, &none)?.0;
        ensure!(code == 403, "{line}: {code}");
    }
    Ok(())
}

fn safe_tier(sandbox: &Sandbox) -> Result<()> {
    let guarded = Guarded::start(sandbox)?;
    let none = Value::Null;
    guarded.server.ok(&["run", "-d", "--name", "roots", "--network", "none", "busybox", "sleep", "1000"])?;
    // The tier `safe` works on all containers, as long as they have no power over the host.
    let id = guarded.run(SAFE, "theirs", &json!({}))?;
    same!(guarded.ask(SAFE, "POST /containers/roots/exec", &json!({"Cmd": ["true"]}))?.0, 201);
    guarded.denied(SAFE, "POST /containers/roots/exec", &json!({"Cmd": ["true"], "Privileged": true}), "privileged")?;
    guarded.server.ok(&[
        "run",
        "-d",
        "--name",
        "mighty",
        "-v",
        "/:/host",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ])?;
    guarded.server.ok(&["run", "-d", "--name", "near", "--network", "container:mighty", "busybox", "sleep", "1000"])?;
    for line in [
        "POST /containers/mighty/exec",
        "GET /containers/mighty/archive?path=/host/etc/shadow",
        "PUT /containers/mighty/archive?path=/host",
        "POST /containers/mighty/attach?stream=1&stdin=1",
        "POST /containers/mighty/update",
        "POST /commit?container=mighty",
        "POST /containers/near/exec",
        "POST /secrets/create",
    ] {
        guarded.denied(SAFE, line, &json!({"Cmd": ["true"]}), "tier safe")?;
    }
    // A secret was given to one container, and not to whoever may look into containers.
    sandbox.dhow_with_input("hidden", ["secret", "create", "key", "-"])?.success()?;
    sandbox.detached(&["--name", "keeper", "--network", "none", "--secret", "key"], "sleep 1000")?;
    for line in [
        "POST /containers/keeper/exec",
        "GET /containers/keeper/archive?path=/run/secrets",
        "GET /containers/keeper/export",
    ] {
        guarded.denied(SAFE, line, &json!({"Cmd": ["true"]}), "holds secrets")?;
    }
    let near = json!({"PidMode": "container:keeper"});
    guarded.denied(SAFE, "POST /containers/create", &asked(&near), "holds secrets")?;
    guarded.denied(SAFE, "POST /containers/theirs/start?checkpoint=x&checkpoint-dir=/tmp", &none, "checkpoint")?;
    same!(guarded.ask(SAFE, &format!("DELETE /containers/{id}?force=1"), &none)?.0, 204);
    same!(guarded.ask(SAFE, "GET /system/df", &none)?.0, 200);
    Ok(())
}

fn own_things(sandbox: &Sandbox) -> Result<()> {
    let guarded = Guarded::start(sandbox)?;
    let none = Value::Null;
    guarded.server.ok(&["run", "-d", "--name", "roots", "--network", "none", "busybox", "sleep", "1000"])?;
    let own = guarded.run(OWNER, "mine", &json!({}))?;
    let others = guarded.run(OTHER, "others", &json!({}))?;
    // Each sees its own.
    let (_, listed) = guarded.ask(OWNER, "GET /containers/json?all=1", &none)?;
    same!((listed.as_array().map(Vec::len), &listed[0]["Id"]), (Some(1), &json!(own)));
    same!(guarded.ask(OWNER, "POST /containers/mine/exec", &json!({"Cmd": ["true"]}))?.0, 201);
    same!(guarded.ask(OWNER, "GET /containers/mine/archive?path=/etc/passwd", &none)?.0, 200);
    for theirs in ["roots", "others", others.as_str(), &others[..12]] {
        for line in [
            "GET /containers/{}/json",
            "GET /containers/{}/logs?stdout=1",
            "GET /containers/{}/stats?stream=0",
            "GET /containers/{}/archive?path=/",
            "PUT /containers/{}/archive?path=/",
            "POST /containers/{}/exec",
            "POST /containers/{}/kill",
            "POST /containers/{}/rename?name=x",
            "POST /containers/{}/wait",
            "POST /containers/{}/update",
            "DELETE /containers/{}?force=1",
            "POST /commit?container={}",
        ] {
            guarded.denied(OWNER, &line.replace("{}", theirs), &json!({"Cmd": ["true"]}), "is not yours")?;
        }
    }
    // Nor does anybody link to what is another's.
    let linking = |other: &str| json!({"Image": "busybox", "HostConfig": {"Links": [format!("{other}:db")]}});
    let elsewhere =
        json!({"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"bridge": {"Links": ["roots"]}}}});
    for document in [linking("roots"), linking("others"), elsewhere] {
        guarded.denied(OWNER, "POST /containers/create", &document, "is not yours")?;
    }
    let (status, made) = guarded.ask(OWNER, "POST /containers/create?name=linked", &linking("mine"))?;
    same!(status, 201);
    let (_, shown) = guarded.ask(OWNER, "GET /containers/linked/json", &none)?;
    ensure!(
        made["Id"].is_string() && shown["HostConfig"]["Links"][0].as_str().is_some_and(|link| link.ends_with("/db")),
        "{shown}"
    );
    // A session of exec belongs to whoever made it.
    let (_, session) = guarded.ask(OTHER, "POST /containers/others/exec", &json!({"Cmd": ["true"]}))?;
    let session = session["Id"].as_str().context("no Id")?;
    guarded.denied(OWNER, &format!("POST /exec/{session}/start"), &json!({"Detach": true}), "is not yours")?;
    guarded.denied(OWNER, &format!("GET /exec/{session}/json"), &none, "is not yours")?;
    Ok(())
}

fn shared_things(sandbox: &Sandbox) -> Result<()> {
    let guarded = Guarded::start(sandbox)?;
    let none = Value::Null;
    guarded.server.ok(&["volume", "create", "rootsvolume"])?;
    guarded.server.ok(&["network", "create", "rootsnet"])?;
    let own = guarded.run(OWNER, "mine", &json!({}))?;
    let others = guarded.run(OTHER, "others", &json!({}))?;
    // What all share is not changed, and what others have is not looked at.
    for line in [
        "POST /containers/prune",
        "POST /volumes/prune",
        "POST /images/prune",
        "GET /system/df",
        "DELETE /images/busybox",
        "POST /images/busybox/tag?repo=debian&tag=12",
        "POST /images/load",
        "POST /images/create?fromSrc=-&repo=debian",
        "POST /commit?container=mine&repo=debian&tag=12",
    ] {
        guarded.denied(OWNER, line, &none, "tier own")?;
    }
    // Volumes and networks.
    same!(guarded.ask(OWNER, "POST /volumes/create", &json!({"Name": "minevolume"}))?.0, 201);
    guarded.denied(OTHER, "POST /volumes/create", &json!({"Name": "minevolume"}), "is not yours")?;
    let forged = json!({"Name": "x", "Labels": {"io.dhow.owner": "uid:4102"}});
    guarded.denied(OTHER, "POST /volumes/create", &forged, "not yours to set")?;
    guarded.denied(OTHER, "POST /networks/create", &forged, "not yours to set")?;
    for line in [
        "GET /volumes/rootsvolume",
        "DELETE /volumes/rootsvolume",
        "GET /networks/rootsnet",
        "DELETE /networks/rootsnet",
    ] {
        guarded.denied(OWNER, line, &none, "is not yours")?;
    }
    let (_, volumes) = guarded.ask(OWNER, "GET /volumes", &none)?;
    same!(volumes["Volumes"].as_array().map(Vec::len), Some(1));
    same!(guarded.ask(OWNER, "DELETE /volumes/minevolume", &none)?.0, 204);
    // Events of others are not heard. Up to the next full second, so that what has just happened is among them.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let (_, heard) = guarded.ask(OWNER, &format!("GET /events?since=1&until={}", now.as_secs() + 1), &none)?;
    let heard = heard.as_str().map(str::to_owned).unwrap_or_else(|| heard.to_string());
    ensure!(heard.contains(&own) && !heard.contains(&others) && !heard.contains("rootsvolume"), "{heard}");
    Ok(())
}

/// Host configurations that would give power over the host.
fn ways() -> Vec<Value> {
    let bind = json!({"type": "none", "o": "bind", "device": "/"});
    vec![
        json!({"Binds": ["/:/host"]}),
        json!({"Binds": ["/:/host:ro"]}),
        json!({"Binds": ["//etc/../:/host"]}),
        json!({"Binds": ["hostvolume:/host"]}),
        json!({"Mounts": [{"Type": "bind", "Source": "/", "Target": "/host"}]}),
        json!({"Mounts": [{"Type": "volume", "Target": "/host", "VolumeOptions": {"DriverConfig": {"Options": bind}}}]}),
        json!({"Mounts": [{"Type": "volume", "Source": "hostvolume", "Target": "/host"}]}),
        json!({"VolumesFrom": ["mighty"]}),
        json!({"VolumesFrom": ["mighty:ro"]}),
        json!({"Privileged": true}),
        json!({"CapAdd": ["SYS_ADMIN"]}),
        json!({"CapAdd": ["all"]}),
        json!({"Devices": [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rwm"}]}),
        json!({"DeviceCgroupRules": ["a *:* rwm"]}),
        json!({"PidMode": "host"}),
        json!({"PidMode": "container:mighty"}),
        json!({"IpcMode": "host"}),
        json!({"IpcMode": "container:mighty"}),
        json!({"UTSMode": "host"}),
        json!({"UsernsMode": "host"}),
        json!({"CgroupnsMode": "host"}),
        json!({"CgroupParent": "/"}),
        json!({"NetworkMode": "host"}),
        json!({"NetworkMode": "container:mighty"}),
        json!({"SecurityOpt": ["seccomp=unconfined"]}),
        json!({"SecurityOpt": ["apparmor=unconfined"]}),
        json!({"SecurityOpt": ["label=disable"]}),
        json!({"MaskedPaths": [], "ReadonlyPaths": []}),
        json!({"MaskedPaths": ["/proc/kcore"]}),
        json!({"ReadonlyPaths": []}),
        json!({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor.com/device=all"]}]}),
        json!({"OomScoreAdj": -1000}),
        json!({"LogConfig": {"Type": "syslog", "Config": {"syslog-address": "unixgram:///run/x"}}}),
        json!({"Annotations": {"a": "b"}}),
    ]
}

fn ways_round(sandbox: &Sandbox) -> Result<()> {
    let guarded = Guarded::start(sandbox)?;
    let bind = json!({"type": "none", "o": "bind", "device": "/"});
    guarded.server.ok(&[
        "run",
        "-d",
        "--name",
        "mighty",
        "-v",
        "/etc:/host",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ])?;
    guarded.server.ok(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/", "hostvolume"])?;
    for way in &ways() {
        for user in [OWNER, SAFE] {
            let (code, answer) = guarded.ask(user, "POST /containers/create", &asked(way))?;
            same!(code, 403, "{way}: {answer}");
        }
    }
    for user in [OWNER, SAFE] {
        guarded.denied(user, "POST /volumes/create", &json!({"Name": "v", "DriverOpts": bind}), "not allowed")?;
        let options = json!({"Name": "n", "Options": {"com.docker.network.bridge.name": "lo"}});
        guarded.denied(user, "POST /networks/create", &options, "not allowed")?;
    }
    same!(guarded.ask(READER, "GET /containers/json?all=1", &Value::Null)?.1.as_array().map(Vec::len), Some(1));
    // What is read and what is done is the same, however the request is written.
    let twice = r#"{"Image":"busybox","HostConfig":{"Privileged":false,"Privileged":true}}"#;
    let lower = r#"{"Image":"busybox","hostconfig":{"privileged":true,"Binds":["/:/x"]}}"#;
    let both = r#"{"Image":"busybox","HostConfig":{"NetworkMode":"none"},"hostconfig":{"privileged":true}}"#;
    for text in [twice, lower, both] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=4104", "--regid=4104", "--clear-groups", "curl", "-s", "-m", "20", "--unix-socket"]);
        command.arg(&guarded.server.socket).args(["-d", text, "http://d/containers/create?name=odd"]);
        let said = sandbox.finish_command(command, "")?.success()?;
        if !said.contains("\"Id\"") {
            continue;
        }
        let made = guarded.server.ask("GET /containers/odd/json", "")?.1;
        let host = &made["HostConfig"];
        ensure!(host["Privileged"] == false && made["Mounts"] == json!([]), "{text}: {host}");
        guarded.server.ok(&["rm", "odd"])?;
    }
    Ok(())
}

fn policy_is_read_again(sandbox: &Sandbox) -> Result<()> {
    let guarded = Guarded::start(sandbox)?;
    guarded.denied(STRANGER, "GET /_ping", &Value::Null, "the default of ")?;
    let tell = |text: &str| -> Result<()> {
        sandbox.file("policy.toml", text)?;
        host::succeed(Command::new("kill").args(["-HUP", &guarded.server.pid().to_string()]))?;
        Ok(())
    };
    tell("default = \"read\"\n")?;
    let greeted = || Ok((guarded.ask(STRANGER, "GET /_ping", &Value::Null)?.0 == 200).then_some(()));
    host::until("the new policy is in force", sandbox.seconds(10), greeted)?;
    // One that cannot be used changes nothing.
    tell("default = \"everything\"\n")?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    same!(guarded.ask(STRANGER, "GET /_ping", &Value::Null)?.0, 200);
    Ok(())
}

fn bad_policies(sandbox: &Sandbox) -> Result<()> {
    let good = sandbox.file("policy.toml", POLICY)?;
    let address = format!("unix://{}", sandbox.path("docker.sock").display());
    let serve = |policy: &str| sandbox.dhow(["serve", "--host", &address, "--policy", policy]);
    serve("/nosuch")?.fails(1, &["cannot use the policy /nosuch"])?;
    serve(&sandbox.file("bad.toml", "tier = 1")?)?.fails(1, &["cannot use the policy"])?;
    fs::set_permissions(&good, fs::Permissions::from_mode(0o666))?;
    serve(&good)?.fails(1, &["may write to it"])?;
    Ok(())
}

/// An authority, and certificates that it gave; `usage` is for what they may be shown.
fn certificate(directory: &Path, authority: &str, name: &str, usage: &str) -> Result<()> {
    let script = "
        cd \"$1\"; [ -e $2.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \\
            -keyout $2.key -out $2.pem -subj /CN=$2 2>/dev/null
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $3.key -out $3.csr -subj /CN=$3 2>/dev/null
        printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=%s\\n' $4 > $3.ext
        openssl x509 -req -in $3.csr -CA $2.pem -CAkey $2.key -CAcreateserial -days 2 -extfile $3.ext -out $3.pem 2>/dev/null";
    let mut command = Command::new("bash");
    command.args(["-euc", script, "certificate"]).arg(directory).args([authority, name, usage]);
    host::succeed(&mut command)?;
    Ok(())
}

fn certificates(sandbox: &Sandbox) -> Result<()> {
    if host::program("openssl").is_none() {
        return skip("openssl is not installed");
    }
    let files = sandbox.path("files");
    certificate(&files, "authority", "server", "serverAuth")?;
    certificate(&files, "authority", "client", "clientAuth")?;
    certificate(&files, "authority", "onlyserver", "serverAuth")?;
    certificate(&files, "stranger", "fake", "clientAuth")?;
    let path = |name: &str| files.join(name).display().to_string();
    let address = free_address()?;
    let everywhere = format!("tcp://{}", address.replace("127.0.0.1", "0.0.0.0"));
    sandbox.dhow(["serve", "--host", &everywhere])?.fails(1, &["without TLS"])?;
    sandbox.dhow(["serve", "--host", &everywhere, "--tlsverify"])?.fails(1, &["--tlscacert is missing"])?;
    let (ca, certificate, key) = (path("authority.pem"), path("server.pem"), path("server.key"));
    let tls = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &certificate, "--tlskey", &key];
    let server = Server::start_with(sandbox, &[&["--host", &everywhere], &tls[..]].concat())?;
    let url = format!("https://{address}/_ping");
    let curl = |words: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-s", "-m", "20", "--cacert", &ca]).args(words).arg(&url);
        sandbox.finish_command(command, "")
    };
    let shown = |name: &str| curl(&["--cert", &path(&format!("{name}.pem")), "--key", &path(&format!("{name}.key"))]);
    same!(shown("client")?.success()?, "OK");
    for refused in [shown("fake")?, shown("onlyserver")?, curl(&[])?] {
        ensure!(refused.code != 0 && refused.stdout.is_empty(), "{refused:?}");
    }
    // Nothing is said in the clear.
    let mut plain = Command::new("curl");
    plain.args(["-s", "-m", "20", &format!("http://{address}/_ping")]);
    ensure!(sandbox.finish_command(plain, "")?.code != 0, "it speaks without TLS");
    // Docker's command line, and a stream that is taken over.
    sandbox.load("busybox")?;
    let mut docker = server.docker_command(&[
        "--tlsverify",
        "--tlscacert",
        &ca,
        "--tlscert",
        &path("client.pem"),
        "--tlskey",
        &path("client.key"),
        "-H",
        &format!("tcp://{address}"),
        "run",
        "-i",
        "--rm",
        "--network",
        "none",
        "busybox",
        "cat",
    ])?;
    docker.env_remove("DOCKER_HOST");
    contains!(sandbox.finish_command(docker, "through TLS\n")?.success()?, "through TLS");
    Ok(())
}
