//! Real clients of the API: where they lie, and how they reach a server.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::{
    io::{self, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::server::World;

/// Where `tests/clients/install` put them.
fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Says that a test is skipped, past the harness's capture; in CI, where everything has to be
/// there, it fails.
fn skipped(lack: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let lack = format!("{test}: {lack} is not installed; run tests/clients/install");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{lack}");
    let _ = writeln!(io::stderr(), "SKIPPED {lack}");
}

/// The kubectl that the variable `TOUR_KUBECTL` names; else Debian's; where there is none, the one
/// on the path, which is told.
fn kubectl() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("TOUR_KUBECTL") {
        return Some(named.into());
    }
    let ours = clients().join("kubectl/usr/bin/kubectl");
    if ours.is_file() {
        return Some(ours);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|place| place.join("kubectl"));
    let found = found.into_iter().find(|place| place.is_file());
    match &found {
        Some(place) => {
            let _ = writeln!(io::stderr(), "NOTE: this test uses {}", place.display());
        }
        None => skipped("kubectl"),
    }
    found
}

/// A server with a client's kubeconfig for it, which holds over restarts: between the two stands a
/// door that passes bytes on to wherever the server listens at that moment.
pub struct Rig {
    pub world: World,
    door: Door,
    kubectl: Option<PathBuf>,
    pub kubeconfig: PathBuf,
}

impl Rig {
    /// A server, and a kubeconfig with this role.
    pub fn new(role: &str) -> Self {
        let world = World::new();
        let door = Door::open(world.data().join("endpoint"));
        let mut rig = Self { kubeconfig: PathBuf::new(), world, door, kubectl: None };
        rig.kubeconfig = rig.as_role(role);
        rig
    }

    /// A server for kubectl; nothing where there is no kubectl.
    pub fn of_kubectl() -> Option<Self> {
        let kubectl = kubectl()?;
        let mut rig = Self::new("admin");
        rig.kubectl = Some(kubectl);
        Some(rig)
    }

    /// A kubeconfig with another role.
    pub fn as_role(&self, role: &str) -> PathBuf {
        let path = self.world.work().join(format!("{role}.kubeconfig"));
        let address = format!("https://127.0.0.1:{}", self.door.port);
        let file = path.display().to_string();
        let words =
            ["kubeconfig", "--name", role, "--role", role, "--address", &address, "--file", &file];
        let made = self.world.od(&words);
        assert_eq!(made.code, 0, "{}", made.stderr);
        path
    }

    /// A program with the kubeconfig in its environment.
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.world.work())
            .env("KUBECONFIG", &self.kubeconfig)
            .current_dir(self.world.work())
            .stdin(Stdio::null());
        command
    }

    /// kubectl, ready to run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(self.kubectl.as_ref().unwrap());
        command.args(args);
        command
    }

    /// Runs kubectl to its end.
    pub fn run(&self, args: &[&str]) -> Said {
        Said::of(args, &self.command(args).output().unwrap())
    }

    /// Runs kubectl, which has to succeed; gives its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.code, 0, "{said:?}");
        said.out
    }

    /// The minor version of kubectl.
    pub fn minor(&self) -> u32 {
        let told = self.ok(&["version", "--client", "-o", "json"]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let minor = told["clientVersion"]["minor"].as_str().unwrap();
        minor.trim_end_matches('+').parse().unwrap()
    }

    /// Whether this kubectl knows something that came with a minor version; where not, that is
    /// said past the harness's capture.
    pub fn knows(&self, since: u32, what: &str) -> bool {
        let minor = self.minor();
        if minor < since {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            let _ = writeln!(
                io::stderr(),
                "NOTE: {test}: kubectl 1.{minor} does not know {what}, which came with 1.{since}"
            );
        }
        minor >= since
    }

    /// A Python with the client library of Kubernetes and schemathesis.
    pub fn python(&self) -> Option<Command> {
        let place = clients().join("python");
        if !place.join("kubernetes").is_dir() {
            skipped("the Python client");
            return None;
        }
        let mut command = self.program("python3");
        let paths = std::env::join_paths([place, clients()]).unwrap();
        command.env("PYTHONPATH", paths).env("PYTHONDONTWRITEBYTECODE", "1");
        Some(command)
    }

    /// A Node.js that finds the client library of Kubernetes.
    pub fn node(&self) -> Option<Command> {
        if !clients().join("node_modules/@kubernetes/client-node").is_dir() {
            skipped("the Node.js client");
            return None;
        }
        Some(self.program("node"))
    }

    /// A script beside the clients.
    pub fn script(name: &str) -> PathBuf {
        clients().join(name)
    }
}

/// What a client said.
#[derive(Debug)]
pub struct Said {
    pub args: Vec<String>,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(args: &[&str], output: &Output) -> Self {
        Self {
            args: args.iter().map(ToString::to_string).collect(),
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A port that leads to wherever the server listens at that moment, and hangs up where it does not.
struct Door {
    port: u16,
    closed: Arc<AtomicBool>,
}

impl Door {
    fn open(endpoint: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let closed = Arc::new(AtomicBool::new(false));
        let is_closed = Arc::clone(&closed);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_closed.load(Ordering::Relaxed) {
                    return;
                }
                let endpoint = endpoint.clone();
                std::thread::spawn(move || pass(stream, &endpoint));
            }
        });
        Self { port, closed }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn pass(client: TcpStream, endpoint: &Path) {
    let Ok(address) = std::fs::read_to_string(endpoint) else { return };
    let Ok(server) = TcpStream::connect(address.trim().trim_start_matches("http://")) else {
        return;
    };
    let both = [(&client, &server), (&server, &client)]
        .map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap()));
    for (mut from, mut to) in both {
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
            let _ = from.shutdown(std::net::Shutdown::Both);
        });
    }
}
