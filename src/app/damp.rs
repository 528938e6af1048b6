//! One fault, told a few times and then counted.
//!
//! A full disk, or a process that may open no more files, is met by everybody who works, many times a
//! second; a log that tells each of them fills the rest of the disk, and nobody finds in it what else
//! happened. So a warning or an error that says the same as before is written [`TOLD`] times within
//! [`WINDOW`]. What comes after that is counted, and the first one of a later window says in a line
//! before it how many were left out. The same it is where place in the code, message and error are
//! the same; that other fields differ, such as the object, does not matter. What is no warning passes.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fmt::{self, Debug, Write as _},
    hash::{Hash as _, Hasher as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::ambient::{Clock as _, SystemClock};

/// How often the same is told within a window.
const TOLD: u64 = 20;
/// How long a window is.
const WINDOW: Duration = Duration::from_secs(60);
/// How many different faults are remembered; beyond that all are forgotten, and told anew.
const MOST: usize = 1_000;

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is written, after so many that were left out.
    Told(u64),
    /// It is counted.
    LeftOut,
}

/// What is known of the faults that were told.
#[derive(Debug, Default)]
struct Counts(HashMap<u64, Count>);

#[derive(Debug)]
struct Count {
    since: Duration,
    seen: u64,
}

impl Counts {
    /// Counts a fault, at a time since the beginning.
    fn count(&mut self, fault: u64, now: Duration) -> Fate {
        if self.0.len() >= MOST && !self.0.contains_key(&fault) {
            self.0.clear();
        }
        let count = self.0.entry(fault).or_insert(Count { since: now, seen: 0 });
        let mut left_out = 0;
        if now.saturating_sub(count.since) >= WINDOW {
            left_out = count.seen.saturating_sub(TOLD);
            *count = Count { since: now, seen: 0 };
        }
        count.seen += 1;
        if count.seen <= TOLD { Fate::Told(left_out) } else { Fate::LeftOut }
    }
}

/// Lines as another format writes them, without those of one fault that are too many.
pub(super) struct Damped<F> {
    inner: F,
    /// Whether lines are JSON.
    json: bool,
    counts: Mutex<Counts>,
}

impl<F> Damped<F> {
    pub(super) fn new(inner: F, json: bool) -> Self {
        Self { inner, json, counts: Mutex::default() }
    }
}

impl<S, N, F> FormatEvent<S, N> for Damped<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        if *metadata.level() <= Level::WARN {
            let mut said = Said(DefaultHasher::new());
            metadata.callsite().hash(&mut said.0);
            event.record(&mut said);
            let fault = said.0.finish();
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            match counts.count(fault, SystemClock.elapsed()) {
                Fate::LeftOut => return Ok(()),
                Fate::Told(0) => {}
                Fate::Told(left_out) => writer.write_str(&left_out_line(left_out, self.json))?,
            }
        }
        self.inner.format_event(context, writer, event)
    }
}

/// The line in front of one of which others were left out.
fn left_out_line(count: u64, json: bool) -> String {
    let words = format!("{count} lines like the next one were left out");
    match json {
        true => format!("{}\n", serde_json::json!({"level": "WARN", "message": words})),
        false => format!("({words})\n"),
    }
}

/// What an event says, as a hash: its message and its error.
struct Said(DefaultHasher);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if ["message", "error"].contains(&field.name()) {
            field.name().hash(&mut self.0);
            let mut text = String::new();
            // A text takes all that is written to it.
            let _ = write!(text, "{value:?}");
            text.hash(&mut self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[test]
    fn one_fault_is_told_a_few_times_in_a_window_and_then_counted() {
        let mut counts = Counts::default();
        let at = Duration::from_secs;
        for n in 0..1_000 {
            let fate = counts.count(7, Duration::from_millis(n));
            assert_eq!(fate, if n < TOLD { Fate::Told(0) } else { Fate::LeftOut }, "{n}");
        }
        assert_eq!(counts.count(8, at(1)), Fate::Told(0), "another fault is told");
        assert_eq!(counts.count(7, at(59)), Fate::LeftOut);
        assert_eq!(counts.count(7, at(60)), Fate::Told(1_001 - TOLD));
        assert_eq!(counts.count(7, at(60)), Fate::Told(0));
        assert_eq!(counts.count(8, at(600)), Fate::Told(0), "none of it was left out");
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let mut counts = Counts::default();
        for fault in 0..10_000 {
            counts.count(fault, Duration::ZERO);
        }
        assert!(counts.0.len() <= MOST);
    }

    /// A log that is kept in memory.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn the_log_of_a_full_disk_stays_short_and_loses_nothing_else() {
        let kept = Kept::default();
        let log = tracing_subscriber::fmt()
            .with_writer(kept.clone())
            .map_event_format(|format| Damped::new(format, false))
            .finish();
        tracing::subscriber::with_default(log, || {
            for n in 0..3_000 {
                let error = if n == 2_500 { "another fault" } else { "disk is full" };
                tracing::error!(%error, key = n, "cannot commit");
                tracing::info!(n, "works");
            }
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines = |word: &str| text.lines().filter(|line| line.contains(word)).count();
        assert_eq!(lines("disk is full"), 20);
        assert_eq!(lines("another fault"), 1);
        assert_eq!(lines("works"), 3_000);
    }
}
