//! `POST /webhooks/claim`: which boot of a machine has a run.
//!
//! A machine in the cloud is started by an order whose answer may be lost, and can be started by
//! others behind our back. So the order to start is no permission to run: the reporter that
//! comes up asks for its run here, and the first boot that asks has it for ever. That is one
//! compare-and-set on the Sprite's status. A boot that has it hears the same answer as often as it
//! asks, so that an answer that was lost costs nothing; any other boot hears 410 and ends without
//! having started an agent. A machine that exists twice, or boots twice, never runs one twice.
//!
//! Nothing is claimed that must not begin: of a sprite that is to stop, to sleep, or is gone; by
//! a machine that is not the sprite's; or while what the run is to do cannot be said. The last of
//! these is settled before the commit, so that a secret that is missing costs no run.

use axum::{
    extract::{Request, State as Shared},
    http::StatusCode,
    response::Response,
};
use sprite_reporter::wire::{ClaimRequest, Claimed, OLDEST_WIRE_VERSION, WIRE_VERSION};

use super::{
    State, body,
    directory::Standing,
    webhooks::{answer, body_error, caller, error, gone, unauthorized},
};
use crate::{
    resource::{Claim, FlyMachine, Kind, Sprite},
    store::{self, Expect, Op, Part, Transaction},
};

/// The largest body of a claim, in bytes.
const MAX_CLAIM_BODY: usize = 16 * 1024;
/// The longest name of a boot or of a machine, in bytes.
const MAX_NAME: usize = 128;
/// How often a claim is tried that loses against other writers of the same Sprite.
const TRIES: usize = 16;

/// Who can say what a claimed run is to do: a runtime whose machines claim theirs.
pub trait Claims: Send + Sync {
    /// What this Sprite's present run is to do. Asked before the run is given away, and again for
    /// each boot that asks again.
    ///
    /// # Errors
    /// One line on what keeps it from being said now, such as a secret that is missing; the
    /// reporter tells it in its machine's log and asks again.
    fn claimed(&self, sprite: &Sprite) -> Result<Claimed, String>;

    /// The machine of that id, as the Sprite's status is to have it; nothing where claims name no
    /// machines.
    fn machine(&self, id: &str) -> Option<FlyMachine>;
}

/// What becomes of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Nobody has the run: it may be given away.
    Free,
    /// This boot has it already.
    Held,
    /// It is not to be had, for this reason.
    Refused(&'static str),
}

/// `POST /webhooks/claim`
pub(super) async fn claim(Shared(state): Shared<State>, request: Request) -> Response {
    let lane = match caller(&state, request.headers(), request.uri()).await {
        Ok(lane) if lane.standing() == Standing::Live => lane,
        Ok(_) => return gone(),
        Err(refused) => return refused,
    };
    let clock = &*state.0.ambient.clock;
    let bytes = match body::read(request.into_body(), MAX_CLAIM_BODY, clock).await {
        Ok(bytes) => bytes,
        Err(problem) => return body_error(problem),
    };
    let asked = match read(&bytes) {
        Ok(asked) if asked.job_id == lane.uid() => asked,
        Ok(_) => return unauthorized(),
        Err(why) => return error(StatusCode::BAD_REQUEST, why),
    };
    match give(&state, lane.uid(), &asked).await {
        Ok(Ok(claimed)) => answer(StatusCode::OK, &claimed),
        Ok(Err(why)) => error(StatusCode::GONE, format!("{why}; exit without starting an agent")),
        Err(why) => error(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// Gives the run away, or says why this boot does not get it, ever; or why not now.
async fn give(
    state: &State,
    uid: &str,
    asked: &ClaimRequest,
) -> Result<Result<Claimed, &'static str>, String> {
    let Some(claims) = &state.0.extras.claims else {
        return Err("this server runs no machines that claim their runs; it has no Fly runtime \
                    (set FLY_API_TOKEN and FLY_SPRITE_APP)"
            .to_owned());
    };
    for _ in 0..TRIES {
        let found = state.0.store.get_by_uid(Kind::Sprite, uid).await;
        let found = found.map_err(|error| error.to_string())?;
        let Some(mut sprite) = found.and_then(|object| object.into_sprite()) else {
            return Ok(Err("this sprite is gone"));
        };
        let verdict = judge(&sprite, asked);
        if let Verdict::Refused(why) = verdict {
            return Ok(Err(why));
        }
        let claimed = claims.claimed(&sprite)?;
        if verdict == Verdict::Held {
            return Ok(Ok(claimed));
        }
        // The answer to its create may have been lost: then nobody but itself knows its id, and by
        // no list alone can it be told whether it lives.
        if sprite.status.fly.as_ref().is_none_or(|fly| fly.machine_id.is_empty())
            && let Some(machine) = asked.machine.as_deref().and_then(|id| claims.machine(id))
        {
            sprite.status.fly = Some(machine);
        }
        sprite.status.claim = Some(Claim { run: sprite.spec.run, boot: asked.boot.clone() });
        let write =
            Op::Write { object: sprite.into(), part: Part::Status, expect: Expect::SameVersion };
        let commit = state.0.store.apply(Transaction::at(state.0.ambient.clock.now()).with(write));
        match state.0.ambient.step("claim.commit", commit).await {
            Ok(_) => return Ok(Ok(claimed)),
            // Somebody wrote the Sprite meanwhile: look who, and what that means.
            Err(store::Error::Conflict { .. } | store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("the sprite changes too fast; ask again".to_owned())
}

/// Reads a claim, or says what is wrong with it.
fn read(bytes: &[u8]) -> Result<ClaimRequest, String> {
    let asked: ClaimRequest =
        serde_json::from_slice(bytes).map_err(|error| format!("the body is no claim: {error}"))?;
    if !(OLDEST_WIRE_VERSION..=WIRE_VERSION).contains(&asked.wire) {
        return Err(format!(
            "this reporter speaks wire {}, and this server {OLDEST_WIRE_VERSION} to \
             {WIRE_VERSION}; build the image with the sidecar of this server's version",
            asked.wire
        ));
    }
    let is_name = |name: &str| {
        (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if !is_name(&asked.boot) {
        return Err(format!(
            "boot is no name; give 1 to {MAX_NAME} visible characters, drawn at each start"
        ));
    }
    if asked.machine.as_deref().is_some_and(|machine| !is_name(machine)) {
        return Err("machine is no name; leave it out, or give what FLY_MACHINE_ID says".to_owned());
    }
    Ok(asked)
}

/// What a claim gets, from what stands there.
fn judge(sprite: &Sprite, asked: &ClaimRequest) -> Verdict {
    let (spec, status) = (&sprite.spec, &sprite.status);
    let others = |machine: &String| {
        status.fly.as_ref().is_some_and(|fly| {
            // Before the machine's id is known its place stands empty.
            !fly.machine_id.is_empty() && fly.machine_id != *machine
        })
    };
    if sprite.metadata.deletion_timestamp.is_some() {
        return Verdict::Refused("this sprite is being deleted");
    }
    if spec.stop.is_some() {
        return Verdict::Refused("this sprite is to stop");
    }
    if !spec.running {
        return Verdict::Refused("this sprite is to sleep");
    }
    if status.exit.is_some() || status.slept >= spec.run {
        return Verdict::Refused("this run is over");
    }
    if asked.machine.as_ref().is_some_and(others) {
        return Verdict::Refused("this sprite has another machine by now");
    }
    match &status.claim {
        Some(claim) if claim.run == spec.run && claim.boot == asked.boot => Verdict::Held,
        Some(claim) if claim.run >= spec.run => Verdict::Refused("another boot has this run"),
        // Somebody speaks for it who claimed nothing: an original sidecar.
        _ if status.run >= spec.run => Verdict::Refused("another reporter speaks for this run"),
        _ => Verdict::Free,
    }
}
