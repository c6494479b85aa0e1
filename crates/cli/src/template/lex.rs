//! Text to pieces: what stands outside of `{{ }}`, and the tokens inside.

/// A part of a template.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Copied as it is.
    Text(String),
    /// The tokens between the braces.
    Action(Vec<Token>),
}

/// A token and whether white space stands before it, which tells `$x.Name` from `$x .Name`.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub kind: Kind,
    pub spaced: bool,
}

/// Kinds of tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A function or a keyword.
    Word(String),
    /// `.Name`, without the dot; empty for the dot alone.
    Field(String),
    /// `$name`, without the sign; empty for the sign alone.
    Variable(String),
    /// A quoted string, unquoted.
    String(String),
    /// A number as it is written.
    Number(String),
    /// `|`
    Pipe,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// Splits a template.
pub fn pieces(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let mut trim_next = false;
    loop {
        let (text, after) = match rest.find("{{") {
            Some(start) => (&rest[..start], Some(&rest[start + 2..])),
            None => (rest, None),
        };
        let mut text = if trim_next { text.trim_start() } else { text };
        let Some(mut action) = after else {
            push_text(&mut pieces, text);
            return Ok(pieces);
        };
        // `{{- ` trims before it; `{{-3}}` is a number.
        if let Some(trimmed) = action.strip_prefix('-').filter(|a| a.starts_with(char::is_whitespace)) {
            text = text.trim_end();
            action = trimmed;
        }
        push_text(&mut pieces, text);
        if action.trim_start().starts_with("/*") {
            let end = action.find("*/").ok_or("unclosed comment")?;
            rest = action[end + 2..].trim_start();
            trim_next = rest.strip_prefix('-').map(|r| rest = r).is_some();
            rest = rest.strip_prefix("}}").ok_or("comment ends before closing delimiter")?;
            continue;
        }
        let (tokens, after, trim) = action_tokens(action)?;
        pieces.push(Piece::Action(tokens));
        rest = after;
        trim_next = trim;
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// Tokens up to `}}`, what follows, and whether the white space there is trimmed.
fn action_tokens(text: &str) -> Result<(Vec<Token>, &str, bool), String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start();
        let spaced = trimmed.len() < rest.len();
        rest = trimmed;
        if let Some(after) = rest.strip_prefix("}}") {
            return Ok((tokens, after, false));
        }
        if spaced && let Some(after) = rest.strip_prefix("-}}") {
            return Ok((tokens, after, true));
        }
        let (kind, after) = token(rest)?;
        tokens.push(Token { kind, spaced });
        rest = after;
    }
}

fn token(text: &str) -> Result<(Kind, &str), String> {
    let first = text.chars().next().ok_or("unclosed action")?;
    let after = &text[first.len_utf8()..];
    let word = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    Ok(match first {
        '|' => (Kind::Pipe, after),
        '(' => (Kind::Open, after),
        ')' => (Kind::Close, after),
        ',' => (Kind::Comma, after),
        '=' => (Kind::Assign, after),
        ':' => (Kind::Declare, after.strip_prefix('=').ok_or("expected :=")?),
        '"' => quoted(after)?,
        '`' => {
            let end = after.find('`').ok_or("unterminated raw quoted string")?;
            (Kind::String(after[..end].to_owned()), &after[end + 1..])
        }
        '.' if after.starts_with(|c: char| c.is_ascii_digit()) => number(text),
        '.' => {
            let end = word(after);
            (Kind::Field(after[..end].to_owned()), &after[end..])
        }
        '$' => {
            let end = word(after);
            (Kind::Variable(after[..end].to_owned()), &after[end..])
        }
        '+' | '-' | '0'..='9' => number(text),
        c if c.is_alphabetic() || c == '_' => {
            let end = word(text);
            (Kind::Word(text[..end].to_owned()), &text[end..])
        }
        c => return Err(format!("unexpected {c:?} in command")),
    })
}

fn number(text: &str) -> (Kind, &str) {
    let end = text[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '.').map_or(text.len(), |end| end + 1);
    (Kind::Number(text[..end].to_owned()), &text[end..])
}

/// The string after its opening quote.
fn quoted(text: &str) -> Result<(Kind, &str), String> {
    let mut string = String::new();
    let mut letters = text.char_indices();
    while let Some((index, letter)) = letters.next() {
        match letter {
            '"' => return Ok((Kind::String(string), &text[index + 1..])),
            '\\' => string.push(match letters.next().map(|(_, letter)| letter) {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some(c @ ('"' | '\\' | '\'')) => c,
                other => return Err(format!("unknown escape in string: {:?}", other.unwrap_or(' '))),
            }),
            '\n' => break,
            c => string.push(c),
        }
    }
    Err("unterminated quoted string".into())
}
