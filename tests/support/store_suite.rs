//! What every back end of the store must do, as functions over the interface.
//!
//! Each function takes an empty store. A back end is listed in `tests/store_conformance.rs`,
//! which runs all of them on it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Clock, ManualClock},
    resource::{AnyObject, Kind},
    store::{
        Access, Applied, Approval, ApprovalState, AuditRow, BackoffRow, Bell, ChangeKind, Cursor,
        Delivery, DeliveryState, Error, Expect, Grant, Held, MOST_PAIRINGS, Op,
        Outcome as AuditOutcome, OutputRow, PAIRING_EXPIRY, Pairing, Part, Place, Principal,
        Receipt, Revision, Role, Store, Transaction, Turn, TurnState, TurnSums, WatchEvent, watch,
        watch_with,
    },
};
use serde_json::json;
use sprite_reporter::wire::{Event, EventBody, ExitReason, InboxRow, Order, Usage};
use tokio::sync::Notify;

use crate::fixtures::{
    agent, approval, at, delivery, exit, gap, hello, job, log, output, owner_reference, phase,
    sprite, turn, tx, with_finalizers, with_phase, with_spec,
};

pub type Subject = Arc<dyn Store>;

async fn apply(store: &Subject, ops: impl IntoIterator<Item = Op>) -> Result<Applied, Error> {
    store.apply(tx(0, ops)).await
}

/// Creates an object, and returns it as it is then.
async fn create(store: &Subject, object: AnyObject) -> AnyObject {
    let applied = apply(store, [Op::Create(object)]).await.unwrap();
    applied.objects.into_iter().next().flatten().unwrap()
}

fn write(object: AnyObject, part: Part) -> Op {
    Op::Write { object, part, expect: Expect::SameVersion }
}

fn overwrite(object: AnyObject, part: Part) -> Op {
    Op::Write { object, part, expect: Expect::Any }
}

fn delete(object: &AnyObject) -> Op {
    let name = object.metadata().name.clone();
    Op::Delete { kind: object.kind(), name, uid: None, resource_version: None }
}

fn patch(object: &AnyObject, patch: serde_json::Value, unless: Option<&str>) -> Op {
    Op::PatchStatus {
        kind: object.kind(),
        uid: object.metadata().uid.clone(),
        patch,
        unless: unless.map(ToOwned::to_owned),
    }
}

async fn now_at(store: &Subject, object: &AnyObject) -> AnyObject {
    store.get(object.kind(), &object.metadata().name).await.unwrap().unwrap()
}

fn conflict(object: &AnyObject) -> Error {
    Error::Conflict { kind: object.kind(), name: object.metadata().name.clone() }
}

fn missing(object: &AnyObject) -> Error {
    Error::NotFound { kind: object.kind(), name: object.metadata().name.clone() }
}

// ---- objects

pub async fn a_created_object_gets_what_the_store_sets(store: Subject) {
    let mut wish = job("a");
    wish.metadata_mut().generation = 7;
    wish.metadata_mut().resource_version = "7".to_owned();
    wish.metadata_mut().deletion_timestamp = Some(at(9));
    let applied = store.apply(tx(5, [Op::Create(wish)])).await.unwrap();
    let created = applied.objects[0].clone().unwrap();
    let metadata = created.metadata();
    assert_eq!(metadata.generation, 1);
    assert_eq!(metadata.resource_version, applied.revision.to_string());
    assert_eq!(metadata.creation_timestamp, Some(at(5)));
    assert_eq!(metadata.deletion_timestamp, None);
    assert_eq!(store.get(Kind::Job, "a").await.unwrap().as_ref(), Some(&created));
    assert_eq!(store.get_by_uid(Kind::Job, "uid-a").await.unwrap(), Some(created));
    assert_eq!(store.get(Kind::Agent, "a").await.unwrap(), None);
    assert_eq!(store.get_by_uid(Kind::Agent, "uid-a").await.unwrap(), None);
}

pub async fn a_name_and_a_uid_are_taken_once(store: Subject) {
    let first = create(&store, job("a")).await;
    let taken = Error::AlreadyExists { kind: Kind::Job, name: "a".to_owned() };
    assert_eq!(apply(&store, [Op::Create(job("a"))]).await, Err(taken));
    let mut twin = job("b");
    twin.metadata_mut().uid = "uid-a".to_owned();
    let taken = Error::AlreadyExists { kind: Kind::Job, name: "uid-a".to_owned() };
    assert_eq!(apply(&store, [Op::Create(twin)]).await, Err(taken));
    create(&store, agent("a")).await;
    assert_eq!(now_at(&store, &first).await, first);
}

pub async fn a_write_takes_only_its_part(store: Subject) {
    let created = create(&store, job("a")).await;
    let mut given = with_phase(&with_spec(&created, "other"), "Running");
    given.metadata_mut().labels.insert("team".to_owned(), "x".to_owned());
    given.metadata_mut().annotations.insert("note".to_owned(), "y".to_owned());
    given.metadata_mut().finalizers = vec!["f".to_owned()];
    given.metadata_mut().owner_references = vec![owner_reference(&agent("o"), false)];
    given.metadata_mut().creation_timestamp = None;

    apply(&store, [overwrite(given.clone(), Part::Desired)]).await.unwrap();
    let desired = now_at(&store, &created).await;
    assert_eq!(desired.metadata().generation, 2);
    assert_eq!(desired.metadata().labels, given.metadata().labels);
    assert_eq!(desired.metadata().annotations, given.metadata().annotations);
    assert!(desired.metadata().finalizers.is_empty());
    assert_eq!(desired.metadata().creation_timestamp, Some(at(0)));
    assert_eq!(phase(&desired), "");

    apply(&store, [overwrite(given.clone(), Part::Status)]).await.unwrap();
    let status = now_at(&store, &created).await;
    assert_eq!(phase(&status), "Running");
    assert_eq!(status.metadata().generation, 2);
    assert!(status.metadata().owner_references.is_empty());

    apply(&store, [overwrite(given.clone(), Part::Finalizers)]).await.unwrap();
    let finalizers = now_at(&store, &created).await;
    assert_eq!(finalizers.metadata().finalizers, given.metadata().finalizers);
    assert_eq!(finalizers.metadata().owner_references, given.metadata().owner_references);
}

pub async fn labels_alone_raise_no_generation(store: Subject) {
    let mut object = create(&store, job("a")).await;
    object.metadata_mut().labels.insert("a".to_owned(), "b".to_owned());
    let applied = apply(&store, [write(object, Part::Desired)]).await.unwrap();
    assert!(applied.changed);
    assert_eq!(applied.objects[0].as_ref().unwrap().metadata().generation, 1);
}

pub async fn a_stale_write_is_refused(store: Subject) {
    let created = create(&store, job("a")).await;
    apply(&store, [write(with_phase(&created, "Running"), Part::Status)]).await.unwrap();
    let stale = write(with_phase(&created, "Failed"), Part::Status);
    assert_eq!(apply(&store, [stale]).await, Err(conflict(&created)));
    assert_eq!(phase(&now_at(&store, &created).await), "Running");
}

pub async fn a_namesake_is_not_mistaken_for_the_object(store: Subject) {
    let old = create(&store, job("a")).await;
    apply(&store, [delete(&old)]).await.unwrap();
    let mut new = job("a");
    new.metadata_mut().uid = "uid-new".to_owned();
    create(&store, new).await;
    let refused = Err(conflict(&old));
    assert_eq!(apply(&store, [overwrite(old.clone(), Part::Status)]).await, refused);
    assert_eq!(apply(&store, [write(old.clone(), Part::Status)]).await, refused);
    let uid = Some("uid-a".to_owned());
    let delete = Op::Delete { kind: Kind::Job, name: "a".to_owned(), uid, resource_version: None };
    assert_eq!(apply(&store, [delete]).await, refused);
    // Without a uid, whatever bears the name is meant.
    let mut unknown = with_phase(&old, "Running");
    unknown.metadata_mut().uid.clear();
    assert!(apply(&store, [overwrite(unknown, Part::Status)]).await.is_ok());
    assert_eq!(store.get_by_uid(Kind::Job, "uid-a").await.unwrap(), None);
}

pub async fn what_is_not_there_cannot_be_written_or_deleted(store: Subject) {
    let absent = job("a");
    for op in [
        write(absent.clone(), Part::Status),
        overwrite(absent.clone(), Part::Desired),
        delete(&absent),
    ] {
        assert_eq!(apply(&store, [op]).await, Err(missing(&absent)));
    }
}

pub async fn one_transaction_writes_several_parts_of_what_was_read_once(store: Subject) {
    let created = create(&store, job("a")).await;
    let status = write(with_phase(&created, "Running"), Part::Status);
    let finalizers = write(with_finalizers(&created, &["f"]), Part::Finalizers);
    let applied = apply(&store, [status, finalizers]).await.unwrap();
    assert_eq!(applied.revision, 2, "one object, one revision");
    let object = now_at(&store, &created).await;
    assert_eq!((phase(&object), object.metadata().finalizers.len()), ("Running", 1));
    assert_eq!(applied.objects, vec![Some(object.clone()), Some(object)]);
    let changes = store.changes(1, 10).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert!(changes[0].desired);
}

pub async fn a_created_object_can_be_written_in_the_same_transaction(store: Subject) {
    let status = write(with_phase(&job("a"), "Pending"), Part::Status);
    let applied = apply(&store, [Op::Create(job("a")), status]).await.unwrap();
    assert_eq!(applied.revision, 1);
    let changes = store.changes(0, 10).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].kind, ChangeKind::Added);
    assert_eq!(phase(&changes[0].object), "Pending");
}

pub async fn what_comes_and_goes_in_one_transaction_leaves_no_trace(store: Subject) {
    let applied = apply(&store, [Op::Create(job("a")), delete(&job("a"))]).await.unwrap();
    assert_eq!(applied.revision, 0);
    assert_eq!(applied.objects.last(), Some(&None));
    assert_eq!(store.get(Kind::Job, "a").await.unwrap(), None);
    assert_eq!(store.get_by_uid(Kind::Job, "uid-a").await.unwrap(), None);
    assert!(store.changes(0, 10).await.unwrap().is_empty());
}

pub async fn an_object_replaced_in_one_transaction_is_shown_as_gone_and_new(store: Subject) {
    let old = create(&store, job("a")).await;
    let mut new = job("a");
    new.metadata_mut().uid = "uid-new".to_owned();
    let applied = apply(&store, [delete(&old), Op::Create(new)]).await.unwrap();
    assert_eq!(applied.revision, 3);
    let changes = store.changes(1, 10).await.unwrap();
    let shown: Vec<_> = changes
        .iter()
        .map(|change| (change.revision, change.kind, change.object.metadata().uid.as_str()))
        .collect();
    let expected = [(2, ChangeKind::Deleted, "uid-a"), (3, ChangeKind::Added, "uid-new")];
    assert_eq!(shown, expected);
    let now = now_at(&store, &old).await;
    assert_eq!(now.metadata().uid, "uid-new");
    assert_eq!(store.get_by_uid(Kind::Job, "uid-new").await.unwrap(), Some(now));
    assert_eq!(store.get_by_uid(Kind::Job, "uid-a").await.unwrap(), None);
}

pub async fn an_object_without_finalizers_goes_at_once(store: Subject) {
    let created = create(&store, job("a")).await;
    let applied = apply(&store, [delete(&created)]).await.unwrap();
    assert_eq!(applied.objects, vec![None]);
    assert_eq!(store.get(Kind::Job, "a").await.unwrap(), None);
    let change = store.changes(1, 10).await.unwrap().remove(0);
    assert_eq!((change.kind, change.revision, change.desired), (ChangeKind::Deleted, 2, true));
    assert_eq!(change.object.metadata().resource_version, "2");
}

pub async fn an_object_with_finalizers_goes_with_the_last_of_them(store: Subject) {
    let created = create(&store, with_finalizers(&job("a"), &["f", "g"])).await;
    let applied = store.apply(tx(3, [delete(&created)])).await.unwrap();
    let deleting = applied.objects[0].clone().unwrap();
    assert_eq!(deleting.metadata().deletion_timestamp, Some(at(3)));
    assert_eq!(deleting.metadata().generation, 2);

    let again = store.apply(tx(4, [delete(&created)])).await.unwrap();
    assert!(!again.changed);
    assert_eq!(now_at(&store, &created).await, deleting);

    let one = write(with_finalizers(&deleting, &["g"]), Part::Finalizers);
    let held = apply(&store, [one]).await.unwrap().objects[0].clone().unwrap();
    assert!(held.metadata().is_deleting());
    let none = write(with_finalizers(&held, &[]), Part::Finalizers);
    assert_eq!(apply(&store, [none]).await.unwrap().objects, vec![None]);
    assert_eq!(store.get(Kind::Job, "a").await.unwrap(), None);
}

pub async fn a_delete_can_ask_for_a_version(store: Subject) {
    let created = create(&store, job("a")).await;
    let delete = |version: &str| Op::Delete {
        kind: Kind::Job,
        name: "a".to_owned(),
        uid: Some("uid-a".to_owned()),
        resource_version: Some(version.to_owned()),
    };
    assert_eq!(apply(&store, [delete("7")]).await, Err(conflict(&created)));
    let version = created.metadata().resource_version.clone();
    assert!(apply(&store, [delete(&version)]).await.is_ok());
}

pub async fn a_status_patch_merges(store: Subject) {
    let created = create(&store, job("a")).await;
    let first = json!({"phase": "Running", "cost": {"outputTokens": 2}, "sprite": "s"});
    apply(&store, [patch(&created, first, None)]).await.unwrap();
    let second = json!({"cost": {"inputTokens": 5}, "sprite": null});
    apply(&store, [patch(&created, second, None)]).await.unwrap();
    let AnyObject::Job(job) = now_at(&store, &created).await else { panic!("a job") };
    assert_eq!(job.status.phase, "Running");
    assert_eq!((job.status.cost.output_tokens, job.status.cost.input_tokens), (2, 5));
    assert_eq!(job.status.sprite, None);
    assert_eq!(job.metadata.generation, 1);
    let changes = store.changes(0, 10).await.unwrap();
    assert_eq!(
        changes.iter().map(|change| change.desired).collect::<Vec<_>>(),
        [true, false, false]
    );
}

pub async fn a_status_patch_yields_to_what_stands_there(store: Subject) {
    let created = create(&store, job("a")).await;
    let first = patch(&created, json!({"exitCode": 1, "phase": "x"}), Some("/exitCode"));
    assert!(apply(&store, [first]).await.unwrap().changed);
    let second = patch(&created, json!({"exitCode": 2, "phase": "y"}), Some("/exitCode"));
    assert!(!apply(&store, [second]).await.unwrap().changed);
    let AnyObject::Job(job) = now_at(&store, &created).await else { panic!("a job") };
    assert_eq!((job.status.exit_code, job.status.phase.as_str()), (Some(1), "x"));
}

pub async fn a_status_patch_for_what_is_gone_is_without_effect(store: Subject) {
    let applied = apply(&store, [patch(&job("a"), json!({"phase": "x"}), None)]).await.unwrap();
    assert!(!applied.changed);
    assert!(applied.objects.is_empty());
}

pub async fn a_status_patch_that_does_not_fit_is_refused(store: Subject) {
    let created = create(&store, job("a")).await;
    let error = apply(&store, [patch(&created, json!({"phase": 7}), None)]).await.unwrap_err();
    assert!(
        error.to_string().starts_with("the patch does not fit the status of jobs \"a\": "),
        "{error}"
    );
    assert_eq!(now_at(&store, &created).await, created);
}

// ---- transactions

/// A transaction that does something of every sort.
fn everything(owner: &AnyObject) -> Vec<Op> {
    vec![
        Op::Create(job("new")),
        overwrite(with_spec(owner, "changed"), Part::Desired),
        patch(owner, json!({"phase": "Running"}), None),
        Op::Receipt(Receipt { key: "r".to_owned(), effect: "e".to_owned() }),
        output("s", 1, vec![log(1, "a"), log(2, "b")]),
        Op::Order {
            sprite_uid: "s".to_owned(),
            run: 1,
            key: "k".to_owned(),
            order: Order::Sleep {},
        },
        Op::InboxAck { sprite_uid: "s".to_owned(), n: 1 },
        Op::AddTurn(turn("t", "uid-agent")),
        Op::MoveTurn {
            turn: Turn { state: TurnState::Sent, ..turn("t", "uid-agent") },
            from: vec![TurnState::Queued],
        },
        Op::AddApproval(approval("s", "q")),
        Op::Delivery(delivery("d")),
        event_op("uid-job", "Started", "it started"),
        Op::Backoff(backoff("x", 3)),
    ]
}

fn event_op(uid: &str, reason: &str, note: &str) -> Op {
    Op::Event {
        kind: Kind::Job,
        name: "job".to_owned(),
        uid: uid.to_owned(),
        warning: false,
        reason: reason.to_owned(),
        note: note.to_owned(),
    }
}

fn backoff(name: &str, failures: u32) -> BackoffRow {
    BackoffRow {
        controller: "job".to_owned(),
        name: name.to_owned(),
        failures,
        not_before: at(60),
        class: "Transient".to_owned(),
    }
}

pub async fn one_operation_that_fails_undoes_all(store: Subject) {
    let owner = create(&store, job("job")).await;
    let (revision, writes) = (store.revision().await.unwrap(), store.writes());
    let mut ops = everything(&owner);
    ops.push(delete(&job("absent")));
    assert_eq!(apply(&store, ops).await, Err(missing(&job("absent"))));

    assert_eq!(store.revision().await.unwrap(), revision);
    assert_eq!(store.writes(), writes);
    assert_eq!(now_at(&store, &owner).await, owner);
    assert_eq!(store.get(Kind::Job, "new").await.unwrap(), None);
    assert_eq!(store.changes(revision, 10).await.unwrap(), vec![]);
    assert_eq!(store.receipt("r").await.unwrap(), None);
    assert_eq!(store.held("s", None).await.unwrap(), Held::default());
    assert_eq!(store.output("s", Cursor::default(), 1000).await.unwrap(), vec![]);
    assert_eq!(store.inbox("s", 0).await.unwrap(), vec![]);
    assert_eq!(store.inbox_acked("s").await.unwrap(), 0);
    assert_eq!(store.turn("t").await.unwrap(), None);
    assert_eq!(store.approvals("s").await.unwrap(), vec![]);
    assert_eq!(store.open_deliveries().await.unwrap(), vec![]);
    assert_eq!(store.events("uid-job").await.unwrap(), vec![]);
    assert_eq!(store.backoffs().await.unwrap(), vec![]);

    // And nothing of it is in the way of a second try.
    let applied = apply(&store, everything(&owner)).await.unwrap();
    assert_eq!(applied.revision, revision + 2);
    assert_eq!(store.writes(), writes + 1);
    assert_eq!(store.inbox_acked("s").await.unwrap(), 1);
    assert_eq!(store.turn("t").await.unwrap().unwrap().state, TurnState::Sent);
}

pub async fn a_write_that_changes_nothing_leaves_no_trace(store: Subject) {
    let owner = create(&store, with_finalizers(&job("job"), &["f"])).await;
    apply(&store, everything(&owner)).await.unwrap();
    apply(&store, [delete(&owner)]).await.unwrap();
    let owner = now_at(&store, &owner).await;
    let there = store.delivery("d").await.unwrap().unwrap();
    let held = store.turn("t").await.unwrap().unwrap();
    let (revision, writes) = (store.revision().await.unwrap(), store.writes());
    let mut bell = store.bell();

    let nothing = [
        write(owner.clone(), Part::Desired),
        write(owner.clone(), Part::Status),
        write(owner.clone(), Part::Finalizers),
        overwrite(owner.clone(), Part::Desired),
        patch(&owner, json!({"phase": "Running"}), None),
        delete(&owner),
        output("s", 1, vec![]),
        Op::Order {
            sprite_uid: "s".to_owned(),
            run: 1,
            key: "k".to_owned(),
            order: Order::Sleep {},
        },
        Op::InboxAck { sprite_uid: "s".to_owned(), n: 1 },
        Op::MoveTurn { turn: held, from: vec![TurnState::Sent] },
        Op::AddApproval(approval("s", "q")),
        Op::Delivery(there),
        Op::Backoff(backoff("x", 3)),
        Op::Backoff(backoff("never", 0)),
    ];
    let back = [
        write(with_phase(&owner, "Other"), Part::Status),
        write(with_phase(&owner, "Running"), Part::Status),
    ];
    let lists = nothing.into_iter().map(|op| vec![op]).chain([vec![], back.to_vec()]);
    for ops in lists {
        let applied = apply(&store, ops.clone()).await.unwrap();
        assert!(!applied.changed, "{ops:?}");
        assert_eq!(applied.revision, revision, "{ops:?}");
    }
    assert_eq!(store.revision().await.unwrap(), revision);
    assert_eq!(store.writes(), writes);
    assert_eq!(now_at(&store, &owner).await, owner);
    assert!(bell.try_recv().is_err(), "no bell");
}

pub async fn bells_ring_for_what_a_commit_touched(store: Subject) {
    let owner = create(&store, job("job")).await;
    let mut bell = store.bell();
    let revision = apply(&store, everything(&owner)).await.unwrap().revision;
    let mut rung = Vec::new();
    while let Ok(one) = bell.try_recv() {
        if !rung.contains(&one) {
            rung.push(one);
        }
    }
    for expected in [
        Bell::Objects(revision),
        Bell::Output("s".to_owned()),
        Bell::Inbox("s".to_owned()),
        Bell::Delivery("d".to_owned()),
        Bell::Turns("uid-agent".to_owned()),
        Bell::Approvals("s".to_owned()),
    ] {
        assert!(rung.contains(&expected), "{expected:?} in {rung:?}");
    }
    assert_eq!(rung.len(), 6, "{rung:?}");
}

pub async fn many_writers_lose_no_update_and_revisions_come_in_order(store: Subject) {
    const WRITERS: usize = 64;
    const ROUNDS: u64 = 2;
    create(&store, job("shared")).await;
    let start = store.revision().await.unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut revisions = Vec::new();
            for _ in 0..ROUNDS {
                revisions.push(count_up(&store).await);
                create(&store, agent(&format!("w{writer}-{}", revisions.len()))).await;
            }
            assert!(revisions.is_sorted(), "one writer's commits are in order");
            revisions
        })
    });
    let mut revisions = Vec::new();
    for writer in futures::future::join_all(writers).await {
        revisions.extend(writer.unwrap());
    }
    let total = u64::try_from(WRITERS).unwrap() * ROUNDS;
    let AnyObject::Job(shared) = now_at(&store, &job("shared")).await else { panic!("a job") };
    assert_eq!(shared.status.cost.output_tokens, total);

    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), usize::try_from(total).unwrap(), "each has its own revision");
    let changes = store.changes(start, usize::MAX).await.unwrap();
    let numbers: Vec<_> = changes.iter().map(|change| change.revision).collect();
    assert_eq!(numbers, (start + 1..=start + 2 * total).collect::<Vec<_>>());
    let counts: Vec<_> = changes
        .into_iter()
        .filter_map(|change| change.object.into_job())
        .map(|job| job.status.cost.output_tokens)
        .collect();
    assert_eq!(counts, (1..=total).collect::<Vec<_>>(), "the history is the order of commits");
}

/// Adds one to a number in the shared Job's status, by compare-and-set.
async fn count_up(store: &Subject) -> Revision {
    loop {
        let AnyObject::Job(mut shared) = now_at(store, &job("shared")).await else {
            panic!("a job")
        };
        shared.status.cost.output_tokens += 1;
        match apply(store, [write(AnyObject::Job(shared), Part::Status)]).await {
            Ok(applied) => return applied.revision,
            Err(Error::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

// ---- lists and history

pub async fn lists_come_by_name_and_page_by_page(store: Subject) {
    for name in ["c", "a", "d", "b"] {
        create(&store, job(name)).await;
    }
    create(&store, agent("aa")).await;
    let names = |items: &[AnyObject]| -> Vec<String> {
        items.iter().map(|item| item.metadata().name.clone()).collect()
    };
    let all = store.list(Kind::Job, None, usize::MAX).await.unwrap();
    assert_eq!(names(&all.items), ["a", "b", "c", "d"]);
    assert_eq!((all.revision, all.more), (5, false));
    let first = store.list(Kind::Job, None, 2).await.unwrap();
    assert_eq!((names(&first.items), first.more), (vec!["a".into(), "b".into()], true));
    let second = store.list(Kind::Job, Some("b"), 2).await.unwrap();
    assert_eq!((names(&second.items), second.more), (vec!["c".into(), "d".into()], false));
    let none = store.list(Kind::Sprite, None, 2).await.unwrap();
    assert_eq!((none.items.len(), none.revision), (0, 5));
}

pub async fn owned_objects_are_found_by_their_controller(store: Subject) {
    let owner = create(&store, job("owner")).await;
    let other = create(&store, job("other")).await;
    for (name, owner) in [("b", &owner), ("a", &owner), ("c", &other)] {
        create(&store, sprite(name, owner)).await;
    }
    let mut loose = sprite("d", &owner);
    loose.metadata_mut().owner_references = vec![owner_reference(&owner, false)];
    create(&store, loose).await;
    let names = |items: Vec<AnyObject>| -> Vec<String> {
        items.iter().map(|item| item.metadata().name.clone()).collect()
    };
    let owned = store.list_owned(Kind::Sprite, "uid-owner").await.unwrap();
    assert_eq!(names(owned.clone()), ["a", "b"]);
    assert!(store.list_owned(Kind::Job, "uid-owner").await.unwrap().is_empty());

    let mut moved = owned[0].clone();
    moved.metadata_mut().owner_references = vec![owner_reference(&other, true)];
    apply(&store, [write(moved, Part::Finalizers)]).await.unwrap();
    assert_eq!(names(store.list_owned(Kind::Sprite, "uid-owner").await.unwrap()), ["b"]);
    assert_eq!(names(store.list_owned(Kind::Sprite, "uid-other").await.unwrap()), ["a", "c"]);
}

pub async fn a_list_is_true_at_its_revision(store: Subject) {
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for n in 0..40 {
                create(&store, job(&format!("j{n:03}"))).await;
            }
        })
    };
    // Nothing is deleted, so the list at revision R has R objects.
    loop {
        let listing = store.list(Kind::Job, None, usize::MAX).await.unwrap();
        assert_eq!(listing.items.len(), usize::try_from(listing.revision).unwrap());
        if listing.revision == 40 {
            break;
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

pub async fn history_shows_what_happened_in_order(store: Subject) {
    let a = create(&store, with_finalizers(&job("a"), &["f"])).await;
    apply(&store, [write(with_phase(&a, "Running"), Part::Status)]).await.unwrap();
    apply(&store, [overwrite(with_spec(&a, "b"), Part::Desired)]).await.unwrap();
    apply(&store, [delete(&a)]).await.unwrap();
    apply(&store, [overwrite(with_finalizers(&a, &[]), Part::Finalizers)]).await.unwrap();
    let shown = |changes: Vec<open_dispatch::store::Change>| -> Vec<_> {
        changes.into_iter().map(|change| (change.revision, change.kind, change.desired)).collect()
    };
    let all = [
        (1, ChangeKind::Added, true),
        (2, ChangeKind::Modified, false),
        (3, ChangeKind::Modified, true),
        (4, ChangeKind::Modified, true),
        (5, ChangeKind::Deleted, true),
    ];
    assert_eq!(shown(store.changes(0, 10).await.unwrap()), all);
    assert_eq!(shown(store.changes(0, 2).await.unwrap()), all[..2]);
    assert_eq!(shown(store.changes(2, 2).await.unwrap()), all[2..4]);
    assert_eq!(store.changes(5, 10).await.unwrap(), vec![]);
    assert_eq!(store.changes(0, 10).await.unwrap()[0].object, a);
}

pub async fn a_revision_that_never_was_is_told(store: Subject) {
    create(&store, job("a")).await;
    assert_eq!(store.changes(2, 10).await, Err(Error::Compacted { oldest: 0 }));
}

// ---- watches

async fn next(stream: &mut (impl Stream<Item = Result<WatchEvent, Error>> + Unpin)) -> WatchEvent {
    tokio::time::timeout(Duration::from_secs(10), stream.next())
        .await
        .expect("an event in time")
        .expect("the stream goes on")
        .unwrap()
}

pub async fn a_watch_resumes_and_goes_on(store: Subject) {
    let a = create(&store, job("a")).await;
    let b = create(&store, job("b")).await;
    let mut stream = Box::pin(watch(Arc::clone(&store), Kind::Job, 1));
    assert_eq!(next(&mut stream).await, WatchEvent::Added(b));

    create(&store, agent("not-a-job")).await;
    apply(&store, [write(with_phase(&a, "Running"), Part::Status)]).await.unwrap();
    let a = now_at(&store, &a).await;
    assert_eq!(next(&mut stream).await, WatchEvent::Modified(a.clone()));

    apply(&store, [delete(&a)]).await.unwrap();
    let WatchEvent::Deleted(gone) = next(&mut stream).await else { panic!("deleted") };
    assert_eq!(gone.metadata().resource_version, "5");
    assert_eq!(phase(&gone), "Running");
}

pub async fn a_watch_that_lags_misses_nothing(store: Subject) {
    let mut stream = Box::pin(watch(Arc::clone(&store), Kind::Job, 0));
    let first = create(&store, job("first")).await;
    assert_eq!(next(&mut stream).await, WatchEvent::Added(first));
    // More bells than its receiver holds.
    for n in 0..50 {
        let orders = (0..100).map(|m| Op::Order {
            sprite_uid: format!("s{m}"),
            run: 1,
            key: format!("{n}"),
            order: Order::Sleep {},
        });
        let mut ops: Vec<_> = orders.collect();
        ops.push(Op::Create(job(&format!("j{n:02}"))));
        apply(&store, ops).await.unwrap();
    }
    for n in 0..50 {
        let WatchEvent::Added(object) = next(&mut stream).await else { panic!("added") };
        assert_eq!(object.metadata().name, format!("j{n:02}"));
    }
}

pub async fn a_quiet_watch_says_each_minute_where_it_stands(store: Subject) {
    let clock = Arc::new(ManualClock::at(at(0)));
    let injected: Arc<dyn Clock> = Arc::clone(&clock) as _;
    let demand = Arc::new(Notify::new());
    let mut stream =
        Box::pin(watch_with(Arc::clone(&store), Kind::Job, 0, injected, Arc::clone(&demand)));
    create(&store, agent("other-kind")).await;
    assert!(futures::poll!(stream.next()).is_pending());
    clock.advance(Duration::from_secs(61));
    assert_eq!(next(&mut stream).await, WatchEvent::Bookmark(1));

    // On demand, and behind all that was committed before.
    let a = create(&store, job("a")).await;
    create(&store, agent("b")).await;
    demand.notify_one();
    assert_eq!(next(&mut stream).await, WatchEvent::Added(a));
    assert_eq!(next(&mut stream).await, WatchEvent::Bookmark(3));
}

pub async fn a_watch_from_forgotten_history_ends_with_an_error(store: Subject) {
    fill_history(&store, 1100).await;
    store.compact(at(10_000)).await.unwrap();
    let mut stream = Box::pin(watch(Arc::clone(&store), Kind::Job, 5));
    assert_eq!(stream.next().await, Some(Err(Error::Compacted { oldest: 100 })));
    assert_eq!(stream.next().await, None);
}

// ---- compaction

/// Makes that many revisions, all of second 0.
async fn fill_history(store: &Subject, revisions: usize) {
    for chunk in 0..revisions.div_ceil(100) {
        let names = (chunk * 100..revisions.min((chunk + 1) * 100)).map(|n| format!("h{n:04}"));
        apply(store, names.map(|name| Op::Create(job(&name)))).await.unwrap();
    }
}

pub async fn history_goes_when_it_is_old_and_long(store: Subject) {
    fill_history(&store, 1100).await;
    store.compact(at(299)).await.unwrap();
    assert_eq!(store.changes(0, 1).await.unwrap().len(), 1, "too young");
    let writes = store.writes();
    store.compact(at(301)).await.unwrap();
    assert_eq!(store.writes(), writes, "no write");
    assert_eq!(store.changes(0, 10).await, Err(Error::Compacted { oldest: 100 }));
    assert_eq!(store.changes(99, 10).await, Err(Error::Compacted { oldest: 100 }));
    assert_eq!(store.changes(100, usize::MAX).await.unwrap().len(), 1000);
    assert_eq!(store.list(Kind::Job, None, usize::MAX).await.unwrap().items.len(), 1100);
    assert_eq!(store.revision().await.unwrap(), 1100);
    create(&store, agent("next")).await;
    assert_eq!(store.changes(1100, 10).await.unwrap()[0].revision, 1101);
}

pub async fn receipts_and_events_and_deliveries_go_with_time(store: Subject) {
    let receipt = |key: &str| Op::Receipt(Receipt { key: key.to_owned(), effect: String::new() });
    let mut done = delivery("done");
    done.state = DeliveryState::Done;
    let ops = [
        receipt("old"),
        event_op("u", "Old", "old"),
        event_op("u", "Again", "again"),
        Op::Delivery(done.clone()),
        Op::Delivery(delivery("open")),
    ];
    store.apply(tx(0, ops)).await.unwrap();
    store.apply(tx(3000, [receipt("new"), event_op("u", "Again", "again")])).await.unwrap();

    store.compact(at(3601)).await.unwrap();
    let events = store.events("u").await.unwrap();
    assert_eq!(events.iter().map(|row| row.reason.as_str()).collect::<Vec<_>>(), ["Again"]);
    assert!(store.receipt("old").await.unwrap().is_some());

    store.compact(at(24 * 3600 + 1)).await.unwrap();
    assert_eq!(store.receipt("old").await.unwrap(), None);
    assert!(store.receipt("new").await.unwrap().is_some());
    assert_eq!(store.delivery("done").await.unwrap(), None);
    assert!(store.delivery("open").await.unwrap().is_some());
    // What was compacted can be taken anew; a delivery that is gone cannot be written.
    assert!(apply(&store, [receipt("old")]).await.is_ok());
    let late = Op::Delivery(open_dispatch::store::Delivery { version: 1, ..done });
    assert!(matches!(apply(&store, [late]).await, Err(Error::Stale { .. })));
}

pub async fn the_ledgers_of_what_is_gone_follow_after_an_hour(store: Subject) {
    let owner = create(&store, job("owner")).await;
    let gone = create(&store, with_finalizers(&sprite("gone", &owner), &[])).await;
    let partner = create(&store, agent("partner")).await;
    let ledgers = |uid: &str, agent: &str, id: &str| {
        [
            output(uid, 1, vec![log(1, "a")]),
            Op::Order {
                sprite_uid: uid.to_owned(),
                run: 1,
                key: "k".into(),
                order: Order::Sleep {},
            },
            Op::InboxAck { sprite_uid: uid.to_owned(), n: 1 },
            Op::AddApproval(approval(uid, "q")),
            Op::AddTurn(turn(id, agent)),
            Op::AddGrant(Grant {
                id: "g".into(),
                agent_uid: agent.to_owned(),
                tool: "Bash".into(),
                rule: "Bash(ls:*)".into(),
                by: "ann".into(),
                user: None,
                created: at(0),
            }),
        ]
    };
    apply(&store, ledgers("uid-gone", "uid-partner", "t1")).await.unwrap();
    apply(&store, ledgers("uid-stays", "uid-other", "t2")).await.unwrap();
    store.apply(tx(10, [delete(&gone), delete(&partner)])).await.unwrap();

    store.compact(at(3610)).await.unwrap();
    assert_eq!(store.held("uid-gone", None).await.unwrap().seq, 1);
    store.compact(at(3611)).await.unwrap();
    for (uid, agent, rows) in [("uid-gone", "uid-partner", 0), ("uid-stays", "uid-other", 1)] {
        assert_eq!(store.output(uid, Cursor::default(), 1000).await.unwrap().len(), rows, "{uid}");
        assert_eq!(store.inbox(uid, 0).await.unwrap().len(), rows, "{uid}");
        assert_eq!(store.inbox_acked(uid).await.unwrap(), rows as u64, "{uid}");
        assert_eq!(store.approvals(uid).await.unwrap().len(), rows, "{uid}");
        assert_eq!(store.turns(agent, 0, 10).await.unwrap().len(), rows, "{uid}");
        assert_eq!(store.turn_sums(agent).await.unwrap().queued, rows as u64, "{uid}");
        assert_eq!(store.grants(agent).await.unwrap().len(), rows, "{uid}");
    }
    assert_eq!(store.held("uid-gone", None).await.unwrap(), Held::default());
}

pub async fn a_long_ledger_goes_whole(store: Subject) {
    let owner = create(&store, job("owner")).await;
    let gone = create(&store, with_finalizers(&sprite("gone", &owner), &[])).await;
    for n in 1..=1200 {
        let order = Order::Sleep {};
        let order = Op::Order { sprite_uid: "uid-gone".into(), run: 1, key: n.to_string(), order };
        if n == 1200 {
            apply(&store, [order]).await.unwrap();
        } else if n % 100 == 0 {
            let more = (n + 1..=n + 99).filter(|n| *n < 1200).map(|n| Op::Order {
                sprite_uid: "uid-gone".into(),
                run: 1,
                key: n.to_string(),
                order: Order::Sleep {},
            });
            apply(&store, std::iter::once(order).chain(more)).await.unwrap();
        }
    }
    assert!(store.inbox("uid-gone", 0).await.unwrap().len() > 1000);
    store.apply(tx(10, [delete(&gone)])).await.unwrap();
    store.compact(at(10 + 26 * 3600)).await.unwrap();
    assert_eq!(store.inbox("uid-gone", 0).await.unwrap(), vec![]);
}

// ---- ledgers

pub async fn a_request_is_taken_once(store: Subject) {
    let receipt = |effect: &str| Receipt { key: "console/1".to_owned(), effect: effect.to_owned() };
    let first = [Op::Receipt(receipt("jobs/a")), Op::Create(job("a"))];
    apply(&store, first).await.unwrap();
    assert_eq!(store.receipt("console/1").await.unwrap(), Some(receipt("jobs/a")));
    let again = [Op::Receipt(receipt("jobs/b")), Op::Create(job("b"))];
    let key = "console/1".to_owned();
    assert_eq!(
        apply(&store, again).await,
        Err(Error::Duplicate { key, effect: "jobs/a".to_owned() })
    );
    assert_eq!(store.get(Kind::Job, "b").await.unwrap(), None);
}

async fn held(store: &Subject, run: Option<u32>) -> (u32, u64, bool) {
    let held = store.held("s", run).await.unwrap();
    (held.run, held.seq, held.finished)
}

pub async fn output_must_follow_what_is_held(store: Subject) {
    assert_eq!(held(&store, None).await, (0, 0, false));
    let send = |run, events| apply(&store, [output("s", run, events)]);
    assert_eq!(send(1, vec![log(2, "b")]).await, Err(Error::Gap { expected: 1 }));
    send(1, vec![log(1, "a"), log(2, "b")]).await.unwrap();
    assert_eq!(held(&store, None).await, (1, 2, false));
    assert_eq!(send(1, vec![log(2, "b")]).await, Err(Error::Gap { expected: 3 }));
    assert_eq!(send(1, vec![log(4, "d")]).await, Err(Error::Gap { expected: 3 }));
    assert_eq!(send(1, vec![log(3, "c"), log(5, "e")]).await, Err(Error::Gap { expected: 4 }));
    assert_eq!(held(&store, None).await, (1, 2, false));
    send(1, vec![log(3, "c")]).await.unwrap();
    assert_eq!(held(&store, Some(1)).await, (1, 3, false));
    assert_eq!(held(&store, Some(2)).await, (0, 0, false));
}

pub async fn a_gap_stands_for_what_is_missing(store: Subject) {
    let send = |events| apply(&store, [output("s", 1, events)]);
    send(vec![log(1, "a"), gap(2, 10)]).await.unwrap();
    assert_eq!(held(&store, None).await, (1, 10, false));
    assert_eq!(send(vec![log(3, "c")]).await, Err(Error::Gap { expected: 11 }));
    send(vec![log(11, "k")]).await.unwrap();
    assert_eq!(send(vec![gap(12, u64::MAX)]).await, Err(Error::Gap { expected: 12 }));
    let behind = Cursor { run: 1, seq: 10 };
    let rows = store.output("s", behind, 1000).await.unwrap();
    assert_eq!(rows, vec![OutputRow { run: 1, event: log(11, "k") }]);
}

pub async fn nothing_follows_an_exit(store: Subject) {
    let send = |run, events| apply(&store, [output("s", run, events)]);
    assert_eq!(send(1, vec![log(1, "a"), exit(2), log(3, "c")]).await, Err(Error::Finished));
    send(1, vec![log(1, "a"), exit(2)]).await.unwrap();
    assert_eq!(held(&store, None).await, (1, 2, true));
    assert_eq!(send(1, vec![log(3, "c")]).await, Err(Error::Finished));
}

pub async fn a_new_run_begins_at_one_and_ends_the_old_one(store: Subject) {
    let send = |run, events| apply(&store, [output("s", run, events)]);
    send(1, vec![log(1, "a"), log(2, "b")]).await.unwrap();
    assert_eq!(send(2, vec![log(3, "c")]).await, Err(Error::Gap { expected: 1 }));
    send(2, vec![log(1, "x")]).await.unwrap();
    assert_eq!(send(1, vec![log(3, "c")]).await, Err(Error::Finished));
    assert_eq!(held(&store, None).await, (2, 1, false));
    assert_eq!(held(&store, Some(1)).await, (1, 2, false));
}

pub async fn output_is_read_from_any_place(store: Subject) {
    let send = |run, events| apply(&store, [output("s", run, events)]);
    send(1, (1..=3).map(|n| log(n, "first")).collect()).await.unwrap();
    send(1, (4..=6).map(|n| log(n, "first")).collect()).await.unwrap();
    send(2, (1..=3).map(|n| log(n, "second")).collect()).await.unwrap();
    apply(&store, [output("other", 1, vec![log(1, "other")])]).await.unwrap();
    let all: Vec<(u32, u64)> = (1..=6).map(|n| (1, n)).chain((1..=3).map(|n| (2, n))).collect();
    let read = async |run, seq, bytes| -> Vec<(u32, u64)> {
        let rows = store.output("s", Cursor { run, seq }, bytes).await.unwrap();
        rows.iter().map(|row| (row.run, row.event.seq)).collect()
    };
    assert_eq!(read(0, 0, 1 << 20).await, all);
    for (index, (run, seq)) in all.iter().enumerate() {
        assert_eq!(read(*run, *seq, 1 << 20).await, all[index + 1..]);
        let next: Vec<_> = all[index + 1..].first().copied().into_iter().collect();
        assert_eq!(read(*run, *seq, 0).await, next, "at least one");
        assert_eq!(read(*run, *seq, 1).await, next);
    }
    assert_eq!(read(1, 99, 1 << 20).await, all[6..]);
}

pub async fn an_order_is_given_once(store: Subject) {
    let order = |key: &str, order: &Order| Op::Order {
        sprite_uid: "s".to_owned(),
        run: 1,
        key: key.to_owned(),
        order: order.clone(),
    };
    let turn = Order::turn("t", "do");
    let stop = Order::Stop { reason: ExitReason::Cancelled };
    apply(&store, [order("turn/t", &turn), order("stop", &stop)]).await.unwrap();
    apply(&store, [order("turn/t", &stop)]).await.unwrap();
    let later = Op::Order {
        sprite_uid: "s".to_owned(),
        run: 2,
        key: "sleep/2".to_owned(),
        order: Order::Sleep {},
    };
    apply(&store, [later]).await.unwrap();
    let rows = [
        InboxRow { n: 1, run: 1, order: turn },
        InboxRow { n: 2, run: 1, order: stop },
        InboxRow { n: 3, run: 2, order: Order::Sleep {} },
    ];
    assert_eq!(store.inbox("s", 0).await.unwrap(), rows);
    assert_eq!(store.inbox("s", 1).await.unwrap(), rows[1..]);
    assert_eq!(store.inbox("other", 0).await.unwrap(), vec![]);
}

pub async fn an_acknowledgement_only_rises_and_never_past_the_end(store: Subject) {
    let ack = |n| Op::InboxAck { sprite_uid: "s".to_owned(), n };
    assert!(!apply(&store, [ack(5)]).await.unwrap().changed);
    for key in ["a", "b", "c"] {
        let order = Order::Sleep {};
        let order = Op::Order { sprite_uid: "s".to_owned(), run: 1, key: key.to_owned(), order };
        apply(&store, [order]).await.unwrap();
    }
    for (n, acked) in [(2, 2), (1, 2), (9, 3)] {
        apply(&store, [ack(n)]).await.unwrap();
        assert_eq!(store.inbox_acked("s").await.unwrap(), acked);
    }
    assert_eq!(store.inbox("s", 0).await.unwrap().len(), 3);
}

pub async fn turns_queue_up_by_agent(store: Subject) {
    for (id, agent) in [("a", "x"), ("b", "y"), ("c", "x")] {
        apply(&store, [Op::AddTurn(turn(id, agent))]).await.unwrap();
    }
    let queue = store.turns("x", 0, 10).await.unwrap();
    let shown: Vec<_> = queue.iter().map(|turn| (turn.id.as_str(), turn.n)).collect();
    assert_eq!(shown, [("a", 1), ("c", 2)]);
    assert_eq!(store.turns("x", 1, 10).await.unwrap(), queue[1..]);
    assert_eq!(store.turns("x", 0, 1).await.unwrap(), queue[..1]);
    assert_eq!(store.turn("c").await.unwrap().as_ref(), Some(&queue[1]));
    let twice = apply(&store, [Op::AddTurn(turn("a", "x"))]).await;
    assert_eq!(twice, Err(Error::Stale { what: "turn a".to_owned() }));
}

pub async fn a_turn_moves_only_from_where_it_stands(store: Subject) {
    apply(&store, [Op::AddTurn(turn("first", "x")), Op::AddTurn(turn("t", "x"))]).await.unwrap();
    let to = |state| Op::MoveTurn {
        turn: Turn { state, n: 99, agent_uid: "other".to_owned(), ..turn("t", "x") },
        from: vec![TurnState::Queued, TurnState::Sent],
    };
    apply(&store, [to(TurnState::Sent)]).await.unwrap();
    apply(&store, [to(TurnState::Cancelled)]).await.unwrap();
    let stale = Err(Error::Stale { what: "turn t".to_owned() });
    assert_eq!(apply(&store, [to(TurnState::Succeeded)]).await, stale);
    let now = store.turn("t").await.unwrap().unwrap();
    assert_eq!((now.state, now.n, now.agent_uid.as_str()), (TurnState::Cancelled, 2, "x"));
    let absent = Op::MoveTurn { turn: turn("absent", "x"), from: vec![TurnState::Queued] };
    let stale = Err(Error::Stale { what: "turn absent".to_owned() });
    assert_eq!(apply(&store, [absent]).await, stale);
}

pub async fn a_wish_to_cancel_is_lost_to_nobody_who_read_before(store: Subject) {
    apply(&store, [Op::AddTurn(turn("t", "x"))]).await.unwrap();
    let read = store.turn("t").await.unwrap().unwrap();
    let wish = |who: &str| Turn { cancelled_by: Some(who.to_owned()), ..read.clone() };
    let from = vec![TurnState::Queued];
    apply(&store, [Op::MoveTurn { turn: wish("ann"), from: from.clone() }]).await.unwrap();
    apply(&store, [Op::MoveTurn { turn: wish("bob"), from: from.clone() }]).await.unwrap();
    let sent = Turn { state: TurnState::Sent, ..read };
    apply(&store, [Op::MoveTurn { turn: sent, from }]).await.unwrap();
    let now = store.turn("t").await.unwrap().unwrap();
    assert_eq!((now.state, now.cancelled_by.as_deref()), (TurnState::Sent, Some("ann")));
}

pub async fn an_agents_turns_are_summed_up(store: Subject) {
    assert_eq!(store.turn_sums("x").await.unwrap(), TurnSums::default());
    let rows = ["a", "b", "c", "d"].map(|id| Op::AddTurn(turn(id, "x")));
    apply(&store, rows).await.unwrap();
    apply(&store, [Op::AddTurn(turn("other", "y"))]).await.unwrap();
    let to = |id: &str, state, cost_micro_usd, seconds| {
        let usage = Usage { cost_micro_usd, input_tokens: 2, output_tokens: 3 };
        let ended = Some(at(seconds));
        let turn = Turn { state, usage, ended, ..turn(id, "x") };
        Op::MoveTurn { turn, from: vec![TurnState::Queued, TurnState::Sent, TurnState::Running] }
    };
    let first = [to("a", TurnState::Succeeded, 5, 70), to("b", TurnState::Running, 900, 60)];
    store.apply(tx(100, first)).await.unwrap();
    store.apply(tx(100, [to("c", TurnState::Cancelled, 7, 65)])).await.unwrap();
    let usage = Usage { cost_micro_usd: 12, input_tokens: 4, output_tokens: 6 };
    let sums = TurnSums { queued: 1, running: 1, done: 2, usage, last: Some(at(70)) };
    assert_eq!(store.turn_sums("x").await.unwrap(), sums, "only what has ended was spent");
    store.apply(tx(100, [to("b", TurnState::Queued, 0, 70)])).await.unwrap();
    let sums = TurnSums { queued: 2, running: 0, ..sums };
    assert_eq!(store.turn_sums("x").await.unwrap(), sums);
    assert_eq!(store.turn_sums("y").await.unwrap().queued, 1);
}

pub async fn a_clock_that_was_set_back_leaves_no_turn_in_the_time_to_come(store: Subject) {
    store.apply(tx(9000, [Op::AddTurn(turn("a", "x"))])).await.unwrap();
    let ended = Turn { state: TurnState::Cancelled, ended: Some(at(9000)), ..turn("a", "x") };
    let from = vec![TurnState::Queued];
    store.apply(tx(9000, [Op::MoveTurn { turn: ended, from }])).await.unwrap();
    assert_eq!(store.turn_sums("x").await.unwrap().last, Some(at(9000)));
    let back = Turn { created: at(50), ..turn("b", "x") };
    store.apply(tx(50, [Op::AddTurn(back)])).await.unwrap();
    assert_eq!(store.turn_sums("x").await.unwrap().last, Some(at(50)));
}

pub async fn who_needs_an_empty_queue_yields_to_whoever_spoke(store: Subject) {
    let alone = || {
        let delivery = Op::NoOpenTurns { agent_uid: "x".to_owned() };
        [delivery, Op::Receipt(Receipt { key: "k".to_owned(), effect: String::new() })]
    };
    let queue = Err(Error::Stale { what: "the queue of agent x".to_owned() });
    apply(&store, [Op::AddTurn(turn("a", "x")), Op::AddTurn(turn("b", "y"))]).await.unwrap();
    assert_eq!(apply(&store, alone()).await, queue, "one waits");
    let to = |state, from| {
        let turn = Turn { state, ..turn("a", "x") };
        Op::MoveTurn { turn, from: vec![from] }
    };
    apply(&store, [to(TurnState::Running, TurnState::Queued)]).await.unwrap();
    assert_eq!(apply(&store, alone()).await, queue, "one runs");
    assert_eq!(store.receipt("k").await.unwrap(), None);
    apply(&store, [to(TurnState::Succeeded, TurnState::Running)]).await.unwrap();
    apply(&store, alone()).await.unwrap();
    assert!(store.receipt("k").await.unwrap().is_some());
    // Also of a turn that comes in the same transaction.
    let both = [Op::AddTurn(turn("c", "x")), Op::NoOpenTurns { agent_uid: "x".to_owned() }];
    assert_eq!(apply(&store, both).await, queue);
}

pub async fn turns_that_have_not_ended_are_found_and_the_last_come_first(store: Subject) {
    let rows = ["a", "b", "c", "d"].map(|id| Op::AddTurn(turn(id, "x")));
    apply(&store, rows).await.unwrap();
    apply(&store, [Op::AddTurn(turn("other", "y"))]).await.unwrap();
    let to = |id: &str, state| {
        let turn = Turn { state, ..turn(id, "x") };
        Op::MoveTurn { turn, from: vec![TurnState::Queued] }
    };
    let moves = [to("a", TurnState::Interrupted), to("b", TurnState::Running)];
    apply(&store, moves).await.unwrap();
    apply(&store, [to("c", TurnState::Sent)]).await.unwrap();
    let ids = |turns: Vec<Turn>| turns.into_iter().map(|turn| turn.id).collect::<Vec<_>>();
    assert_eq!(ids(store.open_turns("x").await.unwrap()), ["b", "c", "d"]);
    assert_eq!(ids(store.last_turns("x", 3).await.unwrap()), ["d", "c", "b"]);
    assert_eq!(ids(store.last_turns("x", 9).await.unwrap()), ["d", "c", "b", "a"]);
    assert_eq!(ids(store.open_turns("nobody").await.unwrap()), Vec::<String>::new());
}

pub async fn old_turns_of_a_living_agent_go_and_their_sums_stay(store: Subject) {
    let rows =
        |range: std::ops::Range<u32>| range.map(|n| Op::AddTurn(turn(&format!("t{n}"), "x")));
    for start in (0..1100).step_by(100) {
        apply(&store, rows(start..start + 100)).await.unwrap();
    }
    let ends = (0..1100).filter(|n| ![7, 1050].contains(n)).map(|n| {
        let turn = Turn { state: TurnState::Succeeded, ..turn(&format!("t{n}"), "x") };
        Op::MoveTurn { turn, from: vec![TurnState::Queued] }
    });
    let ends: Vec<Op> = ends.collect();
    for some in ends.chunks(200) {
        apply(&store, some.to_vec()).await.unwrap();
    }
    apply(&store, [Op::AddTurn(turn("other", "y"))]).await.unwrap();
    let sums = store.turn_sums("x").await.unwrap();
    store.compact(at(10)).await.unwrap();
    let kept: Vec<u64> =
        store.turns("x", 0, 2000).await.unwrap().into_iter().map(|turn| turn.n).collect();
    let expected: Vec<u64> = std::iter::once(8).chain(101..=1100).collect();
    assert_eq!(kept, expected, "the newest thousand, and what has not ended");
    assert_eq!(store.turn_sums("x").await.unwrap(), sums);
    assert_eq!(store.turns("y", 0, 10).await.unwrap().len(), 1);
    apply(&store, [Op::AddTurn(turn("next", "x"))]).await.unwrap();
    assert_eq!(store.turn("next").await.unwrap().unwrap().n, 1101);
}

/// What is left of a sprite's output: the bytes that a gap tells, the run and number of the first
/// event behind it, and how many bytes of text there are.
async fn left(store: &Subject, uid: &str) -> (u64, Cursor, usize) {
    let (mut told, mut first, mut bytes) = (0, Cursor::default(), 0);
    let mut after = Cursor::default();
    loop {
        let rows = store.output(uid, after, 1 << 20).await.unwrap();
        let Some(last) = rows.last() else { return (told, first, bytes) };
        for row in &rows {
            let follows = if row.run == after.run { after.seq + 1 } else { 1 };
            assert!(row.event.seq == follows || after == Cursor::default(), "no holes: {row:?}");
            after = row.cursor();
            match &row.event.body {
                EventBody::Gap { bytes, .. } => told += bytes,
                EventBody::Log { chunk, .. } => {
                    if bytes == 0 {
                        first = Cursor { run: row.run, seq: row.event.seq };
                    }
                    bytes += chunk.bytes().len();
                }
                _ => {}
            }
        }
        after = last.cursor();
    }
}

/// A sprite says so many MiB in a run, in events of 32 KiB behind a hello.
async fn speak(store: &Subject, uid: &str, run: u32, mib: u64) {
    let text = "x".repeat(32 * 1024);
    apply(store, [output(uid, run, vec![hello(1)])]).await.unwrap();
    for n in 0..mib {
        let events = (0..32).map(|k| log(2 + n * 32 + k, &text)).collect();
        apply(store, [output(uid, run, events)]).await.unwrap();
    }
}

const MIB: usize = 1024 * 1024;

pub async fn of_a_long_life_the_newest_output_stays_and_a_gap_tells_the_rest(store: Subject) {
    speak(&store, "long", 1, 5).await;
    apply(&store, [output("long", 1, vec![exit(2 + 5 * 32)])]).await.unwrap();
    speak(&store, "long", 2, 16).await;
    speak(&store, "short", 1, 3).await;
    let writes = store.writes();
    for _ in 0..2 {
        store.compact(at(10)).await.unwrap();
        let (told, first, bytes) = left(&store, "long").await;
        assert!(told >= 4 * MIB as u64 && told < 8 * MIB as u64, "{told}");
        assert!((15 * MIB..=18 * MIB).contains(&bytes), "{bytes}");
        assert!(first.run >= 1, "{first:?}");
        let held = Held { run: 2, seq: 1 + 16 * 32, finished: false };
        assert_eq!(store.held("long", None).await.unwrap(), held);
        assert_eq!(left(&store, "short").await, (0, Cursor { run: 1, seq: 2 }, 3 * MIB));
    }
    assert_eq!(store.writes(), writes, "that is maintenance");
    // The run goes on, and is trimmed again: one gap tells it all.
    let text = "x".repeat(32 * 1024);
    for n in 0..20 {
        let events = (0..32).map(|k| log(2 + (16 + n) * 32 + k, &text)).collect();
        apply(&store, [output("long", 2, events)]).await.unwrap();
    }
    store.compact(at(20)).await.unwrap();
    let rows = store.output("long", Cursor::default(), 1).await.unwrap();
    assert!(matches!(rows[0].event.body, EventBody::Hello { .. }), "{:?}", rows[0]);
    assert_eq!(rows[0].run, 2, "of the first run nothing is left");
    let (told, first, bytes) = left(&store, "long").await;
    assert!(told >= 22 * MIB as u64, "{told}");
    assert!(first.run == 2 && bytes <= 18 * MIB, "{first:?} {bytes}");
    // Somebody who stands in the middle of what is missing hears it, too.
    let middle = store.output("long", Cursor { run: 1, seq: 40 }, 300).await.unwrap();
    assert!(middle.iter().any(|row| matches!(row.event.body, EventBody::Gap { .. })));
    let middle = store.output("long", Cursor { run: 2, seq: 40 }, 1).await.unwrap();
    assert!(matches!(middle[0].event.body, EventBody::Gap { .. }), "{:?}", middle[0]);
}

pub async fn a_run_that_was_trimmed_has_still_ended_where_it_did(store: Subject) {
    speak(&store, "s", 1, 5).await;
    apply(&store, [output("s", 1, vec![exit(2 + 5 * 32)])]).await.unwrap();
    speak(&store, "s", 2, 15).await;
    let before = store.held("s", Some(1)).await.unwrap();
    assert!(before.finished);
    store.compact(at(10)).await.unwrap();
    let (told, first, _) = left(&store, "s").await;
    assert!(told > 0 && first.run == 1, "{told} {first:?}");
    assert_eq!(store.held("s", Some(1)).await.unwrap(), before);
}

pub async fn what_a_turn_or_a_delivery_needs_stays_longer(store: Subject) {
    speak(&store, "s", 1, 24).await;
    let began = Cursor { run: 1, seq: 10 };
    let needs = |id: &str| Turn {
        state: TurnState::Running,
        sprite_uid: Some("s".to_owned()),
        run: 1,
        began: Some(began),
        ..turn(id, "x")
    };
    let shown = Delivery {
        subject: open_dispatch::store::Subject::Turn { id: "t".to_owned() },
        ..delivery("d")
    };
    apply(&store, [Op::AddTurn(needs("t")), Op::Delivery(shown.clone())]).await.unwrap();
    store.compact(at(10)).await.unwrap();
    assert_eq!(left(&store, "s").await.2, 24 * MIB, "the turn runs");
    let ended = Turn { state: TurnState::Succeeded, ..needs("t") };
    apply(&store, [Op::MoveTurn { turn: ended, from: vec![TurnState::Running] }]).await.unwrap();
    let more = |n: u64| {
        let text = "x".repeat(32 * 1024);
        (0..64).map(|k| log(2 + (24 + 2 * n) * 32 + k, &text)).collect::<Vec<_>>()
    };
    apply(&store, [output("s", 1, more(0))]).await.unwrap();
    store.compact(at(10)).await.unwrap();
    assert_eq!(left(&store, "s").await.2, 26 * MIB, "its answer is still to be shown");
    let done = Delivery { version: 1, state: DeliveryState::Done, ..shown };
    apply(&store, [Op::Delivery(done)]).await.unwrap();
    apply(&store, [output("s", 1, more(1))]).await.unwrap();
    store.compact(at(10)).await.unwrap();
    let (told, _, bytes) = left(&store, "s").await;
    assert!(told > 0 && bytes <= 18 * MIB, "{told} {bytes}");
}

pub async fn of_a_long_life_the_newest_approvals_and_orders_stay(store: Subject) {
    let asked = |n: u64| {
        let request = format!("r{n:03}");
        let created = at(n);
        let row = Op::AddApproval(Approval { created, ..approval("s", &request) });
        let (allow, message, answers) = (true, String::new(), BTreeMap::new());
        let key = format!("answer/1/{request}");
        let order = Order::Answer { request: request.clone(), allow, message, answers };
        let told = Op::Order { sprite_uid: "s".to_owned(), run: 1, key, order };
        let resolved = Op::ResolveApproval {
            sprite_uid: "s".to_owned(),
            run: 1,
            request,
            state: ApprovalState::Allowed,
            by: "ada".to_owned(),
            user: None,
            grant: None,
            message: String::new(),
            answers: BTreeMap::new(),
        };
        if n == 7 { vec![row] } else { vec![row, resolved, told] }
    };
    for n in 0..300 {
        apply(&store, asked(n)).await.unwrap();
    }
    let ack = |n| Op::InboxAck { sprite_uid: "s".to_owned(), n };
    apply(&store, [ack(20)]).await.unwrap();
    store.compact(at(10)).await.unwrap();
    let mut approvals: Vec<String> =
        store.approvals("s").await.unwrap().into_iter().map(|row| row.request).collect();
    approvals.sort();
    let kept: Vec<String> = std::iter::once(7).chain(44..300).map(|n| format!("r{n:03}")).collect();
    assert_eq!(approvals, kept, "the newest, and what is not answered");
    let first = async || store.inbox("s", 0).await.unwrap().first().map(|row| row.n);
    assert_eq!(first().await, Some(21), "what was not acknowledged stays");
    let order = |key: String| {
        let order = Order::Sleep {};
        Op::Order { sprite_uid: "s".to_owned(), run: 1, key, order }
    };
    apply(&store, (0..50).map(|n| order(format!("more/{n}")))).await.unwrap();
    apply(&store, [ack(349)]).await.unwrap();
    store.compact(at(10)).await.unwrap();
    assert_eq!(first().await, Some(44), "an answer stays as long as its approval");
    apply(&store, (0..250).map(|n| order(format!("most/{n}")))).await.unwrap();
    apply(&store, [ack(599)]).await.unwrap();
    store.compact(at(10)).await.unwrap();
    let numbers: Vec<u64> =
        store.inbox("s", 0).await.unwrap().into_iter().map(|row| row.n).collect();
    let kept: Vec<u64> = (44..=299).chain(344..=599).collect();
    assert_eq!(numbers, kept, "of all else the newest");
    apply(&store, [order("next".to_owned())]).await.unwrap();
    let last = store.inbox("s", 0).await.unwrap().pop().unwrap();
    assert_eq!(last.n, 600, "numbers go on");
}

pub async fn a_grant_stands_until_it_is_revoked(store: Subject) {
    let grant = |id: &str, seconds| Grant {
        id: id.to_owned(),
        agent_uid: "x".to_owned(),
        tool: "Bash".to_owned(),
        rule: format!("Bash({id}:*)"),
        by: "ann".to_owned(),
        user: None,
        created: at(seconds),
    };
    let (older, newer) = (grant("z", 1), grant("a", 2));
    let other = Grant { agent_uid: "y".to_owned(), ..grant("z", 1) };
    let grants = [newer.clone(), older.clone(), other.clone()].map(Op::AddGrant);
    apply(&store, grants).await.unwrap();
    assert!(!apply(&store, [Op::AddGrant(grant("a", 99))]).await.unwrap().changed);
    assert_eq!(store.grants("x").await.unwrap(), [older, newer.clone()], "oldest first");
    let revoke = Op::RevokeGrant { agent_uid: "x".to_owned(), id: "z".to_owned() };
    assert!(apply(&store, [revoke.clone()]).await.unwrap().changed);
    assert!(!apply(&store, [revoke]).await.unwrap().changed);
    assert_eq!(store.grants("x").await.unwrap(), [newer]);
    assert_eq!(store.grants("y").await.unwrap(), [other]);
}

fn role(principal: &str, role: Role) -> Access {
    Access {
        principal: principal.parse().unwrap(),
        role,
        name: String::new(),
        by: "ann".to_owned(),
        pairing: None,
        created: at(1),
        token: None,
    }
}

pub async fn a_role_stands_until_it_is_taken_and_guards_what_is_done_by_it(store: Subject) {
    let (one, place) = (role("slack:U1", Role::User), role("slack:channel:C1", Role::Viewer));
    let raised = Access { role: Role::Admin, ..one.clone() };
    let admit = [place.clone(), one.clone()].map(Op::Admit);
    assert!(apply(&store, admit).await.unwrap().changed);
    assert!(!apply(&store, [Op::Admit(one.clone())]).await.unwrap().changed);
    assert_eq!(store.access().await.unwrap(), [one.clone(), place.clone()], "by principal");
    assert!(!apply(&store, [Op::StillAdmitted(one.clone())]).await.unwrap().changed);

    apply(&store, [Op::Admit(raised.clone())]).await.unwrap();
    let guarded = [Op::Create(job("a")), Op::StillAdmitted(one.clone())];
    let stale = apply(&store, guarded.clone()).await;
    assert!(matches!(stale, Err(Error::Stale { .. })), "{stale:?}");
    assert_eq!(store.get(Kind::Job, "a").await.unwrap(), None);

    let expel = Op::Expel(one.principal.clone());
    assert!(apply(&store, [expel.clone()]).await.unwrap().changed);
    assert!(!apply(&store, [expel]).await.unwrap().changed);
    let stale = apply(&store, [Op::StillAdmitted(raised)]).await;
    assert!(matches!(stale, Err(Error::Stale { .. })), "{stale:?}");
    assert_eq!(store.access().await.unwrap(), [place]);
}

fn waiting(code: &str, user: &str, seconds: u64) -> Pairing {
    Pairing {
        code: code.to_owned(),
        principal: Principal::user("slack", user),
        name: "bob".to_owned(),
        conversation: delivery("d").conversation,
        created: at(seconds),
        expires: at(seconds) + PAIRING_EXPIRY,
    }
}

pub async fn strangers_wait_once_each_for_an_hour_and_few_at_a_time(store: Subject) {
    let open = |pairing: &Pairing, seconds| {
        let (store, op) = (&store, Op::OpenPairing(pairing.clone()));
        async move { store.apply(tx(seconds, [op])).await.map(|applied| applied.changed) }
    };
    let close = |code: &str, seconds| {
        let (store, op) = (&store, Op::ClosePairing { code: code.to_owned() });
        async move { store.apply(tx(seconds, [op])).await.map(|applied| applied.changed) }
    };
    let (one, two) = (waiting("A", "U1", 1), waiting("B", "U2", 2));
    assert_eq!(open(&two, 2).await, Ok(true));
    assert_eq!(open(&one, 2).await, Ok(true));
    assert!(open(&waiting("C", "U1", 3), 3).await.is_err(), "they wait already");
    assert!(open(&waiting("A", "U3", 3), 3).await.is_err(), "the code is taken");
    assert_eq!(store.pairings().await.unwrap(), [one, two.clone()], "the oldest first");
    assert_eq!(close("A", 3).await, Ok(true));
    assert!(close("A", 3).await.is_err());
    assert_eq!(store.pairings().await.unwrap(), [two]);
    assert!(close("B", 2 + 3600).await.is_err(), "its time is over");

    for n in 1..MOST_PAIRINGS {
        let name = format!("X{n}");
        assert_eq!(open(&waiting(&name, &name, 10), 10).await, Ok(true), "{n}");
    }
    let late = waiting("Z", "U9", 20);
    assert!(open(&late, 20).await.is_err(), "too many wait");
    assert_eq!(open(&waiting("Z", "U9", 3602), 3602).await, Ok(true), "the first has made room");
    assert_eq!(open(&waiting("Y", "U1", 9000), 9000).await, Ok(true));
    assert_eq!(store.pairings().await.unwrap(), [waiting("Y", "U1", 9000)], "so have all");
}

fn asked(what: &str, seconds: u64) -> Op {
    Op::Audit(AuditRow {
        n: 99,
        at: at(seconds),
        who: "slack:U1".to_owned(),
        name: "bob".to_owned(),
        place: "slack/C1".to_owned(),
        what: what.to_owned(),
        outcome: AuditOutcome::Allowed,
    })
}

async fn audit(store: &Subject, after: Option<u64>, limit: usize) -> Vec<(u64, String)> {
    let rows = store.audit(after, limit).await.unwrap();
    rows.into_iter().map(|row| (row.n, row.what)).collect()
}

pub async fn what_people_asked_for_is_numbered_and_goes_with_time(store: Subject) {
    let told = |rows: &[(u64, &str)]| -> Vec<(u64, String)> {
        rows.iter().map(|(n, what)| (*n, (*what).to_owned())).collect()
    };
    apply(&store, [asked("a", 1), asked("b", 2)]).await.unwrap();
    let failed = [asked("lost", 2), Op::Create(job("a")), Op::Create(job("a"))];
    apply(&store, failed).await.unwrap_err();
    apply(&store, [asked("c", 3)]).await.unwrap();
    assert_eq!(audit(&store, None, 2).await, told(&[(2, "b"), (3, "c")]), "the newest");
    assert_eq!(audit(&store, Some(0), 2).await, told(&[(1, "a"), (2, "b")]));
    assert_eq!(audit(&store, Some(2), 9).await, told(&[(3, "c")]));
    assert_eq!(audit(&store, Some(3), 9).await, []);

    let days = |days: u64| at(3 + days * 24 * 3600);
    store.compact(days(89)).await.unwrap();
    assert_eq!(audit(&store, None, 9).await.len(), 3);
    store.compact(days(91)).await.unwrap();
    assert_eq!(audit(&store, None, 9).await, told(&[(3, "c")]), "the newest row stays");
    apply(&store, [asked("d", 9_000_000)]).await.unwrap();
    assert_eq!(audit(&store, None, 1).await, told(&[(4, "d")]), "no number comes twice");
}

pub async fn the_audit_keeps_its_newest_rows(store: Subject) {
    const MANY: u64 = 100_000;
    for begin in (0..MANY + 2_000).step_by(2_000) {
        let rows = (begin..begin + 2_000).map(|n| asked(&n.to_string(), 1));
        apply(&store, rows).await.unwrap();
    }
    store.compact(at(2)).await.unwrap();
    let first = audit(&store, Some(0), 1).await;
    assert_eq!(first, [(2_001, "2000".to_owned())]);
    assert_eq!(audit(&store, None, 1).await[0].0, MANY + 2_000);
}

pub async fn a_place_is_what_was_written_last(store: Subject) {
    let place = |platform: &str, channel: &str, url: &str| Place {
        platform: platform.to_owned(),
        channel: channel.to_owned(),
        facts: serde_json::json!({"url": url}),
    };
    let (first, other) = (place("teams", "a", "one"), place("teams", "b", "two"));
    apply(&store, [first.clone(), other.clone()].map(Op::Place)).await.unwrap();
    assert!(!apply(&store, [Op::Place(first)]).await.unwrap().changed);
    let newer = place("teams", "a", "three");
    assert!(apply(&store, [Op::Place(newer.clone())]).await.unwrap().changed);
    assert_eq!(store.place("teams", "a").await.unwrap(), Some(newer));
    assert_eq!(store.place("teams", "b").await.unwrap(), Some(other));
    assert_eq!(store.place("slack", "a").await.unwrap(), None);
}

pub async fn the_answers_to_a_question_stand_with_it(store: Subject) {
    apply(&store, [Op::AddApproval(approval("s", "q"))]).await.unwrap();
    let answers = BTreeMap::from([("Which colour?".to_owned(), "red, blue".to_owned())]);
    let resolve = Op::ResolveApproval {
        sprite_uid: "s".to_owned(),
        run: 1,
        request: "q".to_owned(),
        state: ApprovalState::Allowed,
        by: "ann".to_owned(),
        user: None,
        grant: None,
        message: "as you like".to_owned(),
        answers: answers.clone(),
    };
    apply(&store, [resolve]).await.unwrap();
    let row = store.approvals("s").await.unwrap().remove(0);
    assert_eq!((row.answers, row.message.as_str()), (answers, "as you like"));
}

pub async fn a_changed_annotation_is_news_to_controllers(store: Subject) {
    let mut bot = create(&store, agent("bot")).await;
    let before = store.revision().await.unwrap();
    bot.metadata_mut().annotations.insert("a".to_owned(), "1".to_owned());
    let (part, expect) = (Part::Desired, Expect::SameVersion);
    apply(&store, [Op::Write { object: bot, part, expect }]).await.unwrap();
    let changes = store.changes(before, 10).await.unwrap();
    assert_eq!(changes.iter().map(|change| change.desired).collect::<Vec<_>>(), [true]);
    assert_eq!(changes[0].object.metadata().generation, 1);
}

pub async fn an_approval_is_resolved_once(store: Subject) {
    let resolve = |request: &str, state, by: &str| Op::ResolveApproval {
        sprite_uid: "s".to_owned(),
        run: 1,
        request: request.to_owned(),
        state,
        by: by.to_owned(),
        user: None,
        grant: None,
        message: String::new(),
        answers: BTreeMap::new(),
    };
    let mut forged = approval("s", "q2");
    forged.state = ApprovalState::Allowed;
    apply(&store, [Op::AddApproval(forged), Op::AddApproval(approval("s", "q1"))]).await.unwrap();
    let rows = store.approvals("s").await.unwrap();
    assert_eq!(rows, [approval("s", "q1"), approval("s", "q2")], "all begin pending");

    apply(&store, [resolve("q1", ApprovalState::Denied, "ann")]).await.unwrap();
    let stale = |request| Err(Error::Stale { what: format!("approval {request}") });
    let second = apply(&store, [resolve("q1", ApprovalState::Allowed, "bob")]).await;
    assert_eq!(second, stale("q1"));
    let absent = apply(&store, [resolve("q3", ApprovalState::Allowed, "bob")]).await;
    assert_eq!(absent, stale("q3"));
    apply(&store, [Op::AddApproval(approval("s", "q1"))]).await.unwrap();
    let row = store.approvals("s").await.unwrap().remove(0);
    assert_eq!((row.state, row.by.as_str()), (ApprovalState::Denied, "ann"));
    assert_eq!(row.resolved, Some(Cursor::default()), "nothing was held yet");
}

pub async fn an_approval_keeps_how_much_was_held_when_it_was_resolved(store: Subject) {
    apply(&store, [Op::AddApproval(approval("s", "q"))]).await.unwrap();
    assert_eq!(store.approvals("s").await.unwrap()[0].resolved, None);
    let event = |seq| Event { seq, at: Timestamp::UNIX_EPOCH, body: EventBody::Ready {} };
    let output = |seqs: std::ops::RangeInclusive<u64>| Op::Output {
        sprite_uid: "s".to_owned(),
        run: 2,
        events: seqs.map(event).collect(),
    };
    apply(&store, [output(1..=2)]).await.unwrap();
    let resolve = Op::ResolveApproval {
        sprite_uid: "s".to_owned(),
        run: 1,
        request: "q".to_owned(),
        state: ApprovalState::Expired,
        by: String::new(),
        user: None,
        grant: None,
        message: String::new(),
        answers: BTreeMap::new(),
    };
    apply(&store, [output(3..=3), resolve]).await.unwrap();
    apply(&store, [output(4..=4)]).await.unwrap();
    let row = store.approvals("s").await.unwrap().remove(0);
    assert_eq!(row.resolved, Some(Cursor { run: 2, seq: 3 }), "what commits with it is held, too");
}

pub async fn a_delivery_is_written_by_one_at_a_time(store: Subject) {
    for id in ["z", "a", "m"] {
        apply(&store, [Op::Delivery(delivery(id))]).await.unwrap();
    }
    let open = store.open_deliveries().await.unwrap();
    let ids: Vec<_> = open.iter().map(|row| (row.id.as_str(), row.version)).collect();
    assert_eq!(ids, [("z", 1), ("a", 1), ("m", 1)], "in the order in which they were made");

    let mut written = open[0].clone();
    written.messages = vec!["1".to_owned()];
    apply(&store, [Op::Delivery(written.clone())]).await.unwrap();
    let stale = Err(Error::Stale { what: "delivery z".to_owned() });
    written.state = DeliveryState::Done;
    assert_eq!(apply(&store, [Op::Delivery(written.clone())]).await, stale);
    assert_eq!(apply(&store, [Op::Delivery(delivery("z"))]).await, stale);
    written.version = 2;
    apply(&store, [Op::Delivery(written)]).await.unwrap();
    assert_eq!(store.delivery("z").await.unwrap().unwrap().version, 3);
    assert_eq!(store.open_deliveries().await.unwrap(), open[1..]);
    assert_eq!(store.delivery("absent").await.unwrap(), None);
}

pub async fn a_delivery_waits_for_the_last_bare_one_in_front_of_it_in_its_conversation(
    store: Subject,
) {
    let made = |id: &str, thread: Option<&str>, only_for: Option<&str>| {
        let mut delivery = delivery(id);
        delivery.conversation.thread = thread.map(str::to_owned);
        delivery.only_for = only_for.map(str::to_owned);
        delivery
    };
    let rows = [
        made("z", None, None),
        made("whisper", None, Some("U1")),
        made("other", Some("t\"'"), None),
        made("a", None, None),
        made("b", Some("t\"'"), None),
    ];
    apply(&store, rows.map(Op::Delivery)).await.unwrap();
    let ahead = async |id: &str, whispers| {
        let row = store.delivery(id).await.unwrap().unwrap();
        store.delivery_ahead(&row, whispers).await.unwrap().map(|row| row.id)
    };
    assert_eq!(ahead("z", true).await, None);
    assert_eq!(ahead("a", true).await.as_deref(), Some("whisper"));
    assert_eq!(ahead("a", false).await.as_deref(), Some("z"));
    assert_eq!(ahead("b", true).await.as_deref(), Some("other"));

    let mut other = store.delivery("other").await.unwrap().unwrap();
    other.state = DeliveryState::Parked;
    apply(&store, [Op::Delivery(other.clone())]).await.unwrap();
    assert_eq!(ahead("b", true).await.as_deref(), Some("other"), "a parked one, too");
    other.version += 1;
    other.state = DeliveryState::Done;
    let mut z = store.delivery("z").await.unwrap().unwrap();
    z.messages.push("1".to_owned());
    apply(&store, [Op::Delivery(other), Op::Delivery(z)]).await.unwrap();
    assert_eq!(ahead("b", true).await, None, "it is done");
    assert_eq!(ahead("a", false).await, None, "it shows a message");
    let absent = store.delivery_ahead(&delivery("absent"), true).await.unwrap();
    assert_eq!(absent, None);
}

pub async fn events_count_up_and_come_oldest_first(store: Subject) {
    for (second, reason, note) in
        [(1, "Starting", "b"), (1, "Created", "a"), (2, "Failed", "x"), (3, "Starting", "b")]
    {
        store.apply(tx(second, [event_op("u", reason, note)])).await.unwrap();
    }
    let rows = store.events("u").await.unwrap();
    let shown: Vec<_> =
        rows.iter().map(|row| (row.reason.as_str(), row.count, row.first, row.last)).collect();
    let expected =
        [("Starting", 2, at(1), at(3)), ("Created", 1, at(1), at(1)), ("Failed", 1, at(2), at(2))];
    assert_eq!(shown, expected);
    assert_eq!(rows[0].kind, "Normal");
    assert_eq!(store.events("other").await.unwrap(), vec![]);
}

pub async fn the_events_of_all_come_in_the_order_in_which_they_were_made(store: Subject) {
    for (second, uid, note) in [(3, "b", "1"), (1, "a", "2"), (1, "b", "3"), (2, "a", "4")] {
        store.apply(tx(second, [event_op(uid, "Told", note)])).await.unwrap();
    }
    // One that happens again keeps its place.
    store.apply(tx(9, [event_op("b", "Told", "1")])).await.unwrap();
    let told = async |after: u64, limit: usize| {
        let rows = store.all_events(after, limit).await.unwrap();
        rows.into_iter().map(|it| (it.n, it.uid + &it.row.note)).collect::<Vec<(u64, String)>>()
    };
    let all = told(0, usize::MAX).await;
    let names: Vec<&str> = all.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["b1", "a2", "b3", "a4"]);
    assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0), "{all:?}");
    assert_eq!(told(all[1].0, 1).await, all[2..3]);
    assert_eq!(told(all[3].0, 9).await, []);
    assert_eq!(store.all_events(0, 1).await.unwrap()[0].row.count, 2);
}

pub async fn a_backoff_is_kept_until_it_is_forgotten(store: Subject) {
    let ops = ["b", "a"].map(|name| Op::Backoff(backoff(name, 1)));
    apply(&store, ops).await.unwrap();
    apply(&store, [Op::Backoff(backoff("a", 2))]).await.unwrap();
    assert_eq!(store.backoffs().await.unwrap(), [backoff("a", 2), backoff("b", 1)]);
    apply(&store, [Op::Backoff(backoff("a", 0))]).await.unwrap();
    assert_eq!(store.backoffs().await.unwrap(), [backoff("b", 1)]);
}

pub async fn text_of_any_kind_survives(store: Subject) {
    let text = "it's \"quoted\" \\ \u{0} \n\r\t ü 漢 🦀 %s ?1 ]]>";
    let mut object = with_spec(&job("a"), text);
    object.metadata_mut().annotations.insert(text.to_owned(), text.to_owned());
    let created = create(&store, object).await;
    assert_eq!(now_at(&store, &created).await, created);
    let receipt = Receipt { key: text.to_owned(), effect: text.to_owned() };
    apply(&store, [Op::Receipt(receipt.clone())]).await.unwrap();
    assert_eq!(store.receipt(text).await.unwrap(), Some(receipt.clone()));
    let again = apply(&store, [Op::Receipt(receipt)]).await;
    assert!(matches!(again, Err(Error::Duplicate { .. })), "{again:?}");
    apply(&store, [output(text, 1, vec![log(1, text), log(2, "\n")])]).await.unwrap();
    let rows = store.output(text, Cursor::default(), 1000).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| row.event.clone()).collect::<Vec<_>>(),
        [log(1, text), log(2, "\n")]
    );
    let event = [event_op(text, text, text), event_op(text, text, text)];
    apply(&store, event).await.unwrap();
    apply(&store, [event_op(text, text, text)]).await.unwrap();
    assert_eq!(store.events(text).await.unwrap()[0].count, 3);
}

pub async fn an_empty_transaction_is_answered(store: Subject) {
    let applied = store.apply(Transaction::at(at(0))).await.unwrap();
    assert_eq!(applied, Applied { revision: 0, changed: false, objects: vec![] });
}
