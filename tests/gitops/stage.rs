//! The stage: the real server on a copy of `examples/fleet/`, in real repositories.
//!
//! Four repositories lie below one directory. `ops` holds the files of the example and is read over
//! HTTP by the Source `fleet`; `api`, `web` and `docs` are those that its agents work in, and are read as
//! files by the Source `teams`, which takes a Job out of the `.open-dispatch` of each. What is swapped in
//! the copy: the agents are shells in place of Claude Code; what they are told is a variable of theirs,
//! because shells take no instructions; and the repositories have addresses of this machine in place of
//! GitHub's.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    git::{GitHttp, Origin, shown},
    live::{self, Live},
};

/// The repositories that the agents work in.
pub const REPOS: [&str; 3] = ["api", "web", "docs"];
/// Where the files of the example lie in `ops`.
const FILES: &str = "fleet";

/// What a command left behind.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub struct Stage {
    pub live: Live,
    pub ops: Origin,
    pub repos: BTreeMap<&'static str, Origin>,
    pub http: GitHttp,
    pub home: tempfile::TempDir,
}

impl Stage {
    /// The repositories with a first commit each, and the server; nothing is declared yet.
    pub async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (data, below) = (home.path().join("data"), home.path().join("repos"));
        fs::create_dir(&data).unwrap();
        let repos: BTreeMap<_, _> = REPOS.map(|name| (name, Origin::new(&below, name))).into();
        for (name, repo) in &repos {
            repo.write("README.md", format!("{name}\n"));
            repo.write(".open-dispatch/smoke.yaml", job(&format!("smoke-{name}"), home.path()));
            repo.push();
        }
        let ops = Origin::new(&below, "ops");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet");
        for entry in fs::read_dir(example).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "yaml") {
                let name = path.file_name().unwrap().to_str().unwrap();
                let text = swapped(&fs::read_to_string(&path).unwrap(), &below);
                ops.write(&format!("{FILES}/{name}"), text);
            }
        }
        let http = GitHttp::serve(&below).await;
        let roots = shown(&below);
        let env =
            [("OPEN_DISPATCH_GIT_ROOTS", roots.as_str()), ("HOME", home.path().to_str().unwrap())];
        let live = Live::start(&data, &["--max-sprites", "32"], &env).await;
        Self { live, ops, repos, http, home }
    }

    /// Commits the example and declares both Sources; answers the commit.
    pub async fn declare(&self) -> String {
        let first = self.ops.push();
        self.apply(&self.sources());
        first
    }

    /// The two Sources, as YAML.
    pub fn sources(&self) -> String {
        let url = &self.http.url;
        let repos: Vec<String> =
            REPOS.iter().map(|name| format!("\"{}\"", self.address(name))).collect();
        format!(
            "apiVersion: opendispatch.dev/v1alpha1\nkind: Source\nmetadata: {{name: fleet}}\nspec:\n  \
             from: {{git: {{url: \"{url}/ops.git\", branch: main, path: {FILES}}}}}\n  interval: 1s\n\
             ---\n\
             apiVersion: opendispatch.dev/v1alpha1\nkind: Source\nmetadata: {{name: teams}}\nspec:\n  \
             from: {{git: {{repos: [{}]}}}}\n  interval: 1s\n  policy: {{kinds: [Agent, Job]}}\n",
            repos.join(", ")
        )
    }

    /// The address of a repository that agents work in.
    pub fn address(&self, name: &str) -> String {
        address(self.repos[name].bare.parent().unwrap(), name)
    }

    /// Applies YAML with the command line.
    pub fn apply(&self, text: &str) {
        let file = self.home.path().join("applied.yaml");
        fs::write(&file, text).unwrap();
        let said = self.od(&["apply", "-f", file.to_str().unwrap()]);
        assert_eq!(said.code, 0, "{said:?}");
    }

    /// A file of the example, in the work tree of `ops`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.ops.work.join(FILES).join(name)
    }

    /// Changes a file of the example by one text for another, and does not commit it.
    pub fn change(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.file(name)).unwrap();
        assert!(text.contains(from), "{name} does not say {from}");
        fs::write(self.file(name), text.replace(from, to)).unwrap();
    }

    /// Runs a command of the command line.
    pub fn od(&self, args: &[&str]) -> Outcome {
        let run = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_open-dispatch"));
            command.args(args).current_dir(self.home.path()).env_clear();
            command.env("PATH", std::env::var_os("PATH").unwrap());
            command.env("HOME", self.home.path()).env("OPEN_DISPATCH_DATA", self.live.data());
            command.output().unwrap()
        };
        // The repositories are served by this very process.
        let output = tokio::task::block_in_place(run);
        Outcome {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// `diff` of all files of all four repositories, as they lie in the work trees.
    pub fn diff(&self) -> Outcome {
        let mut args = vec!["diff".to_owned(), "-f".to_owned(), shown(&self.ops.work.join(FILES))];
        for repo in self.repos.values() {
            args.extend(["-f".to_owned(), shown(&repo.work.join(".open-dispatch"))]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.od(&args)
    }

    /// All objects of a kind, by name.
    pub async fn all(&self, plural: &str) -> BTreeMap<String, Value> {
        let list = self.live.get(plural).await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().map(|item| (name(&item), item)).collect()
    }

    /// Waits until something can be said of what there is.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let end = tokio::time::Instant::now() + live::PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if tokio::time::Instant::now() > end {
                let agents = self.od(&["get", "agents,fleets,sources,sprites,overrides"]).out;
                let why = self.od(&["describe", "sources"]).out;
                panic!("never: {what}\n{agents}\n{why}\n{}", self.live.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until an object is as wanted.
    pub async fn see(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.live.wait_for(path, what, wanted).await
    }

    /// Waits until a Source has applied a commit.
    pub async fn applied(&self, source: &str, commit: &str) {
        let is_there =
            |it: &Value| is_true(it, "Ready") && it["status"]["lastAppliedRevision"] == commit;
        self.see(&format!("sources/{source}"), commit, is_there).await;
    }

    /// Waits until exactly these agents are there, each ready with a live sprite of its own and
    /// nothing else alive; answers them by name.
    pub async fn ready(&self, names: &[String]) -> BTreeMap<String, Value> {
        let what = format!("{names:?} are ready, and nobody else lives");
        self.until(&what, async || {
            let agents = self.all("agents").await;
            let are_all = agents.len() == names.len()
                && names.iter().all(|name| agents.get(name).is_some_and(is_ready));
            if !are_all {
                return None;
            }
            let sprites = self.all("sprites").await;
            let living: Vec<&Value> = sprites.values().filter(|it| is_living(it)).collect();
            let of = |agent: &Value| agent["status"]["sprite"].as_str().unwrap().to_owned();
            let mut wanted: Vec<String> = agents.values().map(of).collect();
            let mut there: Vec<String> = living.iter().map(|sprite| name(sprite)).collect();
            wanted.sort();
            there.sort();
            let mut running = self.running();
            let mut uids: Vec<String> = living.iter().map(|sprite| uid(sprite)).collect();
            running.sort();
            uids.sort();
            (wanted == there && running == uids).then_some(agents)
        })
        .await
    }

    /// The sprites that have a reporter, by uid, one entry for each reporter.
    pub fn running(&self) -> Vec<String> {
        let runs = format!("{}/", self.live.data().join("runs").display());
        let mut found = Vec::new();
        for pid in self.live.reporters() {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let of = line.split('\0').find_map(|word| Some(word.split_once(&runs)?.1.to_owned()));
            found.extend(of.map(|rest| rest.split('/').next().unwrap_or_default().to_owned()));
        }
        found
    }

    /// What the declared Jobs noted of themselves, a line for each run.
    pub fn ran(&self) -> Vec<String> {
        let mut lines = live::lines(&self.home.path().join("ran"));
        lines.sort();
        lines
    }

    /// The reasons of the events about an object.
    pub fn events(&self, of: &str) -> String {
        self.od(&["events", "--for", of]).out
    }
}

/// The names of the ten: those of the roles in each repository, and the lead.
pub fn names(roles: &[&str]) -> Vec<String> {
    let members =
        REPOS.iter().flat_map(|repo| roles.iter().map(move |role| format!("{repo}-{role}")));
    members.chain(["lead".to_owned()]).collect()
}

/// The roles that the example begins with.
pub const ROLES: [&str; 3] = ["builder", "reviewer", "tester"];

/// A Job that notes each of its runs.
pub fn job(name: &str, home: &Path) -> String {
    format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata:\n  name: {name}\nspec:\n  \
         # A comment of its own.\n  task: echo {name} >> {}/ran\n  agent:\n    command: {{}}\n",
        home.display()
    )
}

/// A text of the example, with this machine's shells and repositories. Each swap is one that the
/// example asks for by now; where one finds nothing, the example has changed.
fn swapped(text: &str, below: &Path) -> String {
    let swaps = [
        ("claude: {}", "command: {}".to_owned()),
        ("github: \"example/{{repo}}\"", format!("url: \"{}\"", address(below, "{{repo}}"))),
        ("github: example/docs", format!("url: \"{}\"", address(below, "docs"))),
        ("github: example/api", format!("url: \"{}\"", address(below, "api"))),
    ];
    let swapped = swaps.iter().fold(as_variable(text), |text, (from, to)| text.replace(from, to));
    let rest: Vec<&str> =
        ["claude", "github"].into_iter().filter(|it| swapped.contains(it)).collect();
    assert!(rest.is_empty() && swapped != text, "the example says {rest:?}:\n{swapped}");
    swapped
}

/// Instructions as a variable, in one line and with the same words.
fn as_variable(text: &str) -> String {
    let mut lines = text.lines().peekable();
    let mut out = String::new();
    while let Some(line) = lines.next() {
        let Some((indent, words)) = line.split_once("instructions:") else {
            out += &format!("{line}\n");
            continue;
        };
        let mut words = words.trim().trim_start_matches('|').to_owned();
        while let Some(more) = lines.next_if(|it| it.starts_with(&format!("{indent} "))) {
            words = format!("{words} {}", more.trim());
        }
        out += &format!("{indent}env: [{{name: TOLD, value: \"{}\"}}]\n", words.trim());
    }
    out
}

/// What an agent, or the agents of a template, are told.
pub fn told(spec: &Value) -> &str {
    spec["env"][0]["value"].as_str().unwrap()
}

/// The same as a part of a spec.
pub fn telling(words: &str) -> Value {
    json!({"env": [{"name": "TOLD", "value": words}]})
}

fn address(below: &Path, name: &str) -> String {
    format!("file://{}/{name}.git", below.display())
}

pub fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

pub fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Whether a condition holds, and speaks of the object as it is now.
pub fn is_true(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|it| it["type"] == kind && it["status"] == "True")
}

/// Whether an object is ready as it is declared now.
pub fn is_ready(object: &Value) -> bool {
    is_true(object, "Ready")
        && object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// Whether a sprite is meant to live, and is not over.
fn is_living(sprite: &Value) -> bool {
    sprite["status"].get("exit").is_none_or(Value::is_null)
        && sprite["metadata"].get("deletionTimestamp").is_none_or(Value::is_null)
}
