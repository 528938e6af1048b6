//! What members a Fleet has, and what is said where it can have none.

use proptest::prelude::*;

use super::*;

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
        let params = Params::new();
        let mut room = MOST_BYTES;
        let mut filling =
            Filling { params: &params, faults: Vec::new(), room: &mut room, full: false };
        prop_assert_eq!(filling.whole(&text, "x"), Value::from(text.clone()));
        let escaped = format!("{text}\\{{{{x}}}}{text}");
        prop_assert_eq!(filling.whole(&escaped, "x"), Value::from(format!("{text}{{{{x}}}}{text}")));
        prop_assert_eq!(filling.faults, Vec::new());
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

#[test]
fn what_would_fill_any_memory_is_refused_at_once() {
    let told = |value: Value| expand(value).unwrap_err().to_string();
    let many: Vec<u32> = (0..1_000).collect();
    let empty_axis = told(agents(
        json!({"matrix": {"a": many, "b": many, "c": many, "z": []}}),
        json!({}),
        "Be brief.",
    ));
    assert!(empty_axis.contains("has no values"), "{empty_axis}");
    let long = "x".repeat(MOST_VALUE + 1);
    let value = told(agents(json!({"list": [{"x": long}]}), json!({"name": "a"}), "{{x}}"));
    assert!(value.contains("is longer than 16 KiB"), "{value}");
    let fits = "x".repeat(MOST_VALUE);
    let often = "{{x}}".repeat(MOST_BYTES / MOST_VALUE + 1);
    let filled = told(agents(json!({"list": [{"x": fits}]}), json!({"name": "a"}), &often));
    assert!(filled.contains("says more than 16 MiB"), "{filled}");
    let template = told(agents(json!({"replicas": 1_000}), json!({}), &"x".repeat(64 * 1024)));
    assert!(template.contains("says more than 16 MiB"), "{template}");
    let unknown = told(agents(json!({"replicas": 1_000}), json!({}), &"{{y}}".repeat(2_000)));
    assert!(unknown.lines().count() < 3 * MOST_FAULTS, "{}", unknown.lines().count());
    let axes: BTreeMap<String, [u8; 1]> = (0..100).map(|n| (format!("p{n}"), [1])).collect();
    let axes = told(agents(json!({"matrix": axes}), json!({}), "Be brief."));
    assert!(axes.contains("names 100 parameters"), "{axes}");
}
