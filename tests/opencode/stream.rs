//! The stream of OpenCode's events breaks, and what it would have told is told all the same.
//!
//! Between the driver and the real server stands a relay on loopback. It passes every request on,
//! and breaks off streams of events when a test says so.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use sprite_reporter::{
    driver::Said,
    wire::{AgentSpec, EventBody, PermissionMode, TurnOutcome},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::{
    driver_suite::{desk::Desk, fake_model::FakeModel},
    seat,
};

/// What the relay does with streams, and how many it has passed on.
#[derive(Clone, Copy, Default)]
struct Passage {
    /// Streams of an older one are broken off.
    age: u32,
    is_closed: bool,
    streams: u32,
}

/// A relay in front of OpenCode's server.
struct Relay {
    passage: Arc<watch::Sender<Passage>>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Puts a relay between the driver of this desk and its server.
    async fn before(desk: &mut Desk) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (program, real) = (desk.file("relayed-opencode"), desk.file("port"));
        let AgentSpec::Opencode { path: Some(path), model, instructions } = desk.spec.agent.clone()
        else {
            panic!("OpenCode at a path")
        };
        // It tells the driver the relay's address instead of the server's, and is the server: what
        // ends it ends that.
        let script = format!(
            "#!/usr/bin/env bash\nexec \"{path}\" \"$@\" > >(while IFS= read -r line; do case $line in\n\
             *listening*) echo \"${{line##*:}}\" >\"{real}\"; \
             echo \"listening on http://127.0.0.1:{port}\";;\n\
             *) echo \"$line\";; esac; done)\n",
            real = real.display(),
        );
        std::fs::write(&program, script).expect("a program");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("a program");
        let path = Some(program.to_string_lossy().into_owned());
        desk.spec.agent = AgentSpec::Opencode { path, model, instructions };
        let passage = Arc::new(watch::Sender::new(Passage::default()));
        let task = tokio::spawn(relay(listener, real, passage.clone()));
        Self { passage, task }
    }

    /// Breaks off all streams that are open, and lets no other pass if `is_closed`.
    fn cut(&self, is_closed: bool) {
        self.passage.send_modify(|passage| {
            passage.age += 1;
            passage.is_closed = is_closed;
        });
    }

    /// Lets streams pass again.
    fn open(&self) {
        self.passage.send_modify(|passage| passage.is_closed = false);
    }

    /// How many streams were passed on.
    fn streams(&self) -> u32 {
        self.passage.borrow().streams
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(listener: TcpListener, real: PathBuf, passage: Arc<watch::Sender<Passage>>) {
    loop {
        let (client, _) = listener.accept().await.expect("a connection");
        // A connection that breaks is none of the test's business.
        tokio::spawn(pass(client, real.clone(), passage.clone()));
    }
}

async fn pass(
    mut client: TcpStream,
    real: PathBuf,
    passage: Arc<watch::Sender<Passage>>,
) -> std::io::Result<()> {
    let mut head = vec![0; 16 * 1024];
    let size = client.read(&mut head).await?;
    let is_stream = head.starts_with(b"GET /event ");
    let begun = *passage.borrow();
    if is_stream && begun.is_closed {
        return Ok(());
    }
    let mut server = TcpStream::connect(("127.0.0.1", port(&real))).await?;
    server.write_all(&head[..size]).await?;
    if !is_stream {
        return copy_bidirectional(&mut client, &mut server).await.map(drop);
    }
    passage.send_modify(|passage| passage.streams += 1);
    let mut watched = passage.subscribe();
    tokio::select! {
        done = copy_bidirectional(&mut client, &mut server) => done.map(drop),
        _ = watched.wait_for(|passage| passage.age > begun.age) => Ok(()),
    }
}

fn port(real: &Path) -> u16 {
    std::fs::read_to_string(real).expect("a port").trim().parse().expect("a port")
}

/// A desk with a relay, or none where OpenCode is not installed.
async fn relayed() -> Option<(Desk, FakeModel, Relay)> {
    let (mut desk, model) = seat().await?;
    let relay = Relay::before(&mut desk).await;
    Some((desk, model, relay))
}

#[tokio::test]
async fn text_is_whole_and_said_once_however_often_the_stream_breaks() {
    let Some((desk, _model, relay)) = relayed().await else { return };
    let mut run = desk.start();
    run.prompt("t1", "[[slow:80:50]] [[bash:true]] [[slow:40:50]]").await;
    for cut in 1..4 {
        run.until("text", |said| matches!(said, Said::Text(..)).then_some(())).await;
        relay.cut(false);
        desk.comes_true("the stream is there again", |_| relay.streams() > cut).await;
    }
    let turn = run.ended("t1").await;
    assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{turn:?}");
    let words = |count: u32| (0..count).map(|n| format!("word{n} ")).collect::<String>();
    let said = turn.text.split_whitespace().collect::<Vec<_>>();
    let wanted = words(80) + &words(40);
    assert_eq!(said, wanted.split_whitespace().collect::<Vec<_>>());
    assert_eq!(run.ends("t1").len(), 1);
    run.stop().await;
    desk.comes_true("nothing is left", |desk| desk.tree().is_empty()).await;
}

#[tokio::test]
async fn a_turn_that_ends_while_nothing_is_heard_ends_and_says_all_that_it_did() {
    let Some((desk, model, relay)) = relayed().await else { return };
    let mut run = desk.start();
    run.turn("t1", "hello").await;
    relay.cut(true);
    run.prompt("t2", "[[bash:touch made]] last").await;
    desk.comes_true("the model is asked for the end", |_| model.requests().len() == 3).await;
    relay.open();
    let turn = run.ended("t2").await;
    assert_eq!((turn.outcome, turn.text.trim_end()), (TurnOutcome::Succeeded, "echo: last"));
    assert_eq!(turn.usage.output_tokens, 100, "of both steps");
    let tools = run.events().into_iter().filter(|event| matches!(event, EventBody::Tool { .. }));
    assert_eq!(tools.count(), 1);
    assert_eq!(run.turn("t3", "go on").await.text.trim_end(), "echo: go on");
}

#[tokio::test]
async fn what_is_asked_while_nothing_is_heard_is_asked_once_the_stream_is_there() {
    let Some((mut desk, model, relay)) = relayed().await else { return };
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    run.turn("t1", "hello").await;
    relay.cut(true);
    run.prompt("t2", "[[bash:touch made]] last").await;
    desk.comes_true("the model is asked", |_| model.requests().len() == 2).await;
    relay.open();
    let (request, _) = run.approval().await;
    // It is told anew with each break, and asked once.
    let streams = relay.streams();
    relay.cut(false);
    desk.comes_true("the stream is there again", |_| relay.streams() > streams).await;
    run.answer(request, true, "").await;
    let turn = run.ended("t2").await;
    assert_eq!((turn.outcome, turn.text.trim_end()), (TurnOutcome::Succeeded, "echo: last"));
    assert!(desk.file("made").exists());
    let asked = |event: &&EventBody| matches!(event, EventBody::Approval { .. });
    assert_eq!(run.events().into_iter().filter(asked).count(), 1);
}

#[tokio::test]
async fn a_turn_is_cancelled_while_nothing_is_heard() {
    let Some((desk, model, relay)) = relayed().await else { return };
    let mut run = desk.start();
    run.turn("t1", "hello").await;
    relay.cut(true);
    run.prompt("t2", "[[slow:600:100]]").await;
    desk.comes_true("the model is asked", |_| model.requests().len() == 2).await;
    run.order(sprite_reporter::driver::DriverOrder::Interrupt).await;
    relay.open();
    assert_eq!(run.ended("t2").await.outcome, TurnOutcome::Cancelled);
    assert_eq!(run.turn("t3", "go on").await.text.trim_end(), "echo: go on");
}
