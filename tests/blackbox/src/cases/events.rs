//! `events`: complete, in order, from all processes, without a daemon.

use std::io::{BufRead, BufReader};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::case::{cases, contains, same};
use crate::sandbox::Sandbox;

cases![events: a_whole_life, following, filters_and_formats, many_at_once, images];

fn actions(sandbox: &Sandbox, filters: &[&str]) -> Result<Vec<String>> {
    let mut arguments = vec!["events", "--since", "0", "--until", "0s", "--format", "{{.Action}}"];
    for filter in filters {
        arguments.extend(["--filter", filter]);
    }
    Ok(sandbox.ok(arguments)?.lines().map(str::to_owned).collect())
}

fn a_whole_life(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox
        .detached(&["--network", "none", "--name", "box", "--label", "tier=web"], "trap '' TERM; exec sleep 1000")?;
    sandbox.ok(["exec", "box", "sh", "-c", "exit 3"]).unwrap_err();
    // An ordinary user to whom no cgroup is delegated cannot freeze anything.
    let can_pause = sandbox.dhow(["pause", "box"])?.code == 0;
    if can_pause {
        sandbox.ok(["unpause", "box"])?;
    }
    sandbox.ok(["rename", "box", "crate"])?;
    sandbox.ok(["kill", "crate"])?;
    sandbox.ok(["wait", "crate"])?;
    sandbox.ok(["rm", "crate"])?;
    let mut expected = vec![
        "create",
        "start",
        "exec_create: sh -c exit 3",
        "exec_start: sh -c exit 3",
        "exec_die",
        "pause",
        "unpause",
    ];
    expected.retain(|action| can_pause || !action.ends_with("pause"));
    expected.extend(["rename", "kill", "die", "destroy"]);
    same!(actions(sandbox, &["type=container"])?, expected);
    let all = sandbox.ok(["events", "--since", "0", "--until", "0s", "--format", "json"])?;
    let events = all.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let of = |action: &str| events.iter().find(|event| event["Action"] == action).context(action.to_owned());
    same!(of("exec_die")?["Actor"]["Attributes"]["exitCode"], "3");
    same!(of("kill")?["Actor"]["Attributes"]["signal"], "9");
    same!(of("kill")?["Actor"]["Attributes"]["name"], "crate");
    same!(of("die")?["Actor"]["Attributes"]["exitCode"], "137");
    same!(of("rename")?["Actor"]["Attributes"]["oldName"], "/box");
    same!(of("create")?["Actor"]["Attributes"]["tier"], "web");
    same!(of("create")?["from"], "busybox");
    let times: Vec<i64> = events.iter().filter_map(|event| event["timeNano"].as_i64()).collect();
    ensure!(times.len() == events.len() && times.is_sorted(), "times: {times:?}");
    Ok(())
}

fn following(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // What was before is not shown.
    let mut child = sandbox.spawn(["events", "--format", "{{.Type}} {{.Action}}", "--filter", "type=container"])?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    std::thread::sleep(std::time::Duration::from_millis(300));
    sandbox.busybox(&["--network", "none"], "exit 0")?;
    for wanted in ["create", "attach", "start", "die", "destroy"] {
        same!(lines.next().context("no event")??, format!("container {wanted}"));
    }
    child.kill()?;
    child.wait()?;
    // With an end in the future it ends by itself.
    let output = sandbox.dhow(["events", "--until", "-1s"])?;
    same!(output.code, 0);
    contains!(output.stdout, "container destroy");
    Ok(())
}

fn filters_and_formats(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.busybox(&["--network", "none", "--name", "first", "--label", "tier=web"], "exit 0")?;
    sandbox.busybox(&["--network", "none", "--name", "second"], "exit 0")?;
    same!(actions(sandbox, &["container=second", "event=start", "event=die"])?, ["start", "die"]);
    same!(actions(sandbox, &["label=tier=web", "event=start"])?, ["start"]);
    same!(actions(sandbox, &["image=busybox", "event=create"])?, ["create", "create"]);
    same!(actions(sandbox, &["image=busybox:9"])?.is_empty(), true);
    let line = sandbox.ok(["events", "--since", "0", "--until", "0s", "-f", "container=first", "-f", "event=die"])?;
    contains!(line, "Z container die ");
    contains!(line, "(execDuration=0, exitCode=0, image=busybox, name=first, tier=web)");
    sandbox.dhow(["events", "--filter", "foo=bar"])?.fails(1, &["invalid filter 'foo'"])?;
    sandbox.dhow(["events", "--since", "yesterday"])?.fails(1, &["invalid value for \"since\""])
}

fn many_at_once(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let children = (0..8)
        .map(|_| sandbox.spawn(["run", "--rm", "--network", "none", "busybox", "true"]))
        .collect::<Result<Vec<_>>>()?;
    for mut child in children {
        ensure!(child.wait()?.success(), "a run failed");
    }
    for action in ["create", "start", "die", "destroy"] {
        same!(actions(sandbox, &[&format!("event={action}")])?.len(), 8, "{action}");
    }
    Ok(())
}

fn images(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["tag", "busybox", "other:1"])?;
    sandbox.ok(["rmi", "other:1"])?;
    sandbox.ok(["rmi", "busybox"])?;
    same!(actions(sandbox, &["type=image"])?, ["load", "tag", "untag", "untag", "delete"]);
    Ok(())
}
