//! The real server beside a fake Fly whose machines are real processes with the real reporter.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use open_dispatch::dev_fly::{DevFly, DevFlyConfig, Guest, MachineTruth};
use tokio::{io::copy_bidirectional, net::TcpListener, net::TcpStream, task::JoinHandle};

use crate::live::Live;

/// A cloud on this computer, and the way from its machines to the server.
pub struct Cloud {
    pub fly: DevFly,
    /// Where machines reach the server, across its restarts.
    pub door: String,
    dir: PathBuf,
    road: JoinHandle<()>,
}

impl Cloud {
    /// A cloud below a directory, for the server whose data lies in another.
    pub async fn new(dir: &Path, data: &Path) -> Self {
        Self::with(dir, data, |_| {}).await
    }

    /// The same, otherwise.
    pub async fn with(dir: &Path, data: &Path, told: impl FnOnce(&mut DevFlyConfig)) -> Self {
        let bin = dir.join("bin");
        std::fs::create_dir_all(&bin).expect("a directory");
        let reporter = bin.join("sprite-reporter");
        symlink(env!("CARGO_BIN_EXE_open-dispatch"), &reporter).expect("a link");
        let guest = Guest::Processes { reporter };
        let dir = dir.join("cloud");
        let mut config = DevFlyConfig::new(&dir, guest);
        told(&mut config);
        let fly = DevFly::start(config).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let door = format!("http://{}", listener.local_addr().expect("an address"));
        let road = tokio::spawn(lead(listener, data.join("endpoint")));
        Self { fly: fly.expect("the cloud starts"), door, dir, road }
    }

    /// The variables that tell a server of this cloud.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("FLY_API_TOKEN", "FlyV1 fm2_dev_fly"),
            ("FLY_SPRITE_APP", "sprites"),
            ("SPRITE_IMAGE", "registry.fly.io/sprites/agent:v1"),
            ("FLY_FLAPS_BASE_URL", self.fly.url().as_str()),
            ("OPEN_DISPATCH_URL", self.door.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// The server, told of this cloud; with more variables.
    pub async fn server(&self, data: &Path, more: &[(&str, &str)]) -> Live {
        let env = self.env();
        let mut env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        env.extend_from_slice(more);
        Live::start(data, &[], &env).await
    }

    /// The machines of an Agent or a Job, by its uid.
    pub fn machines_of(&self, owner: &str) -> Vec<MachineTruth> {
        let mut machines = self.fly.machines();
        machines.retain(|it| it.metadata.get("od_owner").is_some_and(|tag| tag == owner));
        machines
    }

    /// Where, on this computer, the agent in a machine works.
    pub fn work(&self, machine: &MachineTruth) -> PathBuf {
        let inside = machine.env("WORKDIR").expect("a place to work").trim_start_matches('/');
        self.dir.join("machines").join(&machine.id).join("root").join(inside)
    }

    /// What the cloud was asked in vain, or wrongly.
    pub fn faults(&self) -> Vec<String> {
        let wrong = self.fly.violations().into_iter().map(|it| it.to_string());
        let limited = self.fly.calls().into_iter().filter(|call| call.status == Some(429));
        wrong.chain(limited.map(|call| format!("429: {} {}", call.method, call.path))).collect()
    }

    /// Waits until the cloud is as wanted.
    pub async fn until(&self, what: &str, holds: impl Fn(&DevFly) -> bool) {
        let deadline = tokio::time::Instant::now() + crate::live::PATIENCE;
        while !holds(&self.fly) {
            let now = tokio::time::Instant::now();
            assert!(now < deadline, "the cloud never came to: {what}; {:#?}", self.fly.machines());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.road.abort();
    }
}

/// Leads each connection to where the server is just now.
async fn lead(listener: TcpListener, endpoint: PathBuf) {
    while let Ok((mut guest, _)) = listener.accept().await {
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            let Ok(text) = std::fs::read_to_string(endpoint) else { return };
            let address = text.trim().trim_start_matches("http://").trim_end_matches('/');
            if let Ok(mut server) = TcpStream::connect(address).await {
                // Whichever side ends first ends it for both.
                let _ = copy_bidirectional(&mut guest, &mut server).await;
            }
        });
    }
}
