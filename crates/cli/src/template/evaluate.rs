//! Executes the tree.

use super::functions;
use super::parse::{Base, Command, Node, Operand, Pipeline};
use super::value;
use serde_json::Value;
use std::borrow::Cow;

/// What a pipeline yields; `None` is a key that its map does not have.
pub type Datum<'a> = Option<Cow<'a, Value>>;

/// What a list of nodes ended with.
enum Flow {
    On,
    Break,
    Continue,
}

/// The text that the nodes print for `data`.
pub fn run(nodes: &[Node], data: &Value) -> Result<String, String> {
    let mut machine = Machine { root: data, variables: Vec::new(), out: String::new() };
    machine.walk(nodes, data)?;
    Ok(machine.out)
}

struct Machine<'a> {
    root: &'a Value,
    variables: Vec<(String, Value)>,
    out: String,
}

impl<'a> Machine<'a> {
    fn walk(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        let depth = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if !matches!(flow, Flow::On) {
                break;
            }
        }
        self.variables.truncate(depth);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipeline) => {
                let datum = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    let text = datum.map_or_else(|| "<no value>".into(), |datum| value::text(&datum));
                    self.out.push_str(&text);
                } else {
                    let datum = owned(datum);
                    self.assign(pipeline, datum)?;
                }
            }
            Node::If { condition, then, otherwise } => return self.branch(condition, then, otherwise, dot, false),
            Node::With { value, then, otherwise } => return self.branch(value, then, otherwise, dot, true),
            Node::Range { over, body, otherwise } => return self.range(over, body, otherwise, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn branch(
        &mut self,
        head: &Pipeline,
        then: &[Node],
        otherwise: &[Node],
        dot: &Value,
        moves_dot: bool,
    ) -> Result<Flow, String> {
        let depth = self.variables.len();
        let datum = owned(self.pipeline(head, dot)?);
        if !head.variables.is_empty() {
            self.assign(head, datum.clone())?;
        }
        let flow = if value::truth(&datum) {
            self.walk(then, if moves_dot { &datum } else { dot })
        } else {
            self.walk(otherwise, dot)
        };
        self.variables.truncate(depth);
        flow
    }

    fn range(&mut self, over: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow, String> {
        let pairs: Vec<(Value, Value)> = match owned(self.pipeline(over, dot)?) {
            Value::Array(values) => values.into_iter().enumerate().map(|(i, value)| (i.into(), value)).collect(),
            Value::Object(map) => {
                let mut pairs: Vec<(String, Value)> = map.into_iter().collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                pairs.into_iter().map(|(key, value)| (key.into(), value)).collect()
            }
            Value::Null => Vec::new(),
            other => return Err(format!("range can't iterate over {}", value::text(&other))),
        };
        if pairs.is_empty() {
            return self.walk(otherwise, dot);
        }
        let depth = self.variables.len();
        for (key, item) in pairs {
            match over.variables.as_slice() {
                [] => {}
                [name] => self.variables.push((name.clone(), item.clone())),
                [index, name] => {
                    self.variables.push((index.clone(), key));
                    self.variables.push((name.clone(), item.clone()));
                }
                _ => return Err("too many declarations in range".into()),
            }
            let flow = self.walk(body, &item)?;
            self.variables.truncate(depth);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn assign(&mut self, pipeline: &Pipeline, datum: Value) -> Result<(), String> {
        let [name] = pipeline.variables.as_slice() else { return Err("too many variables in declaration".into()) };
        if pipeline.declares {
            self.variables.push((name.clone(), datum));
            return Ok(());
        }
        let slot = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        slot.ok_or_else(|| format!("undefined variable \"${name}\""))?.1 = datum;
        Ok(())
    }

    fn pipeline<'d>(&self, pipeline: &Pipeline, dot: &'d Value) -> Result<Datum<'d>, String>
    where
        'a: 'd,
    {
        let mut datum: Option<Datum<'d>> = None;
        for command in &pipeline.commands {
            datum = Some(self.command(command, dot, datum)?);
        }
        Ok(datum.flatten())
    }

    fn command<'d>(&self, command: &Command, dot: &'d Value, piped: Option<Datum<'d>>) -> Result<Datum<'d>, String>
    where
        'a: 'd,
    {
        let (first, rest) = command.operands.split_first().ok_or("missing value for command")?;
        if let Base::Function(name) = &first.base {
            // These two stop at the first argument that decides.
            if matches!(name.as_str(), "and" | "or") && piped.is_none() {
                return self.decide(name == "and", rest, dot);
            }
            let mut arguments = rest.iter().map(|operand| self.operand(operand, dot)).collect::<Result<Vec<_>, _>>()?;
            arguments.extend(piped);
            let result = functions::call(name, arguments)?;
            return fields(result, &first.fields);
        }
        let datum = self.operand(first, dot)?;
        let arguments = rest.iter().map(|operand| self.operand(operand, dot)).collect::<Result<Vec<_>, _>>()?;
        if arguments.is_empty() && piped.is_none() {
            return Ok(datum);
        }
        // A method of Docker's rows, such as `.Label "key"`: a map that is asked for a key.
        let mut all = vec![datum];
        all.extend(arguments);
        all.extend(piped);
        functions::call("index", all)
    }

    fn decide<'d>(&self, and: bool, operands: &[Operand], dot: &'d Value) -> Result<Datum<'d>, String>
    where
        'a: 'd,
    {
        let mut last = None;
        for operand in operands {
            last = self.operand(operand, dot)?;
            if last.as_ref().is_some_and(|value| value::truth(value)) != and {
                break;
            }
        }
        Ok(last)
    }

    fn operand<'d>(&self, operand: &Operand, dot: &'d Value) -> Result<Datum<'d>, String>
    where
        'a: 'd,
    {
        let base = match &operand.base {
            Base::Dot => Some(Cow::Borrowed(dot)),
            Base::Variable(name) if name.is_empty() => Some(Cow::Borrowed(self.root)),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                Some(Cow::Owned(found.ok_or_else(|| format!("undefined variable \"${name}\""))?.1.clone()))
            }
            Base::Literal(value) => Some(Cow::Owned(value.clone())),
            Base::Function(name) => functions::call(name, Vec::new())?,
            Base::Group(pipeline) => self.pipeline(pipeline, dot)?,
        };
        fields(base, &operand.fields)
    }
}

fn owned(datum: Datum<'_>) -> Value {
    datum.map_or(Value::Null, Cow::into_owned)
}

/// Takes fields of a value, one after the other.
fn fields<'d>(mut datum: Datum<'d>, names: &[String]) -> Result<Datum<'d>, String> {
    for name in names {
        datum = match datum {
            Some(Cow::Borrowed(value)) => field(value, name)?.map(Cow::Borrowed),
            Some(Cow::Owned(value)) => field(&value, name)?.cloned().map(Cow::Owned),
            None => return Err(format!("nil data; no entry for key {name:?}")),
        };
    }
    Ok(datum)
}

/// Fields that Docker's JSON leaves out when they are empty, and that a template may name all the same.
const OPTIONAL: &[&str] = &[
    "Annotations",
    "ExposedPorts",
    "Health",
    "Healthcheck",
    "Init",
    "Mounts",
    "OnBuild",
    "Shell",
    "StopTimeout",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// The same, of a text.
static EMPTY: Value = Value::String(String::new());

fn field<'d>(value: &'d Value, name: &str) -> Result<Option<&'d Value>, String> {
    match value {
        Value::Object(map) => {
            // Go's field names differ from those of the JSON in case: `.ID` and `.Id`.
            let found = map.get(name).or_else(|| {
                map.iter()
                    .find(|(key, _)| value::is_struct(map) && key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value)
            });
            match found {
                None if OPTIONAL.contains(&name) => Ok(Some(&Value::Null)),
                None if name == "StopSignal" => Ok(Some(&EMPTY)),
                None if value::is_struct(map) => Err(format!("at <.{name}>: map has no entry for key {name:?}")),
                found => Ok(found),
            }
        }
        Value::Null => Err(format!("at <.{name}>: nil pointer evaluating interface {{}}.{name}")),
        other => Err(format!("at <.{name}>: can't evaluate field {name} in {}", value::text(other))),
    }
}
