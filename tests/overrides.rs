//! Overrides: laid over what a file says, for a time, and undone whole.

#[path = "support/declared.rs"]
mod declared;

use std::{os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use declared::{Declared, FILE, base};
use open_dispatch::{
    ambient::FreeSteps,
    reconcile::{Controller as _, Error, Next, Wake},
    resource::{AnyObject, Kind, RELEASED_FROM, Source},
    source::over::pen::{Edit, Pen, PenError},
    store::{Change, ChangeKind, Expect, Op, Part, Store as _},
};
use proptest::{collection, prelude::*};
use serde_json::{Value, json};

async fn declared() -> Declared {
    Declared::new(Arc::new(FreeSteps)).await
}

#[tokio::test]
async fn an_override_is_laid_over_shown_and_undone_when_its_time_is_over() {
    let mut world = declared().await;
    let patch = json!({"budget": {"usd": 9, "turns": null}});
    world.over("more", json!({"patch": patch, "expiresAfter": "2h"})).await;
    assert_eq!(world.settle().await, Next::After(Duration::from_secs(2 * 3600)));
    assert_eq!(world.spec().await["budget"], json!({"usd": 9}));
    assert_eq!(world.phase("more").await.0, "Applied");
    let bot = world.bot().await;
    let drifted = bot.status.conditions.get("Drifted").unwrap();
    assert_eq!(
        (drifted.reason.as_str(), drifted.message.as_str()),
        ("OverriddenBy", "override more of budget until 2026-01-01T02:00:00Z")
    );
    assert_eq!(drifted.observed_generation, bot.metadata.generation);
    world.advance(2).await;
    assert_eq!(world.spec().await["budget"], json!({"usd": 5, "turns": 20}));
    assert!(world.bot().await.status.conditions.get("Drifted").is_none());
    assert_eq!(world.phase("more").await.0, "Expired");
    let told = world.store.events("bot-uid").await.unwrap();
    let told: Vec<&str> = told.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!(told, ["Overridden", "OverrideEnded"]);
    // And it does not stay for ever.
    world.advance(25).await;
    assert_eq!(world.phase("more").await.0, "gone");
}

#[tokio::test]
async fn deleting_an_override_undoes_it_and_leaves_the_others() {
    let mut world = declared().await;
    world.over("first", json!({"patch": {"budget": {"usd": 9}, "idleTimeout": "1h"}})).await;
    world.settle().await;
    world.over("second", json!({"patch": {"budget": {"usd": 7}}})).await;
    world.settle().await;
    assert_eq!(world.spec().await["budget"]["usd"], 7);
    world.delete(Kind::Override, "second").await;
    world.settle().await;
    assert_eq!(
        (world.spec().await["budget"]["usd"].clone(), world.find("second").await),
        (9.into(), None)
    );
    world.delete(Kind::Override, "first").await;
    world.settle().await;
    assert_eq!(world.spec().await["budget"]["usd"], 5);
    assert_eq!(world.spec().await["idleTimeout"], "15m");
    assert!(world.row().await.unwrap().overrides.is_empty());
}

#[tokio::test]
async fn a_new_commit_keeps_the_override_and_one_that_does_not_fit_any_more_is_told() {
    let mut world = declared().await;
    world.over("model", json!({"patch": {"agent": {"claude": {"model": "opus"}}}})).await;
    world.settle().await;
    let mut spec = base();
    spec["idleTimeout"] = "1h".into();
    world.commit(spec.clone()).await;
    world.settle().await;
    let now = world.spec().await;
    assert_eq!(
        (&now["idleTimeout"], &now["agent"]["claude"]["model"]),
        (&json!("1h"), &json!("opus"))
    );
    // Another agent altogether: the patch would make it two at once.
    spec["agent"] = json!({"opencode": {"model": "a/b"}});
    world.commit(spec).await;
    world.settle().await;
    assert_eq!(world.spec().await["agent"], json!({"opencode": {"model": "a/b"}}));
    let (phase, why) = world.phase("model").await;
    assert_eq!(phase, "Refused");
    assert!(why.starts_with("Invalid: spec.agent: name exactly one of"), "{why}");
    // And it fits again once the file says so.
    world.commit(base()).await;
    world.settle().await;
    assert_eq!(world.spec().await["agent"]["claude"]["model"], "opus");
}

#[tokio::test]
async fn what_cannot_be_overridden_says_why_and_changes_nothing() {
    let mut world = declared().await;
    world.over("bad", json!({"patch": {"budget": {"usd": -1}}})).await;
    world.over("unknown", json!({"patch": {"budgt": {"usd": 1}}})).await;
    let before = world.spec().await;
    world.settle().await;
    let mut told = vec![world.phase("bad").await, world.phase("unknown").await];
    assert_eq!(world.spec().await, before);
    world.delete(Kind::Override, "bad").await;
    world.delete(Kind::Override, "unknown").await;
    world.over("good", json!({"patch": {"budget": {"usd": 9}}})).await;
    world.settle().await;
    // Let go: it stays as it is, and the override has nothing to hold on to.
    let row = world.row().await.unwrap();
    world.apply(row.let_go(world.bot().await.into()).to_vec()).await;
    world.settle().await;
    told.push(world.phase("good").await);
    assert_eq!(world.spec().await["budget"]["usd"], 9);
    let bot = world.bot().await;
    assert_eq!(bot.metadata.annotations.get(RELEASED_FROM).map(String::as_str), Some("ours"));
    assert!(bot.status.conditions.get("Drifted").is_none());
    // Being deleted, and gone.
    world.delete(Kind::Agent, "bot").await;
    world.settle().await;
    told.push(world.phase("good").await);
    let mut bot = world.bot().await;
    bot.metadata.finalizers.clear();
    let (object, part) = (AnyObject::from(bot), Part::Finalizers);
    world.apply(vec![Op::Write { object, part, expect: Expect::SameVersion }]).await;
    world.settle().await;
    told.push(world.phase("good").await);
    let lines: Vec<String> = told.iter().map(|(phase, why)| format!("{phase}: {why}")).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn stopping_an_agent_passes_through_an_override_and_its_end() {
    let mut world = declared().await;
    world.over("more", json!({"patch": {"budget": {"usd": 9}}})).await;
    world.settle().await;
    let mut bot = world.bot().await;
    bot.spec.suspend = true;
    let (object, part) = (AnyObject::from(bot), Part::Desired);
    world.apply(vec![Op::Write { object, part, expect: Expect::SameVersion }]).await;
    world.advance(2).await;
    let spec = world.spec().await;
    assert_eq!((&spec["suspend"], &spec["budget"]["usd"]), (&json!(true), &json!(5)));
}

#[tokio::test]
async fn a_converged_world_is_not_written_to() {
    let mut world = declared().await;
    world.over("more", json!({"patch": {"budget": {"usd": 9}}, "writeToFile": true})).await;
    world.over("bad", json!({"patch": {"budget": {"usd": -1}}})).await;
    world.settle().await;
    let (writes, file) =
        (world.store.writes(), std::fs::metadata(world.dir.join("bot.yaml")).unwrap());
    for key in ["agent/bot", "agent/nobody"] {
        world.controller.reconcile(key).await.unwrap();
        world.files.reconcile(key).await.unwrap();
    }
    assert_eq!(world.store.writes(), writes);
    let same = std::fs::metadata(world.dir.join("bot.yaml")).unwrap();
    assert_eq!(same.modified().unwrap(), file.modified().unwrap());
}

#[tokio::test]
async fn an_override_that_is_written_to_the_file_ends_when_the_file_says_it() {
    let mut world = declared().await;
    let path = world.dir.join("bot.yaml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    world.over("more", json!({"patch": {"budget": {"usd": 9}}, "writeToFile": true})).await;
    world.settle().await;
    // It holds at once, and stands in the file, which else is as it was.
    assert_eq!(world.spec().await["budget"]["usd"], 9);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, FILE.replace("usd: 5", "usd: 9"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(&world.dir).unwrap().count(), 1, "nothing is left beside it");
    assert_eq!(world.phase("more").await.0, "Applied");
    world.read_file().await;
    world.settle().await;
    assert_eq!(world.phase("more").await.0, "Written");
    assert_eq!(world.spec().await["budget"]["usd"], 9);
    assert!(world.bot().await.status.conditions.get("Drifted").is_none());
    assert!(world.row().await.unwrap().overrides.is_empty());
}

#[tokio::test]
async fn a_revision_that_says_what_holds_already_wakes_the_override_that_waits_for_it() {
    let mut world = declared().await;
    world.over("more", json!({"patch": {"budget": {"usd": 9}}, "writeToFile": true})).await;
    let read = async |world: &Declared| {
        let object = world.store.get(Kind::Source, "ours").await.unwrap().unwrap();
        // The object is not written, for it says that already: only the Source's status changes.
        Change { revision: 1, kind: ChangeKind::Modified, object, desired: false }
    };
    assert_eq!(world.controller.concerns(&read(&world).await), [], "it is not written yet");
    world.settle().await;
    let key = "agent/bot".to_owned();
    assert_eq!(world.controller.concerns(&read(&world).await), [(key, Wake::Observation)]);
    world.read_file().await;
    world.settle().await;
    assert_eq!(world.phase("more").await.0, "Written");
    assert_eq!(world.controller.concerns(&read(&world).await), [], "nobody waits any more");
}

#[tokio::test]
async fn what_a_file_says_holds_where_it_was_changed_after_an_override_was_written_to_it() {
    let mut world = declared().await;
    let patch = json!({"budget": {"usd": 9}});
    world.over("more", json!({"patch": patch, "writeToFile": true, "expiresAfter": "24h"})).await;
    world.settle().await;
    // Somebody changes it once more before the Source looks.
    let path = world.dir.join("bot.yaml");
    std::fs::write(&path, FILE.replace("usd: 5", "usd: 3")).unwrap();
    world.read_file().await;
    world.settle().await;
    assert_eq!(world.phase("more").await.0, "Applied", "the file may not have been read yet");
    // A Source that is not well reads nothing, however long that takes.
    world.advance(1).await;
    assert_eq!(world.spec().await["budget"]["usd"], 9);
    world.source_is_well().await;
    let next = world.settle().await;
    assert_eq!(world.phase("more").await.0, "Written", "{next:?}");
    let (_, why) = world.phase("more").await;
    assert_eq!(
        why,
        "FileChanged: it was written to the file, which was changed since; what the file says holds"
    );
    assert_eq!(world.spec().await["budget"]["usd"], 3);
    assert!(world.bot().await.status.conditions.get("Drifted").is_none());
    world.advance(25).await;
    assert_eq!(world.phase("more").await.0, "gone");
}

#[tokio::test]
async fn a_source_is_given_its_time_to_read_what_was_written() {
    let mut world = declared().await;
    world.source_is_well().await;
    world.over("more", json!({"patch": {"budget": {"usd": 9}}, "writeToFile": true})).await;
    // Two of its intervals of a minute, and one more.
    assert_eq!(world.settle().await, Next::After(Duration::from_secs(180)));
    assert_eq!(world.phase("more").await.0, "Applied");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_and_the_override_holds_meanwhile() {
    let mut world = declared().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let path = world.dir.join("bot.yaml");
    std::fs::rename(&path, elsewhere.path().join("bot.yaml")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("bot.yaml"), &path).unwrap();
    world.over("more", json!({"patch": {"budget": {"usd": 9}}, "writeToFile": true})).await;
    world.settle().await;
    let over = world.find("more").await.unwrap();
    let written = over.status.conditions.get("Written").unwrap();
    assert_eq!(
        (written.reason.as_str(), written.message.as_str()),
        ("Refused", "bot.yaml leads out of the source")
    );
    assert_eq!(world.spec().await["budget"]["usd"], 9);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), FILE);
}

#[tokio::test]
async fn an_override_wakes_its_object_and_an_object_without_one_wakes_nobody() {
    let world = declared().await;
    let change = |object: AnyObject| Change {
        revision: 1,
        kind: ChangeKind::Modified,
        object,
        desired: true,
    };
    let bot: AnyObject = world.bot().await.into();
    assert_eq!(world.controller.concerns(&change(bot.clone())), []);
    world.over("more", json!({"patch": {"budget": {"usd": 9}}})).await;
    let over: AnyObject = world.find("more").await.unwrap().into();
    let key = "agent/bot".to_owned();
    assert_eq!(world.controller.concerns(&change(over)), [(key.clone(), Wake::User)]);
    assert_eq!(world.controller.concerns(&change(bot)), [(key, Wake::Observation)]);
}

/// A pen that waits until it is let go.
struct SlowPen {
    begun: tokio::sync::Semaphore,
    let_go: tokio::sync::Semaphore,
}

#[async_trait::async_trait]
impl Pen for SlowPen {
    async fn write(&self, _: &Source, edit: &Edit) -> Result<String, PenError> {
        self.begun.add_permits(1);
        if let Ok(permit) = self.let_go.acquire().await {
            permit.forget();
        }
        Ok(edit.file.clone())
    }
}

#[tokio::test]
async fn a_slow_push_holds_up_neither_another_change_nor_its_end_and_is_one_at_a_time() {
    let mut world = declared().await;
    let none = || tokio::sync::Semaphore::new(0);
    let pen = Arc::new(SlowPen { begun: none(), let_go: none() });
    world.write_with(Arc::clone(&pen) as _);
    world.over("slow", json!({"patch": {"idleTimeout": "1h"}, "writeToFile": true})).await;
    world.controller.reconcile("agent/bot").await.unwrap();
    let writing = world.files.reconcile("agent/bot");
    let meanwhile = async {
        pen.begun.acquire().await.unwrap().forget();
        world.over("more", json!({"patch": {"budget": {"usd": 9}}})).await;
        world.controller.reconcile("agent/bot").await.unwrap();
        assert_eq!(world.spec().await["budget"]["usd"], 9);
        world.delete(Kind::Override, "more").await;
        world.controller.reconcile("agent/bot").await.unwrap();
        assert_eq!(world.spec().await["budget"]["usd"], 5);
        // Another change of the same Source waits its turn, and does not hold a worker for it.
        let second = world.files.reconcile("agent/bot").await;
        assert!(
            matches!(second, Err(Error::RateLimited(pause)) if pause == Duration::from_secs(1)),
            "{second:?}"
        );
        assert_eq!(pen.begun.available_permits(), 0);
        pen.let_go.add_permits(1);
    };
    let (written, ()) = tokio::join!(writing, meanwhile);
    assert_eq!(written.unwrap(), Next::Done);
    assert_eq!(world.written("slow").await.0, "InFile");
    // A write that is given up gives its turn back.
    let mut world = declared().await;
    world.write_with(Arc::clone(&pen) as _);
    world.over("slow", json!({"patch": {"idleTimeout": "1h"}, "writeToFile": true})).await;
    world.controller.reconcile("agent/bot").await.unwrap();
    tokio::select! {
        biased;
        ended = world.files.reconcile("agent/bot") => panic!("{ended:?}"),
        permit = pen.begun.acquire() => permit.unwrap().forget(),
    }
    pen.let_go.add_permits(1);
    assert_eq!(world.files.reconcile("agent/bot").await.unwrap(), Next::Done);
    assert!(world.files.deadline().unwrap() > Duration::from_secs(300), "a fetch may take so long");
}

#[tokio::test]
async fn nothing_is_written_for_a_source_that_is_suspended_and_it_is_made_up_for() {
    let mut world = declared().await;
    world.change_source(|spec| spec.suspend = true).await;
    world.over("more", json!({"patch": {"budget": {"usd": 9}}, "writeToFile": true})).await;
    world.settle().await;
    let path = world.dir.join("bot.yaml");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), FILE);
    let (reason, message) = world.written("more").await;
    assert_eq!(reason, "Refused");
    assert!(message.contains("open-dispatch resume source/ours"), "{message}");
    assert_eq!(world.spec().await["budget"]["usd"], 9);
    world.change_source(|spec| spec.suspend = false).await;
    let source = world.store.get(Kind::Source, "ours").await.unwrap().unwrap();
    let change = Change { revision: 1, kind: ChangeKind::Modified, object: source, desired: true };
    assert_eq!(world.files.concerns(&change), [("agent/bot".to_owned(), Wake::Observation)]);
    world.settle().await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), FILE.replace("usd: 5", "usd: 9"));
    assert_eq!(world.written("more").await.0, "InFile");
    world.delete(Kind::Source, "ours").await;
    world.over("last", json!({"patch": {"idleTimeout": "1h"}, "writeToFile": true})).await;
    world.settle().await;
    let told = ("Refused".to_owned(), "source ours is being deleted".to_owned());
    assert_eq!(world.written("last").await, told);
}

#[tokio::test]
async fn what_the_policy_forbids_is_overridden_for_a_time_and_never_written_to_the_file() {
    let mut world = declared().await;
    let policy = json!({"permissionModes": ["ask"], "channels": ["slack:C1"]});
    world.change_source(|spec| spec.policy = serde_json::from_value(policy).unwrap()).await;
    let patch = json!({"permissions": {"mode": "bypass"}});
    world.over("free", json!({"patch": patch, "writeToFile": true})).await;
    world.settle().await;
    let (reason, message) = world.written("free").await;
    assert_eq!(reason, "Refused");
    assert_eq!(
        message,
        "the policy of source ours forbids it: spec.permissions.mode: the permission mode `bypass` \
         is not allowed to this source; its policy allows ask"
    );
    assert_eq!(world.spec().await["permissions"]["mode"], "bypass");
    let path = world.dir.join("bot.yaml");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), FILE);
    // Allowed by now.
    let policy = json!({"permissionModes": ["ask", "bypass"]});
    world.change_source(|spec| spec.policy = serde_json::from_value(policy).unwrap()).await;
    world.settle().await;
    assert_eq!(world.written("free").await.0, "InFile");
    assert!(std::fs::read_to_string(&path).unwrap().contains("bypass"));
}

#[tokio::test]
async fn a_field_that_the_server_fills_in_again_is_not_taken_out_of_the_file() {
    let mut world = declared().await;
    let git = json!({"git": {"repos": ["acme/web"], "push": true}});
    world.change_source(|spec| spec.from = serde_json::from_value(git).unwrap()).await;
    let mut spec = base();
    spec["repo"] = json!({"github": "acme/web"});
    world.commit(spec).await;
    world.over("none", json!({"patch": {"repo": null}, "writeToFile": true})).await;
    world.settle().await;
    assert_eq!(world.spec().await.get("repo"), None);
    let (reason, message) = world.written("none").await;
    assert_eq!(reason, "Refused");
    assert!(
        message.starts_with("the server fills repo in where a file of source ours"),
        "{message}"
    );
}

#[tokio::test]
async fn an_override_that_goes_while_its_file_cannot_be_taken_is_not_laid_again() {
    let mut world = declared().await;
    world.over("more", json!({"patch": {"budget": {"usd": 9}}})).await;
    world.over("stays", json!({"patch": {"idleTimeout": "1h"}})).await;
    world.settle().await;
    let mut row = world.row().await.unwrap();
    row.base.spec["budget"] = json!({"usd": -1});
    world.apply(vec![Op::Own(row)]).await;
    world.settle().await;
    assert_eq!(world.phase("stays").await.0, "Refused");
    world.delete(Kind::Override, "more").await;
    world.settle().await;
    assert_eq!(world.find("more").await, None);
    let left = world.row().await.unwrap().overrides;
    assert_eq!(left.iter().map(|over| over.name.as_str()).collect::<Vec<_>>(), ["stays"]);
    // Its file is good again: the one that went is not part of it, the other is.
    world.commit(base()).await;
    world.settle().await;
    let spec = world.spec().await;
    assert_eq!((&spec["budget"]["usd"], &spec["idleTimeout"]), (&json!(5), &json!("1h")));
}

/// What may happen to an object that is overridden.
#[derive(Debug, Clone)]
enum Happening {
    Over(usize, Value, u64),
    Undo(usize),
    Commit(Value),
    Stop(bool),
    Wait(u64),
}

fn patches() -> impl Strategy<Value = Value> {
    prop_oneof![
        (1..9u8).prop_map(|usd| json!({"budget": {"usd": usd}})),
        Just(json!({"budget": {"turns": null}})),
        Just(json!({"budget": null})),
        Just(json!({"agent": {"claude": null, "opencode": {}}})),
        Just(json!({"agent": {"claude": {"model": "opus"}}})),
        Just(json!({"env": [{"name": "A", "value": "b"}]})),
    ]
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let specs = prop_oneof![
        Just(base()),
        Just(json!({"agent": {"opencode": {}}})),
        (1..9u8).prop_map(|usd| json!({"agent": {"claude": {}}, "budget": {"usd": usd}})),
    ];
    let one = prop_oneof![
        (0..4usize, patches(), 1..9u64)
            .prop_map(|(n, patch, hours)| Happening::Over(n, patch, hours)),
        (0..4usize).prop_map(Happening::Undo),
        specs.prop_map(Happening::Commit),
        any::<bool>().prop_map(Happening::Stop),
        (1..5u64).prop_map(Happening::Wait),
    ];
    collection::vec(one, 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happens_the_end_of_all_overrides_gives_back_what_the_file_says(all in happenings()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = declared().await;
            let (mut file, mut stopped) = (base(), false);
            for happening in all {
                match happening {
                    Happening::Over(n, patch, hours) => {
                        let name = format!("over-{n}");
                        if world.find(&name).await.is_none() {
                            let spec = json!({"patch": patch, "expiresAfter": format!("{hours}h")});
                            world.over(&name, spec).await;
                        }
                    }
                    Happening::Undo(n) => {
                        let name = format!("over-{n}");
                        if world.find(&name).await.is_some() {
                            world.delete(Kind::Override, &name).await;
                        }
                    }
                    Happening::Commit(spec) => {
                        world.commit(spec.clone()).await;
                        file = spec;
                    }
                    Happening::Stop(suspend) => {
                        let mut bot = world.bot().await;
                        bot.spec.suspend = suspend;
                        let (object, part) = (bot.into(), Part::Desired);
                        world.apply(vec![Op::Write { object, part, expect: Expect::Any }]).await;
                        stopped = suspend;
                    }
                    Happening::Wait(hours) => world.advance(hours).await,
                }
                world.settle().await;
            }
            world.advance(10).await;
            world.commit(file.clone()).await;
            let bare = world.spec().await;
            assert!(world.row().await.unwrap().overrides.is_empty());
            assert_eq!(bare["suspend"].as_bool().unwrap_or_default(), stopped);
            world.holds().await;
            // Nothing of any of them is left.
            assert_eq!(bare["agent"], file["agent"]);
            assert_eq!(bare.get("env"), None);
        });
    }
}
