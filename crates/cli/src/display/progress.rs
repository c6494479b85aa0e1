//! How a pull or a push goes: bars on a terminal, Docker's lines elsewhere.

use super::amount;
use engine::{PullEvent, PullProgress, PushEvent, PushProgress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::{IsTerminal as _, Write};

/// Shows a pull on one of the two output streams.
pub struct Show<W> {
    out: W,
    /// Whether there are bars; asked when there is something to show, because most runs pull nothing.
    bars: Ask,
    /// Layers of which a line has been printed.
    begun: Vec<String>,
    /// Whether the missing image is announced.
    announce: bool,
    /// Whether there are lines where there are no bars.
    lines: bool,
}

enum Ask {
    Later(fn() -> Option<ProgressDrawTarget>),
    Bars(Bars),
    Lines,
}

struct Bars {
    all: MultiProgress,
    layers: HashMap<String, ProgressBar>,
}

/// Shows the pull that `run` and `create` need, on standard error.
pub fn on_stderr() -> Show<std::io::Stderr> {
    let bars = Ask::Later(|| std::io::stderr().is_terminal().then(ProgressDrawTarget::stderr));
    Show { out: std::io::stderr(), bars, begun: Vec::new(), announce: true, lines: true }
}

/// Shows `pull`, on standard output.
pub fn on_stdout() -> Show<std::io::Stdout> {
    let bars = Ask::Later(|| std::io::stdout().is_terminal().then(ProgressDrawTarget::stdout));
    Show { out: std::io::stdout(), bars, begun: Vec::new(), announce: false, lines: true }
}

/// Shows `load`, on standard output: bars on a terminal, nothing elsewhere, as Docker does.
pub fn of_archive() -> Show<std::io::Stdout> {
    Show { lines: false, ..on_stdout() }
}

impl<W: Write> Show<W> {
    fn line(&mut self, line: &str) {
        if !self.lines {
            return;
        }
        // A pull goes on although nobody sees it.
        _ = writeln!(self.out, "{line}");
    }

    fn first(&mut self, layer: &str) -> bool {
        let first = !self.begun.iter().any(|known| known == layer);
        if first {
            self.begun.push(layer.to_owned());
        }
        first
    }
}

impl<W: Write> PullProgress for Show<W> {
    fn missing(&mut self, reference: &str) {
        if self.announce {
            self.line(&format!("Unable to find image '{reference}' locally"));
        }
    }

    fn resolved(&mut self, repository: &str, tag: &str) {
        // Docker shows the path in the registry, which for its own images starts with library/.
        let path = match repository.split_once('/') {
            None => format!("library/{repository}"),
            Some((domain, path)) if domain.contains(['.', ':']) || domain == "localhost" => path.to_owned(),
            Some(_) => repository.to_owned(),
        };
        self.line(&format!("{tag}: Pulling from {path}"));
    }

    fn warning(&mut self, text: &str) {
        crate::output::remark(&format!("WARNING: {text}"));
    }

    fn event(&mut self, layer: &str, event: PullEvent) {
        if let Ask::Later(target) = self.bars {
            self.bars = target().map_or(Ask::Lines, |target| Ask::Bars(Bars::new(target)));
        }
        if let Ask::Bars(bars) = &mut self.bars {
            bars.event(layer, event);
            return;
        }
        let first = self.first(layer);
        match event {
            PullEvent::Waiting | PullEvent::Progress { .. } if first => {
                self.line(&format!("{layer}: Pulling fs layer"))
            }
            PullEvent::Waiting | PullEvent::Progress { .. } => {}
            PullEvent::Exists => self.line(&format!("{layer}: Already exists")),
            PullEvent::Complete => self.line(&format!("{layer}: Pull complete")),
        }
    }
}

impl<W: Write> PushProgress for Show<W> {
    fn begins(&mut self, repository: &str) {
        self.line(&format!("The push refers to repository [{repository}]"));
    }

    fn pushing(&mut self, layer: &str, event: PushEvent) {
        if let Ask::Later(target) = self.bars {
            self.bars = target().map_or(Ask::Lines, |target| Ask::Bars(Bars::new(target)));
        }
        let text = match &event {
            PushEvent::Waiting => "Preparing".to_owned(),
            PushEvent::Exists => "Layer already exists".to_owned(),
            PushEvent::Mounted(from) => format!("Mounted from {from}"),
            PushEvent::Complete => "Pushed".to_owned(),
            PushEvent::Progress { .. } => String::new(),
        };
        match (&mut self.bars, event) {
            (Ask::Bars(bars), PushEvent::Progress { done, total }) => bars.moves(layer, "Pushing", done, total),
            (Ask::Bars(bars), PushEvent::Waiting) => bars.bar(layer).set_message(text),
            (Ask::Bars(bars), _) => finish(bars.bar(layer), text),
            (_, PushEvent::Progress { .. }) => {}
            (_, _) => self.line(&format!("{layer}: {text}")),
        }
    }

    fn pushed(&mut self, tag: &str, digest: &str, size: u64) {
        self.line(&format!("{tag}: digest: {digest} size: {size}"));
    }
}

impl Bars {
    fn new(target: ProgressDrawTarget) -> Bars {
        Bars { all: MultiProgress::with_draw_target(target), layers: HashMap::new() }
    }

    fn bar(&mut self, layer: &str) -> &ProgressBar {
        let all = &self.all;
        self.layers.entry(layer.to_owned()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new(1).with_prefix(layer.to_owned()));
            bar.set_style(plain());
            bar
        })
    }

    fn event(&mut self, layer: &str, event: PullEvent) {
        match event {
            PullEvent::Waiting => self.bar(layer).set_message("Waiting"),
            PullEvent::Exists => finish(self.bar(layer), "Already exists"),
            PullEvent::Complete => finish(self.bar(layer), "Pull complete"),
            PullEvent::Progress { done, total } => self.moves(layer, "Pulling", done, total),
        }
    }

    fn moves(&mut self, layer: &str, doing: &str, done: u64, total: u64) {
        let bar = self.bar(layer);
        // What is compressed on the way may end up longer than was thought.
        let total = total.max(done);
        if bar.length() != Some(total) {
            bar.set_length(total);
            bar.set_style(moving(doing));
        }
        bar.set_message(format!("{}/{}", amount::transferred(done), amount::transferred(total)));
        bar.set_position(done);
    }
}

fn finish(bar: &ProgressBar, text: impl Into<std::borrow::Cow<'static, str>>) {
    bar.set_style(plain());
    bar.finish_with_message(text);
}

fn plain() -> ProgressStyle {
    style("{prefix}: {msg}")
}

fn moving(doing: &str) -> ProgressStyle {
    style(&format!("{{prefix}}: {doing} [{{bar:40}}] {{msg}}")).progress_chars("=> ")
}

/// A template of ours is always well-formed; if it were not, the standard bar would do.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines() {
        let mut show = Show { out: Vec::new(), bars: Ask::Lines, begun: Vec::new(), announce: true, lines: true };
        show.missing("redis:7");
        show.resolved("redis", "7");
        show.event("aaa", PullEvent::Waiting);
        show.event("bbb", PullEvent::Exists);
        show.event("aaa", PullEvent::Progress { done: 1, total: 2 });
        show.event("aaa", PullEvent::Complete);
        show.resolved("quay.io/a/b", "latest");
        show.resolved("a/b", "latest");
        let text = String::from_utf8(show.out).unwrap();
        assert_eq!(
            text,
            "Unable to find image 'redis:7' locally\n7: Pulling from library/redis\naaa: Pulling fs layer\n\
             bbb: Already exists\naaa: Pull complete\nlatest: Pulling from a/b\nlatest: Pulling from a/b\n"
        );
    }
}
