//! Living with an agent: one loop that hears the driver, obeys the server, and watches the time.
//!
//! Everything that can happen comes in at one `select!`, and is dealt with before the next. So
//! nothing is decided twice: the first reason to end is the reason, and what comes after the
//! exit event comes to nobody.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    ABANDONED_AFTER, Run, artifacts,
    clock::Countdown,
    ladder::{self, Ladder, Rung},
    workspace,
};
use crate::{
    ambient,
    driver::{self, DriverOrder, Said, Seat, TASK_TURN, Voice},
    process::{self, Tree},
    report::{self, Desk, Verdict},
    shape::Shaper,
    wire::{EventBody, Exit, ExitReason, InboxRow, Order, Stream, TurnOutcome, Usage},
};

/// How many things a driver may say before it must wait for the spool.
const VOICE_DEPTH: usize = 64;
/// How many orders a driver may leave unread.
const ORDER_DEPTH: usize = 1024;
/// How long what the agent left running may take to end by itself.
const LEFTOVERS: Duration = Duration::from_secs(1);
/// How long a driver may take to notice that its CLI is dead.
const DEAF: Duration = Duration::from_secs(10);
/// How long until what a disk does not take is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Whether the server was told everything when the agent had ended.
pub(super) enum Told {
    /// Not yet; this delivers it.
    Not(JoinHandle<Verdict>),
    /// It wants nothing.
    Superseded(Verdict),
}

/// Lives with the agent until its tree is empty and its exit is on disk.
///
/// # Errors
/// What the file system says.
pub(super) async fn live(
    run: &Run,
    desk: &Arc<Desk>,
    mut delivery: JoinHandle<Verdict>,
) -> io::Result<Told> {
    let (voice, said) = mpsc::channel(VOICE_DEPTH);
    let mut said = artifacts::gate(said, run.spec.clone(), run.address.clone());
    let (orders, driver_orders) = mpsc::channel(ORDER_DEPTH);
    let (rows, mut inbox) = mpsc::channel(16);
    let mut listener = tokio::spawn(listen_once_known(desk.clone(), run.address.clone(), rows));
    let mut terminate = signal(SignalKind::terminate())?;
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
                Ok(()) = held.changed() => {
                    // What the server holds has left the disk.
                    life.write();
                    life.prompt(&held);
                }
                _ = terminate.recv() => {
                    let reason = run.dir.stop().ok().flatten().unwrap_or(ExitReason::Cancelled);
                    life.end(reason, "");
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

/// How far the work has come, and whether it may go on.
#[derive(Debug, Default)]
struct Stage {
    /// The driver has begun.
    driving: AtomicBool,
    /// The run is to end: an agent that has not begun must not.
    leaving: AtomicBool,
}

/// Prepares the workspace, then drives the agent.
async fn work(seat: Seat, stage: Arc<Stage>) -> Exit {
    // A clone may take minutes, and is for nothing without an agent.
    if seat.spec.repo.is_some()
        && let Some(exit) = driver::absent(&seat.spec)
    {
        return exit;
    }
    if let Err(why) = workspace::prepare(&seat.spec, &seat.voice).await {
        return Exit {
            code: None,
            signal: None,
            reason: ExitReason::WorkspaceFailed,
            message: why,
        };
    }
    if stage.leaving.load(Ordering::Relaxed) {
        return Exit {
            code: None,
            signal: None,
            reason: ExitReason::Cancelled,
            message: "it was ended before its agent began".into(),
        };
    }
    stage.driving.store(true, Ordering::Relaxed);
    driver::drive(seat).await
}

/// Listens once the server knows the run: it holds the hello.
async fn listen_once_known(
    desk: Arc<Desk>,
    address: report::Address,
    rows: mpsc::Sender<InboxRow>,
) -> Option<Verdict> {
    let known = desk.held().wait_for(|held| *held > 0).await.is_ok();
    if known { report::listen(desk, address, rows).await } else { None }
}

fn no_answer() -> Exit {
    Exit {
        code: None,
        signal: None,
        reason: ExitReason::Failed,
        message: "the driver did not end although its agent was killed".into(),
    }
}

/// A turn on its way in: taken over, and prompted once the server holds that.
#[derive(Debug)]
struct Accepted {
    turn: String,
    text: String,
    /// The number of the event that says so, once it is in the spool.
    seq: Option<u64>,
}

struct Life {
    run: Arc<crate::wire::RunSpec>,
    desk: Arc<Desk>,
    shaper: Shaper,
    orders: mpsc::Sender<DriverOrder>,
    tree: Tree,
    stage: Arc<Stage>,
    /// Whether the inbox has ended.
    deaf: bool,
    accepted: VecDeque<Accepted>,
    open: Option<String>,
    /// The turn that somebody wants to end.
    cancelled: Option<String>,
    approvals: BTreeSet<String>,
    task: Option<(TurnOutcome, Option<String>)>,
    ending: Option<(ExitReason, String)>,
    ladder: Option<Ladder>,
    /// Since when the tree is being killed.
    killing: Option<Duration>,
    timeout: Option<Countdown>,
    silence: Option<Countdown>,
    /// What the disk did not take yet, in order. As long as there is any the agent is not heard,
    /// and so waits.
    unwritten: VecDeque<EventBody>,
    /// When it is tried again.
    write_again: Option<Duration>,
    /// The last order that was obeyed; the server is told once all before it is in the spool.
    obeyed: u64,
}

impl Life {
    fn new(run: &Run, desk: Arc<Desk>, orders: mpsc::Sender<DriverOrder>) -> Self {
        let countdown = |ms: Option<u64>| ms.map(|ms| Countdown::new(Duration::from_millis(ms)));
        Self {
            run: run.spec.clone(),
            desk,
            shaper: run.shaper(),
            orders,
            tree: Tree::below(&run.spec.job_id, run.cgroup.clone()),
            stage: Arc::default(),
            deaf: false,
            accepted: VecDeque::new(),
            open: None,
            cancelled: None,
            approvals: BTreeSet::new(),
            task: None,
            ending: None,
            ladder: None,
            killing: None,
            timeout: countdown(run.spec.timeout_ms),
            silence: countdown(run.spec.idle_timeout_ms),
            unwritten: VecDeque::new(),
            write_again: None,
            obeyed: 0,
        }
    }

    /// A job's task is prompted at once; other turns come by inbox.
    fn begin(&mut self) {
        if let Some(task) = self.run.task.clone() {
            self.open = Some(TASK_TURN.into());
            self.tell(DriverOrder::Prompt { turn: TASK_TURN.into(), text: task });
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
        let busy = self.open.is_some();
        if let Some(timeout) = &mut self.timeout {
            timeout.run(now, !asked);
        }
        if let Some(silence) = &mut self.silence {
            // An agent that waits for the disk is not silent.
            silence.run(now, !asked && busy && self.unwritten.is_empty());
        }
    }

    /// How long until something is due.
    fn alarm(&self, now: Duration) -> Duration {
        let abandoned = self.desk.last_contact() + ABANDONED_AFTER + Duration::from_secs(1);
        let idle = self.open.is_none() && self.accepted.is_empty() && self.ending.is_none();
        [
            self.ladder.map(|ladder| ladder.until()),
            self.timeout.as_ref().and_then(Countdown::end).filter(|_| self.ending.is_none()),
            self.silence.as_ref().and_then(Countdown::end).filter(|_| self.ending.is_none()),
            idle.then_some(abandoned),
            self.write_again,
        ]
        .into_iter()
        .flatten()
        .min()
        .map_or(ABANDONED_AFTER, |due| due.saturating_sub(now))
    }

    /// Something may be due. Answers whether the driver is to be given up.
    fn tick(&mut self, now: Duration) -> bool {
        if self.write_again.is_some_and(|at| now >= at) && self.write() {
            self.set_clocks(now);
            self.prompt(&self.desk.held());
        }
        if self.timeout.as_ref().is_some_and(|clock| clock.is_over(now)) {
            self.end(ExitReason::TimedOut, "the time for this run was over");
        }
        if self.silence.as_ref().is_some_and(|clock| clock.is_over(now)) {
            self.end(ExitReason::IdleTimedOut, "the agent was silent for too long");
        }
        let away = now.saturating_sub(self.desk.last_contact());
        if away > ABANDONED_AFTER && self.open.is_none() && self.accepted.is_empty() {
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
        if rung == Rung::Kill && self.ending.is_some() {
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
        self.stage.leaving.store(true, Ordering::Relaxed);
        self.tell(DriverOrder::Stop);
        self.ladder = Some(Ladder::kill(now));
        self.act(Rung::Kill, now);
    }

    fn obey(&mut self, InboxRow { n, order, .. }: InboxRow) {
        match order {
            Order::Heartbeat {} => {}
            Order::Turn { turn, text, .. } => self.accept(turn, text),
            Order::Cancel { turn, reason } => self.cancel(turn, reason),
            Order::Answer { request, allow, message, answers } => {
                self.approvals.remove(&request);
                self.set_clocks(ambient::elapsed());
                self.tell(DriverOrder::Answer { request, allow, message, answers });
            }
            Order::Sleep {} => self.end(ExitReason::Completed, "asleep"),
            Order::Stop { reason } => self.end(reason, ""),
        }
        self.obeyed = n;
        self.write();
    }

    fn accept(&mut self, turn: String, text: String) {
        if self.ending.is_some() {
            return;
        }
        self.accepted.push_back(Accepted { turn: turn.clone(), text, seq: None });
        self.keep(EventBody::TurnAccepted { turn, origin: None });
    }

    fn cancel(&mut self, turn: Option<String>, reason: ExitReason) {
        let waiting = self.accepted.iter().position(|it| Some(&it.turn) == turn.as_ref());
        if let Some(cancelled) = waiting.and_then(|at| self.accepted.remove(at)) {
            return self.keep(ended(cancelled.turn, TurnOutcome::Cancelled));
        }
        if turn.is_some() && turn != self.open {
            return;
        }
        if self.run.task.is_some() {
            return self.end(reason, "");
        }
        if self.open.is_some() && self.cancelled != self.open {
            self.cancelled.clone_from(&self.open);
            self.tell(DriverOrder::Interrupt);
            self.ladder = Some(Ladder::polite(ambient::elapsed(), ladder::POLITE_TURN));
        }
    }

    /// Prompts the next turn, if none runs and the server holds that we took it.
    fn prompt(&mut self, held: &watch::Receiver<u64>) {
        let known = *held.borrow();
        if self.open.is_some() || self.ending.is_some() {
            return;
        }
        if let Some(next) =
            self.accepted.pop_front_if(|next| next.seq.is_some_and(|seq| seq <= known))
        {
            self.open = Some(next.turn.clone());
            let now = ambient::elapsed();
            if let Some(silence) = &mut self.silence {
                silence.restart(now);
            }
            self.set_clocks(now);
            self.tell(DriverOrder::Prompt { turn: next.turn, text: next.text });
        }
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
        if !self.unwritten.is_empty() {
            self.set_clocks(now);
        }
        self.prompt(&self.desk.held());
    }

    /// Keeps track of turns and approvals.
    fn follow(&mut self, body: &mut EventBody, now: Duration) {
        match body {
            // A turn that the CLI began by itself may cross a prompt; the person's turn stays
            // the one that is open.
            EventBody::TurnAccepted { turn, .. } => {
                self.open.get_or_insert_with(|| turn.clone());
            }
            EventBody::TurnEnded { turn, outcome, message, .. } => {
                if self.cancelled.as_ref() == Some(turn) && *outcome != TurnOutcome::Succeeded {
                    *outcome = TurnOutcome::Cancelled;
                }
                if self.ending.is_some() && *outcome == TurnOutcome::Failed {
                    *outcome = self.outcome_of_ending();
                }
                if self.open.as_ref() == Some(turn) {
                    self.open = None;
                }
                if self.ending.is_none() {
                    self.cancelled = None;
                    self.ladder = None;
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

    fn outcome_of_ending(&self) -> TurnOutcome {
        match self.ending {
            Some((ExitReason::Cancelled, _)) => TurnOutcome::Cancelled,
            Some((ExitReason::TimedOut | ExitReason::IdleTimedOut, _)) => TurnOutcome::Failed,
            _ => TurnOutcome::Interrupted,
        }
    }

    /// Whether the agent is heard. On a disk that is full it waits, as for any reader that is
    /// slow; once its tree is being killed there is not much left to hear.
    fn listens(&self) -> bool {
        self.unwritten.is_empty() || self.killing.is_some()
    }

    /// Puts an event into the spool, behind all that waits for a disk that takes it. Nothing is
    /// ever given up.
    fn keep(&mut self, body: EventBody) {
        self.unwritten.push_back(body);
        if self.unwritten.len() == 1 {
            self.write();
        }
    }

    /// Writes what waits for the disk; answers whether nothing waits any more.
    fn write(&mut self) -> bool {
        while let Some(body) = self.unwritten.pop_front() {
            let seq = match self.desk.append(body.clone()) {
                Ok(seq) => seq,
                Err(error) => {
                    self.desk.complain(&format!("cannot write to the spool: {error}"));
                    self.unwritten.push_front(body);
                    self.write_again = Some(ambient::elapsed() + WRITE_AGAIN);
                    return false;
                }
            };
            if let EventBody::TurnAccepted { turn, .. } = body
                && let Some(it) = self.accepted.iter_mut().find(|it| it.turn == turn)
            {
                it.seq.get_or_insert(seq);
            }
        }
        self.write_again = None;
        if self.obeyed > self.desk.inbox() {
            self.desk.took_order(self.obeyed);
        }
        true
    }

    /// Empties the process tree: asks what is left to end, then kills until nobody is left.
    async fn clear_tree(&mut self) -> io::Result<()> {
        process::reap_orphans();
        let until = ambient::elapsed() + LEFTOVERS;
        if self.killing.is_none() && self.tree.signal(Signal::TERM)? > 0 {
            while !self.tree.members()?.is_empty() && ambient::elapsed() < until {
                ambient::sleep(Duration::from_millis(5)).await;
                process::reap_orphans();
            }
        }
        let desk = self.desk.clone();
        self.tree
            .kill(|stuck| {
                let text = format!("these processes do not die: {stuck:?}\n").into_bytes();
                let chunk = crate::wire::Chunk::pack(&text, false);
                // The next round tells it again.
                let _ = desk.append(EventBody::Log { stream: Stream::System, chunk });
            })
            .await
            .map(drop)
    }

    /// Says the last words: what is still open ends, then the exit.
    async fn finish(&mut self, exit: Exit) -> Exit {
        for body in self.shaper.finish() {
            self.keep(body);
        }
        for request in std::mem::take(&mut self.approvals) {
            self.keep(EventBody::ApprovalWithdrawn { request });
        }
        let open = self.open.take().into_iter();
        let waiting = std::mem::take(&mut self.accepted).into_iter().map(|it| it.turn);
        for turn in open.chain(waiting).collect::<Vec<_>>() {
            self.keep(ended(turn, self.outcome_of_ending()));
        }
        let mut body = EventBody::Exit(self.verdict_on(exit));
        self.shaper.clean(&mut body);
        self.keep(body.clone());
        let exit = match body {
            EventBody::Exit(exit) => exit,
            _ => no_answer(),
        };
        // A server that wants nothing of it waits for nothing of it.
        while exit.reason != ExitReason::Superseded && !self.write() {
            ambient::sleep(WRITE_AGAIN).await;
        }
        exit
    }

    /// How the run ended, from how the driver ended and why it had to.
    fn verdict_on(&mut self, exit: Exit) -> Exit {
        if let Some((reason, message)) = self.ending.take() {
            // How it took its end says nothing about why it had to end.
            return Exit { reason, message, ..exit };
        }
        match self.task.take() {
            Some((TurnOutcome::Succeeded, _)) if self.killing.is_some() => Exit {
                code: Some(0),
                signal: None,
                reason: ExitReason::Completed,
                message: String::new(),
            },
            Some((TurnOutcome::Failed, message)) if exit.reason == ExitReason::Completed => Exit {
                code: exit.code.filter(|code| *code != 0),
                signal: exit.signal,
                reason: ExitReason::Failed,
                message: message.unwrap_or_else(|| "the turn failed".into()),
            },
            _ => exit,
        }
    }
}

fn ended(turn: String, outcome: TurnOutcome) -> EventBody {
    EventBody::TurnEnded { turn, outcome, message: None, usage: Usage::default() }
}
