//! Small things that clients of Docker's API can tell: platforms of images, parents of commits, names of two words, swarms that are not.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::case::{cases, same};
use crate::sandbox::Sandbox;
use crate::server::Server;

cases![docker_details: platforms_and_parents, names_of_two_words [Root], no_swarm];

/// A parameter's value.
fn encoded(document: &serde_json::Value) -> String {
    document.to_string().replace('{', "%7B").replace('}', "%7D").replace('"', "%22")
}

/// An image is for one platform, here linux on this processor; a commit has its parent while that is here.
fn platforms_and_parents(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let (_, found) = server.ask("GET /images/busybox/json", "")?;
    let other = encoded(&json!({"os": "plan9", "architecture": "mips"}));
    let own = encoded(&json!({"os": "linux", "architecture": found["Architecture"]}));
    for (line, wanted) in [
        (format!("GET /images/busybox/json?platform={other}"), 404),
        (format!("GET /images/busybox/json?platform={}", encoded(&json!({"os": "linux"}))), 400),
        (format!("GET /images/busybox/json?manifests=1&platform={own}"), 400),
        (format!("GET /images/busybox/history?platform={other}"), 404),
        (format!("GET /images/busybox/history?platform={own}"), 200),
        (format!("GET /images/busybox/get?platform={other}"), 404),
        (format!("GET /images/get?names=busybox&platform={own}&platform={other}"), 404),
        (format!("DELETE /images/busybox?platforms={other}"), 404),
        ("POST /images/load?platform=plan9".to_owned(), 400),
        (format!("POST /images/load?platform={own}&platform={other}"), 501),
    ] {
        let (code, answer) = server.ask(&line, "")?;
        same!(code, wanted, "{line}: {answer}");
    }
    same!(server.ask(&format!("GET /images/busybox/json?platform={own}"), "")?.1, found);
    server.ok(&["create", "--name", "box", "--network", "none", "busybox"])?;
    let (code, made) = server.ask("POST /commit?container=box&repo=child", "")?;
    same!(code, 201, "{made}");
    same!(server.ask("GET /images/child/json", "")?.1["Parent"], found["Id"]);
    // It goes nowhere with the image.
    let path = sandbox.path("child.tar");
    server.ok(&["save", "-o", &path.display().to_string(), "child"])?;
    server.ok(&["rm", "box"])?;
    server.ok(&["rmi", "child"])?;
    Ok(())
}

fn names_of_two_words(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    same!(server.ask("POST /networks/create", "{\"Name\": \"two words\"}")?.0, 201);
    same!(server.ask("GET /networks/two%20words", "")?.1["Name"], "two words");
    for name in [" n", "n ", "a/b", "a\nb"] {
        same!(server.ask("POST /networks/create", &json!({"Name": name}).to_string())?.0, 400, "{name:?}");
    }
    server.ok(&["run", "-d", "--name", "two", "--network", "two words", "busybox", "sleep", "1000"])?;
    server.ok(&["rm", "-f", "two"])?;
    same!(server.ask("DELETE /networks/two%20words", "")?.0, 204);
    Ok(())
}

fn no_swarm(sandbox: &Sandbox) -> Result<()> {
    let server = Server::start(sandbox)?;
    for (line, words) in [
        ("GET /swarm", "not a swarm manager"),
        ("POST /swarm/init", "incompatible with swarm mode"),
        ("POST /swarm/join", "incompatible with swarm mode"),
        ("POST /swarm/leave", "not part of a swarm"),
    ] {
        let (code, said) = server.ask(line, if line.starts_with("POST") { "{}" } else { "" })?;
        same!(code, 503, "{line}");
        ensure!(said["message"].as_str().is_some_and(|text| text.contains(words)), "{line}: {said}");
    }
    Ok(())
}
