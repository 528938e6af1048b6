//! What commands about agents answer.

use jiff::Timestamp;

use super::{ago, aligned, drifted, fenced, laid_over, usd};
use crate::{
    chat::{changes::Change, transcript::one_line},
    resource::{
        Agent, AgentCli, Budget, Channel, ConditionStatus, FlyMachine, FlyRuntime, Isolation, Repo,
        RuntimeSpec,
    },
    store::{Turn, TurnState},
};

/// The most agents that a table shows.
const AGENTS_SHOWN: usize = 40;

/// Which CLI works, with its model.
fn cli_of(agent: &AgentCli) -> String {
    let model = match agent {
        AgentCli::Claude(cli) => &cli.model,
        AgentCli::Opencode(cli) => &cli.model,
        AgentCli::Codex(cli) => &cli.model,
        AgentCli::Acp(cli) => &cli.model,
        AgentCli::Command(_) => &None,
    };
    let name = match agent {
        AgentCli::Acp(cli) => cli.command.first().map_or("acp", |program| program),
        _ => agent.name(),
    };
    match model {
        Some(model) => format!("{name} ({model})"),
        None => name.to_owned(),
    }
}

fn repo_of(repo: &Repo) -> String {
    let url = repo.github.as_deref().or(repo.url.as_deref()).unwrap_or_default();
    let branch = repo.branch.as_ref().map(|branch| format!(" ({branch})")).unwrap_or_default();
    format!("{url}{branch}")
}

/// Where an agent works, in few words.
pub(in crate::chat) fn place_of(agent: &Agent) -> String {
    let named = match &agent.spec.runtime {
        RuntimeSpec::Local(local) => local.workdir.as_deref(),
        RuntimeSpec::Fly(_) => None,
    };
    match (named, &agent.spec.repo) {
        (Some(path), Some(repo)) => format!("{path}, a clone of {}", repo_of(repo)),
        (Some(path), None) => path.to_owned(),
        (None, Some(repo)) => repo_of(repo),
        (None, None) => match &agent.spec.runtime {
            RuntimeSpec::Local(_) => "~".to_owned(),
            RuntimeSpec::Fly(_) => "a machine of its own".to_owned(),
        },
    }
}

/// Where an agent runs, and how far apart.
fn runtime_of(agent: &Agent) -> String {
    match &agent.spec.runtime {
        RuntimeSpec::Local(local) => match local.isolation {
            None | Some(Isolation::None) => "local".to_owned(),
            Some(Isolation::Worktree) => "local, in a worktree of its own".to_owned(),
            Some(Isolation::Sandbox) => "local, in a sandbox of its own".to_owned(),
        },
        RuntimeSpec::Fly(fly) => machine_of(fly),
    }
}

/// What is known of a machine before there is one: `fly, from node, in iad`.
pub(in crate::chat) fn machine_of(fly: &FlyRuntime) -> String {
    let from = fly.image.as_ref().map(|image| format!(", from {image}")).unwrap_or_default();
    let region = fly.region.as_ref().map(|region| format!(", in {region}")).unwrap_or_default();
    let kept = if fly.persistent == Some(false) { ", nothing kept" } else { "" };
    format!("fly{from}{region}{kept}")
}

/// Which CLI works where: `claude (opus) in ~/p (local)`.
fn set_up(agent: &Agent) -> String {
    format!("{} in {} ({})", cli_of(&agent.spec.agent), place_of(agent), runtime_of(agent))
}

/// How many others listen where an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chat) enum Hearing {
    /// It listens here, alone.
    Alone,
    /// It listens here, and so do others.
    Among,
    /// It listens elsewhere, or nowhere.
    Elsewhere,
}

fn how_to_talk(name: &str, hearing: Hearing) -> String {
    match hearing {
        Hearing::Alone => "What you say here goes to it".to_owned(),
        Hearing::Among => {
            format!("Others listen here too: begin with {name}: to talk to it")
        }
        Hearing::Elsewhere => format!("/od-send {name} and a message talks to it from here"),
    }
}

/// The answer to `/od-start` that made an agent.
pub(in crate::chat) fn started(agent: &Agent, hearing: Hearing) -> String {
    let name = &agent.metadata.name;
    format!(
        "{name} starts: {}\n{}; /od-stop {name} stops it",
        set_up(agent),
        how_to_talk(name, hearing)
    )
}

/// An answer, with what of the line was left out.
pub(in crate::chat) fn also(answer: String, ignored: &[String]) -> String {
    ignored.iter().fold(answer, |text, line| format!("{text}\n{line}"))
}

/// The answer to `/od-start` of an agent that was stopped; it is as it was, save for `changes`.
pub(in crate::chat) fn resumed(agent: &Agent, changes: &[Change], hearing: Hearing) -> String {
    let name = &agent.metadata.name;
    let session = match agent.status.session_id {
        Some(_) => "goes on with its session",
        None => "starts",
    };
    format!(
        "{name} {session}: {}{}\n{}; /od-stop {name} stops it",
        set_up(agent),
        listed(changes),
        how_to_talk(name, hearing)
    )
}

/// The answer to `/od-start` of an agent that works, with what was asked to be otherwise.
pub(in crate::chat) fn active(agent: &Agent, wanted: &[Change], hearing: Hearing) -> String {
    let name = &agent.metadata.name;
    let front = format!("{name} is active already: {}", set_up(agent));
    if wanted.is_empty() {
        return format!("{front}\n{}; /od-stop {name} stops it", how_to_talk(name, hearing));
    }
    format!(
        "{front}\nThis was not changed:{}\nTo change an agent that is active: /od-set {name} \
         field=value; or /od-stop {name} first",
        listed(wanted)
    )
}

fn listed(changes: &[Change]) -> String {
    changes.iter().map(|change| format!("\n  {change}")).collect()
}

/// The answer to `/od-set`.
pub(in crate::chat) fn changed(name: &str, changes: &[Change], restarts: bool) -> String {
    if changes.is_empty() {
        return format!("{name} is so already; nothing was changed");
    }
    let when = if restarts { "\nIt holds from the next turn on" } else { "" };
    format!("{name} was changed:{}{when}", listed(changes))
}

/// The answer to `/od-stop` of one agent.
pub(in crate::chat) fn stopped(agent: &Agent) -> String {
    let name = &agent.metadata.name;
    if agent.spec.suspend {
        return format!("{name} is stopped already; /od-start {name} goes on with its session");
    }
    let turns = agent.status.turns;
    let lost = match turns.running + turns.queued {
        0 => "",
        1 => " What it was to do is cancelled.",
        _ => " All that it was to do is cancelled.",
    };
    format!("{name} stops.{lost} Its session stays; /od-start {name} goes on with it")
}

/// The answer to `/od-stop --all`.
pub(in crate::chat) fn stopped_all(names: &[String]) -> String {
    match names {
        [] => "No agent listens here that could be stopped; /od-list lists all agents".to_owned(),
        [name] => format!("1 agent stops: {name}. Its session stays; /od-start {name} resumes it"),
        _ => format!(
            "{} agents stop: {}. Their sessions stay; /od-start NAME resumes one",
            names.len(),
            names.join(", ")
        ),
    }
}

/// The answer to `/od-stop --all everywhere`.
pub(in crate::chat) fn stopped_everywhere(names: &[String]) -> String {
    match names {
        [] => "No agent works that could be stopped; /od-list lists all agents".to_owned(),
        _ => stopped_all(names),
    }
}

/// The answer to `/od-delete`; `already` says that it was asked for before.
pub(in crate::chat) fn deleted(full_name: &str, already: bool) -> String {
    let name = full_name.split_once('/').map_or(full_name, |(_, name)| name);
    if already {
        return format!("{name} is being deleted already");
    }
    match full_name.starts_with("agent/") {
        true => format!(
            "{name} is being deleted, with its turns and its session. Files that it changed stay, \
             and so does a worktree with unmerged work"
        ),
        false => format!("{name} is being deleted; it is ended first if it runs"),
    }
}

/// What `/od-list` and `/od-status` know of an agent.
pub(in crate::chat) struct Known {
    pub(in crate::chat) agent: Agent,
    /// Its place in its runtime's line; the first is 1.
    pub(in crate::chat) waiting: Option<usize>,
    /// The machine that it lives in, where that was asked for and there is one.
    pub(in crate::chat) machine: Option<FlyMachine>,
}

/// Which machine it is: `d8910 in iad, started`.
pub(in crate::chat) fn which_machine(machine: &FlyMachine) -> String {
    let region = match machine.region.as_str() {
        "" => String::new(),
        region => format!(" in {region}"),
    };
    let state = match machine.state.as_str() {
        "" => String::new(),
        state => format!(", {state}"),
    };
    format!("{}{region}{state}", machine.machine_id)
}

fn phase(known: &Known) -> String {
    let status = &known.agent.status;
    let phase = match (known.waiting, status.phase.as_str()) {
        (Some(place), _) => format!("Waiting ({place})"),
        (None, _) if known.agent.metadata.is_deleting() => "Deleting".to_owned(),
        (None, "") => "Pending".to_owned(),
        (None, phase) if asks(&known.agent).is_some() => format!("{phase} (asks)"),
        (None, phase) => phase.to_owned(),
    };
    drifted(phase, &status.conditions)
}

fn asks(agent: &Agent) -> Option<&str> {
    let condition = agent.status.conditions.get("WaitingForApproval")?;
    (condition.status == ConditionStatus::True).then_some(condition.message.as_str())
}

/// The answer to `/od-list`; the agents come by name.
pub(in crate::chat) fn agents(agents: &[Known], now: Timestamp) -> String {
    if agents.is_empty() {
        return "There are no agents. Start one with /od-start".to_owned();
    }
    let head = ["NAME", "PHASE", "AGENT", "PLACE", "QUEUE", "COST", "ACTIVE"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(agents.iter().take(AGENTS_SHOWN).map(|known| {
        let (agent, status) = (&known.agent, &known.agent.status);
        let active = match status.last_activity_time {
            None => "never".to_owned(),
            then => format!("{} ago", ago(then, now)),
        };
        [
            agent.metadata.name.clone(),
            phase(known),
            cli_of(&agent.spec.agent),
            match &agent.spec.runtime {
                RuntimeSpec::Local(_) => place_of(agent),
                RuntimeSpec::Fly(_) => format!("fly: {}", place_of(agent)),
            },
            (status.turns.queued + status.turns.running).to_string(),
            usd(status.cost.micro_usd),
            active,
        ]
    }));
    let mut text = fenced(&aligned(&rows));
    if let Some(more) = agents.len().checked_sub(AGENTS_SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("\nand {more} more; open-dispatch get agents shows all"));
    }
    text
}

/// What an agent may spend, and what of it is spent.
pub(super) fn budget_of(agent: &Agent, budget: &Budget) -> String {
    let status = &agent.status;
    let mut parts = Vec::new();
    if let Some(limit) = &budget.usd {
        parts.push(format!("{} of ${limit}", usd(status.cost.micro_usd)));
    }
    if let Some(limit) = budget.turns {
        parts.push(format!("{} of {limit} turns", status.turns.done));
    }
    if parts.is_empty() { "no limit".to_owned() } else { parts.join(", ") }
}

fn channel_of(channel: &Channel) -> String {
    let place = channel.place();
    let thread =
        place.thread.as_ref().map(|thread| format!(", thread {thread}")).unwrap_or_default();
    format!("{} {}{thread}", channel.platform(), place.channel)
}

/// The answer to `/od-status` of an agent; `open` are its turns that have not ended, in order,
/// and `grants` how many things it may do for good.
pub(in crate::chat) fn agent_status(
    known: &Known,
    open: &[Turn],
    grants: usize,
    now: Timestamp,
) -> String {
    let agent = &known.agent;
    let (spec, status) = (&agent.spec, &agent.status);
    let mut rows: Vec<(&str, String)> = vec![("agent", agent.metadata.name.clone())];
    rows.push((
        "phase",
        match known.waiting {
            Some(place) => format!("waiting for a free slot, number {place} in the line"),
            None => phase(known),
        },
    ));
    if let Some(drift) = laid_over(&status.conditions) {
        rows.push(("drifted", drift.to_owned()));
    }
    rows.push(("runs", set_up(agent)));
    if let Some(machine) = &known.machine {
        rows.push(("machine", which_machine(machine)));
    }
    let channels: Vec<String> = spec.channels.iter().map(channel_of).collect();
    if !channels.is_empty() {
        rows.push(("listens", channels.join("; ")));
    }
    let session = status.session_id.clone().unwrap_or_else(|| "none yet".to_owned());
    rows.push(("session", session));
    let counts = status.turns;
    rows.push((
        "turns",
        format!("{} done, {} running, {} queued", counts.done, counts.running, counts.queued),
    ));
    for turn in open {
        let word = if turn.state == TurnState::Queued { "queued" } else { "works at" };
        let by = if turn.cancelled_by.is_some() { " (being cancelled)" } else { "" };
        rows.push((word, format!("{}{by}", one_line(&turn.text))));
    }
    if let Some(budget) = &spec.budget {
        rows.push(("budget", budget_of(agent, budget)));
    }
    if status.cost.micro_usd > 0 {
        rows.push(("cost", usd(status.cost.micro_usd)));
    }
    if grants > 0 {
        let rest = format!("/od-approve {} list shows them", agent.metadata.name);
        rows.push(("may", format!("{grants} kinds of requests are always allowed; {rest}")));
    }
    if let Some(text) = asks(agent) {
        rows.push(("waits", one_line(text)));
    }
    for kind in ["Ready", "Stalled"] {
        let told = status.conditions.get(kind).filter(|condition| {
            !condition.message.is_empty()
                && (condition.status == ConditionStatus::True) == (kind == "Stalled")
        });
        if let Some(condition) = told {
            let word = if kind == "Ready" { "not ready" } else { "trouble" };
            rows.push((word, format!("{}: {}", condition.reason, one_line(&condition.message))));
        }
    }
    if status.last_activity_time.is_some() {
        rows.push(("active", format!("{} ago", ago(status.last_activity_time, now))));
    }
    rows.push(("age", ago(agent.metadata.creation_timestamp, now)));
    let lines: Vec<String> =
        rows.into_iter().map(|(key, value)| format!("{key:<10} {value}")).collect();
    fenced(&lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        chat::{changes::changes, replies::waiting_line},
        resource::merge::merge_patch,
        store::TurnSums,
    };

    fn agent(name: &str, change: &Value) -> Agent {
        let mut spec = json!({"agent": {"claude": {"model": "opus"}}});
        merge_patch(&mut spec, change);
        let mut agent = Agent::new(name, serde_json::from_value(spec).expect("a spec"));
        agent.metadata.creation_timestamp = Timestamp::from_second(10_000).ok();
        agent
    }

    fn busy() -> Agent {
        let mut agent = agent(
            "api-bot",
            &json!({
                "repo": {"github": "owner/api", "branch": "main"},
                "channels": [
                    {"console": {"channel": "main"}},
                    {"slack": {"channel": "C1", "thread": "5.1"}},
                ],
                "budget": {"usd": 5, "turns": 20},
                "runtime": {"local": {"workdir": "~/p", "isolation": "worktree"}},
            }),
        );
        let status = &mut agent.status;
        status.phase = "Busy".into();
        status.session_id = Some("s-1".into());
        status.turns.queued = 1;
        status.turns.running = 1;
        status.turns.done = 7;
        status.cost.micro_usd = 1_234_567;
        status.last_activity_time = Timestamp::from_second(99_000).ok();
        let conditions = &mut status.conditions;
        let mut set = |kind: &str, status, reason: &str, message: &str| {
            conditions.set(kind, status, reason, message, 1, Timestamp::UNIX_EPOCH);
        };
        set("WaitingForApproval", ConditionStatus::True, "Asked", "asks to use Bash: ls");
        set("Ready", ConditionStatus::False, "BudgetSpent", "the budget of $5 is spent");
        set("Stalled", ConditionStatus::True, "BackingOff", "claude: not found");
        let drift = "override api-bot-1 of budget until 2026-01-01T02:00:00Z";
        set("Drifted", ConditionStatus::True, "OverriddenBy", drift);
        agent
    }

    fn turn(text: &str, state: TurnState) -> Turn {
        Turn { state, ..Turn::queued("t", "a", text, "ann", Timestamp::UNIX_EPOCH) }
    }

    #[test]
    fn replies_about_starting_and_stopping_read_well() {
        let plain = agent("a", &json!({"agent": {"claude": null, "command": {}}}));
        let fly = agent(
            "f",
            &json!({
                "runtime": {"fly": {"image": "node", "region": "iad,us", "persistent": false}},
            }),
        );
        let acp = agent(
            "g",
            &json!({
                "agent": {"claude": null, "acp": {"command": ["gemini", "--acp"]}},
                "runtime": {"local": {"isolation": "sandbox"}}, "repo": {"url": "/srv/r"},
            }),
        );
        let busy = busy();
        let mut stopped_one = busy.clone();
        stopped_one.spec.suspend = true;
        let old = json!({"budget": {"usd": 5}});
        let some = changes(&old, &json!({"budget": {"usd": 6}, "instructions": "Be brief."}));
        let names = ["a", "b"].map(str::to_owned);
        let told = [
            started(&plain, Hearing::Alone),
            also(started(&fly, Hearing::Alone), &["the path is ignored".to_owned()]),
            started(&acp, Hearing::Among),
            resumed(&busy, &[], Hearing::Alone),
            resumed(&plain, &some, Hearing::Elsewhere),
            active(&busy, &[], Hearing::Elsewhere),
            active(&busy, &some, Hearing::Alone),
            changed("a", &some, true),
            changed("a", &some, false),
            changed("a", &[], false),
            stopped(&busy),
            stopped(&plain),
            stopped(&stopped_one),
            stopped_all(&[]),
            stopped_all(&names[..1]),
            stopped_all(&names),
            deleted("agent/a", false),
            deleted("job/a", false),
            deleted("agent/a", true),
        ];
        insta::assert_snapshot!(told.join("\n-----\n"));
    }

    #[test]
    fn a_turn_that_waits_says_why() {
        let mut agent = busy();
        let mut sums = TurnSums { done: 7, ..TurnSums::default() };
        let mut told = vec![waiting_line(&agent, 2, &sums), waiting_line(&agent, 0, &sums)];
        agent.status.conditions.remove("Stalled");
        sums.done = 20;
        told.push(waiting_line(&agent, 0, &sums));
        sums.done = 7;
        sums.usage.cost_micro_usd = 5_000_001;
        told.push(waiting_line(&agent, 0, &sums));
        agent.spec.budget = None;
        for reason in ["Starting", "Asleep", "WaitingForSlot"] {
            let status = ConditionStatus::False;
            let at = Timestamp::UNIX_EPOCH;
            agent.status.conditions.set("Ready", status, reason, "", 1, at);
            told.push(waiting_line(&agent, 0, &sums));
        }
        let told: Vec<String> = told.into_iter().flatten().collect();
        insta::assert_snapshot!(told.join("\n"));
        let (status, at) = (ConditionStatus::True, Timestamp::UNIX_EPOCH);
        agent.status.conditions.set("Ready", status, "AgentReady", "", 1, at);
        assert_eq!(waiting_line(&agent, 0, &sums), None);
    }

    #[test]
    fn agents_are_listed_and_described() {
        let now = Timestamp::from_second(100_000).expect("a time");
        let known = |agent: Agent, waiting| Known { agent, waiting, machine: None };
        let mut going = agent("old", &json!({}));
        going.metadata.deletion_timestamp = Some(now);
        let all = [
            known(busy(), None),
            known(agent("new", &json!({})), None),
            known(agent("late", &json!({})), Some(2)),
            known(going, None),
        ];
        let there = agent(
            "far",
            &json!({"repo": {"github": "o/r"}, "runtime": {"fly": {"image": "node"}}}),
        );
        let machine = FlyMachine {
            app: "my-sprites".into(),
            machine_id: "d8910f2c94e318".into(),
            region: "iad".into(),
            state: "started".into(),
        };
        let there = Known { agent: there, waiting: None, machine: Some(machine) };
        let open = [turn("fix\nit", TurnState::Running), turn("then rest", TurnState::Queued)];
        let told = [
            agents(&all, now),
            agents(&[], now),
            agent_status(&all[0], &open, 2, now),
            agent_status(&all[1], &[], 0, now),
            agent_status(&all[2], &[], 0, now),
            agent_status(&there, &[], 0, now),
            agents(&[there], now),
        ];
        insta::assert_snapshot!(told.join("\n-----\n"));
        let many: Vec<Known> =
            (0..41).map(|n| known(agent(&format!("a{n}"), &json!({})), None)).collect();
        assert!(agents(&many, now).ends_with("and 1 more; open-dispatch get agents shows all"));
    }
}
