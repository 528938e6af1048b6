//! When a Schedule is due: a cron line read in a time zone. Pure, save that a zone's rules are read from
//! the machine's own database: so a document can be good on one machine and name a zone that another does
//! not know, and it is the server's that counts. The machine's own zone is never asked for.
//!
//! A line that names its hours and minutes, one or several, means times of day; one that says `*` for
//! either means an interval, as cron has it. Where clocks go forward, a time of day that does not exist
//! is due at the first minute that does, and an interval skips what does not exist. Where they go back, a
//! time of day that comes twice is due the first time alone, and an interval both times.
//!
//! So an interval is searched along real time. Times of day are searched on a clock without a zone, where
//! each day has all of its minutes, and then placed in real time. That keeps their order, save that all
//! that lie in one gap become one.

use croner::{
    Cron as Line,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    Timestamp, Zoned,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

/// The longest line that is read.
const LONGEST: usize = 256;

/// A cron line in a time zone.
#[derive(Debug, Clone)]
pub struct Cron {
    line: Line,
    zone: TimeZone,
}

/// Why there are no due minutes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCron {
    /// Not five fields.
    #[error(
        "has {0} fields; write five (minute, hour, day of month, month, day of week), or one word \
         such as @daily"
    )]
    Fields(usize),
    /// A word that means no time.
    #[error("{0} means no time; there are @yearly, @monthly, @weekly, @daily and @hourly")]
    Word(String),
    /// A field that cannot be read.
    #[error("is no cron line: {0}")]
    Malformed(String),
    /// Longer than any line that means something.
    #[error("is {0} bytes long; the most is {LONGEST}")]
    TooLong(usize),
    /// A date that no year has.
    #[error("is never due: there is no such date; mend the day of month or the month")]
    Never,
    /// No such zone.
    #[error(
        "`{0}` is no time zone that the server's database knows; write an IANA name such as \
         Europe/Berlin, or UTC"
    )]
    Zone(String),
}

/// Reads a time zone's name; UTC where there is none.
///
/// # Errors
/// [`BadCron::Zone`].
pub fn zone(name: Option<&str>) -> Result<TimeZone, BadCron> {
    match name {
        None => Ok(TimeZone::UTC),
        // A word such as `local` would mean another zone on another server.
        Some(name) => TimeZone::get(name).map_err(|_| BadCron::Zone(name.to_owned())),
    }
}

impl Cron {
    /// Reads a line, in the zone of this name; in UTC where there is none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(line: &str, zone: Option<&str>) -> Result<Self, BadCron> {
        Self::within(line, self::zone(zone)?)
    }

    /// Reads a line, in a zone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn within(line: &str, zone: TimeZone) -> Result<Self, BadCron> {
        if line.len() > LONGEST {
            return Err(BadCron::TooLong(line.len()));
        }
        let fields = line.split_whitespace().count();
        let is_word = fields == 1 && line.trim_start().starts_with('@');
        if fields != 5 && !is_word {
            return Err(BadCron::Fields(fields));
        }
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let line = parser.parse(line).map_err(|error| match is_word {
            true => BadCron::Word(line.trim().to_owned()),
            false => BadCron::Malformed(plain(&error)),
        })?;
        let cron = Self { line, zone };
        // Years repeat: what is not due after this time is due at none.
        match cron.next(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(cron),
            None => Err(BadCron::Never),
        }
    }

    /// The first due minute behind a time.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let from = after.to_zoned(self.zone.clone());
        if !self.names_times_of_day() {
            let next = self.line.find_next_occurrence(&from, false).ok()?.timestamp();
            return (next > after).then_some(next);
        }
        let mut clock = from.datetime();
        loop {
            clock = self.line.find_next_occurrence(&clock, false).ok()?;
            let next = self.place(clock)?;
            // What a clock that went back shows again was due the first time.
            if next > after {
                return Some(next);
            }
        }
    }

    /// The last due minute behind a time, up to another one.
    #[must_use]
    pub fn last(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        if until <= after {
            return None;
        }
        let from = until.to_zoned(self.zone.clone());
        let last = match self.names_times_of_day() {
            true => self.last_time_of_day(&from)?,
            false => self.line.find_previous_occurrence(&from, true).ok()?.timestamp(),
        };
        (after < last && last <= until).then_some(last)
    }

    fn last_time_of_day(&self, until: &Zoned) -> Option<Timestamp> {
        let shown = until.datetime();
        // While the clock shows an hour again, what it showed behind that time has been due as well.
        let furthest = match self.zone.to_ambiguous_timestamp(shown).offset() {
            AmbiguousOffset::Fold { before, .. } => before.to_datetime(until.timestamp()),
            _ => shown,
        };
        let mut clock = self.line.find_previous_occurrence(&furthest, true).ok()?;
        loop {
            let last = self.place(clock)?;
            if last <= until.timestamp() {
                return Some(last);
            }
            clock = self.line.find_previous_occurrence(&clock, false).ok()?;
        }
    }

    /// Whether it names hours and minutes, and says `*` for neither.
    fn names_times_of_day(&self) -> bool {
        let pattern = &self.line.pattern;
        !pattern.minutes.from_wildcard && !pattern.hours.from_wildcard
    }

    /// When the zone's clocks show a time first; when they have passed it, where they never do.
    fn place(&self, clock: DateTime) -> Option<Timestamp> {
        let placed = self.zone.to_ambiguous_timestamp(clock);
        match placed.offset() {
            AmbiguousOffset::Gap { after, .. } => {
                // Read with the offset of behind the gap, the time lies before the gap's end.
                let before = placed.earlier().ok()?;
                let mut changes = self.zone.following(before);
                changes.find(|change| change.offset() == after).map(|change| change.timestamp())
            }
            _ => placed.earlier().ok(),
        }
    }

    /// How many due minutes lie behind a time, up to another one; not counted past `most`.
    #[must_use]
    pub fn count(&self, after: Timestamp, until: Timestamp, most: usize) -> usize {
        let mut due = std::iter::successors(Some(after), |last| self.next(*last)).skip(1);
        due.by_ref().take_while(|next| *next <= until).take(most).count()
    }
}

/// A fault in the words of the reader, as a part of a sentence.
fn plain(error: &croner::errors::CronError) -> String {
    use croner::errors::CronError;
    match error {
        CronError::InvalidPattern(why)
        | CronError::IllegalCharacters(why)
        | CronError::ComponentError(why) => why.trim_end_matches('.').to_owned(),
        other => other.to_string().trim_end_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn cron(line: &str, zone: &str) -> Cron {
        Cron::read(line, Some(zone)).unwrap()
    }

    fn due(line: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
        let cron = cron(line, zone);
        std::iter::successors(cron.next(at(from)), |last| cron.next(*last))
            .take_while(|next| *next <= at(until))
            .map(|next| next.to_string())
            .collect()
    }

    fn zones() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "America/Sao_Paulo",
            "Asia/Kathmandu",
            "America/Nuuk",
            "Africa/Casablanca",
        ])
    }

    #[test]
    fn a_bad_line_is_refused_with_the_mend() {
        let lines = [
            "",
            "* * * *",
            "* * * * * *",
            "0 0 30 2 *",
            "0 0 31 4,6,9,11 *",
            "61 * * * *",
            "@never",
            "a b c d e",
            "*/0 * * * *",
        ];
        let mut text = String::new();
        for line in lines {
            text.push_str(&format!("{line:<18} {}\n", Cron::read(line, None).unwrap_err()));
        }
        text.push_str(&format!("{}\n", Cron::read("@daily", Some("Mars/Olympus")).unwrap_err()));
        text.push_str(&format!("{}\n", Cron::read(&"*".repeat(300), None).unwrap_err()));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_29th_of_february_is_due_although_years_go_by() {
        assert_eq!(
            due("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", "2105-01-01T00:00:00Z"),
            ["2104-02-29T00:00:00Z"]
        );
    }

    #[test]
    fn a_time_of_day_in_a_gap_is_due_when_the_gap_ends() {
        // 2026-03-29 02:00 becomes 03:00 in Berlin.
        let days = ("2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(
            due("30 2 * * *", "Europe/Berlin", days.0, days.1),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
    }

    #[test]
    fn each_of_several_times_of_day_in_a_gap_is_due_when_the_gap_ends() {
        let days = ("2026-03-28T18:00:00Z", "2026-03-29T20:00:00Z");
        let spring = |line| due(line, "Europe/Berlin", days.0, days.1);
        assert_eq!(spring("30 2,14 * * *"), ["2026-03-29T01:00:00Z", "2026-03-29T12:30:00Z"]);
        // Two in the gap, and the one at its end, are one minute.
        assert_eq!(spring("0,30 2 * * *"), ["2026-03-29T01:00:00Z"]);
        assert_eq!(
            spring("0 1-4 * * *"),
            ["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]
        );
        // An hour on, in a year that the zone's table does not reach.
        let far = ("2090-03-25T12:00:00Z", "2090-03-26T03:00:00Z");
        assert_eq!(due("15,45 2 * * *", "Europe/Berlin", far.0, far.1), ["2090-03-26T01:00:00Z"]);
    }

    #[test]
    fn a_time_of_day_in_a_gap_at_the_end_of_its_day_is_due_although_the_gap_ends_on_the_next() {
        // 2026-03-28, a Saturday: 23:00 becomes 00:00 in Nuuk.
        let week = ("2026-03-27T12:00:00Z", "2026-04-05T12:00:00Z");
        assert_eq!(
            due("30 23 * * 6", "America/Nuuk", week.0, week.1),
            ["2026-03-29T01:00:00Z", "2026-04-05T00:30:00Z"]
        );
        // Samoa went without the 30th of December.
        let days = ("2011-12-29T12:00:00Z", "2011-12-31T00:00:00Z");
        assert_eq!(due("0 9 30 12 *", "Pacific/Apia", days.0, days.1), ["2011-12-30T10:00:00Z"]);
    }

    #[test]
    fn an_interval_skips_a_gap() {
        let hours = ("2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z");
        assert_eq!(
            due("*/30 * * * *", "Europe/Berlin", hours.0, hours.1),
            [
                "2026-03-29T00:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-29T01:30:00Z",
                "2026-03-29T02:00:00Z"
            ]
        );
    }

    #[test]
    fn a_time_of_day_that_comes_twice_is_due_once() {
        // 2026-10-25 03:00 becomes 02:00 in Berlin.
        let days = ("2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(
            due("30 2 * * *", "Europe/Berlin", days.0, days.1),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
    }

    #[test]
    fn each_of_several_times_of_day_that_come_twice_is_due_once() {
        let days = ("2026-10-24T18:00:00Z", "2026-10-25T20:00:00Z");
        let autumn = |line| due(line, "Europe/Berlin", days.0, days.1);
        assert_eq!(autumn("30 2,14 * * *"), ["2026-10-25T00:30:00Z", "2026-10-25T13:30:00Z"]);
        assert_eq!(
            autumn("30 1-3 * * *"),
            ["2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"]
        );
    }

    #[test]
    fn while_an_hour_comes_again_what_was_due_in_it_is_the_last() {
        // 02:10 for the second time: 02:30 has been.
        let cron = cron("30 1-3 * * *", "Europe/Berlin");
        let (after, until) = (at("2026-10-24T18:00:00Z"), at("2026-10-25T01:10:00Z"));
        assert_eq!(cron.last(after, until), Some(at("2026-10-25T00:30:00Z")));
        assert_eq!(cron.last(at("2026-10-25T00:30:00Z"), until), None);
    }

    #[test]
    fn an_interval_is_due_each_time_that_its_time_comes() {
        let hours = ("2026-10-24T23:30:00Z", "2026-10-25T02:00:00Z");
        for line in ["0 * * * *", "@hourly"] {
            assert_eq!(
                due(line, "Europe/Berlin", hours.0, hours.1),
                ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"],
                "{line}"
            );
        }
        assert_eq!(
            due("*/30 2 * * *", "Europe/Berlin", hours.0, hours.1),
            ["00:00", "00:30", "01:00", "01:30"].map(|time| format!("2026-10-25T{time}:00Z"))
        );
    }

    /// The next change of a zone's clocks, where it has one.
    fn change_behind(zone: &str, second: i64) -> Timestamp {
        let (zone, from) = (TimeZone::get(zone).unwrap(), Timestamp::from_second(second).unwrap());
        zone.following(from).next().map_or(from, |change| change.timestamp())
    }

    /// When a zone's clocks show a time first, or have passed it: found by trying.
    fn shown(clock: DateTime, zone: &TimeZone) -> Timestamp {
        let shows = |clock: &DateTime| {
            let placed = zone.to_ambiguous_timestamp(*clock);
            (!matches!(placed.offset(), AmbiguousOffset::Gap { .. }))
                .then(|| placed.earlier().unwrap())
        };
        let minute = jiff::SignedDuration::from_mins(1);
        std::iter::successors(Some(clock), |clock| clock.checked_add(minute).ok())
            .find_map(|clock| shows(&clock))
            .unwrap()
    }

    proptest! {
        /// A time of day is due on each day, once, whatever the clocks do.
        #[test]
        fn each_time_of_day_is_due_once_on_each_day(
            hours in prop::collection::btree_set(0_i8..24, 1..5),
            minutes in prop::collection::btree_set(0_i8..60, 1..4),
            zone in zones(), from in 1_700_000_000_i64..1_800_000_000,
        ) {
            let list = |all: &std::collections::BTreeSet<i8>| {
                all.iter().map(i8::to_string).collect::<Vec<_>>().join(",")
            };
            let cron = cron(&format!("{} {} * * *", list(&minutes), list(&hours)), zone);
            let change = change_behind(zone, from);
            let zone = TimeZone::get(zone).unwrap();
            let first = zone.to_datetime(change).date().checked_sub(2.days()).unwrap();
            let mut wanted = std::collections::BTreeSet::new();
            for date in first.series(1.day()).take(5) {
                for (hour, minute) in hours.iter().flat_map(|h| minutes.iter().map(move |m| (h, m))) {
                    wanted.insert(shown(date.at(*hour, *minute, 0, 0), &zone));
                }
            }
            let wanted: Vec<Timestamp> = wanted.into_iter().collect();
            let before = wanted[0].checked_sub(jiff::SignedDuration::from_secs(1)).unwrap();
            let due = std::iter::successors(cron.next(before), |last| cron.next(*last));
            prop_assert_eq!(due.take(wanted.len()).collect::<Vec<_>>(), wanted);
        }

        /// Looking back from now finds what looking forward would have found last, around every
        /// change of clocks too.
        #[test]
        fn looking_back_agrees_with_looking_forward(
            line in prop::sample::select(vec![
                "*/7 * * * *", "30 2 * * *", "0 3 * * *", "59 23 * * 0", "15 */2 1 * *", "0 0 * * *",
                "30 2,14 * * *", "0,30 2 * * *", "30 1-3 * * *", "30 23 * * 6", "0-59 1-3 * * *",
                "*/20 2 * * *", "0 * * * 0,6",
            ]),
            zone in zones(),
            from in 1_700_000_000_i64..1_800_000_000, length in 0_i64..400_000, share in 0_i64..100,
        ) {
            let cron = cron(line, zone);
            let from = change_behind(zone, from).as_second() - length * share / 100;
            let (after, until) = (
                Timestamp::from_second(from).unwrap(), Timestamp::from_second(from + length).unwrap(),
            );
            let forward: Vec<Timestamp> = std::iter::successors(cron.next(after), |it| cron.next(*it))
                .take_while(|next| *next <= until)
                .collect();
            prop_assert!(forward.is_sorted_by(|a, b| a < b), "{:?}", forward);
            prop_assert_eq!(cron.last(after, until), forward.last().copied());
            prop_assert_eq!(cron.count(after, until, 10_000), forward.len());
            prop_assert_eq!(cron.count(after, until, 3), forward.len().min(3));
        }
    }
}
