//! Health checks: run by the monitor, shown by `ps` and `inspect`, and what they lead to.

use anyhow::Result;

use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;

cases![health: becomes_healthy_and_not, exceeds_its_time, start_period, on_failure, of_nothing, output_is_kept];

fn wait_for(sandbox: &Sandbox, name: &str, wanted: &str) -> Result<()> {
    host::until(&format!("{name} is {wanted}"), sandbox.seconds(20), || {
        let status = sandbox.ok(["inspect", "-f", "{{.State.Health.Status}}", name])?;
        Ok((status == wanted).then_some(()))
    })
}

const QUICK: [&str; 6] = ["--network", "none", "--health-interval", "50ms", "--health-retries", "2"];

fn becomes_healthy_and_not(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options =
        [&QUICK[..], &["--name", "box", "--health-cmd", "test -e /well || { echo not yet; exit 9; }"]].concat();
    sandbox.detached(&options, "exec sleep 1000")?;
    same!(sandbox.inspect("box")?["Config"]["Healthcheck"]["Test"][0], "CMD-SHELL");
    wait_for(sandbox, "box", "unhealthy")?;
    contains!(sandbox.ok(["ps"])?, "(unhealthy)");
    same!(sandbox.ok(["ps", "-q", "-f", "health=healthy"])?, "");
    let health = sandbox.inspect("box")?["State"]["Health"].take();
    let last = health["Log"].as_array().and_then(|log| log.last()).cloned().unwrap_or_default();
    same!(last["ExitCode"], 9);
    same!(last["Output"], "not yet\n");
    sandbox.ok(["exec", "box", "touch", "/well"])?;
    wait_for(sandbox, "box", "healthy")?;
    contains!(sandbox.ok(["ps", "-f", "health=healthy"])?, "(healthy)");
    same!(sandbox.inspect("box")?["State"]["Health"]["FailingStreak"], 0);
    // At most five results are kept.
    host::until("a full log", sandbox.seconds(10), || {
        let health = sandbox.inspect("box")?["State"]["Health"].take();
        Ok((health["Log"].as_array().map_or(0, Vec::len) == 5).then_some(()))
    })?;
    // Checks are no exec sessions of the user's, and none is left.
    sandbox.ok(["stop", "-t", "0", "box"])?;
    Ok(())
}

fn exceeds_its_time(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options = [&QUICK[..], &["--name", "box", "--health-timeout", "100ms", "--health-cmd", "sleep 1000"]].concat();
    sandbox.detached(&options, "exec sleep 1000")?;
    wait_for(sandbox, "box", "unhealthy")?;
    let health = sandbox.inspect("box")?["State"]["Health"].take();
    same!(health["Log"][0]["ExitCode"], -1);
    contains!(health["Log"][0]["Output"].as_str().unwrap_or_default(), "exceeded timeout (100ms)");
    Ok(())
}

fn start_period(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let period = ["--health-start-period", "1h", "--health-start-interval", "30ms", "--health-cmd", "test -e /well"];
    let options = [&QUICK[..], &period, &["--name", "box", "--health-interval", "1h"]].concat();
    sandbox.detached(&options, "exec sleep 1000")?;
    host::until("failures that do not count", sandbox.seconds(10), || {
        let health = sandbox.inspect("box")?["State"]["Health"].take();
        Ok((health["Log"].as_array().map_or(0, Vec::len) == 5).then_some(()))
    })?;
    let health = sandbox.inspect("box")?["State"]["Health"].take();
    same!((&health["Status"], &health["FailingStreak"]), (&"starting".into(), &0.into()));
    contains!(sandbox.ok(["ps"])?, "(health: starting)");
    sandbox.ok(["exec", "box", "touch", "/well"])?;
    wait_for(sandbox, "box", "healthy")
}

fn on_failure(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for (action, code) in [("kill", "137"), ("stop", "5")] {
        let options =
            [&QUICK[..], &["--name", action, "--health-on-failure", action, "--health-cmd", "test -e /well"]].concat();
        sandbox.detached(&options, "trap 'exit 5' TERM; while :; do sleep 0.05; done")?;
        sandbox.wait_for_state(action, "exited")?;
        same!(sandbox.ok(["inspect", "-f", "{{.State.ExitCode}}", action])?, code);
    }
    let options =
        [&QUICK[..], &["--name", "again", "--health-on-failure", "restart", "--health-cmd", "test -e /well"]].concat();
    sandbox.detached(&options, "echo run; trap 'exit 5' TERM; while :; do sleep 0.05; done")?;
    sandbox.wait_for_log("again", "run\nrun\n")?;
    sandbox.ok(["rm", "-f", "again"])?;
    Ok(())
}

fn of_nothing(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "box", "--no-healthcheck"], "exec sleep 1000")?;
    let inspect = sandbox.inspect("box")?;
    same!(inspect["Config"]["Healthcheck"]["Test"][0], "NONE");
    same!(inspect["State"]["Health"].is_null(), true);
    for (flags, words) in [
        (&["--no-healthcheck", "--health-cmd", "true"][..], "conflicts with --health-*"),
        (&["--health-interval", "1us"], "cannot be less than 1ms"),
        (&["--health-retries", "-1"], "cannot be negative"),
        (&["--health-timeout", "soon"], "invalid duration"),
        (&["--health-on-failure", "pray"], "must be one of none, restart, kill or stop"),
    ] {
        sandbox.dhow([&["run"], flags, &["busybox", "true"]].concat())?.fails(125, &[words])?;
    }
    Ok(())
}

fn output_is_kept(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let check = "head -c 100000 /dev/zero | tr '\\0' x";
    let options = [&QUICK[..], &["--name", "box", "--health-cmd", check]].concat();
    sandbox.detached(&options, "exec sleep 1000")?;
    wait_for(sandbox, "box", "healthy")?;
    let health = sandbox.inspect("box")?["State"]["Health"].take();
    let output = health["Log"][0]["Output"].as_str().unwrap_or_default().to_owned();
    same!(output.len(), 4096 + 3);
    same!(sandbox.ok(["logs", "box"])?, "");
    Ok(())
}
