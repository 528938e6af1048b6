//! Commands become one transaction each: a receipt, what was asked for, and the answer.
//!
//! Nothing here acts. `/od-run` writes a Job, `/od-cancel` writes a field of a Job's spec, and
//! the loop does the rest. The receipt commits with its effect, and names are made from the
//! request's key; so a line that is delivered twice, at whatever instant the server died,
//! leaves one Job and one answer.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use sprite_reporter::wire::{EventBody, Stream};

use super::{
    grammar::{self, Command, Line, Run, nearest},
    help,
    outbox::{channel_of, delivery_id},
    replies::{self, BadRun, Seen},
};
use crate::{
    ambient::Ambient,
    resource::{
        AgentCli, AnyObject, ClaudeCli, CommandCli, Detail, Job, JobSpec, Kind, LocalRuntime,
        Permissions, Repo, Report, RuntimeSpec, Sprite, admit, table,
    },
    store::{
        Approval, ApprovalState, Conversation, Cursor, Delivery, DeliveryState, Error, Expect, Op,
        Part, Receipt, Store, Subject, Transaction,
    },
};

/// How many jobs `/od-jobs` lists.
const JOBS_SHOWN: usize = 10;
/// How many lines `/od-logs` shows.
const LINES_SHOWN: usize = 20;
/// The most characters of one such line.
const LINE_LENGTH: usize = 400;
/// How often a write is tried again when somebody else wrote first.
const TRIES: u32 = 8;

/// A line that came in, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The platform's key of this line, such as `console/REQUEST-ID`: the same for a redelivery.
    pub key: String,
    /// Where it was said, and where the answer goes.
    pub conversation: Conversation,
    /// Who said it, as the platform names them.
    pub author: String,
    /// What was said.
    pub text: String,
}

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The delivery that answers it.
    pub delivery: String,
    /// Whether the line was taken before, and nothing was done now.
    pub again: bool,
}

/// What a person need not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The agent of a run that names none.
    pub agent: AgentCli,
}

impl Default for Settings {
    fn default() -> Self {
        Self { agent: AgentCli::Command(CommandCli::default()) }
    }
}

/// Takes lines of chat.
pub struct Commands {
    store: Arc<dyn Store>,
    ambient: Ambient,
    settings: Settings,
}

/// What a line leads to: objects to write, and the answer.
struct Effect {
    ops: Vec<Op>,
    answer: Answer,
}

enum Answer {
    /// A fixed text.
    Text(String),
    /// The transcript of a Job, which is made with it.
    Job { uid: String, name: String },
}

impl Effect {
    fn text(text: impl Into<String>) -> Self {
        Self { ops: Vec::new(), answer: Answer::Text(text.into()) }
    }
}

impl Commands {
    /// Takes lines into a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient, settings: Settings) -> Self {
        Self { store, ambient, settings }
    }

    /// Takes one line: answers once its effect and its answer are durable.
    ///
    /// # Errors
    /// The store's, when nothing was done; the line may be sent again with the same key.
    pub async fn handle(&self, line: &Incoming) -> Result<Taken, Error> {
        if let Some(receipt) = self.store.receipt(&line.key).await? {
            return Ok(Taken { delivery: delivery_of(&receipt.effect), again: true });
        }
        let mut round = 0;
        loop {
            let effect = self.effect(line, round).await?;
            let delivery = self.answer(&effect.answer, &line.conversation);
            let id = delivery.id.clone();
            let receipt = Receipt { key: line.key.clone(), effect: format!("deliveries/{id}") };
            let mut transaction =
                Transaction::at(self.ambient.clock.now()).with(Op::Receipt(receipt));
            transaction.ops.extend(effect.ops);
            let transaction = transaction.with(Op::Delivery(delivery));
            match self.ambient.step("chat.take", self.store.apply(transaction)).await {
                Ok(_) => return Ok(Taken { delivery: id, again: false }),
                Err(Error::Duplicate { effect, .. }) => {
                    return Ok(Taken { delivery: delivery_of(&effect), again: true });
                }
                // Somebody else wrote first: look again at what is there now.
                Err(
                    Error::Conflict { .. }
                    | Error::AlreadyExists { .. }
                    | Error::NotFound { .. }
                    | Error::Stale { .. },
                ) if round < TRIES => {
                    round += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(&self, answer: &Answer, conversation: &Conversation) -> Delivery {
        let (id, subject) = match answer {
            Answer::Text(text) => (self.ambient.ids.uid(), Subject::Notice { text: text.clone() }),
            Answer::Job { uid, name } => (
                delivery_id(uid, conversation),
                Subject::Job { uid: uid.clone(), name: name.clone() },
            ),
        };
        Delivery {
            id,
            version: 0,
            conversation: conversation.clone(),
            subject,
            messages: Vec::new(),
            shown: Cursor::default(),
            hash: String::new(),
            state: DeliveryState::Open,
            note: String::new(),
            created: self.ambient.clock.now(),
        }
    }

    async fn effect(&self, line: &Incoming, round: u32) -> Result<Effect, Error> {
        match grammar::parse(&line.text) {
            Err(refusal) => Ok(Effect::text(refusal.to_string())),
            Ok(Line::Plain(_)) => Ok(Effect::text(help::nobody_listens())),
            Ok(Line::Command(command)) => self.command(command, line, round).await,
        }
    }

    async fn command(
        &self,
        command: Command,
        line: &Incoming,
        round: u32,
    ) -> Result<Effect, Error> {
        Ok(match command {
            Command::Run(run) => self.run(&run, line, round).await?,
            Command::Jobs => self.jobs().await?,
            Command::Status(name) => match self.job(&name).await? {
                Ok(job) => {
                    let waiting = self.waiting().await?.place(&job);
                    let seen = Seen { job, waiting };
                    Effect::text(replies::status(&seen, self.ambient.clock.now()))
                }
                Err(answer) => answer,
            },
            Command::Logs(name) => match self.job(&name).await? {
                Ok(job) => self.logs(&job).await?,
                Err(answer) => answer,
            },
            Command::Cancel(name) => match self.job(&name).await? {
                Ok(job) => cancel(job),
                Err(answer) => answer,
            },
            Command::Retry(name) => match self.job(&name).await? {
                Ok(job) => self.retry(&job, line).await?,
                Err(answer) => answer,
            },
            Command::Approve { job, allow, request } => match self.job(&job).await? {
                Ok(job) => self.approve(&job, allow, request.as_deref(), line).await?,
                Err(answer) => answer,
            },
            Command::Help(None) => Effect::text(help::overview()),
            Command::Help(Some(verb)) => Effect::text(help::on(verb)),
            Command::Whoami => Effect::text(replies::whoami(&line.author, &line.conversation)),
        })
    }

    async fn run(&self, run: &Run, line: &Incoming, round: u32) -> Result<Effect, Error> {
        let spec = match job_spec(run, &self.settings, &line.conversation) {
            Ok(spec) => spec,
            Err(bad) => return Ok(Effect::text(bad.to_string())),
        };
        if let Some(name) = &run.name
            && self.store.get(Kind::Job, name).await?.is_some()
        {
            return Ok(Effect::text(replies::job_exists(name)));
        }
        let mut job = Job::new(run.name.clone().unwrap_or_default(), spec);
        job.metadata.generate_name = run.name.is_none().then(|| "run-".to_owned());
        Ok(self.create(job, &suffix(&line.key, round)))
    }

    /// A new Job, whose transcript is the answer.
    fn create(&self, job: Job, suffix: &str) -> Effect {
        let uid = self.ambient.ids.uid();
        match admit::create(job.into(), uid.clone(), suffix) {
            Ok(object) => {
                let name = object.metadata().name.clone();
                Effect { ops: vec![Op::Create(object)], answer: Answer::Job { uid, name } }
            }
            Err(faults) => Effect::text(replies::faults(&faults)),
        }
    }

    async fn retry(&self, old: &Job, line: &Incoming) -> Result<Effect, Error> {
        let base = retry_base(&old.metadata.name);
        let mut n = 1;
        let name = loop {
            let name = retry_name(base, n);
            if self.store.get(Kind::Job, &name).await?.is_none() {
                break name;
            }
            n += 1;
        };
        let mut job = Job::new(name, old.spec.clone());
        job.metadata.labels.clone_from(&old.metadata.labels);
        job.spec.cancel = false;
        job.spec.report = report_to(&line.conversation);
        Ok(self.create(job, ""))
    }

    /// Resolves what waits; the Sprite's controller takes the answer to the agent.
    async fn approve(
        &self,
        job: &Job,
        allow: bool,
        request: Option<&str>,
        line: &Incoming,
    ) -> Result<Effect, Error> {
        let name = &job.metadata.name;
        let approvals = approvals_of(&*self.store, &job.metadata.uid).await?;
        let pending = |approval: &&Approval| approval.state == ApprovalState::Pending;
        let meant = match request {
            Some(request) => {
                let mut named = approvals.iter().filter(|approval| approval.request == request);
                match named.clone().find(pending).or_else(|| named.next_back()) {
                    None => return Ok(Effect::text(replies::no_request(name, request))),
                    Some(found) if !pending(&found) => {
                        return Ok(Effect::text(replies::answered(name, found)));
                    }
                    Some(found) => found,
                }
            }
            None => match approvals.iter().find(pending) {
                Some(oldest) => oldest,
                None => return Ok(Effect::text(replies::nothing_waits(name, approvals.last()))),
            },
        };
        let op = Op::ResolveApproval {
            sprite_uid: meant.sprite_uid.clone(),
            run: meant.run,
            request: meant.request.clone(),
            state: if allow { ApprovalState::Allowed } else { ApprovalState::Denied },
            by: line.author.clone(),
            message: String::new(),
            answers: BTreeMap::new(),
        };
        let answer = Answer::Text(replies::approved(name, meant, allow));
        Ok(Effect { ops: vec![op], answer })
    }

    async fn jobs(&self) -> Result<Effect, Error> {
        let mut jobs: Vec<Job> =
            self.all(Kind::Job).await?.into_iter().filter_map(AnyObject::into_job).collect();
        jobs.sort_by(|a, b| {
            let key = |job: &Job| (job.metadata.creation_timestamp, job.metadata.uid.clone());
            key(b).cmp(&key(a))
        });
        let more = jobs.len().saturating_sub(JOBS_SHOWN);
        jobs.truncate(JOBS_SHOWN);
        let line = self.waiting().await?;
        let seen: Vec<Seen> = jobs
            .into_iter()
            .map(|job| {
                let waiting = line.place(&job);
                Seen { job, waiting }
            })
            .collect();
        Ok(Effect::text(replies::jobs(&seen, more, self.ambient.clock.now())))
    }

    async fn logs(&self, job: &Job) -> Result<Effect, Error> {
        let sprites = sprites_of(&*self.store, &job.metadata.uid).await?;
        let mut tail = Tail::default();
        if let Some(sprite) = sprites.last() {
            let mut cursor = Cursor::default();
            loop {
                let rows = self.store.output(&sprite.metadata.uid, cursor, 1 << 20).await?;
                let Some(last) = rows.last() else { break };
                cursor = last.cursor();
                for row in &rows {
                    match &row.event.body {
                        EventBody::Log { stream: Stream::Stdout | Stream::Stderr, chunk }
                        | EventBody::Text { chunk, .. } => tail.push(&chunk.bytes()),
                        _ => {}
                    }
                }
            }
        }
        let (lines, more) = tail.end();
        Ok(Effect::text(replies::logs(&job.metadata.name, &lines, more)))
    }

    /// A Job by name, or the answer that there is none.
    async fn job(&self, name: &str) -> Result<Result<Job, Effect>, Error> {
        if let Some(job) = self.store.get(Kind::Job, name).await?.and_then(AnyObject::into_job) {
            return Ok(Ok(job));
        }
        let names: Vec<String> = self
            .all(Kind::Job)
            .await?
            .iter()
            .map(|object| object.metadata().name.clone())
            .collect();
        let nearest = nearest(name, names.iter().map(String::as_str));
        Ok(Err(Effect::text(replies::no_job(name, nearest))))
    }

    async fn all(&self, kind: Kind) -> Result<Vec<AnyObject>, Error> {
        let mut all: Vec<AnyObject> = Vec::new();
        loop {
            let after = all.last().map(|object| object.metadata().name.clone());
            let page = self.store.list(kind, after.as_deref(), 1_000).await?;
            let more = page.more && !page.items.is_empty();
            all.extend(page.items);
            if !more {
                return Ok(all);
            }
        }
    }

    async fn waiting(&self) -> Result<WaitingLine, Error> {
        let sprites = self.all(Kind::Sprite).await?;
        Ok(WaitingLine::of(sprites.into_iter().filter_map(AnyObject::into_sprite)))
    }
}

/// The places of the jobs whose sprites wait for a slot, by the job's uid.
struct WaitingLine(HashMap<String, usize>);

impl WaitingLine {
    fn of(sprites: impl Iterator<Item = Sprite>) -> Self {
        let places = table::waiting_line(sprites).into_iter();
        Self(
            places
                .filter_map(|(sprite, place)| {
                    Some((sprite.metadata.controller()?.uid.clone(), place))
                })
                .collect(),
        )
    }

    /// A job's place in its runtime's line; the first is 1.
    fn place(&self, job: &Job) -> Option<usize> {
        self.0.get(&job.metadata.uid).copied()
    }
}

/// The last lines of what was printed.
#[derive(Default)]
struct Tail {
    lines: VecDeque<Vec<u8>>,
    more: bool,
    open: bool,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.open {
                self.lines.push_back(Vec::new());
            }
            let whole = part.ends_with(b"\n");
            if let Some(line) = self.lines.back_mut() {
                let room = (4 * LINE_LENGTH).saturating_sub(line.len());
                line.extend(part[..part.len() - usize::from(whole)].iter().take(room));
            }
            self.open = !whole;
            if self.lines.len() > LINES_SHOWN {
                self.lines.pop_front();
                self.more = true;
            }
        }
    }

    fn end(self) -> (Vec<String>, bool) {
        let lines = self.lines.iter().map(|line| {
            let line = String::from_utf8_lossy(line);
            match line.char_indices().nth(LINE_LENGTH) {
                Some((at, _)) => format!("{}…", &line[..at]),
                None => line.into_owned(),
            }
        });
        (lines.collect(), self.more)
    }
}

/// A Job's sprites, in the order of its attempts.
pub(super) async fn sprites_of(store: &dyn Store, job_uid: &str) -> Result<Vec<Sprite>, Error> {
    let owned = store.list_owned(Kind::Sprite, job_uid).await?;
    let mut sprites: Vec<Sprite> = owned.into_iter().filter_map(AnyObject::into_sprite).collect();
    sprites.sort_by_key(|sprite| number_of(&sprite.metadata.name));
    Ok(sprites)
}

/// What an object's sprites have asked for, the oldest first.
async fn approvals_of(store: &dyn Store, owner_uid: &str) -> Result<Vec<Approval>, Error> {
    let mut approvals = Vec::new();
    for sprite in store.list_owned(Kind::Sprite, owner_uid).await? {
        approvals.extend(store.approvals(&sprite.metadata().uid).await?);
    }
    approvals.sort_by_key(|approval: &Approval| approval.created);
    Ok(approvals)
}

/// The number at the end of a sprite's name: which of its owner's sprites it is.
fn number_of(name: &str) -> u64 {
    name.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or_default()
}

fn cancel(mut job: Job) -> Effect {
    let answer = Answer::Text(replies::cancel(&job));
    let conditions = &job.status.conditions;
    let ended = conditions.is_true("Complete") || conditions.is_true("Failed");
    if ended || job.spec.cancel {
        return Effect { ops: Vec::new(), answer };
    }
    job.spec.cancel = true;
    let op = Op::Write { object: job.into(), part: Part::Desired, expect: Expect::SameVersion };
    Effect { ops: vec![op], answer }
}

/// Where a new Job reports: here, as it comes.
fn report_to(conversation: &Conversation) -> Option<Report> {
    let channel = channel_of(conversation)?;
    Some(Report { to: vec![channel], detail: Detail::Stream })
}

fn delivery_of(effect: &str) -> String {
    effect.strip_prefix("deliveries/").unwrap_or(effect).to_owned()
}

/// Five characters that name a run, always the same for the same request and round.
fn suffix(key: &str, round: u32) -> String {
    /// As in Kubernetes' generated names: no vowels, nothing that looks alike.
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let hash = Sha256::digest(format!("{key}\n{round}"));
    hash.iter()
        .take(5)
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect()
}

/// A job's name without the `-retry-N` of earlier retries.
fn retry_base(name: &str) -> &str {
    match name.rsplit_once("-retry-") {
        Some((base, n)) if !base.is_empty() && n.parse::<u32>().is_ok() => base,
        _ => name,
    }
}

/// The name of a job's n-th retry, a DNS label.
fn retry_name(base: &str, n: u32) -> String {
    let suffix = format!("-retry-{n}");
    let room = 63 - suffix.len();
    let base = &base[..base.len().min(room)];
    format!("{}{suffix}", base.trim_end_matches('-'))
}

/// The spec that a run asks for.
fn job_spec(run: &Run, settings: &Settings, place: &Conversation) -> Result<JobSpec, BadRun> {
    if run.branch.is_some() && run.repo.is_none() {
        return Err(BadRun::BranchAlone);
    }
    let repo = run.repo.as_deref().map(|repo| repo_of(repo, run.branch.clone()));
    let workdir = run.workdir.as_deref().map(workdir_of).transpose()?;
    Ok(JobSpec {
        runtime: RuntimeSpec::Local(LocalRuntime { workdir, isolation: None }),
        repo,
        permissions: Permissions { mode: run.permissions, allow: Vec::new() },
        timeout: run.timeout,
        report: report_to(place),
        ..JobSpec::new(run.task.clone(), agent_of(run, settings)?)
    })
}

fn agent_of(run: &Run, settings: &Settings) -> Result<AgentCli, BadRun> {
    let mut agent = match run.agent.as_deref() {
        None => settings.agent.clone(),
        // The configured agent keeps what is configured of it.
        Some(name) if name == settings.agent.name() => settings.agent.clone(),
        Some("command") => AgentCli::Command(CommandCli::default()),
        Some("claude") => AgentCli::Claude(ClaudeCli::default()),
        Some(name @ ("opencode" | "codex" | "acp")) => {
            return Err(BadRun::AgentNotBuilt(name.to_owned()));
        }
        Some(name) => return Err(BadRun::NoAgent(name.to_owned())),
    };
    if let Some(model) = &run.model {
        match &mut agent {
            AgentCli::Claude(cli) => cli.model = Some(model.clone()),
            AgentCli::Opencode(cli) => cli.model = Some(model.clone()),
            AgentCli::Codex(cli) => cli.model = Some(model.clone()),
            AgentCli::Acp(_) | AgentCli::Command(_) => return Err(BadRun::NoModel),
        }
    }
    Ok(agent)
}

/// `owner/project` is on GitHub; all else is for `git clone`.
fn repo_of(text: &str, branch: Option<String>) -> Repo {
    let word = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    match text.split_once('/') {
        Some((owner, project)) if word(owner) && word(project) => {
            Repo { github: Some(text.to_owned()), url: None, branch }
        }
        _ => Repo { github: None, url: Some(text.to_owned()), branch },
    }
}

/// An absolute path stays; a relative one starts at the server's home, because a chat has no
/// directory that it stands in.
fn workdir_of(text: &str) -> Result<String, BadRun> {
    if text.starts_with('/') || text == "~" || text.starts_with("~/") {
        return Ok(text.to_owned());
    }
    if text.split('/').any(|part| part == "..") {
        return Err(BadRun::Outside(text.to_owned()));
    }
    let inside: Vec<&str> =
        text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(if inside.is_empty() { "~".to_owned() } else { format!("~/{}", inside.join("/")) })
}
