//! A server that can be down, slow, wrong and forgetful, and a real reporter against it.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use sprite_reporter::{
    process::Tree,
    rundir::RunDir,
    wire::{
        AgentSpec, EnvVar, Event, EventAck, EventBatch, EventBody, Exit, InboxRow, Order,
        Permissions, RunSpec, Stream,
    },
};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    process::Command,
    sync::{mpsc, watch},
    task::JoinSet,
};

/// The token that the reporter must show.
pub const TOKEN: &str = "token-of-this-sprite";
/// Far more than anything takes here: past it a test hangs.
pub const HANGS: Duration = Duration::from_secs(60);

/// What the server does with the next batch instead of taking it.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Answers with a status.
    Status(u16),
    /// Hangs up without having taken anything.
    HangUp,
    /// Takes the batch, and hangs up instead of saying so.
    LoseAck,
    /// Takes its time.
    Slow(Duration),
}

/// What the server knows. It outlives the server.
#[derive(Default)]
pub struct Known {
    pub events: Vec<Event>,
    pub held: u64,
    pub batches: usize,
    pub faults: VecDeque<Fault>,
    /// Refuses every event whose JSON contains this.
    pub refuses: Option<String>,
    /// Says this to everything.
    pub always: Option<u16>,
    /// How many batches heard that.
    pub refused: usize,
    pub inbox: Vec<InboxRow>,
    /// Further rows, as another server would write them.
    pub lines: Vec<String>,
    pub inbox_ack: u64,
    pub bodies: Vec<usize>,
    /// What it says to whoever asks for a file: a status and bytes, by the file's id. It hangs up
    /// where the status is 0; a file that is not here is not found.
    pub files: HashMap<String, (u16, Vec<u8>)>,
    /// How often it was asked for one.
    pub asked_for_files: usize,
}

/// A server's memory, and a way to wait for it to change.
#[derive(Clone)]
pub struct World {
    known: Arc<Mutex<Known>>,
    changed: watch::Sender<u64>,
}

impl World {
    pub fn new() -> Self {
        Self { known: Arc::default(), changed: watch::Sender::new(0) }
    }

    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    /// Waits until something is so.
    pub async fn until<T>(&self, what: &str, mut so: impl FnMut(&Known) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                if let Some(value) = so(&self.known()) {
                    return value;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(HANGS, wait).await {
            Ok(value) => value,
            Err(_) => panic!("{what} did not come about; held {:?}", self.known().events.last()),
        }
    }

    pub async fn exit(&self) -> Exit {
        self.until("the exit", |known| {
            known.events.iter().find_map(|event| match &event.body {
                EventBody::Exit(exit) => Some(exit.clone()),
                _ => None,
            })
        })
        .await
    }

    /// Everything that was printed on a stream so far.
    pub fn printed(&self, stream: Stream) -> Vec<u8> {
        printed(&self.known(), stream)
    }

    pub fn text(&self, stream: Stream) -> String {
        String::from_utf8_lossy(&self.printed(stream)).into_owned()
    }

    pub async fn until_printed(&self, text: &str) {
        self.until(text, |known| {
            String::from_utf8_lossy(&printed(known, Stream::Stdout)).contains(text).then_some(())
        })
        .await;
    }

    pub fn order(&self, order: Order) {
        let mut known = self.known();
        let n = known.inbox.len() as u64 + 1;
        known.inbox.push(InboxRow { n, run: 1, order });
        drop(known);
        self.ring();
    }

    fn ring(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Numbers must follow each other without holes; then every event is there once.
    pub fn assert_whole(&self) {
        let known = self.known();
        let mut want = 1;
        for event in &known.events {
            assert_eq!(event.seq, want, "a hole or a double");
            want = event.next_seq();
        }
        assert!(matches!(known.events[0].body, EventBody::Hello { .. }));
        assert!(matches!(known.events.last().unwrap().body, EventBody::Exit(_)));
    }

    fn take(&self, batch: EventBatch) -> Result<EventAck, u16> {
        let mut known = self.known();
        known.batches += 1;
        if let Some(refused) = &known.refuses {
            let json = serde_json::to_string(&batch.events).unwrap();
            if json.contains(refused) {
                return Err(400);
            }
        }
        known.inbox_ack = known.inbox_ack.max(batch.inbox_ack.unwrap_or_default());
        let mut conflict = false;
        for event in batch.events {
            if event.next_seq() <= known.held + 1 {
                continue;
            }
            if event.seq != known.held + 1 {
                conflict = true;
                break;
            }
            known.held = event.next_seq() - 1;
            known.events.push(event);
        }
        let finished = matches!(known.events.last().map(|it| &it.body), Some(EventBody::Exit(_)));
        let ack = EventAck { held: known.held, expected: known.held + 1, finished };
        drop(known);
        self.ring();
        if conflict { Err(409) } else { Ok(ack) }
    }

    fn ack(&self) -> EventAck {
        let held = self.known().held;
        EventAck { held, expected: held + 1, finished: false }
    }
}

fn printed(known: &Known, stream: Stream) -> Vec<u8> {
    known
        .events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Log { stream: from, chunk } if *from == stream => Some(chunk.bytes()),
            _ => None,
        })
        .flatten()
        .collect()
}

/// A server that runs until it is dropped, connections and all.
pub struct Server {
    _tasks: JoinSet<()>,
}

impl Server {
    /// Starts on a free port, and writes its address where the reporter looks.
    pub async fn start(world: &World, endpoint: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        fs::write(endpoint, format!("http://{address}\n")).unwrap();
        Self::on(listener, world)
    }

    /// Starts where another server was until now.
    pub async fn start_at(world: &World, url: &str) -> Self {
        let address = url.trim().strip_prefix("http://").unwrap();
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return Self::on(listener, world),
                // The other one is about to go.
                Err(_) => pause(Duration::from_millis(1)).await,
            }
        }
    }

    fn on(listener: TcpListener, world: &World) -> Self {
        let mut tasks = JoinSet::new();
        let world = world.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let world = world.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(world.clone(), request));
                    // A hang-up is an error here, and is meant.
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { _tasks: tasks }
    }
}

type Answer = Result<Response<BoxBody<Bytes, Infallible>>, &'static str>;

async fn answer(world: World, request: Request<Incoming>) -> Answer {
    let authorization = request.headers().get("authorization").unwrap().to_str().unwrap();
    assert_eq!(authorization, format!("Bearer {TOKEN}"));
    let always = world.known().always;
    if let Some(status) = always {
        if request.method() == Method::POST {
            world.known().refused += 1;
            world.ring();
        }
        return Ok(json(status, "{}"));
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/webhooks/inbox") => Ok(inbox(world, request.uri().query().unwrap())),
        (&Method::POST, "/webhooks/events") => events(world, request).await,
        (&Method::GET, path) if path.starts_with("/webhooks/files/") => {
            let id = path.trim_start_matches("/webhooks/files/");
            let found = world.known().files.get(id).cloned();
            world.known().asked_for_files += 1;
            world.ring();
            match found {
                Some((0, _)) => Err("hung up"),
                Some((status, bytes)) => {
                    let body = BoxBody::new(Full::new(Bytes::from(bytes)));
                    Ok(Response::builder().status(status).body(body).unwrap())
                }
                None => Ok(json(404, r#"{"error":"no turn names this file"}"#)),
            }
        }
        other => panic!("nobody should ask for {other:?}"),
    }
}

fn inbox(world: World, query: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let after = query.split('&').find_map(|pair| pair.strip_prefix("after=")).unwrap();
    let mut sent: u64 = after.parse().unwrap();
    let (lines, mut receiver) = mpsc::channel::<Bytes>(8);
    tokio::spawn(async move {
        let mut changed = world.changed.subscribe();
        let mut written = 0;
        loop {
            let others: Vec<String> = world.known().lines[written..].to_vec();
            written += others.len();
            for line in others {
                if lines.send(format!("{line}\n").into()).await.is_err() {
                    return;
                }
            }
            let fresh: Vec<InboxRow> =
                world.known().inbox.iter().filter(|row| row.n > sent).cloned().collect();
            for row in fresh {
                sent = row.n;
                let line = format!("{}\n", serde_json::to_string(&row).unwrap());
                // Everything is sent twice: the reporter must drop what it knows.
                for _ in 0..2 {
                    if lines.send(line.clone().into()).await.is_err() {
                        return;
                    }
                }
            }
            tokio::select! {
                changed = changed.changed() => if changed.is_err() { return },
                () = lines.closed() => return,
            }
        }
    });
    let stream = futures_lite(move |context| receiver.poll_recv(context));
    Response::new(BoxBody::new(StreamBody::new(stream)))
}

/// A stream of frames out of a poll function.
fn futures_lite(
    mut poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Bytes>> + Unpin,
) -> impl futures_core::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    struct Polled<F>(F);
    impl<F> futures_core::Stream for Polled<F>
    where
        F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Bytes>> + Unpin,
    {
        type Item = Result<Frame<Bytes>, Infallible>;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            (self.0)(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
        }
    }
    Polled(move |context: &mut std::task::Context<'_>| poll(context))
}

async fn events(world: World, request: Request<Incoming>) -> Answer {
    let fault = world.known().faults.pop_front();
    match fault {
        Some(Fault::Status(status)) => return Ok(json(status, "{}")),
        Some(Fault::HangUp) => return Err("hung up"),
        Some(Fault::Slow(length)) => pause(length).await,
        _ => {}
    }
    let body = request.into_body().collect().await.map_err(|_| "broken")?.to_bytes();
    world.known().bodies.push(body.len());
    let batch: EventBatch = serde_json::from_slice(&body).unwrap();
    let taken = world.take(batch);
    if fault == Some(Fault::LoseAck) {
        return Err("the answer is lost");
    }
    Ok(match taken {
        Ok(ack) => json(200, &serde_json::to_string(&ack).unwrap()),
        Err(409) => json(409, &serde_json::to_string(&world.ack()).unwrap()),
        Err(status) => json(status, r#"{"error":"refused"}"#),
    })
}

fn json(status: u16, body: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let body = BoxBody::new(Full::new(Bytes::from(body.to_owned())));
    Response::builder().status(status).body(body).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a server that is slow, for real")]
pub async fn pause(length: Duration) {
    tokio::time::sleep(length).await;
}

/// A run directory, a data directory around it, and all that a test needs.
pub struct Stage {
    pub data: tempfile::TempDir,
    pub world: World,
    pub run: RunDir,
    pub spec: RunSpec,
}

impl Stage {
    /// A stage for a job with a shell task.
    pub fn new(task: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let workdir = data.path().join("work");
        let run = data.path().join("run");
        fs::create_dir(&workdir).unwrap();
        fs::create_dir(&run).unwrap();
        let variable = |name: &str, value: &str| EnvVar {
            name: name.into(),
            value: value.into(),
            secret: false,
        };
        let spec = RunSpec {
            job_id: format!("sprite-{}-{}", std::process::id(), unique()),
            run: 1,
            installation: "test".into(),
            server: None,
            endpoint_file: Some(data.path().join("endpoint").to_str().unwrap().into()),
            agent: AgentSpec::Command { shell: None },
            task: Some(task.into()),
            workdir: workdir.to_str().unwrap().into(),
            repo: None,
            permissions: Permissions::default(),
            env: vec![
                variable("PATH", &std::env::var("PATH").unwrap()),
                variable("GREETING", "hello"),
            ],
            timeout_ms: None,
            idle_timeout_ms: None,
            session: None,
            hide: vec![data.path().to_str().unwrap().into()],
            worktree: None,
            sandbox: None,
            attachments: None,
            artifacts: None,
        };
        Self { world: World::new(), run: RunDir::new(run), data, spec }
    }

    pub fn endpoint(&self) -> PathBuf {
        self.data.path().join("endpoint")
    }

    pub async fn serve(&self) -> Server {
        Server::start(&self.world, &self.endpoint()).await
    }

    /// Launches a reporter, and answers its first line.
    pub async fn launch(&self) -> String {
        if !self.run.path().join("spec.json").exists() {
            self.run.write_spec(&self.spec).unwrap();
        }
        launch(self.run.path(), TOKEN.as_bytes()).await
    }

    pub fn tree(&self) -> Vec<u32> {
        Tree::left_behind(&self.spec.job_id, None).members().unwrap()
    }

    /// The reporter's process.
    pub fn reporter(&self) -> u32 {
        self.run.state().unwrap().unwrap().process.pid
    }

    pub fn signal_reporter(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.reporter() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until the reporter has let go of its run.
    pub async fn reporter_gone(&self) {
        let state = self.run.state().unwrap().unwrap();
        if let Some(handle) = sprite_reporter::process::Handle::open(&state.process).unwrap() {
            tokio::time::timeout(HANGS, handle.ended()).await.unwrap().unwrap();
        }
    }

    pub fn complaints(&self) -> String {
        fs::read_to_string(self.run.log()).unwrap_or_default()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Whatever a failed test left.
        if let Ok(Some(state)) = self.run.state()
            && let Ok(Some(handle)) = sprite_reporter::process::Handle::open(&state.process)
        {
            let _ = handle.signal(rustix::process::Signal::KILL);
        }
        let _ = Tree::left_behind(&self.spec.job_id, None).signal(rustix::process::Signal::KILL);
    }
}

fn unique() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

pub async fn launch(directory: &Path, token: &[u8]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sprite-reporter"))
        .arg("launch")
        .arg(directory)
        // What a server has, and an agent must not get.
        .env("OPEN_DISPATCH_TOKEN", "the-servers-own")
        .env("JOB_TOKEN_SECRET", "the-servers-own")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(token).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
