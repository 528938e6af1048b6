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
mod names;
mod observe;
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
