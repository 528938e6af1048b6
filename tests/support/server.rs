//! A real server process on a data directory of its own, and commands against it.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_open-dispatch");
/// The longest that any command may take before its test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A data directory, a home and a work directory, and the server that runs there by now.
pub struct World {
    root: tempfile::TempDir,
    server: Option<Child>,
}

/// What a command left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, as text.
    pub stderr: String,
}

impl Outcome {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Everything, for a snapshot.
    pub fn whole(&self) -> String {
        format!("{}--- stderr\n{}--- exit code {}\n", self.text(), self.stderr, self.code)
    }
}

impl World {
    /// A world without a server.
    pub fn empty() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("work")).unwrap();
        std::fs::create_dir(root.path().join("home")).unwrap();
        Self { root, server: None }
    }

    /// A world with a server.
    pub fn new() -> Self {
        let mut world = Self::empty();
        world.serve(&[]);
        world
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Where commands are called, and so where jobs work.
    pub fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// The command line, ready for arguments, in a clean environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.root.path().join("home"))
            // Jobs work beside the home, and now and then elsewhere.
            .env("OPEN_DISPATCH_ROOTS", "/")
            .env("OPEN_DISPATCH_DATA", self.data())
            // Whatever is installed on this machine: who names no agent means a shell.
            .env("SPRITE_AGENT_TYPE", "command")
            .current_dir(self.work());
        command
    }

    /// Runs a command to its end.
    pub fn od(&self, args: &[&str]) -> Outcome {
        self.od_with(args, b"")
    }

    /// Runs a command to its end, with something on its standard input.
    pub fn od_with(&self, args: &[&str], stdin: &[u8]) -> Outcome {
        let output = assert_cmd::Command::from_std(self.command(args))
            .timeout(PATIENCE)
            .write_stdin(stdin)
            .output()
            .unwrap();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts a server on a free port, and waits until it listens.
    pub fn serve(&mut self, args: &[&str]) {
        let mut command = self.command(&["serve", "--listen", "0"]);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        loop {
            let Some(Ok(line)) = lines.next() else {
                panic!("the server ended before it listened:\n{}", said.join("\n"));
            };
            if line.starts_with("server at ") {
                break;
            }
            said.push(line);
        }
        // A full pipe would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        self.server = Some(child);
    }

    /// Kills the server as a power cut would.
    pub fn kill_server(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Asks the server to end, and waits until it has; answers with its exit code.
    pub fn stop_server(&mut self, signal: Signal) -> Option<i32> {
        let mut server = self.server.take().unwrap();
        rustix::process::kill_process(Pid::from_child(&server), signal).unwrap();
        server.wait().unwrap().code()
    }

    /// Sends a request whose answer nobody reads, or the beginning of one.
    pub fn ask_and_never_read(&self, request: &str) -> TcpStream {
        let read = |name: &str| std::fs::read_to_string(self.data().join(name)).unwrap();
        let address = read("endpoint").trim().replace("http://", "");
        let request = request.replace("TOKEN", read("token").trim());
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// The server's process id.
    pub fn server_pid(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    /// Starts `run -f` with a task that first prints `ready`, and waits until it has.
    pub fn follow(&self, args: &[&str]) -> Following {
        let mut command = self.command(&["run", "-f"]);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Following { child, stdout }
    }

    /// Writes a file into the work directory.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.work().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Takes from a text what differs from run to run: places, times, ids, ages.
    pub fn tame(&self, text: &str) -> String {
        let root = self.root.path().canonicalize().unwrap();
        let text = text
            .replace(&root.display().to_string(), "ROOT")
            .replace(&self.root.path().display().to_string(), "ROOT");
        text.split_inclusive('\n').map(tame_line).collect()
    }
}

/// A `run -f` under way.
pub struct Following {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Following {
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// What comes until its end.
    pub fn finish(mut self) -> Outcome {
        let mut stdout = Vec::new();
        self.stdout.read_to_end(&mut stdout).unwrap();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Outcome { code, stdout, stderr }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.server.is_none() {
            return;
        }
        // What still runs here must not outlive the test.
        let jobs = self.od(&["get", "jobs,agents", "-o", "name"]);
        let names = jobs.text();
        let mut args = vec!["delete"];
        args.extend(names.lines());
        if args.len() > 1 {
            self.od(&args);
        }
        if let Some(mut server) = self.server.take() {
            let _ = rustix::process::kill_process(Pid::from_child(&server), Signal::TERM);
            let _ = server.wait();
        }
    }
}

/// A word at a time: ages, times and ids become words of the same kind.
fn tame_line(line: &str) -> String {
    let mut tamed = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let word_end = rest.find(is_gap).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(word_end);
        let gap_end = tail.find(|c| !is_gap(c)).unwrap_or(tail.len());
        let (gap, tail) = tail.split_at(gap_end);
        let new = tame_word(word);
        tamed.push_str(&new);
        // Columns keep their place only where words keep their length.
        let column = gap.len() > 1 && gap.bytes().all(|byte| byte == b' ');
        tamed.push_str(if new != word && column { "  " } else { gap });
        rest = tail;
    }
    tamed
}

fn is_gap(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '(' | ')' | ',')
}

fn tame_word(word: &str) -> String {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    // Short times have tenths.
    let bare = word.chars().filter(|c| !matches!(c, '<' | '.')).count();
    let is_age = digits > 0 && word.ends_with('s') && bare == digits + 1;
    let is_time = digits >= 14 && word.starts_with("20") && word.ends_with('Z');
    let is_uid = word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4;
    match word {
        _ if is_age => "AGE".to_owned(),
        _ if is_time => "TIME".to_owned(),
        _ if is_uid => "UID".to_owned(),
        // The sprite of a job: NAME-HEX-N.
        _ => match word.rsplit_once("-1").and_then(|(front, tail)| {
            let (name, hex) = front.rsplit_once('-')?;
            let is_hash = hex.len() == 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
            (tail.is_empty() && is_hash).then(|| format!("{name}-HASH-1"))
        }) {
            Some(name) => name,
            None => word.to_owned(),
        },
    }
}

/// The permissions of a file.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
