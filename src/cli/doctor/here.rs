//! What doctor looks at on this machine.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use super::Check;
use crate::{
    ambient::{Clock as _, SystemClock},
    cli::{
        client::{AS_JSON, Client, Place, collection},
        error::Error,
    },
    config::Config,
    resource::{Kind, resolve::is_program},
};

/// How long a program may take to say its version.
const VERSION_TIME: Duration = Duration::from_secs(10);

/// An agent CLI: its program, what shows that it is logged in (a file below the home, a variable),
/// and how to log in.
struct Cli {
    program: &'static str,
    file: &'static str,
    variables: &'static [&'static str],
    login: &'static str,
}

const CLIS: [Cli; 4] = [
    Cli {
        program: "claude",
        file: ".claude/.credentials.json",
        variables: &["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"],
        login: "run claude once and log in, or set ANTHROPIC_API_KEY",
    },
    Cli {
        program: "opencode",
        file: ".local/share/opencode/auth.json",
        variables: &["OPENCODE_AUTH_JSON", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"],
        login: "run opencode auth login, or set the key of a provider",
    },
    Cli {
        program: "codex-acp",
        file: ".codex/auth.json",
        variables: &["OPENAI_API_KEY", "CODEX_API_KEY"],
        login: "run codex login, or set OPENAI_API_KEY",
    },
    Cli {
        program: "gemini",
        file: ".gemini/oauth_creds.json",
        variables: &["GEMINI_API_KEY"],
        login: "run gemini once and log in, or set GEMINI_API_KEY",
    },
];

/// All of them.
pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let mut checks = vec![data(&config.data.value)];
    let place = Place::Data(config.data.value.clone());
    let (server, runs) = server(place).await;
    checks.extend(port(config, runs));
    checks.push(server);
    if runs {
        checks.extend(objects(&config.data.value).await);
    }
    checks.push(git(config).await);
    checks.push(landlock(std::fs::read_to_string("/sys/kernel/security/lsm").ok().as_deref()));
    checks.extend(agents(config).await);
    checks
}

/// Whether the data directory can be written, or made.
fn data(path: &Path) -> Check {
    const NAME: &str = "data directory";
    let shown = path.display();
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let mend = "name another one with --data or OPEN_DISPATCH_DATA, or mend its owner and mode";
    if !there.is_dir() {
        return Check::fails(NAME, format!("{} is no directory", there.display()), mend);
    }
    use rustix::fs::{Access, access};
    match access(there, Access::WRITE_OK | Access::EXEC_OK) {
        Err(error) => {
            let found = format!("{} cannot be written: {error}", there.display());
            Check::fails(NAME, found, mend)
        }
        Ok(()) if there == path => Check::ok(NAME, shown.to_string()),
        Ok(()) => Check::ok(NAME, format!("{shown}, which serve makes")),
    }
}

/// Whether the server answers, and whether one runs at all.
async fn server(place: Place) -> (Check, bool) {
    const NAME: &str = "server";
    let asked = match Client::new(place) {
        Ok(client) => client.get("/ready", &[], AS_JSON).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(_) => (Check::ok(NAME, "it runs, and is ready"), true),
        Err(Error::NotRunning { .. } | Error::Unreachable { .. }) => {
            let mend = "start it with open-dispatch serve";
            (Check::note(NAME, "it does not run on this data directory", mend), false)
        }
        Err(Error::Api { code: 503, .. }) => {
            let mend = "see what /ready says, and its log";
            (Check::fails(NAME, "it runs, and is not ready", mend), true)
        }
        Err(error) => (Check::fails(NAME, error.to_string(), "see its log"), true),
    }
}

/// Whether the server can read all that it keeps. One row that cannot be read hides all of its kind, and
/// what the server says of it names it.
async fn objects(data: &Path) -> Vec<Check> {
    const NAME: &str = "objects";
    let Ok(client) = Client::new(Place::Data(data.to_owned())) else { return Vec::new() };
    let mut checks = Vec::new();
    for kind in Kind::ALL {
        if let Err(error @ Error::Api { .. }) = client.get(&collection(kind), &[], AS_JSON).await {
            let found = format!("{} cannot be listed: {error}", kind.plural());
            checks.push(Check::fails(NAME, found, ""));
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, "all can be read"));
    }
    checks
}

/// Whether the port is free, where our server does not hold it.
fn port(config: &Config, runs: bool) -> Option<Check> {
    const NAME: &str = "port";
    let address = config.listen.value;
    if runs {
        return None;
    }
    Some(match std::net::TcpListener::bind(address) {
        Ok(_) => Check::ok(NAME, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let mend = "stop it, or listen elsewhere with --listen or WEBHOOK_PORT";
            Check::fails(NAME, format!("{address} is in use by another program"), mend)
        }
        Err(error) => {
            let mend = "choose another address with --listen";
            Check::fails(NAME, format!("cannot listen on {address}: {error}"), mend)
        }
    })
}

async fn git(config: &Config) -> Check {
    const NAME: &str = "git";
    let mend = "install git; agents with a repository or a worktree need it";
    match find(config, "git") {
        None => Check::fails(NAME, "it is not on the PATH", mend),
        Some(path) => match version(&path).await {
            Ok(version) => Check::ok(NAME, version),
            Err(why) => Check::fails(NAME, why, mend),
        },
    }
}

/// Whether `isolation: sandbox` can work, by the kernel's list of security modules.
fn landlock(modules: Option<&str>) -> Check {
    const NAME: &str = "sandbox";
    let mend = "agents with isolation: sandbox cannot start here; it takes Linux 6.2 or newer \
                with landlock in lsm=";
    match modules {
        Some(modules) if modules.trim().split(',').any(|it| it == "landlock") => {
            Check::ok(NAME, "Landlock is there")
        }
        Some(_) => Check::note(NAME, "this kernel has no Landlock", mend),
        None => Check::note(NAME, "it cannot be told whether the kernel has Landlock", mend),
    }
}

async fn agents(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    for cli in &CLIS {
        let Some(path) = find(config, cli.program) else { continue };
        checks.push(match version(&path).await {
            Err(why) => Check::fails(cli.program, why, format!("install {} anew", cli.program)),
            Ok(version) if is_logged_in(config, cli) => Check::ok(cli.program, version),
            Ok(version) => {
                let found = format!("{version}, and nothing shows that it is logged in");
                Check::note(cli.program, found, cli.login)
            }
        });
    }
    if checks.is_empty() {
        let mend = "install claude, opencode, codex-acp or gemini for the user who runs the \
                    server, or work with --agent command alone";
        checks.push(Check::note("agents", "no agent CLI is on the PATH", mend));
    }
    checks
}

fn is_logged_in(config: &Config, cli: &Cli) -> bool {
    let said = |name: &&str| variable(config, name).is_some_and(|value| !value.is_empty());
    let home = variable(config, "HOME").map(PathBuf::from).unwrap_or_default();
    cli.variables.iter().any(said) || home.join(cli.file).is_file()
}

pub(super) fn variable<'a>(config: &'a Config, name: &str) -> Option<&'a str> {
    let found = config.environment.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
}

fn find(config: &Config, program: &str) -> Option<PathBuf> {
    let path = variable(config, "PATH")?;
    std::env::split_paths(path).map(|at| at.join(program)).find(|path| is_program(path))
}

/// The first line that a program says of its version.
async fn version(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let mut command = tokio::process::Command::new(path);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::select! {
        output = command.output() => output.map_err(|error| format!("{shown} does not run: {error}"))?,
        () = SystemClock.sleep(VERSION_TIME) => {
            return Err(format!("{shown} --version has not answered for {} s", VERSION_TIME.as_secs()));
        }
    };
    if !output.status.success() {
        return Err(format!("{shown} --version fails: {}", output.status));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no version");
    Ok(format!("{} ({shown})", line.chars().take(80).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::State;

    #[test]
    fn a_kernel_without_landlock_is_told() {
        assert_eq!(landlock(Some("lockdown,landlock,yama\n")).state, State::Ok);
        assert_eq!(landlock(Some("capability,nolandlock")).state, State::Note);
        assert_eq!(landlock(None).state, State::Note);
    }

    #[test]
    fn a_data_directory_that_is_none_fails() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(data(&dir.path().join("a/b")).state, State::Ok);
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(data(&dir.path().join("file/b")).state, State::Fails);
    }
}
