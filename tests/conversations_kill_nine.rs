//! Promise 1 for conversations: fifty agents are spoken to by many at once while the server is killed
//! at random, again and again. Every turn has exactly one outcome, in the order in which the
//! server took them; what a turn did happened once; and no session ever had two writers.
//!
//! The agents are shells. Each turn notes its own beginning and end in a file outside of our books,
//! and holds a lock while it runs, which tells if another one of the same agent runs beside it.
#![expect(clippy::disallowed_methods, reason = "a test of the real binary lives in real time")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

#[path = "support/chance.rs"]
mod chance;
#[path = "support/live.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod live;

use chance::{Chance, seed};
use live::{Live, PATIENCE, lines};
use serde_json::{Value, json};

/// How many agents there are.
const AGENTS: usize = 50;
/// How many people speak to each of them, at once.
const PEOPLE: usize = 3;
/// How much each of them says to it.
const MESSAGES: usize = 2;
/// The most often that the server is killed.
const KILLS: usize = 15;

/// Somebody who speaks to a server that may be down: again and again, with the same request, until it
/// answers, as a chat platform does.
#[derive(Clone)]
struct Client {
    data: PathBuf,
    http: reqwest::Client,
}

impl Client {
    fn new(data: &Path) -> Self {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
        Self { data: data.to_owned(), http: http.expect("a client for loopback") }
    }

    async fn try_once(&self, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let read = |name: &str| std::fs::read_to_string(self.data.join(name)).ok();
        let (base, token) = (read("endpoint")?, read("token")?);
        let url = format!("{}/apis/opendispatch.dev/v1alpha1/{path}", base.trim());
        let request = match body {
            Some(body) => self.http.post(url).json(body),
            None => self.http.get(url),
        };
        let answer = request.bearer_auth(token.trim()).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// What a server that is up answers, which it must in good time.
    async fn ask(&self, path: &str, body: Option<&Value>) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.try_once(path, body).await {
                Some((200..=299, answer)) => return answer,
                Some((status @ 400..=499, answer)) if status != 429 => panic!("{path}: {answer}"),
                _ => {}
            }
            assert!(tokio::time::Instant::now() < deadline, "no answer to {path}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All turns of an agent, in the order in which the server took them.
    async fn turns(&self, agent: usize) -> Vec<Value> {
        let answer = self.ask(&format!("agents/agent-{agent}/turns?limit=1000"), None).await;
        let mut turns = answer["items"].as_array().expect("a list").clone();
        turns.sort_by_key(|turn| turn["n"].as_u64().expect("a number"));
        turns
    }
}

fn is_final(turn: &Value) -> bool {
    !matches!(turn["state"].as_str(), Some("Queued" | "Sent" | "Running"))
}

/// A turn that notes when it begins and ends, and whether another one of its agent runs beside it.
fn words(notes: &Path, agent: usize, message: &str, pause: u64) -> String {
    let file = notes.join(format!("agent-{agent}")).display().to_string();
    format!(
        "exec 9>>{file}.lock; flock -n 9 || echo {message} >> {file}.doubled\n\
         echo begin {message} >> {file}; sleep 0.0{pause}; echo end {message} >> {file}"
    )
}

/// What an agent's notes must say of its turns.
fn check(notes: &Path, agent: usize, turns: &[Value], said: &BTreeSet<String>) {
    let file = notes.join(format!("agent-{agent}"));
    let doubled = lines(&file.with_extension("doubled"));
    assert!(doubled.is_empty(), "agent-{agent} had two writers at {doubled:?}");
    let mut messages = BTreeSet::new();
    let mut expected = Vec::new();
    for turn in turns {
        let text = turn["text"].as_str().expect("a text");
        let (_, message) = text.split_once("echo begin ").expect("one of ours");
        let (message, _) = message.split_once(' ').expect("one of ours");
        assert!(messages.insert(message.to_owned()), "agent-{agent} heard {message} twice");
        // Nobody but the server dies here.
        assert_eq!(turn["state"], "Succeeded", "agent-{agent}: {turn:#}");
        expected.extend([format!("begin {message}"), format!("end {message}")]);
    }
    assert_eq!(&messages, said, "agent-{agent} heard all that was said");
    let numbers: Vec<u64> = turns.iter().filter_map(|turn| turn["n"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "agent-{agent}: {numbers:?}");
    assert_eq!(lines(&file), expected, "agent-{agent} did otherwise than its turns say");
}

/// How often an agent's log tells the end of each turn.
fn told_ends(log: &str) -> BTreeMap<String, usize> {
    let mut ends = BTreeMap::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).expect("a line is an event");
        if event["type"] == "turnEnded" {
            let turn = event["turn"].as_str().expect("a turn").to_owned();
            *ends.entry(turn).or_default() += 1;
        }
    }
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_turn_has_one_outcome_in_order_and_no_session_two_writers() {
    let seed = seed();
    let mut chance = Chance(seed);
    let home = tempfile::tempdir().expect("a temporary directory");
    let (data, notes) = (home.path().join("data"), home.path().join("notes"));
    std::fs::create_dir(&data).expect("a data directory");
    std::fs::create_dir(&notes).expect("a directory for the agents' own account");
    let mut server = Live::start(&data, &["--max-sprites", "64"], &[]).await;
    let client = Client::new(&data);

    for agent in 0..AGENTS {
        let body = json!({
            "apiVersion": "opendispatch.dev/v1alpha1",
            "kind": "Agent",
            "metadata": {"name": format!("agent-{agent}")},
            "spec": {
                "agent": {"command": {}},
                "runtime": {"local": {"workdir": home.path()}},
                // They fall asleep between two messages, now and then.
                "idleTimeout": "1s",
            },
        });
        client.ask(&format!("agents?requestId=agent-{agent}"), Some(&body)).await;
    }
    let mut people = Vec::new();
    for agent in 0..AGENTS {
        for person in 0..PEOPLE {
            let (client, notes) = (client.clone(), notes.clone());
            let mut chance = Chance(seed ^ ((agent * PEOPLE + person + 1) as u64 * 0x9E37_79B9));
            people.push(tokio::spawn(async move {
                for message in 0..MESSAGES {
                    tokio::time::sleep(Duration::from_millis(chance.below(6000))).await;
                    let message = format!("a{agent}p{person}m{message}");
                    let text = words(&notes, agent, &message, 1 + chance.below(8));
                    let body = json!({"requestId": message, "text": text, "author": "ann"});
                    client.ask(&format!("agents/agent-{agent}/turns"), Some(&body)).await;
                }
            }));
        }
    }
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(chance.below(1500))).await;
        server.kill_nine();
        tokio::time::sleep(Duration::from_millis(chance.below(300))).await;
        server.up().await;
    }
    for person in people {
        person.await.expect("everybody was heard");
    }

    let deadline = tokio::time::Instant::now() + PATIENCE;
    for agent in 0..AGENTS {
        let turns = loop {
            let turns = client.turns(agent).await;
            if turns.len() == PEOPLE * MESSAGES && turns.iter().all(is_final) {
                break turns;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "agent-{agent} never answered all: {turns:#?}\n{}",
                server.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let said = (0..PEOPLE)
            .flat_map(|person| {
                (0..MESSAGES).map(move |message| format!("a{agent}p{person}m{message}"))
            })
            .collect();
        check(&notes, agent, &turns, &said);
        let log = server.bytes(&format!("agents/agent-{agent}/log?format=events")).await;
        let ends = told_ends(&String::from_utf8(log).expect("events are text"));
        let ids: BTreeMap<String, usize> =
            turns.iter().map(|turn| (turn["id"].as_str().expect("an id").to_owned(), 1)).collect();
        assert_eq!(ends, ids, "agent-{agent}: each end is told once");
    }

    // Nobody was made twice, and all of them sleep in the end.
    let sprites = server.get("sprites").await;
    let sprites = sprites["items"].as_array().expect("a list").clone();
    assert_eq!(sprites.len(), AGENTS, "one sprite for each agent");
    let woken = |sprite: &&Value| sprite["spec"]["run"].as_u64() > Some(1);
    assert!(sprites.iter().filter(woken).count() > 0, "none of them slept between two messages");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !server.reporters().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "awake: {:?}", server.reporters());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for sprite in &sprites {
        let uid = sprite["metadata"]["uid"].as_str().expect("a uid");
        let left = Live::marked_processes(uid);
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}
