//! `get` in all its forms, and `describe`.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{World, agent, applied, session};

fn three(world: &World) {
    let with = |name: &str, labels: &str, more: &str| {
        agent(name, more).replace("}\nspec", &format!(", labels: {labels}}}\nspec"))
    };
    let all = [
        with("a", "{team: x}", "  idleTimeout: 1h\n"),
        with("b", "{team: y, tier: test}", "  idleTimeout: 90s\n"),
        with("c", "{old: 'yes'}", "  idleTimeout: 5m\n"),
    ];
    applied(world, &all.join("---\n"));
}

#[test]
fn objects_are_shown_in_every_form() {
    let world = World::new();
    three(&world);
    let columns =
        "custom-columns=NAME:.metadata.name,IDLE:.spec.idleTimeout,TEAM:.metadata.labels.team";
    world.write("columns", "NAME IDLE\n.metadata.name .spec.idleTimeout\n");
    insta::assert_snapshot!(session(
        &world,
        &[
            &["get", "agents", "-o", "jsonpath={.items[*].metadata.name}"],
            &["get", "agents", "-o", "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}"],
            &["get", "agent/a", "-o", "jsonpath={.kind} {.spec.suspend}"],
            &["get", "agents", "-o", columns],
            &["get", "agents", "a", "c", "-o", columns, "--no-headers"],
            &[
                "get",
                "agents",
                "-o",
                "custom-columns-file=columns",
                "--sort-by",
                ".spec.idleTimeout"
            ],
            &["get", "agents", "--sort-by", "{.spec.idleTimeout}", "-o", "name"],
            &["get", "agents", "-o", "jsonpath={.a"],
            &["get", "agents", "-o", "go-template={{.}}"],
            &["get", "agents", "--sort-by", "{"],
        ]
    ));
    let sorted = world.od(&["get", "agents", "--sort-by", ".spec.idleTimeout"]).text();
    let names: Vec<&str> =
        sorted.lines().skip(1).filter_map(|row| row.split_whitespace().next()).collect();
    assert_eq!(names, ["b", "c", "a"], "durations go by their length");
    let labelled = world.od(&["get", "agents", "--show-labels", "--no-headers", "-A"]).text();
    assert!(labelled.lines().nth(1).unwrap().ends_with("team=y,tier=test"), "{labelled}");
    assert!(!labelled.contains("NAME"));
}

#[test]
fn selectors_choose_by_all_operators() {
    let world = World::new();
    three(&world);
    let names = |words: &[&str]| {
        let found = world.od(&[&["get", "agents", "-o", "name"], words].concat());
        assert_eq!(found.code, 0, "{}", found.stderr);
        let text = found.text();
        text.lines().filter_map(|line| line.split('/').nth(1)).collect::<Vec<_>>().join(" ")
    };
    for (selector, found) in [
        ("team=x", "a"),
        ("team==x", "a"),
        ("team!=x", "b c"),
        ("team in (x, y)", "a b"),
        ("team notin (x)", "b c"),
        ("team", "a b"),
        ("!team", "c"),
        ("team,tier=test", "b"),
    ] {
        assert_eq!(names(&["-l", selector]), found, "{selector}");
    }
    assert_eq!(names(&["--field-selector", "metadata.name=b"]), "b");
    let bad = world.od(&["get", "agents", "-l", "team in x"]);
    assert_eq!(bad.code, 1);
    assert!(bad.stderr.contains("label selector"), "{}", bad.stderr);
    assert_eq!(world.od(&["get", "agent", "a", "-l", "team=x"]).code, 2);
}

#[test]
fn what_changes_is_shown_and_with_watch_only_nothing_else() {
    let world = World::new();
    applied(&world, &agent("old", ""));
    let template = "jsonpath={.metadata.name}{\"\\n\"}";
    let mut watching = world
        .command(&["get", "agents", "--watch-only", "-o", template])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    // When it looks cannot be seen from here; so something changes until it was seen.
    let (say, stop) = std::sync::mpsc::channel::<()>();
    let server = &world;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut n = 0;
            while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                applied(server, &agent(&format!("new-{n}"), ""));
                n += 1;
            }
        });
        let line = lines.next().unwrap().unwrap();
        drop(say);
        assert!(line.starts_with("new-"), "the old one was not changed: {line}");
    });
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert_eq!(world.od(&["get", "agents,jobs", "-w"]).code, 2);
}

#[test]
fn several_kinds_and_all_of_them_are_shown_together() {
    let world = World::new();
    applied(&world, &agent("a", ""));
    world.od(&["run", "-f", "--name", "once", "true"]);
    let all = world.od(&["get", "all"]).text();
    for name in
        ["agent.opendispatch.dev/a", "job.opendispatch.dev/once", "sprite.opendispatch.dev/once-"]
    {
        assert!(all.contains(name), "{all}");
    }
    let two = world.od(&["get", "ag,jobs.opendispatch.dev", "-o", "jsonpath={.items[*].kind}"]);
    assert_eq!(two.text(), "Agent Job");
    let yaml = world.od(&["get", "agents", "-o", "yaml"]).text();
    assert!(!yaml.contains("managedFields"), "{yaml}");
}

#[test]
fn objects_are_described_by_their_labels() {
    let world = World::new();
    three(&world);
    let described = world.od(&["describe", "agents", "-l", "team"]).text();
    let names: Vec<&str> = described.lines().filter(|line| line.starts_with("Name:")).collect();
    assert_eq!(names.len(), 2, "{described}");
    assert_eq!(world.od(&["describe", "agents", "-l", "none"]).stderr, "No resources found\n");
}

#[test]
fn an_object_whose_row_cannot_be_read_is_named_by_get_and_doctor_with_the_mend() {
    let world = World::new();
    applied(&world, &agent("a", ""));
    let damaged = async {
        let path = world.data().join("store.db");
        let options = SqliteConnectOptions::new().filename(path);
        let mut file = SqliteConnection::connect_with(&options).await.unwrap();
        let newer = "UPDATE objects SET body = json_set(body, '$.spec', 7) WHERE name = 'a'";
        sqlx::query(newer).execute(&mut file).await.unwrap();
        file.close().await.unwrap();
    };
    tokio::runtime::Runtime::new().unwrap().block_on(damaged);
    let told = [&["get", "agent/a"][..], &["get", "agents"], &["doctor"]];
    for words in told {
        let outcome = world.od(words);
        assert_eq!(outcome.code, 1, "{words:?}");
        let text = outcome.whole();
        assert!(text.contains("the row of agent/a cannot be read"), "{words:?}: {text}");
        assert!(text.contains("open-dispatch restore"), "{words:?}: {text}");
    }
    assert_eq!(world.od(&["get", "jobs"]).code, 0, "other kinds can be read");
}
