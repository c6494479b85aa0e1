//! Transcripts: command lines and what Docker said to them, as text that is read, compared and written again.
//!
//! ```text
//! # A remark.
//! -- What comes before the cases: its answers are compared too, but it is not counted.
//! $ docker run -d --name box busybox sleep 1000
//! <id>
//! == exec passes on output, errors and status
//! $ docker exec box sh -c 'echo out; echo err >&2; exit 3'
//! out
//! ! err
//! [3]
//! ```
//!
//! Lines that start with `> ` continue a command. An answer's line that is empty or could be taken for something else has a `\`
//! before it. Where dhow is meant to answer something else, the reason follows Docker's answer, then dhow's answer:
//!
//! ```text
//! ~~ why
//! ~ dhow's line
//! ```

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};

/// What a command said, after [`super::normal::text`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Lines of standard output.
    pub stdout: Vec<String>,
    /// Lines of standard error.
    pub stderr: Vec<String>,
    /// Exit code.
    pub code: i32,
}

/// A difference between the two that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Why.
    pub reason: String,
    /// What dhow says.
    pub answer: Answer,
}

/// A command line with what is expected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Where it is, from 1.
    pub line: usize,
    /// For `sh -c`.
    pub text: String,
    /// Docker's answer.
    pub expected: Answer,
    /// dhow's, if it is meant to be another.
    pub difference: Option<Difference>,
}

/// A part of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A remark or an empty line, as it is written.
    Remark(String),
    /// `== name`: the commands up to the next heading are one case.
    Case(String),
    /// `-- what`: the commands up to the next heading prepare cases.
    Step(String),
    /// A command line.
    Command(Command),
}

/// Everything in a file.
pub fn parse(text: &str) -> Result<Vec<Item>> {
    let mut items = vec![];
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        read(&mut items, line, number).with_context(|| format!("line {number}: {line}"))?;
    }
    Ok(items)
}

fn read(items: &mut Vec<Item>, line: &str, number: usize) -> Result<()> {
    if let Some(name) = line.strip_prefix("== ") {
        items.push(Item::Case(name.to_owned()));
    } else if let Some(what) = line.strip_prefix("-- ") {
        items.push(Item::Step(what.to_owned()));
    } else if line.is_empty() || line.starts_with('#') {
        items.push(Item::Remark(line.to_owned()));
    } else if let Some(text) = line.strip_prefix("$ ") {
        let (text, expected) = (text.to_owned(), Answer::default());
        items.push(Item::Command(Command { line: number, text, expected, difference: None }));
    } else {
        let Some(Item::Command(command)) = items.last_mut() else { bail!("an answer without a command") };
        if let Some(more) = line.strip_prefix("> ") {
            command.text.push('\n');
            command.text.push_str(more);
        } else if let Some(reason) = line.strip_prefix("~~ ") {
            ensure!(command.difference.is_none(), "two differences");
            command.difference = Some(Difference { reason: reason.to_owned(), answer: Answer::default() });
        } else if let Some(said) = line.strip_prefix("~ ") {
            let difference = command.difference.as_mut().context("a difference without its reason")?;
            difference.answer.add(said)?;
        } else {
            command.expected.add(line)?;
        }
    }
    Ok(())
}

impl Answer {
    fn add(&mut self, line: &str) -> Result<()> {
        if let Some(code) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            self.code = code.parse().context("an exit code")?;
        } else if let Some(said) = line.strip_prefix("! ").or_else(|| (line == "!").then_some("")) {
            self.stderr.push(said.to_owned());
        } else {
            self.stdout.push(line.strip_prefix('\\').unwrap_or(line).to_owned());
        }
        Ok(())
    }

    /// The lines that [`parse`] reads as this answer, each after the prefix.
    pub fn lines(&self, prefix: &str) -> String {
        let mut text = String::new();
        for line in &self.stdout {
            let escape = if line.is_empty() || line.starts_with(['$', '>', '!', '[', '~', '=', '-', '#', '\\']) {
                "\\"
            } else {
                ""
            };
            // Writing to a string does not fail.
            _ = writeln!(text, "{prefix}{escape}{line}");
        }
        for line in &self.stderr {
            _ = writeln!(text, "{prefix}{}", format!("! {line}").trim_end());
        }
        if self.code != 0 {
            _ = writeln!(text, "{prefix}[{}]", self.code);
        }
        text
    }
}

/// The text that [`parse`] reads as these.
pub fn write(items: &[Item]) -> String {
    let mut text = String::new();
    for item in items {
        match item {
            Item::Remark(line) => text.push_str(&format!("{line}\n")),
            Item::Case(name) => text.push_str(&format!("== {name}\n")),
            Item::Step(what) => text.push_str(&format!("-- {what}\n")),
            Item::Command(command) => {
                text.push_str(&format!("$ {}\n", command.text.replace('\n', "\n> ")));
                text.push_str(&command.expected.lines(""));
                if let Some(difference) = &command.difference {
                    text.push_str(&format!("~~ {}\n", difference.reason));
                    text.push_str(&difference.answer.lines("~ "));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Item, parse, write};

    const TEXT: &str = "# remark\n-- first\n$ docker run x \\\n>   y\n<id>\n\n== one\n$ a\n\\\n\\$ b\nout\n! err\n[3]\n~~ because\n~ other\n~ [1]\n$ b\n";

    #[test]
    fn what_is_read_is_written() {
        let items = parse(TEXT).unwrap();
        assert_eq!(write(&items), TEXT);
        let Item::Command(command) = &items[5] else { panic!("{items:?}") };
        assert_eq!(command.expected.stdout, ["", "$ b", "out"]);
        assert_eq!((command.expected.code, command.expected.stderr.len()), (3, 1));
        assert_eq!(command.difference.as_ref().unwrap().answer.code, 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["out\n", "$ a\n~ x\n", "$ a\n~~ r\n~~ r\n", "$ a\n[x]\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
