//! The desk between the agent's side and the server's: the spool, and what both must know.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    ambient,
    spool::{Page, Spool},
    wire::{EventBody, Exit},
};

/// How often an exit event is numbered again for a server that does not take it as the end.
const MOST_RENUMBERINGS: u32 = 3;

/// How long the same complaint is not worth writing down again.
const SAME_COMPLAINT_AFTER: Duration = Duration::from_secs(600);
/// The most complaints that are written down in that time.
const MOST_COMPLAINTS: usize = 64;

/// The spool, and what the reporter's two sides tell each other.
#[derive(Debug)]
pub struct Desk {
    inner: Mutex<Inner>,
    /// Rises whenever there may be something to send.
    grown: watch::Sender<u64>,
    held: watch::Sender<u64>,
    complaints: Option<PathBuf>,
    /// Whether what the agent prints goes to our own standard output too.
    echoes: bool,
}

#[derive(Debug)]
struct Inner {
    spool: Spool,
    renumbered: u32,
    inbox: u64,
    contact: Duration,
    complaints: HashMap<String, Duration>,
}

impl Desk {
    /// A desk over a spool. Complaints go to the file, where one is given.
    #[must_use]
    pub fn new(spool: Spool, complaints: Option<PathBuf>) -> Self {
        let inner = Inner {
            spool,
            renumbered: 0,
            inbox: 0,
            contact: ambient::elapsed(),
            complaints: HashMap::new(),
        };
        Self {
            inner: Mutex::new(inner),
            grown: watch::Sender::new(0),
            held: watch::Sender::new(0),
            complaints,
            echoes: false,
        }
    }

    /// Lets what the agent prints, masked, go to our own standard output too: there the platform
    /// that runs a machine takes its log from.
    #[must_use]
    pub fn echoing(mut self) -> Self {
        self.echoes = true;
        self
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers an event and puts it into the spool.
    ///
    /// # Errors
    /// What the file system says; the event then has no number.
    pub fn append(&self, body: EventBody) -> io::Result<u64> {
        let printed = match &body {
            EventBody::Log { chunk, .. } if self.echoes => chunk.bytes(),
            _ => Vec::new(),
        };
        let seq = self.inner().spool.append(ambient::now(), body)?;
        self.ring();
        if !printed.is_empty() {
            use std::io::Write as _;
            let mut out = io::stdout();
            // A log that nobody takes is nobody's loss.
            let _ = out.write_all(&printed).and_then(|()| out.flush());
        }
        Ok(seq)
    }

    /// The number that the next event gets.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.inner().spool.next()
    }

    /// Inbox rows up to this one were taken over: the server may forget them.
    pub fn took_order(&self, n: u64) {
        let mut inner = self.inner();
        inner.inbox = inner.inbox.max(n);
        drop(inner);
        self.ring();
    }

    /// The highest inbox row that was taken over; 0 for none.
    #[must_use]
    pub fn inbox(&self) -> u64 {
        self.inner().inbox
    }

    /// The highest number that the server holds, as it changes.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<u64> {
        self.held.subscribe()
    }

    /// When the server last answered, as a reading of [`ambient::elapsed`].
    #[must_use]
    pub fn last_contact(&self) -> Duration {
        self.inner().contact
    }

    /// The exit event, if it stands in the spool.
    #[must_use]
    pub fn ended(&self) -> Option<Exit> {
        self.inner().spool.ended().cloned()
    }

    /// The lowest number that may still be in the spool.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.inner().spool.first()
    }

    /// Complains in the run directory's log, but not about the same thing all the time.
    pub fn complain(&self, complaint: &str) {
        let now = ambient::elapsed();
        let mut inner = self.inner();
        inner.complaints.retain(|_, at| now.saturating_sub(*at) < SAME_COMPLAINT_AFTER);
        if inner.complaints.len() >= MOST_COMPLAINTS || inner.complaints.contains_key(complaint) {
            return;
        }
        inner.complaints.insert(complaint.to_owned(), now);
        drop(inner);
        if let Some(path) = &self.complaints
            && let Ok(mut file) = std::fs::File::options().create(true).append(true).open(path)
        {
            use std::io::Write as _;
            // There is nobody left to complain to.
            let _ = writeln!(file, "{} {complaint}", ambient::now());
        }
    }

    pub(super) fn answered(&self) {
        self.inner().contact = ambient::elapsed();
    }

    pub(super) fn growth(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    pub(super) fn page(&self, from: u64, bytes: usize, events: usize) -> io::Result<Page> {
        self.inner().spool.read(from, bytes, events)
    }

    pub(super) fn give_up(&self, seq: u64) -> io::Result<bool> {
        self.inner().spool.give_up(seq)
    }

    /// The server holds this much. Answers whether it holds more than we know of, or all of it
    /// without the end: then the exit was numbered again, behind what the server holds. Answers
    /// false also when that was tried often enough.
    pub(super) fn acknowledge(&self, held: u64) -> io::Result<bool> {
        let mut inner = self.inner();
        // First of all: a prompt may wait for it, and a spool that cannot be tidied changes nothing.
        self.held.send_if_modified(|known| {
            let more = held > *known;
            *known = held.max(*known);
            more
        });
        inner.spool.acknowledge(held)?;
        inner.spool.skip_to(held + 1)?;
        let all = held + 1 == inner.spool.next();
        let Some(exit) = inner.spool.ended().filter(|_| all).cloned() else {
            return Ok(true);
        };
        inner.renumbered += 1;
        if inner.renumbered > MOST_RENUMBERINGS {
            return Ok(false);
        }
        inner.spool.append(ambient::now(), EventBody::Exit(exit))?;
        Ok(true)
    }

    fn ring(&self) {
        self.grown.send_modify(|count| *count += 1);
    }
}
