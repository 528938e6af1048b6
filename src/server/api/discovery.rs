//! What there is: how a client that knows nothing of us finds its way.
//!
//! Two forms say the same: a page for the groups and one for each group version, and, where a
//! client asks for it, all of it in one piece.

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, Uri, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::accept::Accept;
use crate::{
    resource::{GROUP, Kind},
    server::status::{Problem, unknown_path},
};

/// The version of the API within its group.
const VERSION: &str = "v1alpha1";
/// The level of the Kubernetes API that we keep to, as its minor version. Clients compare it with
/// their own, and warn where it is far away.
const LEVEL: &str = "32";
/// What can be done with every kind.
const VERBS: [&str; 7] = ["delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `GET /version`: the level of the API, and behind it, as the build, what we are.
pub(super) async fn version() -> Json<Value> {
    Json(json!({
        "major": "1",
        "minor": LEVEL,
        "gitVersion": format!("v1.{LEVEL}.0+open-dispatch.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    }))
}

/// A part of an object, or something of it, that has an address of its own.
struct Part {
    name: &'static str,
    verbs: &'static [&'static str],
}

/// A kind, as discovery tells it.
struct Resource {
    plural: String,
    singular: String,
    kind: String,
    namespaced: bool,
    verbs: Vec<&'static str>,
    short: Vec<&'static str>,
    categories: Vec<&'static str>,
    parts: Vec<Part>,
}

/// A group, with its one version.
struct Group {
    name: &'static str,
    version: &'static str,
    resources: Vec<Resource>,
}

impl Group {
    /// `GROUP/VERSION`, or the version alone for the group without a name.
    fn group_version(&self) -> String {
        match self.name {
            "" => self.version.to_owned(),
            name => format!("{name}/{}", self.version),
        }
    }
}

/// Our own group.
fn ours() -> Group {
    let resources = Kind::ALL.into_iter().map(|kind| {
        let mut verbs = VERBS.to_vec();
        if kind != Kind::Sprite {
            verbs.insert(0, "create");
        }
        let short = Some(kind.short()).filter(|short| *short != kind.singular());
        Resource {
            plural: kind.plural().to_owned(),
            singular: kind.singular().to_owned(),
            kind: kind.name().to_owned(),
            namespaced: false,
            verbs,
            short: short.into_iter().collect(),
            categories: vec!["all", "open-dispatch"],
            parts: vec![
                Part { name: "status", verbs: &["get", "patch", "update"] },
                Part { name: "log", verbs: &["get"] },
                Part { name: "events", verbs: &["get"] },
            ],
        }
    });
    Group { name: GROUP, version: VERSION, resources: resources.collect() }
}

/// What Kubernetes itself has, and clients cannot do without.
fn theirs() -> [Group; 4] {
    let resource = |plural: &str, kind: &str, namespaced, verbs: &[&'static str]| Resource {
        plural: plural.to_owned(),
        singular: kind.to_ascii_lowercase(),
        kind: kind.to_owned(),
        namespaced,
        verbs: verbs.to_vec(),
        short: Vec::new(),
        categories: Vec::new(),
        parts: Vec::new(),
    };
    let events = || Resource { short: vec!["ev"], ..resource("events", "Event", true, &["list"]) };
    let namespaces = Resource {
        short: vec!["ns"],
        ..resource("namespaces", "Namespace", false, &["get", "list"])
    };
    let reviews = |names: &[(&str, &str)]| -> Vec<Resource> {
        names.iter().map(|(plural, kind)| resource(plural, kind, false, &["create"])).collect()
    };
    [
        Group { name: "", version: "v1", resources: vec![events(), namespaces] },
        Group { name: "events.k8s.io", version: "v1", resources: vec![events()] },
        Group {
            name: "authentication.k8s.io",
            version: "v1",
            resources: reviews(&[("selfsubjectreviews", "SelfSubjectReview")]),
        },
        Group {
            name: "authorization.k8s.io",
            version: "v1",
            resources: reviews(&[
                ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
                ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
            ]),
        },
    ]
}

/// All groups that have a name, ours first.
fn named() -> Vec<Group> {
    let [_, named @ ..] = theirs();
    std::iter::once(ours()).chain(named).collect()
}

/// The group without a name.
fn nameless() -> Group {
    let [nameless, ..] = theirs();
    nameless
}

/// `GET /api`: the group without a name.
pub(super) async fn core(headers: HeaderMap) -> Response {
    let plain = || {
        json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
        })
    };
    in_form(&headers, &[nameless()], plain)
}

/// `GET /apis`: the groups that have a name.
pub(super) async fn groups(headers: HeaderMap) -> Response {
    let plain = || {
        let groups: Vec<Value> = named().iter().map(of_group).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    };
    in_form(&headers, &named(), plain)
}

/// `GET /apis/{group}`
pub(super) async fn group(uri: Uri) -> Result<Json<Value>, Problem> {
    let name = uri.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let Some(found) = named().into_iter().find(|group| group.name == name) else {
        return Err(unknown_path(uri).await);
    };
    let mut group = of_group(&found);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Ok(Json(group))
}

fn of_group(group: &Group) -> Value {
    let version = json!({"groupVersion": group.group_version(), "version": group.version});
    json!({"name": group.name, "versions": [version], "preferredVersion": version})
}

/// `GET /api/v1` and `GET /apis/{group}/{version}`
pub(super) async fn resources(uri: Uri) -> Result<Json<Value>, Problem> {
    let path = uri.path().trim_matches('/');
    let mut groups = named();
    groups.push(nameless());
    let asked = path.strip_prefix("apis/").or_else(|| path.strip_prefix("api/"));
    let Some(group) = groups.into_iter().find(|group| Some(&*group.group_version()) == asked)
    else {
        return Err(unknown_path(uri).await);
    };
    let mut resources = Vec::new();
    for resource in &group.resources {
        let mut object = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": resource.verbs,
        });
        if !resource.short.is_empty() {
            object["shortNames"] = resource.short.clone().into();
        }
        if !resource.categories.is_empty() {
            object["categories"] = resource.categories.clone().into();
        }
        resources.push(object);
        resources.extend(resource.parts.iter().map(|part| {
            json!({
                "name": format!("{}/{}", resource.plural, part.name),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": part.verbs,
            })
        }));
    }
    Ok(Json(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group.group_version(),
        "resources": resources,
    })))
}

/// The plain page, or all of it in one piece.
fn in_form(headers: &HeaderMap, groups: &[Group], plain: impl FnOnce() -> Value) -> Response {
    let Some(version) = Accept::of(headers).discovery() else {
        return Json(plain()).into_response();
    };
    let items: Vec<Value> = groups.iter().map(in_one_piece).collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    let sort = match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(sort)),
        (header::VARY, HeaderValue::from_static("Accept")),
    ];
    (headers, list.to_string()).into_response()
}

fn in_one_piece(group: &Group) -> Value {
    let response =
        |kind: &str| json!({"group": group.name, "version": group.version, "kind": kind});
    let resources: Vec<Value> = group
        .resources
        .iter()
        .map(|resource| {
            let parts: Vec<Value> = resource
                .parts
                .iter()
                .map(|part| {
                    json!({
                        "subresource": part.name,
                        "responseKind": response(&resource.kind),
                        "verbs": part.verbs,
                    })
                })
                .collect();
            let mut found = json!({
                "resource": resource.plural,
                "responseKind": response(&resource.kind),
                "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
                "singularResource": resource.singular,
                "verbs": resource.verbs,
            });
            for (name, list) in
                [("shortNames", &resource.short), ("categories", &resource.categories)]
            {
                if !list.is_empty() {
                    found[name] = list.clone().into();
                }
            }
            if !parts.is_empty() {
                found["subresources"] = parts.into();
            }
            found
        })
        .collect();
    json!({
        "metadata": {"name": group.name, "creationTimestamp": null},
        "versions": [{"version": group.version, "resources": resources, "freshness": "Current"}],
    })
}
