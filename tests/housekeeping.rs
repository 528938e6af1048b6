//! A server that runs for long drops by itself what it need not keep.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/store_fixtures.rs"]
mod fixtures;

use std::{sync::Arc, time::Duration};

use fixtures::{at, tx};
use open_dispatch::{
    ambient::{Ambient, Clock as _, ManualClock, SystemClock},
    app::House,
    config::{Config, Flags, Layers, Machine},
    store::{Op, Receipt},
};

const MINUTE: Duration = Duration::from_secs(60);
/// How long the server may take; by far too long is long enough.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_is_old_goes_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let flags = Flags {
        data: Some(dir.path().join("data")),
        listen: Some("127.0.0.1:0".to_owned()),
        chat: Some("none".to_owned()),
        specs: Some("none".to_owned()),
        ..Flags::default()
    };
    let config = Config::resolve(&flags, &Layers::default(), Machine { cpus: 2 }).unwrap();
    let clock = Arc::new(ManualClock::at(at(0)));
    let ambient = Ambient { clock: clock.clone(), ..Ambient::real() };
    let server = House::open(config).unwrap().start(ambient).await.unwrap();
    let receipt = Receipt { key: "a".to_owned(), effect: String::new() };
    server.store().apply(tx(0, [Op::Receipt(receipt)])).await.unwrap();

    clock.advance(23 * 60 * MINUTE);
    assert!(server.store().receipt("a").await.unwrap().is_some(), "kept for a day");
    clock.advance(2 * 60 * MINUTE);
    let gone = async {
        while server.store().receipt("a").await.unwrap().is_some() {
            clock.advance(MINUTE);
            SystemClock.sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("nothing was dropped");
    assert_eq!(server.store().writes(), 1, "which is no write");
    server.stop().await;
}
