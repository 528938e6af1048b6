//! How long rows are kept. [`Store::compact`](super::Store::compact) drops what is older.

use std::time::Duration;

use super::Revision;

/// Receipts, so that a redelivery within a day does nothing.
pub(super) const RECEIPTS: Duration = Duration::from_hours(24);
/// Events, after they were last counted up.
pub(super) const EVENTS: Duration = Duration::from_hours(1);
/// History, beside [`HISTORY_REVISIONS`]: it goes when it is beyond both.
pub(super) const HISTORY: Duration = Duration::from_mins(5);
/// How many revisions of history are kept however old they are.
pub(super) const HISTORY_REVISIONS: Revision = 1000;
/// Deliveries, after they were done.
pub(super) const DONE_DELIVERIES: Duration = Duration::from_hours(24);
/// Output, inbox, approvals and turns, after their Sprite or Agent went.
pub(super) const GONE_LEDGERS: Duration = Duration::from_hours(1);
/// So many turns of a living Agent are kept, by number; older ones go once they have ended. The
/// sums keep counting them.
pub(super) const TURNS: u64 = 1000;
/// What people asked for; the newest row stays, since the next one is numbered from it.
pub(super) const AUDIT: Duration = Duration::from_hours(90 * 24);
/// So many rows of that are kept at most.
pub(super) const AUDIT_ROWS: u64 = 100_000;
/// The notes that an object is gone: long enough to sweep what came late.
pub(super) const TOMBSTONES: Duration = Duration::from_hours(25);
/// So many resolved approvals and acknowledged orders of a living Sprite are kept, the newest ones.
pub(super) const ASKED: usize = 256;
/// So many are kept where a turn or a delivery may still need them.
pub(super) const ASKED_NEEDED: usize = 1024;
