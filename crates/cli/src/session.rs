//! What all verbs share: the global flags and the engine they open.

use crate::failure::Failure;
use clap::Args;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

/// Flags that stand before the verb.
#[derive(Args, Clone, Debug, Default)]
pub struct Globals {
    /// Directory of images, containers and the database
    #[arg(long, env = "DHOW_ROOT", value_name = "DIR", hide_env_values = true)]
    pub root: Option<PathBuf>,
    /// Directory of what lives until the next boot: locks, sockets
    #[arg(long, env = "DHOW_RUN_DIR", value_name = "DIR", hide_env_values = true)]
    pub run_dir: Option<PathBuf>,
    /// Directory of Docker's config.json: logins, formats of lists, detach keys
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// Name of the context: default, the only one
    #[arg(short = 'c', long, value_name = "NAME")]
    pub context: Option<String>,
    /// Show the kind of a failure too; the same as --log-level debug
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Which messages are shown: debug, info, warn, error or fatal
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "info", hide_default_value = true)]
    pub log_level: Level,
    /// Address of a server (not supported: dhow works without one)
    #[arg(short = 'H', long, value_name = "ADDRESS", hide = true)]
    pub host: Vec<String>,
    /// Print version information and quit
    #[arg(short = 'v', long)]
    pub version: bool,
    /// Print usage
    #[arg(short = 'h', long)]
    pub help: bool,
}

impl Globals {
    /// Refuses what only a server could do, and begins again with `--config` as the environment has it, which is where
    /// everything that reads `config.json` looks, the credential helpers included.
    pub fn check(&self, arguments: &[OsString]) -> Result<(), Failure> {
        if !self.host.is_empty() {
            return Err(Failure::new("--host is not supported: dhow works without a server"));
        }
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let context = self.context.clone().unwrap_or_else(|| match crate::program::is_docker() {
            true => variable("DOCKER_CONTEXT"),
            false => String::new(),
        });
        if !matches!(context.as_str(), "" | "default") {
            return Err(Failure::new(format!(
                "context {context:?} is not supported: dhow works on this machine, which is the context default"
            )));
        }
        // `docker` would talk to another machine; doing the same to this one could not be taken back.
        let host = variable("DOCKER_HOST");
        let elsewhere = ["tcp://", "ssh://", "http://", "https://"].iter().any(|way| host.starts_with(way));
        if crate::program::is_docker() && elsewhere {
            return Err(Failure::new(format!(
                "DOCKER_HOST is {host}, but dhow, called as docker, works on this machine only: unset it"
            )));
        }
        self.with_configuration(arguments)
    }

    fn with_configuration(&self, arguments: &[OsString]) -> Result<(), Failure> {
        let Some(directory) = &self.config else { return Ok(()) };
        let directory = absolute(directory)?;
        if std::env::var_os("DOCKER_CONFIG").as_deref() == Some(directory.as_os_str()) {
            return Ok(());
        }
        let mut words = arguments.iter();
        let name = words.next().map_or_else(|| "dhow".into(), OsString::clone);
        let mut again = std::process::Command::new("/proc/self/exe");
        let error = again.arg0(name).args(words).env("DOCKER_CONFIG", directory).exec();
        Err(Failure::caused("cannot begin again with --config", error))
    }
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Level {
    /// Everything.
    Debug,
    /// Remarks on what is going on, and all below.
    #[default]
    Info,
    /// What was asked is done with less than was asked, and all below.
    Warn,
    /// Only failures.
    Error,
    /// The same.
    Fatal,
}

/// A verb's surroundings.
#[derive(Debug)]
pub struct Session {
    globals: Globals,
}

impl Session {
    /// A session with these flags.
    pub fn new(globals: Globals) -> Session {
        Session { globals }
    }

    /// Opens the engine on the directories of this user or of the flags. An ordinary user's process enters the user
    /// namespace in which the user is root; it must not have started threads before.
    pub fn engine(&self) -> Result<engine::Engine, Failure> {
        let config = self.config()?;
        engine::rootless::enter(&config.run_root)?;
        Ok(engine::Engine::open(config)?)
    }

    /// The directories of this user or of the flags.
    pub fn config(&self) -> Result<engine::Config, Failure> {
        let directory = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let data_home = directory("XDG_DATA_HOME").or_else(|| Some(directory("HOME")?.join(".local/share")));
        let is_root = rustix::process::geteuid().is_root();
        let mut config = engine::Config::for_user(is_root, data_home, directory("XDG_RUNTIME_DIR"))?;
        if let Some(root) = &self.globals.root {
            config.data_root = absolute(root)?;
        }
        if let Some(run_dir) = &self.globals.run_dir {
            config.run_root = absolute(run_dir)?;
        }
        Ok(config)
    }

    /// Whether more is said about failures.
    pub fn debug(&self) -> bool {
        self.globals.debug || self.globals.log_level == Level::Debug
    }

    /// Shows a warning unless only failures are wanted.
    pub fn warn(&self, text: &str) {
        if self.globals.log_level <= Level::Warn || self.debug() {
            crate::output::remark(&format!("WARNING: {text}"));
        }
    }
}

/// The directories go into the database and to other processes, so they must not depend on the working directory.
fn absolute(path: &std::path::Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::caused(format!("{} is not a usable directory name", path.display()), error))
}
