//! Sprites as Fly Machines.

pub mod api;
pub mod leaks;
pub mod price;
mod settings;

pub use settings::{FlySettings, SecretsBy};
