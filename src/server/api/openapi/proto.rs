//! The OpenAPI document of version 2 in the form that kubectl reads: protocol buffers.
//!
//! kubectl asks for this form alone, and reads nothing else; before version 1.27 it checks and
//! explains by it. The numbers are those of the messages of gnostic's `openapiv2`.

use serde_json::{Map, Value};

/// A message, as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(u64::try_from(bytes.len()).unwrap_or_default());
        self.0.extend_from_slice(bytes);
    }

    /// A text; nothing where there is none.
    fn text(&mut self, field: u32, value: &Value) {
        if let Some(text) = value.as_str() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u32, value: &Value) {
        value.as_array().into_iter().flatten().for_each(|item| self.text(field, item));
    }

    fn flag(&mut self, field: u32, value: &Value) {
        if value == true {
            self.varint(u64::from(field) << 3);
            self.varint(1);
        }
    }

    fn double(&mut self, field: u32, value: &Value) {
        if let Some(number) = value.as_f64() {
            self.varint(u64::from(field) << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn message(&mut self, field: u32, message: &Self) {
        self.bytes(field, &message.0);
    }

    /// Any value, as the YAML that JSON is.
    fn any(&mut self, field: u32, value: &Value) {
        let mut any = Self::default();
        any.bytes(2, value.to_string().as_bytes());
        self.message(field, &any);
    }

    /// What has a name: a member of a map.
    fn named(&mut self, field: u32, name: &str, value: &Self) {
        let mut named = Self::default();
        named.bytes(1, name.as_bytes());
        named.message(2, value);
        self.message(field, &named);
    }

    /// The members whose names begin with `x-`.
    fn extensions(&mut self, field: u32, map: &Value) {
        for (name, value) in members(map).filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Self::default();
            any.bytes(2, value.to_string().as_bytes());
            self.named(field, name, &any);
        }
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// Writes a document of version 2.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut whole = Message::default();
    whole.text(1, &document["swagger"]);
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(2, &document["info"]["version"]);
    info.text(3, &document["info"]["description"]);
    whole.message(2, &info);
    let mut paths = Message::default();
    for (path, item) in members(&document["paths"]) {
        paths.named(2, path, &path_item(item));
    }
    whole.message(8, &paths);
    let mut definitions = Message::default();
    for (name, schema) in members(&document["definitions"]) {
        definitions.named(1, name, &self::schema(schema));
    }
    whole.message(9, &definitions);
    whole.0
}

fn path_item(item: &Value) -> Message {
    let mut message = Message::default();
    for (method, field) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(operation) = item.get(method) {
            message.message(field, &self::operation(operation));
        }
    }
    for parameter in item["parameters"].as_array().into_iter().flatten() {
        message.message(9, &parameters_item(parameter));
    }
    message
}

fn operation(operation: &Value) -> Message {
    let mut message = Message::default();
    message.text(3, &operation["description"]);
    message.text(5, &operation["operationId"]);
    message.texts(6, &operation["produces"]);
    message.texts(7, &operation["consumes"]);
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        message.message(8, &parameters_item(parameter));
    }
    let mut responses = Message::default();
    for (code, answer) in members(&operation["responses"]) {
        let mut response = Message::default();
        response.text(1, &answer["description"]);
        let mut item = Message::default();
        item.message(1, &schema(&answer["schema"]));
        response.message(2, &item);
        let mut value = Message::default();
        value.message(1, &response);
        responses.named(1, code, &value);
    }
    message.message(9, &responses);
    message.extensions(13, operation);
    message
}

fn parameters_item(parameter: &Value) -> Message {
    let mut described = Message::default();
    if parameter["in"] == "body" {
        let mut body = Message::default();
        body.text(2, &parameter["name"]);
        body.text(3, &parameter["in"]);
        body.flag(4, &parameter["required"]);
        body.message(5, &schema(&parameter["schema"]));
        described.message(1, &body);
    } else {
        let query = parameter["in"] == "query";
        let mut plain = Message::default();
        plain.flag(1, &parameter["required"]);
        plain.text(2, &parameter["in"]);
        plain.text(3, &parameter["description"]);
        plain.text(4, &parameter["name"]);
        // Only those of a query may be empty, and so their numbers go on one later.
        let later = u32::from(query);
        plain.text(5 + later, &parameter["type"]);
        plain.double(12 + later, &parameter["minimum"]);
        for word in parameter["enum"].as_array().into_iter().flatten() {
            plain.any(20 + later, word);
        }
        let mut one_of = Message::default();
        one_of.message(if query { 3 } else { 4 }, &plain);
        described.message(2, &one_of);
    }
    let mut item = Message::default();
    item.message(1, &described);
    item
}

fn schema(schema: &Value) -> Message {
    let mut message = Message::default();
    message.text(1, &schema["$ref"]);
    message.text(2, &schema["format"]);
    message.text(4, &schema["description"]);
    if let Some(default) = schema.get("default") {
        message.any(5, default);
    }
    message.double(7, &schema["maximum"]);
    message.double(9, &schema["minimum"]);
    message.text(13, &schema["pattern"]);
    message.texts(19, &schema["required"]);
    for word in schema["enum"].as_array().into_iter().flatten() {
        message.any(20, word);
    }
    if let Some(rest) = schema.get("additionalProperties") {
        let mut item = Message::default();
        item.message(1, &self::schema(rest));
        message.message(21, &item);
    }
    if schema["type"].is_string() {
        let mut sort = Message::default();
        sort.text(1, &schema["type"]);
        message.message(22, &sort);
    }
    if let Some(items) = schema.get("items") {
        let mut item = Message::default();
        item.message(1, &self::schema(items));
        message.message(23, &item);
    }
    if schema["properties"].is_object() {
        let mut properties = Message::default();
        for (name, member) in members(&schema["properties"]) {
            properties.named(1, name, &self::schema(member));
        }
        message.message(25, &properties);
    }
    if let Some(example) = schema.get("example") {
        message.any(30, example);
    }
    message.extensions(31, schema);
    message
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_texts_are_written_as_protocol_buffers_write_them() {
        let mut message = Message::default();
        message.text(1, &json!("ab"));
        message.flag(4, &json!(true));
        message.flag(5, &json!(false));
        message.double(9, &json!(1.0));
        message.varint(300);
        assert_eq!(
            message.0,
            [0x0a, 2, b'a', b'b', 0x20, 1, 0x49, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0xac, 2]
        );
        let mut named = Message::default();
        named.extensions(31, &json!({"x-a": [1], "b": 2}));
        assert_eq!(
            named.0,
            [0xfa, 1, 12, 0x0a, 3, b'x', b'-', b'a', 0x12, 5, 0x12, 3, b'[', b'1', b']']
        );
    }
}
