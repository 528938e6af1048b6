//! `down`: keeps schedules from firing, ends every sprite, and looks that none is left.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    agents::{running, suspend},
    args::DownArgs,
    client::{AS_JSON, Client, collection, member},
    delete::cancel_one,
    error::Error,
    out,
    patience::Patience,
    run::{INTERRUPTED, Outcome},
    target::full_name,
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::{FINALIZER_RUNTIME, Kind},
};

/// How often is looked what is left.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Runs `down`.
///
/// # Errors
/// The server's refusal, why it cannot be reached, or that something is left.
pub async fn down(args: DownArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let work = async {
        // First: what is due meanwhile would be made behind our back.
        let are_off = schedules_off(&client).await?;
        for name in running(&client).await? {
            suspend(&client, &name, true).await?;
            out::line(format!("{} stopped", full_name(Kind::Agent, &name)))?;
        }
        let jobs = client.get(&collection(Kind::Job), &[], AS_JSON).await?;
        for job in jobs["items"].as_array().into_iter().flatten() {
            let name = job["metadata"]["name"].as_str().unwrap_or_default();
            if Outcome::of(job).is_none() && cancel_one(&client, name).await?.is_none() {
                out::line(format!("{} cancelled", full_name(Kind::Job, name)))?;
            }
        }
        let code = gone(&client, args.timeout.as_duration()).await?;
        if are_off { Ok(code) } else { Err(Error::Told) }
    };
    tokio::select! {
        code = work => code,
        _ = tokio::signal::ctrl_c() => {
            out::note("\nnot waited for to the end; open-dispatch get sprites shows what is left");
            Ok(INTERRUPTED)
        }
    }
}

/// Suspends all schedules. One that cannot be is told and passed over, since all else is to end: then the
/// answer is `false`.
async fn schedules_off(client: &Client) -> Result<bool, Error> {
    let schedules = client.get(&collection(Kind::Schedule), &[], AS_JSON).await?;
    let mut are_off = true;
    for schedule in schedules["items"].as_array().into_iter().flatten() {
        let name = schedule["metadata"]["name"].as_str().unwrap_or_default();
        if schedule["spec"]["suspend"] == true {
            continue;
        }
        let patch = json!({"spec": {"suspend": true}});
        match client.write(Method::PATCH, &member(Kind::Schedule, name), &[], &patch).await {
            Ok(_) => out::line(format!("{} suspended", full_name(Kind::Schedule, name)))?,
            // Gone meanwhile.
            Err(Error::Api { code: 404, .. }) => {}
            Err(error) if error.is_away() => return Err(error),
            Err(error) => {
                are_off = false;
                let name = full_name(Kind::Schedule, name);
                out::note(format!("{name} is not suspended, and goes on: {error}"));
            }
        }
    }
    Ok(are_off)
}

/// Waits until no sprite has a process any more.
async fn gone(client: &Client, patience: Duration) -> Result<u8, Error> {
    let ends = SystemClock.elapsed() + patience;
    let mut told = Vec::new();
    let mut away = Patience::new();
    loop {
        let left = match client.get(&collection(Kind::Sprite), &[], AS_JSON).await {
            Ok(list) => {
                away.answered();
                left(&list)
            }
            Err(error) => {
                away.wait(error).await?;
                continue;
            }
        };
        if left.is_empty() {
            out::line("nothing is left running")?;
            return Ok(0);
        }
        if SystemClock.elapsed() >= ends {
            out::note(format!("still there: {}", left.join(", ")));
            return Err(Error::Told);
        }
        if left != told {
            out::note(format!("waiting for {}: {}", left.len(), shown(&left)));
            told = left;
        }
        SystemClock.sleep(LOOK_EVERY).await;
    }
}

fn shown(names: &[String]) -> String {
    const MOST: usize = 5;
    let more = names.len().saturating_sub(MOST);
    let end = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{end}", names[..names.len().min(MOST)].join(", "))
}

/// The sprites whose process may live: their finalizer says that they are not gone yet.
fn left(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let holds = |sprite: &&Value| {
        let finalizers = sprite["metadata"]["finalizers"].as_array();
        finalizers.is_some_and(|held| held.iter().any(|finalizer| finalizer == FINALIZER_RUNTIME))
    };
    let name =
        |sprite: &Value| out::harmless(sprite["metadata"]["name"].as_str().unwrap_or_default());
    items.iter().filter(holds).map(name).collect()
}
