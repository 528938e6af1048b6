//! Where the API is, and where a token may be sent.
//!
//! From outside the API is asked by TLS. On Fly's private network it listens at
//! `http://_api.internal:4280` in the clear: the network itself is a tunnel (WireGuard), so plain
//! HTTP is good there, and to this computer, for tests. Anywhere else it would hand the token to
//! whoever listens on the way. Chat has a like rule of its own that does not know this network,
//! and must not.

use std::net::Ipv6Addr;

use url::{Host, Url};

use super::errors::ApiError;

/// The address below which all paths lie: as told, without a `/v1` or slash at its end, then `/v1`.
///
/// # Errors
/// It is none to which a token may be sent, or has more in it than an address of an API has.
pub(super) fn base(api: &Url) -> Result<Url, ApiError> {
    let refuse = |why: &str| {
        let mut shown = api.clone();
        // What stands before an `@` may be a secret.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.set_query(None);
        shown.set_fragment(None);
        Err(ApiError::Setup(format!("the Machines API cannot be at {shown}: {why}")))
    };
    if !api.username().is_empty() || api.password().is_some() {
        return refuse("it has a user in it; the token stands in FLY_API_TOKEN");
    }
    if api.query().is_some() || api.fragment().is_some() {
        return refuse("it has a query or fragment in it");
    }
    match api.scheme() {
        "https" if api.has_host() => {}
        "http" if is_tunnelled(api) => {}
        "http" => {
            return refuse(
                "the token could be read on the way; plain http is for this computer and for Fly's private network (*.internal, fdaa:…)",
            );
        }
        _ => return refuse("it is neither https nor http"),
    }
    let mut base = api.clone();
    let path = api.path().trim_end_matches('/');
    base.set_path(&format!("{}/v1", path.strip_suffix("/v1").unwrap_or(path)));
    Ok(base)
}

/// Whether what is sent there in the clear stays on this computer or inside Fly's tunnels.
fn is_tunnelled(api: &Url) -> bool {
    match api.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback() || is_6pn(address),
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".internal")
        }
        None => false,
    }
}

/// Whether an address is one of Fly's private network.
fn is_6pn(address: Ipv6Addr) -> bool {
    address.segments()[0] == 0xfdaa
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(api: &str) -> Result<String, String> {
        base(&Url::parse(api).unwrap()).map(String::from).map_err(|error| error.to_string())
    }

    #[test]
    fn both_of_flys_addresses_are_taken_with_or_without_version_and_slash() {
        for (api, base) in [
            ("https://api.machines.dev", "https://api.machines.dev/v1"),
            ("https://api.machines.dev/", "https://api.machines.dev/v1"),
            ("https://api.machines.dev/v1", "https://api.machines.dev/v1"),
            ("https://api.machines.dev/v1/", "https://api.machines.dev/v1"),
            ("http://_api.internal:4280", "http://_api.internal:4280/v1"),
            ("http://[fdaa::3]:4280", "http://[fdaa::3]:4280/v1"),
            ("http://127.0.0.1:9/fly", "http://127.0.0.1:9/fly/v1"),
            ("http://[::1]:9", "http://[::1]:9/v1"),
            ("http://localhost:4280", "http://localhost:4280/v1"),
        ] {
            assert_eq!(at(api).as_deref(), Ok(base), "{api}");
        }
    }

    #[test]
    fn a_token_goes_nowhere_where_it_could_be_read_on_the_way() {
        for api in [
            "http://api.machines.dev",
            "http://10.0.0.1:4280",
            "http://[fd00::3]:4280",
            "http://127.0.0.1.evil.example",
            "http://internal",
            "http://_api.internal.evil.example",
            "ftp://127.0.0.1",
            "unix:/.fly/api",
            "https://me:hunter2@api.machines.dev",
            "https://api.machines.dev?token=hunter2",
            "https://api.machines.dev#hunter2",
        ] {
            let error = at(api).unwrap_err();
            assert!(error.starts_with("the Machines API cannot be at "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
