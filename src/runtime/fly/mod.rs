//! Sprites as Fly Machines.

mod settings;

pub use settings::{FlySettings, SecretsBy};
