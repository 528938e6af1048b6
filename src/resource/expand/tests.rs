//! What members a Fleet has, and what is said where it can have none.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    params::MOST_VALUE,
    room::{Full, MOST_BYTES, MOST_FAULTS, MOST_OF_ONE},
    *,
};

fn spec(value: Value) -> FleetSpec {
    serde_json::from_value(value).unwrap()
}

fn none(_: &mut Value) -> Result<(), Fault> {
    Ok(())
}

fn expand(value: Value) -> Result<Vec<Member>, Faults> {
    members("crew", &spec(value), Err(NoDirectories), &mut none)
}

fn agents(generate: Value, metadata: Value, instructions: &str) -> Value {
    json!({
        "generate": generate,
        "template": {
            "kind": "Agent",
            "metadata": metadata,
            "spec": {"agent": {"claude": {}}, "instructions": instructions},
        },
    })
}

fn names(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| member.name.as_str()).collect()
}

#[test]
fn each_generator_names_its_members() {
    let of = |generate: Value| {
        names(&expand(agents(generate, json!({}), "Be brief.")).unwrap())
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of(json!({"list": [{"repo": "acme/API"}, {"repo": "acme/web"}]})),
        ["crew-acme-api", "crew-acme-web"]
    );
    assert_eq!(
        of(json!({"matrix": {"a": [1, 2], "b": ["x", "y"]}})),
        ["crew-1-x", "crew-1-y", "crew-2-x", "crew-2-y"]
    );
    assert_eq!(of(json!({"replicas": 3})), ["crew-1", "crew-2", "crew-3"]);
    assert_eq!(of(json!({"replicas": 0})), Vec::<String>::new());
    assert_eq!(of(json!({"list": []})), Vec::<String>::new());
}

#[test]
fn directories_are_members_once_each_in_order() {
    let from = agents(
        json!({"gitDirectories": {"source": "s", "pattern": "services/*"}}),
        json!({"name": "{{basename}}"}),
        "Work in {{path}}.",
    );
    let paths = ["services/web", "services/api", "services/web"].map(str::to_owned);
    let made = members("crew", &spec(from.clone()), Ok(&paths), &mut none).unwrap();
    assert_eq!(names(&made), ["api", "web"]);
    assert_eq!(made[0].object.to_json()["spec"]["instructions"], "Work in services/api.");
    assert!(expand(from).is_err(), "nobody knows which there are");
}

#[test]
fn a_placeholder_alone_keeps_the_type_of_its_value() {
    let made = expand(json!({
        "generate": {"list": [{"turns": 7, "asks": ["Bash(ls:*)"], "off": true, "n": 2}]},
        "template": {
            "kind": "Agent",
            "metadata": {"name": "bot-{{n}}", "labels": {"n": "{{ n }}"}},
            "spec": {
                "agent": {"claude": {}}, "suspend": "{{off}}",
                "budget": {"turns": "{{turns}}"}, "permissions": {"allow": "{{asks}}"},
                "instructions": "{{n}} of {{turns}}, \\{{n}} and {\\{{",
            },
        },
    }))
    .unwrap();
    let json = made[0].object.to_json();
    assert_eq!(made[0].name, "bot-2");
    assert_eq!(json["metadata"]["labels"]["n"], "2");
    assert_eq!(json["spec"]["suspend"], true);
    assert_eq!(json["spec"]["budget"]["turns"], 7);
    assert_eq!(json["spec"]["permissions"]["allow"], json!(["Bash(ls:*)"]));
    assert_eq!(json["spec"]["instructions"], "2 of 7, {{n}} and {{{");
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let wrong = [
        agents(json!({"list": [{"repo": "a"}]}), json!({}), "Look at {{repoo}} and {{x.y}} and {{"),
        agents(json!({"list": [{"repo": ["a"]}]}), json!({"name": "x"}), "Look at {{repo}}"),
        agents(
            json!({"list": [{"repo": "a b"}, {"repo": "a/b"}]}),
            json!({"name": "{{repo}}"}),
            "x",
        ),
        agents(json!({"list": [{"a": 1}, {"b": 1}]}), json!({"name": "{{a}}"}), "x"),
        agents(json!({"list": [{"r": "a/b"}]}), json!({"labels": {"repo": "{{r}}"}}), "x"),
        agents(json!({"list": [{"r": "…"}]}), json!({"name": "{{r}}"}), "x"),
        agents(json!({"list": [{"1x": "…"}]}), json!({}), "x"),
        agents(json!({"matrix": {"a": []}}), json!({}), "x"),
        agents(json!({"matrix": {"a": vec![0; 40], "b": vec![0; 40]}}), json!({}), "x"),
        agents(json!({"replicas": 4_000_000_000_u32}), json!({}), "x"),
        agents(json!({"replicas": 1}), json!({"labels": {"opendispatch.dev/fleet": "x"}}), "x"),
        json!({
            "generate": {"replicas": 2},
            "template": {"kind": "Job", "metadata": {}, "spec": {"task": "", "timout": "1h"}},
        }),
        json!({
            "generate": {"replicas": 1},
            "template": {"kind": "Job", "metadata": {}, "spec": {
                "task": "x", "agent": {"claude": {}}, "cancel": true,
            }},
        }),
    ];
    let mut text = String::new();
    for wrong in wrong {
        text.push_str(&format!("{}\n\n", expand(wrong).unwrap_err()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_job_that_is_made_from_something_else_is_another_job() {
    let job = |task: &str, retries: u32, timeout: Value| {
        let made = expand(json!({
            "generate": {"list": [{"x": "a"}]},
            "template": {"kind": "Job", "metadata": {}, "spec": {
                "task": task, "agent": {"claude": {}}, "retries": retries, "timeout": timeout,
            }},
        }));
        made.unwrap().remove(0)
    };
    let (first, same) = (job("one", 0, Value::Null), job("one", 3, Value::Null));
    assert_eq!(first.name, same.name, "retries can change");
    assert_ne!(first.hash, same.hash);
    assert_ne!(first.name, job("two", 0, Value::Null).name);
    assert_ne!(first.name, job("one", 0, json!("1h")).name);
}

#[test]
fn a_long_name_is_cut_and_stays_its_own() {
    let of = |tail: &str| {
        let name = format!("{}{tail}", "x".repeat(80));
        expand(agents(json!({"replicas": 1}), json!({"name": name}), "x")).unwrap()[0].name.clone()
    };
    assert_eq!(of("a").len(), MAX_NAME);
    assert_ne!(of("a"), of("b"));
}

#[test]
fn the_server_fills_in_what_the_template_does_not_say() {
    let fleet = spec(json!({
        "generate": {"replicas": 1},
        "template": {"kind": "Job", "metadata": {}, "spec": {"task": "x"}},
    }));
    let made = members("crew", &fleet, Err(NoDirectories), &mut |spec| {
        spec["agent"] = json!({"opencode": {}});
        Ok(())
    });
    assert_eq!(made.unwrap()[0].object.to_json()["spec"]["agent"], json!({"opencode": {}}));
    let refused = members("crew", &fleet, Err(NoDirectories), &mut |_| {
        Err(Fault::new("spec.runtime.local.workdir", "is outside"))
    });
    let faults = refused.unwrap_err();
    assert_eq!(faults.0[0].path, "spec.template.spec.runtime.local.workdir");
}

proptest! {
    /// Members are the same whatever the order of the entries, and no two have one name.
    #[test]
    fn the_order_of_entries_does_not_matter(
        mut values in prop::collection::btree_set("[a-z]{1,3}|[A-Z/ ._-]{1,4}[a-z]", 0..8)
            .prop_map(|set| set.into_iter().collect::<Vec<_>>()),
        seed in any::<u64>(),
    ) {
        let of = |values: &[String]| {
            let list: Vec<Value> = values.iter().map(|value| json!({"v": value})).collect();
            expand(agents(json!({"list": list}), json!({}), "About {{v}}")).map(|mut members| {
                members.sort_by(|a, b| a.name.cmp(&b.name));
                members
            })
        };
        let before = of(&values);
        let turn = usize::try_from(seed % 8).unwrap() % values.len().max(1);
        values.rotate_left(turn);
        values.reverse();
        let after = of(&values);
        prop_assert_eq!(before.is_ok(), after.is_ok());
        if let (Ok(before), Ok(after)) = (before, after) {
            prop_assert_eq!(&before, &after);
            let unique: BTreeSet<&str> = names(&before).into_iter().collect();
            prop_assert_eq!(unique.len(), before.len());
        }
    }

    /// A text without braces is itself, and one that was escaped comes back.
    #[test]
    fn text_without_placeholders_stays_as_it_is(text in "\\PC{0,30}") {
        prop_assume!(!text.contains("{{") && !text.ends_with(['\\', '{']));
        let params = Params::default();
        let mut room = Room::new();
        let mut filling =
            Filling { params: &params, told: Told::default(), room: &mut room, part: "x", path: Vec::new() };
        prop_assert_eq!(filling.whole(&text), Value::from(text.clone()));
        let escaped = format!("{text}\\{{{{x}}}}{text}");
        prop_assert_eq!(filling.whole(&escaped), Value::from(format!("{text}{{{{x}}}}{text}")));
        prop_assert_eq!(filling.told.end(false), Vec::new());
    }

    /// Whatever is generated has names that are DNS labels.
    #[test]
    fn every_name_is_a_dns_label(value in "\\PC{1,90}") {
        for kind in ["Agent", "Job"] {
            let made = expand(json!({
                "generate": {"list": [{"v": value}]},
                "template": {"kind": kind, "metadata": {"name": "m-{{v}}"}, "spec": {
                    "agent": {"claude": {}}, if kind == "Job" { "task" } else { "instructions" }: "x",
                }},
            }));
            for member in made.unwrap() {
                prop_assert_eq!(crate::resource::validate::bad_label(&member.name), None);
            }
        }
    }
}

/// What expanding takes, in steps, and what comes of it.
fn counted(value: Value) -> (usize, Result<Vec<Member>, Faults>) {
    let mut room = Room::new();
    let made = within("crew", &spec(value), Err(NoDirectories), &mut none, &mut room);
    (room.steps, made)
}

/// Documents that ask for far more than they are; each with a word of what is said of it, and the most
/// steps that it may take.
#[test]
fn what_would_fill_any_memory_is_refused_at_once() {
    let many: Vec<u32> = (0..1_000).collect();
    let (long, fits) = ("x".repeat(MOST_VALUE + 1), "x".repeat(MOST_VALUE));
    let often = |text: &str, n: usize| text.repeat(n);
    let one =
        |x: Value, text: &str| agents(json!({"list": [{"x": x}]}), json!({"name": "a"}), text);
    let a_hundred: BTreeMap<String, [u8; 1]> = (0..100).map(|n| (format!("p{n}"), [1])).collect();
    let mut wide: BTreeMap<String, Vec<Value>> =
        (0..15).map(|n| (format!("p{n}"), vec![json!(fits)])).collect();
    wide.insert("q".to_owned(), many.iter().map(|n| json!(n)).collect());
    let zeros = vec![0; MOST_VALUE / 3];
    let lists = json!({
        "generate": {"list": [{"x": zeros}]},
        "template": {"kind": "Agent", "metadata": {}, "spec": {"env": vec!["{{x}}"; 1_000]}},
    });
    let too_much = "says more than 1 MiB for one member";
    for (case, asked, word, most) in [
        (
            "an axis without values behind others",
            agents(json!({"matrix": {"a": many, "b": many, "c": many, "z": []}}), json!({}), "x"),
            "has no values",
            0,
        ),
        ("a long value", one(json!(long), "{{x}}"), "is longer than 16 KiB", 0),
        ("a value named often", one(json!(fits), &often("{{x}}", 1_025)), too_much, 200),
        (
            "a long template of many members",
            agents(json!({"replicas": 1_000}), json!({}), &often("x", 64 * 1024)),
            too_much,
            2_000,
        ),
        (
            "faults of many members",
            agents(json!({"replicas": 1_000}), json!({}), &often("{{y}}", 2_000)),
            "and maybe more",
            // A member that is like the others in its faults is looked at, to be counted.
            30_000,
        ),
        (
            "faults in many places",
            json!({
                "generate": {"replicas": 1},
                "template": {"kind": "Agent", "metadata": {}, "spec": {"env": vec!["{{"; 10_000]}},
            }),
            "and maybe more",
            20_000,
        ),
        ("many axes", agents(json!({"matrix": a_hundred}), json!({}), "x"), "100 parameters", 0),
        (
            "wide axes, all in the name",
            agents(json!({"matrix": wide}), json!({}), "x"),
            too_much,
            500,
        ),
        ("a list named often", lists, too_much, 2_000),
        (
            "many entries with names that are none",
            agents(json!({"list": vec![json!({"1x": 1}); 1_000]}), json!({}), "x"),
            "and maybe more",
            0,
        ),
    ] {
        let (steps, made) = counted(asked);
        let faults = made.expect_err(case);
        let text = faults.to_string();
        assert!(text.contains(word), "{case}: {text}");
        assert!(faults.0.len() <= MOST_FAULTS + 1, "{case}: {} faults", faults.0.len());
        assert!(steps <= most, "{case}: {steps} steps");
    }
}

#[test]
fn a_member_may_fill_its_room_to_the_last_byte_and_loses_nothing_behind_it() {
    let fits = "x".repeat(MOST_VALUE);
    let text = format!("{}{{{{y}}}}", "{{x}}".repeat(63));
    let asked = |y: usize| {
        let list = json!([{"x": fits, "y": "y".repeat(y)}]);
        agents(json!({"list": list}), json!({"name": "a"}), &text)
    };
    let of = spec(asked(0));
    let template = cost(&Value::Object(of.template.spec)) + cost(&json!(of.template.metadata));
    let rest = MOST_OF_ONE - template - 63 * MOST_VALUE;
    let made = expand(asked(rest)).unwrap();
    let instructions = made[0].object.to_json()["spec"]["instructions"].clone();
    assert_eq!(instructions.as_str().map(str::len), Some(63 * MOST_VALUE + rest));
    let faults = expand(asked(rest + 1)).unwrap_err().to_string();
    assert!(faults.contains("says more than 1 MiB for one member"), "{faults}");
}

#[test]
fn a_room_that_was_too_small_once_has_room_for_nothing_more() {
    let mut room = Room::new();
    for _ in 0..MOST_BYTES / MOST_OF_ONE {
        room.next();
        assert_eq!(room.take(MOST_OF_ONE), Ok(()));
    }
    room.next();
    assert_eq!(room.take(0), Ok(()), "it is used up, and nothing is lost");
    assert_eq!(room.take(1), Err(Full));
    assert_eq!(room.take(0), Err(Full));
    assert!(room.is_full());
}

/// A value, small or as large as a parameter may be.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::from),
        prop::sample::select(vec![0_usize, 1, 300, MOST_VALUE, MOST_VALUE + 1])
            .prop_map(|n| Value::from("v".repeat(n))),
        prop::sample::select(vec![0_usize, 1, 200, MOST_VALUE / 3])
            .prop_map(|n| Value::from(vec![0; n])),
    ]
}

/// A generator that asks for little or for much.
fn any_generator() -> impl Strategy<Value = Value> {
    let entry = || prop::collection::btree_map("[a-c]|1x|", any_value(), 0..4);
    prop_oneof![
        (entry(), prop::sample::select(vec![0_usize, 1, 30, 1_000, 1_001]))
            .prop_map(|(entry, n)| json!({"list": vec![entry; n]})),
        prop::collection::btree_map(
            "[a-f]",
            (any_value(), prop::sample::select(vec![0_usize, 1, 10, 1_000]))
                .prop_map(|(value, n)| vec![value; n]),
            0..6,
        )
        .prop_map(|axes| json!({"matrix": axes})),
        prop::sample::select(vec![0_u32, 1, 1_000, 1_001, u32::MAX])
            .prop_map(|n| json!({"replicas": n})),
    ]
}

/// What stands in a template: placeholders of all sorts, a few times or often, in a text or in a list.
fn any_template() -> impl Strategy<Value = Value> {
    let piece = "(\\{\\{[a-d]\\}\\}|\\{\\{|\\}\\}|\\\\|index|x){1,4}";
    (piece, prop::sample::select(vec![1_usize, 40, 5_000]), any::<bool>()).prop_map(
        |(piece, n, in_list)| match in_list {
            true => json!({"agent": {"claude": {}}, "permissions": {"allow": vec![piece; n]}}),
            false => json!({"agent": {"claude": {}}, "instructions": piece.repeat(n)}),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever a document asks for: either it is refused with a few faults, or all of it is there and
    /// within bounds; and either way nobody does more than a bounded number of steps for it.
    #[test]
    fn no_document_takes_more_than_its_room(
        generate in any_generator(), template in any_template(), name in "n-\\{\\{[a-d]\\}\\}|",
    ) {
        let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
        let asked = json!({
            "generate": generate,
            "template": {"kind": "Agent", "metadata": metadata, "spec": template},
        });
        let (steps, made) = counted(asked);
        // Each step looks at two bytes of a template at least, and those are counted.
        prop_assert!(steps <= MOST_BYTES / 2, "{} steps", steps);
        match made {
            Ok(members) => {
                prop_assert!(members.len() <= MOST_MEMBERS);
                let costs: Vec<usize> =
                    members.iter().map(|it| cost(&it.object.to_json()["spec"])).collect();
                // What is there by default was not counted.
                const USUAL: usize = 1024;
                prop_assert!(costs.iter().all(|cost| *cost <= MOST_OF_ONE + USUAL));
                let all: usize = costs.iter().sum();
                prop_assert!(all <= MOST_BYTES + USUAL * members.len(), "{}", all);
            }
            Err(faults) => {
                prop_assert!(!faults.0.is_empty() && faults.0.len() <= MOST_FAULTS + 1);
            }
        }
    }
}
