//! The Docker Engine API, used by Ansible's modules for Docker, which compare what is there with what is wanted.

use anyhow::Result;

use crate::case::{cases, contains, same};
use crate::clients;
use crate::sandbox::Sandbox;
use crate::server::Server;

cases![docker_ansible: modules [Root, Long]];

fn modules(sandbox: &Sandbox) -> Result<()> {
    let collections = clients::find("python/collections")?;
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let playbook = sandbox.file("playbook.yaml", include_str!("../clients/playbook.yaml"))?;
    let program = clients::find("python/bin/ansible-playbook")?;
    let mut command = clients::command(sandbox, &server, &program, &["-i", "localhost,", "-c", "local", &playbook]);
    command.env("ANSIBLE_COLLECTIONS_PATH", collections).env("ANSIBLE_HOME", sandbox.path("files/ansible"));
    command.env("ANSIBLE_PYTHON_INTERPRETER", clients::find("python/bin/python3")?);
    command.env("ANSIBLE_PIPELINING", "true").env("ANSIBLE_NOCOLOR", "true");
    contains!(sandbox.finish_command(command, "")?.success()?, "failed=0");
    same!(server.ok(&["ps", "-aq"])?, "");
    Ok(())
}
