//! What the Fly runtime is told: filled from the configuration, read by nobody else.

use std::collections::BTreeMap;

use secrecy::SecretString;
use url::Url;

/// How an agent in a machine gets its secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecretsBy {
    /// In the machine's environment, where Fly's own API shows them to whoever may read the app.
    #[default]
    Environment,
    /// Fetched by the reporter with its token when it claims its run, over the private network.
    Claim,
}

/// The Fly runtime's settings.
#[derive(Debug, Clone)]
pub struct FlySettings {
    /// The Machines API without `/v1`: `https://api.machines.dev`, or what `FLY_FLAPS_BASE_URL` says.
    pub api: Url,
    /// `FLY_API_TOKEN`, in any of the forms that Fly prints.
    pub token: SecretString,
    /// `FLY_SPRITE_APP`: the app whose machines are the sprites.
    pub app: String,
    /// `FLY_REGION`: regions in the order in which they are tried, with commas between.
    pub region: String,
    /// `SPRITE_IMAGE`: the image of who names none.
    pub image: Option<String>,
    /// `SPRITE_IMAGES`: images by alias.
    pub images: BTreeMap<String, String>,
    /// Which images may be named beside the aliases: beginnings (`registry.fly.io/mine/`); every
    /// one where the list is empty.
    pub allowed_images: Vec<String>,
    /// `OPEN_DISPATCH_URL`: how sprites reach this server.
    pub server: Url,
    /// The most machines at once.
    pub capacity: usize,
    /// How secrets travel.
    pub secrets_by: SecretsBy,
    /// The server's environment, of which agents get what the allow-list of the local runtime names.
    pub environment: Vec<(String, String)>,
    /// More names to pass on.
    pub extra_env: Vec<String>,
}
