//! Reporting: what is in the spool goes to the server, what the server wants comes back.
//!
//! Two loops share a [`Desk`]. [`deliver`] posts what the spool holds, one batch at a time and
//! in order; while a batch is under way the next one grows, so a quiet agent's first byte goes at
//! once and a loud one's bytes go in large pieces. [`listen`] keeps a stream open on which the
//! server sends orders.
//!
//! Neither gives up. A server that is down, busy or broken is tried again, ever more slowly but
//! at least every few seconds, at the address that stands in the endpoint file by then. Only
//! the server itself can end it: it holds the exit event ([`Verdict::Finished`]), or it says
//! that this run is not its own any more ([`Verdict::Superseded`]). One that does not even know
//! the token is another's, at an address that ours had before it went down; it is no contact.
//!
//! Three more stand beside them for a machine of its own: [`claim`] asks for a run before there is
//! one, [`refuse`] tells that it cannot begin, and [`deliver_as_original`] delivers in the words of the
//! original's sidecar.

mod backoff;
mod claim;
mod deliver;
mod desk;
mod files;
mod http;
mod listen;
mod original;
mod refuse;

pub use backoff::Backoff;
pub use claim::{ClaimAnswer, claim};
pub use deliver::deliver;
pub use desk::Desk;
pub use files::{FileError, MAX_FILE_BYTES, download, upload};
pub(crate) use files::{hex, percent_encoded};
pub use http::{Address, AddressError};
pub use listen::listen;
pub use original::{Format, deliver_as_original, refuse_as_original};
pub use refuse::refuse;

/// How reporting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The server holds the exit event.
    Finished,
    /// The server wants nothing from this run any more (410).
    Superseded,
    /// Reporting failed, by a fault of our own.
    Failed,
}
