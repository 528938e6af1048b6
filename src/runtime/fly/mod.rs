//! Sprites as Fly Machines.

mod command;
pub mod images;
mod names;
mod settings;
mod tags;

pub use settings::{FlySettings, SecretsBy};
