//! `send`: says something to an agent; with `-f`, prints the answer as it comes.
//!
//! Whoever follows opens the agent's log first, from its end on, and says the message then: so no
//! part of the answer can slip between. The turn itself is asked for beside the log, for a turn may
//! end without a word in it, such as one that is cancelled while it waits. Once the turn has ended,
//! what the log holds of it is held: it is read once more to its end, and the outcome is told.

use std::{io::Read as _, path::Path, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    agents::{agent_name, has_ended, number, turn_path, turns_path},
    args::SendArgs,
    asked::{Asked, wish},
    client::{AS_JSON, Client, member},
    error::Error,
    logs::{AS_NDJSON, Seen, bytes},
    out,
    patience::Patience,
    run::INTERRUPTED,
    target::full_name,
    turns::{cost, took},
};
use crate::{
    ambient::{Ambient, Clock as _, SystemClock},
    resource::Kind,
};

/// Exit code: its end is not known to be its own.
const NO_END: u8 = 125;
/// How long a request for the turn's end may be open, in seconds.
const WAIT: &str = "20";
/// The longest message, in bytes; the server has the last word.
const LONGEST: u64 = 1024 * 1024;
/// The largest file, in bytes; the server has the last word here, too.
const LARGEST: u64 = 32 * 1024 * 1024;
/// How long to wait where the server answers early, as one that shuts down does.
const REST: Duration = Duration::from_millis(200);

/// Runs `send`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn send(args: SendArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let name = agent_name(&args.name)?;
    let text = message(&args.message)?;
    let mut files = Vec::new();
    for path in &args.attach {
        files.push(upload(&client, path).await?);
    }
    if !args.follow {
        let turn = say(&client, &name, &text, files).await?;
        if let Some(why) = spent(&client, &name).await {
            out::note(format!("turn {} waits: {why}", number(&turn)));
        }
        out::line(format!("{} turn {} queued", full_name(Kind::Agent, &name), number(&turn)))?;
        out::hint(format!(
            "see the answer with: open-dispatch logs {name} --turn {}",
            number(&turn)
        ));
        return Ok(0);
    }
    let mut following = Following::begin(&client, &name).await?;
    let turn = say(&client, &name, &text, files).await?;
    following.expect(&turn);
    if let Some(why) = spent(&client, &name).await {
        return Ok(waits(&name, &turn, &why));
    }
    tokio::select! {
        code = following.finish() => code,
        _ = tokio::signal::ctrl_c() => {
            let n = number(&turn);
            out::note(format!(
                "\nturn {n} goes on. See it:  open-dispatch logs {name} --turn {n}\n\
                 {:>width$}Cancel it:  open-dispatch cancel {name} {n}",
                "",
                width = "turn  goes on. ".len() + n.to_string().len() - 3,
            ));
            Ok(INTERRUPTED)
        }
    }
}

/// The message: the words, or what stands on standard input.
fn message(words: &[String]) -> Result<String, Error> {
    if !(words.is_empty() || words == ["-"]) {
        return Ok(words.join(" "));
    }
    let failed = |why: String| Error::Terminal(format!("the message cannot be read: {why}"));
    let mut bytes = Vec::new();
    let stdin = std::io::stdin().lock();
    stdin.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // The limit may stand within a letter; that it is too long is said by whoever sends it.
        Err(cut) if cut.as_bytes().len() as u64 > LONGEST => {
            Ok(String::from_utf8_lossy(cut.as_bytes()).into_owned())
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Uploads a file; answers with how a turn names it.
async fn upload(client: &Client, path: &Path) -> Result<Value, Error> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Error::Usage(format!("`{}` has no name that can be sent", path.display()))
    })?;
    let bytes = within_limit(path, LARGEST)?;
    let stored = client.send_bytes(Method::POST, "/files", &[("name", name)], bytes).await?;
    Ok(json!({"id": stored["id"], "name": name}))
}

/// What is in a file, unless that is more than the server takes: then it is not read to its end.
fn within_limit(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::File { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    match u64::try_from(bytes.len()).is_ok_and(|size| size <= limit) {
        true => Ok(bytes),
        false => Err(Error::Usage(format!(
            "{} has more than the {} MiB that a file may have",
            path.display(),
            limit / (1024 * 1024)
        ))),
    }
}

/// Says something to an agent; each try bears the same request id.
///
/// # Errors
/// The server's refusal, or that it is away, once patience is over.
pub async fn say(
    client: &Client,
    agent: &str,
    text: &str,
    files: Vec<Value>,
) -> Result<Value, Error> {
    say_as(client, agent, text, files, Ambient::real().ids.uid()).await
}

/// The same, once for each request: where it came before, the answer is the turn that it made.
///
/// # Errors
/// The server's refusal, or that it went away.
pub async fn say_as(
    client: &Client,
    agent: &str,
    text: &str,
    files: Vec<Value>,
    request: String,
) -> Result<Value, Error> {
    let said = json!({
        "requestId": request,
        "text": text,
        "author": author(),
        "attachments": files,
    });
    let path = turns_path(agent);
    client.persist(Method::POST, &path, &[], &said, &mut Patience::new()).await
}

/// Why nothing is begun that is said to an agent, and the mend, where its budget is spent.
async fn spent(client: &Client, agent: &str) -> Option<String> {
    let agent = client.get(&member(Kind::Agent, agent), &[], AS_JSON).await.ok()?;
    spent_by(&agent)
}

/// Why an agent begins nothing, where that is of its spec as it is now.
fn spent_by(agent: &Value) -> Option<String> {
    let conditions = agent["status"]["conditions"].as_array()?;
    let is_it = |it: &&Value| {
        it["type"] == "BudgetSpent"
            && it["status"] == "True"
            && it["observedGeneration"] == agent["metadata"]["generation"]
    };
    let message = conditions.iter().find(is_it)?["message"].as_str()?;
    Some(out::harmless(message))
}

/// Tells that a turn waits, and for what; answers with the exit code.
fn waits(agent: &str, turn: &Value, why: &str) -> u8 {
    let n = number(turn);
    out::note(format!(
        "turn {n} waits: {why}; see the answer then with: open-dispatch logs -f {agent} --turn {n}"
    ));
    NO_END
}

/// Who speaks from this terminal: the user's name, as the system has it.
pub fn author() -> String {
    let name = std::env::var("USER").ok().filter(|name| !name.is_empty() && name.len() <= 100);
    name.unwrap_or_else(|| "api".to_owned())
}

/// One turn, followed.
struct Following<'a> {
    client: &'a Client,
    agent: &'a str,
    seen: Seen,
    turn: Turning,
    asked: Asked<'a>,
}

/// What of the log is printed.
#[derive(Debug, Default)]
struct Turning {
    /// The turn's id.
    id: String,
    /// The turn that the log is at.
    at: Option<String>,
    /// Whether what was printed ends a line.
    open_line: bool,
}

impl<'a> Following<'a> {
    /// Begins at the end of what the agent's log holds.
    async fn begin(client: &'a Client, agent: &'a str) -> Result<Self, Error> {
        let mut seen = Seen::default();
        // The last event that is there, by reading the newest sprite's end.
        let query = [("format", "events"), ("after", "last")];
        let path = format!("{}/log", member(Kind::Agent, agent));
        let mut lines = client.lines(&path, &query, AS_NDJSON).await?;
        while let Some(event) = lines.next_json().await? {
            seen.take(&event);
        }
        let asked = Asked::new(client, agent);
        Ok(Self { client, agent, seen, turn: Turning::default(), asked })
    }

    fn expect(&mut self, turn: &Value) {
        self.turn.id = turn["id"].as_str().unwrap_or_default().to_owned();
    }

    async fn finish(mut self) -> Result<u8, Error> {
        let mut patience = Patience::new();
        let (client, agent, id) = (self.client, self.agent, self.turn.id.clone());
        let mut waiting = std::pin::pin!(ended(client, agent, &id));
        let turn = loop {
            tokio::select! {
                biased;
                turn = &mut waiting => break turn?,
                read = self.drain(true) => match read {
                    Ok(()) => SystemClock.sleep(REST).await,
                    Err(error) => {
                        if self.seen.moved() {
                            patience.answered();
                        }
                        patience.wait(error).await?;
                    }
                },
            }
        };
        // All that it said was held before its end was.
        while let Err(error) = self.drain(false).await {
            patience.wait(error).await?;
        }
        if self.turn.open_line {
            out::data("\n")?;
        }
        if !has_ended(&turn)
            && let Some(why) = spent(client, agent).await
        {
            return Ok(waits(agent, &turn, &why));
        }
        Ok(outcome(agent, &turn))
    }

    async fn drain(&mut self, follow: bool) -> Result<(), Error> {
        let after = self.seen.after();
        let mut query = vec![("format", "events")];
        if follow {
            query.push(("follow", "1"));
        }
        query.extend(after.as_deref().map(|after| ("after", after)));
        let path = format!("{}/log", member(Kind::Agent, self.agent));
        let mut lines = self.client.lines(&path, &query, AS_NDJSON).await?;
        while let Some(event) = lines.next_json().await? {
            if !self.seen.take(&event) {
                continue;
            }
            for line in self.asked.news().await {
                out::note(format!("[{line}]"));
            }
            if event["type"] == "approval"
                && event["turn"] == self.turn.id.as_str()
                && let Some(became) = self.asked.became(&event).await
            {
                out::note(format!("[{}: {became}]", wish(&event)));
                continue;
            }
            self.turn.show(self.agent, &event)?;
        }
        Ok(())
    }
}

/// Waits for a turn's end, over restarts of the server, and for as long as the turn can begin.
async fn ended(client: &Client, agent: &str, id: &str) -> Result<Value, Error> {
    loop {
        match client.get(&turn_path(agent, id), &[("wait", WAIT)], AS_JSON).await {
            Ok(turn) if has_ended(&turn) => return Ok(turn),
            // It may never end.
            Ok(turn) if turn["state"] == "Queued" && spent(client, agent).await.is_some() => {
                return Ok(turn);
            }
            Ok(_) => SystemClock.sleep(REST).await,
            // Whoever reads the log beside this tells of it, and loses patience one day.
            Err(error) if error.is_away() => SystemClock.sleep(REST * 5).await,
            Err(error) => return Err(error),
        }
    }
}

impl Turning {
    /// Prints an event if it is of the turn.
    fn show(&mut self, agent: &str, event: &Value) -> Result<(), Error> {
        let of = event["turn"].as_str();
        match event["type"].as_str() {
            Some("turnAccepted") => self.at = of.map(str::to_owned),
            Some("turnEnded") => self.at = None,
            _ => {}
        }
        // Log bytes name no turn: they are of the one that runs.
        let ours = of.or(self.at.as_deref()) == Some(self.id.as_str());
        if !ours {
            return Ok(());
        }
        match event["type"].as_str() {
            Some("log") if event["stream"] == "stderr" => out::error_theirs(&bytes(event)),
            Some("text") | Some("log") if event["stream"] != "system" => {
                let bytes = bytes(event);
                if let Some(last) = bytes.last() {
                    self.open_line = *last != b'\n';
                }
                out::theirs(&bytes)?;
            }
            Some("log") => out::error_theirs(&bytes(event)),
            Some("approval") => out::note(asks(agent, event)),
            Some("tool") => {
                let text = |member: &str| out::harmless(event[member].as_str().unwrap_or_default());
                out::hint(format!("[{}] {}", text("name"), text("title")));
            }
            Some("gap") => out::note(format!(
                "[{} bytes are missing here: there was no room to keep them]",
                event["bytes"]
            )),
            Some("retry") => out::note(format!(
                "[the model's API failed, trying again: {}]",
                out::harmless(event["message"].as_str().unwrap_or_default())
            )),
            Some("artifact") => out::note(format!(
                "[{}] {}",
                out::harmless(event["name"].as_str().unwrap_or_default()),
                out::harmless(event["url"].as_str().unwrap_or_default())
            )),
            _ => {}
        }
        Ok(())
    }
}

/// What an agent asks, and the command that answers; of an approval row or event.
#[must_use]
pub fn asks(agent: &str, approval: &Value) -> String {
    let text = |member: &str| out::harmless(approval[member].as_str().unwrap_or_default());
    let request = approval["request"].as_str().unwrap_or_default();
    let id = if request.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        format!(" --request {request}")
    } else {
        String::new()
    };
    let mut lines = Vec::new();
    match approval["kind"].as_str() {
        Some("question") => {
            lines.push(format!("{agent} asks:"));
            for question in approval["questions"].as_array().into_iter().flatten() {
                lines.push(format!(
                    "  {}",
                    out::harmless(question["text"].as_str().unwrap_or_default())
                ));
                for (n, option) in question["options"].as_array().into_iter().flatten().enumerate()
                {
                    let option = out::harmless(option.as_str().unwrap_or_default());
                    lines.push(format!("    {}. {option}", n + 1));
                }
            }
            lines.push(format!("  open-dispatch approve {agent}{id} --answer ANSWER"));
        }
        kind => {
            lines.push(match kind {
                Some("plan") => {
                    format!("{agent} asks whether this plan is good: {}", text("title"))
                }
                _ => format!("{agent} asks to use {}", wish(approval)),
            });
            lines.push(format!("  open-dispatch approve {agent} yes{id}"));
            lines.push(format!("  open-dispatch approve {agent} no{id}"));
            if let Some(rule) = approval["rule"].as_str() {
                let rule = out::harmless(rule);
                lines.push(format!("  open-dispatch approve {agent} always{id}    # {rule}"));
            }
        }
    }
    lines.join("\n")
}

/// Tells how a turn ended; answers with the exit code that says it.
fn outcome(agent: &str, turn: &Value) -> u8 {
    let n = number(turn);
    let message = out::harmless(turn["message"].as_str().unwrap_or_default());
    let why = if message.is_empty() { String::new() } else { format!(": {message}") };
    match turn["state"].as_str() {
        Some("Succeeded") => {
            let parts: Vec<String> = took(turn).into_iter().chain(cost(turn)).collect();
            out::hint(format!("[turn {n}: {}]", parts.join(", ")));
            0
        }
        Some("Cancelled") => {
            out::note(format!("turn {n} of {agent} was cancelled{why}"));
            INTERRUPTED
        }
        Some("Interrupted") => {
            out::note(format!(
                "turn {n} of {agent} was interrupted{why}; say it again with: open-dispatch retry \
                 {agent}"
            ));
            NO_END
        }
        _ => {
            out::note(format!("turn {n} of {agent} failed{why}"));
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_is_told_unless_it_was_raised_meanwhile() {
        let agent = |generation: u64| {
            json!({
                "metadata": {"generation": generation},
                "status": {"conditions": [{
                    "type": "BudgetSpent", "status": "True", "observedGeneration": 2,
                    "message": "the budget of 3 turns is spent; raise it",
                }]},
            })
        };
        let why = "the budget of 3 turns is spent; raise it";
        assert_eq!(spent_by(&agent(2)).as_deref(), Some(why));
        assert_eq!(spent_by(&agent(3)), None);
        assert_eq!(spent_by(&json!({"status": {}})), None);
    }

    #[test]
    fn an_agent_that_asks_is_told_with_the_commands_that_answer() {
        let tool = json!({"request": "r-1", "tool": "Bash", "title": "cargo test", "kind": "tool",
            "rule": "Bash(cargo test:*)"});
        let plan =
            json!({"request": "a b", "tool": "ExitPlanMode", "title": "1. look", "kind": "plan"});
        let question = json!({"request": "q", "tool": "Ask", "kind": "question", "questions": [
            {"text": "Which\u{1b}[2J?", "options": ["red", "blue"]}, {"text": "Why?"},
        ]});
        insta::assert_snapshot!([tool, plan, question].map(|it| asks("bot", &it)).join("\n\n"));
    }

    #[test]
    fn a_file_without_an_end_is_not_read_to_it() {
        let error = within_limit(Path::new("/dev/zero"), LARGEST).expect_err("too large");
        assert_eq!(error.to_string(), "/dev/zero has more than the 32 MiB that a file may have");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("note");
        std::fs::write(&path, "hello").expect("it is written");
        assert_eq!(within_limit(&path, 5).expect("it fits"), b"hello");
        assert!(within_limit(&path, 4).is_err());
    }

    #[test]
    fn the_exit_code_says_how_the_turn_ended() {
        let code = |state: &str| outcome("bot", &json!({"n": 1, "state": state}));
        assert_eq!(["Succeeded", "Failed", "Cancelled", "Interrupted"].map(code), [0, 1, 130, 125]);
    }
}
