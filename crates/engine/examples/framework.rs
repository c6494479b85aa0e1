//! A container framework of one's own, on the engine: runs a command in an image and shows what the kernel says of it.
//!
//! `cargo run -p engine --example framework -- IMAGE [COMMAND…]`, as root. `dhow/hello` needs nothing else.
//! State is kept apart from dhow's own, in a directory that goes away at the end.

use engine::{Config, Engine, NetworkMode, Options, Quiet, Streams};
use monitor::client::Event;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: a container's monitor is this same program under another name.
    if let Some(status) = engine::roles::dispatch() {
        return status;
    }
    match run() {
        Ok(status) => status,
        Err(error) => {
            let mut text = format!("{error}\n");
            let mut cause = std::error::Error::source(&*error);
            while let Some(error) = cause {
                text.push_str(&format!("  caused by: {error}\n"));
                cause = error.source();
            }
            // Nobody is left to tell if that fails.
            drop(std::io::stderr().write_all(text.as_bytes()));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let image = words.next().ok_or("which image?")?;
    let home = std::env::temp_dir().join(format!("framework-{}", std::process::id()));
    let engine = Engine::open(Config { data_root: home.join("data"), run_root: home.join("run"), program: None })?;

    // What is wanted is plain values; everything that is not said has Docker's default.
    let options = Options {
        image,
        command: words.collect(),
        network: NetworkMode::None,
        auto_remove: true,
        ..Options::default()
    };
    let started = engine.run(&options, Some(Streams::OUTPUT), &mut Quiet)?;

    // The streams come as events, the exit status last. The container does not need this process: it would go on without.
    let mut connection = started.stream.ok_or("the streams were asked for")?;
    let mut status = 0;
    while let Some(event) = connection.receive()? {
        match event {
            Event::Output(_, data) => std::io::stdout().write_all(data)?,
            Event::Exit(exit) => {
                status = exit.exit_code;
                break;
            }
            Event::Failed(failure) => return Err(failure.into()),
        }
    }
    drop(engine);
    std::fs::remove_dir_all(&home)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}
