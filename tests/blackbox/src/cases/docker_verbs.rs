//! Docker's own command line against `dhow serve`, verb by verb: Debian's, and the newest that Debian's archive has.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::case::{cases, contains, same, skip};
use crate::clients;
use crate::host;
use crate::sandbox::{Output, Sandbox};
use crate::server::Server;

cases![docker_verbs: debian [Root], newest [Root]];

fn debian(sandbox: &Sandbox) -> Result<()> {
    let Some(program) = host::program("docker") else { return skip("docker is not installed") };
    all(sandbox, program)
}

fn newest(sandbox: &Sandbox) -> Result<()> {
    all(sandbox, clients::find("docker/usr/bin/docker")?)
}

/// A command line with its server.
struct Docker<'a> {
    sandbox: &'a Sandbox,
    server: &'a Server<'a>,
    program: PathBuf,
}

impl Docker<'_> {
    fn run(&self, input: &str, words: &[&str]) -> Result<Output> {
        self.sandbox.finish_command(clients::command(self.sandbox, self.server, &self.program, words), input)
    }

    /// The words of a command that has none with spaces, except for its last ones.
    fn ok(&self, line: &str, last: &[&str]) -> Result<String> {
        self.run("", &line.split(' ').chain(last.iter().copied()).collect::<Vec<_>>())?.success()
    }

    fn fails(&self, line: &str, code: i32, fragments: &[&str]) -> Result<()> {
        self.run("", &line.split(' ').collect::<Vec<_>>())?.fails(code, fragments)
    }
}

fn all(sandbox: &Sandbox, program: PathBuf) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let docker = Docker { sandbox, server: &server, program };
    system(&docker)?;
    containers(&docker)?;
    streams(&docker)?;
    images(&docker, &sandbox.path("files"))?;
    networks_and_volumes(&docker)?;
    contexts(&docker, &server)?;
    docker.ok("system prune -f --volumes", &[])?;
    same!(docker.ok("ps -aq", &[])?, "");
    Ok(())
}

fn system(docker: &Docker<'_>) -> Result<()> {
    let versions = docker.ok("version --format", &["{{.Client.Version}} speaks {{.Server.APIVersion}}"])?;
    contains!(versions, " speaks 1.");
    same!(
        docker.ok("info --format", &["{{.OSType}} {{.Containers}} {{.Images}} {{len .ServerErrors}}"])?,
        "linux 0 1 0"
    );
    contains!(docker.ok("system df", &[])?, "Local Volumes");
    docker.fails("swarm join-token worker", 1, &["not a swarm manager"])?;
    docker.fails("inspect nosuch", 1, &["no such object: nosuch"])
}

fn containers(docker: &Docker<'_>) -> Result<()> {
    let box_ = ["busybox", "sh", "-c", "echo out; echo err >&2; exec sleep 1000"];
    docker.ok("container create --name box --network none --label a=b -e WORD=x -m 64m", &box_)?;
    docker.ok("container start box", &[])?;
    same!(docker.ok("ps --filter label=a=b --format", &["{{.Names}} {{.State}} {{.Image}}"])?, "box running busybox");
    let wanted = "64 MiB, running";
    let format = "{{if eq .HostConfig.Memory 67108864}}64 MiB{{end}}, {{.State.Status}}";
    same!(docker.ok("container inspect --format", &[format, "box"])?, wanted);
    same!(docker.ok("logs box", &[])?, "out");
    same!(docker.run("typed", &["exec", "-i", "box", "cat"])?.success()?, "typed");
    docker.fails("exec box nosuch", 127, &[])?;
    docker.run("", &["exec", "box", "sh", "-c", "echo $WORD >&2; exit 3"])?.fails(3, &["x"])?;
    let file = docker.sandbox.file("sent", "content")?;
    docker.ok("cp", &[&file, "box:/tmp/sent"])?;
    let back = format!("{file}.back");
    docker.ok("cp box:/tmp/sent", &[&back])?;
    same!(std::fs::read_to_string(&back)?, "content");
    contains!(docker.ok("diff box", &[])?, "A /tmp/sent");
    contains!(docker.ok("top box", &[])?, "sleep 1000");
    contains!(docker.ok("stats --no-stream --format", &["{{.Name}} {{.MemUsage}}"])?, "/ 64MiB");
    docker.ok("update --pids-limit 50 box", &[])?;
    docker.ok("pause box", &[])?;
    same!(docker.ok("ps --format", &["{{.State}}"])?, "paused");
    docker.ok("unpause box", &[])?;
    docker.ok("rename box other", &[])?;
    docker.ok("commit -m why other made:1", &[])?;
    docker.ok("restart -t 0 other", &[])?;
    docker.ok("kill other", &[])?;
    same!(docker.ok("wait other", &[])?, "137");
    docker.fails("kill other", 1, &["is not running"])?;
    let archive = docker.sandbox.path("files/other.tar");
    docker.ok("export -o", &[&archive.to_string_lossy(), "other"])?;
    docker.ok("import", &[&archive.to_string_lossy(), "imported:1"])?;
    docker.ok("rm other", &[])?;
    same!(docker.run("", &["container", "prune", "-f"])?.code, 0);
    Ok(())
}

fn streams(docker: &Docker<'_>) -> Result<()> {
    let script = "read word; echo got $word; echo bad >&2; exit 4";
    let output = docker.run("words\n", &["run", "--rm", "-i", "--network", "none", "busybox", "sh", "-c", script])?;
    same!((output.code, output.stdout.as_str(), output.stderr.as_str()), (4, "got words\n", "bad\n"));
    docker.fails("run --rm --pull never nosuch:1", 125, &["nosuch:1"])?;
    docker.fails("run --rm --network none busybox nosuch", 127, &["nosuch"])?;
    docker.ok("run -d --name quick --network none busybox echo", &["said"])?;
    same!(docker.ok("logs -f quick", &[])?, "said");
    docker.ok("rm -f quick", &[])?;
    // The client asks for what was before the second that it is.
    host::until("the last event", docker.sandbox.seconds(10), || {
        let events = docker.ok("events --since 1h --until 0s --filter container=quick --format", &["{{.Action}}"])?;
        Ok(["create", "start", "die", "destroy"].iter().all(|wanted| events.contains(wanted)).then_some(()))
    })
}

fn images(docker: &Docker<'_>, files: &Path) -> Result<()> {
    same!(docker.ok("image ls --filter reference=made --format", &["{{.Repository}}:{{.Tag}}"])?, "made:1");
    docker.ok("tag busybox box:v1", &[])?;
    same!(docker.ok("image inspect --format", &["{{.Os}}/{{.Architecture}}", "box:v1"])?, "linux/amd64");
    contains!(docker.ok("history box:v1", &[])?, "CREATED BY");
    let archive = files.join("box.tar");
    let archive = archive.to_str().context("UTF-8")?;
    docker.ok("save -o", &[archive, "box:v1"])?;
    contains!(docker.ok("rmi box:v1", &[])?, "Untagged: box:v1");
    contains!(docker.ok("load -i", &[archive])?, "Loaded image: box:v1");
    docker.fails("pull 127.0.0.1:1/nosuch:1", 1, &["127.0.0.1:1"])?;
    docker.fails("rmi nosuch:1", 1, &["no such image"])?;
    docker.ok("rmi box:v1 made:1 imported:1", &[])?;
    docker.ok("image prune -f", &[])?;
    std::fs::create_dir_all(files.join("context"))?;
    std::fs::write(files.join("context/Dockerfile"), "FROM busybox\nRUN false\n")?;
    let context = files.join("context");
    let context = context.to_str().context("UTF-8")?;
    let mut build = clients::command(docker.sandbox, docker.server, &docker.program, &["build", "-t", "x", context]);
    build.env("DOCKER_BUILDKIT", "0");
    let output = docker.sandbox.finish_command(build, "")?;
    same!((output.code, output.stderr.is_empty()), (1, false));
    Ok(())
}

fn networks_and_volumes(docker: &Docker<'_>) -> Result<()> {
    docker.ok("network create --subnet 10.99.0.0/24 --label a=b wire", &[])?;
    docker.fails("network create wire", 1, &["already exists"])?;
    docker.ok("volume create --label a=b kept", &[])?;
    docker.ok(
        "run -d --name member --network wire --ip 10.99.0.7 -p 127.0.0.1::80 -v kept:/kept busybox sleep 1000",
        &[],
    )?;
    same!(
        docker.ok("network inspect --format", &["{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}", "wire"])?,
        "member 10.99.0.7/24"
    );
    contains!(docker.ok("port member 80", &[])?, "127.0.0.1:");
    docker.ok("network create second", &[])?;
    docker.ok("network connect --alias peer second member", &[])?;
    let names = "{{range $name, $each := .NetworkSettings.Networks}}{{$name}} {{end}}";
    same!(docker.ok("inspect --format", &[names, "member"])?.trim(), "second wire");
    docker.ok("network disconnect second member", &[])?;
    docker.fails("network rm wire", 1, &["wire"])?;
    docker.fails("volume rm kept", 1, &["kept"])?;
    docker.ok("rm -f member", &[])?;
    same!(docker.ok("volume ls -q --filter label=a=b", &[])?, "kept");
    same!(docker.ok("volume inspect --format", &["{{.Driver}}", "kept"])?, "local");
    docker.ok("volume rm kept", &[])?;
    docker.ok("network rm second", &[])?;
    contains!(docker.ok("network prune -f", &[])?, "wire");
    Ok(())
}

fn contexts(docker: &Docker<'_>, server: &Server<'_>) -> Result<()> {
    let bare = |words: &[&str]| {
        let mut command = clients::command(docker.sandbox, docker.server, &docker.program, words);
        command.env_remove("DOCKER_HOST");
        docker.sandbox.finish_command(command, "")?.success()
    };
    let host = format!("host=unix://{}", server.socket.display());
    bare(&["context", "create", "mine", "--docker", &host])?;
    same!(bare(&["--context", "mine", "ps", "-q"])?, "");
    bare(&["context", "use", "mine"])?;
    same!(bare(&["info", "--format", "{{.OSType}}"])?, "linux");
    contains!(bare(&["context", "ls", "--format", "{{.Name}} {{.Current}}"])?, "mine true");
    bare(&["context", "use", "default"])?;
    bare(&["context", "rm", "mine"])?;
    Ok(())
}
