//! The verbs, one file each, and where they stand in the tree of commands.

mod attach;
mod boot;
mod checkpoint;
mod cni;
mod commit;
mod completion;
mod context;
mod cp;
mod create;
mod dial_stdio;
mod diff;
mod events;
mod exec;
mod export;
mod halt;
mod history;
mod image_diff;
mod image_inspect;
mod image_prune;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod man;
mod manifest;
mod network_connect;
mod network_create;
mod network_disconnect;
mod network_inspect;
mod network_prune;
mod network_rm;
mod network_xray;
mod networks;
mod pause;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod registry;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod secret;
mod serve;
mod start;
mod stats;
mod stop;
mod system;
mod system_check;
mod tag;
mod top;
mod unpause;
mod update;
mod version;
mod volume;
mod wait;
mod xray;

use crate::failure::Failure;
use crate::output;
use crate::verb::Entry;

/// A word that only gathers verbs.
pub struct Group {
    /// The word.
    pub name: &'static str,
    /// What its verbs have in common.
    pub about: &'static str,
    /// Its verbs.
    pub verbs: &'static [Entry],
}

/// The verbs that stand by themselves.
pub const VERBS: &[Entry] = &[
    (&["run"], &run::VERB),
    (&["exec"], &exec::VERB),
    (&["ps"], &ps::VERB),
    (&["pull"], &pull::VERB),
    (&["images"], &images::VERB),
    (&["version"], &version::VERB),
    (&["info"], &info::VERB),
    (&["xray"], &xray::VERB),
    (&["attach"], &attach::VERB),
    (&["commit"], &commit::VERB),
    (&["completion"], &completion::VERB),
    (&["cp"], &cp::VERB),
    (&["create"], &create::VERB),
    (&["diff"], &diff::VERB),
    (&["export"], &export::VERB),
    (&["import"], &import::VERB),
    (&["events"], &events::VERB),
    (&["history"], &history::VERB),
    (&["inspect"], &inspect::VERB),
    (&["kill"], &kill::VERB),
    (&["load"], &load::VERB),
    (&["login"], &login::VERB),
    (&["logout"], &logout::VERB),
    (&["logs"], &logs::VERB),
    (&["man"], &man::VERB),
    (&["pause"], &pause::VERB),
    (&["port"], &port::VERB),
    (&["push"], &push::VERB),
    (&["rename"], &rename::VERB),
    (&["restart"], &restart::VERB),
    (&["rm"], &rm::VERB),
    (&["rmi"], &rmi::VERB),
    (&["save"], &save::VERB),
    (&["search"], &search::VERB),
    (&["serve"], &serve::VERB),
    (&["start"], &start::VERB),
    (&["stats"], &stats::VERB),
    (&["stop"], &stop::VERB),
    (&["tag"], &tag::VERB),
    (&["top"], &top::VERB),
    (&["unpause"], &unpause::VERB),
    (&["update"], &update::VERB),
    (&["wait"], &wait::VERB),
];

/// The groups.
pub const GROUPS: &[Group] = &[
    secret::CONFIG_GROUP,
    Group {
        name: "container",
        about: "Manage containers",
        verbs: &[
            (&["attach"], &attach::VERB),
            (&["checkpoint"], &checkpoint::container::VERB),
            (&["commit"], &commit::VERB),
            (&["cp"], &cp::VERB),
            (&["create"], &create::VERB),
            (&["diff"], &diff::VERB),
            (&["exec"], &exec::VERB),
            (&["export"], &export::VERB),
            (&["inspect"], &inspect::CONTAINER),
            (&["kill"], &kill::VERB),
            (&["logs"], &logs::VERB),
            (&["ls", "list", "ps"], &ps::VERB),
            (&["pause"], &pause::VERB),
            (&["port"], &port::VERB),
            (&["prune"], &prune::VERB),
            (&["rename"], &rename::VERB),
            (&["restart"], &restart::VERB),
            (&["restore"], &checkpoint::restore::VERB),
            (&["rm", "remove"], &rm::VERB),
            (&["run"], &run::VERB),
            (&["start"], &start::VERB),
            (&["stats"], &stats::VERB),
            (&["stop"], &stop::VERB),
            (&["top"], &top::VERB),
            (&["unpause"], &unpause::VERB),
            (&["update"], &update::VERB),
            (&["wait"], &wait::VERB),
        ],
    },
    context::GROUP,
    Group {
        name: "image",
        about: "Manage images",
        verbs: &[
            (&["diff"], &image_diff::VERB),
            (&["history"], &history::VERB),
            (&["import"], &import::VERB),
            (&["inspect"], &image_inspect::VERB),
            (&["load"], &load::VERB),
            (&["ls", "list"], &images::VERB),
            (&["prune"], &image_prune::VERB),
            (&["pull"], &pull::VERB),
            (&["push"], &push::VERB),
            (&["rm", "remove"], &rmi::VERB),
            (&["save"], &save::VERB),
            (&["tag"], &tag::VERB),
        ],
    },
    checkpoint::GROUP,
    cni::GROUP,
    volume::GROUP,
    Group {
        name: "manifest",
        about: "Manage image manifests and manifest lists",
        verbs: &[
            (&["annotate"], &manifest::ANNOTATE),
            (&["create"], &manifest::CREATE),
            (&["inspect"], &manifest::INSPECT),
            (&["push"], &manifest::PUSH),
            (&["rm"], &manifest::RM),
        ],
    },
    Group {
        name: "network",
        about: "Manage networks",
        verbs: &[
            (&["connect"], &network_connect::VERB),
            (&["create"], &network_create::VERB),
            (&["disconnect"], &network_disconnect::VERB),
            (&["inspect"], &network_inspect::VERB),
            (&["ls", "list"], &networks::VERB),
            (&["prune"], &network_prune::VERB),
            (&["rm", "remove"], &network_rm::VERB),
            (&["xray"], &network_xray::VERB),
        ],
    },
    registry::GROUP,
    secret::GROUP,
    Group {
        name: "system",
        about: "Manage dhow",
        verbs: &[
            (&["boot"], &boot::VERB),
            (&["check"], &system_check::VERB),
            (&["df"], &system::df::VERB),
            (&["dial-stdio"], &dial_stdio::VERB),
            (&["events"], &events::VERB),
            (&["halt"], &halt::VERB),
            (&["info"], &info::VERB),
            (&["prune"], &system::prune::VERB),
        ],
    },
];

/// Does one thing for each name, and shows each failure when it happens; the others go on.
fn each(names: &[String], mut work: impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut failed = false;
    for name in names {
        match work(name) {
            Ok(()) => {}
            Err(failure @ Failure::Output(_)) => return Err(failure),
            Err(failure) => {
                output::failure(&failure);
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Shown) } else { Ok(()) }
}

/// The same for verbs that print each name when it is done.
fn each_named(names: &[String], mut work: impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    each(names, |name| {
        work(name)?;
        output::line(name)
    })
}

/// A verb from its flags and its function.
macro_rules! verb {
    ($flags:ty, $run:expr, $class:ident, $usage:expr, $about:expr) => {
        crate::verb::Verb {
            about: $about,
            usage: $usage,
            flags: <$flags as clap::Args>::augment_args,
            run: |session, matches| {
                let flags = <$flags as clap::FromArgMatches>::from_arg_matches(matches)
                    .map_err(|error| crate::failure::Failure::caused("the flags cannot be read", error))?;
                $run(session, &flags)
            },
            class: crate::exit::Class::$class,
        }
    };
}
use verb;
