//! The API, in the shape of the Kubernetes API: its clients are clients of this server.
//!
//! Everything that is written here is desired state, checked whole before anything happens:
//! strictly decoded (an unknown field is an error), admitted, compared with what is there, and
//! committed with compare-and-set. A client that names a `resourceVersion` writes only on top of
//! that one; for one that names none, we read again and try again.

mod access;
mod approvals;
mod audit;
mod deliveries;
mod discovery;
mod grants;
mod leaks;
mod log;
mod metrics;
mod owned;
mod params;
mod read;
mod secrets;
mod table;
mod turns;
mod watch;
mod write;

use axum::{Router, routing};

use super::State;

/// What all our paths begin with.
const PREFIX: &str = "/apis/opendispatch.dev/v1alpha1";

/// The API's routes.
pub(super) fn router() -> Router<State> {
    let at = |path: &str| format!("{PREFIX}{path}");
    Router::new()
        .route("/version", routing::get(discovery::version))
        .route("/api", routing::get(discovery::core))
        .route("/apis", routing::get(discovery::groups))
        .route("/apis/opendispatch.dev", routing::get(discovery::group))
        .route(PREFIX, routing::get(discovery::resources))
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
        .route(&at("/deliveries"), routing::get(deliveries::list))
        .route(&at("/fly/leaks"), routing::get(leaks::get))
        .route(&at("/fly/leaks/confirm"), routing::post(leaks::confirm))
        .route(&at("/{plural}"), routing::get(read::list).post(write::create))
        .route(
            &at("/{plural}/{name}"),
            routing::get(read::get).put(write::put).patch(write::patch).delete(write::delete),
        )
        .route(
            &at("/{plural}/{name}/status"),
            routing::get(read::get).put(write::put_status).patch(write::patch_status),
        )
        .route(&at("/{plural}/{name}/source"), routing::get(owned::get))
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
}
