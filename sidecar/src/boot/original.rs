//! The original's contract: what a machine without `OPEN_DISPATCH_CLAIM` is to do stands in its
//! variables, and is told in the original's words.
//!
//! | variable | what it says |
//! |---|---|
//! | `COMMAND` | the agent's command line, for a shell; without one the job fails, and is told so |
//! | `REPO`, `BRANCH` | what to clone into the work directory first: `owner/repo` of GitHub, or an address |
//! | `GH_TOKEN` | opens that |
//! | `WORKDIR` | where to work; `/workspace` |
//! | `OUTPUT_FORMATTER` | a program of `/usr/local/bin/formatters` that the output passes, or `opencode` |
//!
//! Such a job is one run, lived as any other: with its process tree, its mask, and its spool.

use std::path::Path;

use super::{heritage::Heritage, place::Place};
use crate::{
    ambient,
    report::{Address, Format, refuse_as_original},
    wire::{AgentSpec, Permissions, RepoSpec, RunSpec},
};

/// Where the original's image has its formatters.
const FORMATTERS: &str = "/usr/local/bin/formatters";
/// The shape that is built in.
const OPENCODE: &str = "opencode";

/// What the variables ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    task: String,
    repo: Option<RepoSpec>,
    workdir: String,
    /// How the output is shaped.
    pub format: Format,
    /// What is worth saying, and no reason to stop.
    pub warnings: Vec<String>,
}

impl Asked {
    /// Reads the variables.
    ///
    /// # Errors
    /// That no command is among them.
    pub fn of(heritage: &Heritage, place: &Place) -> Result<Self, String> {
        let command = heritage.value("COMMAND").ok_or("No COMMAND specified")?;
        let branch = heritage.value("BRANCH").map(str::to_owned);
        let repo = heritage.value("REPO").map(|repo| RepoSpec { url: address_of(repo), branch });
        let mut asked = Self {
            // One stream, as the original has it: what is printed to two comes in the order it was.
            task: format!("exec 2>&1\n{command}"),
            repo,
            workdir: Place::workspace(heritage),
            format: Format::Plain,
            warnings: Vec::new(),
        };
        if let Some(name) = heritage.value("OUTPUT_FORMATTER") {
            asked.shape_by(name, &place.below(FORMATTERS));
        }
        Ok(asked)
    }

    /// Lets the output pass a formatter.
    fn shape_by(&mut self, name: &str, formatters: &Path) {
        let is_name =
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let script = formatters.join(format!("{name}.js"));
        let program = formatters.join(name);
        let filter = match () {
            () if !is_name => None,
            () if script.is_file() => Some(format!("node {}", quoted(&script))),
            () if program.is_file() => Some(quoted(&program)),
            () => None,
        };
        match filter {
            Some(filter) => self.task = piped(&filter),
            None if name == OPENCODE => self.format = Format::Opencode,
            None => self.warnings.push(format!(
                "OUTPUT_FORMATTER names {name:?}, and there is no such program in {}; the output \
                 stays as it is",
                formatters.display()
            )),
        }
    }

    /// What that is to do.
    #[must_use]
    pub fn spec(&self, job_id: &str, server: &str) -> RunSpec {
        RunSpec {
            job_id: job_id.to_owned(),
            run: 1,
            installation: String::new(),
            server: Some(server.to_owned()),
            endpoint_file: None,
            agent: AgentSpec::Command { shell: None },
            task: Some(self.task.clone()),
            workdir: self.workdir.clone(),
            repo: self.repo.clone(),
            permissions: Permissions::default(),
            env: Vec::new(),
            timeout_ms: None,
            idle_timeout_ms: None,
            session: None,
            hide: Vec::new(),
            worktree: None,
            sandbox: None,
            attachments: None,
            artifacts: None,
        }
    }
}

/// Tells the server that the job cannot begin. It is told once, as the original does.
pub(super) async fn refuse(address: &Address, why: &str) {
    let patience = std::time::Duration::from_secs(30);
    tokio::select! {
        () = refuse_as_original(address, why) => {}
        () = ambient::sleep(patience) => {}
    }
}

/// `owner/repo` is GitHub's; what has a scheme, a host or a place of its own stays.
fn address_of(repo: &str) -> String {
    let is_short =
        repo.split('/').count() == 2 && !repo.contains(':') && !repo.starts_with(['/', '.', '~']);
    if is_short { format!("https://github.com/{repo}.git") } else { repo.to_owned() }
}

/// The command with its output through a filter, and the command's own exit code: a plain shell
/// has no word for that, so the code takes a way around the filter.
fn piped(filter: &str) -> String {
    format!(
        "exec 4>&1; code=$({{ {{ (eval \"$COMMAND\") 2>&1 4>&-; echo $? >&3; }} | {filter} >&4; }} \
         3>&1); exit \"$code\""
    )
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A spec that says nothing.
    pub(in crate::boot) fn spec() -> RunSpec {
        let heritage = Heritage::of(&[("COMMAND", "true"), ("SPRITE_ROOT", "/nowhere")]);
        let place = Place::find(&heritage).unwrap();
        Asked::of(&heritage, &place).unwrap().spec("job", "http://127.0.0.1:1")
    }

    fn asked(variables: &[(&str, &str)], root: &Path) -> Result<Asked, String> {
        let mut all = vec![("SPRITE_ROOT", root.to_str().unwrap())];
        all.extend(variables);
        let heritage = Heritage::of(&all);
        Asked::of(&heritage, &Place::find(&heritage).unwrap())
    }

    #[test]
    fn the_variables_say_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let all = [("COMMAND", "claude -p 'hi'"), ("REPO", "o/r"), ("BRANCH", "b")];
        let job = asked(&all, root.path()).unwrap();
        let repo = RepoSpec { url: "https://github.com/o/r.git".into(), branch: Some("b".into()) };
        assert_eq!(job.repo, Some(repo));
        assert_eq!(
            (job.task.as_str(), job.workdir.as_str()),
            ("exec 2>&1\nclaude -p 'hi'", "/workspace")
        );
        assert_eq!(asked(&[("COMMAND", " ")], root.path()).unwrap_err(), "No COMMAND specified");
        for whole in ["https://git.example/o/r", "git@github.com:o/r", "/srv/r", "./r", "file:///r"]
        {
            assert_eq!(address_of(whole), whole);
        }
    }

    #[test]
    fn a_formatter_is_a_program_or_built_in_or_missed_and_said() {
        let root = tempfile::tempdir().unwrap();
        let of = |name: &str| {
            asked(&[("COMMAND", "x"), ("OUTPUT_FORMATTER", name)], root.path()).unwrap()
        };
        assert_eq!(of("opencode").format, Format::Opencode);
        for missing in ["other", "../../bin/sh"] {
            assert_eq!(
                (of(missing).warnings.len(), of(missing).task),
                (1, "exec 2>&1\nx".to_owned())
            );
        }
        let formatters = root.path().join("usr/local/bin/formatters");
        std::fs::create_dir_all(&formatters).unwrap();
        std::fs::write(formatters.join("upper"), "").unwrap();
        assert!(of("upper").task.contains("formatters/upper'"), "{}", of("upper").task);
    }

    #[test]
    fn what_passes_a_filter_keeps_its_exit_code() {
        let run = |command: &str| {
            let script = piped("tr a-z A-Z");
            let done = std::process::Command::new("sh")
                .args(["-c", &script])
                .env("COMMAND", command)
                .output()
                .unwrap();
            (done.status.code(), String::from_utf8(done.stdout).unwrap())
        };
        assert_eq!(run("echo out; echo err >&2; exit 3"), (Some(3), "OUT\nERR\n".to_owned()));
        assert_eq!(run("echo 'it''s'"), (Some(0), "ITS\n".to_owned()));
    }
}
