//! When a Schedule is due: a cron line read in a time zone. Pure, save that a zone's rules are read from
//! the machine's own database: so a document can be good on one machine and name a zone that another does
//! not know, and it is the server's that counts. The machine's own zone is never asked for.
//!
//! A line that names its hours and minutes means a time of day, and one that says `*` an interval, as
//! cron has it. Where clocks go forward, a time of day that does not exist is due at the first minute
//! that does, and an interval skips what does not exist. Where they go back, a time of day that comes
//! twice is due the first time alone, and an interval both times.

use croner::{
    Cron as Line,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, tz::TimeZone};

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
        let next = self.line.find_next_occurrence(&from, false).ok()?.timestamp();
        (next > after).then_some(next)
    }

    /// The last due minute behind a time, up to another one.
    #[must_use]
    pub fn last(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        if until <= after {
            return None;
        }
        let from = until.to_zoned(self.zone.clone());
        let last = self.line.find_previous_occurrence(&from, true).ok()?.timestamp();
        (after < last && last <= until).then_some(last)
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

    proptest! {
        /// Looking back from now finds what looking forward would have found last, around every
        /// change of clocks too.
        #[test]
        fn looking_back_agrees_with_looking_forward(
            line in prop::sample::select(vec![
                "*/7 * * * *", "30 2 * * *", "0 3 * * *", "59 23 * * 0", "15 */2 1 * *", "0 0 * * *",
            ]),
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe",
                "America/Sao_Paulo", "Asia/Kathmandu",
            ]),
            from in 1_700_000_000_i64..1_800_000_000, length in 0_i64..400_000,
        ) {
            let cron = cron(line, zone);
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
