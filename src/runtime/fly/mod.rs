//! Sprites as Fly Machines.

pub mod api;
mod book;
mod census;
mod claim;
mod command;
mod create;
mod environment;
mod exit;
pub mod images;
pub mod leaks;
mod names;
mod observe;
pub mod price;
mod runtime;
mod seen;
mod settings;
mod sweep;
mod tags;
mod trouble;
mod volume;
mod wish;

pub use runtime::{FlyRuntime, Revision};
pub use settings::{FlySettings, SecretsBy};
pub use sweep::{Haul, Living};
