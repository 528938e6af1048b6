//! The fake Machines API: each rule that it must reproduce, as a claim. Most by a clock that the
//! test moves and guests that it plays; those about processes with real ones.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "dev_fly/desk.rs"]
mod desk;
#[path = "dev_fly/life.rs"]
mod life;
#[path = "dev_fly/lists.rs"]
mod lists;
#[path = "dev_fly/processes.rs"]
mod processes;
#[path = "dev_fly/rest.rs"]
mod rest;
#[path = "dev_fly/volumes.rs"]
mod volumes;
#[path = "dev_fly/writes.rs"]
mod writes;
