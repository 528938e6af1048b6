//! Git, run as a program of its own: with nothing of its user's settings, one protocol, bounds of
//! time and size, and credentials in its environment alone.
//!
//! Nobody is there to be asked; no hook, no submodule and no filter of anybody's runs, since nothing
//! is ever checked out. A run is a process group: when its time is over the whole of it goes, those
//! that speak to the network as well. It is asked to end first, so that it takes its locks with it.

use std::{io, path::Path, process::Stdio, sync::Arc, time::Duration};

use base64::Engine as _;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};

use super::GitError;
use crate::{
    ambient::Clock,
    resource::{Remote, Way},
};

/// How long git has to end by itself when it is asked to.
const GRACE: Duration = Duration::from_secs(2);
/// How much of what git complains about is kept.
const COMPLAINT: usize = 16 * 1024;
/// A user of so many bytes may be a token.
const TOKEN: usize = 16;

/// What of the server's environment git is given: how programs, keys and the network are found.
const PASSED: [&str; 17] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_EXEC_PATH",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// What git is told whatever it does.
const ALWAYS: [(&str, &str); 13] = [
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_LITERAL_PATHSPECS", "1"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_PROTOCOL_FROM_USER", "0"),
    ("GIT_ADVICE", "0"),
    ("GIT_LFS_SKIP_SMUDGE", "1"),
    ("GIT_SSH_VARIANT", "ssh"),
];

/// How ssh is called: it asks nobody, forwards nothing, and trusts the hosts that its user knows.
const SSH: &str = "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15 \
                   -oServerAliveCountMax=2 -oPermitLocalCommand=no -oClearAllForwardings=yes";

/// What git is configured to, whatever it does.
const SETTINGS: [(&str, &str); 14] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.logAllRefUpdates", "false"),
    ("credential.helper", ""),
    ("credential.interactive", "false"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    // One pack for each fetch, so that one bound of one file bounds it; swept up at once.
    ("fetch.unpackLimit", "1"),
    ("gc.autoPackLimit", "20"),
    ("gc.pruneExpire", "now"),
    ("gc.autoDetach", "false"),
    ("maintenance.autoDetach", "false"),
    // What follows a redirect would be shown the credential.
    ("http.followRedirects", "false"),
    ("commit.gpgSign", "false"),
];

/// How git is run on this machine; cheap to clone.
#[derive(Clone)]
pub(super) struct Runner {
    env: Arc<Vec<(String, String)>>,
    clock: Arc<dyn Clock>,
    /// The largest file that git may write, in bytes.
    largest: u64,
    /// After so long without a byte a transfer ends.
    stalled: Duration,
}

/// One run of git.
pub(super) struct Call<'a> {
    /// Which repository this is about, for people.
    pub(super) name: &'a str,
    /// The repository's directory, where one is there.
    pub(super) dir: Option<&'a Path>,
    /// The arguments, with the verb first.
    pub(super) args: Vec<String>,
    /// What git reads.
    pub(super) stdin: Vec<u8>,
    /// How long it may take.
    pub(super) time: Duration,
    /// The most bytes that it may print.
    pub(super) most: usize,
    /// By which way it may go out, and with what.
    pub(super) way: Option<(&'a Remote, Option<&'a SecretString>)>,
    /// More of the environment.
    pub(super) env: Vec<(&'static str, String)>,
}

impl<'a> Call<'a> {
    /// A run within a mirror that asks nobody outside.
    pub(super) fn within(name: &'a str, dir: &'a Path, args: &[&str]) -> Self {
        Self {
            name,
            dir: Some(dir),
            args: args.iter().map(|it| (*it).to_owned()).collect(),
            stdin: Vec::new(),
            time: Duration::from_secs(60),
            most: 64 * 1024 * 1024,
            way: None,
            env: Vec::new(),
        }
    }

    fn verb(&self) -> String {
        self.args.first().cloned().unwrap_or_default()
    }
}

/// How a run ended by itself.
#[derive(Debug)]
pub(super) struct Done {
    /// Whether it did what it was to do.
    pub(super) ok: bool,
    /// What it printed.
    pub(super) stdout: Vec<u8>,
    /// What it complained about, without credentials.
    pub(super) stderr: String,
    /// Whether it tried to write more than it may.
    pub(super) overflowed: bool,
}

impl Done {
    /// What was printed, as one trimmed text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// The line that says what went wrong.
    pub(super) fn last_word(&self) -> String {
        let lines = || self.stderr.lines().map(str::trim).filter(|line| !line.is_empty());
        let tags = ["remote: ", "fatal: ", "error: "];
        let bare = |line: &str| {
            let line = tags.iter().find_map(|tag| line.strip_prefix(tag)).unwrap_or(line);
            line.trim().to_owned()
        };
        let fatal = lines().find(|line| line.starts_with("fatal: "));
        let error = lines().find(|line| line.starts_with("error: "));
        let word = fatal.or(error).or_else(|| lines().next_back()).map(bare);
        timeless(&word.unwrap_or_else(|| "it said nothing".to_owned()))
    }
}

/// A line without how long it took, which is another at each try and makes the same fault a new one:
/// `Failed to connect to host port 443 after 2033 ms: …`.
fn timeless(line: &str) -> String {
    let Some((front, rest)) = line.split_once(" after ") else { return line.to_owned() };
    let bare = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    match bare.strip_prefix(" ms").filter(|_| bare.len() < rest.len()) {
        Some(behind) => format!("{front}{behind}"),
        None => line.to_owned(),
    }
}

impl Runner {
    pub(super) fn new(
        environment: &[(String, String)],
        clock: Arc<dyn Clock>,
        largest: u64,
        stalled: Duration,
    ) -> Self {
        let ours = environment.iter().filter(|(name, _)| PASSED.contains(&name.as_str())).cloned();
        Self { env: Arc::new(ours.collect()), clock, largest, stalled }
    }

    /// Runs git to its end.
    ///
    /// # Errors
    /// There is no git, it took too long, or it printed too much. That it failed is no error here.
    pub(super) async fn run(&self, call: Call<'_>) -> Result<Done, GitError> {
        let mut child = self.start(&call).map_err(|error| GitError::NoGit(error.to_string()))?;
        let group = Group::of(&child);
        let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // Who reads no more has had enough; the exit code tells.
                let _ = stdin.write_all(&call.stdin).await;
                let _ = stdin.shutdown().await;
            }
        };
        let most = call.most;
        let listen = async {
            let (out, err, ()) = tokio::join!(bounded(out, most), tail(err), feed);
            (out, err, child.wait().await)
        };
        let listened = tokio::select! {
            listened = listen => Some(listened),
            () = self.clock.sleep(call.time) => None,
        };
        let Some((stdout, stderr, status)) = listened else {
            group.signal(Signal::TERM);
            tokio::select! {
                _ = child.wait() => {}
                () = self.clock.sleep(GRACE) => {}
            }
            drop(group);
            let (name, verb) = (call.name.to_owned(), call.verb());
            return Err(GitError::TimedOut { name, verb, seconds: call.time.as_secs() });
        };
        drop(group);
        let status = status.map_err(|error| GitError::NoGit(error.to_string()))?;
        let stdout = stdout.ok_or_else(|| GitError::TooMuch {
            name: call.name.to_owned(),
            what: format!("has more to say than {} MiB (git {})", most >> 20, call.verb()),
        })?;
        let secret = call.way.and_then(|(_, secret)| secret);
        // Of a run that failed this is told as well: a push prints there why the other side refused.
        let stdout = match (status.success(), secret) {
            (false, Some(_)) => {
                masked(String::from_utf8_lossy(&stdout).into_owned(), secret).into_bytes()
            }
            _ => stdout,
        };
        let stderr = masked(String::from_utf8_lossy(&stderr).into_owned(), secret);
        // A shell says of who died by a signal 128 and its number; git says it in words of those
        // that it started.
        let xfsz = rustix::process::Signal::XFSZ.as_raw();
        let overflowed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(xfsz)
            || stderr.contains(&format!("signal {xfsz}"))
            || stderr.contains("File too large");
        Ok(Done { ok: status.success(), stdout, stderr, overflowed })
    }

    /// Runs git, which must do what it is to do.
    ///
    /// # Errors
    /// As [`Runner::run`], and that it failed.
    pub(super) async fn must(&self, call: Call<'_>) -> Result<Done, GitError> {
        let (name, verb) = (call.name.to_owned(), call.verb());
        let done = self.run(call).await?;
        if done.ok { Ok(done) } else { Err(GitError::Failed { name, verb, why: done.last_word() }) }
    }

    fn start(&self, call: &Call<'_>) -> io::Result<Child> {
        let mut command = Command::new("/bin/sh");
        // In blocks of 512 bytes.
        let limit = format!("ulimit -f {} && exec git \"$@\"", self.largest.div_ceil(512));
        command.arg("-c").arg(limit).arg("git").args(&call.args);
        command.env_clear().envs(self.env.iter().map(|(a, b)| (a, b))).envs(ALWAYS);
        command.env("GIT_SSH_COMMAND", SSH);
        let allowed = call.way.map_or("none", |(remote, _)| remote.way.protocol());
        command.env("GIT_ALLOW_PROTOCOL", allowed);
        match call.dir {
            Some(dir) => command.env("GIT_DIR", dir).current_dir(dir),
            // In no repository, whose settings would be read.
            None => command.current_dir("/"),
        };
        command.envs(call.env.iter().map(|(a, b)| (a, b)));
        for (n, (key, value)) in self.settings(call).into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{n}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{n}"), value.expose_secret());
            command.env("GIT_CONFIG_COUNT", (n + 1).to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true).spawn()
    }

    fn settings(&self, call: &Call<'_>) -> Vec<(String, SecretString)> {
        let mut settings: Vec<(String, SecretString)> =
            SETTINGS.iter().map(|(a, b)| ((*a).to_owned(), (*b).into())).collect();
        settings.push(("http.lowSpeedLimit".to_owned(), "1".into()));
        let stalled = self.stalled.as_secs().max(1).to_string();
        settings.push(("http.lowSpeedTime".to_owned(), stalled.into()));
        if let Some((remote, Some(token))) = call.way
            && matches!(remote.way, Way::Https | Way::Http)
            && let Some(origin) = remote.origin()
        {
            let header = format!("Authorization: Basic {}", basic(token));
            settings.push((format!("http.{origin}.extraHeader"), header.into()));
        }
        settings
    }
}

/// What stands behind `Basic`: a token by the name that GitHub gives it, or `user:password`.
fn basic(secret: &SecretString) -> String {
    let secret = secret.expose_secret();
    let pair = match secret.contains(':') {
        true => secret.to_owned(),
        false => format!("x-access-token:{secret}"),
    };
    base64::engine::general_purpose::STANDARD.encode(pair)
}

/// A text without a credential in it, should a server have said it back.
fn masked(text: String, secret: Option<&SecretString>) -> String {
    let Some(secret) = secret.filter(|it| !it.expose_secret().is_empty()) else { return text };
    let text = text.replace(&basic(secret), "***").replace(secret.expose_secret(), "***");
    // The other side sees a user and a password each by itself, and some take a token as the user.
    let Some((user, password)) = secret.expose_secret().split_once(':') else { return text };
    let text = if password.is_empty() { text } else { text.replace(password, "***") };
    if user.len() < TOKEN { text } else { text.replace(user, "***") }
}

/// Everything, if it is no more than this; else it is read no further, and whoever writes gets a
/// broken pipe.
async fn bounded(from: Option<impl AsyncRead + Unpin>, most: usize) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let _ = from?.take(limit).read_to_end(&mut all).await;
    (all.len() <= most).then_some(all)
}

/// The end of what is said, however much that is.
async fn tail(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    let Some(mut from) = from else { return all };
    while let Ok(n @ 1..) = from.read(&mut piece).await {
        all.extend_from_slice(&piece[..n]);
        if all.len() > 2 * COMPLAINT {
            all.drain(..all.len() - COMPLAINT);
        }
    }
    all
}

/// A process group; it goes when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // One that is gone already needs none.
            let _ = kill_process_group(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_back_of_a_credential_is_not_told() {
        let secret = SecretString::from("s3cret-token");
        let said = format!("fatal: no to s3cret-token and {}", basic(&secret));
        assert_eq!(masked(said, Some(&secret)), "fatal: no to *** and ***");
        assert_eq!(masked("as it is".to_owned(), Some(&"".into())), "as it is");
    }

    #[test]
    fn a_password_is_not_told_by_itself_and_a_token_as_the_user_neither() {
        let secret = SecretString::from("git:hunter22");
        assert_eq!(masked("git: no to hunter22".to_owned(), Some(&secret)), "git: no to ***");
        let secret = SecretString::from("0123456789abcdef:x-oauth");
        assert_eq!(masked("0123456789abcdef, x-oauth".to_owned(), Some(&secret)), "***, ***");
    }

    #[tokio::test]
    async fn what_a_failed_run_prints_is_told_without_the_credential() {
        let path = std::env::var("PATH").unwrap_or_default();
        let clock = Arc::new(crate::ambient::SystemClock);
        let time = Duration::from_secs(20);
        let runner = Runner::new(&[("PATH".to_owned(), path)], clock, 1 << 20, time);
        let remote = Remote::parse("https://127.0.0.1/a/b").unwrap();
        let secret = SecretString::from("s3cret-token");
        // An alias of the shell's stands for a remote that says back what it was shown.
        let say = "alias.say=!echo '!\tno to s3cret-token'; false";
        let args = ["-c", say, "say"];
        let call = Call {
            way: Some((&remote, Some(&secret))),
            ..Call::within("b", Path::new("/"), &args)
        };
        let done = runner.run(Call { dir: None, ..call }).await.unwrap();
        assert!(!done.ok);
        assert!(done.text().starts_with("!") && done.text().contains("no to ***"), "{done:?}");
    }

    #[test]
    fn a_secret_with_a_colon_is_user_and_password() {
        assert_eq!(basic(&"a:b".into()), "YTpi");
        assert_eq!(basic(&"t".into()), "eC1hY2Nlc3MtdG9rZW46dA==");
    }

    #[test]
    fn the_last_word_is_what_was_fatal() {
        let done = |stderr: &str| Done {
            ok: false,
            stdout: Vec::new(),
            stderr: stderr.to_owned(),
            overflowed: false,
        };
        let stderr = "remote: x\nfatal: it is\nmore of that\n";
        assert_eq!(done(stderr).last_word(), "it is");
        assert_eq!(done("").last_word(), "it said nothing");
    }
}
