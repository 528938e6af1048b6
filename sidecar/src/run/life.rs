//! Living with an agent: one loop that hears the driver, obeys the server, and watches the time.
//!
//! Everything that can happen comes in at one `select!`, and is dealt with before the next. So
//! nothing is decided twice: the first reason to end is the reason, and what comes after the
//! exit event comes to nobody.
//!
//! A turn ends early by a *cut* ([`turns::Cut`]): a polite word, then the ladder up to the end of the
//! whole tree. A CLI that obeys stays for the next turn; a driver whose CLI had to be killed ends, or
//! starts it again, as it can.
//!
//! Sleep waits until no turn is open, for a while: the server never orders it in the middle of a
//! person's turn, but the CLI may have begun one by itself.

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

use super::{
    ABANDONED_AFTER, Contract, Ends, Run, artifacts, attachments,
    clock::Countdown,
    ladder::{self, Ladder, Rung},
    pen::{Numbered, Pen, WRITE_AGAIN},
    turns::{Accepted, Cut, End, Turns},
    work::{Stage, listen_once_known, no_answer, work},
};
use crate::{
    ambient,
    driver::{DriverOrder, Said, Seat, TASK_TURN, Voice},
    process::{self, Tree},
    report::{Address, Desk, Verdict},
    shape::Shaper,
    wire::{EventBody, ExitReason, InboxRow, Order, RunSpec, TurnOutcome},
};

mod ending;
#[cfg(test)]
mod tests;

/// How many things a driver may say before it must wait for the spool.
const VOICE_DEPTH: usize = 64;
/// How many orders a driver may leave unread.
const ORDER_DEPTH: usize = 1024;
/// How long a driver may take to notice that its CLI is dead.
const DEAF: Duration = Duration::from_secs(10);
/// How long a turn that is open may keep the agent from sleeping.
const WAKEFUL: Duration = Duration::from_secs(30);

/// Whether the server was told everything when the agent had ended.
pub(super) enum Told {
    /// Not yet; this delivers it.
    Not(JoinHandle<Verdict>),
    /// It wants nothing.
    Superseded(Verdict),
}

/// Why a run ends that a signal ends. Where nothing was `ordered`, a machine's reporter knows only
/// that its machine is stopped: by its host, or by somebody who meant the machine and not the run.
/// The server, which knows whether it wanted a stop, has the last word.
fn told_to_end(ordered: Option<ExitReason>, machines: bool, signal: i32) -> (ExitReason, String) {
    match ordered {
        Some(reason) => (reason, String::new()),
        None if machines => (
            ExitReason::ReporterLost,
            format!("its machine was stopped from outside (signal {signal})"),
        ),
        None => (ExitReason::Cancelled, String::new()),
    }
}

/// Lives with the agent until its tree is empty and its exit is on disk.
///
/// # Errors
/// What the file system says.
pub(super) async fn live(
    run: &Run,
    desk: &Arc<Desk>,
    mut delivery: JoinHandle<Verdict>,
    mut ends: Ends,
) -> io::Result<Told> {
    let (voice, said) = mpsc::channel(VOICE_DEPTH);
    let mut said = artifacts::gate(said, run.spec.clone(), run.address.clone());
    let (orders, driver_orders) = mpsc::channel(ORDER_DEPTH);
    let (rows, mut inbox) = mpsc::channel(16);
    let mut listener = match run.contract {
        Contract::Ours => tokio::spawn(listen_once_known(desk.clone(), run.address.clone(), rows)),
        // It sends no orders.
        Contract::Original(_) => tokio::spawn(std::future::pending()),
    };
    let mut children = signal(SignalKind::child())?;
    let mut held = desk.held();
    let mut life = Life::new(run, desk.clone(), orders);
    let seat = Seat { spec: run.spec.clone(), orders: driver_orders, voice: Voice::new(voice) };
    let mut superseded = None;

    life.begin();
    let exit = {
        let mut work = pin!(work(seat, life.stage.clone()));
        let mut heard = Vec::new();
        loop {
            let alarm = life.alarm(ambient::elapsed());
            tokio::select! {
                exit = &mut work => break exit,
                count = said.recv_many(&mut heard, VOICE_DEPTH), if life.listens() => {
                    if count > 0 {
                        life.hear(std::mem::take(&mut heard));
                    }
                }
                Some(row) = inbox.recv() => life.obey(row),
                files = fetched(&mut life.fetching) => life.have_fetched(files),
                Ok(()) = held.changed() => {
                    // What the server holds has left the disk.
                    life.write();
                    life.prompt();
                }
                signal = ends.asked() => {
                    let machines = ends.is_machines() && run.contract == Contract::Ours;
                    let ordered = run.dir.stop().ok().flatten();
                    let (reason, message) = told_to_end(ordered, machines, signal);
                    life.end(reason, &message);
                }
                _ = children.recv() => process::reap_orphans(),
                verdict = &mut delivery, if superseded.is_none() => {
                    superseded = Some(verdict.unwrap_or(Verdict::Failed));
                    life.supersede();
                }
                verdict = &mut listener, if !life.deaf => {
                    life.deaf = true;
                    if let (Ok(Some(verdict)), None) = (verdict, superseded) {
                        superseded = Some(verdict);
                        life.supersede();
                    }
                }
                () = ambient::sleep(alarm) => if life.tick(ambient::elapsed()) {
                    break no_answer();
                },
            }
        }
    };
    if exit.reason != ExitReason::Completed
        && let Ok(Some(reason)) = run.dir.stop()
    {
        // Whoever kills the tree writes the reason down first, and its signal may come behind.
        life.ending.get_or_insert((reason, String::new()));
    }
    // The driver is gone, and with it every voice but those of readers that wait for a pipe
    // to close. They close when the tree is dead.
    life.clear_tree().await?;
    let drain = async {
        let mut heard = Vec::new();
        while said.recv_many(&mut heard, VOICE_DEPTH).await > 0 {
            life.hear(std::mem::take(&mut heard));
        }
    };
    if timeout(DEAF + artifacts::PATIENCE, drain).await.is_err() {
        desk.complain("the driver did not fall silent");
    }
    listener.abort();
    let exit = life.finish(exit).await;
    while let Err(error) = run.dir.write_exit(&exit) {
        if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Err(error);
        }
        desk.complain(&format!("cannot write down the end: {error}"));
        ambient::sleep(WRITE_AGAIN).await;
    }
    Ok(match superseded {
        Some(verdict) => {
            delivery.abort();
            Told::Superseded(verdict)
        }
        None => Told::Not(delivery),
    })
}

/// The open turn's files, on their way.
#[derive(Debug)]
struct Fetching {
    turn: String,
    text: String,
    files: JoinHandle<Result<Vec<PathBuf>, String>>,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.files.abort();
    }
}

/// What became of the files on their way; never returns where there are none.
async fn fetched(fetching: &mut Option<Fetching>) -> Result<Vec<PathBuf>, String> {
    match fetching {
        Some(fetching) => match (&mut fetching.files).await {
            Ok(files) => files,
            Err(error) => Err(format!("its files could not be fetched: {error}")),
        },
        None => std::future::pending().await,
    }
}

struct Life {
    run: Arc<RunSpec>,
    address: Address,
    desk: Arc<Desk>,
    pen: Pen,
    shaper: Shaper,
    orders: mpsc::Sender<DriverOrder>,
    tree: Tree,
    stage: Arc<Stage>,
    /// Whether the inbox has ended.
    deaf: bool,
    turns: Turns,
    fetching: Option<Fetching>,
    approvals: BTreeSet<String>,
    task: Option<(TurnOutcome, Option<String>)>,
    ending: Option<(ExitReason, String)>,
    /// It is to sleep: as soon as no turn is open, and at this time in any case.
    sleeps: Option<Duration>,
    ladder: Option<Ladder>,
    /// Since when the tree is being killed.
    killing: Option<Duration>,
    timeout: Option<Countdown>,
    silence: Option<Countdown>,
}

impl Life {
    fn new(run: &Run, desk: Arc<Desk>, orders: mpsc::Sender<DriverOrder>) -> Self {
        let countdown = |ms: Option<u64>| ms.map(|ms| Countdown::new(Duration::from_millis(ms)));
        Self {
            run: run.spec.clone(),
            address: run.address.clone(),
            pen: Pen::new(desk.clone()),
            desk,
            shaper: run.shaper(),
            orders,
            tree: Tree::below(&run.spec.job_id, run.cgroup.clone()),
            stage: Arc::default(),
            deaf: false,
            turns: Turns::default(),
            fetching: None,
            approvals: BTreeSet::new(),
            task: None,
            ending: None,
            sleeps: None,
            ladder: None,
            killing: None,
            timeout: countdown(run.spec.timeout_ms),
            silence: countdown(run.spec.idle_timeout_ms),
        }
    }

    /// A job's task is prompted at once; other turns come by inbox.
    fn begin(&mut self) {
        if let Some(task) = self.run.task.clone() {
            self.turns.began(TASK_TURN);
            self.tell(DriverOrder::Prompt {
                turn: TASK_TURN.into(),
                text: task,
                files: Vec::new(),
            });
        }
        self.set_clocks(ambient::elapsed());
    }

    fn tell(&self, order: DriverOrder) {
        if self.orders.try_send(order).is_err() {
            // It has ended, or it hears nothing any more; the ladder deals with both.
            self.desk.complain("the driver takes no orders");
        }
    }

    /// Clocks stand while a person is asked; silence counts only while a turn runs.
    fn set_clocks(&mut self, now: Duration) {
        let asked = !self.approvals.is_empty();
        let busy = self.turns.open().is_some() && self.fetching.is_none();
        if let Some(timeout) = &mut self.timeout {
            timeout.run(now, !asked);
        }
        self.turns.run(now, !asked);
        if let Some(silence) = &mut self.silence {
            // An agent that waits for the disk is not silent.
            silence.run(now, !asked && busy && self.pen.is_dry());
        }
    }

    /// How long until something is due.
    fn alarm(&self, now: Duration) -> Duration {
        let abandoned = self.desk.last_contact() + ABANDONED_AFTER + Duration::from_secs(1);
        let goes_on = self.ending.is_none();
        [
            self.ladder.map(|ladder| ladder.until()),
            self.timeout.as_ref().and_then(Countdown::end).filter(|_| goes_on),
            self.silence.as_ref().and_then(Countdown::end).filter(|_| goes_on),
            self.turns.due().filter(|_| goes_on),
            self.sleeps.filter(|_| goes_on),
            (goes_on && self.turns.are_done()).then_some(abandoned),
            self.pen.again(),
        ]
        .into_iter()
        .flatten()
        .min()
        .map_or(ABANDONED_AFTER, |due| due.saturating_sub(now))
    }

    /// Something may be due. Answers whether the driver is to be given up.
    fn tick(&mut self, now: Duration) -> bool {
        if self.pen.again().is_some_and(|at| now >= at) && self.write() {
            self.set_clocks(now);
            self.prompt();
        }
        if self.timeout.as_ref().is_some_and(|clock| clock.is_over(now)) {
            self.end(ExitReason::TimedOut, "the time for this run was over");
        }
        if self.silence.as_ref().is_some_and(|clock| clock.is_over(now)) {
            self.end(ExitReason::IdleTimedOut, "the agent was silent for too long");
        }
        if let Some(cut) = self.turns.late(now) {
            self.cut(cut);
        }
        self.doze(now);
        let away = now.saturating_sub(self.desk.last_contact());
        if away > ABANDONED_AFTER && self.turns.are_done() {
            self.end(ExitReason::Abandoned, "there was no server for an hour, and nothing to do");
        }
        if let Some(rung) = self.ladder.as_mut().and_then(|ladder| ladder.climb(now)) {
            self.act(rung, now);
        }
        self.killing.is_some_and(|since| now.saturating_sub(since) > DEAF)
    }

    fn act(&mut self, rung: Rung, now: Duration) {
        let signal = match rung {
            Rung::Polite => return,
            Rung::Terminate => Signal::TERM,
            Rung::Kill => Signal::KILL,
        };
        if rung == Rung::Kill {
            self.killing.get_or_insert(now);
        }
        if let Err(error) = self.tree.signal(signal) {
            self.desk.complain(&format!("cannot look for the agent's processes: {error}"));
        }
    }

    /// Ends the run. The first reason is the reason.
    fn end(&mut self, reason: ExitReason, message: &str) {
        if self.ending.is_some() {
            return;
        }
        let now = ambient::elapsed();
        self.ending = Some((reason, message.to_owned()));
        self.fetching = None;
        self.stage.leaving.store(true, Ordering::Relaxed);
        if self.stage.driving.load(Ordering::Relaxed) {
            self.tell(DriverOrder::Stop);
            self.ladder = Some(Ladder::polite(now, ladder::POLITE_END));
        } else {
            self.ladder = Some(Ladder::terminate(now));
            self.act(Rung::Terminate, now);
        }
    }

    /// The server gave the run to somebody else: the agent must not do anything more.
    fn supersede(&mut self) {
        let now = ambient::elapsed();
        if self.ending.is_none() {
            let message = "the server gave this sprite to another run";
            self.ending = Some((ExitReason::Superseded, message.into()));
        }
        self.fetching = None;
        self.stage.leaving.store(true, Ordering::Relaxed);
        self.tell(DriverOrder::Stop);
        self.ladder = Some(Ladder::kill(now));
        self.act(Rung::Kill, now);
    }

    fn obey(&mut self, InboxRow { n, order, .. }: InboxRow) {
        let now = ambient::elapsed();
        match order {
            Order::Heartbeat {} => {}
            Order::Turn { turn, text, attachments, timeout_ms, budget_micro_usd } => {
                self.accept(Accepted {
                    turn,
                    text,
                    files: attachments,
                    time: timeout_ms.map(Duration::from_millis),
                    budget: budget_micro_usd,
                });
            }
            Order::Cancel { turn, reason } => self.cancel(turn.as_deref(), reason),
            Order::Answer { request, allow, message, answers } => {
                self.approvals.remove(&request);
                self.set_clocks(now);
                self.tell(DriverOrder::Answer { request, allow, message, answers });
            }
            Order::Sleep {} => {
                self.sleeps.get_or_insert(now + WAKEFUL);
            }
            Order::Stop { reason } => self.end(reason, ""),
        }
        self.doze(now);
        self.pen.obeyed(n);
        self.write();
    }

    /// Takes a turn. One that comes to a run that ends, or is about to, is left to the next run.
    fn accept(&mut self, accepted: Accepted) {
        if self.ending.is_some() || self.sleeps.is_some() {
            return;
        }
        let turn = accepted.turn.clone();
        self.turns.accept(accepted);
        self.keep(EventBody::TurnAccepted { turn, origin: None });
    }

    fn cancel(&mut self, turn: Option<&str>, reason: ExitReason) {
        if let Some(turn) = turn
            && self.turns.withdraw(turn)
        {
            return self.say_ended(turn.to_owned(), End::plain(TurnOutcome::Cancelled));
        }
        if turn.is_some() && turn != self.turns.open() {
            return;
        }
        if self.run.task.is_some() {
            return self.end(reason, "");
        }
        self.cut(Cut::Asked);
    }

    /// Ends the open turn before its time: politely at first.
    fn cut(&mut self, why: Cut) {
        if self.ending.is_some() || !self.turns.cut(why) {
            return;
        }
        if let Some(fetching) = self.fetching.take() {
            // Its CLI knows nothing of it.
            return self.end_unprompted(&fetching.turn, End::plain(TurnOutcome::Cancelled));
        }
        self.tell(DriverOrder::Interrupt);
        self.ladder = Some(Ladder::polite(ambient::elapsed(), ladder::POLITE_TURN));
    }

    /// Falls asleep, if that is wanted and nothing is open any more, or for too long.
    fn doze(&mut self, now: Duration) {
        if self.sleeps.is_some_and(|until| now >= until || self.turns.are_done()) {
            self.end(ExitReason::Asleep, "");
        }
    }

    /// Begins the next turn, if none runs and the server holds that we took it: with its files
    /// where it has any, and then by its prompt.
    fn prompt(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let Some(next) = self.turns.next(*self.desk.held().borrow()) else { return };
        if next.files.is_empty() {
            self.tell_prompt(next.turn, next.text, Vec::new());
        } else {
            let (address, spec) = (self.address.clone(), self.run.clone());
            let (turn, files) = (next.turn.clone(), next.files);
            let files =
                tokio::spawn(
                    async move { attachments::fetch(&address, &spec, &turn, &files).await },
                );
            self.fetching = Some(Fetching { turn: next.turn, text: next.text, files });
        }
        self.set_clocks(ambient::elapsed());
    }

    fn tell_prompt(&mut self, turn: String, text: String, files: Vec<PathBuf>) {
        if let Some(silence) = &mut self.silence {
            silence.restart(ambient::elapsed());
        }
        self.tell(DriverOrder::Prompt { turn, text, files });
    }

    /// The open turn's files are here, or will not come.
    fn have_fetched(&mut self, files: Result<Vec<PathBuf>, String>) {
        let Some(mut fetching) = self.fetching.take() else { return };
        let text = std::mem::take(&mut fetching.text);
        match files {
            Ok(files) => self.tell_prompt(fetching.turn.clone(), text, files),
            Err(why) => {
                let end = End { message: Some(why), ..End::plain(TurnOutcome::Failed) };
                self.end_unprompted(&fetching.turn, end);
            }
        }
        self.set_clocks(ambient::elapsed());
    }

    /// Ends the open turn, of which its CLI never heard.
    fn end_unprompted(&mut self, turn: &str, mut end: End) {
        self.turns.close(turn, &mut end);
        self.say_ended(turn.to_owned(), end);
        self.set_clocks(ambient::elapsed());
        self.prompt();
    }

    fn hear(&mut self, mut said: Vec<Said>) {
        let now = ambient::elapsed();
        if let Some(silence) = &mut self.silence {
            silence.restart(now);
        }
        for said in &mut said {
            if let Said::Event(body) = said {
                self.follow(body, now);
            }
        }
        self.set_clocks(now);
        for body in self.shaper.take(said) {
            self.keep(body);
        }
        if !self.pen.is_dry() {
            self.set_clocks(now);
        }
        self.prompt();
        self.doze(now);
    }

    /// Keeps track of turns and approvals.
    fn follow(&mut self, body: &mut EventBody, now: Duration) {
        match body {
            EventBody::TurnAccepted { turn, .. } => self.turns.began(turn),
            EventBody::Usage { turn, usage } => {
                if let Some(cut) = self.turns.uses(turn, *usage) {
                    self.cut(cut);
                }
            }
            EventBody::TurnEnded { turn, outcome, message, usage } => {
                let mut end = End { outcome: *outcome, message: message.take(), usage: *usage };
                if self.ending.is_some() && end.outcome == TurnOutcome::Failed {
                    end.outcome = self.last_word(None).outcome;
                }
                let was_open = self.turns.close(turn, &mut end);
                (*outcome, *message, *usage) = (end.outcome, end.message, end.usage);
                if was_open && self.ending.is_none() {
                    self.ladder = None;
                    self.killing = None;
                }
                if turn == TASK_TURN && self.run.task.is_some() {
                    self.task = Some((*outcome, message.clone()));
                    // A driver that ended with its task hears nothing any more.
                    let _ = self.orders.try_send(DriverOrder::Stop);
                    self.ladder.get_or_insert(Ladder::polite(now, ladder::POLITE_END));
                }
            }
            EventBody::Approval { request, .. } => {
                self.approvals.insert(request.clone());
            }
            EventBody::ApprovalWithdrawn { request } => {
                self.approvals.remove(request);
            }
            _ => {}
        }
    }

    /// Whether the agent is heard. On a disk that is full it waits, as for any reader that is
    /// slow; once its tree is being killed there is not much left to hear.
    fn listens(&self) -> bool {
        self.pen.is_dry() || self.killing.is_some()
    }

    fn say_ended(&mut self, turn: String, End { outcome, message, usage }: End) {
        let mut body = EventBody::TurnEnded { turn, outcome, message, usage };
        self.shaper.clean(&mut body);
        self.keep(body);
    }

    /// Puts an event into the spool, behind all that waits for a disk that takes it.
    fn keep(&mut self, body: EventBody) {
        let numbered = self.pen.keep(body);
        self.have_numbered(numbered);
    }

    /// Writes what waits for the disk; answers whether nothing waits any more.
    fn write(&mut self) -> bool {
        let numbered = self.pen.write();
        self.have_numbered(numbered);
        self.pen.is_dry()
    }

    fn have_numbered(&mut self, numbered: Vec<Numbered>) {
        for Numbered { turn, seq } in numbered {
            self.turns.numbered(&turn, seq);
        }
    }
}
