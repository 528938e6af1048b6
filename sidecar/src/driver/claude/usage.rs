//! One turn's share of what the CLI has used: at its end, by what the CLI says then, and before,
//! by what the model says of each of its messages.
//!
//! The CLI tells a turn's cost with its end only, but can be asked for the session's cost at any
//! time. It is asked whenever the model has finished a message and goes on after a tool, so that
//! a budget can end a turn in its middle. Tokens of subagents come with the end; their cost
//! counts at once.

use super::protocol::Spent;
use crate::wire::Usage;

/// Turns the CLI's figures, which may count since its start, into shares of turns.
#[derive(Debug, Default)]
pub(super) struct Meter {
    total: Spent,
}

impl Meter {
    /// The share of the turn that ended with these figures. A total that has shrunk was begun
    /// anew by the CLI (`/clear` does that), so that it is a share by itself.
    pub(super) fn share(&mut self, spent: Spent) -> Usage {
        if spent.is_share {
            return usage(spent);
        }
        let last = std::mem::replace(&mut self.total, spent);
        if spent.usd < last.usd || spent.input < last.input || spent.output < last.output {
            return usage(spent);
        }
        usage(Spent {
            is_share: true,
            usd: spent.usd - last.usd,
            input: spent.input - last.input,
            output: spent.output - last.output,
        })
    }
}

/// What the turn that runs has used so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The turn that it counts for.
    turn: Option<String>,
    /// The session's cost when the turn began, in US dollars.
    base_usd: f64,
    /// The session's cost as last told.
    usd: Option<f64>,
    input: u64,
    output: u64,
    /// Tokens read by the message that is being streamed.
    reading: u64,
    /// The question for the cost that is not answered yet.
    asked: Option<Asked>,
    /// Whether there is more to ask for once it is.
    is_stale: bool,
}

#[derive(Debug)]
struct Asked {
    request: String,
    /// The turn that is asked for, and its tokens at that moment.
    turn: Option<(String, u64, u64)>,
}

impl Tally {
    /// A turn speaks; if it is another one than before, counting begins anew.
    pub(super) fn turn(&mut self, turn: &str) {
        if self.turn.as_deref() != Some(turn) {
            self.turn = Some(turn.to_owned());
            self.base_usd = self.usd.unwrap_or_default();
            (self.input, self.output) = (0, 0);
            self.is_stale = false;
        }
    }

    /// A message of the model begins.
    pub(super) fn reads(&mut self, input: u64) {
        self.reading = input;
    }

    /// A message of the model is over.
    pub(super) fn wrote(&mut self, input: Option<u64>, output: u64) {
        self.input = self.input.saturating_add(input.unwrap_or(self.reading));
        self.output = self.output.saturating_add(output);
        self.reading = 0;
    }

    /// The session's cost is to be asked for. Answers whether now; else once the last question
    /// is answered.
    pub(super) fn is_to_ask(&mut self) -> bool {
        self.is_stale = self.asked.is_some();
        !self.is_stale
    }

    /// It is asked for by this request.
    pub(super) fn asks(&mut self, request: String) {
        let turn = self.turn.clone().map(|turn| (turn, self.input, self.output));
        self.asked = Some(Asked { request, turn });
    }

    /// A request was answered. If it was ours: what is to be said of the turn, and whether there
    /// is more to ask for. A CLI that does not tell its cost tells its tokens all the same.
    pub(super) fn answered(
        &mut self,
        request: &str,
        text: Option<&str>,
    ) -> Option<(Option<(String, Usage)>, bool)> {
        let asked = self.asked.take_if(|asked| asked.request == request)?;
        if let Some(usd) = text.and_then(dollars) {
            self.usd = Some(usd);
        }
        let told = asked
            .turn
            .filter(|(turn, ..)| self.turn.as_ref() == Some(turn))
            .map(|(turn, input, output)| (turn, usage(self.share(input, output))));
        Some((told, std::mem::take(&mut self.is_stale)))
    }

    /// What the turn has used as far as it is known, for an end of which the CLI says nothing.
    pub(super) fn so_far(&self) -> Usage {
        match self.turn {
            Some(_) => usage(self.share(self.input, self.output)),
            None => Usage::default(),
        }
    }

    fn share(&self, input: u64, output: u64) -> Spent {
        let usd = self.usd.unwrap_or(self.base_usd);
        let usd = if usd < self.base_usd { usd } else { usd - self.base_usd };
        Spent { is_share: true, usd, input, output }
    }

    /// A turn is over, with the session's cost where the CLI says it.
    pub(super) fn ends(&mut self, total_usd: Option<f64>) {
        self.turn = None;
        self.is_stale = false;
        self.usd = total_usd.or(self.usd);
    }
}

/// The first amount of US dollars in the line that tells the cost.
fn dollars(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.to_ascii_lowercase().contains("cost:"))?;
    let (_, amount) = line.split_once('$')?;
    let end = amount.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',');
    let amount = amount.get(..end.unwrap_or(amount.len()))?.replace(',', "");
    amount.parse().ok().filter(|usd: &f64| usd.is_finite())
}

fn usage(spent: Spent) -> Usage {
    Usage {
        cost_micro_usd: (spent.usd.max(0.0) * 1e6).round() as u64,
        input_tokens: spent.input,
        output_tokens: spent.output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(usd: f64, input: u64, output: u64) -> Spent {
        Spent { is_share: false, usd, input, output }
    }

    #[test]
    fn totals_become_shares() {
        let mut meter = Meter::default();
        let first = meter.share(total(0.005, 1000, 50));
        let second = meter.share(total(0.0125, 3000, 150));
        assert_eq!(first.cost_micro_usd, 5_000);
        assert_eq!(second, Usage { cost_micro_usd: 7_500, input_tokens: 2000, output_tokens: 100 });
    }

    #[test]
    fn a_total_that_begins_anew_is_a_share() {
        let mut meter = Meter::default();
        meter.share(total(0.5, 1000, 50));
        assert_eq!(meter.share(total(0.1, 10, 5)).cost_micro_usd, 100_000);
    }

    /// Asks, and is answered with this cost.
    fn told(tally: &mut Tally, text: &str) -> Option<(String, Usage)> {
        assert!(tally.is_to_ask());
        tally.asks("r".to_owned());
        tally.answered("r", Some(text)).expect("our request").0
    }

    #[test]
    fn a_turn_counts_from_its_own_beginning() {
        let mut tally = Tally::default();
        // As Claude Code 2.1.329 tells it for a session that was resumed.
        let cost = |usd: &str| format!("Estimated cost:        ${usd}\nTotal duration (API):  0s");
        assert_eq!(told(&mut tally, &cost("1,200.5000")), None, "no turn");
        tally.turn("t1");
        tally.reads(900);
        tally.wrote(None, 50);
        tally.turn("t1");
        tally.reads(1);
        tally.wrote(Some(1000), 30);
        let usage = Usage { cost_micro_usd: 20_000, input_tokens: 1900, output_tokens: 80 };
        assert_eq!(told(&mut tally, &cost("1,200.5200")), Some(("t1".to_owned(), usage)));
        tally.ends(Some(1200.53));
        tally.turn("t2");
        tally.wrote(Some(10), 5);
        let usage = Usage { cost_micro_usd: 10_000, input_tokens: 10, output_tokens: 5 };
        assert_eq!(told(&mut tally, &cost("1200.54")), Some(("t2".to_owned(), usage)));
    }

    #[test]
    fn one_question_is_asked_at_a_time_and_then_again() {
        let mut tally = Tally::default();
        tally.turn("t1");
        assert!(tally.is_to_ask());
        tally.asks("r1".to_owned());
        tally.wrote(Some(10), 5);
        assert!(!tally.is_to_ask());
        assert_eq!(tally.answered("else", None), None);
        let (told, is_stale) = tally.answered("r1", None).expect("ours");
        assert_eq!(told, Some(("t1".to_owned(), Usage::default())), "as of when it was asked");
        assert!(is_stale && tally.is_to_ask());
    }

    #[test]
    fn an_answer_behind_the_turns_end_says_nothing() {
        let mut tally = Tally::default();
        tally.turn("t1");
        tally.asks("r1".to_owned());
        tally.ends(None);
        assert_eq!(tally.answered("r1", Some("cost: $1")), Some((None, false)));
    }

    #[test]
    fn a_share_stays_what_it_is() {
        let mut meter = Meter::default();
        let share = Spent { is_share: true, usd: 0.25, input: 7, output: 3 };
        assert_eq!(meter.share(share), meter.share(share));
    }
}
