//! Go's templates over JSON, as far as Docker's `--format` needs them.
//!
//! Actions, pipelines, variables, `if`, `range`, `with`, comments, trimming, and the functions of Docker and Go that
//! scripts use. Not here: `define`, `template`, `block`, methods. Values are those of JSON; a struct of Docker's API is
//! an object all of whose keys start with a capital letter, so that a misspelt field is an error there and a missing
//! key of a map (labels, networks, ports) prints `<no value>`, as in Docker.

mod evaluate;
mod functions;
mod lex;
mod parse;
mod printf;
mod value;

/// A template that has been read.
#[derive(Debug)]
pub struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, in Docker's words.
    pub fn new(text: &str) -> Result<Template, String> {
        let pieces = lex::pieces(text).map_err(parsing)?;
        Ok(Template { nodes: parse::nodes(pieces).map_err(parsing)? })
    }

    /// The text for one value.
    ///
    /// # Errors
    /// A field that does not exist, or a function that does not suit its arguments.
    pub fn render(&self, data: &serde_json::Value) -> Result<String, String> {
        evaluate::run(&self.nodes, data).map_err(|error| format!("template: :1: executing \"\": {error}"))
    }
}

fn parsing(error: String) -> String {
    format!("template parsing error: template: :1: {error}")
}

/// Replaces the two escapes that Docker's list formats know outside of actions and inside of them.
pub fn unescape(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests;
