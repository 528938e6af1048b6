//! The peer of `benches/reconcile.rs`: the same no-op reconciles in kube-runtime's `applier`,
//! over its reflector store, in memory and on one thread. There is no cluster and no network.
//!
//! It reads lines `ITEMS CONCURRENCY` and answers each with the nanoseconds of one pass, from
//! building the applier to the end of the last reconcile.

use std::{
    convert::Infallible,
    future::ready,
    io::{BufRead as _, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube_client::core::ObjectMeta;
use kube_runtime::{
    controller::{Action, Config, applier},
    reflector::{ObjectRef, Store, store::Writer},
    watcher::Event,
};

fn object(n: usize) -> ConfigMap {
    let metadata = ObjectMeta {
        name: Some(format!("object-{n:07}")),
        namespace: Some("default".to_owned()),
        uid: Some(format!("uid-{n:07}")),
        ..ObjectMeta::default()
    };
    ConfigMap { metadata, ..ConfigMap::default() }
}

/// A store as a reflector leaves it after the first list.
fn filled(items: usize) -> (Writer<ConfigMap>, Store<ConfigMap>) {
    let mut writer = Writer::default();
    let store = writer.as_reader();
    writer.apply_watcher_event(&Event::Init);
    for n in 0..items {
        writer.apply_watcher_event(&Event::InitApply(object(n)));
    }
    writer.apply_watcher_event(&Event::InitDone);
    (writer, store)
}

async fn no_op(store: &Store<ConfigMap>, keys: &[ObjectRef<ConfigMap>], limit: u16) -> Duration {
    let start = Instant::now();
    // The queue stays open: at its end, the applier would stop before it is done.
    let queue = stream::iter(keys.iter().cloned().map(Ok::<_, Infallible>)).chain(stream::pending());
    let done = applier(
        |_, _| ready(Ok::<_, Infallible>(Action::await_change())),
        |_, _, _| Action::await_change(),
        Arc::new(()),
        store.clone(),
        queue,
        Config::default().concurrency(limit),
    );
    let ok = done.take(keys.len()).filter(|end| ready(end.is_ok())).count().await;
    assert_eq!(ok, keys.len(), "some reconciles failed");
    start.elapsed()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut kept: Option<(usize, _, _)> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let mut words = line.split_whitespace();
        let items: usize = words.next().and_then(|n| n.parse().ok()).expect("how many items");
        let limit: u16 = words.next().and_then(|n| n.parse().ok()).expect("how many at once");
        if kept.as_ref().is_none_or(|(had, ..)| *had != items) {
            let keys: Vec<_> = (0..items)
                .map(|n| ObjectRef::new(&format!("object-{n:07}")).within("default"))
                .collect();
            kept = Some((items, filled(items), keys));
        }
        let Some((_, (_, store), keys)) = &kept else { continue };
        let took = runtime.block_on(no_op(store, keys, limit));
        println!("{}", took.as_nanos());
        std::io::stdout().flush().expect("somebody listens");
    }
}
