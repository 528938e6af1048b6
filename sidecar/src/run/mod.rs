//! One run of a sprite, from the lock to the last acknowledgement.
//!
//! A reporter that gets the lock of a run directory finds one of two things there. If nobody was
//! here before, it writes down who it is, says hello, prepares the workspace, and lives
//! with the agent ([`life`]) until its process tree is gone. If somebody was, that reporter
//! died, and there is no agent to live with any more: it kills what is left, writes down that
//! the end is not known, and starts nothing. Either way it stays until the server holds
//! everything.
//!
//! Invariants:
//! - `state.json` is on disk before the agent starts.
//! - The process tree is empty before the exit event is numbered.
//! - The exit event is in the spool before `exit.json` is written, and that before `drained`.

mod artifacts;
mod attachments;
mod clock;
mod ladder;
mod life;
mod links;
mod pen;
mod turns;
mod words;
mod work;
mod workspace;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};

use crate::{
    ambient,
    process::{self, Tree},
    report::{self, Address, AddressError, Desk, Format, Verdict},
    rundir::{RunDir, RunLock, State},
    spool::{self, Spool},
    wire::{Containment, EventBody, Exit, ExitReason, RunSpec, WIRE_VERSION},
};

/// How long a reporter that has nothing to do stays without a server.
const ABANDONED_AFTER: Duration = Duration::from_secs(60 * 60);

/// How long the last words of a run wait for a server that speaks the original's contract: such a
/// one has given the job up by then.
const ORIGINAL_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The run directory cannot be used.
    #[error("cannot use the run directory {path}: {error}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The server's address cannot be used.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// This process cannot be told from others.
    #[error("cannot tell which process this is: {0}")]
    Identity(io::Error),
}

/// What a reporter finds in a run directory.
pub enum Found {
    /// Another reporter lives there.
    Held,
    /// Everything was done and told.
    Done,
    /// A run to begin, or to clean up after.
    Run(Box<Run>),
}

/// A run that this process holds the lock of.
pub struct Run {
    dir: RunDir,
    _lock: RunLock,
    spec: Arc<RunSpec>,
    address: Address,
    containment: Containment,
    cgroup: Option<PathBuf>,
    /// The signals that ask it to end; none where another reporter died here. They are heard from
    /// before anybody can know whom to send them to: one that came in between would kill the
    /// reporter, and nobody could say how the run ended.
    ends: Option<Ends>,
    contract: Contract,
}

/// What the server understands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Contract {
    /// Numbered events, and an inbox.
    #[default]
    Ours,
    /// What the original's sidecar says, shaped like this: text, a status, and nothing comes back.
    Original(Format),
}

/// The signals that ask a reporter to end.
#[derive(Debug)]
pub struct Ends {
    terminate: Signal,
    /// Only where nobody's terminal sends it by chance.
    interrupt: Option<Signal>,
}

impl Ends {
    /// What a runtime on this machine sends: SIGTERM. To be called within a runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn of_runtime() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: None })
    }

    /// What stops a machine: SIGTERM, or SIGINT, which is what a Fly Machine gets where nothing
    /// else is said. To be called within a runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn of_machine() -> io::Result<Self> {
        let interrupt = Some(signal(SignalKind::interrupt())?);
        Ok(Self { interrupt, ..Self::of_runtime()? })
    }

    /// Whether they stop a whole machine: then whoever sends one need not be the server.
    pub fn is_machines(&self) -> bool {
        self.interrupt.is_some()
    }

    /// Waits for one, and answers its number.
    pub async fn asked(&mut self) -> i32 {
        let Self { terminate, interrupt } = self;
        let interrupted = async {
            match interrupt {
                Some(interrupt) => interrupt.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = interrupted => SignalKind::interrupt().as_raw_value(),
        }
    }
}

impl Run {
    /// Takes a run directory over, if nobody holds it, and writes down who holds it now. To be
    /// called within a runtime, which hears signals.
    ///
    /// # Errors
    /// Why the run cannot begin.
    pub fn take(dir: RunDir, token: String) -> Result<Found, Error> {
        let unusable = |error| Error::Directory { path: dir.path().to_owned(), error };
        let ends = Ends::of_runtime().map_err(unusable)?;
        Self::take_asked(dir, token, ends, Contract::Ours)
    }

    /// As [`Run::take`], for a reporter that hears already what asks it to end, and whose server
    /// understands this.
    ///
    /// # Errors
    /// Why the run cannot begin.
    pub fn take_asked(
        dir: RunDir,
        token: String,
        ends: Ends,
        contract: Contract,
    ) -> Result<Found, Error> {
        let unusable = |error| Error::Directory { path: dir.path().to_owned(), error };
        let Some(lock) = dir.lock().map_err(unusable)? else { return Ok(Found::Held) };
        if dir.drained() {
            return Ok(Found::Done);
        }
        let spec = Arc::new(dir.spec().map_err(unusable)?);
        let address = Address {
            job_id: spec.job_id.clone(),
            run: spec.run,
            token,
            endpoint_file: spec.endpoint_file.as_ref().map(PathBuf::from),
            server: spec.server.clone(),
        };
        match address.authority() {
            // A local server may be down just now; its file comes with it.
            Ok(_) | Err(AddressError::File { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let process = process::identity().map_err(Error::Identity)?;
        if let Some(State { cgroup, .. }) = dir.state().map_err(unusable)? {
            dir.write_state(&State { process, cgroup: cgroup.clone() }).map_err(unusable)?;
            let containment = Containment::default();
            let ends = None;
            let run = Self { dir, _lock: lock, spec, address, containment, cgroup, ends, contract };
            return Ok(Found::Run(Box::new(run)));
        }
        let hide: Vec<PathBuf> = spec.hide.iter().map(PathBuf::from).collect();
        let (mut containment, cgroup) =
            process::settle(&spec.job_id, &hide, std::path::Path::new(&spec.workdir));
        if spec.sandbox.is_some() {
            process::note_sandbox(&mut containment);
        }
        let ends = Some(ends);
        dir.write_state(&State { process, cgroup: cgroup.clone() }).map_err(unusable)?;
        let run = Self { dir, _lock: lock, spec, address, containment, cgroup, ends, contract };
        Ok(Found::Run(Box::new(run)))
    }

    /// Lives the run to its end.
    ///
    /// # Errors
    /// What kept it from being kept on disk.
    pub async fn live(mut self) -> Result<(), Error> {
        let ends = self.ends.take();
        let unusable = |error| Error::Directory { path: self.dir.path().to_owned(), error };
        let spool = Spool::open(&self.dir.spool(), spool::Options::default()).map_err(unusable)?;
        let desk = Desk::new(spool, Some(self.dir.log()));
        let desk = Arc::new(match self.contract {
            Contract::Ours => desk,
            Contract::Original(_) => desk.echoing(),
        });
        let verdict = if let Some(ends) = ends {
            self.say_hello(&desk).map_err(unusable)?;
            let delivery = self.deliver(&desk);
            match life::live(&self, &desk, delivery, ends).await.map_err(unusable)? {
                life::Told::Not(delivery) => self.wait_for_delivery(&desk, delivery).await,
                life::Told::Superseded(verdict) => Some(verdict),
            }
        } else {
            self.clean_up(&desk).await.map_err(unusable)?;
            let delivery = self.deliver(&desk);
            self.wait_for_delivery(&desk, delivery).await
        };
        match verdict {
            Some(Verdict::Finished | Verdict::Superseded) => {
                self.dir.write_drained().map_err(unusable)
            }
            // The spool stays, for a reporter that is heard.
            Some(Verdict::Failed) | None => Ok(()),
        }
    }

    /// Delivers what the desk's spool holds, in the words that the server understands.
    fn deliver(&self, desk: &Arc<Desk>) -> JoinHandle<Verdict> {
        let (desk, address) = (desk.clone(), self.address.clone());
        match self.contract {
            Contract::Ours => tokio::spawn(report::deliver(desk, address)),
            Contract::Original(format) => {
                tokio::spawn(report::deliver_as_original(desk, address, format))
            }
        }
    }

    /// Waits until everything was told; none if there was no server for too long.
    async fn wait_for_delivery(
        &self,
        desk: &Desk,
        mut delivery: JoinHandle<Verdict>,
    ) -> Option<Verdict> {
        let patience = match self.contract {
            Contract::Ours => ABANDONED_AFTER,
            Contract::Original(_) => ORIGINAL_PATIENCE,
        };
        let begun = ambient::elapsed();
        loop {
            tokio::select! {
                verdict = &mut delivery => return verdict.ok(),
                () = ambient::sleep(patience.min(Duration::from_secs(60))) => {}
            }
            let alone = match self.contract {
                Contract::Ours => desk.last_contact(),
                // It has its time from the end on.
                Contract::Original(_) => desk.last_contact().max(begun),
            };
            if ambient::elapsed().saturating_sub(alone) > patience {
                desk.complain("there was no server for too long; the spool stays here");
                return None;
            }
        }
    }

    fn say_hello(&self, desk: &Desk) -> io::Result<()> {
        let mut hello = EventBody::Hello {
            wire: WIRE_VERSION,
            version: env!("CARGO_PKG_VERSION").into(),
            process: process::identity()?,
            containment: self.containment.clone(),
        };
        self.shaper().clean(&mut hello);
        desk.append(hello).map(drop)
    }

    /// Another reporter died here: ends what it left, and writes down that it did.
    async fn clean_up(&self, desk: &Desk) -> io::Result<()> {
        let tree = Tree::left_behind(&self.spec.job_id, self.cgroup.clone());
        tree.kill(|stuck| desk.complain(&format!("these processes do not die: {stuck:?}"))).await?;
        let exit = match (desk.ended(), self.dir.exit()?) {
            (Some(exit), _) | (None, Some(exit)) => exit,
            (None, None) => Exit {
                code: None,
                signal: None,
                reason: ExitReason::ReporterLost,
                message: "the reporter died; what the agent did last is not known".into(),
            },
        };
        if desk.next() == 1 {
            self.say_hello(desk)?;
        }
        if desk.ended().is_none() {
            desk.append(EventBody::Exit(exit.clone()))?;
        }
        self.dir.write_exit(&exit)
    }

    fn shaper(&self) -> crate::shape::Shaper {
        let secret = self.spec.env.iter().filter(|variable| variable.secret);
        let values = secret.flat_map(|variable| crate::mask::spellings(&variable.value));
        crate::shape::Shaper::new(crate::mask::Secrets::new(
            values.chain([self.address.token.clone().into_bytes()]),
        ))
    }
}
