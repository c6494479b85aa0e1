//! A monitor and nothing else: what the role's `main` of a container engine looks like. The tests start it.
//!
//! `DHOW_TEST_RESTARTS=n` restarts the container up to n times with a pause of 200 ms, as a restart policy would.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use monitor::{Monitor, Wake};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> Result<(), monitor::Error> {
    let [control, lock] = monitor::take_standard_streams()?;
    let plan = monitor::receive_plan(control.as_fd())?;
    let mut restarts: u32 = std::env::var("DHOW_TEST_RESTARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let clean_marker = plan.run_directory.join("cleaned");
    monitor::detach_from_session()?;
    if restarts == 0 {
        return monitor::supervise(plan, control, lock, |_| drop(std::fs::write(clean_marker, ""))).map(drop);
    }
    let mut monitor = Monitor::new(plan, control, lock)?;
    let exit = loop {
        let exit = monitor.run_once()?;
        if restarts == 0 || exit.requested {
            break exit;
        }
        monitor.announce(&exit);
        if monitor.idle(Duration::from_millis(200))? == Wake::Stop {
            break exit;
        }
        restarts -= 1;
    };
    monitor.finish(&exit);
    Ok(())
}
