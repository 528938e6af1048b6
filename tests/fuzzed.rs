//! Promise: no input breaks a reader. Here the bodies of the fuzz targets (`fuzz/`) are driven by text at
//! random, made of pieces that mean something to each of them, and by raw bytes.

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};

/// A text of some of these pieces, and now and then of anything.
fn made_of(pieces: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => select(pieces).prop_map(str::to_owned),
        1 => "\\PC{0,3}".prop_map(String::from),
    ];
    vec(piece, 0..most).prop_map(|pieces| pieces.concat())
}

/// A small JSON document.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(&["null", "true", "0", "-1", "1e9", "\"\"", "\"a\"", "\"{{a}}\""][..])
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key =
            select(&["a", "b", "spec", "env", "metadata", "f:spec", "f:env", ".", "k:{}"][..]);
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            vec((key, inner), 0..4).prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// The versions of each package that a lock file names.
fn locked(lock: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let member = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name));
            line.expect("a package has a name and a version").trim_matches('"')
        };
        versions.entry(member("name = ")).or_default().insert(member("version = "));
    }
    versions
}

/// The crates that a manifest needs in any case.
fn needed(manifest: &str) -> impl Iterator<Item = &str> {
    let behind = manifest.split_once("\n[dependencies]\n").expect("it needs some").1;
    let lines = behind.lines().take_while(|line| !line.starts_with('['));
    let lines = lines.filter(|line| !line.starts_with('#') && !line.contains("optional = true"));
    lines.filter_map(|line| line.split([' ', '.']).next()).filter(|name| !name.is_empty())
}

/// The fuzz targets are a workspace of their own, so nothing else would tell that its lock file fell
/// behind, and what is fuzzed would not be what is served.
#[test]
fn the_fuzz_targets_stand_on_the_versions_that_the_program_stands_on() {
    let program = locked(include_str!("../Cargo.lock"));
    let fuzzed = locked(include_str!("../fuzz/Cargo.lock"));
    let how = "run `cp Cargo.lock fuzz/Cargo.lock && cargo metadata --format-version 1 --manifest-path \
               fuzz/Cargo.toml >/dev/null`";
    for (name, versions) in &fuzzed {
        let known = program.get(name).unwrap_or(versions);
        assert!(versions.is_subset(known), "{name} {versions:?} is locked as {known:?}; {how}");
    }
    for manifest in [include_str!("../Cargo.toml"), include_str!("../fuzz/Cargo.toml")] {
        for name in needed(manifest) {
            assert!(fuzzed.contains_key(name), "fuzz/Cargo.lock lacks {name}; {how}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn fleets(
        params in vec(("[a-c1]|\\PC{0,2}", "[a-z{}]{0,8}|\\PC{0,4}"), 0..4),
        text in made_of(&["{{", "}}", "a", "{{a}}", "{{b}}", "\\", " ", "\n", "{{index}}"], 12),
        name in made_of(&["{{a}}", "{{index}}", "-", "bot", "{{"], 4),
        copies in select(&[0_u16, 1, 2, 40, 1_001, u16::MAX][..]),
    ) {
        bodies::expand(&params, &text, &name, copies);
    }

    #[test]
    fn cron_lines(
        line in made_of(&["*", " ", "/", "-", ",", "0", "5", "31", "FEB", "MON#2", "L", "W", "?", "@daily"], 14),
        fields in vec(select(&["*", "*/7", "0", "29", "1-5", "2", "L", "MON", "1#5", "15W"][..]), 5..7),
        zone in select(&[None, Some("Europe/Berlin"), Some("America/New_York"), Some("x/../y")][..]),
        after: i64,
    ) {
        bodies::cron(&line, zone, after);
        bodies::cron(&fields.join(" "), zone, after);
    }

    #[test]
    fn selectors(
        text in made_of(&["a", "=", "==", "!=", "in", " ", "(", ")", ",", "!", "notin", "metadata.name"], 10),
        key in "[a-c]", value in "[a-c]{0,2}",
    ) {
        bodies::selectors(&text, (&key, &value));
    }

    #[test]
    fn jsonpaths(
        text in made_of(
            &["{", "}", ".", "..", "[", "]", "*", "?(", ")", "@", "a", "items", "range", "end", "'", "\"",
              " ", "0", "-1", ":", "==", ",", "\\", "$"],
            20,
        ),
        on in json(),
    ) {
        bodies::jsonpath(&text, &on);
    }

    #[test]
    fn request_bodies(
        bytes in vec(any::<u8>(), 0..64), text in json(), event in select(&["push", "ping", "x"][..]),
    ) {
        bodies::bodies(&bytes, event);
        bodies::bodies(&[b"k8s\0".as_slice(), &bytes].concat(), event);
        bodies::bodies(text.as_bytes(), event);
    }

    #[test]
    fn json_patches(
        target in json(),
        operations in vec(
            (
                select(&["add", "remove", "replace", "move", "copy", "test", "x"][..]),
                made_of(&["/", "a", "b", "0", "-", "~", "~1", "~0"], 6),
                made_of(&["/", "a", "0", "-"], 4),
                json(),
            ),
            0..5,
        ),
    ) {
        let operations: Vec<String> = operations
            .iter()
            .map(|(op, path, from, value)| {
                let (path, from) = (serde_json::json!(path), serde_json::json!(from));
                format!("{{\"op\":\"{op}\",\"path\":{path},\"from\":{from},\"value\":{value}}}")
            })
            .collect();
        bodies::patch(&target, &format!("[{}]", operations.join(",")));
    }

    #[test]
    fn applied_configurations(
        account in json(), more in json(),
        env in vec((select(&["A", "B"][..]), "[a-z]{0,2}"), 0..3),
    ) {
        bodies::server_side_apply(&account, &more);
        let env: Vec<String> =
            env.iter().map(|(name, value)| format!("{{\"name\":\"{name}\",\"value\":\"{value}\"}}")).collect();
        let config = format!("{{\"spec\":{{\"agent\":{{\"claude\":{{}}}},\"env\":[{}]}}}}", env.join(","));
        let account = format!("{{\"f:spec\":{account},\"f:env\":{{}}}}");
        bodies::server_side_apply(&account, &config);
    }

    #[test]
    fn files_that_are_written(
        before in made_of(&["# a\n", "---\n", "x: 1\n", "\n", "&a b\n"], 3),
        body in made_of(
            &["  instructions: a # why\n", "  suspend: true\n", "  env:\n  - {name: A, value: '1'}\n",
              "  budget: {usd: 5, turns: 3}\n", "  instructions: |\n    a\n    b\n", "  # alone\n", "\n",
              "  env: &e [{name: B, value: x}]\n", "  x: *e\n", "\t", "  ", "  ? k\n", "  : v\n"],
            5,
        ),
        patch in prop_oneof![
            json(),
            Just("{\"instructions\":\"x\\ny: #\"}".to_owned()),
            Just("{\"budget\":{\"usd\":null},\"suspend\":false}".to_owned()),
            Just("{\"env\":[{\"name\":\"C\",\"value\":\"2\"}]}".to_owned()),
        ],
    ) {
        let text = format!(
            "{before}apiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {{name: a}}\nspec:\n  \
             agent: {{claude: {{}}}}\n{body}"
        );
        bodies::surgery(&text, &patch);
        bodies::surgery(&body, &patch);
    }
}
