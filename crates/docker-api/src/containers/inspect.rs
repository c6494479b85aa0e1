//! `GET /containers/{id}/json`

use crate::context::{Context, Shared};
use crate::failure::Failure;
use crate::glances::Before;
use crate::reply::{self, Reply};
use crate::version::Version;
use bytes::Bytes;
use docker_json::container::Inspect;
use engine::{Container, Engine, Inspected, Stamp};
use std::cell::RefCell;
use std::collections::HashMap;

/// `GET /containers/{id}/json`
pub async fn inspect(context: Context, wanted: &str) -> Result<Reply, Failure> {
    let form = Form::of(context.version);
    let (name, shared) = (wanted.to_owned(), context.shared.clone());
    let document = if context.query.switch("size") {
        let work = move |engine: &Engine| {
            let container = engine.inspect(&name)?;
            document(engine, &container, shared.execs.of(&container.id), form, true)
        };
        context.workers().patient_translate(work).await?
    } else {
        let same = format!("inspect {form:?} {wanted}");
        if let Some(answer) = shared.glances.answer(&same, &shared.execs) {
            return Ok(reply::document(answer));
        }
        let kept = same.clone();
        let work = move |engine: &Engine| without_sizes(engine, &shared, &name, form, &kept);
        context.shared.flights.join(context.workers(), Some(same), work).await?
    };
    Ok(reply::document(document))
}

/// Which fields there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Those of the time before there were networks, too.
    Old,
    /// Of Docker 29.
    New,
}

impl Form {
    fn of(version: Version) -> Form {
        if version < crate::newer::FIRST { Form::Old } else { Form::New }
    }
}

/// An answer, and what it was made from.
#[derive(Debug)]
struct Kept {
    stamp: Stamp,
    sessions: Vec<String>,
    answer: Bytes,
}

/// Answers that a thread keeps: whoever polls containers polls a few.
const KEPT: usize = 32;
/// Largest of them, in bytes.
const LARGEST: usize = 32 << 10;

thread_local! {
    /// What was answered last, by what was asked for: as long as nothing has changed, it need not be found and written again. An engine
    /// belongs to one thread, and both go after some seconds without work.
    static ANSWERS: RefCell<HashMap<String, Kept>> = RefCell::default();
}

fn without_sizes(engine: &Engine, shared: &Shared, name: &str, form: Form, asked: &str) -> Result<Bytes, Failure> {
    let before = Before::now(&shared.execs);
    let keep = |stamp: &Stamp, answer: &Bytes| {
        if let Some(glance) = stamp.glance() {
            shared.glances.keep(asked, before, glance, answer.clone());
        }
    };
    ANSWERS.with_borrow_mut(|answers| {
        let known = answers.get(asked);
        let (container, stamp) = match (engine.inspect_again(name, known.map(|kept| &kept.stamp))?, known) {
            (Inspected::Same, Some(kept)) if kept.sessions == shared.execs.of(kept.stamp.container()) => {
                keep(&kept.stamp, &kept.answer);
                return Ok(kept.answer.clone());
            }
            (Inspected::Same, _) => (Box::new(engine.inspect(name)?), None),
            (Inspected::Anew(container, stamp), _) => (container, stamp),
        };
        let sessions = shared.execs.of(&container.id);
        let answer = document(engine, &container, sessions.clone(), form, false)?;
        answers.remove(asked);
        if let Some(stamp) = stamp.filter(|_| answer.len() <= LARGEST) {
            if answers.len() >= KEPT {
                answers.clear();
            }
            keep(&stamp, &answer);
            answers.insert(asked.to_owned(), Kept { stamp, sessions, answer: answer.clone() });
        }
        Ok(answer)
    })
}

fn document(
    engine: &Engine,
    container: &Container,
    sessions: Vec<String>,
    form: Form,
    sizes: bool,
) -> Result<Bytes, Failure> {
    let shown = Inspect::new(container)?;
    let mut shown = match form {
        Form::Old => shown.on_the_default_bridge(),
        Form::New => shown.of_docker_29(),
    };
    shown.exec_ids = Some(sessions).filter(|sessions| !sessions.is_empty());
    if sizes {
        let sizes = engine.container_sizes(container)?;
        (shown.size_rw, shown.size_root_fs) = (Some(sizes.written), Some(sizes.root));
    }
    reply::written(&shown)
}
