//! One place of a JSON Schema, as a person would name it.

use serde_json::Value;

/// How lines begin that say a fact of a field.
pub(super) const FACTS: [&str; 3] = ["Default: ", "One of: ", "Always: "];

/// A field.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    /// The schema of the whole kind, in which references lead.
    root: &'a Value,
    /// What stands at the field itself: its own description and default.
    own: &'a Value,
    /// What its type says, behind all references.
    shape: &'a Value,
    /// What it is called.
    pub(super) name: String,
    /// Whether it must be there.
    pub(super) required: bool,
}

impl<'a> Field<'a> {
    /// The whole of a kind.
    pub(super) fn root(root: &'a Value) -> Self {
        Self { root, own: root, shape: root, name: String::new(), required: true }
    }

    fn of(root: &'a Value, own: &'a Value, name: &str, required: bool) -> Self {
        Self { root, own, shape: behind(root, own), name: name.to_owned(), required }
    }

    /// A field of it, through lists as well.
    pub(super) fn member(&self, name: &str) -> Option<Self> {
        self.members().into_iter().find(|member| member.name == name)
    }

    /// Its fields; those of its elements, where it is a list.
    pub(super) fn members(&self) -> Vec<Self> {
        let shape = self.element();
        if let Some(variants) = variants(shape) {
            return variants
                .iter()
                .map(|variant| behind(self.root, variant))
                .flat_map(|variant| self.properties(variant))
                // None of them must be there: another one may be.
                .map(|member| Self { required: false, ..member })
                .collect();
        }
        self.properties(shape)
    }

    fn properties(&self, shape: &'a Value) -> Vec<Self> {
        let required = shape["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        shape["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, own)| {
                let required = required.iter().any(|it| it == name) && own["default"].is_null();
                Self::of(self.root, own, name, required)
            })
            .map(|mut member| {
                // The one member of a variant is explained by its variant.
                if member.own["description"].is_null() && shape["description"].is_string() {
                    member.own = shape;
                }
                member
            })
            .collect()
    }

    /// Whether exactly one of its fields is there.
    pub(super) fn is_union(&self) -> bool {
        variants(self.element()).is_some()
    }

    /// The type behind lists.
    fn element(&self) -> &'a Value {
        let mut shape = self.shape;
        while shape["type"] == "array" {
            shape = behind(self.root, &shape["items"]);
        }
        shape
    }

    /// Its type, in few words.
    pub(super) fn type_name(&self) -> String {
        type_name(self.root, self.shape)
    }

    /// What it is.
    pub(super) fn about(&self) -> String {
        let text = |schema: &Value| schema["description"].as_str().map(str::to_owned);
        text(self.own).or_else(|| text(self.shape)).unwrap_or_default()
    }

    /// What it is by default, and what it can be.
    pub(super) fn facts(&self) -> Vec<String> {
        let mut facts = Vec::new();
        let default = [self.own, self.shape].into_iter().map(|schema| &schema["default"]);
        if let Some(default) = default.into_iter().find(|default| !default.is_null()) {
            facts.push(format!("{}{}", FACTS[0], plain(default)));
        }
        let words = words(self.element());
        if !words.is_empty() {
            facts.push(format!("{}{}", FACTS[1], words.join(", ")));
        }
        if let value @ Value::String(_) = &self.shape["const"] {
            facts.push(format!("{}{}", FACTS[2], plain(value)));
        }
        facts
    }
}

/// What a schema says, behind references and wrappers with a single member.
fn behind<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    loop {
        let next = match (schema["$ref"].as_str(), &schema["allOf"], &schema["anyOf"]) {
            (Some(reference), _, _) => root.pointer(&reference[1..]),
            (None, Value::Array(all), _) if all.len() == 1 => all.first(),
            (None, _, Value::Array(any)) if any.len() == 1 => any.first(),
            _ => None,
        };
        match next {
            Some(next) => schema = next,
            None => return schema,
        }
    }
}

/// The variants of a union of objects.
fn variants(shape: &Value) -> Option<&Vec<Value>> {
    let variants = shape["oneOf"].as_array()?;
    let is_object =
        |variant: &Value| variant["type"] == "object" || variant["properties"].is_object();
    variants.iter().all(is_object).then_some(variants)
}

/// The words that a text can be.
fn words(shape: &Value) -> Vec<String> {
    let list = |value: &Value| {
        let list = value.as_array().cloned().unwrap_or_default();
        list.iter().map(plain).collect::<Vec<_>>()
    };
    let mut words = list(&shape["enum"]);
    for variant in shape["oneOf"].as_array().into_iter().flatten() {
        if variant["const"].is_string() {
            words.push(plain(&variant["const"]));
        }
        words.extend(list(&variant["enum"]));
    }
    words
}

fn type_name(root: &Value, shape: &Value) -> String {
    let shape = behind(root, shape);
    match shape["type"].as_str() {
        Some("array") => format!("[]{}", type_name(root, &shape["items"])),
        Some("object") => match &shape["additionalProperties"] {
            values @ Value::Object(_) if !shape["properties"].is_object() => {
                format!("map[string]{}", type_name(root, values))
            }
            _ => "Object".to_owned(),
        },
        Some(name) => name.to_owned(),
        None if variants(shape).is_some() => "Object".to_owned(),
        None if !words(shape).is_empty() || shape["const"].is_string() => "string".to_owned(),
        None => "any".to_owned(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
