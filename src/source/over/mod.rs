//! Changes, for a time, of what a Source owns.
//!
//! An Override is a merge patch on the spec of an object, and a time. Its controller takes all
//! Overrides of one object together: it lays them over what the file says, in the order in which
//! they came, and commits the object, the row that says what was laid, and what each Override came
//! to, in one transaction. So at any revision the object says what its file says with its live
//! Overrides merged in, whoever wrote last: the Source, which lays the same Overrides over a new
//! commit ([`lay`]), or this controller, when one came or ended. Another controller writes what is to
//! stand in the file as well there ([`FileController`]).
//!
//! One that no longer fits, because the file says something else by now, is left out and told; it
//! holds up neither the file nor the others.

mod controller;
mod file;
mod lay;
pub mod pen;
mod plan;
pub mod surgery;
mod targets;

pub use controller::OverrideController;
pub use file::FileController;
pub use lay::{Laid, annotations, lay};
pub use plan::{APPLIED, DRIFTED, EXPIRED, KEEP_ENDED, OVERRIDDEN_BY, WRITTEN};
