//! Sprites as Fly Machines.

pub mod api;
pub mod images;
mod settings;

pub use settings::{FlySettings, SecretsBy};
