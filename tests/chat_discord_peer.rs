//! The platform's own client takes our fake for Discord; so what holds against the fake is not
//! merely shaped by the library that we use.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(dead_code, reason = "the support is shared with other tests")]

#[path = "support/acp_binary.rs"]
mod acp_binary;
#[path = "support/discord/mod.rs"]
mod discord;
#[path = "support/stage_of_chat.rs"]
mod stage_of_chat;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use discord::{Discord as Fake, GUILD, TOKEN, stage::text};
use serde_json::{Value, json};

/// The client, as a process.
struct Peer {
    fake: Fake,
    child: Child,
    told: mpsc::Receiver<Value>,
}

impl Peer {
    fn start(fake: &Fake) -> Option<Self> {
        let command = acp_binary::agent("discord.js/src/index.js")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/discord/peer.mjs");
        let mut child = Command::new(&command[0])
            .arg(script)
            .args([&command[1], &fake.api(), TOKEN, GUILD])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, told) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Some(Self { fake: fake.clone(), child, told })
    }

    /// The next thing that it tells which has this in it.
    fn tells(&self, what: &str) -> Value {
        loop {
            let told = self.told.recv_timeout(Duration::from_secs(40));
            let told = told.unwrap_or_else(|_| panic!("discord.js never told `{what}`"));
            assert!(told.get("error").is_none(), "{told} {:?}", self.fake.calls());
            if told.get(what).is_some() {
                return told;
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discord_js_takes_the_fake_for_discord() {
    let fake = Fake::open().await;
    let Some(peer) = Peer::start(&fake) else { return };
    peer.tells("ready");
    assert!(fake.calls().contains(&"GET gateway/bot".to_owned()), "{:?}", fake.calls());
    assert_eq!(fake.commands().unwrap()[0]["name"], "od-list");

    // A message with a file, an answer with a button and a file, an edit, and looking back.
    fake.say_with("ann", "general", "hello", &[("in.txt", b"in")]).await;
    let heard = peer.tells("heard");
    assert_eq!(heard, json!({"heard": "hello", "from": "ann", "files": 1}));
    let sent = peer.tells("sent");
    assert_eq!(sent["found"], 2);
    let ours = fake.ours("general");
    assert_eq!((ours[0].text.as_str(), ours[0].edits), ("second", 1));
    assert_eq!(discord::buttons(&ours[0]), [("List".to_owned(), "/od-list".to_owned())]);
    assert_eq!(ours[0].files, [("out.txt".to_owned(), b"bytes".to_vec())]);

    // A command, a button, a name that is filled in.
    let token = fake.uses("ann", "general", "od-list", &[]).await;
    peer.tells("interaction");
    assert_eq!(fake.of(&token).answered, Some(5));
    assert_eq!(fake.ours("general")[1].text, "the answer");
    let token = fake.press("ann", "general", &ours[0].id, "List").await;
    peer.tells("interaction");
    assert_eq!(fake.of(&token).answered, Some(6));
    let pressed = fake.ours("general").pop().unwrap();
    assert_eq!((pressed.text.as_str(), pressed.only_for), ("pressed", Some(Fake::id("ann"))));
    let event = fake.command("ann", "general", 4, "od-send", &[text("name", "a")], &[]);
    let token = fake.sends(&event).await;
    peer.tells("interaction");
    assert_eq!(fake.of(&token).choices, ["api"]);

    // A reply, and what stands before it.
    let said = fake.say("ann", "general", "again").await;
    // It is posted with the nonce that was there before, and so not once more.
    assert_eq!(peer.tells("sent")["sent"], ours[0].id);
    fake.replies("ann", "general", &said, "that one").await;
    let replied = peer.tells("replied");
    assert_eq!(replied, json!({"replied": "again", "type": 19, "before": ["again", "pressed"]}));

    // Limits: what a channel takes in a second, and a stop of all.
    fake.fault(|faults| faults.buckets = true);
    fake.say("ann", "general", "burst").await;
    assert_eq!(peer.tells("burst")["burst"], 9);
    assert_eq!(fake.too_many(), 0, "the client kept to what the headers say");
    fake.fault(|faults| (faults.buckets, faults.shut) = (false, Some(0.5)));
    fake.say("ann", "general", "burst").await;
    assert_eq!(peer.tells("burst")["burst"], 9);

    // A reconnect that is asked for: the session goes on, and nothing in between is missed.
    fake.order(json!({"op": 7, "d": null}));
    fake.say("ann", "general", "again").await;
    assert_eq!(peer.tells("heard")["heard"], "again");
    fake.until("the session was resumed", |fake| (fake.sessions().1 > 0).then_some(())).await;
    assert_eq!(fake.sessions().0, 1);
}
