//! Lengths of time as people write them: `90s`, `10m`, `1h30m`, `7d`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time in whole milliseconds, written with units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

/// The units that a [`Span`] takes, longest first, with their milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// The pattern that the JSON Schema publishes.
const PATTERN: &str = r"^([0-9]+(ms|s|m|h|d))+$";

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotASpan {
    /// It cannot be read.
    #[error(
        "`{0}` is no duration; write a number with a unit (ms, s, m, h, d), such as 90s, 10m or \
         1h30m"
    )]
    Unreadable(String),
    /// It can, and no clock counts so far.
    #[error("`{0}` is too long for a duration; write a shorter one, or leave it out")]
    TooLong(String),
}

impl Span {
    /// Its name among the definitions of a JSON Schema.
    pub(super) const NAME: &str = "Duration";

    /// A length of so many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// A length of so many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The length for the standard library.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// The length in milliseconds.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let bad = || NotASpan::Unreadable(text.to_owned());
        let too_long = || NotASpan::TooLong(text.to_owned());
        let mut rest = text;
        let mut millis: Option<u64> = Some(0);
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            if digits == 0 {
                return Err(bad());
            }
            // Digits alone fail only by being too many.
            let number: Option<u64> = rest[..digits].parse().ok();
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let (_, unit) =
                UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(bad)?;
            millis = number
                .and_then(|number| number.checked_mul(*unit))
                .and_then(|part| millis?.checked_add(part));
            rest = &rest[letters..];
        }
        millis.map(Self::from_millis).ok_or_else(too_long)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in UNITS {
            if rest >= millis {
                write!(f, "{}{unit}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        Self::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": PATTERN,
            "description": "A length of time with units, such as 90s, 10m or 1h30m.",
            "examples": ["90s", "10m", "1h30m"],
        })
    }
}
