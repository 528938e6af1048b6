//! Sprites as Fly Machines.

mod command;
mod names;
mod settings;
mod tags;

pub use settings::{FlySettings, SecretsBy};
