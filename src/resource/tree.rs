//! A document as it was written: order, doubles and places kept.
//!
//! Everything that finds faults walks this tree and not the typed objects, because a typed
//! object exists only once there are no faults, and because a place is lost in it. JSON gives
//! the same tree, without places.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Number, Value};
use serde_saphyr::Spanned;

use super::{Fault, fault::printable};

/// A place in a text; 0 where it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    line: u32,
    column: u32,
}

impl Place {
    /// A fault at this place.
    pub(super) fn fault(self, path: impl Into<String>, message: impl Into<String>) -> Fault {
        let known = |n: u32| (n > 0).then_some(n);
        let (path, message) = (printable(&path.into()), printable(&message.into()));
        Fault { line: known(self.line), column: known(self.column), ..Fault::new(path, message) }
    }

    /// `line N`, where it is known.
    pub(super) fn line(self) -> Option<u32> {
        (self.line > 0).then_some(self.line)
    }
}

impl From<serde_saphyr::Location> for Place {
    fn from(location: serde_saphyr::Location) -> Self {
        let cut = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: cut(location.line()), column: cut(location.column()) }
    }
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) shape: Shape,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Member>),
}

/// A member of a map and where its key begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) node: Node,
}

impl Node {
    /// A member of a map. A member that is null counts as absent, as it does for Kubernetes.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.members().iter().rev().find(|m| m.key == key).map(|m| &m.node).filter(|n| !n.is_null())
    }

    /// What stands behind a chain of keys.
    pub(super) fn at(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    pub(super) fn members(&self) -> &[Member] {
        if let Shape::Map(members) = &self.shape { members } else { &[] }
    }

    pub(super) fn items(&self) -> &[Self] {
        if let Shape::List(items) = &self.shape { items } else { &[] }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Shape::Text(text) = &self.shape { Some(text) } else { None }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.shape, Shape::Map(_))
    }

    pub(super) fn is_null(&self) -> bool {
        self.shape == Shape::Null
    }

    /// A fault where this value stands.
    pub(super) fn fault(&self, path: impl Into<String>, message: impl Into<String>) -> Fault {
        self.place.fault(path, message)
    }

    /// The tree as plain JSON: no places, no nulls in maps, the last of doubles.
    pub(super) fn to_value(&self) -> Value {
        match &self.shape {
            Shape::Null => Value::Null,
            Shape::Bool(flag) => Value::Bool(*flag),
            Shape::Number(number) => Value::Number(number.clone()),
            Shape::Text(text) => Value::String(text.clone()),
            Shape::List(items) => items.iter().map(Self::to_value).collect(),
            Shape::Map(members) => members
                .iter()
                .filter(|member| !member.node.is_null())
                .map(|member| (member.key.clone(), member.node.to_value()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    /// The tree as a merge patch: as [`Node::to_value`], but with the nulls, which take members away.
    pub(super) fn to_patch(&self) -> serde_json::Map<String, Value> {
        fn value(node: &Node) -> Value {
            match &node.shape {
                Shape::Map(_) => node.to_patch().into(),
                _ => node.to_value(),
            }
        }
        self.members().iter().map(|member| (member.key.clone(), value(&member.node))).collect()
    }

    /// What this is, for people: "found ...".
    pub(super) fn describe(&self) -> String {
        const LONGEST: usize = 40;
        match &self.shape {
            Shape::Null => "nothing".to_owned(),
            Shape::Bool(flag) => flag.to_string(),
            Shape::Number(number) => format!("the number {number}"),
            Shape::Text(text) if text.chars().count() > LONGEST => {
                let start: String = text.chars().take(LONGEST).collect();
                format!("the text {start:?}...")
            }
            Shape::Text(text) => format!("the text {text:?}"),
            Shape::List(_) => "a list".to_owned(),
            Shape::Map(_) => "an object".to_owned(),
        }
    }
}

impl From<Shape> for Node {
    fn from(shape: Shape) -> Self {
        Self { place: Place::default(), shape }
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self::from(match value {
            Value::Null => Shape::Null,
            Value::Bool(flag) => Shape::Bool(flag),
            Value::Number(number) => Shape::Number(number),
            Value::String(text) => Shape::Text(text),
            Value::Array(items) => Shape::List(items.into_iter().map(Self::from).collect()),
            Value::Object(map) => Shape::Map(
                map.into_iter()
                    .map(|(key, value)| Member {
                        place: Place::default(),
                        key,
                        node: Self::from(value),
                    })
                    .collect(),
            ),
        })
    }
}

/// Reads a tree from a text with places, which only the YAML reader knows.
pub(super) struct Placed(pub(super) Node);
/// Reads a tree without places, by any other reader.
pub(super) struct Plain(pub(super) Node);

impl<'de> Deserialize<'de> for Placed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Raw<Self>>::deserialize(deserializer)?;
        Ok(Self(Node { place: spanned.referenced.into(), shape: spanned.value.0 }))
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Raw::<Self>::deserialize(deserializer).map(|raw| Self(raw.0.into()))
    }
}

/// A way to read nodes and keys.
trait Reading<'de>: Deserialize<'de> {
    type Key: Deserialize<'de>;
    fn key(key: Self::Key) -> (Place, String);
    fn node(self) -> Node;
}

impl<'de> Reading<'de> for Placed {
    type Key = Spanned<String>;

    fn key(key: Self::Key) -> (Place, String) {
        (key.referenced.into(), key.value)
    }

    fn node(self) -> Node {
        self.0
    }
}

impl<'de> Reading<'de> for Plain {
    type Key = String;

    fn key(key: Self::Key) -> (Place, String) {
        (Place::default(), key)
    }

    fn node(self) -> Node {
        self.0
    }
}

/// A shape whose children are read one way or the other.
struct Raw<R>(Shape, PhantomData<R>);

impl<'de, R: Reading<'de>> Deserialize<'de> for Raw<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let shape = deserializer.deserialize_any(ShapeVisitor(PhantomData::<R>))?;
        Ok(Self(shape, PhantomData))
    }
}

struct ShapeVisitor<R>(PhantomData<R>);

impl<'de, R: Reading<'de>> Visitor<'de> for ShapeVisitor<R> {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON knows")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Shape, E> {
        Ok(Shape::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Shape, E> {
        Ok(Shape::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Shape, E> {
        Ok(Shape::Number(number.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Shape, E> {
        Number::from_f64(number)
            .map(Shape::Number)
            .ok_or_else(|| E::custom(format!("{number} is no number that JSON knows")))
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Shape, E> {
        Ok(Shape::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element::<R>()? {
            items.push(item.node());
        }
        Ok(Shape::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Shape, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = access.next_key()? {
            let (place, key) = R::key(key);
            members.push(Member { place, key, node: access.next_value::<R>()?.node() });
        }
        Ok(Shape::Map(members))
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.shape {
            Shape::Null => serializer.serialize_unit(),
            Shape::Bool(flag) => serializer.serialize_bool(*flag),
            Shape::Number(number) => number.serialize(serializer),
            Shape::Text(text) => serializer.serialize_str(text),
            Shape::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Shape::Map(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for member in members {
                    map.serialize_entry(&member.key, &member.node)?;
                }
                map.end()
            }
        }
    }
}
