//! One turn's share of what the CLI has used.

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

    #[test]
    fn a_share_stays_what_it_is() {
        let mut meter = Meter::default();
        let share = Spent { is_share: true, usd: 0.25, input: 7, output: 3 };
        assert_eq!(meter.share(share), meter.share(share));
    }
}
