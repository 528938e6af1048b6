use proptest::{collection, prelude::*};
use serde_json::json;

use super::*;

const FILE: &str = r#"# Our agents.
---
# The first of them.
apiVersion: opendispatch.dev/v1alpha1
kind: Agent   # it talks
metadata: {name: bot, labels: {team: a}}
spec:
    # A cheap one is enough.
    agent: {claude: {model: "sonnet"}}   # for now
    budget:
        usd: 5   # a day
        # turns are free
    channels:   # where it listens
      - console: {channel: a}   # the first
      # and below it
      - console: {channel: b}
    instructions: |
        Prefer small commits.

        Always.
    env: []
    idleTimeout: '15m'
---
apiVersion: opendispatch.dev/v1alpha1
kind: Job
metadata:
  name: bot
spec:
  task: "a"
"#;

fn bot(change: Value) -> Result<String, Refused> {
    patch(FILE, Kind::Agent, "bot", &change)
}

/// The lines that went and came.
fn differs(before: &str, after: &str) -> String {
    let mut told = String::new();
    let diff = similar_lines(before, after);
    for (sign, line) in diff {
        told.push_str(&format!("{sign}{line}\n"));
    }
    told
}

/// A plain longest common subsequence over lines.
fn similar_lines<'a>(old: &'a str, new: &'a str) -> Vec<(char, &'a str)> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut length = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            length[i][j] = if old[i] == new[j] {
                length[i + 1][j + 1] + 1
            } else {
                length[i + 1][j].max(length[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j < new.len() && (i == old.len() || length[i][j + 1] > length[i + 1][j]) {
            found.push(('+', new[j]));
            j += 1;
        } else {
            found.push(('-', old[i]));
            i += 1;
        }
    }
    found
}

#[test]
fn a_change_touches_its_own_lines_and_looks_like_its_neighbours() {
    let mut told = Vec::new();
    for change in [
        json!({"agent": {"claude": {"model": "opus"}}}),
        json!({"agent": {"claude": {"effort": "high: or, so"}}}),
        json!({"budget": {"usd": 7.5, "turns": 20}}),
        json!({"budget": {"usd": null, "turns": 20}}),
        json!({"budget": null}),
        json!({"instructions": "One line."}),
        json!({"instructions": "Two\n\nlines.\n"}),
        json!({"instructions": null}),
        json!({"idleTimeout": "it's 5"}),
        json!({"idleTimeout": "a\nb"}),
        json!({"env": [{"name": "A", "value": "yes"}, {"name": "B", "value": "two\nlines"}]}),
        json!({"channels": [{"console": {"channel": "a"}}, {"console": {"channel": "c"}}]}),
        json!({"channels": [{"console": {"channel": "c"}}, {"console": {"channel": "b"}}]}),
        json!({"channels": [{"console": {"channel": "b"}}]}),
        json!({"channels": []}),
        json!({"channels": null}),
        json!({"repo": {"github": "a/b", "branch": "1e3"}, "runtime": {"local": {}}}),
    ] {
        let changed = bot(change.clone()).unwrap_or_else(|error| panic!("{change}: {error}"));
        told.push(format!("{change}\n{}", differs(FILE, &changed)));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_change_that_stands_there_changes_no_byte() {
    let same = json!({"budget": {"usd": 5, "turns": null}, "idleTimeout": "15m", "env": []});
    assert_eq!(bot(same).unwrap(), FILE);
}

#[test]
fn line_breaks_stay_what_they_are_and_an_end_without_one_is_taken() {
    let windows = FILE.replace('\n', "\r\n");
    let changed = patch(&windows, Kind::Agent, "bot", &json!({"budget": {"turns": 3}})).unwrap();
    assert_eq!(changed.replace("\r\n", "").matches('\n').count(), 0);
    assert_eq!(changed.replace("\r\n", "\n"), bot(json!({"budget": {"turns": 3}})).unwrap());
    let short = FILE.trim_end();
    let changed = patch(short, Kind::Job, "bot", &json!({"task": "b", "retries": 2})).unwrap();
    assert!(changed.ends_with("  task: \"b\"\n  retries: 2"), "{changed}");
    let gone = patch(
        "kind: Job\nmetadata: {name: a}\nspec:\n  task: a\n  retries: 1",
        Kind::Job,
        "a",
        &json!({"retries": null}),
    );
    assert_eq!(gone.unwrap(), "kind: Job\nmetadata: {name: a}\nspec:\n  task: a");
}

#[test]
fn the_last_lines_of_a_text_without_an_end_go_together() {
    let head = "kind: Job\nmetadata: {name: a}\nspec:\n  task: a";
    let text = format!("{head}\n  retries: 1\n  timeout: 5m");
    let gone = patch(&text, Kind::Job, "a", &json!({"retries": null, "timeout": null}));
    assert_eq!(gone.unwrap(), head);
    let text = format!("{head}\n  env:\n  - a\n  - b\n  - c");
    let gone = patch(&text, Kind::Job, "a", &json!({"env": ["a"]}));
    assert_eq!(gone.unwrap(), format!("{head}\n  env:\n  - a"));
}

#[test]
fn what_cannot_be_changed_safely_is_refused_with_the_reason() {
    let of = |spec: &str| format!("kind: Job\nmetadata: {{name: a}}\nspec:\n{spec}");
    let refused = |text: &str, change: Value| {
        patch(text, Kind::Job, "a", &change).expect_err("it was changed").to_string()
    };
    let anchored = of("  report: &r {detail: final}\n  other: *r\n");
    let told = [
        refused("kind: Job\nmetadata: {name: b}\nspec: {}\n", json!({"task": "b"})),
        refused(&format!("{}---\n{}", of("  task: a\n"), of("  task: b\n")), json!({"task": "c"})),
        refused("kind: [", json!({"task": "b"})),
        refused(&anchored, json!({"other": {"detail": "stream"}})),
        refused(&anchored, json!({"report": {"detail": "stream"}})),
        refused(&anchored, json!({"report": null})),
    ];
    insta::assert_snapshot!(told.join("\n"));
}

/// A document of nested maps with a comment at each line, and the comments.
fn lines(map: &Value, depth: usize, count: &mut usize, out: &mut String) {
    for (key, value) in map.as_object().into_iter().flatten() {
        *count += 1;
        let indent = " ".repeat(depth * 2);
        out.push_str(&format!("{indent}# above {count}\n"));
        match value {
            Value::Object(members) if !members.is_empty() => {
                out.push_str(&format!("{indent}{key}: # beside {count}\n"));
                lines(value, depth + 1, count, out);
            }
            scalar => out.push_str(&format!("{indent}{key}: {scalar} # beside {count}\n")),
        }
    }
}

fn scalars() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u16>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[a-z:#, '\"|>&*!%@{}\\[\\]-]{1,10}".prop_map(Value::from),
    ]
}

fn maps(leaf: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    leaf.prop_recursive(3, 24, 4, |inner| {
        collection::btree_map("[a-d]", inner, 1..4).prop_map(|map| json!(map))
    })
    .prop_filter("a spec is a map", Value::is_object)
}

fn anything() -> impl Strategy<Value = Value> {
    scalars().prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            collection::btree_map("[a-d]", inner, 0..3).prop_map(|map| json!(map)),
            Just(Value::Null),
            Just(json!("two\nlines\n")),
        ]
    })
}

proptest! {
    #[test]
    fn a_patched_text_says_what_was_meant_and_keeps_the_rest(
        spec in maps(scalars()), change in maps(anything()),
    ) {
        let mut text = "# Ours.\nkind: Job\nmetadata: {name: a}\nspec:\n".to_owned();
        let mut count = 0;
        lines(&spec, 1, &mut count, &mut text);
        text.push_str("---\n# Not touched.\nkind: Job\nmetadata: {name: b} # at all\n");
        // What it says is checked by `patch` itself, which would refuse.
        match patch(&text, Kind::Job, "a", &change) {
            Ok(changed) => {
                let after = changed.find("---\n").unwrap();
                prop_assert_eq!(&changed[after..], &text[text.find("---\n").unwrap()..]);
                let head = "# Ours.\nkind: Job\nmetadata: {name: a}\nspec:";
                prop_assert!(changed.starts_with(head), "{}", changed);
            }
            Err(refused) => prop_assert!(false, "{}\n{}\n{}", refused, text, change),
        }
    }

    #[test]
    fn a_change_of_scalars_keeps_every_comment(
        spec in maps(scalars()), picks in collection::vec((any::<prop::sample::Index>(), scalars()), 1..4),
    ) {
        let mut text = "kind: Job\nmetadata: {name: a}\nspec:\n".to_owned();
        let mut count = 0;
        lines(&spec, 1, &mut count, &mut text);
        let mut paths = Vec::new();
        leaves(&spec, &mut Vec::new(), &mut paths);
        let mut change = json!({});
        for (pick, value) in &picks {
            let path = &paths[pick.index(paths.len())];
            let one = path.iter().rev().fold(value.clone(), |inner, key| json!({key: inner}));
            merge_patch(&mut change, &one);
        }
        let changed = patch(&text, Kind::Job, "a", &change);
        let changed = changed.map_err(|refused| TestCaseError::fail(format!("{refused}\n{text}\n{change}")))?;
        for n in 1..=count {
            for comment in [format!("# above {n}\n"), format!("# beside {n}\n")] {
                prop_assert!(changed.contains(&comment), "{} is gone:\n{}", comment, changed);
            }
        }
        prop_assert_eq!(changed.lines().count(), text.lines().count());
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-b:{}\\[\\], \n#&*|>'\"-]{0,60}", tail in "\\PC{0,20}") {
        let text = format!("kind: Job\nmetadata: {{name: a}}\nspec:\n  {text}{tail}");
        let _ = patch(&text, Kind::Job, "a", &json!({"a": {"b": 1}, "b": null}));
    }

    #[test]
    fn any_keys_can_go_from_a_text_without_an_end(keys in 2_usize..7, goes in any::<u8>()) {
        // The first stays, so that there is a map.
        let goes = |n: usize| n > 0 && goes & (1 << n) != 0;
        let text = |which: &dyn Fn(usize) -> bool| {
            let lines = (0..keys).filter(|n| which(*n)).map(|n| format!("\n  k{n}: {n}"));
            format!("kind: Job\nmetadata: {{name: a}}\nspec:{}", lines.collect::<String>())
        };
        let change: serde_json::Map<String, Value> =
            (0..keys).filter(|n| goes(*n)).map(|n| (format!("k{n}"), Value::Null)).collect();
        let changed = patch(&text(&|_| true), Kind::Job, "a", &Value::Object(change));
        prop_assert_eq!(changed.unwrap(), text(&|n| !goes(n)));
    }
}

/// The paths of all values that are no maps.
fn leaves(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match value.as_object().filter(|members| !members.is_empty()) {
        Some(members) => {
            for (key, value) in members {
                path.push(key.clone());
                leaves(value, path, found);
                path.pop();
            }
        }
        None => found.push(path.clone()),
    }
}

#[test]
fn what_stands_in_a_list_says_so_and_what_stands_nowhere_may_have_moved() {
    let item = "kind: Agent\nmetadata: {name: bot}\nspec: {suspend: true}\n";
    let list = format!("kind: List\nitems:\n  - {}", item.trim_end().replace('\n', "\n    "));
    let told = |text: &str, name: &str| {
        patch(text, Kind::Agent, name, &json!({"suspend": null})).unwrap_err().to_string()
    };
    assert_eq!(
        told(&list, "bot"),
        "agent/bot stands in a List, whose items are not changed; make it a document of its own"
    );
    assert_eq!(told(&list, "other"), "no document of the file declares agent/other");
    assert_eq!(told(item, "other"), "no document of the file declares agent/other");
}
