//! What an answer looks like depends on the version asked for: what Docker 29 has anew (1.52 to 1.56) and no longer has.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same};
use crate::sandbox::Sandbox;
use crate::server::{Server, read_head, status};

cases![docker_versions: inspections, events_in_three_forms, disk_usage, networks [Root]];

fn ready(sandbox: &Sandbox) -> Result<Server<'_>> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    server.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"])?;
    Ok(server)
}

fn inspections(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let get = |path: &str| -> Result<Value> {
        let (code, found) = server.ask(&format!("GET {path}"), "")?;
        same!(code, 200, "{path}: {found}");
        Ok(found)
    };
    let (old, new) = (get("/v1.51/containers/box/json")?, get("/v1.52/containers/box/json")?);
    for name in ["Bridge", "IPAddress", "Gateway", "HairpinMode", "MacAddress", "SecondaryIPAddresses"] {
        ensure!(old["NetworkSettings"].get(name).is_some(), "1.51 has no {name}");
        ensure!(new["NetworkSettings"].get(name).is_none(), "1.52 has {name}");
    }
    same!(new["NetworkSettings"]["Networks"], old["NetworkSettings"]["Networks"]);
    ensure!(old["Config"].get("OnBuild").is_some() && new["Config"].get("OnBuild").is_none(), "{}", new["Config"]);
    let (old, new) = (get("/v1.51/images/busybox/json")?, get("/images/busybox/json")?);
    for name in ["Parent", "Author"] {
        same!((&old[name], new.get(name)), (&json!(""), None));
    }
    ensure!(old["Config"].get("Labels").is_some() && new["Config"].get("Labels").is_none(), "{}", new["Config"]);
    same!(new["Config"]["Cmd"], old["Config"]["Cmd"]);
    same!(get("/containers/box/stats?stream=0&one-shot=1")?["os_type"], "linux");
    same!(get("/version")?["ApiVersion"], "1.56");
    let (code, said) = server.ask("GET /images/busybox/attestations", "")?;
    same!(code, 501, "{said}");
    same!(server.ask("GET /images/nosuch/attestations", "")?.0, 404);
    server.ok(&["rm", "-f", "box"])?;
    Ok(())
}

fn events_in_three_forms(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    server.ok(&["rm", "-f", "box"])?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let filters = "%7B%22event%22%3A%5B%22destroy%22%5D%7D";
    let ask = |version: &str, accept: &str| -> Result<(String, String)> {
        let headers = format!("Connection: close\r\n{accept}");
        let line = format!("GET {version}/events?since=1&until={}&filters={filters}", now + 1);
        let mut stream = server.send(&line, &headers, "")?;
        let head = read_head(&mut stream)?;
        same!(status(&head)?, 200);
        let mut bytes = vec![];
        std::io::Read::read_to_end(&mut stream, &mut bytes)?;
        Ok((head.to_ascii_lowercase(), String::from_utf8_lossy(&bytes).into_owned()))
    };
    let (head, text) = ask("/v1.51", "Accept: application/json-seq\r\n")?;
    contains!(head, "content-type: application/json\r\n");
    contains!(text, "\"status\":\"destroy\"");
    let (head, text) = ask("", "")?;
    contains!(head, "content-type: application/json\r\n");
    ensure!(text.contains("\"Action\":\"destroy\"") && !text.contains("\"status\""), "{text}");
    let (head, text) = ask("/v1.55", "Accept: application/json-seq\r\n")?;
    contains!(head, "content-type: application/json-seq\r\n");
    contains!(text, "\u{1e}{");
    let (head, text) = ask("/v1.53", "Accept: application/jsonl, */*\r\n")?;
    contains!(head, "content-type: application/jsonl\r\n");
    ensure!(!text.contains('\u{1e}') && text.contains("}\n"), "{text}");
    Ok(())
}

fn disk_usage(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    server.ok(&["volume", "create", "unused"])?;
    let get = |path: &str| -> Result<Value> { Ok(server.ask(&format!("GET {path}"), "")?.1) };
    let old = get("/v1.51/system/df")?;
    ensure!(old["Images"].is_array() && old.get("ImageUsage").is_none(), "{old}");
    let both = get("/v1.52/system/df")?;
    let used = &both["ImageUsage"];
    same!((&used["TotalCount"], &used["ActiveCount"], &used["Reclaimable"]), (&json!(1), &json!(1), &json!(0)));
    same!((&used["TotalSize"], used.get("Items")), (&both["LayersSize"], None));
    let new = get("/system/df?verbose=1")?;
    ensure!(new.get("Images").is_none() && new.get("LayersSize").is_none(), "{new}");
    same!(new["ImageUsage"]["Items"][0]["Id"], old["Images"][0]["Id"]);
    let volumes = &new["VolumeUsage"];
    same!((&volumes["TotalCount"], &volumes["ActiveCount"]), (&json!(1), &json!(0)));
    same!(new["ContainerUsage"]["ActiveCount"], 1);
    let some = get("/system/df?verbose=1&type=volume")?;
    ensure!(some.get("ContainerUsage").is_none() && some["VolumeUsage"]["Items"].is_array(), "{some}");
    server.ok(&["rm", "-f", "box"])?;
    server.ok(&["volume", "rm", "unused"])?;
    Ok(())
}

fn networks(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let pool = json!({"Subnet": "10.77.0.0/24", "IPRange": "10.77.0.128/25", "Gateway": "10.77.0.1"});
    let asked = json!({"Name": "wire", "IPAM": {"Config": [pool]}});
    same!(server.ask("POST /networks/create", &asked.to_string())?.0, 201);
    server.ok(&["run", "-d", "--name", "member", "--network", "wire", "busybox", "sleep", "1000"])?;
    let (_, found) = server.ask("GET /networks/wire", "")?;
    // The network, the gateway, the member, and the last for all; the last two are in the part that addresses come from.
    let wanted = json!({"IPsInUse": 4, "DynamicIPsAvailable": 126});
    same!(found["Status"]["IPAM"]["Subnets"]["10.77.0.0/24"], wanted);
    ensure!(server.ask("GET /v1.51/networks/wire", "")?.1.get("Status").is_none(), "1.51 has Status");
    // Since 1.54 the address that is asked for here is given.
    let asked = json!({"Container": "member", "EndpointConfig": {"MacAddress": "02:42:0a:00:00:07"}});
    server.ok(&["network", "create", "other"])?;
    same!(server.ask("POST /networks/other/connect", &asked.to_string())?.0, 200);
    contains!(server.ok(&["exec", "member", "cat", "/sys/class/net/eth1/address"])?, "02:42:0a:00:00:07");
    server.ok(&["rm", "-f", "box", "member"])?;
    server.ok(&["network", "rm", "wire", "other"])?;
    Ok(())
}
