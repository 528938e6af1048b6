//! Somebody who writes in the very moment before a step, when whoever takes it has read all that they go
//! by.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use open_dispatch::{
    ambient::{Fault, Steps},
    resource::{Agent, AnyObject, Kind},
    store::{Expect, Op, Part, Store, Transaction},
};

/// Writes once, before the first step of a name.
pub struct Meddler {
    store: Arc<dyn Store>,
    step: &'static str,
    ops: Mutex<Vec<Op>>,
}

impl Meddler {
    pub fn new(store: Arc<dyn Store>, step: &'static str, ops: Vec<Op>) -> Arc<Self> {
        Arc::new(Self { store, step, ops: Mutex::new(ops) })
    }

    /// Whether it has written.
    pub fn has_meddled(&self) -> bool {
        self.ops.lock().unwrap().is_empty()
    }
}

#[async_trait]
impl Steps for Meddler {
    async fn before(&self, step: &'static str) -> Result<(), Fault> {
        if step == self.step {
            let ops = std::mem::take(&mut *self.ops.lock().unwrap());
            let now = jiff::Timestamp::from_second(1_800_000_001).unwrap();
            self.store.apply(Transaction { ops, now }).await.unwrap();
        }
        Ok(())
    }

    async fn after(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }
}

/// What somebody may do to the agent `bot` meanwhile.
pub async fn changes(store: &dyn Store) -> [(&'static str, Op); 3] {
    let bot = store.get(Kind::Agent, "bot").await.unwrap().and_then(AnyObject::into_agent);
    let bot = bot.unwrap();
    let write =
        |object: Agent, part| Op::Write { object: object.into(), part, expect: Expect::Any };
    let mut suspended = bot.clone();
    suspended.spec.suspend = true;
    let mut observed = bot.clone();
    observed.status.incarnation += 7;
    let name = bot.metadata.name;
    let delete = Op::Delete { kind: Kind::Agent, name, uid: None, resource_version: None };
    [
        ("suspended", write(suspended, Part::Desired)),
        ("deleted", delete),
        ("observed", write(observed, Part::Status)),
    ]
}
