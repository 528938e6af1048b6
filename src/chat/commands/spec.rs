//! Specs from flags: what a person said, and what holds where they said nothing. Pure.

use crate::{
    chat::{
        grammar::{Flags, Run, Runtime, Start},
        outbox::channel_of,
        replies::BadSpec,
    },
    resource::{
        AgentCli, AgentSpec, Channel, Defaults, Detail, FlyRuntime, JobSpec, LocalRuntime,
        Permissions, Repo, Report, RuntimeSpec, resolve::agent_named,
    },
    store::Conversation,
};

/// A spec, and what was said that means nothing where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked<T> {
    pub(super) spec: T,
    /// Whole lines, to be told.
    pub(super) ignored: Vec<String>,
}

/// The spec that a run asks for.
pub(super) fn job_spec(
    run: &Run,
    defaults: &Defaults,
    place: &Conversation,
    console: bool,
) -> Result<Asked<JobSpec>, BadSpec> {
    let flags = &run.flags;
    let mut ignored = Vec::new();
    let said = Said { path_as: "--workdir", path: run.workdir.as_deref(), flags };
    let mut runtime = said.runtime(defaults, &mut ignored)?;
    if let RuntimeSpec::Fly(fly) = &mut runtime
        && fly.persistent.take().is_some()
    {
        ignored.push("--persistent is ignored: the machine of a job goes with it".to_owned());
    }
    let agent = agent_of(flags, defaults, console, &runtime)?;
    let spec = JobSpec {
        runtime,
        repo: repo_of(flags)?,
        instructions: flags.instructions.clone(),
        permissions: permissions_of(flags),
        timeout: flags.timeout,
        report: report_to(place),
        ..JobSpec::new(run.task.clone(), agent)
    };
    Ok(Asked { spec, ignored })
}

/// The spec of a new agent that listens where it was asked for.
pub(super) fn agent_spec(
    start: &Start,
    defaults: &Defaults,
    place: &Conversation,
    console: bool,
) -> Result<Asked<AgentSpec>, BadSpec> {
    let flags = &start.flags;
    let mut ignored = Vec::new();
    let runtime = Said::start(start).runtime(defaults, &mut ignored)?;
    let spec = AgentSpec {
        agent: agent_of(flags, defaults, console, &runtime)?,
        runtime,
        repo: repo_of(flags)?,
        channels: channel_of(place).into_iter().collect(),
        instructions: flags.instructions.clone(),
        permissions: permissions_of(flags),
        env: Vec::new(),
        suspend: false,
        idle_timeout: None,
        turn_timeout: flags.timeout,
        budget: None,
    };
    Ok(Asked { spec, ignored })
}

/// An agent's spec with what a later start says otherwise; what it does not say stays.
pub(super) fn with_start(
    old: &AgentSpec,
    start: &Start,
    defaults: &Defaults,
) -> Result<Asked<AgentSpec>, BadSpec> {
    let flags = &start.flags;
    let mut ignored = Vec::new();
    let mut spec = old.clone();
    if let Some(name) = &flags.agent {
        let named = agent_named(name)?;
        // Said again, the same CLI keeps its model and its path.
        let same = match (&old.agent, &named) {
            (AgentCli::Acp(was), AgentCli::Acp(is)) => was.command == is.command,
            (was, is) => was.name() == is.name(),
        };
        if !same {
            spec.agent = defaults.with_model(named);
        }
    }
    if let Some(model) = &flags.model {
        set_model(&mut spec.agent, model)?;
    }
    spec.runtime = Said::start(start).changed(&old.runtime, defaults, &mut ignored)?;
    match (&flags.repo, &flags.branch, &mut spec.repo) {
        (None, None, _) => {}
        (None, Some(branch), Some(repo)) => repo.branch = Some(branch.clone()),
        _ => spec.repo = repo_of(flags)?,
    }
    if flags.permissions.is_some() {
        spec.permissions.mode = flags.permissions;
    }
    if flags.timeout.is_some() {
        spec.turn_timeout = flags.timeout;
    }
    if flags.instructions.is_some() {
        spec.instructions.clone_from(&flags.instructions);
    }
    Ok(Asked { spec, ignored })
}

/// Where a new Job reports: here, as it comes.
pub(super) fn report_to(conversation: &Conversation) -> Option<Report> {
    let channel: Channel = channel_of(conversation)?;
    Some(Report { to: vec![channel], detail: Detail::Stream })
}

/// What a name is made of where none is given: the last part of the path, or of the repository.
pub(super) fn name_base(spec: &AgentSpec) -> String {
    let path = match &spec.runtime {
        RuntimeSpec::Local(local) => local.workdir.as_deref(),
        RuntimeSpec::Fly(_) => None,
    };
    let repo = spec.repo.as_ref().and_then(|repo| repo.github.as_deref().or(repo.url.as_deref()));
    let last = |text: &str| {
        let text = text.trim_end_matches('/');
        let part = text.rsplit(['/', ':']).next().unwrap_or(text);
        label(part.strip_suffix(".git").unwrap_or(part))
    };
    [path, repo]
        .into_iter()
        .flatten()
        .map(last)
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "agent".to_owned())
}

/// A text as the front of a DNS label; empty if nothing of it can be.
fn label(text: &str) -> String {
    const MOST: usize = 40;
    let mut label = String::new();
    for c in text.to_lowercase().chars().take(MOST) {
        match c {
            'a'..='z' | '0'..='9' => label.push(c),
            _ if label.is_empty() || label.ends_with('-') => {}
            _ => label.push('-'),
        }
    }
    label.trim_end_matches('-').to_owned()
}

fn permissions_of(flags: &Flags) -> Permissions {
    Permissions { mode: flags.permissions, allow: Vec::new() }
}

fn agent_of(
    flags: &Flags,
    defaults: &Defaults,
    console: bool,
    runtime: &RuntimeSpec,
) -> Result<AgentCli, BadSpec> {
    let mut agent = match (flags.agent.as_deref(), &defaults.agent) {
        // The configured agent keeps what is configured of it.
        (Some(name), Some(configured)) if name == configured.name() => configured.clone(),
        (Some(name), _) => agent_named(name)?,
        (None, _) if matches!(runtime, RuntimeSpec::Fly(_)) => defaults.agent_on_fly(),
        (None, _) => defaults.agent(console).ok_or(BadSpec::NothingFound)?,
    };
    match &flags.model {
        Some(model) => set_model(&mut agent, model)?,
        None => agent = defaults.with_model(agent),
    }
    Ok(agent)
}

fn set_model(agent: &mut AgentCli, model: &str) -> Result<(), BadSpec> {
    let slot = match agent {
        AgentCli::Claude(cli) => &mut cli.model,
        AgentCli::Opencode(cli) => &mut cli.model,
        AgentCli::Codex(cli) => &mut cli.model,
        AgentCli::Acp(cli) => &mut cli.model,
        AgentCli::Command(_) => return Err(BadSpec::NoModel),
    };
    *slot = Some(model.to_owned());
    Ok(())
}

fn repo_of(flags: &Flags) -> Result<Option<Repo>, BadSpec> {
    match (&flags.repo, &flags.branch) {
        (None, Some(_)) => Err(BadSpec::BranchAlone),
        (None, None) => Ok(None),
        (Some(repo), branch) => Ok(Some(repo_named(repo, branch.clone()))),
    }
}

/// `owner/project` is on GitHub; all else is for `git clone`.
fn repo_named(text: &str, branch: Option<String>) -> Repo {
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

/// What was said of where something runs.
struct Said<'a> {
    /// How the path was said.
    path_as: &'static str,
    path: Option<&'a str>,
    flags: &'a Flags,
}

impl<'a> Said<'a> {
    fn start(start: &'a Start) -> Self {
        Self { path_as: "the path", path: start.path.as_deref(), flags: &start.flags }
    }

    /// Where something new runs.
    fn runtime(
        &self,
        defaults: &Defaults,
        ignored: &mut Vec<String>,
    ) -> Result<RuntimeSpec, BadSpec> {
        let usual = if defaults.on_fly {
            RuntimeSpec::Fly(FlyRuntime::default())
        } else {
            RuntimeSpec::default()
        };
        self.changed(&usual, defaults, ignored)
    }

    /// Where something runs that ran so. A machine is meant where it is said, and by an image
    /// where there are machines. What means nothing in the place that was chosen is left out, and
    /// told: the same line does its work in either.
    fn changed(
        &self,
        old: &RuntimeSpec,
        defaults: &Defaults,
        ignored: &mut Vec<String>,
    ) -> Result<RuntimeSpec, BadSpec> {
        let flags = self.flags;
        let machine = match (flags.runtime, old) {
            (Some(runtime), _) => runtime == Runtime::Fly,
            (None, RuntimeSpec::Fly(_)) => true,
            (None, RuntimeSpec::Local(_)) => flags.image.is_some() && defaults.images.is_some(),
        };
        if machine {
            if self.path.is_some() {
                let what = self.path_as;
                ignored.push(format!(
                    "{what} is ignored: a machine has none of the server's directories, name a \
                     --repo"
                ));
            }
            if flags.isolation.is_some() {
                let why = "a machine is apart from all others as it is";
                ignored.push(format!("--isolation is ignored: {why}"));
            }
            let old = match old {
                RuntimeSpec::Fly(fly) => fly.clone(),
                RuntimeSpec::Local(_) => FlyRuntime::default(),
            };
            return Ok(RuntimeSpec::Fly(FlyRuntime {
                image: flags.image.clone().or(old.image),
                persistent: flags.persistent.or(old.persistent),
                ..old
            }));
        }
        if flags.image.is_some() {
            let hint = match defaults.images {
                Some(_) => "--runtime fly gives it a machine",
                None => "the server has no Fly Machines (docs/fly.md)",
            };
            ignored.push(format!("--image is ignored: it runs on the server's machine; {hint}"));
        }
        if flags.persistent == Some(false) {
            ignored.push(
                "--persistent=false is ignored: what runs on the server's machine keeps its files"
                    .to_owned(),
            );
        }
        let old = match old {
            RuntimeSpec::Local(local) => local.clone(),
            RuntimeSpec::Fly(_) => LocalRuntime::default(),
        };
        let workdir = self.path.map(|path| workdir_of(self.path_as, path)).transpose()?;
        Ok(RuntimeSpec::Local(LocalRuntime {
            workdir: workdir.or(old.workdir),
            isolation: flags.isolation.or(old.isolation),
        }))
    }
}

/// An absolute path stays; a relative one starts at the server's home, because a chat has no
/// directory that it stands in.
fn workdir_of(said_as: &'static str, text: &str) -> Result<String, BadSpec> {
    if text.starts_with('/') || text == "~" || text.starts_with("~/") {
        return Ok(text.to_owned());
    }
    if text.split('/').any(|part| part == "..") {
        return Err(BadSpec::Outside(said_as, text.to_owned()));
    }
    let inside: Vec<&str> =
        text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(if inside.is_empty() { "~".to_owned() } else { format!("~/{}", inside.join("/")) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        chat::grammar::{self, Command, Line},
        resource::validate::bad_label,
    };

    fn spec(path: &str, repo: &str) -> AgentSpec {
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let flags = Flags { repo: said(repo), ..Flags::default() };
        let start = Start { name: None, path: said(path), flags };
        agent_spec(&start, &Defaults::default(), &place(), true).unwrap().spec
    }

    fn place() -> Conversation {
        Conversation { platform: "console".into(), channel: "main".into(), thread: None }
    }

    fn start(line: &str) -> Start {
        match grammar::parse(line) {
            Ok(Line::Command(Command::Start(start))) => *start,
            other => panic!("{line} is no start but {other:?}"),
        }
    }

    #[test]
    fn what_flags_say_stands_in_the_spec_and_what_they_do_not_say_stays() {
        let defaults = Defaults {
            opencode_model: Some("a/b".into()),
            images: Some(crate::resource::Images::default()),
            ..Defaults::default()
        };
        let mut told = Vec::new();
        let mut spec: Option<AgentSpec> = None;
        for line in [
            "/od-start a --agent opencode --repo o/r --branch main --timeout 1h --isolation sandbox ~/p",
            "/od-start a --branch other --permissions plan",
            "/od-start a --model c/d ./q --instructions Hi",
            "/od-start a --agent opencode --isolation none",
            "/od-start a --agent gemini --repo https://example.com/r",
            "/od-start a --image node ~/p",
            "/od-start a --isolation sandbox --persistent=false",
            "/od-start a --runtime local ./q --image node",
        ] {
            let start = start(line);
            let new = match &spec {
                None => agent_spec(&start, &defaults, &place(), false),
                Some(old) => with_start(old, &start, &defaults),
            };
            let Asked { spec: new, ignored } = new.unwrap();
            told.push(format!("> {line}\n{}", serde_json::to_string(&new).unwrap()));
            told.extend(ignored);
            spec = Some(new);
        }
        insta::assert_snapshot!(told.join("\n"));
        let alone = with_start(&self::spec("", ""), &start("/od-start a --branch x"), &defaults);
        assert_eq!(alone, Err(BadSpec::BranchAlone));
    }

    #[test]
    fn a_name_is_made_from_the_last_part_of_the_path_or_the_repository() {
        for (path, repo, name) in [
            ("~/projects/My_API", "", "my-api"),
            ("~/p/", "owner/web", "p"),
            ("", "owner/web.app", "web-app"),
            ("", "https://example.com/a/tool.git", "tool"),
            ("", "git@example.com:tool.git", "tool"),
            ("~", "", "agent"),
            ("/", "", "agent"),
            ("", "", "agent"),
            ("~/проект", "", "agent"),
        ] {
            assert_eq!(name_base(&spec(path, repo)), name, "{path} {repo}");
        }
    }

    #[test]
    fn a_machine_is_meant_by_a_flag_by_an_image_or_by_default() {
        let images = Some(crate::resource::Images::default());
        let here = Defaults { agent: Some(agent_named("codex").unwrap()), ..Defaults::default() };
        let both = Defaults { images, ..here.clone() };
        let there = Defaults { on_fly: true, agent: None, ..both.clone() };
        let asked = |line: &str, defaults: &Defaults| match grammar::parse(line) {
            Ok(Line::Command(Command::Start(it))) => {
                let Asked { spec, ignored } = agent_spec(&it, defaults, &place(), false).unwrap();
                (spec.runtime.name(), spec.agent.name(), ignored.len())
            }
            Ok(Line::Command(Command::Run(it))) => {
                let Asked { spec, ignored } = job_spec(&it, defaults, &place(), false).unwrap();
                (spec.runtime.name(), spec.agent.name(), ignored.len())
            }
            other => panic!("{line} is {other:?}"),
        };
        for (line, defaults, wanted) in [
            ("/od-start", &here, ("local", "codex", 0)),
            ("/od-start --image node", &here, ("local", "codex", 1)),
            ("/od-start --runtime fly", &here, ("fly", "codex", 0)),
            ("/od-start --persistent bot", &here, ("local", "codex", 0)),
            ("/od-start", &both, ("local", "codex", 0)),
            ("/od-start --image node ~/p", &both, ("fly", "codex", 1)),
            ("/od-start --runtime local --image node", &both, ("local", "codex", 1)),
            ("/od-start bot ~/p", &there, ("fly", "claude", 1)),
            ("/od-run --persistent test", &there, ("fly", "claude", 1)),
            ("/od-run --runtime local --agent codex test", &there, ("local", "codex", 0)),
            ("/od-run --image my-agent:v1 \"lint the code\"", &both, ("fly", "codex", 0)),
        ] {
            assert_eq!(asked(line, defaults), wanted, "{line}");
        }
    }

    proptest! {
        #[test]
        fn every_name_that_is_made_is_a_label(path in "[^\0]{1,80}") {
            prop_assume!(!path.split('/').any(|part| part == ".."));
            prop_assert_eq!(bad_label(&format!("{}-x7k2p", name_base(&spec(&path, "")))), None);
        }
    }
}
