//! Names of what there is at this moment. Whatever goes wrong means that there are no candidates: a shell shows no errors.

use super::{Candidate, Source, Which};
use crate::session::Session;
use engine::{Container, Engine, Status};

/// The candidates of a source.
pub(super) fn find(session: &Session, source: Source) -> Vec<Candidate> {
    let plain = |words: &[&str]| words.iter().map(|word| ((*word).to_owned(), String::new())).collect();
    match source {
        Source::Words(words) => return plain(words),
        Source::Contexts => return plain(&["default"]),
        Source::Files | Source::Nothing => return Vec::new(),
        _ => {}
    }
    let Ok(engine) = session.engine() else { return Vec::new() };
    match source {
        Source::Containers(which) => containers(&engine, which),
        Source::Copied => {
            containers(&engine, Which::All).into_iter().map(|(name, meaning)| (format!("{name}:"), meaning)).collect()
        }
        Source::Images => images(&engine),
        Source::Networks => networks(&engine),
        Source::Volumes => volumes(&engine),
        Source::Objects => {
            let all = [containers(&engine, Which::All), images(&engine), networks(&engine), volumes(&engine)];
            all.into_iter().flatten().collect()
        }
        Source::Configs => secrets(&engine, engine::SecretKind::Config),
        Source::Secrets => secrets(&engine, engine::SecretKind::Secret),
        Source::Words(_) | Source::Contexts | Source::Files | Source::Nothing => Vec::new(),
    }
}

fn containers(engine: &Engine, which: Which) -> Vec<Candidate> {
    let fits = |container: &Container| match which {
        Which::All => true,
        Which::Paused => container.status == Status::Paused,
        Which::Running => container.status.is_running(),
        Which::Stopped => matches!(container.status, Status::Created | Status::Exited),
    };
    let list = engine.lines(engine::Detail::NoNetworks).unwrap_or_default();
    let meaning = |container: &Container| format!("{}, {}", container.settings.image_name, container.status.name());
    list.iter().filter(|container| fits(container)).map(|each| (each.name.clone(), meaning(each))).collect()
}

fn images(engine: &Engine) -> Vec<Candidate> {
    let mut found = Vec::new();
    for image in engine.images().unwrap_or_default() {
        for name in image.names {
            // A name without its tag means the same as with latest.
            if let Some(bare) = name.strip_suffix(":latest") {
                found.push((bare.to_owned(), String::new()));
            }
            found.push((name, String::new()));
        }
    }
    found
}

fn networks(engine: &Engine) -> Vec<Candidate> {
    let list = engine.networks().unwrap_or_default();
    list.into_iter().map(|network| (network.name, network.settings.driver.name().to_owned())).collect()
}

fn volumes(engine: &Engine) -> Vec<Candidate> {
    engine.volumes().unwrap_or_default().into_iter().map(|volume| (volume.name, String::new())).collect()
}

fn secrets(engine: &Engine, kind: engine::SecretKind) -> Vec<Candidate> {
    engine.secrets(kind).unwrap_or_default().into_iter().map(|secret| (secret.name, String::new())).collect()
}
