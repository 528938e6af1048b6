//! Chat: commands in, transcripts out, the same on every platform.
//!
//! **What it is for.** A person types a line. [`grammar`] says what it means, [`commands`]
//! turns it into one transaction: a receipt, the spec that was asked for, and the delivery that
//! answers. What comes of it is told by [`outbox`], a controller like any other, whose hands
//! are the platforms behind [`platform::Platform`].
//!
//! **What it may know.** The vocabulary, the store, and the engine's `Controller` trait. Never a
//! runtime: chat starts no process and stops none.
//!
//! **What it may never do.** Show an answer twice, show output out of order, or leave a line
//! without an answer. A message is posted as a placeholder, its id is committed, then it is
//! filled by edits; so the worst that a crash leaves behind is an empty placeholder.
//!
//! **The life of one line.** `/od-run echo hello` comes to [`commands::Commands::handle`] under
//! its request's key. The Job and its delivery commit together with the receipt; a redelivery
//! of the same request finds the receipt and does nothing. The engine wakes the delivery:
//! [`outbox::Outbox`] posts a placeholder, commits the message's id, reads the Job's output,
//! lets [`transcript`] render and [`split`] cut it, and edits the message whenever that has
//! become something else. Once the Job has ended and all output is shown, the delivery is done.

pub mod answer;
pub mod buttons;
pub mod changes;
pub mod commands;
pub mod console;
pub mod dialect;
pub mod discord;
pub mod ear;
pub mod frames;
pub mod grammar;
mod guard;
pub mod help;
pub mod outbox;
pub mod platform;
mod replies;
pub mod route;
pub mod slack;
pub mod split;
pub mod tag;
pub mod teams;
pub mod transcript;

pub use crate::access::Quoted;
pub use commands::{Commands, Incoming, Settings, Taken, Via};
pub use console::ConsoleHub;
pub use outbox::Outbox;
