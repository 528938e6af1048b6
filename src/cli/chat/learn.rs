//! What a terminal knows besides its frames: who is there, how they are, and what they ask.
//!
//! Agents and jobs come from the API's watches, begun anew whenever one ends. An agent's condition
//! says that something waits for an answer; what it is stands in a ledger, which nobody watches, so
//! that one is read again for as long as something waits.

use std::{sync::Arc, time::Duration};

use super::{
    AGAIN, Error, Shared,
    editor::{REDRAW, Words},
    wire::{Problem, agent_line, job_line},
};

/// How long a ledger in which something waits stays unread.
const LOOK: Duration = Duration::from_millis(500);

/// Learns for ever. Ends only where nothing can be printed any more.
pub(super) async fn learn(shared: &Arc<Shared>, words: &Words) -> Result<(), Error> {
    tokio::select! {
        answer = agents(shared, words) => answer,
        () = jobs(shared, words) => Ok(()),
    }
}

/// Knows the jobs' names, for completion.
async fn jobs(shared: &Shared, words: &Words) {
    let (server, clock) = (&shared.options.server, &*shared.options.ambient.clock);
    let once = async || -> Result<(), Problem> {
        let list = server.list("jobs").await?;
        words.know(list.items.iter().filter_map(job_line).map(|job| job.name).collect());
        let mut changes = server.watch("jobs", &list.revision).await?;
        loop {
            let (there, job) = changes.next(clock).await?;
            if let Some(job) = job_line(&job) {
                words.know_job(job.name, there);
            }
        }
    };
    loop {
        if let Err(Problem::Away(why) | Problem::Refused(why)) = once().await {
            tracing::debug!("the jobs are listed again: {why}");
        }
        clock.sleep(AGAIN).await;
    }
}

/// Knows the agents, and asks what they ask.
async fn agents(shared: &Arc<Shared>, words: &Words) -> Result<(), Error> {
    let (server, clock) = (&shared.options.server, &*shared.options.ambient.clock);
    let mut prompt = words.prompt();
    loop {
        let begun = async {
            let list = server.list("agents").await?;
            let changes = server.watch("agents", &list.revision).await?;
            Ok::<_, Problem>((list, changes))
        };
        let (list, mut changes) = match begun.await {
            Ok(begun) => begun,
            Err(Problem::Away(_) | Problem::Refused(_)) => {
                clock.sleep(AGAIN).await;
                continue;
            }
        };
        words.know_agents(list.items.iter().filter_map(agent_line).collect());
        loop {
            ask(shared, words).await?;
            let now = words.prompt();
            if now != prompt {
                prompt = now;
                shared.print(REDRAW.to_owned()).await?;
            }
            // Dropped where it is late, a change would lose its front: so it is waited for on.
            let mut next = std::pin::pin!(changes.next(clock));
            let change = loop {
                tokio::select! {
                    change = &mut next => break change,
                    () = clock.sleep(LOOK) => {
                        ask(shared, words).await?;
                        let now = words.prompt();
                        if now != prompt {
                            prompt = now;
                            shared.print(REDRAW.to_owned()).await?;
                        }
                    }
                }
            };
            match change {
                Ok((there, agent)) => {
                    if let Some(agent) = agent_line(&agent) {
                        words.know_agent(agent, there);
                    }
                }
                Err(Problem::Away(why) | Problem::Refused(why)) => {
                    tracing::debug!("the agents are listed again: {why}");
                    break;
                }
            }
        }
        clock.sleep(AGAIN).await;
    }
}

/// Tells what waits for an answer, one after the other.
async fn ask(shared: &Arc<Shared>, words: &Words) -> Result<(), Error> {
    let mut asks = Vec::new();
    for agent in words.waiting() {
        match shared.options.server.asks(&agent).await {
            Ok(more) => asks.extend(more),
            // What was told stays until the server says otherwise.
            Err(Problem::Away(_)) => return Ok(()),
            // The agent is gone.
            Err(Problem::Refused(_)) => {}
        }
    }
    if let Some(ask) = words.know_asks(asks) {
        shared.note(&ask.told()).await?;
        words.told(ask);
    }
    Ok(())
}
