//! Chat as an editor of what files declare: refused with three ways, applied as YAML with a plan that
//! somebody agreed to, and shown as it stands.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/conversation.rs"]
mod conversation;
#[expect(dead_code, unused_imports, reason = "each test file uses a part of the support")]
#[path = "support/git/mod.rs"]
mod git;

use std::sync::Arc;

use conversation::{Fake, World};
use open_dispatch::{
    ambient::{Ambient, FreeSteps},
    chat::{Via, platform::Platform as _},
    reconcile::Controller as _,
    resource::{
        API_VERSION, AnyObject, Defaults, DirectorySource, Fleet, Kind, Override, OwnerReference,
        RELEASED_FROM, Schedule, SourceFrom, admit, decode, overlay,
    },
    secrets::Secrets,
    source::{
        git::{Git, Limits, Settings},
        over::{FileController, OverrideController, pen::SourcePen},
    },
    store::{Access, Base, Expect, Op, Owned, Part, Principal, Role, Store, Subject, files::Files},
};
use serde_json::{Value, json};

fn world() -> World {
    World::new(Fake::for_people(|can| can.max_message = 2_000), Arc::new(FreeSteps))
}

async fn create(world: &World, json: Value) -> String {
    let uid = format!("{}-uid", json["metadata"]["name"].as_str().unwrap());
    let object = admit::create(decode(json).unwrap(), uid.clone(), "").unwrap();
    world.apply(vec![Op::Create(object)]).await;
    uid
}

/// An agent `bot` that the source `ours` declares.
async fn declared() -> World {
    let mut world = world();
    let source = json!({
        "apiVersion": API_VERSION, "kind": "Source", "metadata": {"name": "ours"},
        "spec": {"from": {"directory": {"path": "specs"}}},
    });
    let source_uid = create(&world, source).await;
    say(&mut world, "/od-start bot --agent claude --model opus").await;
    let bot: AnyObject = world.agent("bot").await.into();
    let row = Owned {
        kind: Kind::Agent,
        name: "bot".to_owned(),
        uid: bot.metadata().uid.clone(),
        source_uid,
        source: "ours".to_owned(),
        base: Base { spec: bot.to_json()["spec"].clone(), ..Base::default() },
        file: "team/bot.yaml".to_owned(),
        line: 3,
        overrides: Vec::new(),
        leaving: false,
        version: 0,
    };
    world.apply(vec![Op::Own(row)]).await;
    world
}

/// Ada says a line; answers with what is told.
async fn say(world: &mut World, line: &str) -> String {
    let key = format!("said/{}", world.store.writes());
    let delivery = world.heard("main", &key, "ada", line, Via::Addressed).await;
    world.settle().await;
    match world.store.delivery(&delivery).await.unwrap().unwrap().subject {
        Subject::Notice { text } | Subject::Offer { text, .. } => text,
        other => panic!("{line} is answered by {other:?}"),
    }
}

/// What a delivery of whoever pressed says.
async fn pressed(world: &mut World, who: &str, line: &str) -> String {
    let delivery = world.press_line("main", who, line).await;
    match world.store.delivery(&delivery).await.unwrap().map(|delivery| delivery.subject) {
        Some(Subject::Notice { text } | Subject::Offer { text, .. }) => text,
        other => format!("{other:?}"),
    }
}

fn button(world: &World, label: &str) -> String {
    let found = world.platform.buttons("main").into_iter().find(|(found, _)| found == label);
    found.unwrap_or_else(|| panic!("no button {label}: {:?}", world.platform.labels("main"))).1
}

async fn overrides(world: &World) -> Vec<Override> {
    let all = world.store.list(Kind::Override, None, 10).await.unwrap().items;
    all.into_iter().filter_map(AnyObject::into_override).collect()
}

async fn row(world: &World) -> Option<Owned> {
    world.store.owned(Kind::Agent, "bot").await.unwrap()
}

#[tokio::test]
async fn a_change_of_what_a_source_declares_changes_nothing_and_offers_three_ways() {
    let mut world = declared().await;
    let before = world.agent("bot").await;
    let told = say(&mut world, "/od-set bot budget.usd=9").await;
    assert_eq!(
        told,
        "agent/bot is declared by source ours (team/bot.yaml:3), so nothing was changed yet:\n\
         budget.usd: nothing -> 9\n\
         Override it for a time, write it to the file, or let agent/bot go, which takes it out of \
         the source's hands"
    );
    assert_eq!(world.agent("bot").await, before);
    assert_eq!(world.platform.labels("main"), ["Override for 1 h", "Write to the file", "Let go"]);
    // What is a matter of power goes through.
    assert!(say(&mut world, "/od-stop bot").await.contains("stops"));
    assert!(world.agent("bot").await.spec.suspend);
    let told = say(&mut world, "/od-start bot --model sonnet").await;
    assert!(told.contains("All else stays as source ours declares it"), "{told}");
    assert!(overlay::only_power_differs(&before.into(), &world.agent("bot").await.into()));
    assert!(!world.agent("bot").await.spec.suspend);
}

#[tokio::test]
async fn a_button_makes_the_change_in_its_way_once() {
    for (label, to_file) in [("Override for 1 h", false), ("Write to the file", true)] {
        let mut world = declared().await;
        say(&mut world, "/od-set bot budget.usd=9").await;
        let line = button(&world, label);
        let told = pressed(&mut world, "ben", &line).await;
        assert!(told.contains("ben: agent/bot is"), "{told}");
        assert_eq!(world.platform.labels("main"), Vec::<String>::new());
        let all = overrides(&world).await;
        assert_eq!(all.len(), 1);
        let spec = &all[0].spec;
        assert_eq!(Value::Object(spec.patch.clone()), json!({"budget": {"usd": 9}}));
        assert_eq!((spec.target.name.as_str(), spec.write_to_file), ("bot", to_file));
        assert_eq!(spec.expires_after.unwrap().to_string(), if to_file { "1d" } else { "1h" });
        assert_eq!(spec.reason.as_deref(), Some("said by ben"));
        // Whoever presses late is told.
        let late = pressed(&mut world, "cat", &line).await;
        assert_eq!(late, "That was decided before; nothing more was done");
        assert_eq!(overrides(&world).await.len(), 1);
        let audit = world.store.audit(None, 10).await.unwrap();
        assert!(audit.iter().any(|row| row.what.starts_with("choose (override/bot-")), "{audit:?}");
    }
}

#[tokio::test]
async fn what_a_button_writes_to_the_file_is_a_commit_by_whoever_pressed() {
    let mut world = declared().await;
    // The file that the row names, in somebody's work tree.
    let root = tempfile::tempdir().unwrap();
    let origin = git::Origin::new(root.path(), "ops");
    let spec = row(&world).await.unwrap().base.spec;
    let bot = json!({"kind": "Agent", "metadata": {"name": "bot"}, "spec": spec});
    origin.write("specs/team/bot.yaml", bot.to_string()).push();
    let source = world.store.get(Kind::Source, "ours").await.unwrap().unwrap();
    let mut source = source.into_source().unwrap();
    let path = git::shown(&origin.work.join("specs"));
    source.spec.from = SourceFrom::Directory(DirectorySource { path, commit: true });
    let (part, expect) = (Part::Desired, Expect::SameVersion);
    world.apply(vec![Op::Write { object: source.into(), part, expect }]).await;

    say(&mut world, "/od-set bot budget.usd=9").await;
    let line = button(&world, "Write to the file");
    pressed(&mut world, "ben", &line).await;
    let settings = Settings {
        dir: root.path().join("mirrors"),
        environment: git::plain(),
        roots: Vec::new(),
        limits: Limits::default(),
    };
    let secrets = Secrets::new(root.path().join("secrets"), Vec::new());
    let pen = SourcePen::new(root.path(), Git::new(settings, secrets, Ambient::real()));
    let (air, defaults) = (Ambient::real, Defaults::default);
    let store = || world.store.clone() as Arc<dyn Store>;
    let lays = OverrideController::new(store(), air(), defaults());
    let writes = FileController::new(store(), air(), defaults(), Arc::new(pen));
    lays.reconcile("agent/bot").await.unwrap();
    writes.reconcile("agent/bot").await.unwrap();
    let said = origin.git(&["show", "-s", "--format=%an|%B", "HEAD"]);
    let ben = format!("ben ({}:ben)", world.platform.name());
    assert_eq!(said.trim_end(), format!("{ben}|Set budget of agent bot\n\nsaid by ben"));
    let files = origin.git(&["show", "--name-only", "--format=", "HEAD"]);
    assert_eq!(files.trim(), "specs/team/bot.yaml");
}

#[tokio::test]
async fn letting_go_makes_the_change_and_takes_the_object_out_of_the_sources_hands() {
    let mut world = declared().await;
    say(&mut world, "/od-set bot budget.usd=9").await;
    let line = button(&world, "Let go");
    pressed(&mut world, "ada", &line).await;
    let bot = world.agent("bot").await;
    assert_eq!(bot.spec.budget.unwrap().usd, Some(9.into()));
    assert_eq!(bot.metadata.annotations.get(RELEASED_FROM).map(String::as_str), Some("ours"));
    assert_eq!((row(&world).await, overrides(&world).await), (None, Vec::new()));
    // From here on it is anybody's.
    say(&mut world, "/od-set bot budget.usd=3").await;
    assert_eq!(world.agent("bot").await.spec.budget.unwrap().usd, Some(3.into()));
}

#[tokio::test]
async fn a_deletion_of_what_a_source_declares_is_offered_too() {
    let mut world = declared().await;
    let told = say(&mut world, "/od-delete bot").await;
    assert!(told.contains("nothing was deleted: take it out of team/bot.yaml:3"), "{told}");
    assert!(!world.agent("bot").await.metadata.is_deleting());
    let line = button(&world, "Let go and delete");
    pressed(&mut world, "ada", &line).await;
    assert!(world.agent("bot").await.metadata.is_deleting());
    assert_eq!(row(&world).await, None);
}

#[tokio::test]
async fn a_press_is_decided_by_what_holds_then() {
    let mut world = declared().await;
    say(&mut world, "/od-set bot budget.usd=9").await;
    let line = button(&world, "Override for 1 h");
    // By somebody who may not.
    pressed(&mut world, "eve", &line).await;
    assert_eq!(overrides(&world).await, []);
    // Of what was let go meanwhile.
    let held = row(&world).await.unwrap();
    let bot = world.agent("bot").await;
    world.apply(held.let_go(bot.into()).to_vec()).await;
    let told = pressed(&mut world, "ada", &line).await;
    assert_eq!(told, "agent/bot has changed hands since, so nothing was done; say it again");
    // After an hour.
    world.clock.advance(std::time::Duration::from_secs(3_601));
    world.settle().await;
    assert_eq!(world.platform.labels("main"), Vec::<String>::new());
    let told = pressed(&mut world, "ada", &line).await;
    assert!(told.contains("kept no longer"), "{told}");
    assert_eq!(overrides(&world).await, []);
}

#[tokio::test]
async fn a_press_by_the_channels_role_reaches_no_further_than_the_channel() {
    let labels = [
        ("/od-set bot budget.usd=9", "Override for 1 h"),
        ("/od-set bot budget.usd=9", "Write to the file"),
        ("/od-set bot budget.usd=9", "Let go"),
        ("/od-delete bot", "Let go and delete"),
    ];
    for listens_here in [false, true] {
        for (said, label) in labels {
            let mut world = declared().await;
            admit_main(&world).await;
            say(&mut world, said).await;
            let line = button(&world, label);
            let mut bot = world.agent("bot").await;
            if !listens_here {
                bot.spec.channels.clear();
                let (part, expect) = (Part::Desired, Expect::SameVersion);
                world.apply(vec![Op::Write { object: bot.into(), part, expect }]).await;
                bot = world.agent("bot").await;
            }
            // Whoever has no role of their own commands by the channel's.
            let told = pressed(&mut world, "eve", &line).await;
            let is_done = overrides(&world).await.len() == 1 || row(&world).await.is_none();
            assert_eq!(is_done, listens_here, "{label}: {told}");
            if !listens_here {
                assert!(told.contains("kept no longer"), "{label}: {told}");
                assert_eq!(world.agent("bot").await, bot, "{label}");
                // It still waits for somebody who reaches it.
                pressed(&mut world, "ada", &line).await;
                assert!(overrides(&world).await.len() == 1 || row(&world).await.is_none());
            }
        }
    }
}

#[tokio::test]
async fn where_there_are_no_buttons_the_ways_are_said_in_words() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    let yaml = "/od-apply {apiVersion: opendispatch.dev/v1alpha1, kind: Agent, metadata: {name: a}, spec: {agent: {claude: {}}}}";
    let offered = say(&mut world, yaml).await;
    assert!(offered.contains("agent/a created"), "{offered}");
    let shown = world.platform.shown("main").join("\n");
    let line = shown.lines().find_map(|line| line.strip_prefix("Apply: ")).unwrap().to_owned();
    say(&mut world, &line).await;
    assert_eq!(world.agent("a").await.metadata.name, "a");
}

const YAML: &str = "```yaml
apiVersion: opendispatch.dev/v1alpha1
kind: Agent
metadata: {name: api}
spec:
  agent: {claude: {model: opus}}
  instructions: It's \"so\".
---
apiVersion: opendispatch.dev/v1alpha1
kind: Job
metadata: {name: once}
spec: {task: go, agent: {claude: {}}}
```";

#[tokio::test]
async fn yaml_is_applied_once_somebody_has_seen_what_it_does() {
    let mut world = world();
    let told = say(&mut world, &format!("/od-apply {YAML}")).await;
    assert_eq!(told, "This would be done:\n```\nagent/api created\njob/once created\n```");
    assert_eq!(world.store.get(Kind::Agent, "api").await.unwrap(), None);
    let line = button(&world, "Apply");
    let told = pressed(&mut world, "ben", &line).await;
    assert!(told.ends_with("ben: applied"), "{told}");
    assert_eq!(world.agent("api").await.spec.instructions.as_deref(), Some("It's \"so\"."));
    assert!(world.store.get(Kind::Job, "once").await.unwrap().is_some());
    assert_eq!(
        pressed(&mut world, "ben", &line).await,
        "That was decided before; nothing more was done"
    );
    // The same once more is nothing, and what was stopped stays stopped.
    say(&mut world, "/od-stop api").await;
    let told = say(&mut world, &format!("/od-apply\n{YAML}")).await;
    assert_eq!(told, "There is nothing to do:\n```\nagent/api unchanged\njob/once unchanged\n```");
    assert!(world.agent("api").await.spec.suspend);
    let told = say(&mut world, &format!("/od-diff {}", YAML.replace("opus", "sonnet"))).await;
    assert_eq!(
        told,
        "```\nagent/api changed\n    agent.claude.model: opus -> sonnet\njob/once unchanged\n```"
    );
}

#[tokio::test]
async fn a_plan_that_is_another_by_then_is_shown_again_instead() {
    let mut world = world();
    say(&mut world, &format!("/od-apply {YAML}")).await;
    let line = button(&world, "Apply");
    say(&mut world, "/od-start api --agent claude").await;
    let told = pressed(&mut world, "ada", &line).await;
    assert!(told.starts_with("Things have changed meanwhile. This would be done:"), "{told}");
    assert_eq!(world.agent("api").await.spec.instructions, None);
    // The same button stands below the new plan, and does that.
    let line = button(&world, "Apply");
    pressed(&mut world, "ada", &line).await;
    assert!(world.agent("api").await.spec.instructions.is_some());
}

#[tokio::test]
async fn yaml_that_cannot_be_applied_is_told_with_the_place_and_changes_nothing() {
    let mut world = declared().await;
    let of = |kind: &str, name: &str, spec: &str| {
        format!("apiVersion: {API_VERSION}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}")
    };
    let good = of("Agent", "good", "{agent: {claude: {}}}");
    let mut told = Vec::new();
    for text in [
        String::new(),
        "kind: [".to_owned(),
        of("Agent", "a", "{agent: {claud: {}}}"),
        format!("{good}\n---\n{good}"),
        format!("{good}\n---\n{}", of("Source", "s", "{from: {directory: {path: specs}}}")),
        format!("{good}\n---\n{}", of("Agent", "bot", "{agent: {claude: {}}}")),
        format!(
            "{good}\n---\n{}",
            of("Agent", "a", "{agent: {claude: {}}, runtime: {local: {workdir: x}}}")
        ),
        format!("a: {}", "x".repeat(70_000)),
    ] {
        told.push(say(&mut world, &format!("/od-apply {text}")).await);
        assert_eq!(world.platform.labels("main"), Vec::<String>::new());
    }
    assert_eq!(world.store.get(Kind::Agent, "good").await.unwrap(), None);
    insta::assert_snapshot!(told.join("\n-----\n"));
}

#[tokio::test]
async fn what_is_exported_can_be_applied_again_and_a_drift_is_shown() {
    let mut world = declared().await;
    let told = say(&mut world, "/od-export bot").await;
    assert!(!told.contains("uid") && !told.contains("status"), "{told}");
    let told = say(&mut world, &format!("/od-apply {told}")).await;
    assert_eq!(told, "There is nothing to do:\n```\nagent/bot unchanged\n```");
    assert_eq!(say(&mut world, "/od-diff bot").await, "agent/bot says what the file says");
    // As the controller would leave it under an override.
    let mut bot = world.agent("bot").await;
    bot.spec.instructions = Some("Be brief.".to_owned());
    bot.spec.suspend = true;
    let write = Op::Write {
        object: bot.into(),
        part: open_dispatch::store::Part::Desired,
        expect: open_dispatch::store::Expect::Any,
    };
    world.apply(vec![write]).await;
    let drift = "```\nagent/bot (team/bot.yaml:3) instructions: nothing -> Be brief.\n```";
    assert_eq!(say(&mut world, "/od-diff bot").await, drift);
    assert_eq!(say(&mut world, "/od-diff").await, drift);
    let told = say(&mut world, "/od-export bot").await;
    assert!(!told.contains("Be brief.") && told.contains("suspend: true"), "{told}");
    say(&mut world, "/od-start free --agent claude").await;
    let told = say(&mut world, "/od-diff free").await;
    assert_eq!(told, "No source declares agent/free, so there is no file to compare it with");
    let all = say(&mut world, "/od-export").await;
    assert!(all.contains("name: bot") && all.contains("name: free"), "{all}");
}

/// Lets everybody in the channel `main` command there, and nowhere else.
async fn admit_main(world: &World) {
    let role = Access {
        principal: Principal::channel(world.platform.name(), "main"),
        role: Role::Operator,
        name: String::new(),
        by: "ada".to_owned(),
        pairing: None,
        created: jiff::Timestamp::UNIX_EPOCH,
        token: None,
    };
    world.apply(vec![Op::Admit(role)]).await;
}

#[tokio::test]
async fn whoever_chooses_an_agent_for_a_message_has_to_reach_it_as_it_stands_then() {
    for listens_here in [false, true] {
        let mut world = world();
        admit_main(&world).await;
        for name in ["bot", "two"] {
            say(&mut world, &format!("/od-start {name} --agent claude")).await;
        }
        let asked = world.heard("main", "hello", "eve", "hello", Via::Addressed).await;
        world.settle().await;
        let asked = world.store.delivery(&asked).await.unwrap().unwrap();
        assert!(matches!(asked.subject, Subject::Choice { .. }), "{asked:?}");
        let line = button(&world, "bot");
        let mut bot = world.agent("bot").await;
        let uid = bot.metadata.uid.clone();
        if !listens_here {
            bot.spec.channels.clear();
            let (part, expect) = (Part::Desired, Expect::SameVersion);
            world.apply(vec![Op::Write { object: bot.into(), part, expect }]).await;
        }
        world.press_line("main", "eve", &line).await;
        let turns = world.store.turns(&uid, 0, 9).await.unwrap();
        assert_eq!(turns.len(), usize::from(listens_here));
        // Somebody who reaches everything may still choose.
        world.press_line("main", "ada", &line).await;
        assert_eq!(world.store.turns(&uid, 0, 9).await.unwrap().len(), 1);
    }
}

/// A fleet `crew` of two agents, as its controller would have made it.
async fn crew(world: &World) {
    let fleet = json!({
        "apiVersion": API_VERSION, "kind": "Fleet", "metadata": {"name": "crew"},
        "spec": {
            "generate": {"replicas": 2},
            "template": {
                "kind": "Agent", "metadata": {"name": "crew-{{index}}"},
                "spec": {"agent": {"claude": {"model": "opus"}}},
            },
        },
    });
    let fleet = create(world, fleet).await;
    for n in 1..=2 {
        let agent = json!({
            "apiVersion": API_VERSION, "kind": "Agent", "metadata": {"name": format!("crew-{n}")},
            "spec": {"agent": {"claude": {"model": "opus"}}},
        });
        create(world, agent).await;
        let mut agent = world.agent(&format!("crew-{n}")).await;
        agent.metadata.owner_references.push(OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: Kind::Fleet,
            name: "crew".to_owned(),
            uid: fleet.clone(),
            controller: true,
        });
        let (part, expect) = (Part::Finalizers, Expect::SameVersion);
        world.apply(vec![Op::Write { object: agent.into(), part, expect }]).await;
    }
}

async fn fleet(world: &World) -> Fleet {
    world.store.get(Kind::Fleet, "crew").await.unwrap().unwrap().into_fleet().unwrap()
}

#[tokio::test]
async fn a_member_of_a_fleet_is_changed_in_its_template_and_stopped_by_itself() {
    let mut world = world();
    crew(&world).await;
    let before = world.agent("crew-1").await;
    let mut told = Vec::new();
    for line in [
        "/od-set crew-1 budget.usd=9",
        "/od-delete crew-1",
        "/od-apply {apiVersion: opendispatch.dev/v1alpha1, kind: Agent, metadata: {name: crew-1}, spec: {agent: {claude: {}}}}",
    ] {
        told.push(say(&mut world, line).await);
        assert_eq!(world.agent("crew-1").await, before, "{line}");
    }
    told.push(say(&mut world, "/od-stop crew-1").await);
    assert!(world.agent("crew-1").await.spec.suspend);
    told.push(say(&mut world, "/od-start crew-1 --model sonnet").await);
    assert!(overlay::only_power_differs(&before.into(), &world.agent("crew-1").await.into()));
    assert!(!world.agent("crew-1").await.spec.suspend);
    // A fleet that rests puts nothing back.
    told.push(say(&mut world, "/od-set fleet/crew suspend=true").await);
    told.push(say(&mut world, "/od-set crew-1 budget.usd=9").await);
    assert_eq!(world.agent("crew-1").await.spec.budget.unwrap().usd, Some(9.into()));
    told.push(say(&mut world, "/od-delete crew-2").await);
    assert!(world.agent("crew-2").await.metadata.is_deleting());
    insta::assert_snapshot!(told.join("\n-----\n"));
}

#[tokio::test]
async fn fleets_and_schedules_are_edited_by_their_own_fields_and_those_of_what_they_make() {
    let mut world = world();
    crew(&world).await;
    say(&mut world, "/od-schedule add @daily --name nightly --agent claude look around").await;
    // Somebody else of that name is not meant.
    say(&mut world, "/od-start crew --agent claude").await;
    let mut told = Vec::new();
    for line in [
        "/od-set fleet/crew model=sonnet template.spec.budget.usd=5",
        "/od-set fleet/crew generate.replicas=3",
        "/od-scale crew 4",
        "/od-scale crew 4",
        "/od-scale fleet/crew many",
        "/od-scale crew",
        "/od-scale agent/crew 2",
        "/od-scale nobody 2",
        "/od-set fleet/crew template.spec.agent.claud.model=x",
        "/od-set fleet/crw model=x",
        "/od-set nightly timeZone=Europe/Berlin model=opus",
        "/od-set schedule/nightly jobTemplate.spec.runtime.local.workdir=here",
        "/od-delete fleet/crew",
    ] {
        told.push(format!("> {line}\n{}", say(&mut world, line).await));
    }
    insta::assert_snapshot!(told.join("\n\n"));
    let crew = fleet(&world).await.spec;
    let template = json!(crew.template.spec);
    assert_eq!(template["agent"]["claude"]["model"], "sonnet");
    assert_eq!(template["budget"]["usd"], 5);
    assert_eq!(json!(crew.generate), json!({"replicas": 4}));
    let nightly = world.store.get(Kind::Schedule, "nightly").await.unwrap().unwrap();
    let nightly: Schedule = nightly.into_schedule().unwrap();
    assert_eq!(nightly.spec.time_zone.as_deref(), Some("Europe/Berlin"));
    assert_eq!(json!(nightly.spec.job_template.spec)["agent"]["claude"]["model"], "opus");
    assert!(!world.agent("crew").await.metadata.is_deleting());
}

#[tokio::test]
async fn a_fleet_that_a_source_declares_is_scaled_in_one_of_three_ways() {
    let mut world = declared().await;
    crew(&world).await;
    let row = Owned {
        kind: Kind::Fleet,
        name: "crew".to_owned(),
        uid: "crew-uid".to_owned(),
        base: Base { spec: json!(fleet(&world).await.spec), ..Base::default() },
        version: 0,
        ..row(&world).await.unwrap()
    };
    world.apply(vec![Op::Own(row)]).await;
    let told = say(&mut world, "/od-scale crew 5").await;
    assert!(told.contains("declared by source ours") && told.contains("2 -> 5"), "{told}");
    let line = button(&world, "Override for 1 h");
    pressed(&mut world, "ada", &line).await;
    let over = &overrides(&world).await[0].spec;
    assert_eq!(Value::Object(over.patch.clone()), json!({"generate": {"replicas": 5}}));
    assert_eq!((over.target.kind, over.target.name.as_str()), (Kind::Fleet, "crew"));
}

#[tokio::test]
async fn a_long_export_comes_as_a_file_that_can_be_applied_again() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(Files::open(dir.path().join("files")).unwrap());
    let mut world = world().with_files(files);
    say(&mut world, "/od-start bot --agent claude").await;
    let mut bot = world.agent("bot").await;
    let short = say(&mut world, "/od-export bot").await;
    assert!(short.starts_with("```"), "{short}");
    bot.spec.instructions = Some("Be brief. ".repeat(300));
    let (part, expect) = (Part::Desired, Expect::SameVersion);
    world.apply(vec![Op::Write { object: bot.clone().into(), part, expect }]).await;
    let told = say(&mut world, "/od-export bot").await;
    assert_eq!(told, "1 object, as it can be applied again: bot.yaml");
    let messages = std::mem::take(&mut world.platform.state.lock().unwrap().messages);
    // Behind the words, and once.
    let at = messages.iter().position(|message| message.file.is_some()).unwrap();
    assert_eq!(at, messages.len() - 1);
    assert_eq!(messages[at - 1].text, told);
    let file = messages[at].file.as_ref().unwrap();
    assert_eq!(file.name, "bot.yaml");
    let text = String::from_utf8(file.bytes.to_vec()).unwrap();
    let read = open_dispatch::resource::yaml::read(&text, None).unwrap().remove(0);
    assert_eq!(read.to_json()["spec"], AnyObject::from(bot).to_json()["spec"]);
}
