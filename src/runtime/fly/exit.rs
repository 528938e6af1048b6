//! How a machine ended that could not say it itself, from what Fly kept of it. Pure.
//!
//! The agent's own end comes from its reporter. Where the machine is gone and the reporter was
//! not heard, three ends are told apart: it ran out of memory, somebody stopped or destroyed it, or
//! nobody knows (its host was lost, or Fly has forgotten). None of them is the agent's failure.

use sprite_reporter::wire::{Exit, ExitReason};

use super::api::ExitEvent;

/// What is known of the machine that is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended<'a> {
    /// Its id, where it is known.
    pub(super) id: Option<&'a str>,
    /// How its program ended, where Fly kept that.
    pub(super) exit: Option<&'a ExitEvent>,
    /// Whether its run was claimed.
    pub(super) begun: bool,
    /// Whether it was seen up, or on its way, all the same.
    pub(super) up: bool,
    /// Why the Sprite was to end, where it was.
    pub(super) stop: Option<ExitReason>,
    /// Its memory, in MiB.
    pub(super) memory_mb: u32,
}

/// The exit record.
pub(super) fn exit(ended: &Ended<'_>) -> Exit {
    let machine = ended.id.map_or("its machine".to_owned(), |id| format!("its machine {id}"));
    let lost =
        |message| Exit { code: None, signal: None, reason: ExitReason::ReporterLost, message };
    if ended.up && !ended.begun {
        return lost(format!(
            "{machine} was up or on its way for too long and never asked for its run; see that \
             sprite-reporter is the ENTRYPOINT of its image, and `fly logs` for what it said"
        ));
    }
    let Some(event) = ended.exit else {
        if let Some(reason) = ended.stop {
            let message = format!("{machine} is gone and did not report; it was to end");
            return Exit { reason, ..lost(message) };
        }
        return lost(format!(
            "{machine} is gone, and Fly keeps no word of how; its host was lost, or somebody \
             destroyed it"
        ));
    };
    let (code, signal) = numbers(event);
    if event.oom_killed {
        let message = format!(
            "{machine} ran out of memory ({} MiB); give it more with runtime.fly.guest.memoryMb",
            ended.memory_mb
        );
        return Exit { code, signal, reason: ExitReason::OutOfMemory, message };
    }
    if event.requested_stop {
        let reason = ended.stop.unwrap_or(ExitReason::ReporterLost);
        let message = format!("{machine} was stopped before it could report");
        return Exit { code: None, signal: None, reason, message };
    }
    if !ended.begun {
        let how = how(code, signal);
        return lost(format!(
            "{machine} ended ({how}) before it asked for its run; see that sprite-reporter is the \
             ENTRYPOINT of its image, and `fly logs` for what it said"
        ));
    }
    let how = how(code, signal);
    Exit { code, signal, ..lost(format!("{machine} ended ({how}) without a report")) }
}

/// The exit code and the signal: those of the program in the machine, where both are told. A signal
/// that the program did not handle shows as 128 and its number.
fn numbers(event: &ExitEvent) -> (Option<i32>, Option<i32>) {
    let signal = event.guest_signal.or(event.signal).and_then(|it| i32::try_from(it).ok());
    let code = event.guest_exit_code.unwrap_or(event.exit_code);
    let code = i32::try_from(code).ok().filter(|_| signal.is_none());
    (code, signal)
}

fn how(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (_, Some(signal)) => format!("signal {signal}"),
        (Some(code), None) => format!("exit code {code}"),
        (None, None) => "without an exit code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_told_in_its_own_words() {
        let event = |change: fn(&mut ExitEvent)| {
            let mut event = ExitEvent::default();
            change(&mut event);
            Some(event)
        };
        let stopped = event(|event| event.requested_stop = true);
        let cases = [
            (
                "out of memory",
                event(|event| (event.oom_killed, event.exit_code) = (true, 137)),
                true,
                None,
            ),
            ("killed", event(|event| event.guest_signal = Some(9)), true, None),
            ("ended", event(|event| event.exit_code = 3), true, None),
            (
                "no reporter in its image",
                event(|event| event.guest_exit_code = Some(127)),
                false,
                None,
            ),
            ("stopped by somebody", stopped.clone(), true, None),
            ("stopped by us", stopped, true, Some(ExitReason::TimedOut)),
            ("forgotten", None, true, None),
            ("forgotten, and cancelled", None, true, Some(ExitReason::Cancelled)),
        ];
        let told = |(name, event, begun, stop): (&str, Option<ExitEvent>, bool, _)| {
            let id = Some("148e21ea7d4ed8");
            let (exit_event, up) = (event.as_ref(), false);
            let ended = Ended { id, exit: exit_event, begun, up, stop, memory_mb: 256 };
            let Exit { code, signal, reason, message } = exit(&ended);
            format!("{name}: {reason:?} {code:?} {signal:?}\n  {message}")
        };
        insta::assert_snapshot!(cases.map(told).join("\n"));
    }
}
