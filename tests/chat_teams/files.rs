//! Files: those that people send reach the agent, from where files may be and from nowhere else; and
//! those that we send are offered, and go where the person's drive is.

use bytes::Bytes;
use open_dispatch::chat::platform::{Error, Nonce, Platform as _, Post, Upload};

use super::{
    streams::{known, place},
    teams::Message,
    *,
};

fn attached(name: &str, url: &str) -> Value {
    json!({
        "contentType": "application/vnd.microsoft.teams.file.download.info",
        "name": name,
        "contentUrl": "https://contoso.sharepoint.example/personal/file",
        "content": {"downloadUrl": url, "uniqueId": "1", "fileType": "txt"},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_reach_the_agent_from_drives_and_from_nowhere_else() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let fake = Fake::start().await;
    let server = real(&fake, &data).await;
    let work = home.path().display();
    fake.say("Ada", DM, &format!("/od-start bot --agent command {work}")).await;
    server.wait_for("agents/bot", "idle", |agent| agent["status"]["phase"] == "Idle").await;
    let at = |path: &str| format!("http://{}/{path}", fake.address);
    fake.state().files.push(("notes.txt".to_owned(), b"seven".to_vec()));
    let mut activity = fake.said("Ada", DM, "true");
    activity["attachments"] = json!([
        attached("notes.txt", &at("files/notes.txt")),
        attached("notes.txt", &at("files/notes.txt")),
        attached("a/b\n.txt", &at("files/notes.txt")),
        attached("meta.txt", "http://169.254.169.254/latest/meta-data"),
        attached("local.txt", "https://127.0.0.1:1/secret"),
        attached("other.txt", "https://sharepoint.com.evil.example/a"),
        attached("lost.txt", &at("files/lost.txt")),
    ]);
    fake.deliver_surely(&activity).await;
    let turns = server.get("agents/bot/turns").await;
    let turn = &turns["items"][0];
    let names: Vec<_> =
        turn["attachments"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["notes.txt", "2-notes.txt", "b.txt"], "{turn}");
    let text = turn.to_string();
    for told in [
        "meta.txt: 169.254.169.254 is no drive",
        "local.txt: 127.0.0.1 is no drive",
        "other.txt: sharepoint.com.evil.example is no drive",
        "lost.txt: HTTP 404",
    ] {
        assert!(text.contains(told), "{told} in {text}");
    }
    // A picture in a channel's text opens with our token, and a drive's file without it.
    fake.state().files.push(("seven.png".to_owned(), b"a picture".to_vec()));
    let picture = at("connector/v3/attachments/seven.png/views/original");
    let mut activity = fake.said("Ada", GROUP, "/od-send bot true");
    activity["attachments"] = json!([{"contentType": "image/png", "contentUrl": picture}]);
    fake.deliver_surely(&activity).await;
    let turn = server.get("agents/bot/turns").await["items"][1].clone();
    assert_eq!(turn["attachments"][0]["name"], "image-1.png", "{turn}");
    assert_eq!(fake.state().fetched, [false, false, false, false, true], "lost.txt is the fourth");
    // A drive may send us on, but only to another drive.
    fake.state().redirect = Some("http://169.254.169.254/latest/meta-data".to_owned());
    let mut activity = fake.said("Ada", GROUP, "/od-send bot true");
    activity["attachments"] = json!([
        attached("notes.txt", &at("files/notes.txt")),
        {"contentType": "image/png", "contentUrl": picture},
    ]);
    fake.deliver_surely(&activity).await;
    let text = server.get("agents/bot/turns").await["items"][2].to_string();
    assert!(text.contains("notes.txt: 169.254.169.254 is no drive"), "{text}");
    assert!(text.contains("image-2.png: HTTP 302"), "our token is sent on nowhere: {text}");
    // Our token opens pictures and nothing else that the bot may read.
    fake.state().redirect = None;
    fake.state().fetched.clear();
    fake.state().files.push(("a:eve".to_owned(), b"who talks there".to_vec()));
    let mut activity = fake.said("Ada", GROUP, "/od-send bot true");
    let image = |url: String| json!({"contentType": "image/png", "contentUrl": url});
    activity["attachments"] = json!([
        image(at("connector/v3/conversations/a:eve/members")),
        image(at("files/seven.png")),
        image(at("connector/v3/attachments/a:eve/views/original")),
    ]);
    fake.deliver_surely(&activity).await;
    let turn = server.get("agents/bot/turns").await["items"][3].clone();
    assert_eq!(turn["attachments"], json!([]), "{turn}");
    let text = turn.to_string();
    assert!(text.contains("image-1.png: it lies where no picture of a message is"), "{text}");
    assert!(text.contains("image-3.png: what lies there is no picture"), "{text}");
    assert_eq!(fake.state().fetched, [true], "the last alone was asked for");
}

#[tokio::test]
async fn nothing_is_fetched_for_whom_nobody_has_let_in() {
    let (fake, server) = known().await;
    fake.state().files.push(("notes.txt".to_owned(), b"seven".to_vec()));
    let url = format!("http://{}/files/notes.txt", fake.address);
    let said = |who: &str, place: &str, text: &str| {
        let mut activity = fake.said(who, place, text);
        activity["attachments"] = json!([attached("notes.txt", &url)]);
        activity
    };
    for text in ["look", "od-run --agent command cat notes.txt", "od-whoami", "od-nonsense"] {
        fake.deliver_surely(&said("Eve", "a:eve", text)).await;
        fake.deliver_surely(&said("Eve", GROUP, text)).await;
    }
    // Nor for somebody who may, where it leads to nothing.
    fake.deliver_surely(&said("Ada", DM, "od-nonsense")).await;
    assert!(fake.state().fetched.is_empty());
    fake.deliver_surely(&said("Ada", DM, "od-run --agent command true")).await;
    assert_eq!(fake.state().fetched, [false], "once, and without our token");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_behind_a_slow_file_is_taken_behind_it() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let fake = Fake::start().await;
    let server = real(&fake, &data).await;
    fake.state().files.push(("log.txt".to_owned(), b"seven".to_vec()));
    fake.state().slow = Some(Duration::from_secs(2));
    let work = home.path().display();
    let start = fake.said("Ada", DM, &format!("/od-start bot --agent command {work}"));
    let mut look = fake.said("Ada", DM, "echo look at this log");
    let url = format!("http://{}/files/log.txt", fake.address);
    look["attachments"] = json!([attached("log.txt", &url)]);
    let then = fake.said("Ada", DM, "echo now mend it");
    fake.deliver_surely(&start).await;
    // The second comes while the file of the first is on its way.
    tokio::join!(fake.deliver_surely(&look), async {
        fake.until("it is asked for", async || fake.state().asked_for > 0).await;
        fake.deliver_surely(&then).await;
    });
    let turns = server.get("agents/bot/turns").await;
    let told = turns["items"].as_array().unwrap().iter();
    let told: Vec<_> = told.map(|turn| turn["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, ["echo look at this log", "echo now mend it"], "{turns}");
    assert_eq!(turns["items"][0]["attachments"][0]["name"], "log.txt", "{turns}");
}

async fn offered(fake: &Fake, server: &Server) -> Message {
    let nonce = Nonce { delivery: "by-hand".to_owned(), index: 3 };
    let post = Post { conversation: &place(DM), reply_to: None, text: "…", nonce: &nonce };
    let file = Upload { name: "bot.md".to_owned(), bytes: Bytes::from_static(b"all of it") };
    server.calm();
    let id = server.teams.upload(&post, &file).await.unwrap();
    fake.shown(DM).into_iter().find(|message| message.id == id).unwrap()
}

async fn became(fake: &Fake, id: &str, what: &str) -> Message {
    let find = || fake.shown(DM).into_iter().find(|it| it.id == id).unwrap();
    fake.until(what, async || find().offer.is_none()).await;
    find()
}

#[tokio::test]
async fn a_file_is_offered_and_sent_once_it_is_wanted() {
    let (fake, server) = known().await;
    let offer = offered(&fake, &server).await;
    let card = offer.offer.clone().unwrap();
    assert_eq!((&card["name"], &card["content"]["sizeInBytes"]), (&json!("bot.md"), &json!(9)));
    assert!(fake.state().drive.is_empty(), "nothing goes unasked");
    // Somebody who may not read here is given nothing.
    assert_eq!(fake.consent("Eve", &offer, true).await.0, 200);
    assert_eq!(fake.consent("Eve", &offer, false).await.0, 200);
    assert!(fake.shown(DM).into_iter().any(|it| it.id == offer.id && it.offer.is_some()));
    // Drives have their moments.
    fake.state().drive_faults.push_back(503);
    assert_eq!(fake.consent("Ada", &offer, true).await.0, 200);
    let sent = became(&fake, &offer.id, "the file is there").await;
    let drive = fake.state().drive.clone();
    assert_eq!(sent.files(&drive), [("bot.md".to_owned(), b"all of it".to_vec())]);
    assert_eq!(drive.len(), 1, "hers alone");
    server.end().await;
}

#[tokio::test]
async fn a_file_goes_nowhere_that_is_not_wanted_or_not_a_drive() {
    let (fake, server) = known().await;
    let offer = offered(&fake, &server).await;
    fake.consent("Ada", &offer, false).await;
    let declined = became(&fake, &offer.id, "it is declined").await;
    assert!(declined.text.contains("was not sent; open-dispatch logs"), "{declined:?}");
    for room in ["http://169.254.169.254/up", "https://evil.example/up", "https://127.0.0.1/up"] {
        let offer = offered(&fake, &server).await;
        let card = offer.offer.clone();
        assert_eq!(fake.consent_into("Ada", &offer, card.as_ref(), room).await.0, 200);
        let refused = became(&fake, &offer.id, "it is refused").await;
        assert!(refused.text.contains("is no drive of Microsoft's"), "{refused:?}");
    }
    assert!(fake.state().drive.is_empty());
    // A file that is kept no longer, and one that never was ours.
    let mut offer = offered(&fake, &server).await;
    let nothing = "0".repeat(64);
    offer.offer.as_mut().unwrap()["content"]["acceptContext"]["odFile"] = nothing.into();
    fake.consent("Ada", &offer, true).await;
    let gone = became(&fake, &offer.id, "it is gone").await;
    assert!(gone.text.contains("kept no longer"), "{gone:?}");
    offer.offer.as_mut().unwrap()["content"]["acceptContext"]["odFile"] = "../../key".into();
    assert_eq!(fake.consent("Ada", &offer, true).await.0, 200);
    server.end().await;
}

#[tokio::test]
async fn where_teams_takes_no_files_none_is_offered() {
    let (fake, server) = known().await;
    let nonce = Nonce { delivery: "by-hand".to_owned(), index: 0 };
    let group = place(GROUP);
    assert_eq!(server.teams.capabilities_in(&group).max_file, 0);
    assert!(server.teams.capabilities_in(&place(DM)).max_file > 0);
    let post = Post { conversation: &group, reply_to: None, text: "…", nonce: &nonce };
    let file = Upload { name: "bot.md".to_owned(), bytes: Bytes::from_static(b"x") };
    assert!(matches!(server.teams.upload(&post, &file).await, Err(Error::Rejected(_))));
    assert!(fake.shown(GROUP).is_empty());
    server.end().await;
}
