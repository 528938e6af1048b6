//! Counts the turns that end, by watching the ledger.
//!
//! Turns end in many rooms: what a sprite reports ends them, and so does a controller. Here all
//! of that is seen at one place, behind the commit. What ended while no server ran is not
//! counted: a counter begins at zero with its process.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::sync::broadcast::error::RecvError;

use crate::{
    metrics::Metrics,
    resource::Kind,
    store::{Bell, Error, Store, Turn},
};

/// How many rows are read at once.
const PAGE: usize = 500;

/// What is known of an agent's turns.
#[derive(Default)]
struct Known {
    /// The highest number that was seen.
    n: u64,
    /// Those that have not ended.
    open: BTreeSet<String>,
}

/// Counts until the store is closed.
pub async fn count_turns(store: Arc<dyn Store>, metrics: Metrics) {
    let mut bell = store.bell();
    let mut known: HashMap<String, Known> = HashMap::new();
    if let Err(error) = begin(&*store, &mut known).await {
        tracing::warn!(%error, "turns that are under way may not be counted when they end");
    }
    loop {
        let agents = match bell.recv().await {
            Ok(Bell::Turns(agent)) => vec![agent],
            Ok(_) => continue,
            Err(RecvError::Lagged(_)) => known.keys().cloned().collect(),
            Err(RecvError::Closed) => return,
        };
        for agent in agents {
            let of_agent = known.entry(agent.clone()).or_default();
            match look(&*store, &agent, of_agent).await {
                Ok(ended) => ended.iter().for_each(|turn| count(&metrics, turn)),
                // The next bell finds what this one missed.
                Err(error) => tracing::debug!(%error, "turns could not be counted"),
            }
        }
    }
}

/// Learns what is there.
async fn begin(store: &dyn Store, known: &mut HashMap<String, Known>) -> Result<(), Error> {
    let mut after: Option<String> = None;
    loop {
        let page = store.list(Kind::Agent, after.as_deref(), PAGE).await?;
        after = page.items.last().map(|agent| agent.metadata().name.clone());
        for agent in &page.items {
            let uid = &agent.metadata().uid;
            let open = store.open_turns(uid).await?.into_iter().map(|turn| turn.id).collect();
            let n = store.last_turns(uid, 1).await?.first().map_or(0, |turn| turn.n);
            known.insert(uid.clone(), Known { n, open });
        }
        if !page.more {
            return Ok(());
        }
    }
}

/// The turns that have ended since the last look.
async fn look(store: &dyn Store, agent: &str, known: &mut Known) -> Result<Vec<Turn>, Error> {
    loop {
        let fresh = store.turns(agent, known.n, PAGE).await?;
        let Some(last) = fresh.last() else { break };
        known.n = last.n;
        known.open.extend(fresh.iter().map(|turn| turn.id.clone()));
    }
    let open: BTreeSet<String> =
        store.open_turns(agent).await?.into_iter().map(|turn| turn.id).collect();
    let mut ended = Vec::new();
    for id in known.open.difference(&open) {
        ended.extend(store.turn(id).await?.filter(|turn| turn.state.is_final()));
    }
    known.open = open;
    Ok(ended)
}

fn count(metrics: &Metrics, turn: &Turn) {
    let length = turn
        .started
        .zip(turn.ended)
        .map(|(began, ended)| Duration::try_from(ended.duration_since(began)).unwrap_or_default());
    metrics.turn_ended(&format!("{:?}", turn.state), length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metrics::Format,
        store::{Op, Transaction, TurnState, memory::MemoryStore},
    };

    #[tokio::test]
    async fn each_turn_that_ends_is_counted_once_by_its_outcome() {
        let store: Arc<dyn Store> = MemoryStore::new();
        let metrics = Metrics::new();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let apply = async |op: Op| {
            store.apply(Transaction::at(now).with(op)).await.unwrap();
        };
        let mut known = Known::default();
        let turn = |id: &str| Turn::queued(id, "agent", "hello", "api", now);
        let end = |id: &str, state: TurnState| Op::MoveTurn {
            turn: Turn { state, ended: Some(now), started: Some(now), ..turn(id) },
            from: vec![TurnState::Queued],
        };
        apply(Op::AddTurn(turn("a"))).await;
        assert!(look(&*store, "agent", &mut known).await.unwrap().is_empty());
        // One that comes and ends between two looks counts too.
        apply(Op::AddTurn(turn("b"))).await;
        apply(end("a", TurnState::Succeeded)).await;
        apply(end("b", TurnState::Cancelled)).await;
        let ended = look(&*store, "agent", &mut known).await.unwrap();
        assert_eq!(ended.len(), 2);
        assert!(look(&*store, "agent", &mut known).await.unwrap().is_empty());
        ended.iter().for_each(|turn| count(&metrics, turn));
        let text = metrics.text(Format::Prometheus);
        for line in [
            "opendispatch_turns_total{outcome=\"Succeeded\"} 1",
            "opendispatch_turns_total{outcome=\"Cancelled\"} 1",
            "opendispatch_turn_duration_seconds_count 2",
        ] {
            assert!(text.contains(line), "{line} is missing:\n{text}");
        }
    }
}
