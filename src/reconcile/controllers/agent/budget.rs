//! What an Agent may spend, against what its turns have used.

use crate::{
    resource::{Agent, Budget},
    store::TurnSums,
};

/// Millionths of a US dollar in one.
const MICRO: f64 = 1_000_000.0;

/// How an Agent's budget stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purse {
    /// There is no limit in money.
    Open,
    /// So many millionths of a US dollar are left, never none.
    Left(u64),
    /// No turn may begin; this says what is spent, and the mend.
    Spent(String),
}

/// Compares.
pub(super) fn purse(agent: &Agent, sums: &TurnSums) -> Purse {
    let Some(budget) = &agent.spec.budget else { return Purse::Open };
    let name = &agent.metadata.name;
    if let Some(turns) = budget.turns
        && sums.done >= turns
    {
        let more = turns.max(1).saturating_mul(2);
        return Purse::Spent(format!(
            "the budget of {turns} {} is spent; raise it with {}",
            if turns == 1 { "turn" } else { "turns" },
            mend(name, &format!("budget.turns={more}"))
        ));
    }
    let Some(limit) = micro_usd(budget) else { return Purse::Open };
    match limit.checked_sub(sums.usage.cost_micro_usd) {
        Some(left) if left > 0 => Purse::Left(left),
        _ => {
            let usd = budget.usd.as_ref().map(ToString::to_string).unwrap_or_default();
            let more = limit.max(500_000).saturating_mul(2);
            let more = format!("{}.{:06}", more / 1_000_000, more % 1_000_000);
            let more = more.trim_end_matches('0').trim_end_matches('.');
            Purse::Spent(format!(
                "the budget of ${usd} is spent; raise it with {}",
                mend(name, &format!("budget.usd={more}"))
            ))
        }
    }
}

/// The command that sets a field, at the command line and in chat.
fn mend(name: &str, field: &str) -> String {
    format!("open-dispatch set {name} {field} (in chat: /od-set {name} {field})")
}

/// The limit in money, in millionths of a US dollar.
fn micro_usd(budget: &Budget) -> Option<u64> {
    let usd = budget.usd.as_ref()?.as_f64()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and a budget is no negative number"
    )]
    Some((usd * MICRO).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{AgentCli, AgentSpec};

    fn stands(budget: serde_json::Value, done: u64, micro: u64) -> Purse {
        let spec: AgentSpec = serde_json::from_value(serde_json::json!({
            "agent": AgentCli::Command(Default::default()), "budget": budget,
        }))
        .expect("a spec");
        let mut sums = TurnSums { done, ..TurnSums::default() };
        sums.usage.cost_micro_usd = micro;
        purse(&Agent::new("bot", spec), &sums)
    }

    fn spent(text: &str) -> Purse {
        Purse::Spent(text.to_owned())
    }

    #[test]
    fn a_budget_is_spent_at_its_limit_and_not_before() {
        assert_eq!(stands(serde_json::json!({}), 1_000, 1 << 40), Purse::Open);
        assert_eq!(stands(serde_json::json!({"usd": 5}), 9, 4_999_999), Purse::Left(1));
        assert_eq!(stands(serde_json::json!({"turns": 2}), 1, 1 << 40), Purse::Open);
        let text = "the budget of $5 is spent; raise it with open-dispatch set bot budget.usd=10 (in chat: /od-set bot budget.usd=10)";
        assert_eq!(stands(serde_json::json!({"usd": 5}), 9, 5_000_000), spent(text));
        let text = "the budget of $0.75 is spent; raise it with open-dispatch set bot budget.usd=1.5 (in chat: /od-set bot budget.usd=1.5)";
        assert_eq!(stands(serde_json::json!({"usd": 0.75}), 9, 750_001), spent(text));
        let text = "the budget of 2 turns is spent; raise it with open-dispatch set bot budget.turns=4 (in chat: /od-set bot budget.turns=4)";
        assert_eq!(stands(serde_json::json!({"turns": 2, "usd": 5}), 2, 0), spent(text));
    }

    #[test]
    fn a_budget_of_nothing_is_spent_from_the_start_and_its_mend_is_more() {
        let text = "the budget of $0 is spent; raise it with open-dispatch set bot budget.usd=1 (in chat: /od-set bot budget.usd=1)";
        assert_eq!(stands(serde_json::json!({"usd": 0}), 0, 0), spent(text));
        let text = "the budget of 0 turns is spent; raise it with open-dispatch set bot budget.turns=2 (in chat: /od-set bot budget.turns=2)";
        assert_eq!(stands(serde_json::json!({"turns": 0}), 0, 0), spent(text));
    }
}
