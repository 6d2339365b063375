//! From what a layer holds to a checked value of a key.

use super::keys::{Key, Kind};
use super::{Error, Result, format_size, parse_size};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// A parsed file before it is held against the schema.
///
/// Its own type, because the ready-made ones quietly keep the last of two equal
/// keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Integer(i128),
    Text(String),
    /// Something no key takes, with its name for the message.
    Other(&'static str),
    Map(Vec<(String, Self)>),
}

impl Node {
    fn shown(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Text(value) => format!("{value:?}"),
            Self::Other(what) => (*what).to_owned(),
            Self::Map(_) => "a section".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a configuration value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Node, E> {
        Ok(Node::Null)
    }

    // A YAML file of comments only is an absent value rather than a null.
    fn visit_none<E>(self) -> std::result::Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Node, E> {
        Ok(Node::Other("a fraction"))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Node, A::Error> {
        while list.next_element::<Node>()?.is_some() {}
        Ok(Node::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Node, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Node>()? {
            if entries.iter().any(|(known, _)| *known == key) {
                return Err(serde::de::Error::custom(format!("{key}: given twice; keep one")));
            }
            entries.push((key, value));
        }
        Ok(Node::Map(entries))
    }
}

impl Key {
    /// The default as a value; `Null` if there is none.
    pub(super) fn default_value(&self) -> Result<Value> {
        self.default.map_or(Ok(Value::Null), |text| self.parse_text(text))
    }

    /// Checks a value from a file.
    pub(super) fn parse_node(&self, node: &Node) -> Result<Value> {
        match (self.kind, node) {
            (Kind::Bool, Node::Bool(value)) => Ok(Value::Bool(*value)),
            (Kind::Count { .. } | Kind::Size { .. }, Node::Integer(value)) => {
                let number = u64::try_from(*value).ok();
                self.in_range(number.ok_or_else(|| self.refused(&node.shown()))?)
            }
            // In a file `yes` and "1" are text: only the environment and flags have nothing but text.
            (Kind::Bool, Node::Text(_)) => Err(self.refused(&node.shown())),
            (_, Node::Text(text)) => self.parse_text(text),
            (_, other) => Err(self.refused(&other.shown())),
        }
    }

    /// Checks a value from the environment, a flag or the table of defaults.
    pub(super) fn parse_text(&self, text: &str) -> Result<Value> {
        match self.kind {
            Kind::Bool => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok(Value::Bool(true)),
                "false" | "no" | "off" | "0" => Ok(Value::Bool(false)),
                _ => Err(self.refused(text)),
            },
            Kind::Count { .. } => {
                self.in_range(text.trim().parse().map_err(|_| self.refused(text))?)
            }
            Kind::Size { .. } => self.in_range(parse_size(text).ok_or_else(|| self.refused(text))?),
            Kind::Choice(choices) => match choices.iter().find(|choice| **choice == text) {
                Some(choice) => Ok(Value::String((*choice).to_owned())),
                None => Err(self.refused(text)),
            },
            Kind::Path if !(text.starts_with('/') || text.starts_with("~/")) => {
                Err(self.refused(text))
            }
            Kind::Text | Kind::Secret | Kind::Path if text.is_empty() || text.contains('\0') => {
                Err(self.refused(text))
            }
            Kind::Text | Kind::Secret | Kind::Path => Ok(Value::String(text.to_owned())),
        }
    }

    fn in_range(&self, number: u64) -> Result<Value> {
        let is_allowed = match self.kind {
            Kind::Count { min, max } => (min..=max).contains(&number),
            Kind::Size { min, max, is_power_of_two } => {
                (min..=max).contains(&number) && (!is_power_of_two || number.is_power_of_two())
            }
            _ => true,
        };
        if is_allowed { Ok(number.into()) } else { Err(self.refused(&number.to_string())) }
    }

    fn refused(&self, value: &str) -> Error {
        let value = match self.kind {
            Kind::Secret => "********".to_owned(),
            _ if value.is_empty() => "an empty value".to_owned(),
            _ => value.to_owned(),
        };
        Error::Value { key: self.name.to_owned(), value, allowed: self.allowed() }
    }

    /// What the key takes, in words.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self.kind {
            Kind::Bool => "true or false".to_owned(),
            Kind::Count { min, max: u64::MAX } => format!("a whole number from {min}"),
            Kind::Count { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Size { min, max, is_power_of_two } => {
                let power = if is_power_of_two { ", a power of two" } else { "" };
                let range = match max {
                    u64::MAX => format!("from {}", format_size(min)),
                    max => format!("from {} to {}", format_size(min), format_size(max)),
                };
                format!("a size in bytes {range}{power} (as \"512 KiB\" or 524288)")
            }
            Kind::Choice(choices) => format!("one of {}", choices.join(", ")),
            Kind::Path => "an absolute path, or one that starts with ~/".to_owned(),
            Kind::Text | Kind::Secret => "text that is not empty, in quotes".to_owned(),
        }
    }
}
