//! The API, in the shape of the Kubernetes API: its clients are clients of this server.
//!
//! Everything that is written here is desired state, checked whole before anything happens:
//! strictly decoded (an unknown field is an error, unless the client asks for less), admitted,
//! compared with what is there, and committed with compare-and-set. A client that names a
//! `resourceVersion` writes only on top of that one; for one that names none, we read again and
//! try again. All of it passes one gate, [`write::editable`].
//!
//! What a client wants back it says in `Accept` ([`accept`]): objects, tables, bare metadata, YAML.
//! A list is true of one revision from its first page to its last ([`snapshots`]), and a watch goes
//! on where it ended ([`watch`]).

mod accept;
mod access;
mod approvals;
mod audit;
mod create;
mod delete;
mod deliveries;
mod discovery;
mod document;
mod events;
mod grants;
mod leaks;
mod list;
mod log;
mod metrics;
pub mod openapi;
mod options;
mod owned;
mod params;
pub(super) mod protobuf;
mod read;
mod recent;
mod review;
mod scale;
mod secrets;
mod snapshots;
mod table;
mod tls;
mod tokens;
mod turns;
mod update;
mod view;
mod watch;
mod write;

use axum::{Router, middleware, routing};
pub(super) use recent::Recent;
pub(super) use snapshots::Snapshots;

pub(super) use audit::API;

use super::State;

/// What all our paths begin with.
pub(super) const PREFIX: &str = "/apis/opendispatch.dev/v1alpha1";

/// The API's routes.
pub(super) fn router() -> Router<State> {
    let at = |path: &str| format!("{PREFIX}{path}");
    Router::new()
        .route(&at("/secrets"), routing::get(secrets::list))
        .route(&at("/secrets/{name}"), routing::put(secrets::put).delete(secrets::remove))
        .route(&at("/access"), routing::get(access::list))
        .route(&at("/access/pairings"), routing::get(access::pairings))
        .route(&at("/access/pairings/{code}/approve"), routing::post(access::approve))
        .route(
            &at("/access/grants/{principal}"),
            routing::put(access::grant).delete(access::revoke),
        )
        .route(&at("/audit"), routing::get(access::audit))
        .route(&at("/tokens"), routing::get(tokens::list).post(tokens::create))
        .route(&at("/tokens/{name}"), routing::delete(tokens::revoke))
        .route(&at("/tls"), routing::get(tls::get))
        .route(&at("/deliveries"), routing::get(deliveries::list))
        .route(&at("/fly/leaks"), routing::get(leaks::get))
        .route(&at("/fly/leaks/confirm"), routing::post(leaks::confirm))
        .route(&at("/{plural}/{name}/source"), routing::get(owned::get))
        .route(&at("/sources/{name}/inventory"), routing::get(owned::inventory))
        .route(&at("/{plural}/{name}/release"), routing::post(owned::release))
        .route(&at("/{plural}/{name}/log"), routing::get(log::log))
        .route(&at("/{plural}/{name}/approvals"), routing::get(approvals::list))
        .route(&at("/{plural}/{name}/approvals/{request}"), routing::post(approvals::answer))
        .route(&at("/{plural}/{name}/events"), routing::get(read::events))
        .route(&at("/agents/{name}/turns"), routing::get(turns::list).post(turns::add))
        .route(&at("/agents/{name}/turns/{id}"), routing::get(turns::get))
        .route(&at("/agents/{name}/turns/{id}/cancel"), routing::post(turns::cancel))
        .route(&at("/agents/{name}/grants"), routing::get(grants::list))
        .route(&at("/agents/{name}/grants/{id}"), routing::delete(grants::revoke))
        .route("/metrics", routing::get(metrics::metrics))
        .route("/openapi/v2", routing::get(openapi::get_v2))
        .route("/openapi/v3", routing::get(openapi::index))
        .route("/openapi/v3/apis/opendispatch.dev/v1alpha1", routing::get(openapi::get_v3))
        .merge(kubernetes())
}

/// The routes that Kubernetes has, too; their answers have the forms that its clients ask for.
fn kubernetes() -> Router<State> {
    let at = |path: &str| format!("{PREFIX}{path}");
    let mut router = Router::new()
        .route("/version", routing::get(discovery::version))
        .route("/api", routing::get(discovery::core))
        .route("/api/v1", routing::get(discovery::resources))
        .route("/api/v1/namespaces", routing::get(events::namespaces))
        .route("/api/v1/namespaces/{namespace}", routing::get(events::namespace))
        .route("/apis", routing::get(discovery::groups));
    for (group, version) in [
        ("opendispatch.dev", "v1alpha1"),
        ("events.k8s.io", "v1"),
        ("authentication.k8s.io", "v1"),
        ("authorization.k8s.io", "v1"),
    ] {
        router = router
            .route(&format!("/apis/{group}"), routing::get(discovery::group))
            .route(&format!("/apis/{group}/{version}"), routing::get(discovery::resources));
    }
    for prefix in ["/api/v1", "/apis/events.k8s.io/v1"] {
        let of_namespace = format!("{prefix}/namespaces/{{namespace}}/events");
        router = router
            .route(&format!("{prefix}/events"), routing::get(events::everywhere))
            .route(&of_namespace, routing::get(events::of_namespace));
    }
    for (path, ask) in [
        ("authentication.k8s.io/v1/selfsubjectreviews", routing::post(review::whoami)),
        ("authorization.k8s.io/v1/selfsubjectaccessreviews", routing::post(review::may_i)),
        ("authorization.k8s.io/v1/selfsubjectrulesreviews", routing::post(review::rules)),
    ] {
        router = router.route(&format!("/apis/{path}"), ask);
    }
    router
        .route(
            &at("/{plural}"),
            routing::get(read::list).post(create::create).delete(delete::delete_collection),
        )
        .route(
            &at("/{plural}/{name}"),
            routing::get(read::get).put(update::put).patch(update::patch).delete(delete::delete),
        )
        .route(
            &at("/{plural}/{name}/status"),
            routing::get(read::get).put(update::put_status).patch(update::patch_status),
        )
        .route(
            &at("/{plural}/{name}/scale"),
            routing::get(scale::get).put(scale::put).patch(scale::put),
        )
        .route_layer(middleware::from_fn(accept::dress))
}
