//! Real containers on the real kernel. Needs root.
#![allow(clippy::print_stdout, reason = "this is a test harness; it reports on standard output")]
#![allow(missing_docs, reason = "the names of tests say it")]

mod confinement;
mod hostile;
mod joining;
mod kernels;
mod mounts;
mod programs;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

type Test = (&'static str, fn());

macro_rules! tests {
    ($($module:ident: $($test:ident)*;)*) => {
        /// Every test of every module.
        const TESTS: &[&[Test]] = &[$(&[$((stringify!($test), $module::$test),)*],)*];
    };
}

tests! {
    programs: exit_codes_arrive programs_that_are_not_there_or_cannot_run the_world_inside working_directories limits_and_parameters a_terminal hooks_are_called_in_order errors_name_the_step_and_the_call a_dropped_container_is_gone an_init_reaps_and_passes_signals;
    confinement: a_read_only_root masked_and_read_only_paths capabilities_as_pid_1_sees_them users_by_name_and_number no_descriptor_leaks seccomp_filters a_supervised_filter an_unknown_apparmor_profile;
    hostile: links_in_the_image_do_not_lead_out mount_points_that_are_exchanged_meanwhile an_exec_cannot_be_looked_into;
    joining: exec_joins_everything an_exec_with_a_terminal user_namespaces namespaces_by_path cgroups_are_joined_and_shown inside_a_user_namespace time_offsets a_user_namespace_by_path
        a_new_user_namespace_with_a_network_by_path;
    mounts: a_directory_is_a_root bind_mounts tmpcopyup_copies id_mapped_mounts layers_with_long_paths nothing_is_left_on_the_host;
    kernels: kernels_without_a_system_call;
}

fn main() -> ExitCode {
    if std::env::args().next().is_some_and(|name| name.ends_with("dhow-init")) {
        return runtime::init::main();
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: containers: needs root");
        return ExitCode::SUCCESS;
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut failed = Vec::new();
    for (name, test) in TESTS.iter().copied().flatten() {
        if filter.as_deref().is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        let result = std::panic::catch_unwind(test);
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        if result.is_err() {
            failed.push(*name);
        }
    }
    println!("test result: {} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
