//! `--format` of lists: `table`, `table TEMPLATE`, `json`, or a template.

use crate::display::table;
use crate::failure::Failure;
use crate::template::{Template, unescape};
use serde_json::{Map, Value};

/// A column of a list: the template's field and the heading.
pub type Column = (&'static str, &'static str);

/// Renders rows as the flag asks. `standard` is the table's template without the flag. Keys of a row that start with
/// a small letter are for templates only and do not show in JSON.
pub fn list(format: Option<&str>, standard: &str, headings: &[Column], rows: &[Value]) -> Result<String, Failure> {
    let format = format.map(str::trim).filter(|format| !format.is_empty());
    match format {
        Some("json" | "{{json .}}") => lines(rows, |row| Ok(shown(row).to_string())),
        None | Some("table") => tabulate(standard, headings, rows),
        Some(format) => match format.strip_prefix("table ") {
            Some(template) => tabulate(&unescape(template.trim()), headings, rows),
            None => {
                let template = Template::new(&unescape(format))?;
                lines(rows, |row| Ok(template.render(row)?))
            }
        },
    }
}

/// The table of lines whose cells, of these fields, are separated by tabs. Each line ends with a newline.
pub fn table(fields: &[&str], headings: &[Column], lines: &str) -> String {
    let title = |field: &&str| headings.iter().find(|(name, _)| name == field).map_or("", |(_, title)| *title);
    let head = fields.iter().map(title).collect::<Vec<_>>().join("\t");
    table::align(&format!("{head}\n{lines}"))
}

fn lines(rows: &[Value], render: impl Fn(&Value) -> Result<String, Failure>) -> Result<String, Failure> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&render(row)?);
        text.push('\n');
    }
    Ok(text)
}

fn tabulate(template: &str, headings: &[Column], rows: &[Value]) -> Result<String, Failure> {
    let template = Template::new(template)?;
    let mut head: Map<String, Value> =
        headings.iter().map(|(field, title)| ((*field).to_owned(), (*title).into())).collect();
    // The column of `.Label "key"` has no heading.
    head.insert("Label".into(), Map::new().into());
    let mut text = template.render(&Value::Object(head))?;
    text.push('\n');
    text.push_str(&lines(rows, |row| Ok(template.render(row)?))?);
    Ok(table::align(&text))
}

fn shown(row: &Value) -> Value {
    match row {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().filter(|key| *key != "Label").collect();
            // Docker prints the fields of a row by name.
            keys.sort();
            Value::Object(keys.into_iter().map(|key| (key.clone(), map[key].clone())).collect())
        }
        other => other.clone(),
    }
}

/// Renders one object with `--format`; `json` prints it on one line.
pub fn object(format: &str, value: &Value) -> Result<String, Failure> {
    if format == "json" {
        return Ok(value.to_string());
    }
    Ok(Template::new(format)?.render(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows() -> Vec<Value> {
        vec![json!({ "ID": "1", "Names": "a", "Label": { "x": "y" } }), json!({ "ID": "2", "Names": "b", "Label": {} })]
    }

    fn render(format: Option<&str>) -> String {
        list(format, "{{.ID}}\t{{.Names}}", &[("ID", "CONTAINER ID"), ("Names", "NAMES")], &rows()).unwrap()
    }

    #[test]
    fn forms() {
        let table = "CONTAINER ID   NAMES\n1              a\n2              b\n";
        assert_eq!(render(None), table);
        assert_eq!(render(Some("table")), table);
        assert_eq!(render(Some("table {{.Names}}")), "NAMES\na\nb\n");
        assert_eq!(render(Some(r"table {{.Names}}\t{{.ID}}")), "NAMES     CONTAINER ID\na         1\nb         2\n");
        assert_eq!(render(Some("{{.ID}}:{{.Names}}")), "1:a\n2:b\n");
        assert_eq!(render(Some(r#"{{.Label "x"}}"#)), "y\n\n");
        assert_eq!(render(Some("json")), "{\"ID\":\"1\",\"Names\":\"a\"}\n{\"ID\":\"2\",\"Names\":\"b\"}\n");
        assert!(list(Some("{{.Foo}}"), "", &[], &rows()).is_err());
    }
}
