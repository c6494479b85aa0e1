//! Plays a transcript: its command lines, one after the other, with `docker` being whom the player says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::normal;
use super::transcript::{Answer, Item};

/// Repeats a command until it succeeds, for at most fifteen seconds: what an engine does in the background takes its time.
const SOON: &str = "#!/bin/sh
n=0
until eval \"$*\" >/dev/null 2>&1; do
    n=$((n + 1))
    [ $n -lt 300 ] || { echo \"never: $*\" >&2; exit 99; }
    sleep 0.05
done
";

/// A directory in which commands run, and an engine that is called `docker` there.
pub struct Stage {
    directory: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Stage {
    /// A stage below this directory. `docker` is a shell script with this last line.
    pub fn new(directory: PathBuf, docker: &str) -> Result<Self> {
        let programs = directory.join("bin");
        fs::create_dir_all(&programs)?;
        for (name, text) in [("docker", format!("#!/bin/sh\n{docker}\n")), ("soon", SOON.to_owned())] {
            let path = programs.join(name);
            fs::write(&path, text)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        let text = |path: PathBuf| path.to_str().map(str::to_owned).context("the directory's name is not UTF-8");
        let variables = vec![
            ("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", text(programs)?)),
            ("HOME", text(directory.join("home"))?),
            ("DOCKER_CONFIG", text(directory.join("home/.docker"))?),
            ("LC_ALL", "C".to_owned()),
            ("TZ", "UTC".to_owned()),
        ];
        Ok(Self { directory, variables })
    }

    /// Runs a command line in a directory of that name. The engine's own `docker` is first in its PATH.
    pub fn run(&self, act: &str, script: &str) -> Result<Answer> {
        let directory = self.directory.join(act);
        fs::create_dir_all(&directory)?;
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "60", "sh", "-c", script]).current_dir(&directory).stdin(Stdio::null());
        command.env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        let output = command.output().with_context(|| format!("start {command:?}"))?;
        let lines = |bytes: &[u8]| normal::text(&String::from_utf8_lossy(bytes), &directory.to_string_lossy());
        // A command that takes too long is killed, and `timeout` with it.
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        Ok(Answer { stdout: lines(&output.stdout), stderr: normal::errors(lines(&output.stderr)), code })
    }

    /// Plays all commands; `hear` gets each with its answer.
    pub fn play(
        &self,
        act: &str,
        items: &mut [Item],
        mut hear: impl FnMut(&mut super::transcript::Command, Answer),
    ) -> Result<()> {
        for item in items {
            if let Item::Command(command) = item {
                let answer = self.run(act, &command.text)?;
                hear(command, answer);
            }
        }
        Ok(())
    }
}
