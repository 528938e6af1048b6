//! `dev-fly`: Fly's Machines API, played on this computer.
//!
//! Whoever has its token runs any program as the user who started it. So the token is drawn, and kept
//! in its directory, where that user alone reads it; the settings that it prints stay the same from
//! one start to the next.

use std::{
    fs::DirBuilder,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::broadcast::error::RecvError,
};
use url::Url;

use super::{error::Error, out};
use crate::{
    dev_fly::{DevFly, DevFlyConfig, Found, Guest, Line, Switches},
    token::secret_file,
};

/// The file of its directory that holds the token.
const TOKEN_FILE: &str = "token";
/// The image that it prints; every name does.
const IMAGE: &str = "registry.fly.io/sprites:dev-fly";

/// `dev-fly`.
#[derive(Debug, Clone, Args)]
pub struct DevFlyArgs {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4280")]
    pub listen: SocketAddr,
    /// Where machines and volumes lie [default: open-dispatch-dev-fly in the state directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The app that is there from the start
    #[arg(long, value_name = "NAME", default_value = "sprites")]
    pub app: String,
    /// How the machines reach the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub server: Url,
    /// How long a new machine pulls its image, in which it is `created`
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    pub boot_time: Duration,
    /// How far lists lie behind the truth
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time)]
    pub list_lag: Duration,
    /// Of a hundred creates, how many get no answer that says whether they were done
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub ambiguous: u8,
    /// What else goes wrong; can be given several times
    #[arg(long = "fault", value_name = "FAULT", value_parser = fault)]
    pub faults: Vec<String>,
}

fn time(text: &str) -> Result<Duration, String> {
    let length = text.parse::<jiff::SignedDuration>().map_err(|_| "write 500ms, 2s or 1m")?;
    Duration::try_from(length).map_err(|_| "a time is not negative".to_owned())
}

fn fault(text: &str) -> Result<String, String> {
    Switches::default().set_word(text).map(|()| text.to_owned())
}

/// The settings of a server that uses it.
fn settings(fly: &Url, token: &str, args: &DevFlyArgs) -> String {
    let plain = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
    [
        ("FLY_API_TOKEN", format!("'{token}'")),
        ("FLY_SPRITE_APP", args.app.clone()),
        ("FLY_FLAPS_BASE_URL", plain(fly)),
        ("SPRITE_IMAGE", IMAGE.to_owned()),
        ("OPEN_DISPATCH_URL", plain(&args.server)),
    ]
    .map(|(name, value)| format!("export {name}={value}\n"))
    .concat()
}

/// What lay there, where anything did.
fn leftovers(found: &Found) -> Option<String> {
    if found.machines.is_empty() && found.volumes.is_empty() && found.processes == 0 {
        return None;
    }
    let count = |number: usize, one: &str, many: &str| {
        format!("{number} {}", if number == 1 { one } else { many })
    };
    Some(format!(
        "from a dev-fly before this one: {} removed, {} killed, {} there again",
        count(found.machines.len(), "machine", "machines"),
        count(found.processes, "process", "processes"),
        count(found.volumes.len(), "volume", "volumes"),
    ))
}

fn event(line: &Line) -> String {
    let at = line.at.strftime("%H:%M:%S%.3f");
    let id = if line.id.is_empty() { "-" } else { &line.id };
    format!("{at} {id} {}", line.text)
}

fn directory(args: &DevFlyArgs) -> Result<PathBuf, Error> {
    if let Some(dir) = &args.dir {
        return Ok(dir.clone());
    }
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state = state.or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("open-dispatch-dev-fly")).ok_or_else(|| {
        Error::Usage("there is no place for the machines; name one with --dir".to_owned())
    })
}

/// The token that opens the fake of a directory, in the form that Fly prints; drawn where there is
/// none.
fn token(directory: &Path) -> Result<String, Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::Serve(format!("dev-fly cannot keep its token in {}: {error}", directory.display()))
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| failed(&error))?;
    let secret = secret_file(&directory.join(TOKEN_FILE)).map_err(|error| failed(&error))?;
    Ok(format!("FlyV1 fm2_{secret}"))
}

/// Runs `dev-fly` until it is told to stop.
///
/// # Errors
/// An address or directory that cannot be used.
pub fn run(args: DevFlyArgs) -> Result<u8, Error> {
    let failed = |error: std::io::Error| Error::Serve(format!("dev-fly cannot run: {error}"));
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failed)?
        .block_on(up(args))
}

async fn up(args: DevFlyArgs) -> Result<u8, Error> {
    let failed = |error: std::io::Error| Error::Serve(format!("dev-fly cannot run: {error}"));
    let reporter = std::env::current_exe().map_err(failed)?;
    let directory = directory(&args)?;
    let token = token(&directory)?;
    let mut config = DevFlyConfig::new(directory, Guest::Processes { reporter });
    config.listen = args.listen;
    config.app.clone_from(&args.app);
    config.token = secrecy::SecretString::from(token.as_str());
    config.habits.pull = args.boot_time;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let fly = DevFly::start(config).await.map_err(|error| Error::Serve(error.to_string()))?;
    let mut lines = fly.lines();
    let faults = args.faults.clone();
    fly.faults().set(|switches| {
        switches.list_lag = args.list_lag;
        switches.lost_percent = args.ambiguous;
        for word in &faults {
            // Each was read before.
            let _ = switches.set_word(word);
        }
    });
    if let Some(text) = leftovers(fly.found()) {
        out::note(text);
    }
    out::data(settings(&fly.url(), &token, &args))?;
    out::hint("Ctrl-C ends it, and its machines");
    let done = loop {
        tokio::select! {
            line = lines.recv() => match line {
                Ok(line) => if let Err(error) = out::line(event(&line)) {
                    break Err(error);
                },
                Err(RecvError::Lagged(missed)) => out::note(format!("{missed} lines are left out")),
                Err(RecvError::Closed) => break Ok(0),
            },
            _ = interrupted.recv() => break Ok(0),
            _ = terminated.recv() => break Ok(0),
        }
    };
    for violation in fly.violations() {
        out::note(format!("a request did not fit the schema: {violation}"));
    }
    fly.shutdown().await;
    done
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Words {
        #[command(flatten)]
        args: DevFlyArgs,
    }

    #[test]
    fn what_it_prints_is_what_a_server_needs() {
        let words = Words::try_parse_from(["dev-fly"]).unwrap();
        let url = Url::parse("http://127.0.0.1:4280/").unwrap();
        insta::assert_snapshot!(settings(&url, "FlyV1 fm2_drawn", &words.args));
    }

    #[test]
    fn its_token_is_drawn_once_for_a_directory_and_nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let (one, other) = (place.path().join("deep/one"), place.path().join("other"));
        let first = token(&one).unwrap();
        assert!(first.starts_with("FlyV1 fm2_") && first.len() > 50, "{first}");
        assert_eq!(token(&one).unwrap(), first);
        assert_ne!(token(&other).unwrap(), first);
        let file = one.join(TOKEN_FILE);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&one), mode(&file)), (0o700, 0o600));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(token(&one).unwrap_err().to_string().contains("can be read by others"));
    }

    #[test]
    fn what_was_left_behind_is_told_and_nothing_is_not() {
        assert_eq!(leftovers(&Found::default()), None);
        let found = Found {
            processes: 1,
            machines: vec!["a".into(), "b".into()],
            volumes: vec!["v".into()],
        };
        insta::assert_snapshot!(leftovers(&found).unwrap());
    }

    #[test]
    fn words_that_mean_nothing_are_refused_before_anything_starts() {
        let refused = |word: &str, value: &str| {
            Words::try_parse_from(["dev-fly", word, value]).unwrap_err().to_string()
        };
        assert!(refused("--fault", "full-regoin=iad").contains("full-region=REGION"));
        assert!(refused("--boot-time", "soon").contains("write 500ms, 2s or 1m"));
        assert!(refused("--ambiguous", "101").contains("101"));
    }
}
