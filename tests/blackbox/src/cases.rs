//! The tests, a module for each part of what dhow promises.

use crate::case::Case;

mod attached;
mod checkpoint_archives;
pub mod checkpoints;
mod cni;
mod combinations;
mod command_line;
mod commits;
mod copying;
#[cfg(target_arch = "x86_64")]
mod crash;
mod crowd;
mod docker_access;
mod docker_ansible;
mod docker_api;
mod docker_attacks;
mod docker_bugs;
mod docker_clients;
mod docker_crowds;
mod docker_details;
mod docker_newer;
mod docker_node;
mod docker_readers;
mod docker_rust;
mod docker_schema;
mod docker_streams;
mod docker_verbs;
mod docker_versions;
mod docker_words;
mod events;
mod file_servers;
mod firewalld;
mod firewalls;
mod hardening;
mod health;
mod hostile;
mod hostile_images;
mod image_peers;
mod image_store;
mod images;
mod leaks;
mod lifecycle;
mod limits;
mod lists;
mod live;
mod log_drivers;
mod log_speed;
mod net_attacks;
mod network;
mod network_growth;
mod networks;
mod nfs;
mod oci;
mod oci_callers;
mod oci_calls;
mod oci_foreign_mounts;
mod oci_groups;
mod oci_habits;
mod oci_suites;
mod oci_systemd;
mod oci_ungrouped;
mod old_kernels;
mod ports;
mod quotas;
mod restart;
mod rootless;
mod rootless_networks;
mod run;
mod runtimes;
mod secrets;
mod security;
mod services;
mod settings_attacks;
mod sharing;
mod storage;
mod storage_forms;
mod store_faults;
mod testbed;
mod transfer;
mod trust;
mod units;
mod usage;
mod users;
mod users_of_users;
mod volumes;
mod watch;
mod wrong_input;
mod xray;

/// Those that come last: what takes long, and what not every machine has.
const MORE: &[&[Case]] = &[
    checkpoint_archives::CASES,
    checkpoints::CASES,
    #[cfg(target_arch = "x86_64")]
    crash::CASES,
    crate::same::CASES,
    leaks::CASES,
];

/// Those of the OCI runtime's command line.
const OCI: &[&[Case]] = &[
    oci::CASES,
    oci_callers::CASES,
    oci_calls::CASES,
    oci_foreign_mounts::CASES,
    oci_groups::CASES,
    oci_habits::CASES,
    oci_suites::CASES,
    oci_systemd::CASES,
    oci_ungrouped::CASES,
];

/// All tests.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        run::CASES,
        attached::CASES,
        runtimes::CASES,
        storage::CASES,
        storage_forms::CASES,
        volumes::CASES,
        usage::CASES,
        users::CASES,
        users_of_users::CASES,
        copying::CASES,
        commits::CASES,
        command_line::CASES,
        lifecycle::CASES,
        quotas::CASES,
        restart::CASES,
        health::CASES,
        events::CASES,
        file_servers::CASES,
        watch::CASES,
        log_drivers::CASES,
        log_speed::CASES,
        live::CASES,
        settings_attacks::CASES,
        sharing::CASES,
        limits::CASES,
        lists::CASES,
        secrets::CASES,
        security::CASES,
        network::CASES,
        networks::CASES,
        nfs::CASES,
        ports::CASES,
        testbed::CASES,
        combinations::CASES,
        net_attacks::CASES,
        cni::CASES,
        firewalld::CASES,
        firewalls::CASES,
        hardening::CASES,
        hostile::CASES,
        old_kernels::CASES,
        rootless::CASES,
        rootless_networks::CASES,
        images::CASES,
        hostile_images::CASES,
        image_peers::CASES,
        image_store::CASES,
        store_faults::CASES,
        transfer::CASES,
        trust::CASES,
        units::CASES,
        wrong_input::CASES,
        services::CASES,
        xray::CASES,
        crowd::CASES,
    ]
    .into_iter()
    .chain(OCI.iter().copied())
    .chain(docker())
    .chain(MORE.iter().copied())
    .flatten()
}

/// Those of Docker's API.
fn docker() -> impl Iterator<Item = &'static [Case]> {
    [
        docker_access::CASES,
        docker_ansible::CASES,
        docker_api::CASES,
        docker_attacks::CASES,
        docker_bugs::CASES,
        docker_clients::CASES,
        docker_crowds::CASES,
        docker_details::CASES,
        docker_newer::CASES,
        docker_node::CASES,
        docker_readers::CASES,
        docker_rust::CASES,
        docker_schema::CASES,
        docker_streams::CASES,
        docker_verbs::CASES,
        docker_versions::CASES,
        docker_words::CASES,
    ]
    .into_iter()
}
