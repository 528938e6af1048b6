//! Teams' published limits, at the strictest of their generations: so many calls of a bot in a
//! conversation, and so many of an app in a tenant.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use open_dispatch::ambient::Ambient;

/// How many calls within how many seconds a conversation takes.
pub const CONVERSATION: [(usize, u64); 4] = [(7, 1), (8, 2), (60, 30), (1800, 3600)];
/// How many calls a second an app may make in a tenant.
pub const TENANT: (usize, u64) = (30, 1);

/// When the calls came that count yet, by conversation; those of all stand under no name. Times
/// are those of a clock that never runs back.
#[derive(Debug, Default)]
pub struct Limits(HashMap<String, VecDeque<Duration>>);

impl Limits {
    /// Counts a call; or says how many seconds to wait, where it is one too many.
    pub fn take(&mut self, conversation: &str) -> Result<(), u64> {
        let now = Ambient::real().clock.elapsed();
        let channel = conversation.split(";messageid=").next().unwrap_or(conversation);
        let bounds = [("", vec![TENANT]), (channel, CONVERSATION.to_vec())];
        for (name, limits) in &bounds {
            let calls = self.0.entry((*name).to_owned()).or_default();
            for (most, seconds) in limits {
                let within = Duration::from_secs(*seconds);
                let before = calls.len().checked_sub(*most).and_then(|at| calls.get(at));
                if let Some(over) = before.map(|at| *at + within).filter(|over| *over > now) {
                    return Err((over - now).as_secs() + 1);
                }
            }
        }
        for (name, limits) in bounds {
            let calls = self.0.entry(name.to_owned()).or_default();
            let most = limits.iter().map(|(most, _)| *most).max().unwrap_or_default();
            if calls.len() >= most {
                calls.pop_front();
            }
            calls.push_back(now);
        }
        Ok(())
    }
}
