//! Where a machine goes: regions, their aliases, hosts and their room.

use super::{World, reply::Refusal, state::Machine};

/// Regions and the part of the world they are in. [doc]
const REGIONS: [(&str, &str); 18] = [
    ("ams", "eu"),
    ("arn", "eu"),
    ("bom", "apac"),
    ("cdg", "eu"),
    ("dfw", "us"),
    ("ewr", "us"),
    ("fra", "eu"),
    ("gru", "sa"),
    ("iad", "us"),
    ("jnb", "af"),
    ("lax", "us"),
    ("lhr", "eu"),
    ("nrt", "apac"),
    ("ord", "us"),
    ("sin", "apac"),
    ("sjc", "us"),
    ("syd", "apac"),
    ("yyz", "na"),
];

/// Every region.
pub(super) fn regions() -> impl Iterator<Item = (&'static str, &'static str)> {
    REGIONS.into_iter()
}

/// The regions that an expression names, in its order: `iad,us`. Without one the nearest. [doc]
///
/// # Errors
/// A word that is no region. [inf]: as for any other bad argument.
pub(super) fn candidates(expression: &str) -> Result<Vec<&'static str>, Refusal> {
    let mut found: Vec<&'static str> = Vec::new();
    let expression = if expression.trim().is_empty() { "iad" } else { expression };
    for word in expression.split(',').map(str::trim) {
        let fits = |(name, part): (&str, &str)| match word {
            "any" => true,
            "us" | "usa" => part == "us",
            "na" => matches!(part, "us" | "na"),
            "eu" | "sa" | "apac" => part == word,
            _ => name == word,
        };
        let before = found.len();
        let mut known = false;
        for region in REGIONS.into_iter().filter(|region| fits(*region)) {
            known = true;
            if !found.contains(&region.0) {
                found.push(region.0);
            }
        }
        if !known && found.len() == before {
            return Err(Refusal::invalid(format_args!("region {word:?} not found")));
        }
    }
    Ok(found)
}

impl World {
    fn hosts(&self, region: &str) -> impl Iterator<Item = String> {
        let region = region.to_owned();
        (1..=self.habits.hosts.max(1)).map(move |n| format!("{region}-h{n}"))
    }

    /// How many machines take room on a host.
    fn load(&self, host: &str) -> usize {
        self.machines.values().filter(|it| it.host == host && it.state.takes_room()).count()
    }

    /// Whether a host takes one more.
    pub(super) fn has_room(&self, host: &str) -> bool {
        !self.switches.full_hosts.contains(host)
            && self.habits.slots.is_none_or(|slots| self.load(host) < slots)
    }

    /// A host with room in the first region that has one; another than `but`.
    ///
    /// # Errors
    /// No region has room: 422 `insufficient_capacity`. [src]
    pub(super) fn place(
        &self,
        expression: &str,
        but: Option<&str>,
    ) -> Result<(String, String), Refusal> {
        for region in candidates(expression)? {
            if self.switches.full_regions.contains(region) {
                continue;
            }
            // With as much room as you like, counting the load of 10,000 machines is for nothing.
            let spread = self.created_total % self.habits.hosts.max(1);
            let mut hosts: Vec<String> = self.hosts(region).collect();
            hosts.rotate_left(spread);
            if let Some(host) =
                hosts.into_iter().find(|host| Some(host.as_str()) != but && self.has_room(host))
            {
                return Ok((region.to_owned(), host));
            }
        }
        Err(Refusal::coded(
            422,
            "insufficient_capacity",
            "could not find a candidate host with enough resources",
        ))
    }

    /// Whether the host of a machine takes it again: stopped machines reserve nothing. [doc]
    ///
    /// # Errors
    /// 409 without a code. [obs]
    pub(super) fn room_to_start(&self, machine: &Machine) -> Result<(), Refusal> {
        if machine.state.takes_room() || self.has_room(&machine.host) {
            return Ok(());
        }
        Err(Refusal::new(
            409,
            "aborted: could not reserve resource for machine: insufficient memory available to \
             fulfill request",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_name_regions_in_their_order() {
        assert_eq!(candidates("iad").unwrap(), ["iad"]);
        assert_eq!(candidates("ord,us").unwrap()[..2], ["ord", "dfw"]);
        assert_eq!(candidates("us").unwrap().len(), 6);
        assert_eq!(candidates("na").unwrap().len(), 7);
        assert_eq!(candidates("any").unwrap().len(), 18);
        assert_eq!(candidates("").unwrap(), ["iad"]);
        assert_eq!(candidates("us,iad").unwrap().len(), 6, "none twice");
        assert_eq!(candidates("mars").unwrap_err().status, 400);
    }
}
