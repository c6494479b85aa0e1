//! `serve`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::{Args, ValueEnum};
use docker_api::Address;
use docker_api::log::{Entry, Level, Log};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Serve the Docker Engine API
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS]", "Serve the Docker Engine API, for programs written for Docker");

#[derive(Args)]
struct Flags {
    /// Group that may use Unix sockets beside their owner; without a policy, whoever may is root here
    #[arg(short = 'G', long, value_name = "string")]
    group: Option<String>,
    /// Where to listen: unix://PATH, tcp://ADDRESS:PORT, or fd:// for sockets of systemd (default unix://RUN-DIR/docker.sock)
    #[arg(short = 'H', long, value_name = "list")]
    host: Vec<Address>,
    /// How the server tells of itself on standard error
    #[arg(long, value_name = "string", default_value = "text")]
    log_format: Format,
    /// What it tells
    #[arg(short = 'l', long, value_name = "string", default_value = "info")]
    log_level: Detail,
    /// Where anybody may read /metrics, and nothing else, in the format of Prometheus
    #[arg(long, value_name = "address:port")]
    metrics_addr: Option<SocketAddr>,
    /// File that says which user may do what; Unix sockets are then open to all, and the file decides
    #[arg(long, value_name = "file")]
    policy: Option<PathBuf>,
    /// Certificates of the authorities that clients' certificates come from
    #[arg(long, value_name = "file", requires = "tlsverify")]
    tlscacert: Option<PathBuf>,
    /// The server's certificate
    #[arg(long, value_name = "file", requires = "tlsverify")]
    tlscert: Option<PathBuf>,
    /// The server's key
    #[arg(long, value_name = "file", requires = "tlsverify")]
    tlskey: Option<PathBuf>,
    /// TLS for tcp://, and only for clients with a certificate
    #[arg(long)]
    tlsverify: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line of words
    Text,
    /// A line of JSON
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Detail {
    /// Every request
    Debug,
    /// What happens to the server, and who was denied what
    Info,
    /// What should not be so
    Warn,
    /// What went wrong here
    Error,
}

impl Detail {
    fn level(self) -> Level {
        match self {
            Detail::Debug => Level::Debug,
            Detail::Info => Level::Info,
            Detail::Warn => Level::Warning,
            Detail::Error => Level::Error,
        }
    }
}

impl Flags {
    fn tls(&self) -> Result<Option<docker_api::tls::Files>, Failure> {
        if !self.tlsverify {
            return Ok(None);
        }
        let file = |given: &Option<PathBuf>, name: &str| {
            given.clone().ok_or_else(|| {
                Failure::new(format!("--tlsverify needs --tlscacert, --tlscert and --tlskey: --{name} is missing"))
            })
        };
        Ok(Some(docker_api::tls::Files {
            authorities: file(&self.tlscacert, "tlscacert")?,
            certificate: file(&self.tlscert, "tlscert")?,
            key: file(&self.tlskey, "tlskey")?,
        }))
    }
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let tls = flags.tls()?;
    // Before there are threads, and so that the directories exist.
    let engine = session.engine()?;
    let run = engine.directories().run.clone();
    drop(engine);
    let mut addresses = flags.host.clone();
    if addresses.is_empty() {
        addresses.push(default(run));
    }
    let format = flags.log_format;
    let log = Log::new(flags.log_level.level(), move |entry| output::remark(&line(format, entry)));
    let options = docker_api::Options {
        engine: session.config()?,
        addresses,
        group: flags.group.clone(),
        policy: flags.policy.clone(),
        tls,
        metrics: flags.metrics_addr,
        log: log.clone(),
    };
    let shown: Vec<String> = options.addresses.iter().map(ToString::to_string).collect();
    let said = || match format {
        Format::Text => output::remark(&format!("API listening at {}", shown.join(", "))),
        Format::Json => log.tell(Level::Info, "API listening", || serde_json::json!({ "addresses": shown })),
    };
    docker_api::serve(&options, said).map_err(|error| match error {
        docker_api::Error::Listen(sentence) => Failure::new(sentence),
        docker_api::Error::Policy(error) => Failure::new(error.to_string()),
        error => Failure::caused("the server has ended", error),
    })
}

/// An entry as a line.
fn line(format: Format, entry: &Entry) -> String {
    let time = jiff::Timestamp::now();
    if format == Format::Json {
        let mut document = serde_json::Map::new();
        document.insert("time".into(), time.to_string().into());
        document.insert("level".into(), entry.level.name().into());
        document.insert("msg".into(), entry.message.into());
        document.extend(entry.fields.clone());
        return serde_json::Value::Object(document).to_string();
    }
    let mut text = format!("{time} {} {}", entry.level.name(), entry.message);
    for (name, value) in entry.fields.iter().filter(|(_, value)| !value.is_null()) {
        // As JSON: what a client sent does not make a second line.
        text.push_str(&format!(" {name}={value}"));
    }
    text
}

/// In the run directory, beside the containers: private to this user, unless a group is given.
fn default(run: PathBuf) -> Address {
    Address::Unix(run.join("docker.sock"))
}
