//! Reading what the bridge prints.

use serde_json::Value;

/// A JSON value whose keys may be written in snake or camel case and whose 64-bit numbers may be strings, as in protobuf's JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Json(pub Value);

impl Json {
    /// Reads one value.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON: {error}\n{text}")))
    }

    /// The value of a key, given in snake case; null when it is not there.
    #[must_use]
    pub fn get(&self, key: &str) -> Self {
        let value = self.0.get(key).or_else(|| self.0.get(camel(key)));
        Self(value.cloned().unwrap_or_default())
    }

    /// The elements of an array; none for anything else.
    #[must_use]
    pub fn items(&self) -> Vec<Self> {
        self.0.as_array().map(|items| items.iter().cloned().map(Self).collect()).unwrap_or_default()
    }

    /// A number, or a number in a string; 0 for null.
    #[must_use]
    pub fn number(&self) -> u64 {
        match &self.0 {
            Value::String(text) => text.parse().unwrap_or_else(|_| panic!("no number: {text}")),
            Value::Null => 0,
            other => other.as_u64().unwrap_or_else(|| panic!("no number: {other}")),
        }
    }

    /// A string; empty for null.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.as_str().unwrap_or_default().to_owned()
    }

    /// The only element of which `key` is `wanted`.
    #[must_use]
    pub fn find(&self, key: &str, wanted: &str) -> Option<Self> {
        self.items().into_iter().find(|item| item.get(key).text() == wanted)
    }
}

fn camel(key: &str) -> String {
    let mut parts = key.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut whole, part| {
        whole.push_str(&part[..1].to_uppercase());
        whole.push_str(&part[1..]);
        whole
    })
}

/// One value a line.
#[must_use]
pub fn parse_jsonl(text: &str) -> Vec<Json> {
    text.lines().map(Json::parse).collect()
}

/// Rows of a CSV with a header and without quotes in its values, as objects of strings.
#[must_use]
pub fn parse_csv(text: &str) -> Vec<Json> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            assert_eq!(cells.len(), header.len(), "cells of {line}");
            let pairs =
                header.iter().zip(cells).map(|(key, cell)| ((*key).to_owned(), Value::from(cell)));
            Json(Value::Object(pairs.collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_spellings() {
        let json = Json::parse(r#"{"servedBytes":"12","held_bytes":3,"list":[{"id":"a"}]}"#);
        assert_eq!(json.get("served_bytes").number(), 12);
        assert_eq!(json.get("held_bytes").number(), 3);
        assert!(json.get("list").find("id", "a").is_some());
        assert!(json.get("list").find("id", "b").is_none());
    }
}
