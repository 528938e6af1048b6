//! Sprites as Fly Machines.

pub mod api;
mod settings;

pub use settings::{FlySettings, SecretsBy};
