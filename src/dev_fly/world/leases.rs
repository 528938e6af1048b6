//! Leases: a lock against other writers. Reads, creates and metadata do not ask for it. [doc]

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{
    World, ids,
    reply::{Answer, Done, Refusal},
    state::Lease,
};
use crate::{
    ambient::later,
    dev_fly::call::{Call, Request},
};

const OWNER: &str = "dev-fly@tokens.fly.io";

fn held(id: &str, lease: &Lease) -> Refusal {
    Refusal::new(
        409,
        format!("machine ID {id} lease currently held by {OWNER}, expires at {}", lease.expires),
    )
}

/// In an envelope, whatever the schema says. [obs]
fn envelope(status: u16, lease: &Lease, version: &str) -> Answer {
    Answer::json(
        status,
        json!({"status": "success", "data": {
            "nonce": lease.nonce,
            "expires_at": lease.expires.as_second(),
            "owner": OWNER,
            "description": lease.description,
            "version": version,
        }}),
    )
}

impl World {
    /// The lease of a machine, if it has one now.
    fn lease_of(&self, id: &str, now: Timestamp) -> Option<&Lease> {
        self.machines.get(id)?.lease.as_ref().filter(|lease| lease.expires > now)
    }

    /// Whether a request may change a machine that may be leased.
    pub(super) fn guard(
        &self,
        call: &Call,
        request: &Request,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        match self.lease_of(&call.id, now) {
            Some(lease) if request.nonce.as_deref() != Some(&lease.nonce) => {
                Err(held(&call.id, lease))
            }
            _ => Ok(()),
        }
    }

    /// Leases a machine; answers with the nonce.
    pub(super) fn lease(
        &mut self,
        id: &str,
        ttl: u64,
        description: &str,
        now: Timestamp,
    ) -> String {
        let nonce = ids::nonce(&*self.ids);
        if let Some(machine) = self.machine(id) {
            machine.lease = Some(Lease {
                nonce: nonce.clone(),
                expires: later(now, Duration::from_secs(ttl)),
                description: description.to_owned(),
            });
        }
        nonce
    }

    pub(super) fn lease_get(&self, call: &Call, now: Timestamp) -> Done {
        let instance = &self.live(call)?.instance;
        self.lease_of(&call.id, now)
            .map(|lease| envelope(200, lease, instance))
            .ok_or_else(|| Refusal::new(404, "lease not found"))
    }

    /// Takes or refreshes a lease; `ttl` stands in the body or the query. [spec], [src]
    pub(super) fn lease_take(
        &mut self,
        call: &Call,
        request: &Request,
        body: &serde_json::Value,
        now: Timestamp,
    ) -> Done {
        let instance = self.live(call)?.instance.clone();
        self.guard(call, request, now)?;
        let ttl = body["ttl"]
            .as_u64()
            .or_else(|| request.ask("ttl").and_then(|ttl| ttl.parse().ok()))
            .unwrap_or(30);
        let kept = self.lease_of(&call.id, now).map(|lease| lease.nonce.clone());
        let description = body["description"].as_str().unwrap_or_default();
        self.lease(&call.id, ttl, description, now);
        let lease = self.machine(&call.id).and_then(|machine| machine.lease.as_mut());
        let lease = lease.ok_or_else(|| Refusal::no_machine(&call.id))?;
        if let Some(nonce) = kept {
            lease.nonce = nonce;
        }
        Ok(envelope(201, lease, &instance))
    }

    pub(super) fn lease_release(&mut self, call: &Call, request: &Request, now: Timestamp) -> Done {
        self.live(call)?;
        self.guard(call, request, now)?;
        if let Some(machine) = self.machine(&call.id) {
            machine.lease = None;
        }
        Ok(Answer::ok(json!({"ok": true})))
    }
}
