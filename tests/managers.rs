//! Promise: whoever changes what is wanted of an object is noted as its manager, by whatever way the
//! change came; so a server-side apply meets a conflict that names them, as users of kubectl expect.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;
#[path = "support/routes.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod routes;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use house::{Answer, House, read};
use open_dispatch::{
    ambient::Ambient,
    resource::{AnyObject, Kind, admit, decode},
    store::{Base, Expect, Op, Owned, Part, Store, memory::MemoryStore, sqlite::SqliteStore},
};
use serde_json::{Value, json};

async fn world() -> House {
    let mut house = House::new();
    house.router = routes::whole(&house, None);
    house
}

fn agent(spec: Value) -> Value {
    let mut whole = json!({"agent": {"claude": {"model": "sonnet"}}});
    open_dispatch::resource::merge::merge_patch(&mut whole, &spec);
    json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent",
        "metadata": {"name": "bot"}, "spec": whole})
}

/// `kubectl apply --server-side`.
async fn applied(house: &House, config: &Value, force: bool) -> Answer {
    let path = format!("{}/agents/bot?fieldManager=kubectl&force={force}", house::API);
    let sort = "application/apply-patch+yaml";
    read(house.send(house::ACCESS, Method::PATCH, &path, sort, config.to_string()).await).await
}

/// Ada says a line at the console.
async fn say(house: &House, request: &str, line: &str) {
    let said = json!({"requestId": request, "author": "ada", "text": line});
    let answer = house.call(Method::POST, "/console/messages", Some(&said)).await;
    assert_eq!(answer.code, StatusCode::ACCEPTED, "{}", answer.text());
}

async fn bot(house: &House) -> Value {
    house.get("agents/bot").await.json()
}

/// Who holds a field, of those who update and those who apply.
fn holders(object: &Value, pointer: &str) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let holds = |entry: &&Value| entry["fieldsV1"].pointer(pointer).is_some();
    let name = |entry: &Value| entry["manager"].as_str().unwrap().to_owned();
    entries.iter().filter(holds).map(name).collect()
}

const IDLE: &str = "/f:spec/f:idleTimeout";

#[tokio::test]
async fn a_field_that_was_set_in_chat_is_chats_and_an_apply_says_so() {
    let house = world().await;
    let config = agent(json!({"idleTimeout": "15m"}));
    assert_eq!(applied(&house, &config, false).await.code, StatusCode::CREATED);
    assert_eq!(holders(&bot(&house).await, IDLE), ["kubectl"]);
    say(&house, "1", "od-set bot idleTimeout=1h").await;
    let set = bot(&house).await;
    assert_eq!(set["spec"]["idleTimeout"], "1h");
    assert_eq!(holders(&set, IDLE), ["chat:console"]);
    // What chat did not touch is whose it was.
    assert_eq!(holders(&set, "/f:spec/f:agent"), ["kubectl"]);

    let refused = applied(&house, &config, false).await;
    assert_eq!(refused.code, StatusCode::CONFLICT, "{}", refused.text());
    let causes = &refused.json()["details"]["causes"];
    assert_eq!(causes[0]["field"], ".spec.idleTimeout");
    assert!(causes[0]["message"].as_str().unwrap().contains("\"chat:console\""), "{causes}");
    assert_eq!(bot(&house).await, set, "nothing was changed");
    // The same value is held together.
    let agreed = applied(&house, &agent(json!({"idleTimeout": "1h"})), false).await;
    assert_eq!(agreed.code, StatusCode::OK, "{}", agreed.text());
    let mut together = holders(&bot(&house).await, IDLE);
    together.sort();
    assert_eq!(together, ["chat:console", "kubectl"]);
    // And whoever insists has it.
    assert_eq!(applied(&house, &config, true).await.code, StatusCode::OK);
    let forced = bot(&house).await;
    assert_eq!(forced["spec"]["idleTimeout"], "15m");
    assert_eq!(holders(&forced, IDLE), ["kubectl"]);
}

#[tokio::test]
async fn what_chat_made_is_chats() {
    let house = world().await;
    say(&house, "1", "od-start bot --agent claude --model sonnet").await;
    let made = bot(&house).await;
    assert_eq!(holders(&made, "/f:spec/f:agent"), ["chat:console"]);
    let config = agent(json!({"agent": {"claude": {"model": "opus"}}}));
    assert_eq!(applied(&house, &config, false).await.code, StatusCode::CONFLICT);
    // A line that changes nothing leaves the account as it is.
    say(&house, "2", "od-list").await;
    assert_eq!(bot(&house).await, made);
}

#[tokio::test]
async fn an_object_that_is_let_go_keeps_what_its_source_held_of_it() {
    let house = world().await;
    let object = admit::create(decode(agent(json!({}))).unwrap(), "bot-uid".into(), "").unwrap();
    let row = Owned {
        kind: Kind::Agent,
        name: "bot".to_owned(),
        uid: "bot-uid".to_owned(),
        source_uid: "s".to_owned(),
        source: "ours".to_owned(),
        base: Base { spec: agent(json!({}))["spec"].clone(), ..Base::default() },
        file: "bot.yaml".to_owned(),
        line: 1,
        overrides: Vec::new(),
        leaving: false,
        version: 0,
    };
    let by = Op::WrittenBy("source/ours".to_owned());
    house.apply(vec![by, Op::Create(object), Op::Own(row)]).await;
    let released = house.call(Method::POST, "agents/bot/release", None).await;
    assert_eq!(released.code, StatusCode::OK, "{}", released.text());
    let config = agent(json!({"agent": {"claude": {"model": "opus"}}}));
    let refused = applied(&house, &config, false).await;
    assert_eq!(refused.code, StatusCode::CONFLICT);
    assert!(refused.text().contains("source/ours"), "{}", refused.text());
    assert_eq!(applied(&house, &config, true).await.code, StatusCode::OK);
}

#[tokio::test]
async fn a_transaction_notes_its_manager_in_both_stores_and_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(dir.path(), Ambient::real()).await.unwrap();
    for store in [MemoryStore::new() as Arc<dyn Store>, sqlite] {
        let house = House::over(store);
        let made = |name: &str| {
            let mut json = agent(json!({}));
            json["metadata"]["name"] = name.into();
            admit::create(decode(json).unwrap(), format!("{name}-uid"), "").unwrap()
        };
        let by = |name: &str| Op::WrittenBy(name.to_owned());
        house
            .apply(vec![
                Op::Create(made("nobodys")),
                by("one"),
                Op::Create(made("ones")),
                by("two"),
                Op::Create(made("twos")),
            ])
            .await;
        let read = async |name: &str| house.store.get(Kind::Agent, name).await.unwrap().unwrap();
        let managers = |object: &AnyObject| -> Vec<String> {
            object.metadata().managed_fields.iter().map(|it| it.manager.clone()).collect()
        };
        assert!(managers(&read("nobodys").await).is_empty());
        assert_eq!(managers(&read("ones").await), ["one"]);
        assert_eq!(managers(&read("twos").await), ["two"]);

        // Nobody is noted for what they leave as it is, and it takes no revision.
        let same = read("ones").await;
        let revision = house.store.revision().await.unwrap();
        let write =
            |object: AnyObject, part| Op::Write { object, part, expect: Expect::SameVersion };
        house.apply(vec![by("three"), write(same.clone(), Part::Desired)]).await;
        assert_eq!(house.store.revision().await.unwrap(), revision);
        // Nor for what was seen.
        let mut seen = same.clone().into_agent().unwrap();
        seen.status.phase = Default::default();
        seen.status.observed_generation = 9;
        house.apply(vec![by("three"), write(seen.into(), Part::Status)]).await;
        assert_eq!(managers(&read("ones").await), ["one"]);
        // What is changed changes hands, and nothing else.
        let mut changed = read("ones").await;
        changed.metadata_mut().labels.insert("team".to_owned(), "x".to_owned());
        house.apply(vec![by("three"), write(changed, Part::Desired)]).await;
        let object = read("ones").await.to_json();
        assert_eq!(holders(&object, "/f:metadata/f:labels/f:team"), ["three"]);
        assert_eq!(holders(&object, "/f:spec/f:agent"), ["one"]);
    }
}
