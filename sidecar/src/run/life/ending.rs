//! The end of a run: the tree is emptied, what is open is ended, and the exit is said.

use std::{io, time::Duration};

use rustix::process::Signal;

use super::Life;
use crate::{
    ambient, process,
    run::{pen::WRITE_AGAIN, turns::End, work::no_answer},
    wire::{EventBody, Exit, ExitReason, Stream, TurnOutcome},
};

/// How long what the agent left running may take to end by itself.
const LEFTOVERS: Duration = Duration::from_secs(1);

impl Life {
    /// What is said of a turn that the end of the run ends.
    pub(super) fn last_word(&self, exit: Option<&Exit>) -> End {
        let said = |outcome, message: &str| End {
            message: (!message.is_empty()).then(|| message.to_owned()),
            ..End::plain(outcome)
        };
        match &self.ending {
            Some((ExitReason::Cancelled, message)) => said(TurnOutcome::Cancelled, message),
            Some((ExitReason::TimedOut | ExitReason::IdleTimedOut, message)) => {
                said(TurnOutcome::Failed, message)
            }
            Some((ExitReason::Asleep, _)) => {
                said(TurnOutcome::Interrupted, "the agent was put to sleep")
            }
            Some((_, message)) => said(TurnOutcome::Interrupted, message),
            None => match exit.map(|exit| exit.message.as_str()).unwrap_or_default() {
                "" => said(TurnOutcome::Interrupted, "the agent ended"),
                why => said(TurnOutcome::Interrupted, &format!("the agent ended: {why}")),
            },
        }
    }

    /// Empties the process tree: asks what is left to end, then kills until nobody is left.
    ///
    /// # Errors
    /// What kept it from looking.
    pub(super) async fn clear_tree(&mut self) -> io::Result<()> {
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
    pub(super) async fn finish(&mut self, exit: Exit) -> Exit {
        for body in self.shaper.finish() {
            self.keep(body);
        }
        for request in std::mem::take(&mut self.approvals) {
            self.keep(EventBody::ApprovalWithdrawn { request });
        }
        let last_word = self.last_word(Some(&exit));
        for (turn, end) in self.turns.rest(&last_word) {
            self.say_ended(turn, end);
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
        if self.sleeps.is_some() {
            // It ended by itself before it was told to, and was to end.
            return Exit { reason: ExitReason::Asleep, message: String::new(), ..exit };
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
