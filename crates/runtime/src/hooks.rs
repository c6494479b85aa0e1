//! Programs that are called at points of a container's life (config.md, "POSIX-platform Hooks").

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use oci::runtime::{ContainerState, Hook, State};
use rustix::process::Pid;

use crate::error::{Error, Result};
use crate::plan::Plan;

pub(crate) fn state(plan: &Plan, status: ContainerState, pid: Pid) -> State {
    State {
        oci_version: oci::runtime::VERSION.to_owned(),
        id: plan.id.clone(),
        status,
        pid: pid.as_raw_nonzero().get().cast_unsigned(),
        bundle: plan.bundle.display().to_string(),
        annotations: plan.annotations.clone(),
    }
}

/// Hooks that run as a part of the container have its process's environment where they name none, as with runc.
pub(crate) fn with_environment(hooks: &[Hook], env: &[String], home: Option<&str>) -> Vec<Hook> {
    let mut hooks = hooks.to_vec();
    for hook in hooks.iter_mut().filter(|hook| hook.env.is_empty()) {
        hook.env = env.iter().map(String::as_str).chain(home).map(str::to_owned).collect();
    }
    hooks
}

/// Calls each hook of a kind, such as `createRuntime`, in turn with the state as JSON on its standard input; ends at the first that fails.
///
/// A hook has its own environment only, none of ours or of the container's (CVE-2025-23266).
pub fn run_hooks(kind: &'static str, hooks: &[Hook], state: &State) -> Result<()> {
    let text = serde_json::to_vec(state).map_err(|error| Error::Refused(error.to_string()))?;
    (0..).zip(hooks).try_for_each(|(number, hook)| {
        run(hook, &text).map_err(|outcome| Error::Hook {
            kind: kind.to_owned(),
            number,
            path: hook.path.clone(),
            outcome,
        })
    })
}

fn run(hook: &Hook, state: &[u8]) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot be executed: {error}"))?;
    let mut stdin = Unread { pipe: child.stdin.take(), rest: state };
    let deadline = hook
        .timeout
        .and_then(|seconds| u64::try_from(seconds).ok())
        // One that is further away than clocks go is none.
        .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    // Without a time-out the pipe is read to its end; with one, a program that fills it runs into the time-out.
    let status = match deadline {
        None => {
            stdin.write_all();
            let output = child.wait_with_output().map_err(|error| error.to_string())?;
            return match output.status.success() {
                true => Ok(()),
                false => Err(words(output.status, &output.stderr)),
            };
        }
        Some(deadline) => loop {
            stdin.offer();
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => {
                    drop(child.kill());
                    drop(child.wait());
                    return Err(format!("took longer than {} s", hook.timeout.unwrap_or_default()));
                }
                Err(error) => return Err(error.to_string()),
            }
        },
    };
    if status.success() {
        return Ok(());
    }
    let output = child.wait_with_output().map(|output| output.stderr).unwrap_or_default();
    Err(words(status, &output))
}

/// What a hook has not read of the state. It need not; and if there is more than a pipe holds, it is not waited for beyond its time.
struct Unread<'a> {
    pipe: Option<ChildStdin>,
    rest: &'a [u8],
}

impl Unread<'_> {
    fn write_all(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            pipe.write_all(self.rest).unwrap_or_default();
        }
    }

    fn offer(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let ready = rustix::io::ioctl_fionbio(&*pipe, true).is_ok();
        match pipe.write(self.rest) {
            Ok(count) if ready && count < self.rest.len() => self.rest = &self.rest[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => self.pipe = None,
        }
    }
}

/// SIGSYS, with which a system call filter kills.
const SYS: i32 = rustix::process::Signal::SYS.as_raw();

fn words(status: std::process::ExitStatus, stderr: &[u8]) -> String {
    use std::os::unix::process::ExitStatusExt;
    let end = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (_, Some(SYS)) => format!("was killed by signal {SYS}: bad system call"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => "ended".to_owned(),
    };
    let text = String::from_utf8_lossy(stderr);
    match text.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => format!("{end}: {}", line.chars().take(200).collect::<String>()),
        None => end,
    }
}
