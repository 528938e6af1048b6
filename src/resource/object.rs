//! The envelope: one generic object, and an enum over all kinds.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{API_VERSION, Agent, Fleet, Job, Metadata, Override, Schedule, Source, Sprite};

/// The kinds that this version has.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Kind {
    /// A conversation partner.
    Agent,
    /// One task, run once.
    Job,
    /// A template and what it is made for.
    Fleet,
    /// Jobs at times.
    Schedule,
    /// A directory or Git repositories that hold desired state.
    Source,
    /// A change, for a time, of an object that a Source owns.
    Override,
    /// One sandbox.
    Sprite,
}

impl Kind {
    /// All kinds, in the order in which tables show them.
    pub const ALL: [Self; 7] = [
        Self::Agent,
        Self::Job,
        Self::Fleet,
        Self::Schedule,
        Self::Source,
        Self::Override,
        Self::Sprite,
    ];

    /// The kind's name, as it stands in `kind:`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "Agent",
            Self::Job => "Job",
            Self::Fleet => "Fleet",
            Self::Schedule => "Schedule",
            Self::Source => "Source",
            Self::Override => "Override",
            Self::Sprite => "Sprite",
        }
    }

    /// The plural, as it stands in URLs.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Agent => "agents",
            Self::Job => "jobs",
            Self::Fleet => "fleets",
            Self::Schedule => "schedules",
            Self::Source => "sources",
            Self::Override => "overrides",
            Self::Sprite => "sprites",
        }
    }

    /// The singular, as it stands in front of a name: `job/NAME`.
    #[must_use]
    pub const fn singular(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Job => "job",
            Self::Fleet => "fleet",
            Self::Schedule => "schedule",
            Self::Source => "source",
            Self::Override => "override",
            Self::Sprite => "sprite",
        }
    }

    /// The short name.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::Agent => "ag",
            Self::Job => "job",
            Self::Fleet => "fl",
            Self::Schedule => "sch",
            Self::Source => "src",
            Self::Override => "ov",
            Self::Sprite => "sp",
        }
    }

    /// Finds a kind by any of its names, whatever the case.
    #[must_use]
    pub fn find(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|kind| [kind.plural(), kind.singular(), kind.short()].contains(&word.as_str()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = WrongKind;

    fn from_str(name: &str) -> Result<Self, WrongKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| WrongKind(name.to_owned()))
    }
}

/// A word that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind; the kinds are Agent, Job, Fleet, Schedule, Source, Override and Sprite")]
pub struct WrongKind(pub String);

/// An object of one kind, without the two members that only name the kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object<S, T> {
    /// What every object carries.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: S,
    /// What is.
    pub status: T,
}

impl<S, T: Default> Object<S, T> {
    /// A new object with a name and nothing observed.
    pub fn new(name: impl Into<String>, spec: S) -> Self {
        Self {
            metadata: Metadata { name: name.into(), ..Metadata::default() },
            spec,
            status: T::default(),
        }
    }
}

/// An object of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyObject {
    /// An Agent.
    Agent(Box<Agent>),
    /// A Job.
    Job(Box<Job>),
    /// A Fleet.
    Fleet(Box<Fleet>),
    /// A Schedule.
    Schedule(Box<Schedule>),
    /// A Source.
    Source(Box<Source>),
    /// An Override.
    Override(Box<Override>),
    /// A Sprite.
    Sprite(Box<Sprite>),
}

impl AnyObject {
    /// The object's kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Agent(_) => Kind::Agent,
            Self::Job(_) => Kind::Job,
            Self::Fleet(_) => Kind::Fleet,
            Self::Schedule(_) => Kind::Schedule,
            Self::Source(_) => Kind::Source,
            Self::Override(_) => Kind::Override,
            Self::Sprite(_) => Kind::Sprite,
        }
    }

    /// What every object carries.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Agent(object) => &object.metadata,
            Self::Job(object) => &object.metadata,
            Self::Fleet(object) => &object.metadata,
            Self::Schedule(object) => &object.metadata,
            Self::Source(object) => &object.metadata,
            Self::Override(object) => &object.metadata,
            Self::Sprite(object) => &object.metadata,
        }
    }

    /// What every object carries, to change.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        match self {
            Self::Agent(object) => &mut object.metadata,
            Self::Job(object) => &mut object.metadata,
            Self::Fleet(object) => &mut object.metadata,
            Self::Schedule(object) => &mut object.metadata,
            Self::Source(object) => &mut object.metadata,
            Self::Override(object) => &mut object.metadata,
            Self::Sprite(object) => &mut object.metadata,
        }
    }

    /// The object as JSON, with `apiVersion` and `kind` first.
    #[must_use]
    pub fn to_json(&self) -> Value {
        fn parts<S: Serialize, T: Serialize>(object: &Object<S, T>) -> [(&'static str, Value); 3] {
            // Serialising these types cannot fail: no maps with other keys than strings, no
            // serializer of our own that refuses.
            [
                ("metadata", serde_json::to_value(&object.metadata).unwrap_or_default()),
                ("spec", serde_json::to_value(&object.spec).unwrap_or_default()),
                ("status", serde_json::to_value(&object.status).unwrap_or_default()),
            ]
        }
        let parts = match self {
            Self::Agent(object) => parts(object),
            Self::Job(object) => parts(object),
            Self::Fleet(object) => parts(object),
            Self::Schedule(object) => parts(object),
            Self::Source(object) => parts(object),
            Self::Override(object) => parts(object),
            Self::Sprite(object) => parts(object),
        };
        let mut map = serde_json::Map::new();
        map.insert("apiVersion".to_owned(), API_VERSION.into());
        map.insert("kind".to_owned(), self.kind().name().into());
        for (name, value) in parts {
            map.insert(name.to_owned(), value);
        }
        Value::Object(map)
    }

    /// Reads an object from JSON that is known to be good, such as the store's own. Text from
    /// people goes through [`super::decode`], which says where and why.
    ///
    /// # Errors
    /// The first fault that serde meets.
    pub fn from_json(kind: Kind, mut json: Value) -> Result<Self, serde_json::Error> {
        fn read<S, T>(json: &mut Value) -> Result<Box<Object<S, T>>, serde_json::Error>
        where
            S: DeserializeOwned,
            T: DeserializeOwned + Default,
        {
            let status = match json.get_mut("status") {
                None | Some(Value::Null) => T::default(),
                Some(status) => serde_json::from_value(status.take())?,
            };
            let metadata = serde_json::from_value(json["metadata"].take())?;
            let spec = serde_json::from_value(json["spec"].take())?;
            Ok(Box::new(Object { metadata, spec, status }))
        }
        Ok(match kind {
            Kind::Agent => Self::Agent(read(&mut json)?),
            Kind::Job => Self::Job(read(&mut json)?),
            Kind::Fleet => Self::Fleet(read(&mut json)?),
            Kind::Schedule => Self::Schedule(read(&mut json)?),
            Kind::Source => Self::Source(read(&mut json)?),
            Kind::Override => Self::Override(read(&mut json)?),
            Kind::Sprite => Self::Sprite(read(&mut json)?),
        })
    }

    /// The Agent, if it is one.
    #[must_use]
    pub fn into_agent(self) -> Option<Agent> {
        if let Self::Agent(object) = self { Some(*object) } else { None }
    }

    /// The Job, if it is one.
    #[must_use]
    pub fn into_job(self) -> Option<Job> {
        if let Self::Job(object) = self { Some(*object) } else { None }
    }

    /// The Fleet, if it is one.
    #[must_use]
    pub fn into_fleet(self) -> Option<Fleet> {
        if let Self::Fleet(object) = self { Some(*object) } else { None }
    }

    /// The Schedule, if it is one.
    #[must_use]
    pub fn into_schedule(self) -> Option<Schedule> {
        if let Self::Schedule(object) = self { Some(*object) } else { None }
    }

    /// The Source, if it is one.
    #[must_use]
    pub fn into_source(self) -> Option<Source> {
        if let Self::Source(object) = self { Some(*object) } else { None }
    }

    /// The Override, if it is one.
    #[must_use]
    pub fn into_override(self) -> Option<Override> {
        if let Self::Override(object) = self { Some(*object) } else { None }
    }

    /// The Sprite, if it is one.
    #[must_use]
    pub fn into_sprite(self) -> Option<Sprite> {
        if let Self::Sprite(object) = self { Some(*object) } else { None }
    }
}

impl From<Agent> for AnyObject {
    fn from(object: Agent) -> Self {
        Self::Agent(Box::new(object))
    }
}

impl From<Job> for AnyObject {
    fn from(object: Job) -> Self {
        Self::Job(Box::new(object))
    }
}

impl From<Fleet> for AnyObject {
    fn from(object: Fleet) -> Self {
        Self::Fleet(Box::new(object))
    }
}

impl From<Schedule> for AnyObject {
    fn from(object: Schedule) -> Self {
        Self::Schedule(Box::new(object))
    }
}

impl From<Source> for AnyObject {
    fn from(object: Source) -> Self {
        Self::Source(Box::new(object))
    }
}

impl From<Override> for AnyObject {
    fn from(object: Override) -> Self {
        Self::Override(Box::new(object))
    }
}

impl From<Sprite> for AnyObject {
    fn from(object: Sprite) -> Self {
        Self::Sprite(Box::new(object))
    }
}
