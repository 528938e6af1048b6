//! The real server binary on a data directory of its own, to be killed and started again.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

/// A running server. Dropping it kills it and every sprite that it left behind.
pub struct Live {
    child: Option<Child>,
    data: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    client: reqwest::Client,
}

/// How long a test waits for a state before it calls the promise broken.
pub const PATIENCE: Duration = Duration::from_secs(120);

impl Live {
    /// Starts a server without a console on `data`, with more arguments and variables.
    pub async fn start(data: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        // The first test to come installs it; the others find it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut live = Self {
            child: None,
            data: data.to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(30))
                .build()
                .expect("a client for loopback"),
        };
        live.up().await;
        live
    }

    /// A server that somebody else keeps up. Dropping this kills what sprites it left behind.
    pub fn attach(data: &Path) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build();
        Self {
            child: None,
            data: data.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            client: client.expect("a client for loopback"),
        }
    }

    /// Whether a server answers that it is ready.
    pub async fn is_ready(&self) -> bool {
        let Some(base) = self.endpoint() else { return false };
        let answer = self.client.get(format!("{base}/ready")).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Starts the server again on the same data directory and waits until it is ready.
    pub async fn up(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let _ = std::fs::remove_file(self.data.join("endpoint"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.data.with_extension("log"))
            .expect("a log file beside the data directory");
        let child = Command::new(env!("CARGO_BIN_EXE_open-dispatch"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&self.data)
            // Unless the test names its own.
            .env("CHAT_PROVIDER", "none")
            .args(&self.args)
            // Tests work where they like; those about roots say others.
            .env("OPEN_DISPATCH_ROOTS", "/")
            // The sample that lies here is nothing that they ask for.
            .env("OPEN_DISPATCH_SPECS", "none")
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.child = Some(child);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if self.is_ready().await {
                return;
            }
            let child = self.child.as_mut().expect("just started");
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                panic!("the server ended with {status}; its log:\n{}", self.log());
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "the server is not ready:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What the server logged, for messages of failed tests.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Kills the server as the kernel does, and waits until it is gone.
    pub fn kill_nine(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    fn endpoint(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.data.join("endpoint")).ok()?;
        let line = text.trim().trim_end_matches('/');
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// The URL of a path of the API.
    pub fn url(&self, path: &str) -> String {
        let base = self.endpoint().expect("the server has said where it is");
        format!("{base}{path}")
    }

    /// The API's token.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.data.join("token")).expect("a token").trim().to_owned()
    }

    /// A GET below the API's prefix, as JSON.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self
            .client
            .get(self.url(&format!("/apis/opendispatch.dev/v1alpha1/{path}")))
            .bearer_auth(self.token())
            .send()
            .await
            .expect("the server answers");
        answer.json().await.expect("JSON")
    }

    /// A GET below the API's prefix, as bytes.
    pub async fn bytes(&self, path: &str) -> Vec<u8> {
        let answer = self
            .client
            .get(self.url(&format!("/apis/opendispatch.dev/v1alpha1/{path}")))
            .bearer_auth(self.token())
            .send()
            .await
            .expect("the server answers");
        assert!(answer.status().is_success(), "{}: {:?}", answer.status(), answer.text().await);
        answer.bytes().await.expect("a body").to_vec()
    }

    /// A POST of a Job; the request id makes it safe to repeat.
    pub async fn create_job(&self, request_id: &str, name: &str, spec: Value) -> Value {
        let body = serde_json::json!({
            "apiVersion": "opendispatch.dev/v1alpha1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": spec,
        });
        let answer = self
            .client
            .post(self.url(&format!("/apis/opendispatch.dev/v1alpha1/jobs?requestId={request_id}")))
            .bearer_auth(self.token())
            .json(&body)
            .send()
            .await
            .expect("the server answers");
        let status = answer.status();
        let body: Value = answer.json().await.expect("JSON");
        assert!(status.is_success(), "{status}: {body}");
        body
    }

    /// A POST below the API's prefix: the status and the answer.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let answer = self
            .client
            .post(self.url(&format!("/apis/opendispatch.dev/v1alpha1/{path}")))
            .bearer_auth(self.token())
            .json(&body)
            .send()
            .await
            .expect("the server answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// A DELETE below the API's prefix.
    pub async fn delete(&self, path: &str) -> u16 {
        let answer = self
            .client
            .delete(self.url(&format!("/apis/opendispatch.dev/v1alpha1/{path}")))
            .bearer_auth(self.token())
            .send()
            .await
            .expect("the server answers");
        answer.status().as_u16()
    }

    /// A merge patch of an object.
    pub async fn patch(&self, path: &str, patch: Value) -> Value {
        let answer = self
            .client
            .patch(self.url(&format!("/apis/opendispatch.dev/v1alpha1/{path}")))
            .bearer_auth(self.token())
            .header("content-type", "application/merge-patch+json")
            .body(patch.to_string())
            .send()
            .await
            .expect("the server answers");
        answer.json().await.expect("JSON")
    }

    /// Asks for an object until it is as wanted.
    pub async fn wait_for(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let object = self.get(path).await;
            if wanted(&object) {
                return object;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{path} never came to: {what}; last: {object:#}\nserver log:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The processes that bear a sprite's marker, as (pid, command line), zombies left out.
    pub fn marked_processes(uid: &str) -> Vec<(u32, String)> {
        let marker = format!("JOB_ID={uid}");
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes()) {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
            }
        }
        found
    }

    /// The reporters whose run directories lie below this data directory, as pids.
    pub fn reporters(&self) -> Vec<u32> {
        let runs = self.data.join("runs").to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let mut line = Vec::new();
            if let Ok(mut file) = std::fs::File::open(entry.path().join("cmdline")) {
                let _ = file.read_to_end(&mut line);
            }
            if String::from_utf8_lossy(&line).contains(&runs) {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.kill_nine();
        for pid in self.reporters() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}

/// The lines of a file, for what an agent left behind.
pub fn lines(path: &Path) -> Vec<String> {
    match std::fs::File::open(path) {
        Ok(file) => BufReader::new(file).lines().map_while(Result::ok).collect(),
        Err(_) => Vec::new(),
    }
}
