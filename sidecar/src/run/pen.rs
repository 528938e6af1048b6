//! The pen: what a run says goes into the spool, in order, and waits for a disk that takes it.
//!
//! Nothing is ever given up. While something waits, the agent is not heard, and so waits too.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{ambient, report::Desk, wire::EventBody};

/// How long until what a disk does not take is tried again.
pub(super) const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Writes into a desk's spool.
#[derive(Debug)]
pub(super) struct Pen {
    desk: Arc<Desk>,
    /// What the disk did not take yet, in order.
    unwritten: VecDeque<EventBody>,
    /// When it is tried again.
    again: Option<Duration>,
    /// The last order that was obeyed; the server is told once all before it is in the spool.
    obeyed: u64,
}

/// That a turn was accepted stands in the spool, under this number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    /// The turn.
    pub(super) turn: String,
    /// The event's number.
    pub(super) seq: u64,
}

impl Pen {
    /// A pen for a desk.
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self { desk, unwritten: VecDeque::new(), again: None, obeyed: 0 }
    }

    /// Whether nothing waits for the disk.
    pub(super) fn is_dry(&self) -> bool {
        self.unwritten.is_empty()
    }

    /// When what waits is tried again.
    pub(super) fn again(&self) -> Option<Duration> {
        self.again
    }

    /// An order was obeyed, and what came of it was handed over before.
    pub(super) fn obeyed(&mut self, n: u64) {
        self.obeyed = n;
    }

    /// Puts an event into the spool, behind all that waits. Answers whose acceptances got a number.
    pub(super) fn keep(&mut self, body: EventBody) -> Vec<Numbered> {
        self.unwritten.push_back(body);
        if self.unwritten.len() == 1 { self.write() } else { Vec::new() }
    }

    /// Writes what waits for the disk, as far as that takes it.
    pub(super) fn write(&mut self) -> Vec<Numbered> {
        let mut numbered = Vec::new();
        while let Some(body) = self.unwritten.pop_front() {
            match self.desk.append(body.clone()) {
                Ok(seq) => {
                    if let EventBody::TurnAccepted { turn, .. } = body {
                        numbered.push(Numbered { turn, seq });
                    }
                }
                Err(error) => {
                    self.desk.complain(&format!("cannot write to the spool: {error}"));
                    self.unwritten.push_front(body);
                    self.again = Some(ambient::elapsed() + WRITE_AGAIN);
                    return numbered;
                }
            }
        }
        self.again = None;
        if self.obeyed > self.desk.inbox() {
            self.desk.took_order(self.obeyed);
        }
        numbered
    }
}
