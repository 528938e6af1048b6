//! The command line that both binaries share: the small `sprite-reporter`, and `open-dispatch`
//! when it is called by that name.
//!
//! | call | does |
//! |---|---|
//! | `sprite-reporter launch DIR` | starts a reporter for a run directory, apart from the caller; relays its first line |
//! | `sprite-reporter run DIR` | is that reporter |
//! | `sprite-reporter agent ...` | the helper between the fork and the agent ([`crate::process::helper`]) |
//! | `sprite-reporter` | is the first program of a machine of its own ([`crate::boot`]) |
//! | `sprite-reporter machine` | is that program once it has put its token away |
//! | `sprite-reporter --version` | says which version this is, in one line |
//!
//! The token comes on standard input, so that it stands in no argument list and in no environment.
//! The first line on standard output is `ok`, or `error: ` and the cause; then the reporter
//! lets go of its streams, and the caller may go.

use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use crate::{
    boot,
    process::{self, helper},
    run::{Found, Run},
    rundir::RunDir,
    wire::WIRE_VERSION,
};

/// The name under which any binary that links this is the reporter.
pub const PROGRAM: &str = helper::PROGRAM;

/// What a reporter says once it looks after its run.
pub const OK: &str = "ok";

/// What can be called.
const USAGE: &str = "\
usage: sprite-reporter                a machine's first program; what to do stands in its environment
       sprite-reporter launch DIR     starts a reporter for a run directory; the token on stdin
       sprite-reporter run DIR        is that reporter
       sprite-reporter --version";

/// The most bytes of a token.
const MAX_TOKEN_BYTES: u64 = 4096;

/// The line that `--version` prints: a server takes only the reporter that says the same.
#[must_use]
pub fn version() -> String {
    let (version, sources) = (env!("CARGO_PKG_VERSION"), env!("SPRITE_REPORTER_SOURCES"));
    format!("{PROGRAM} {version} (wire {WIRE_VERSION}, sources {sources})")
}

/// Whether a program that was called by this name (its first argument) is to be the reporter.
#[must_use]
pub fn is_called(program: &std::ffi::OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == PROGRAM)
}

/// Runs the command line. The first argument is the program's name.
pub fn main(args: impl IntoIterator<Item = impl Into<OsString>>) -> ExitCode {
    let mut args = args.into_iter().map(Into::into).skip(1);
    let command = args.next().unwrap_or_default();
    if matches!(command.to_str(), Some("launch" | "run" | boot::MACHINE)) {
        process::close_memory();
    }
    match (command.to_str(), args.next()) {
        (Some(helper::SUBCOMMAND), first) => helper::main(first.into_iter().chain(args)),
        (Some("launch"), Some(dir)) => launch(Path::new(&dir)),
        (Some("run"), Some(dir)) => run(dir.into()),
        (Some(""), None) => boot::begin(),
        (Some(boot::MACHINE), None) => boot::main(),
        (Some("--version" | "-V"), None) => {
            println!("{}", version());
            ExitCode::SUCCESS
        }
        (Some("--help" | "-h"), None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Starts `run` in a session that nobody leads but us, and we are about to go.
fn launch(dir: &Path) -> ExitCode {
    match relay(dir) {
        Ok(line) => {
            say(line.trim_end());
            if line.trim_end() == OK { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            say(&format!("error: cannot start the reporter: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn relay(dir: &Path) -> std::io::Result<String> {
    let token = read_token()?;
    // It fails only for a process that leads a session already, which serves as well.
    let _ = rustix::process::setsid();
    process::seal_descriptors();
    let log = File::options().create(true).append(true).open(RunDir::new(dir).log())?;
    let program = if cfg!(target_os = "linux") {
        PathBuf::from("/proc/self/exe")
    } else {
        std::env::current_exe()?
    };
    let mut child = Command::new(program)
        .arg0(PROGRAM)
        .arg("run")
        .arg(dir)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(token.as_bytes())?;
    }
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.is_empty() {
        line = format!(
            "error: the reporter ended without a word; see {}\n",
            RunDir::new(dir).log().display()
        );
    }
    Ok(line)
}

fn read_token() -> std::io::Result<String> {
    let mut token = String::new();
    std::io::stdin().take(MAX_TOKEN_BYTES).read_to_string(&mut token)?;
    Ok(token.trim().to_owned())
}

fn run(dir: PathBuf) -> ExitCode {
    // Without threads of its own, which a run that enters namespaces may not have.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            say(&format!("error: {why}"));
            return ExitCode::FAILURE;
        }
    };
    let inside = runtime.enter();
    let begun =
        read_token().map_err(|error| format!("cannot read the token: {error}")).and_then(|token| {
            match token.as_str() {
                "" => Err("no token came on standard input".to_owned()),
                _ => Run::take(RunDir::new(dir), token).map_err(|error| error.to_string()),
            }
        });
    let found = match begun {
        Ok(found) => found,
        Err(why) => {
            say(&format!("error: {why}"));
            return ExitCode::FAILURE;
        }
    };
    drop(inside);
    say(OK);
    let Found::Run(run) = found else { return ExitCode::SUCCESS };
    let lived = let_go()
        .map_err(|error| error.to_string())
        .and_then(|()| runtime.block_on(run.live()).map_err(|error| error.to_string()));
    match lived {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{PROGRAM}: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Says the first line. A caller that is gone by now shall not keep a run from being lived.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Lets go of the caller's streams, so that it may go.
fn let_go() -> std::io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
