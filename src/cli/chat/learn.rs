//! What a terminal knows besides its frames: who is there, how they are, and what they ask.
//!
//! Agents and jobs come from the API's watches, begun anew whenever one ends. A condition says that
//! something waits for an answer; what it is stands in a ledger, which nobody watches, so that one is
//! read again for as long as something waits.

use std::{pin::pin, sync::Arc, time::Duration};

use super::{
    AGAIN, Error, Options, Server, Shared,
    asks::Ask,
    editor::REDRAW,
    wire::{Problem, agent_line, job_line},
    words::Words,
};

/// How long a ledger in which something waits stays unread.
const LOOK: Duration = Duration::from_millis(500);

/// How long the first prompt waits to know whom it names.
const FIRST: Duration = Duration::from_millis(500);

/// Learns what the first prompt shows, where a server answers soon.
pub(super) async fn first(options: &Options, words: &Words) {
    tokio::select! {
        agents = options.server.agents(&options.channel) => {
            if let Ok(agents) = agents {
                words.know_agents(agents);
            }
        }
        () = options.ambient.clock.sleep(FIRST) => {}
    }
}

/// Learns for ever. Ends only where nothing can be printed any more.
pub(super) async fn learn(shared: &Arc<Shared>, words: &Words) -> Result<(), Error> {
    let (jobs, agents) = (pin!(jobs(shared, words)), pin!(agents(shared, words)));
    tokio::select! {
        answer = ask(shared, words) => answer,
        () = agents => Ok(()),
        () = jobs => Ok(()),
    }
}

/// Knows the jobs.
async fn jobs(shared: &Shared, words: &Words) {
    let Options { server, channel, ambient, .. } = &shared.options;
    let once = async || -> Result<(), Problem> {
        let list = server.list("jobs").await?;
        words.know_jobs(list.items.iter().filter_map(|job| job_line(job, channel)).collect());
        let mut changes = server.watch("jobs", &list.revision).await?;
        loop {
            let (there, job) = changes.next(&*ambient.clock).await?;
            if let Some(job) = job_line(&job, channel) {
                words.know_job(job, there);
            }
        }
    };
    loop {
        if let Err(Problem::Away(why) | Problem::Refused(why)) = once().await {
            tracing::debug!("the jobs are listed again: {why}");
        }
        ambient.clock.sleep(AGAIN).await;
    }
}

/// Knows the agents.
async fn agents(shared: &Shared, words: &Words) {
    let Options { server, channel, ambient, .. } = &shared.options;
    let once = async || -> Result<(), Problem> {
        let list = server.list("agents").await?;
        let lines = list.items.iter().filter_map(|agent| agent_line(agent, channel));
        words.know_agents(lines.collect());
        let mut changes = server.watch("agents", &list.revision).await?;
        loop {
            let (there, agent) = changes.next(&*ambient.clock).await?;
            if let Some(agent) = agent_line(&agent, channel) {
                words.know_agent(agent, there);
            }
        }
    };
    loop {
        if let Err(Problem::Away(why) | Problem::Refused(why)) = once().await {
            tracing::debug!("the agents are listed again: {why}");
        }
        ambient.clock.sleep(AGAIN).await;
    }
}

/// Tells what waits for an answer, one after the other, and keeps the prompt fresh.
async fn ask(shared: &Arc<Shared>, words: &Words) -> Result<(), Error> {
    let Options { server, ambient, .. } = &shared.options;
    let mut prompt = words.prompt();
    loop {
        if let Some(asks) = waiting(server, words).await
            && let Some(ask) = words.know_asks(asks)
        {
            shared.note(&ask.told(words.answers(&ask))).await?;
            words.told(ask);
        }
        let now = words.prompt();
        if now != prompt {
            prompt = now;
            shared.print(REDRAW.to_owned()).await?;
        }
        tokio::select! {
            () = words.changed() => {}
            () = ambient.clock.sleep(LOOK), if words.is_asked() => {}
        }
    }
}

/// What waits for an answer. Where the server is away, nothing is known anew.
async fn waiting(server: &Server, words: &Words) -> Option<Vec<Ask>> {
    let mut asks = Vec::new();
    for (plural, name) in words.waiting() {
        match server.asks(plural, &name).await {
            Ok(more) => asks.extend(more),
            Err(Problem::Away(_)) => return None,
            // Whoever asked is gone.
            Err(Problem::Refused(_)) => {}
        }
    }
    Some(asks)
}
