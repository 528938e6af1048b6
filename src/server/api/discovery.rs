//! What there is: how a client that knows nothing of us finds its way.

use axum::Json;
use serde_json::{Value, json};

use crate::resource::{API_VERSION, GROUP, Kind};

/// The version of the API within its group.
const VERSION: &str = "v1alpha1";

/// `GET /version`
pub(super) async fn version() -> Json<Value> {
    Json(json!({
        "major": env!("CARGO_PKG_VERSION_MAJOR"),
        "minor": env!("CARGO_PKG_VERSION_MINOR"),
        "gitVersion": concat!("v", env!("CARGO_PKG_VERSION")),
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    }))
}

/// `GET /api`: the group without a name, of which we have nothing.
pub(super) async fn core() -> Json<Value> {
    Json(json!({"kind": "APIVersions", "versions": [], "serverAddressByClientCIDRs": []}))
}

/// `GET /apis`
pub(super) async fn groups() -> Json<Value> {
    Json(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [our_group()]}))
}

/// `GET /apis/opendispatch.dev`
pub(super) async fn group() -> Json<Value> {
    let mut group = our_group();
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Json(group)
}

fn our_group() -> Value {
    let version = json!({"groupVersion": API_VERSION, "version": VERSION});
    json!({"name": GROUP, "versions": [version], "preferredVersion": version})
}

/// `GET /apis/opendispatch.dev/v1alpha1`
pub(super) async fn resources() -> Json<Value> {
    let resources: Vec<Value> = Kind::ALL
        .into_iter()
        .flat_map(|kind| {
            let mut verbs = vec!["delete", "get", "list", "patch", "update", "watch"];
            if kind != Kind::Sprite {
                verbs.insert(0, "create");
            }
            let short = Some(kind.short()).filter(|short| *short != kind.singular());
            let object = json!({
                "name": kind.plural(),
                "singularName": kind.singular(),
                "namespaced": false,
                "kind": kind.name(),
                "verbs": verbs,
                "shortNames": short.into_iter().collect::<Vec<_>>(),
                "categories": ["all"],
            });
            let part = |name: &str, verbs: &[&str]| {
                json!({
                    "name": format!("{}/{name}", kind.plural()),
                    "singularName": "",
                    "namespaced": false,
                    "kind": kind.name(),
                    "verbs": verbs,
                })
            };
            [
                object,
                part("status", &["get", "patch", "update"]),
                part("log", &["get"]),
                part("events", &["get"]),
            ]
        })
        .collect();
    Json(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": API_VERSION,
        "resources": resources,
    }))
}
