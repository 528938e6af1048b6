//! The reporter in a machine of its own: called without arguments, as an image's entry point, with
//! all that it needs to know in its environment.
//!
//! # The life of a machine
//!
//! A runtime makes a machine with the variables that the original's sidecar knows, and one of ours.
//! That one, `OPEN_DISPATCH_CLAIM=1`, says that the server speaks [our wire](crate::wire): then the
//! reporter *claims* its run ([`claim`]). To have started proves nothing; a machine may boot twice, or
//! exist twice, and only the boot that the server names lives the run. Without that variable the
//! reporter lives the [original's contract](original), so that this program can stand wherever the
//! original's sidecar stood.
//!
//! Either way the machine's environment becomes the agent's ([`heritage`]), a run directory is
//! laid below the machine's paths ([`place`]), and the run is lived by the very code that lives runs
//! on the server's own computer.
//!
//! # The token
//!
//! It comes in the environment, as the original's does, where every process of the machine could
//! read it: in `/proc/PID/environ` of whoever was started with it. So the first thing that this
//! program does is to become itself again without it: it calls itself anew under the same process
//! number, with the token on standard input, and closes its memory. From there on an agent
//! of another user than root finds the token nowhere. One that runs as root in its machine can
//! still read the memory of any process, or ask the platform's own init; what it gains is to
//! speak for this one sprite, for as long as that lives.
//!
//! An image that names a user in `SPRITE_USER` lets all of this be that user's ([`user`]).
//!
//! # An earlier run's remains
//!
//! On a volume a run directory outlives its machine. If the machine died in the middle of a run, the
//! next boot finds what was not told yet, tells it (the server takes it, or says 410), and clears
//! it away. Nothing waits for that longer than [`REMAINS`].

pub mod claim;
pub mod heritage;
pub mod original;
pub mod place;
mod token;
mod user;

use std::{process::ExitCode, time::Duration};

use tokio::time::timeout;

use self::{
    claim::{Claim, Outcome},
    heritage::Heritage,
    place::Place,
};
use crate::{
    cli::PROGRAM,
    process,
    report::Address,
    run::{Contract, Ends, Found, Run},
    rundir::RunDir,
    wire::{CLAIM_VARIABLE, ExitReason, JOB_ID_VARIABLE, RunSpec},
};

/// The name of the call by which this program follows itself, without the token.
pub const MACHINE: &str = "machine";
/// The exit code of a machine that was told to stop by a signal, less the signal's number.
const SIGNALLED: i32 = 128;
/// The exit code where the run has ended and the server does not know all of it.
const UNTOLD: u8 = 75;
/// How long the remains of an earlier run may keep the next one waiting.
const REMAINS: Duration = Duration::from_secs(60);

/// What the machine is, as its environment says.
#[derive(Debug)]
struct Machine {
    job_id: String,
    token: String,
    server: String,
    heritage: Heritage,
    place: Place,
}

/// Called without arguments: looks whether this is a machine, and follows itself without the token.
#[must_use]
pub fn begin() -> ExitCode {
    let heritage = Heritage::of_process();
    if let Err(why) = required(&heritage) {
        complain(&why);
        return ExitCode::FAILURE;
    }
    // It comes back only where that is not possible.
    complain(&format!("cannot call itself again: {}", token::follow_self(&heritage)));
    ExitCode::FAILURE
}

/// Called by [`begin`]: lives what there is to live.
#[must_use]
pub fn main() -> ExitCode {
    let (job_id, token) = match token::take() {
        Ok(taken) => taken,
        Err(why) => {
            complain(&format!("cannot read the token: {why}"));
            return ExitCode::FAILURE;
        }
    };
    let mut heritage = Heritage::of_process();
    if let Err(why) = user::become_named(&mut heritage) {
        complain(&why);
        return ExitCode::FAILURE;
    }
    // Another user's memory is open anew.
    process::close_memory();
    let server = heritage.value("OPEN_DISPATCH_URL").unwrap_or_default().to_owned();
    let machine =
        Place::find(&heritage).map(|place| Machine { job_id, token, server, heritage, place });
    // One thread, as everywhere: it starts processes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let lived = match (machine, runtime) {
        (Ok(machine), Ok(runtime)) => runtime.block_on(machine.live()),
        (Err(why), _) => Err(why),
        (_, Err(why)) => Err(why.to_string()),
    };
    match lived {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

/// What must be there for anything at all, as the original asks for it.
fn required(heritage: &Heritage) -> Result<(), String> {
    let needed = [JOB_ID_VARIABLE, "JOB_TOKEN", "OPEN_DISPATCH_URL"];
    let missing: Vec<&str> =
        needed.into_iter().filter(|name| heritage.value(name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "missing in the environment: {}; a machine gets them from the server that makes it (for \
         the command line of this program, call it with --help)",
        missing.join(", ")
    ))
}

fn complain(why: &str) {
    eprintln!("{PROGRAM}: {why}");
}

/// A number that says which signal ended the machine.
fn signalled(signal: i32) -> u8 {
    u8::try_from(SIGNALLED + signal).unwrap_or(1)
}

impl Machine {
    async fn live(self) -> Result<u8, String> {
        // Heard from the first instant: the first process of a machine dies of no signal that it
        // does not hear, and of each that it does.
        let ends = Ends::of_machine().map_err(|error| error.to_string())?;
        let address = self.address(0);
        // Before anything else, so that what is wrong with it is said at once.
        address.authority().map_err(|error| error.to_string())?;
        if self.heritage.value(CLAIM_VARIABLE).is_some_and(|value| value == "1") {
            self.live_claimed(address, ends).await
        } else {
            self.live_as_original(ends).await
        }
    }

    fn address(&self, run: u32) -> Address {
        Address {
            job_id: self.job_id.clone(),
            run,
            token: self.token.clone(),
            endpoint_file: None,
            server: Some(self.server.clone()),
        }
    }

    async fn live_claimed(&self, address: Address, mut ends: Ends) -> Result<u8, String> {
        let claim = Claim::of(&self.job_id, self.heritage.value("FLY_MACHINE_ID"));
        let outcome = claim.ask(&address, &mut ends, complain).await;
        if matches!(outcome, Outcome::Given(_) | Outcome::Refused(_)) {
            // The server is there.
            let told = tokio::select! {
                told = self.tell_remains() => told,
                signal = ends.asked() => return Ok(signalled(signal)),
            };
            if let Err(why) = told {
                complain(&why);
            }
        }
        match outcome {
            Outcome::Given(claimed) => {
                let mut spec = claimed.spec;
                spec.job_id.clone_from(&self.job_id);
                spec.endpoint_file = None;
                spec.server = Some(self.server.clone());
                let home = self.place.home(claimed.home.as_deref(), &self.heritage)?;
                self.place.settle(&mut spec)?;
                self.heritage.give(&mut spec, &home);
                complain(&format!("has run {} of {}", spec.run, self.job_id));
                self.live_run(spec, ends, Contract::Ours).await
            }
            Outcome::Refused(why) => {
                complain(&format!("there is nothing to do here: {why}"));
                Ok(0)
            }
            Outcome::Signalled(signal) => Ok(signalled(signal)),
            Outcome::Failed(why) => Err(why),
        }
    }

    async fn live_as_original(&self, ends: Ends) -> Result<u8, String> {
        let home = self.place.home(None, &self.heritage)?;
        let asked = original::Asked::of(&self.heritage, &self.place);
        let asked = match asked {
            Ok(asked) => asked,
            Err(why) => {
                original::refuse(&self.address(1), &why).await;
                return Err(why);
            }
        };
        for warning in &asked.warnings {
            complain(warning);
        }
        let mut spec = asked.spec(&self.job_id, &self.server);
        self.place.settle(&mut spec)?;
        self.heritage.give(&mut spec, &home);
        self.heritage.give_task(&mut spec);
        self.live_run(spec, ends, Contract::Original(asked.format)).await
    }

    /// Lives a run in a directory of its own, and answers the code to end with.
    async fn live_run(&self, spec: RunSpec, ends: Ends, contract: Contract) -> Result<u8, String> {
        let dir = self.place.run_dir();
        let fresh = self.place.make_run_dir(&spec).map_err(|error| {
            format!("cannot make the run directory {}: {error}", dir.path().display())
        });
        fresh?;
        let found = Run::take_asked(dir.clone(), self.token.clone(), ends, contract)
            .map_err(|error| error.to_string())?;
        match found {
            Found::Run(run) => run.live().await.map_err(|error| error.to_string())?,
            Found::Held => return Err("another reporter lives this run here".to_owned()),
            Found::Done => {}
        }
        let exit = dir.exit().map_err(|error| error.to_string())?;
        let code = exit.as_ref().map_or(1, crate::wire::Exit::process_code);
        if !dir.drained() {
            let place = dir.path().display();
            complain(&format!("the run has ended; what the server does not know is in {place}"));
            return Ok(if code == 0 { UNTOLD } else { code });
        }
        if let Some(exit) = exit.filter(|exit| exit.reason != ExitReason::Completed) {
            complain(&format!("the run has ended: {:?} {}", exit.reason, exit.message));
        }
        self.place.clear().map_err(|error| format!("cannot clear the run directory: {error}"))?;
        Ok(code)
    }

    /// Tells what an earlier boot of this sprite left untold, and clears it away.
    async fn tell_remains(&self) -> Result<(), String> {
        let dir = self.place.run_dir();
        let unclear = |error: std::io::Error| format!("remains of an earlier run: {error}");
        match self.place.remains(&self.job_id, &self.server).map_err(unclear)? {
            place::Remains::None => return Ok(()),
            place::Remains::Of(others) => {
                // The server told what is missing when it gave that sprite up.
                complain(&format!("clears away what sprite {others} left"));
            }
            place::Remains::Done => {}
            place::Remains::Untold(run) => {
                complain(&format!("tells what run {run} left untold"));
                self.tell(&dir).await?;
            }
        }
        self.place.clear().map_err(unclear)
    }

    async fn tell(&self, dir: &RunDir) -> Result<(), String> {
        match Run::take(dir.clone(), self.token.clone()).map_err(|error| error.to_string())? {
            Found::Run(run) => match timeout(REMAINS, run.live()).await {
                Ok(lived) => lived.map_err(|error| error.to_string()),
                Err(_) => {
                    complain("the server did not take it; it is given up");
                    Ok(())
                }
            },
            Found::Held => Err("another reporter lives there".to_owned()),
            Found::Done => Ok(()),
        }
    }
}
