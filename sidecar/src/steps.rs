//! Named effects, so that a test can let the reporter die at each of them.
//!
//! Every effect by which a reporter changes the world passes here. In a build for tests the
//! environment can name one, by its place in the order of this process or among those of its name,
//! before or behind which the process dies as by `kill -9`: `OPEN_DISPATCH_CRASH_AT="3 before"`,
//! `OPEN_DISPATCH_CRASH_AT="post#2 after"`. With the variable set at all, each passage is written to standard error, which is the run's log. A release
//! build holds none of this.

use std::fmt::Display;

/// The variable that names the effect to die at.
pub const CRASH_AT: &str = "OPEN_DISPATCH_CRASH_AT";

/// Passes an effect.
///
/// # Errors
/// The effect's own.
pub fn step<T, E>(name: impl Display, effect: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let passage = Passage::begin(&name);
    let done = effect()?;
    passage.end();
    Ok(done)
}

/// An effect on its way, where it takes time.
#[must_use = "an effect begins and ends"]
#[derive(Debug)]
pub struct Passage(#[cfg(debug_assertions)] Option<scripted::Place>);

impl Passage {
    /// Before the effect.
    pub fn begin(name: &dyn Display) -> Self {
        #[cfg(not(debug_assertions))]
        {
            let _ = name;
            Self()
        }
        #[cfg(debug_assertions)]
        Self(scripted::begin(name))
    }

    /// Behind the effect.
    pub fn end(self) {
        #[cfg(debug_assertions)]
        scripted::end(self.0);
    }
}

#[cfg(debug_assertions)]
mod scripted {
    use std::{
        collections::BTreeMap,
        fmt::Display,
        sync::{Mutex, OnceLock, PoisonError},
    };

    /// Where an effect stands: in the order of all, and as which one of its name.
    #[derive(Debug)]
    pub struct Place {
        all: usize,
        named: String,
    }

    /// What is to happen, if anything was said about it.
    fn script() -> Option<&'static str> {
        static SCRIPT: OnceLock<Option<String>> = OnceLock::new();
        SCRIPT.get_or_init(|| std::env::var(super::CRASH_AT).ok()).as_deref()
    }

    pub(super) fn begin(name: &dyn Display) -> Option<Place> {
        static PASSED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
        let script = script()?;
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        let all = passed.values().sum();
        let nth = passed.entry(name.to_string()).or_default();
        *nth += 1;
        let place = Place { all, named: format!("{name}#{nth}") };
        drop(passed);
        eprintln!("step {name}");
        die_if(script, &place, "before");
        Some(place)
    }

    pub(super) fn end(place: Option<Place>) {
        if let (Some(script), Some(place)) = (script(), place) {
            die_if(script, &place, "after");
        }
    }

    fn die_if(script: &str, Place { all, named }: &Place, side: &str) {
        if script == format!("{all} {side}") || script == format!("{named} {side}") {
            eprintln!("dies at step {script}");
            let me = rustix::process::getpid();
            let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
        }
    }
}
