//! What is said of Fly Machines: all of what they need, or nothing.
//!
//! Where none of the token, the app and the images is named, there are no machines, and nothing
//! is missing. Where some of them are, the server would come up and fail with the first job: so
//! it does not come up, and names everything that is missing at once.
//!
//! On Fly itself `FLY_REGION` and `FLY_APP_NAME` are the platform's own: the region and the app of
//! the machine that this server runs in. That is why `OPEN_DISPATCH_REGION`, and the key in the
//! file there, go before `FLY_REGION`, and why `FLY_APP_NAME` says under which name machines
//! find this server. It must be another app than theirs: `APP.internal` names every machine of an
//! app, and what is meant for the server would reach agents.

use std::collections::BTreeMap;

use secrecy::SecretString;
use url::Url;

use super::{
    Error, Layers, Setting, Source,
    read::{names, settle},
};
use crate::resource::{fly, images};

/// The most machines at once where nothing else is said: what Fly lets a new organisation have.
const DEFAULT_MACHINES: usize = 50;
/// The region where none is said; the original's.
const DEFAULT_REGION: &str = "iad";
/// The Machines API, outside of Fly's private network.
const DEFAULT_API: &str = "https://api.machines.dev";
/// The app that the seeds deploy the server as.
const DEFAULT_APP: &str = "open-dispatch";

/// Where a Job or an Agent runs that does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// On the server's machine.
    Local,
    /// As a Fly Machine.
    Fly,
}

impl Where {
    /// The word, as it stands in specs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Fly => "fly",
        }
    }
}

/// How an agent in a machine gets its secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretsBy {
    /// In the machine's environment.
    Environment,
    /// Asked for by the reporter, when it claims its run.
    Claim,
}

impl SecretsBy {
    /// The word, as it stands in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Claim => "claim",
        }
    }
}

/// Fly Machines, as they are configured.
#[derive(Debug, Clone)]
pub struct Fly {
    /// The Machines API, without `/v1`.
    pub api: Setting<Url>,
    /// The token, in any of the forms that Fly prints.
    pub token: Setting<SecretString>,
    /// The app whose machines are the sprites.
    pub app: Setting<String>,
    /// The regions in the order in which they are tried, with commas between.
    pub regions: Setting<String>,
    /// The image of who names none; itself an alias or a whole reference.
    pub image: Setting<Option<String>>,
    /// Images by alias.
    pub images: Setting<BTreeMap<String, String>>,
    /// Beginnings of further images that may be named; every one where the list is empty.
    pub allowed_images: Setting<Vec<String>>,
    /// How machines reach this server.
    pub server: Setting<Url>,
    /// The most machines at once.
    pub max_machines: Setting<usize>,
    /// How secrets travel.
    pub secrets_by: Setting<SecretsBy>,
}

/// What is missing: the variable, the key of the file, and where its value comes from.
const NEEDED: [(&str, &str); 3] = [
    ("FLY_API_TOKEN", "FLY_API_TOKEN (fly tokens create deploy -a APP)"),
    ("FLY_SPRITE_APP", "FLY_SPRITE_APP (the app that fly apps create made), or fly.app"),
    ("SPRITE_IMAGE", "SPRITE_IMAGE (an image with your agent and sprite-reporter), or fly.image"),
];

/// What is said of Fly, for a server whose main listener has this port. Nothing where it is off.
///
/// # Errors
/// What is missing, all of it; or the first value that cannot be used.
pub(super) fn read(layers: &Layers, port: u16) -> Result<Option<Fly>, Error> {
    let has = |name| layers.said(name).is_some();
    // An alias is an image as well: then whoever starts something names one.
    let is_there = |name| has(name) || (name == "SPRITE_IMAGE" && has("SPRITE_IMAGES"));
    let said: Vec<&str> =
        NEEDED.iter().map(|(name, _)| *name).filter(|name| is_there(name)).collect();
    let wanted = is_default(layers)?;
    if said.is_empty() && !wanted {
        return Ok(None);
    }
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(name, _)| !is_there(name)).map(|(_, what)| *what).collect();
    if !missing.is_empty() {
        let said =
            if said.is_empty() { "OPEN_DISPATCH_RUNTIME=fly".into() } else { said.join(", ") };
        return Err(Error::HalfFly { said, missing: missing.join(", no ") });
    }
    let images = settle(layers.said("SPRITE_IMAGES"), read_images, BTreeMap::new())?;
    let app = settle(layers.said("FLY_SPRITE_APP"), read_app, String::new())?;
    if layers.variable("FLY_APP_NAME").is_some_and(|own| own == app.value) {
        return Err(Error::SharedApp(app.value));
    }
    Ok(Some(Fly {
        api: settle(layers.said("FLY_FLAPS_BASE_URL"), read_url, url(DEFAULT_API)?)?,
        token: settle(layers.said("FLY_API_TOKEN"), read_token, SecretString::default())?,
        app,
        regions: settle(said_region(layers), read_regions, DEFAULT_REGION.to_owned())?,
        image: settle(
            layers.said("SPRITE_IMAGE"),
            |text, place| read_image(text, place, &images.value).map(Some),
            None,
        )?,
        images,
        allowed_images: settle(
            layers.said("OPEN_DISPATCH_ALLOWED_IMAGES"),
            |text, _| Ok(names(text)),
            Vec::new(),
        )?,
        server: match layers.said("OPEN_DISPATCH_URL") {
            None => Setting { value: own_url(layers, port)?, source: Source::Default },
            said => settle(said, read_server, url(DEFAULT_API)?)?,
        },
        max_machines: settle(
            layers.said("OPEN_DISPATCH_MAX_MACHINES"),
            read_machines,
            DEFAULT_MACHINES,
        )?,
        secrets_by: settle(
            layers.said("OPEN_DISPATCH_SPRITE_SECRETS"),
            read_secrets_by,
            SecretsBy::Environment,
        )?,
    }))
}

/// Where what names no place runs: as it is said, else on Fly where the server itself is there
/// and has machines, else here.
pub(super) fn usual_place(layers: &Layers, fly: Option<&Fly>) -> Result<Setting<Where>, Error> {
    let there = fly.is_some() && on_fly(layers);
    let default = if there { Where::Fly } else { Where::Local };
    settle(layers.said("OPEN_DISPATCH_RUNTIME"), read_where, default)
}

fn is_default(layers: &Layers) -> Result<bool, Error> {
    let said = settle(layers.said("OPEN_DISPATCH_RUNTIME"), read_where, Where::Local)?;
    Ok(said.value == Where::Fly)
}

/// Whether this server is itself a Fly Machine: Fly says so to each of them.
fn on_fly(layers: &Layers) -> bool {
    layers.variable("FLY_APP_NAME").is_some_and(|name| !name.is_empty())
}

/// Which regions are said. On Fly, `FLY_REGION` is the platform's word of where the server is,
/// so that what a person wrote into the file goes before it.
pub(super) fn said_region(layers: &Layers) -> Option<(String, Source)> {
    let file = || layers.filed("FLY_REGION").filter(|_| on_fly(layers));
    layers.said("OPEN_DISPATCH_REGION").or_else(file).or_else(|| layers.said("FLY_REGION"))
}

/// How machines reach a server that does not say: by Fly's private DNS.
fn own_url(layers: &Layers, port: u16) -> Result<Url, Error> {
    match layers.variable("FLY_APP_NAME").filter(|name| fly::is_app(name)) {
        Some(app) => url(&format!("http://{app}.internal:{port}")),
        None => url(&format!("http://{DEFAULT_APP}.internal:{}", super::DEFAULT_PORT)),
    }
}

fn bad(value: &str, place: &str, what: &'static str, mend: &'static str) -> Error {
    Error::Unreadable { place: place.to_owned(), value: value.to_owned(), what, mend }
}

fn url(text: &str) -> Result<Url, Error> {
    read_url(text, "the default")
}

/// Reads the root of a server. What follows its host is kept, save for a slash at the end.
fn read_url(text: &str, place: &str) -> Result<Url, Error> {
    root(text, place, "write http:// or https://, a host and a port, without user, ? or #")
}

fn root(text: &str, place: &str, mend: &'static str) -> Result<Url, Error> {
    let read = Url::parse(text.trim()).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    read.ok_or_else(|| bad(harmless(text), place, "URL of a server", mend))
}

/// Reads the address that machines report to: what `sprite-reporter` takes, which speaks no TLS and
/// puts its own paths behind host and port.
fn read_server(text: &str, place: &str) -> Result<Url, Error> {
    let url = root(text, place, "write http://, a host and a port alone")?;
    if url.scheme() != "http" {
        let mend = "machines speak plain http, over a private network: write \
                    http://[ADDRESS]:8080 with the server's address in the organisation's \
                    WireGuard network (fly wireguard create; docs/fly.md, The server elsewhere)";
        return Err(bad(harmless(text), place, "address that machines can report to", mend));
    }
    if url.path() != "/" {
        let mend = "machines put their own paths behind it: write http://, a host and a port alone";
        return Err(bad(harmless(text), place, "address that machines can report to", mend));
    }
    Ok(url)
}

/// What may be shown of a URL that cannot be used: passwords stand before an `@`, tokens behind a
/// `?` or a `#`.
fn harmless(text: &str) -> &str {
    if text.contains(['@', '?', '#']) { "(hidden)" } else { text }
}

fn read_token(text: &str, place: &str) -> Result<SecretString, Error> {
    // A list of macaroons has commas, and a scheme before it a space.
    let good = |c: char| c.is_ascii_graphic() || c == ' ';
    match text.trim() {
        token if token.chars().all(good) => Ok(SecretString::from(token)),
        _ => {
            Err(bad("(hidden)", place, "token of Fly's", "copy it anew: fly tokens create deploy"))
        }
    }
}

fn read_app(text: &str, place: &str) -> Result<String, Error> {
    let app = text.trim();
    if fly::is_app(app) {
        return Ok(app.to_owned());
    }
    Err(bad(
        app,
        place,
        "name of a Fly app",
        "write a-z, 0-9 and dashes, as fly apps list shows it",
    ))
}

fn read_regions(text: &str, place: &str) -> Result<String, Error> {
    match fly::bad_regions(text) {
        None => Ok(text.split(',').map(str::trim).collect::<Vec<_>>().join(",")),
        Some(_) => Err(bad(
            text,
            place,
            "list of Fly's regions",
            "write three letters such as iad, several with commas between (fly platform regions)",
        )),
    }
}

fn read_image(
    text: &str,
    place: &str,
    aliases: &BTreeMap<String, String>,
) -> Result<String, Error> {
    let image = text.trim();
    // A registry may have something by that name; it holds no reporter.
    if !aliases.is_empty() && !aliases.contains_key(image) && images::is_word(image) {
        let mend = "it is no alias of SPRITE_IMAGES: write one that is, or REGISTRY/NAME:TAG";
        return Err(bad(image, place, "image", mend));
    }
    if aliases.contains_key(image) || images::is_reference(image) {
        return Ok(image.to_owned());
    }
    let mend = "write REGISTRY/NAME:TAG, such as registry.fly.io/my-sprites/agent:v1, or an alias";
    Err(bad(image, place, "image", mend))
}

/// Reads a JSON object of images by alias.
fn read_images(text: &str, place: &str) -> Result<BTreeMap<String, String>, Error> {
    let mend = "write aliases and whole images, such as {\"node\": \"registry.fly.io/a/node:v1\"}";
    let read: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|_| bad(text, place, "JSON object of texts", mend))?;
    for (alias, image) in &read {
        if !images::is_word(alias) {
            let mend = "name aliases with letters, digits, -, _ and .";
            return Err(bad(alias, place, "alias of an image", mend));
        }
        if !images::is_reference(image) {
            return Err(bad(image, place, "image", mend));
        }
    }
    Ok(read)
}

fn read_machines(text: &str, place: &str) -> Result<usize, Error> {
    let number = text.trim().parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| bad(text, place, "number of machines", "write a whole number from 1"))
}

fn read_secrets_by(text: &str, place: &str) -> Result<SecretsBy, Error> {
    match text.trim() {
        "environment" => Ok(SecretsBy::Environment),
        "claim" => Ok(SecretsBy::Claim),
        text => Err(bad(text, place, "way for secrets", "use `environment` or `claim`")),
    }
}

fn read_where(text: &str, place: &str) -> Result<Where, Error> {
    match text.trim() {
        "local" => Ok(Where::Local),
        "fly" => Ok(Where::Fly),
        text => Err(bad(text, place, "runtime", "use `local` or `fly`")),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::config::{Config, Flags, Machine};

    const WHOLE: [(&str, &str); 3] = [
        ("FLY_API_TOKEN", "FlyV1 fm2_abc,fm2_def"),
        ("FLY_SPRITE_APP", "my-sprites"),
        ("SPRITE_IMAGE", "registry.fly.io/my-sprites/agent:latest"),
    ];

    fn resolve(said: &[(&str, &str)]) -> Result<Config, Error> {
        let home = [("HOME", "/home/a")];
        let all = home.iter().chain(said).map(|&(name, value)| (name.into(), value.into()));
        Config::resolve(&Flags::default(), &Layers::environment(all), Machine { cpus: 2 })
    }

    fn with(more: &[(&str, &str)]) -> Result<Config, Error> {
        resolve(&[&WHOLE[..], more].concat())
    }

    #[test]
    fn without_a_word_of_it_fly_is_off() {
        let config = resolve(&[("FLY_REGION", "lhr"), ("OPEN_DISPATCH_URL", "http://x")]).unwrap();
        assert!(config.fly.is_none());
        assert_eq!(config.runtime.value, Where::Local);
    }

    #[test]
    fn the_three_of_the_seeds_are_enough_and_the_rest_has_the_seeds_defaults() {
        let config = with(&[]).unwrap();
        assert_eq!(config.runtime.value, Where::Local);
        let fly = config.fly.unwrap();
        assert_eq!(fly.token.value.expose_secret(), WHOLE[0].1);
        assert_eq!(fly.app.value, "my-sprites");
        assert_eq!(fly.regions.value, "iad");
        assert_eq!(fly.api.value.as_str(), "https://api.machines.dev/");
        assert_eq!(fly.server.value.as_str(), "http://open-dispatch.internal:8080/");
        assert_eq!(fly.max_machines.value, 50);
        assert_eq!(fly.secrets_by.value, SecretsBy::Environment);
    }

    #[test]
    fn half_of_it_is_refused_with_all_that_is_missing() {
        let told = |said: &[(&str, &str)]| resolve(said).unwrap_err().to_string();
        let alias = ("SPRITE_IMAGES", r#"{"node": "me/node:v1"}"#);
        insta::assert_snapshot!(
            [
                told(&WHOLE[..1]),
                told(&WHOLE[1..2]),
                told(&WHOLE[..2]),
                told(&[alias]),
                told(&[("OPEN_DISPATCH_RUNTIME", "fly")]),
            ]
            .join("\n")
        );
        assert!(resolve(&[WHOLE[0], WHOLE[1], alias]).is_ok(), "an alias is an image");
    }

    #[test]
    fn a_server_on_fly_is_found_by_its_own_app_and_makes_machines_by_default() {
        let said = [("FLY_APP_NAME", "my-dispatch"), ("WEBHOOK_PORT", "9000")];
        let config = with(&said).unwrap();
        assert_eq!(config.runtime.value, Where::Fly);
        let fly = config.fly.unwrap();
        assert_eq!(fly.server.value.as_str(), "http://my-dispatch.internal:9000/");
        let local = with(&[said[0], ("OPEN_DISPATCH_RUNTIME", "local")]).unwrap();
        assert_eq!(local.runtime.value, Where::Local);
        let off = resolve(&said).unwrap();
        assert_eq!(off.runtime.value, Where::Local, "without machines there is nowhere else");
    }

    #[test]
    fn on_fly_what_a_person_said_of_regions_goes_before_what_the_platform_says() {
        let platform = [("FLY_APP_NAME", "my-dispatch"), ("FLY_REGION", "lhr")];
        let regions = |said: &[(&str, &str)]| with(said).unwrap().fly.unwrap().regions.value;
        assert_eq!(regions(&platform), "lhr");
        let own = ("OPEN_DISPATCH_REGION", "iad, us");
        assert_eq!(regions(&[platform[0], platform[1], own]), "iad,us");
    }

    #[test]
    fn a_bad_value_is_refused_with_its_place_and_the_mend_and_no_secret() {
        let told = |name, value| with(&[(name, value)]).unwrap_err().to_string();
        let lines = [
            told("FLY_SPRITE_APP", "My Sprites"),
            told("FLY_REGION", "ashburn"),
            told("SPRITE_IMAGE", "agent latest"),
            told("SPRITE_IMAGES", "node=x"),
            told("SPRITE_IMAGES", r#"{"a b": "x/y:1"}"#),
            told("SPRITE_IMAGES", r#"{"node": "https://x/y"}"#),
            told("OPEN_DISPATCH_URL", "open-dispatch.internal"),
            told("OPEN_DISPATCH_URL", "ftp://open-dispatch.internal"),
            told("OPEN_DISPATCH_URL", "https://dispatch.example"),
            told("OPEN_DISPATCH_URL", "http://dispatch.example/behind/a/proxy"),
            told("OPEN_DISPATCH_URL", "http://dispatch.example?token=hush"),
            told("OPEN_DISPATCH_URL", "http://dispatch.example#hush"),
            told("FLY_FLAPS_BASE_URL", "http://me:hush@127.0.0.1:1"),
            told("OPEN_DISPATCH_MAX_MACHINES", "0"),
            told("OPEN_DISPATCH_SPRITE_SECRETS", "vault"),
            told("OPEN_DISPATCH_RUNTIME", "moon"),
            told("FLY_API_TOKEN", "hush\u{7}"),
        ]
        .join("\n");
        assert!(!lines.contains("hush"), "{lines}");
        insta::assert_snapshot!(lines);
    }

    #[test]
    fn machines_report_to_a_peer_of_the_private_network_by_its_address() {
        let config = with(&[("OPEN_DISPATCH_URL", "http://[fdaa:0:1:a7b::2]:8080/")]).unwrap();
        let server = config.fly.unwrap().server.value;
        assert_eq!(server.as_str(), "http://[fdaa:0:1:a7b::2]:8080/");
    }

    #[test]
    fn the_servers_own_app_is_no_home_of_machines() {
        let said = with(&[("FLY_APP_NAME", "my-sprites")]).unwrap_err().to_string();
        insta::assert_snapshot!(said, @"FLY_SPRITE_APP is `my-sprites`, which is the app of this server, and machines need one of their own: else what they report to the server reaches each other; make one with fly apps create, and a token of it (docs/fly.md)");
        assert!(with(&[("FLY_APP_NAME", "my-dispatch")]).is_ok());
    }

    #[test]
    fn no_secret_shows_in_debug() {
        let shown = format!("{:?}", with(&[]).unwrap().fly);
        assert!(!shown.contains("fm2_"), "{shown}");
    }
}
