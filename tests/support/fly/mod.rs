//! Servers over a Fly of machines whose guests follow a script, on a clock that nobody waits for.

pub mod clock;
pub mod faults;
pub mod guest;
pub mod stage;
