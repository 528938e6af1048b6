//! `GET /metrics`: what the server counts, for Prometheus.

use std::collections::BTreeMap;

use axum::{
    extract::State as Shared,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse as _, Response},
};

use crate::{
    metrics::Format,
    resource::Kind,
    server::{State, status::Problem},
};

/// How many sprites are read at once.
const PAGE: usize = 500;

/// `GET /metrics`, in the older text form, or as OpenMetrics to whoever takes that.
pub(super) async fn metrics(
    Shared(state): Shared<State>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let metrics = &state.0.extras.metrics;
    let store = &state.0.store;
    let mut phases: BTreeMap<String, usize> = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list(Kind::Sprite, after.as_deref(), PAGE).await?;
        after = page.items.last().map(|sprite| sprite.metadata().name.clone());
        for sprite in page.items.into_iter().filter_map(|object| object.into_sprite()) {
            let phase = sprite.status.phase;
            let phase = if phase.is_empty() { "Pending".to_owned() } else { phase };
            *phases.entry(phase).or_default() += 1;
        }
        if !page.more {
            break;
        }
    }
    metrics.sprites(phases.iter().map(|(phase, count)| (phase.as_str(), *count)));
    let mut states = BTreeMap::from([("Open".to_owned(), 0), ("Parked".to_owned(), 0)]);
    for delivery in store.open_deliveries().await? {
        *states.entry(format!("{:?}", delivery.state)).or_default() += 1;
    }
    metrics.deliveries(states.iter().map(|(state, count)| (state.as_str(), *count)));
    metrics.commits(store.writes());
    let open = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/openmetrics-text"));
    let (format, sort) = if open {
        (Format::OpenMetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    } else {
        (Format::Prometheus, "text/plain; version=0.0.4; charset=utf-8")
    };
    let sort = HeaderValue::from_static(sort);
    Ok(([(header::CONTENT_TYPE, sort)], metrics.text(format)).into_response())
}
