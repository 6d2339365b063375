//! Results for people and for scripts.

use crate::config::format_size;
use serde_json::Value;

/// Prints a result: as JSON for scripts, as indented lines for people.
pub(super) fn print(value: &Value, is_json: bool) {
    if is_json {
        println!("{}", json_text(value));
    } else {
        print!("{}", lines(value, 0));
    }
}

/// JSON that does nothing to a terminal: between its strings are spaces and line ends only.
fn json_text(value: &Value) -> String {
    let escape = |c: char| match c {
        '\n' => "\n".to_owned(),
        c if is_obeyed(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("{value:#}").chars().map(escape).collect()
}

/// One line that can be shown, whatever is in it: names and messages come from elsewhere.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { ' ' } else { c }).collect()
}

/// Whether a terminal obeys the character instead of showing it: control characters, and
/// those that turn the direction of the text around.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One line per value. What a name says about its unit is said in words.
fn lines(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(entries) => entries
            .iter()
            .map(|(name, value)| {
                let label = label(name);
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        format!("{indent}{label}:\n{}", lines(value, depth + 1))
                    }
                    Value::Array(items) if !items.is_empty() => {
                        format!("{indent}{label}:\n{}", lines(value, depth + 1))
                    }
                    _ => format!("{indent}{label}: {}\n", scalar(name, value)),
                }
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::Object(_) | Value::Array(_) => lines(item, depth),
                _ => format!("{indent}{}\n", scalar("", item)),
            })
            .collect::<Vec<_>>()
            .join(if items.iter().any(Value::is_object) { "\n" } else { "" }),
        _ => format!("{indent}{}\n", scalar("", value)),
    }
}

fn label(name: &str) -> String {
    let name =
        ["_bytes", "_ms", "_s"].iter().find_map(|unit| name.strip_suffix(unit)).unwrap_or(name);
    name.strip_prefix("is_").unwrap_or(name).replace('_', " ")
}

fn scalar(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Object(_) | Value::Array(_) => "none".to_owned(),
        Value::String(text) => one_line(text),
        Value::Number(number) => match number.as_u64() {
            Some(bytes) if is_size(name) => format_size(bytes),
            _ if name.ends_with("_ms") => format!("{number} ms"),
            _ if name.ends_with("_s") => format!("{number} s"),
            _ => number.to_string(),
        },
    }
}

fn is_size(name: &str) -> bool {
    ["_bytes", "_size", "size_max", "memory_max", "dirty_max"]
        .iter()
        .any(|unit| name.ends_with(unit))
        || name == "bytes"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_escaped_where_a_terminal_would_obey() {
        let value = json!({ "a": "\u{1b}[2J\u{9b}\u{7f}\u{202e}\n", "b": [1, "ä"] });
        let text = json_text(&value);
        assert!(text.is_ascii() || text.contains('ä'));
        assert!(text.chars().all(|c| c == '\n' || !is_obeyed(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert_eq!(one_line("a\u{202e}b\nc"), "a b c");
    }

    #[test]
    fn writes_for_people() {
        let value = json!({
            "dirty_bytes": 3 << 20,
            "is_read_only": false,
            "cache": { "hits": 3, "age_s": 5 },
            "last_error": null,
            "problems": ["a\u{1b}[2J", "b"],
            "queue": [],
            "slots": [{"id": 1}, {"id": 2}],
        });
        let text = lines(&value, 0);
        for line in [
            "dirty: 3 MiB\n",
            "read only: no\n",
            "cache:\n  age: 5 s\n  hits: 3\n",
            "last error: -\n",
            "problems:\n  a [2J\n  b\n",
            "queue: none\n",
            "slots:\n  id: 1\n\n  id: 2\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
    }
}
