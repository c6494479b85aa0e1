//! One plugin, executed once: parameters in its environment, configuration on its standard input, result on its output.

use super::Attachment;
use crate::error::{Context, Error, Kind, Result};
use serde_json::{Map, Value};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub(super) struct Call<'a> {
    pub command: &'static str,
    pub directories: &'a [PathBuf],
    pub attachment: &'a Attachment,
    pub configuration: Map<String, Value>,
}

impl Call<'_> {
    /// The plugin's result; `None` where it printed none.
    pub(super) fn execute(self) -> Result<Option<Value>> {
        let kind = self.configuration.get("type").and_then(Value::as_str).unwrap_or_default();
        let failed = || format!("the CNI plugin {kind} failed ({})", self.command);
        // A type is a name, never a way out of the directories.
        let found = self.directories.iter().map(|directory| directory.join(kind)).find(|path| path.is_file());
        let program = found.filter(|_| !kind.is_empty() && !kind.contains('/')).ok_or_else(|| {
            let places: Vec<String> = self.directories.iter().map(|path| path.display().to_string()).collect();
            Error::new(Kind::NotFound, format!("there is no CNI plugin {kind:?} in {}", places.join(", ")))
                .hint("Debian's are in the package containernetworking-plugins")
        })?;
        let path = std::env::join_paths(self.directories).kind(Kind::InvalidArgument, failed)?;
        let mut command = Command::new(program);
        command.env("CNI_COMMAND", self.command).env("CNI_PATH", path).env_remove("CNI_ARGS");
        if self.command != "GC" {
            if !self.attachment.arguments.is_empty() {
                let words = self.attachment.arguments.iter().map(|(key, value)| format!("{key}={value}"));
                command.env("CNI_ARGS", words.collect::<Vec<_>>().join(";"));
            }
            command.env("CNI_CONTAINERID", &self.attachment.container).env("CNI_IFNAME", &self.attachment.interface);
            command.env("CNI_NETNS", &self.attachment.namespace);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().internal(failed)?;
        let text = serde_json::to_vec(&self.configuration).internal(failed)?;
        if let Some(mut input) = child.stdin.take() {
            // One that does not read it says what it has to say by its status.
            input.write_all(&text).unwrap_or_default();
        }
        let output = child.wait_with_output().internal(failed)?;
        let said: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        if output.status.success() {
            return Ok(said);
        }
        let reason = match &said {
            Some(error) if error["msg"].is_string() => {
                let details = error["details"].as_str().filter(|text| !text.is_empty());
                let details = details.map(|text| format!("; {text}")).unwrap_or_default();
                format!("{}{details} (code {})", error["msg"].as_str().unwrap_or_default(), error["code"])
            }
            _ => {
                let errors = String::from_utf8_lossy(&output.stderr);
                format!("{}: {}", output.status, errors.trim().chars().take(2000).collect::<String>())
            }
        };
        Err(Error::caused(Kind::Internal, failed(), Error::new(Kind::Internal, reason)))
    }
}
