//! What a turn used. Tokens come with a turn's end; cost comes as a sum since the session or the
//! process began, and becomes one turn's share here.

use serde_json::Value;

use crate::wire::Usage;

/// Follows the sum.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Cost so far, in millionths of a US dollar, as the agent tells it.
    total: u64,
    /// What the total was when the turn began.
    before: u64,
}

impl Meter {
    /// The agent tells its sum, in US dollars. Answers what the turn cost so far.
    pub(super) fn tell(&mut self, usd: f64) -> u64 {
        // Rounding to millionths: a sum of dollars is far from the bounds of either type.
        let total = (usd.max(0.0) * 1e6).round() as u64;
        if total < self.total {
            // The agent counts from the beginning again.
            self.before = 0;
        }
        self.total = total;
        self.share()
    }

    /// A turn begins.
    pub(super) fn begin(&mut self) {
        self.before = self.total;
    }

    /// What the turn cost so far.
    pub(super) fn share(&self) -> u64 {
        self.total.saturating_sub(self.before)
    }

    /// What the turn used, by the answer to its prompt.
    pub(super) fn usage(&self, answer: &Value) -> Usage {
        let (input_tokens, output_tokens) = tokens(answer);
        Usage { cost_micro_usd: self.share(), input_tokens, output_tokens }
    }
}

/// Tokens read and written. The protocol's own member is a draft; agents that do not have it yet
/// tell the same in `_meta`.
fn tokens(answer: &Value) -> (u64, u64) {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let usage = &answer["usage"];
    if usage.is_object() {
        let output = number(&usage["outputTokens"]) + number(&usage["thoughtTokens"]);
        // What was read from a cache counts as read, whether or not it stands in `inputTokens`.
        let rest = number(&usage["totalTokens"]).saturating_sub(output);
        return (number(&usage["inputTokens"]).max(rest), output);
    }
    let count = &answer["_meta"]["quota"]["token_count"];
    (number(&count["input_tokens"]), number(&count["output_tokens"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sum_becomes_each_turns_share() {
        let mut meter = Meter::default();
        meter.tell(0.5);
        meter.begin();
        assert_eq!(meter.tell(0.75), 250_000);
        meter.begin();
        assert_eq!(meter.share(), 0);
        assert_eq!(meter.tell(0.1), 100_000, "another process counts anew");
    }

    #[test]
    fn tokens_are_read_wherever_an_agent_tells_them() {
        let usage = json!({"usage": {"totalTokens": 1150, "inputTokens": 900,
            "cachedReadTokens": 200, "outputTokens": 50, "thoughtTokens": 0}});
        assert_eq!(tokens(&usage), (1100, 50));
        let meta =
            json!({"_meta": {"quota": {"token_count": {"input_tokens": 10, "output_tokens": 5}}}});
        assert_eq!(tokens(&meta), (10, 5));
        assert_eq!(tokens(&json!({"usage": null})), (0, 0));
    }
}
