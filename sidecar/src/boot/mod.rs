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
//! # What keeps a run from beginning
//!
//! From the claim on nobody else may live the run. So what fails before there is a run directory (a
//! volume that is not ours to write, a user that the image does not have) is no business of the
//! machine's log alone: it is told to the server as the run's end, as what fails later would be.
//!
//! # An earlier run's remains
//!
//! On a volume a run directory outlives its machine. If the machine died in the middle of a run, the
//! next boot finds what was not told yet, tells it (the server takes it, or says 410), and clears
//! it away. A boot that cannot become the user that it shall be leaves all of that alone. Nothing waits for that longer than [`REMAINS`].

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
    ambient,
    cli::PROGRAM,
    process,
    report::{self, Address},
    run::{Contract, Ends, Found, Run},
    rundir::RunDir,
    wire::{
        CLAIM_VARIABLE, Claimed, Containment, EventBody, Exit, ExitReason, JOB_ID_VARIABLE,
        RunSpec, WIRE_VERSION,
    },
};

/// The name of the call by which this program follows itself, without the token.
pub const MACHINE: &str = "machine";
/// The exit code of a machine that was told to stop by a signal, less the signal's number.
const SIGNALLED: i32 = 128;
/// The exit code where the run has ended and the server does not know all of it.
const UNTOLD: u8 = 75;
/// How long the remains of an earlier run may keep the next one waiting.
const REMAINS: Duration = Duration::from_secs(60);

/// How long a machine waits to tell that its run cannot begin.
const TELLS: Duration = Duration::from_secs(60 * 60);

/// What the machine is, as its environment says.
#[derive(Debug)]
struct Machine {
    /// What keeps any run from beginning here.
    unfit: Option<String>,
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
    // Nothing of an agent's runs then; but the server is to know it.
    let unfit = user::become_named(&mut heritage).err();
    // Another user's memory is open anew.
    process::close_memory();
    let server = heritage.value("OPEN_DISPATCH_URL").unwrap_or_default().to_owned();
    let machine = Place::find(&heritage).map(|place| Machine {
        unfit,
        job_id,
        token,
        server,
        heritage,
        place,
    });
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
        // With no user to become we are root, and what lies on the volume is an agent's, links among it:
        // nobody reads that as root. It is told by the next boot that fits.
        let is_there = matches!(outcome, Outcome::Given(_) | Outcome::Refused(_));
        if is_there && self.is_fit().is_ok() {
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
                let run = claimed.spec.run;
                match self.take_claimed(*claimed, ends) {
                    Ok(found) => {
                        complain(&format!("has run {run} of {}", self.job_id));
                        self.live_run(found).await
                    }
                    Err(why) => self.refuse(run, why).await,
                }
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
        match self.take_original(ends) {
            Ok(found) => self.live_run(found).await,
            Err(why) => {
                original::refuse(&self.address(1), &why).await;
                Err(why)
            }
        }
    }

    /// Lays out a run that was claimed, and takes it.
    fn take_claimed(&self, claimed: Claimed, ends: Ends) -> Result<Found, String> {
        self.is_fit()?;
        let mut spec = claimed.spec;
        spec.job_id.clone_from(&self.job_id);
        spec.endpoint_file = None;
        spec.server = Some(self.server.clone());
        let home = self.place.home(claimed.home.as_deref(), &self.heritage)?;
        self.place.settle(&mut spec)?;
        self.heritage.give(&mut spec, &home);
        self.take_run(&spec, ends, Contract::Ours)
    }

    /// Lays out what the variables ask for, and takes it.
    fn take_original(&self, ends: Ends) -> Result<Found, String> {
        self.is_fit()?;
        let home = self.place.home(None, &self.heritage)?;
        let asked = original::Asked::of(&self.heritage, &self.place)?;
        for warning in &asked.warnings {
            complain(warning);
        }
        let mut spec = asked.spec(&self.job_id, &self.server);
        self.place.settle(&mut spec)?;
        self.heritage.give(&mut spec, &home);
        self.heritage.give_task(&mut spec);
        self.take_run(&spec, ends, Contract::Original(asked.format))
    }

    fn is_fit(&self) -> Result<(), String> {
        self.unfit.clone().map_or(Ok(()), Err)
    }

    /// Makes a directory for a run, and takes it.
    fn take_run(&self, spec: &RunSpec, ends: Ends, contract: Contract) -> Result<Found, String> {
        self.place.make_run_dir(spec)?;
        Run::take_asked(self.place.run_dir(), self.token.clone(), ends, contract)
            .map_err(|error| error.to_string())
    }

    /// Tells the server that the run that is ours ended before it began, and answers the code to end
    /// with.
    async fn refuse(&self, run: u32, why: String) -> Result<u8, String> {
        complain(&format!("run {run} cannot begin: {why}"));
        let mut ends = Ends::of_machine().map_err(|error| error.to_string())?;
        let process = process::identity().map_err(|error| error.to_string())?;
        let (wire, version) = (WIRE_VERSION, env!("CARGO_PKG_VERSION").into());
        let hello =
            EventBody::Hello { wire, version, process, containment: Containment::default() };
        let reason = ExitReason::StartFailed;
        let exit = Exit { code: None, signal: None, reason, message: why };
        let (address, code) = (self.address(run), exit.process_code());
        tokio::select! {
            _ = report::refuse(&address, hello, exit) => Ok(code),
            signal = ends.asked() => Ok(signalled(signal)),
            () = ambient::sleep(TELLS) => Ok(UNTOLD),
        }
    }

    /// Lives a run in the directory that was taken, and answers the code to end with.
    async fn live_run(&self, found: Found) -> Result<u8, String> {
        let dir = self.place.run_dir();
        match found {
            Found::Run(run) => run.live().await.map_err(|error| error.to_string())?,
            Found::Held => return Err("another reporter lives this run here".to_owned()),
            Found::Done => {}
        }
        let exit = dir.exit().map_err(|error| error.to_string())?;
        let code = exit.as_ref().map_or(1, Exit::process_code);
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
