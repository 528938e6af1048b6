//! Every route that the real server has, read off the router itself.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::http::{Method, StatusCode};
use open_dispatch::{
    chat::{Commands, ConsoleHub, Settings, console},
    resource::Defaults,
    server,
    store::{Principal, Role, files::Files},
};
use serde_json::json;

use super::house::House;

/// Every method and path of a router, as axum's own debug text tells them.
pub fn routes(router: &axum::Router) -> BTreeSet<(String, String)> {
    let text = format!("{router:?}");
    let text = text.split("fallback_router").next().unwrap();
    let (endpoints, paths) = text.split_once("node: ").unwrap();
    // RouteId(3): "/version", and RouteId(3): MethodRouter(MethodRouter { get: Route, head: None, ...
    let by_id = |text: &str| -> BTreeMap<usize, String> {
        let parts = text.split("RouteId(").skip(1);
        parts
            .filter_map(|part| {
                let (id, rest) = part.split_once("): ")?;
                Some((id.parse().ok()?, rest.to_owned()))
            })
            .collect()
    };
    let (endpoints, paths) = (by_id(endpoints), by_id(paths));
    assert_eq!(endpoints.len(), paths.len(), "axum tells its routes in another way by now: {text}");
    let mut found = BTreeSet::new();
    for (id, endpoint) in &endpoints {
        let path = paths[id].split('"').nth(1).unwrap();
        for method in ["get", "delete", "patch", "post", "put"] {
            if !endpoint.contains(&format!("{method}: None")) {
                found.insert((method.to_uppercase(), path.to_owned()));
            }
        }
    }
    found
}

/// The router of a whole server, with what terminals use; people at them are admins.
pub fn whole(house: &House, files: Option<Arc<Files>>) -> axum::Router {
    let real = open_dispatch::ambient::Ambient::real();
    let ambient = open_dispatch::ambient::Ambient { clock: house.clock.clone(), ..real };
    let store = house.store.clone();
    let hub = ConsoleHub::new(store.clone(), ambient.clock.clone());
    let admins = vec![Principal::user("console", "nameless"), Principal::user("console", "ada")];
    let settings = Settings { defaults: Defaults::default(), admins };
    let commands = Arc::new(Commands::new(store, ambient, settings));
    server::router_with(house.state.clone(), console::router(hub, commands, files))
}

/// Whether a token of the API is asked for there.
pub fn is_guarded(path: &str) -> bool {
    !path.starts_with("/webhooks/")
        && !["/health", "/healthz", "/livez", "/ready", "/readyz"].contains(&path)
}

/// Makes a token, and gives it.
pub async fn token(house: &House, name: &str, role: Role, expires: Option<&str>) -> String {
    let wish = json!({"name": name, "role": role, "expires": expires});
    let answer = house.call(Method::POST, "tokens", Some(&wish)).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text());
    answer.json()["token"].as_str().unwrap().to_owned()
}
