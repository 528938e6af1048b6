//! What doctor looks at of Fly Machines: whether the token opens the app, from which images
//! machines are made, and whether they can find the server again.
//!
//! Fly is asked one thing, which changes nothing. Whether machines reach the server cannot be
//! tried from here; what keeps them from it can be read off the settings in most cases.

use std::{net::SocketAddr, time::Duration};

use url::{Host, Url};

use super::Check;
use crate::{
    ambient::Ambient,
    config::{Config, Fly},
    runtime::fly::api::{ApiError, Machines},
};

/// How long a server of this computer may take to answer.
const HEALTH_TIME: Duration = Duration::from_secs(3);

/// The checks of machines; none where there are none.
pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let Some(fly) = &config.fly else { return Vec::new() };
    let on_fly = super::here::variable(config, "FLY_APP_NAME").is_some();
    let reach = match reach(fly, config.listen.value, on_fly) {
        found if is_of_here(fly, config.listen.value) => answers(fly, found).await,
        found => found,
    };
    vec![app(fly).await, images(fly), reach]
}

/// Whether the token opens the app.
async fn app(fly: &Fly) -> Check {
    const NAME: &str = "fly app";
    let app = &fly.app.value;
    let client = Machines::new(&fly.api.value, &fly.token.value, app, Ambient::real());
    let asked = match client {
        Ok(client) => client.app().await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(Some(found)) if found.organization.slug.is_empty() => {
            Check::ok(NAME, format!("FLY_API_TOKEN opens {app}"))
        }
        Ok(Some(found)) => {
            Check::ok(NAME, format!("FLY_API_TOKEN opens {app}, of {}", found.organization.slug))
        }
        Ok(None) => {
            let mend = format!("make it with fly apps create {app}, or set FLY_SPRITE_APP anew");
            Check::fails(NAME, format!("there is no app {app}"), mend)
        }
        // Others say their mend themselves.
        Err(error @ (ApiError::Unavailable(_) | ApiError::RateLimited { .. })) => {
            Check::fails(NAME, error.to_string(), "check the network, and status.flyio.net")
        }
        Err(error) => Check::fails(NAME, error.to_string(), ""),
    }
}

/// From which images machines are made.
fn images(fly: &Fly) -> Check {
    const NAME: &str = "fly images";
    let aliases: Vec<&str> = fly.images.value.keys().map(String::as_str).collect();
    let known = match aliases.as_slice() {
        [] => String::new(),
        aliases => format!("; aliases {}", aliases.join(", ")),
    };
    match &fly.image.value {
        Some(image) => Check::ok(NAME, format!("{image}{known}")),
        None => {
            let mend = "whoever starts something must name one; SPRITE_IMAGE would be the default";
            Check::note(NAME, format!("there is no default{known}"), mend)
        }
    }
}

/// Whether machines find the server, as far as its settings tell.
fn reach(fly: &Fly, listen: SocketAddr, on_fly: bool) -> Check {
    const NAME: &str = "fly server";
    let url = &fly.server.value;
    let shown = url.as_str().trim_end_matches('/');
    // A stand-in for Fly on this machine makes its machines here as well.
    if is_loopback(&fly.api.value) {
        if is_loopback(url) {
            return Check::ok(NAME, format!("machines of this computer report to {shown}"));
        }
        let mend = format!("set OPEN_DISPATCH_URL=http://127.0.0.1:{}", listen.port());
        return Check::fails(NAME, format!("machines of this computer do not find {shown}"), mend);
    }
    if is_loopback(url) {
        let mend = "set OPEN_DISPATCH_URL to an address that reaches this server from there";
        return Check::fails(NAME, format!("{shown} is each machine's own loopback"), mend);
    }
    let private = is_private(url);
    if private && listen.ip().is_loopback() {
        let mend = "set OPEN_DISPATCH_LISTEN=[::]:8080";
        let found = format!("machines report to {shown}, and the server listens on {listen} alone");
        return Check::fails(NAME, found, mend);
    }
    if private && listen.is_ipv4() {
        let mend = "Fly's private network is IPv6; set OPEN_DISPATCH_LISTEN=[::]:8080";
        return Check::fails(NAME, format!("the server listens on {listen}, which is IPv4"), mend);
    }
    if private && url.port_or_known_default() != Some(listen.port()) {
        let found = format!("machines report to {shown}, and the server listens on {listen}");
        return Check::fails(NAME, found, "let the two name the same port");
    }
    if private && !on_fly && !is_peer(url) {
        let mend = "run the server on Fly in the same organisation, or join its network by \
                    WireGuard and name the address there (docs/fly.md, The server elsewhere)";
        let found = format!("{shown} is found on Fly's private network, where this machine is not");
        return Check::note(NAME, found, mend);
    }
    if !private {
        let mend = "let tokens travel over a private network alone: join the organisation's by \
                    WireGuard and name the address there (docs/fly.md, The server elsewhere)";
        return Check::note(NAME, format!("machines report to {shown} without TLS"), mend);
    }
    Check::ok(NAME, format!("machines report to {shown}"))
}

/// Whether machines are made on this computer and told an address of it that is not the one on which
/// the server listens by its settings: somebody may have told the server another one.
fn is_of_here(fly: &Fly, listen: SocketAddr) -> bool {
    let url = &fly.server.value;
    is_loopback(&fly.api.value)
        && is_loopback(url)
        && url.port_or_known_default() != Some(listen.port())
}

/// Whether a server answers at the address that machines are told. It is one of this computer's.
async fn answers(fly: &Fly, found: Check) -> Check {
    let shown = fly.server.value.as_str().trim_end_matches('/');
    let client = reqwest::Client::builder()
        .timeout(HEALTH_TIME)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build();
    let asked = match client {
        Ok(client) => client.get(format!("{shown}/health")).send().await.ok(),
        Err(_) => None,
    };
    match asked {
        Some(answer) if answer.status().is_success() => found,
        _ => {
            let mend = "set OPEN_DISPATCH_URL to where the server listens, or start it there";
            let found = format!("machines report to {shown}, and no server answers there");
            Check::fails("fly server", found, mend)
        }
    }
}

/// Whether an address lies on Fly's private network: by its DNS, or by its addresses (`fdaa::/16`,
/// Fly's documentation of private networking).
fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.ends_with(".internal"),
        Some(Host::Ipv6(address)) => address.segments()[0] == 0xfdaa,
        Some(Host::Ipv4(_)) | None => false,
    }
}

/// Whether a private address can be a WireGuard peer's, and so a machine's that is not on Fly.
fn is_peer(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.ends_with("._peer.internal"),
        _ => true,
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Ipv6(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, Layers, Machine};

    fn config(more: &[(&str, &str)]) -> Config {
        let said = [
            ("HOME", "/home/a"),
            ("FLY_API_TOKEN", "hush"),
            ("FLY_SPRITE_APP", "my-sprites"),
            ("SPRITE_IMAGES", r#"{"node": "registry.fly.io/my-sprites/node:v1"}"#),
        ];
        let all = said.iter().chain(more).map(|&(name, value)| (name.into(), value.into()));
        Config::resolve(&Flags::default(), &Layers::environment(all), Machine { cpus: 1 }).unwrap()
    }

    #[test]
    fn what_keeps_machines_from_the_server_is_read_off_the_settings() {
        let everywhere = ("OPEN_DISPATCH_LISTEN", "[::]:8080");
        let told = [
            vec![everywhere, ("FLY_APP_NAME", "my-dispatch")],
            vec![everywhere],
            vec![],
            vec![("OPEN_DISPATCH_LISTEN", "0.0.0.0:8080")],
            vec![everywhere, ("OPEN_DISPATCH_URL", "http://my-dispatch.internal:9000")],
            vec![("OPEN_DISPATCH_URL", "http://localhost:8080")],
            vec![("OPEN_DISPATCH_URL", "http://dispatch.example")],
            vec![everywhere, ("OPEN_DISPATCH_URL", "http://[fdaa:0:1:a7b::2]:8080")],
            vec![everywhere, ("OPEN_DISPATCH_URL", "http://home._peer.internal:8080")],
            vec![("OPEN_DISPATCH_URL", "http://[fdaa:0:1:a7b::2]:8080")],
            vec![("FLY_FLAPS_BASE_URL", "http://127.0.0.1:4280")],
            vec![
                ("FLY_FLAPS_BASE_URL", "http://127.0.0.1:4280"),
                ("OPEN_DISPATCH_URL", "http://127.0.0.1:8080"),
            ],
        ]
        .map(|more| {
            let config = config(&more);
            let on_fly = more.iter().any(|(name, _)| *name == "FLY_APP_NAME");
            let check = reach(config.fly.as_ref().unwrap(), config.listen.value, on_fly);
            format!("{:?} {}; {}", check.state, check.found, check.mend)
        });
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn without_a_default_image_somebody_must_name_one() {
        let aliases = images(config(&[]).fly.as_ref().unwrap());
        assert_eq!(aliases.found, "there is no default; aliases node");
        let usual = images(config(&[("SPRITE_IMAGE", "node")]).fly.as_ref().unwrap());
        assert_eq!(usual.found, "node; aliases node");
    }

    #[tokio::test]
    async fn an_address_of_this_computer_at_which_nobody_answers_is_told() {
        // A port that is nobody's for now.
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let url = format!("http://127.0.0.1:{port}");
        let config = config(&[
            ("FLY_FLAPS_BASE_URL", "http://127.0.0.1:4280"),
            ("OPEN_DISPATCH_URL", &url),
            ("OPEN_DISPATCH_LISTEN", "127.0.0.1:8394"),
        ]);
        let fly = config.fly.as_ref().unwrap();
        assert!(is_of_here(fly, config.listen.value));
        assert!(!is_of_here(fly, SocketAddr::from(([127, 0, 0, 1], port))), "that is the server's");
        let found = reach(fly, config.listen.value, false);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let told = answers(fly, found).await;
        assert_eq!(told.found, format!("machines report to {url}, and no server answers there"));
        assert!(told.mend.contains("OPEN_DISPATCH_URL"), "{}", told.mend);
    }
}
