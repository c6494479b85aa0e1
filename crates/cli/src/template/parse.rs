//! Tokens to a tree.

use super::lex::{Kind, Piece, Token};
use serde_json::Value;

/// A step of a template.
#[derive(Debug)]
pub enum Node {
    Text(String),
    /// Prints the pipeline, or sets variables.
    Action(Pipeline),
    If {
        condition: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Break,
    Continue,
}

/// `$a, $b := command | command`
#[derive(Debug)]
pub struct Pipeline {
    /// Variables that are set.
    pub variables: Vec<String>,
    /// Whether they are new.
    pub declares: bool,
    /// The commands from left to right.
    pub commands: Vec<Command>,
}

/// An operand with its arguments.
#[derive(Debug)]
pub struct Command {
    pub operands: Vec<Operand>,
}

/// A value, and the fields that are taken of it.
#[derive(Debug)]
pub struct Operand {
    pub base: Base,
    pub fields: Vec<String>,
}

/// Where a value comes from.
#[derive(Debug)]
pub enum Base {
    /// The value at hand.
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Group(Pipeline),
}

/// How a block ended.
#[derive(PartialEq)]
enum End {
    /// The text ended.
    OfText,
    /// `{{end}}`
    Closed,
    /// `{{else}}`, with what follows the word.
    Otherwise(Vec<Token>),
}

/// Reads all pieces.
pub fn nodes(pieces: Vec<Piece>) -> Result<Vec<Node>, String> {
    let mut pieces = pieces.into_iter();
    match block(&mut pieces)? {
        (nodes, End::OfText) => Ok(nodes),
        (_, End::Closed) => Err("unexpected {{end}}".into()),
        (_, End::Otherwise(_)) => Err("unexpected {{else}}".into()),
    }
}

fn block(pieces: &mut std::vec::IntoIter<Piece>) -> Result<(Vec<Node>, End), String> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let mut tokens = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let keyword = match tokens.first().map(|token| &token.kind) {
            Some(Kind::Word(word)) => word.clone(),
            Some(_) => String::new(),
            None => return Err("missing value for command".into()),
        };
        match keyword.as_str() {
            "end" => return Ok((nodes, End::Closed)),
            "else" => return Ok((nodes, End::Otherwise(tokens.split_off(1)))),
            "if" | "with" | "range" => nodes.push(control(&keyword, tokens.split_off(1), pieces)?),
            "break" => nodes.push(Node::Break),
            "continue" => nodes.push(Node::Continue),
            "define" | "template" | "block" => return Err(format!("{{{{{keyword}}}}} is not supported")),
            _ => nodes.push(Node::Action(whole_pipeline(tokens)?)),
        }
    }
    Ok((nodes, End::OfText))
}

fn control(keyword: &str, tokens: Vec<Token>, pieces: &mut std::vec::IntoIter<Piece>) -> Result<Node, String> {
    if tokens.is_empty() {
        return Err(format!("missing value for {keyword}"));
    }
    let head = whole_pipeline(tokens)?;
    let (then, end) = block(pieces)?;
    let otherwise = match end {
        End::Closed => Vec::new(),
        End::OfText => return Err("unexpected EOF".into()),
        End::Otherwise(tokens) if tokens.is_empty() => match block(pieces)? {
            (nodes, End::Closed) => nodes,
            (_, End::OfText) => return Err("unexpected EOF".into()),
            (_, End::Otherwise(_)) => return Err("expected end; found {{else}}".into()),
        },
        // `else if` shares the `end` of the outer block.
        End::Otherwise(mut tokens) => match &tokens[0].kind {
            Kind::Word(word) if word == "if" || word == "with" => {
                let word = word.clone();
                vec![control(&word, tokens.split_off(1), pieces)?]
            }
            _ => return Err("unexpected token after else".into()),
        },
    };
    Ok(match keyword {
        "if" => Node::If { condition: head, then, otherwise },
        "with" => Node::With { value: head, then, otherwise },
        _ => Node::Range { over: head, body: then, otherwise },
    })
}

fn whole_pipeline(tokens: Vec<Token>) -> Result<Pipeline, String> {
    let mut reader = Reader { tokens, at: 0 };
    let pipeline = reader.pipeline()?;
    match reader.peek() {
        None => Ok(pipeline),
        Some(_) => Err("unexpected right paren".into()),
    }
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn pipeline(&mut self) -> Result<Pipeline, String> {
        let (variables, declares) = self.variables();
        let mut commands = vec![self.command()?];
        while self.peek() == Some(&Kind::Pipe) {
            self.at += 1;
            commands.push(self.command()?);
        }
        Ok(Pipeline { variables, declares, commands })
    }

    /// `$a :=`, `$a =` or `$a, $b :=`, if that is what stands here.
    fn variables(&mut self) -> (Vec<String>, bool) {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(Kind::Variable(name)) = self.peek() {
            names.push(name.clone());
            self.at += 1;
            match self.peek() {
                Some(Kind::Comma) => self.at += 1,
                Some(kind @ (Kind::Declare | Kind::Assign)) => {
                    let declares = *kind == Kind::Declare;
                    self.at += 1;
                    return (names, declares);
                }
                _ => break,
            }
        }
        self.at = start;
        (Vec::new(), false)
    }

    fn command(&mut self) -> Result<Command, String> {
        let mut operands = Vec::new();
        while let Some(kind) = self.peek() {
            if matches!(kind, Kind::Pipe | Kind::Close) {
                break;
            }
            operands.push(self.operand()?);
        }
        if operands.is_empty() { Err("missing value for command".into()) } else { Ok(Command { operands }) }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let kind = self.tokens[self.at].kind.clone();
        self.at += 1;
        let mut fields = Vec::new();
        let base = match kind {
            Kind::Field(name) => {
                if !name.is_empty() {
                    fields.push(name);
                }
                Base::Dot
            }
            Kind::Variable(name) => Base::Variable(name),
            Kind::String(string) => Base::Literal(Value::String(string)),
            Kind::Number(text) => Base::Literal(number(&text)?),
            Kind::Word(word) => match word.as_str() {
                "true" => Base::Literal(Value::Bool(true)),
                "false" => Base::Literal(Value::Bool(false)),
                "nil" => Base::Literal(Value::Null),
                _ if super::functions::exists(&word) => Base::Function(word),
                _ => return Err(format!("function {word:?} not defined")),
            },
            Kind::Open => {
                let pipeline = self.pipeline()?;
                if self.peek() != Some(&Kind::Close) {
                    return Err("unclosed left paren".into());
                }
                self.at += 1;
                Base::Group(pipeline)
            }
            other => return Err(format!("unexpected {other:?} in operand")),
        };
        while let Some(Token { kind: Kind::Field(name), spaced: false }) = self.tokens.get(self.at) {
            if name.is_empty() {
                return Err("unexpected <.> in operand".into());
            }
            fields.push(name.clone());
            self.at += 1;
        }
        Ok(Operand { base, fields })
    }
}

fn number(text: &str) -> Result<Value, String> {
    let integer = match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    integer
        .map(Value::from)
        .or_else(|| text.parse::<f64>().ok().map(Value::from))
        .ok_or_else(|| format!("bad number syntax: {text:?}"))
}
