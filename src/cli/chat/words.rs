//! What a terminal knows: who is there, whom plain lines are for, and what waits for an answer.
//!
//! One room for all that hear and say: whoever learns writes here, and the editor reads the prompt
//! and the words that it completes.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    Input,
    address::{self, Addressed, AgentLine, JobLine},
    asks::Ask,
};

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Words {
    known: Mutex<Known>,
    /// Rings when something was learned.
    bell: Notify,
}

#[derive(Debug, Default)]
struct Known {
    jobs: Vec<JobLine>,
    agents: Vec<AgentLine>,
    /// Whom plain lines are for, if somebody was chosen.
    current: Option<String>,
    /// Whom the last line was for.
    spoken_to: Option<String>,
    /// What was told to wait for an answer.
    asked: Option<Ask>,
    /// The requests that were answered here.
    answered: HashSet<(String, String)>,
}

impl Known {
    /// Whether an agent's questions are for this terminal.
    fn concerns(&self, agent: &AgentLine) -> bool {
        let name = Some(agent.name.as_str());
        agent.listens || name == self.current.as_deref() || name == self.spoken_to.as_deref()
    }
}

impl Words {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.lock());
        self.bell.notify_one();
    }

    /// Waits until something was learned since this was last waited for.
    pub(super) async fn changed(&self) {
        self.bell.notified().await;
    }

    /// Learns how all jobs are.
    pub(super) fn know_jobs(&self, jobs: Vec<JobLine>) {
        self.learn(|known| known.jobs = jobs);
    }

    /// Learns how all agents are.
    pub(super) fn know_agents(&self, agents: Vec<AgentLine>) {
        self.learn(|known| known.agents = agents);
    }

    /// Learns that an agent is there and how it is, or that it is gone.
    pub(super) fn know_agent(&self, agent: AgentLine, there: bool) {
        self.learn(|known| put(&mut known.agents, agent, there, |agent| &agent.name));
    }

    /// Learns that a job is there and how it is, or that it is gone.
    pub(super) fn know_job(&self, job: JobLine, there: bool) {
        self.learn(|known| put(&mut known.jobs, job, there, |job| &job.name));
    }

    /// Reads whom a line is for.
    fn address(&self, line: &str) -> Addressed {
        let mut known = self.lock();
        let Known { agents, current, asked, answered, .. } = &mut *known;
        let answer = asked.as_ref().and_then(|ask| {
            ask.answer(line, address::words_answer(&ask.name, current.as_deref(), agents))
        });
        if let Some(answer) = answer {
            answered.extend(asked.take().map(|ask| (ask.name, ask.request)));
            self.bell.notify_one();
            return Addressed::Say(answer);
        }
        let addressed = address::address(line, current, agents);
        if let Addressed::Say(said) = &addressed
            && let Some(rest) = said.strip_prefix("/od-send ")
        {
            known.spoken_to = rest.split_whitespace().next().map(str::to_owned);
        }
        addressed
    }

    /// What becomes of a line that was typed.
    pub(super) fn heard(&self, line: &str) -> Input {
        match self.address(line) {
            Addressed::Say(line) => Input::Line(line),
            Addressed::Turned(note) => Input::Note(note),
        }
    }

    /// An agent that is spoken to and has a turn that runs.
    pub(super) fn busy(&self) -> Option<String> {
        let known = self.lock();
        [known.spoken_to.as_deref(), known.current.as_deref(), None]
            .into_iter()
            .filter_map(|name| address::meant(name, &known.agents))
            .find(|agent| agent.busy)
            .map(|agent| agent.name.clone())
    }

    /// Who is to be heard here and waits for an answer, by kind and name; whom plain lines are for
    /// comes first.
    pub(super) fn waiting(&self) -> Vec<(&'static str, String)> {
        let known = self.lock();
        let meant = address::meant(known.current.as_deref(), &known.agents);
        let agents = known.agents.iter().filter(|agent| agent.waits && known.concerns(agent));
        let mut agents: Vec<&AgentLine> = agents.collect();
        agents.sort_by_key(|agent| meant.is_none_or(|meant| meant.name != agent.name));
        let jobs = known.jobs.iter().filter(|job| job.waits && job.reports && !job.ended);
        let agents = agents.into_iter().map(|agent| ("agents", agent.name.clone()));
        agents.chain(jobs.map(|job| ("jobs", job.name.clone()))).collect()
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_asked(&self) -> bool {
        !self.waiting().is_empty()
    }

    /// Learns what waits for an answer, the most urgent first. What is to be told of it.
    pub(super) fn know_asks(&self, asks: Vec<Ask>) -> Option<Ask> {
        let mut known = self.lock();
        if known.asked.as_ref().is_some_and(|asked| asks.contains(asked)) {
            return None;
        }
        // What waits no more can be asked for anew under its id.
        known.answered.retain(|(name, request)| {
            asks.iter().any(|ask| ask.name == *name && ask.request == *request)
        });
        known.asked = None;
        let open = |ask: &Ask| !known.answered.contains(&(ask.name.clone(), ask.request.clone()));
        asks.into_iter().find(open)
    }

    /// Whether words without a command answer this.
    pub(super) fn answers(&self, ask: &Ask) -> bool {
        let known = self.lock();
        address::words_answer(&ask.name, known.current.as_deref(), &known.agents)
    }

    /// From now on, a line may answer this: it was told.
    pub(super) fn told(&self, ask: Ask) {
        self.lock().asked = Some(ask);
    }

    /// The prompt as it is now.
    pub(super) fn prompt(&self) -> String {
        let known = self.lock();
        let agent = address::meant(known.current.as_deref(), &known.agents);
        let asks = agent.is_some_and(|agent| {
            known.asked.as_ref().is_some_and(|asked| asked.name == agent.name)
        });
        address::prompt(agent, asks)
    }

    /// All names.
    pub(super) fn names(&self) -> Vec<String> {
        let known = self.lock();
        let agents = known.agents.iter().map(|agent| agent.name.clone());
        agents.chain(known.jobs.iter().map(|job| job.name.clone())).collect()
    }
}

/// Puts one that changed into its place, or takes away one that is gone.
fn put<T>(all: &mut Vec<T>, one: T, there: bool, name: impl Fn(&T) -> &String) {
    let at = all.iter().position(|known| name(known) == name(&one));
    match (at, there) {
        (Some(at), true) => all[at] = one,
        (Some(at), false) => drop(all.remove(at)),
        (None, true) => all.push(one),
        (None, false) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agent(name: &str, listens: bool) -> AgentLine {
        let phase = "Busy".to_owned();
        AgentLine { name: name.into(), phase, queued: 0, busy: true, waits: true, listens }
    }

    fn ask(name: &str, request: &str, kind: &str) -> Ask {
        let row = json!({"state": "Pending", "request": request, "title": "it", "kind": kind});
        Ask::read(name, &row).expect("it waits")
    }

    fn said(words: &Words, line: &str) -> String {
        match words.address(line) {
            Addressed::Say(line) | Addressed::Turned(line) => line,
        }
    }

    #[test]
    fn a_line_answers_only_what_was_told_and_that_once() {
        let words = Words::default();
        words.know_agents(vec![agent("bot", true)]);
        assert_eq!(words.waiting(), [("agents", "bot".to_owned())]);
        let asks = vec![ask("bot", "r1", "tool"), ask("bot", "r2", "tool")];
        let first = words.know_asks(asks.clone()).expect("something waits");
        assert_eq!(said(&words, "y"), "y", "it was not told yet");
        words.told(first);
        assert!(words.prompt().contains("asks"), "{}", words.prompt());
        assert_eq!(words.know_asks(asks.clone()), None, "it is told once");
        assert_eq!(said(&words, "y"), "/od-approve bot r1 yes");
        assert_eq!(said(&words, "y"), "y", "the second request was not told yet");
        let second = words.know_asks(asks).expect("another one waits");
        words.told(second);
        assert_eq!(said(&words, "n"), "/od-approve bot r2 no");
    }

    #[test]
    fn what_somebody_else_answered_is_forgotten() {
        let words = Words::default();
        words.know_agents(vec![agent("bot", true)]);
        words.told(ask("bot", "r1", "tool"));
        assert_eq!(words.know_asks(Vec::new()), None);
        assert_eq!(said(&words, "y"), "y");
    }

    #[test]
    fn only_whoever_is_heard_here_asks_here_and_the_one_that_is_meant_first() {
        let words = Words::default();
        words.know_agents(vec![agent("api", true), agent("far", false), agent("web", true)]);
        let names = || words.waiting().into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(names(), ["api", "web"]);
        said(&words, "/use web");
        assert_eq!(names(), ["web", "api"]);
        said(&words, "@far hello");
        assert_eq!(names(), ["web", "api", "far"]);
    }

    #[test]
    fn words_for_one_agent_do_not_answer_another_ones_question() {
        let words = Words::default();
        words.know_agents(vec![agent("api", true), agent("web", true)]);
        said(&words, "/use web");
        words.told(ask("api", "q1", "question"));
        assert_eq!(said(&words, "make it red"), "/od-send web make it red");
        said(&words, "/use api");
        assert_eq!(said(&words, "make it red"), "/od-approve api q1 make it red");
    }
}
