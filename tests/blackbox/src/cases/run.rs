//! `dhow run` as `docker run`: exit codes, streams, environment, user, terminal.

use anyhow::{Context, Result, ensure};

use crate::case::{cases, contains, same};
use crate::sandbox::Sandbox;

cases![run:
    hello_needs_no_image, exit_codes, command_not_found, not_executable, wrong_flags, output_and_errors_are_apart,
    input_reaches_the_command, no_input_without_i, much_output, environment, environment_file, image_defaults, hostname,
    working_directory, users, terminal, entrypoint, init_reaps, ulimits, shm_size, name_is_unique, removes_itself,
    dry_run_makes_nothing, process_view, devices, labels, eight_at_once, standard_files,
];

fn hello_needs_no_image(sandbox: &Sandbox) -> Result<()> {
    let text = sandbox.ok(["run", "--rm", "--network", "none", "dhow/hello"])?.to_lowercase();
    for word in ["namespace", "cgroup", "capabilit", "mount"] {
        contains!(text, word);
    }
    Ok(())
}

fn exit_codes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for code in [0, 1, 42, 255] {
        let output =
            sandbox.dhow(["run", "--rm", "--network", "none", "busybox", "sh", "-c", &format!("exit {code}")])?;
        same!(output.code, code);
    }
    // A signal is 128 and its number; the shell below is not the container's first process, which cannot kill itself.
    let output =
        sandbox.dhow(["run", "--rm", "--network", "none", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"])?;
    same!(output.code, 137);
    let id = sandbox.detached(&["--network", "none"], "exec sleep 1000")?;
    sandbox.ok(["kill", &id])?;
    same!(sandbox.ok(["wait", &id])?, "137");
    Ok(())
}

fn command_not_found(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox
        .dhow(["run", "--rm", "--network", "none", "busybox", "no-such-command"])?
        .fails(127, &["no-such-command"])?;
    sandbox.dhow(["run", "--rm", "--network", "none", "busybox", "/no/such"])?.fails(127, &["/no/such"])?;
    same!(sandbox.ok(["ps", "-a", "-q"])?, "");
    Ok(())
}

fn not_executable(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.dhow(["run", "--rm", "--network", "none", "busybox", "/etc/passwd"])?.fails(126, &["/etc/passwd"])?;
    sandbox.dhow(["run", "--rm", "--network", "none", "busybox", "/etc"])?.fails(126, &["/etc"])
}

fn wrong_flags(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.dhow(["run", "--no-such-flag", "busybox"])?.fails(125, &["--no-such-flag"])?;
    // No image is no wrong flag: Docker's code for that is 1.
    sandbox.dhow(["run"])?.fails(1, &["requires at least 1 argument"])?;
    sandbox
        .dhow(["run", "--rm", "--network", "none", "-w", "relative", "busybox", "true"])?
        .fails(125, &["relative"])?;
    sandbox.dhow(["run", "--cap-add", "NO_SUCH", "busybox", "true"])?.fails(125, &["NO_SUCH"])
}

fn output_and_errors_are_apart(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let output = sandbox.dhow(["run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2"])?;
    same!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "out\n", "err\n"));
    Ok(())
}

fn input_reaches_the_command(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let text = "0123456789abcdef\n".repeat(60_000);
    let output = sandbox.dhow_with_input(&text, ["run", "--rm", "-i", "--network", "none", "busybox", "cat"])?;
    ensure!(output.code == 0 && output.stdout == text, "{} of {} bytes came back", output.stdout.len(), text.len());
    Ok(())
}

fn no_input_without_i(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let output = sandbox.dhow_with_input("text\n", ["run", "--rm", "--network", "none", "busybox", "cat"])?;
    same!((output.code, output.stdout.as_str()), (0, ""));
    Ok(())
}

fn much_output(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // The last bytes before the exit must not be lost.
    let text = sandbox.busybox(&["--network", "none"], "yes 0123456789 | head -n 400000; echo end")?;
    same!(text.len(), 400_000 * 11 + 3);
    ensure!(text.ends_with("end"), "the end is missing");
    Ok(())
}

fn environment(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let mut command = sandbox.command([
        "run",
        "--rm",
        "--network",
        "none",
        "-e",
        "A=1 2",
        "--env",
        "FROM_OUTSIDE",
        "-e",
        "NOT_SET",
        "-e",
        "EMPTY=",
        "busybox",
        "env",
    ]);
    command.env("FROM_OUTSIDE", "yes").env("OTHER", "no");
    let text = sandbox.finish_command(command, "")?.success()?;
    let has = |line: &str| text.lines().any(|each| each == line);
    for line in ["A=1 2", "FROM_OUTSIDE=yes", "EMPTY=", "HOME=/root"] {
        ensure!(has(line), "no {line:?} in {text}");
    }
    for name in ["PATH=/", "HOSTNAME="] {
        ensure!(text.lines().any(|each| each.starts_with(name)), "no {name} in {text}");
    }
    for name in ["OTHER", "NOT_SET", "TERM"] {
        ensure!(!text.lines().any(|each| each.starts_with(name)), "{name} in {text}");
    }
    Ok(())
}

fn environment_file(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let file = sandbox.file("env", "# a comment\n\nA=from file\nB='quotes stay'\nC=1\n")?;
    let text = sandbox.ok(["run", "--rm", "--network", "none", "--env-file", &file, "-e", "C=2", "busybox", "env"])?;
    for line in ["A=from file", "B='quotes stay'", "C=2"] {
        ensure!(text.lines().any(|each| each == line), "no {line:?} in {text}");
    }
    Ok(())
}

/// The image says `sh`; with an empty input that ends at once.
fn image_defaults(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let output = sandbox.dhow_with_input("echo from $0\n", ["run", "--rm", "-i", "--network", "none", "busybox"])?;
    same!((output.code, output.stdout.as_str()), (0, "from sh\n"));
    Ok(())
}

fn hostname(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "hostname; cat /etc/hostname; echo $HOSTNAME; echo done")?;
    let log = sandbox.wait_for_log(&id, "done")?;
    let short = &id[..12];
    same!(log, format!("{short}\n{short}\n{short}\ndone\n"));
    let text = sandbox.busybox(
        &["--network", "none", "--hostname", "box"],
        "hostname; cat /etc/hostname; grep box /etc/hosts || true",
    )?;
    ensure!(text.starts_with("box\nbox"), "{text}");
    Ok(())
}

fn working_directory(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    same!(sandbox.busybox(&["--network", "none"], "pwd")?, "/");
    same!(sandbox.busybox(&["--network", "none", "-w", "/tmp"], "pwd")?, "/tmp");
    // Docker makes what is not there.
    same!(sandbox.busybox(&["--network", "none", "-w", "/made/for/this"], "pwd")?, "/made/for/this");
    Ok(())
}

fn users(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = |user: &str| sandbox.busybox(&["--network", "none", "-u", user], "echo $(id -u):$(id -g):$HOME");
    same!(id("0")?, "0:0:/root");
    same!(id("www-data")?, "33:33:/var/www");
    same!(id("www-data:users")?, "33:100:/var/www");
    same!(id("33")?, "33:33:/var/www");
    same!(id("1000:1001")?, "1000:1001:/");
    // Supplementary groups come from the image's group file.
    contains!(sandbox.busybox(&["--network", "none", "-u", "www-data"], "id -G")?, "29");
    sandbox.dhow(["run", "--rm", "--network", "none", "-u", "nosuch", "busybox", "true"])?.fails(125, &["nosuch"])?;
    sandbox.dhow(["run", "--rm", "--network", "none", "-u", "0:nosuch", "busybox", "true"])?.fails(125, &["nosuch"])
}

fn terminal(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let text =
        sandbox.busybox(&["-t", "--network", "none"], "test -t 0 && test -t 1 && test -t 2 && tty; echo $TERM")?;
    // A terminal ends lines with a carriage return too.
    same!(text, "/dev/pts/0\r\nxterm\r");
    same!(sandbox.busybox(&["--network", "none"], "test -t 1 || echo none")?, "none");
    Ok(())
}

fn entrypoint(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", "--entrypoint", "echo", "busybox", "a", "b"])?, "a b");
    // It also removes the image's command.
    same!(sandbox.ok(["run", "--rm", "--network", "none", "--entrypoint", "echo", "busybox"])?, "");
    Ok(())
}

fn init_reaps(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "echo $$; (sleep 0.1 & exec true); sleep 0.5; ps -o stat,args | grep -c '^Z' || true";
    let text = sandbox.busybox(&["--network", "none", "--init"], script)?;
    ensure!(!text.starts_with("1\n"), "the command is the first process in spite of --init");
    ensure!(text.ends_with("\n0"), "zombies: {text}");
    let output = sandbox.dhow(["run", "--rm", "--network", "none", "--init", "busybox", "sh", "-c", "exit 9"])?;
    same!(output.code, 9);
    Ok(())
}

fn ulimits(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let text = sandbox.busybox(
        &["--network", "none", "--ulimit", "nofile=100:200", "--ulimit", "core=0"],
        "ulimit -Sn; ulimit -Hn; ulimit -c",
    )?;
    same!(text, "100\n200\n0");
    Ok(())
}

fn shm_size(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let size = |options: &[&str]| sandbox.busybox(options, "df -k /dev/shm | tail -n 1 | awk '{print $2}'");
    same!(size(&["--network", "none"])?, "65536");
    same!(size(&["--network", "none", "--shm-size", "16m"])?, "16384");
    Ok(())
}

fn name_is_unique(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--network", "none", "--name", "taken", "busybox"])?;
    sandbox
        .dhow(["run", "--network", "none", "--name", "taken", "busybox", "true"])?
        .fails(125, &["taken", "already in use"])?;
    sandbox.dhow(["create", "--name", "no/slash", "busybox"])?.fails(1, &["no/slash"])?;
    sandbox.ok(["rm", "taken"])?;
    sandbox.ok(["run", "--network", "none", "--name", "taken", "busybox", "true"])?;
    Ok(())
}

fn removes_itself(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.busybox(&["--network", "none"], "exit 0")?;
    same!(sandbox.ok(["ps", "-a", "-q"])?, "");
    sandbox.ok(["run", "--network", "none", "busybox", "true"])?;
    same!(sandbox.ok(["ps", "-q"])?, "");
    same!(sandbox.ok(["ps", "-a", "-q"])?.lines().count(), 1);
    contains!(sandbox.ok(["ps", "-a"])?, "Exited (0)");
    Ok(())
}

fn dry_run_makes_nothing(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let text = sandbox.ok(["run", "--dry-run", "--network", "none", "-m", "64m", "busybox", "echo", "ran"])?;
    contains!(text, "echo");
    ensure!(text != "ran", "it ran");
    same!(sandbox.ok(["ps", "-a", "-q"])?, "");
    Ok(())
}

fn process_view(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let text = sandbox.busybox(&["--network", "none"], "echo $$; ls /proc | grep -c '^[0-9]'")?;
    let mut lines = text.lines();
    same!(lines.next(), Some("1"));
    let count: u32 = lines.next().context("no count")?.parse()?;
    ensure!(count <= 3, "{count} processes are seen");
    Ok(())
}

fn devices(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done
        test -d /dev/pts && test -d /dev/shm && test -d /dev/mqueue && test -L /dev/fd && test -L /dev/stdin && test -e /dev/ptmx
        echo $?; head -c 4 /dev/zero | wc -c; echo x >/dev/null && echo written; ls /dev | grep -cE 'sd|vd|nvme|mem$|kmsg'";
    let output = sandbox.dhow(["run", "--rm", "--network", "none", "busybox", "sh", "-c", script])?;
    same!(output.stdout, "0\n4\nwritten\n0\n");
    Ok(())
}

fn labels(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["create", "--network", "none", "--label", "a=b=c", "-l", "empty", "busybox"])?;
    let labels = sandbox.inspect(&id)?["Config"]["Labels"].clone();
    same!(labels["a"], "b=c");
    same!(labels["empty"], "");
    same!(sandbox.ok(["inspect", "--format", "{{.Config.Labels.a}}", &id])?, "b=c");
    Ok(())
}

fn eight_at_once(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let children: Vec<_> = (0..8)
        .map(|number| sandbox.spawn(["run", "--rm", "--network", "none", "busybox", "echo", &number.to_string()]))
        .collect::<Result<_>>()?;
    for (number, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output()?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "run {number}: {}: {errors}", output.status);
        same!(String::from_utf8_lossy(&output.stdout).trim(), number.to_string());
    }
    same!(sandbox.ok(["ps", "-a", "-q"])?, "");
    Ok(())
}

/// The files that an engine puts into `/etc`.
fn standard_files(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let text = sandbox.busybox(
        &["--network", "none"],
        "grep -c 127.0.0.1 /etc/hosts; test -f /etc/resolv.conf && test -f /etc/hostname && echo all",
    )?;
    same!(text, "1\nall");
    Ok(())
}
