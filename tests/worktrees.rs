//! An agent's worktree, with the real server, reporter, shell and git: it is made, taken again as it
//! was left, and removed once its agent is gone; but never while it holds work, and a person is told.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/door.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod door;
#[path = "support/server.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use door::{API, Api};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::World;

fn git(place: &Path, arguments: &[&str]) -> String {
    let done = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com"])
        .args(arguments)
        .current_dir(place)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// A repository with one commit, in the home of a world.
fn repository(world: &World) -> PathBuf {
    let place = world.work().parent().unwrap().join("home/project");
    fs::create_dir(&place).unwrap();
    git(&place, &["init", "-q", "-b", "main"]);
    fs::write(place.join("file"), "first\n").unwrap();
    git(&place, &["add", "file"]);
    git(&place, &["commit", "-q", "-m", "first"]);
    place
}

/// An agent with a worktree of a repository; answers with where that will be.
async fn bot(api: &Api, world: &World, project: &Path) -> PathBuf {
    let runtime = json!({"local": {"workdir": project, "isolation": "worktree"}});
    api.agent("bot", json!({"agent": {"command": {}}, "runtime": runtime})).await;
    let bot = api.get(&format!("{API}/agents/bot")).await;
    world.data().join("work").join(bot["metadata"]["uid"].as_str().unwrap())
}

/// Says something to the agent in the console; answers once it has done it.
async fn says(api: &Api, id: &str, text: &str) {
    let place = json!({"platform": "console", "channel": "main"});
    let turn = json!({"requestId": id, "text": text, "conversation": place});
    let turn = api.turn_with("bot", turn).await;
    assert_eq!(turn["state"], "Succeeded", "{turn} {}", api.log("agents/bot", "raw").await);
}

async fn suspend(api: &Api, yes: bool) {
    let patch = api.ask(Method::PATCH, &format!("{API}/agents/bot"));
    let patch = patch.header("content-type", "application/merge-patch+json");
    let answer = patch.body(json!({"spec": {"suspend": yes}}).to_string()).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

async fn delete(api: &Api) {
    let gone = api.ask(Method::DELETE, &format!("{API}/agents/bot")).send().await.unwrap();
    assert!(gone.status().is_success(), "{}", gone.text().await.unwrap());
    api.until(&format!("{API}/agents/bot"), |answer| answer["code"] == 404).await;
    api.until(&format!("{API}/sprites"), |list| list["items"] == json!([])).await;
}

/// Waits until a place is no more.
async fn until_gone(place: &Path) {
    let look = async {
        while place.exists() {
            door::pause().await;
        }
    };
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, look).await.unwrap_or_else(|_| panic!("{place:?} stays"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worktree_is_taken_again_as_it_was_and_stays_until_what_it_holds_is_merged() {
    let mut world = World::new();
    let project = repository(&world);
    let mut api = Api::of(&world);
    let place = bot(&api, &world, &project).await;
    says(&api, "1", "git branch --show-current; echo second >> file; echo new > note").await;

    // A new server, and with it a new sprite.
    world.kill_server();
    world.serve(&[]);
    api = Api::of(&world);
    suspend(&api, true).await;
    api.until(&format!("{API}/agents/bot"), |bot| bot["status"]["phase"] == "Suspended").await;
    suspend(&api, false).await;
    says(&api, "2", "pwd; cat file note").await;
    let log = api.log("agents/bot", "raw").await;
    let real = fs::canonicalize(&place).unwrap();
    let expected = format!("open-dispatch/bot\n{}\nfirst\nsecond\nnew\n", real.display());
    assert_eq!(log, expected);
    assert_eq!(fs::read_to_string(project.join("file")).unwrap(), "first\n");

    // Its agent goes, and what it did stays where nobody has it.
    delete(&api).await;
    let kept = |text: &str| text.contains("Kept ") && text.contains("(branch open-dispatch/bot)");
    let told = api.reads(kept).await;
    assert!(told.contains(place.to_str().unwrap()), "{told}");
    assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "first\nsecond\n");

    // Committed, it stands on its own branch alone.
    git(&place, &["add", "."]);
    git(&place, &["commit", "-q", "-m", "second"]);
    world.kill_server();
    world.serve(&[]);
    api = Api::of(&world);
    // Who comes later is answered after the look at the start.
    api.agent("other", json!({"agent": {"command": {}}})).await;
    assert_eq!(api.turn("other", "true").await["state"], "Succeeded");
    assert!(place.join("note").exists());

    // Merged, it goes with the next look, its branch too, and nothing of it is left.
    git(&project, &["merge", "-q", "open-dispatch/bot"]);
    world.kill_server();
    world.serve(&[]);
    until_gone(&place).await;
    until_gone(&place.with_extension("tree")).await;
    assert_eq!(git(&project, &["branch", "--format=%(refname:short)"]), "main");
    assert_eq!(git(&project, &["worktree", "list"]).lines().count(), 1);
    assert_eq!(fs::read_to_string(project.join("note")).unwrap(), "new\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worktree_without_work_goes_with_its_agent_and_the_next_one_begins_anew() {
    let world = World::new();
    let project = repository(&world);
    let api = Api::of(&world);
    let first = bot(&api, &world, &project).await;
    says(&api, "1", "git log --format=%s").await;
    delete(&api).await;
    until_gone(&first).await;
    until_gone(&first.with_extension("tree")).await;
    assert_eq!(git(&project, &["branch", "--format=%(refname:short)"]), "main");
    let second = bot(&api, &world, &project).await;
    assert_ne!(first, second);
    says(&api, "2", "git branch --show-current").await;
    assert_eq!(api.log("agents/bot", "raw").await, "open-dispatch/bot\n");
    let answer = api.ask(Method::GET, &format!("{API}/agents/bot/turns")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let turns: Value = answer.json().await.unwrap();
    assert_eq!(turns["items"].as_array().unwrap().len(), 1, "and knows of no turn of the first");
}
