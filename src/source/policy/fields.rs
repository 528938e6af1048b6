//! Every field that a Source may write is judged, or somebody has said why it need not be.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{tests::told, words::Word};
use crate::resource::{AnyObject, Kind, schema::json_schema};

/// The kinds that a Source may write.
const KINDS: [Kind; 6] =
    [Kind::Agent, Kind::Job, Kind::Fleet, Kind::Schedule, Kind::Source, Kind::Override];
/// The page that says which field is judged by what.
const PAGE: &str = "docs/sources.md";

/// The leaves of a schema as dotted paths: `[]` behind a list, `*` for any member of a map.
fn leaves(root: &Value, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches("#/$defs/");
        return leaves(root, &root["$defs"][name], path, found);
    }
    let mut is_leaf = true;
    for branch in ["oneOf", "anyOf", "allOf"].iter().flat_map(|of| schema[of].as_array()).flatten()
    {
        if branch.get("properties").is_some() || branch.get("$ref").is_some() {
            is_leaf = false;
            leaves(root, branch, path, found);
        }
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        is_leaf = false;
        leaves(root, member, &format!("{path}.{name}"), found);
    }
    if schema["items"].is_object() {
        is_leaf = false;
        leaves(root, &schema["items"], &format!("{path}[]"), found);
    }
    if schema["additionalProperties"].is_object() {
        is_leaf = false;
        leaves(root, &schema["additionalProperties"], &format!("{path}.*"), found);
    }
    if is_leaf {
        found.insert(path.trim_start_matches('.').to_owned());
    }
}

/// What can be written of each kind.
fn all() -> BTreeSet<(Kind, String)> {
    let mut all = BTreeSet::new();
    for kind in KINDS {
        let schema = json_schema(kind);
        let mut found = BTreeSet::new();
        leaves(&schema, &schema["properties"]["spec"], "", &mut found);
        leaves(&schema, &schema["properties"]["metadata"], "metadata", &mut found);
        for path in found {
            // What is made of a Schedule is a Job.
            match path.strip_prefix("jobTemplate.spec.") {
                Some(rest) => all.insert((Kind::Job, rest.to_owned())),
                None => all.insert((kind, path)),
            };
        }
    }
    all
}

/// What the page says of each field: rows of `| Kind, Kind: ``field``, ``field`` | why | by what |`.
fn judged() -> BTreeMap<(Kind, String), String> {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(page).unwrap();
    let mut all = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [fields, _, by] = cells.as_slice() else { continue };
        let Some((kinds, fields)) = fields.split_once(": ") else { continue };
        let kinds: Vec<Kind> = match kinds {
            "all kinds" => KINDS.to_vec(),
            kinds => kinds.split(", ").map(|kind| kind.parse().unwrap()).collect(),
        };
        for field in fields.split(", ") {
            for kind in &kinds {
                let field = field.trim_matches('`').to_owned();
                let twice = all.insert((*kind, field.clone()), (*by).to_owned());
                assert_eq!(twice, None, "{PAGE} names {field} of {kind} twice");
            }
        }
    }
    all
}

#[test]
fn every_field_that_can_be_written_is_judged_or_said_to_be_harmless() {
    let (there, said) = (all(), judged());
    let said_of: BTreeSet<_> = said.keys().cloned().collect();
    let show = |all: Vec<&(Kind, String)>| {
        all.iter().map(|(kind, path)| format!("{kind}: {path}")).collect::<Vec<_>>().join("\n")
    };
    let unjudged = show(there.difference(&said_of).collect());
    assert!(
        unjudged.is_empty(),
        "these fields can be written by a Source, and nobody has said what power they give; judge \
         them (src/source/policy) and name them in the table of {PAGE}:\n{unjudged}"
    );
    let stale = show(said_of.difference(&there).collect());
    assert!(stale.is_empty(), "{PAGE} names fields that there are not:\n{stale}");
}

#[test]
fn every_list_of_a_policy_is_one_that_a_written_source_may_not_be_wider_in() {
    let schema = json_schema(Kind::Source);
    let lists = schema["$defs"]["SourcePolicy"]["properties"].as_object().unwrap();
    let mut known: BTreeSet<&str> = Word::ALL.iter().map(|word| word.name()).collect();
    known.insert("kinds");
    assert_eq!(lists.keys().map(String::as_str).collect::<BTreeSet<_>>(), known);
}

/// Something that says each field that a list judges.
fn sayings() -> Vec<(Kind, &'static str, Value)> {
    let mut all = Vec::new();
    let workers: [(&str, Value); 20] = [
        ("runtime.local.workdir", json!({"runtime": {"local": {"workdir": "/x"}}})),
        ("runtime.local.isolation", json!({"runtime": {"local": {"isolation": "none"}}})),
        ("runtime.fly.image", json!({"runtime": {"fly": {"image": "x"}}})),
        ("repo.github", json!({"repo": {"github": "a/b"}})),
        ("repo.url", json!({"repo": {"url": "https://a.example/b"}})),
        ("agent.claude.path", json!({"agent": {"claude": {"path": "/x"}}})),
        ("agent.opencode.path", json!({"agent": {"opencode": {"path": "/x"}}})),
        ("agent.codex.path", json!({"agent": {"codex": {"path": "/x"}}})),
        ("agent.acp.command[]", json!({"agent": {"acp": {"command": ["x"]}}})),
        ("agent.command.shell", json!({"agent": {"command": {"shell": "x"}}})),
        ("permissions.mode", json!({"permissions": {"mode": "plan"}})),
        ("permissions.allow[]", json!({"permissions": {"allow": ["x"]}})),
        ("env[].name", json!({"env": [{"name": "A", "value": "b"}]})),
        ("env[].value", json!({"env": [{"name": "A", "value": "b"}]})),
        ("env[].fromSecret", json!({"env": [{"name": "A", "fromSecret": "b"}]})),
        ("channels[].slack.channel", json!({"channels": [{"slack": {"channel": "C"}}]})),
        ("channels[].discord.channel", json!({"channels": [{"discord": {"channel": "C"}}]})),
        ("channels[].teams.channel", json!({"channels": [{"teams": {"channel": "C"}}]})),
        ("channels[].console.channel", json!({"channels": [{"console": {"channel": "C"}}]})),
        ("report.to[]", json!({})),
    ];
    for (path, spec) in workers {
        if path.starts_with("report") {
            for platform in ["slack", "discord", "teams", "console"] {
                let path = match platform {
                    "slack" => "report.to[].slack.channel",
                    "discord" => "report.to[].discord.channel",
                    "teams" => "report.to[].teams.channel",
                    _ => "report.to[].console.channel",
                };
                let spec = json!({"report": {"to": [{platform: {"channel": "C"}}]}});
                all.push((Kind::Job, path, spec));
            }
            continue;
        }
        all.push((Kind::Agent, path, spec.clone()));
        if !path.starts_with("channels") {
            all.push((Kind::Job, path, spec));
        }
    }
    let git = |git: Value| json!({"from": {"git": git}});
    let at = |platform: &str| json!({"channels": [{platform: {"channel": "C"}}]});
    all.extend([
        (Kind::Source, "from.directory.path", json!({"from": {"directory": {"path": "/x"}}})),
        (Kind::Source, "from.git.url", git(json!({"url": "https://a.example/b"}))),
        (Kind::Source, "from.git.repos[]", git(json!({"repos": ["a/b"]}))),
        (
            Kind::Source,
            "from.git.tokenFromSecret",
            git(json!({"repos": ["a/b"], "tokenFromSecret": "x"})),
        ),
        (
            Kind::Source,
            "from.git.webhookSecretFromSecret",
            git(json!({"repos": ["a/b"], "webhookSecretFromSecret": "x"})),
        ),
        (Kind::Source, "channels[].slack.channel", at("slack")),
        (Kind::Source, "channels[].discord.channel", at("discord")),
        (Kind::Source, "channels[].teams.channel", at("teams")),
        (Kind::Source, "channels[].console.channel", at("console")),
        (
            Kind::Fleet,
            "generate.gitDirectories.source",
            json!({"generate": {"gitDirectories": {"source": "x", "pattern": "*"}}}),
        ),
    ]);
    all
}

/// A spec of a kind that says no more than it must, and this.
fn whole(kind: Kind, spec: &Value) -> AnyObject {
    let usual = match kind {
        Kind::Job => json!({"task": "t", "agent": {"claude": {}}}),
        Kind::Fleet => {
            let spec = json!({"agent": {"claude": {}}});
            json!({"template": {"kind": "Agent", "metadata": {}, "spec": spec}})
        }
        Kind::Source => json!({"from": {"directory": {"path": "/x"}}}),
        _ => json!({"agent": {"claude": {}}}),
    };
    let mut whole: Map<String, Value> = usual.as_object().unwrap().clone();
    whole.extend(spec.as_object().unwrap().clone());
    let json = json!({"metadata": {"name": "a"}, "spec": whole});
    AnyObject::from_json(kind, json).unwrap()
}

#[test]
fn every_field_that_is_said_to_be_judged_is_refused_by_a_list_that_allows_nothing() {
    let said = judged();
    let sayings = sayings();
    let lists: BTreeSet<&str> = Word::ALL.iter().map(|word| word.name()).collect();
    let by_list = said.iter().filter_map(|((kind, path), by)| {
        let by = by.trim_matches('`');
        lists.contains(by).then_some((*kind, path.as_str(), by))
    });
    let mut seen = 0;
    for (kind, path, by) in by_list {
        let saying = sayings.iter().find(|(of, what, _)| *of == kind && *what == path);
        let Some((_, _, spec)) = saying else { panic!("nothing here says {path} of {kind}") };
        let object = whole(kind, spec);
        let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.name()).collect();
        let refused = told(&object, json!({"kinds": kinds, by: []}));
        let thing = Word::ALL.into_iter().find(|word| word.name() == by).unwrap().thing();
        assert!(refused.contains(&format!("the {thing} `")), "{kind} {path} by {by}: {refused}");
        let mut wide = json!({"kinds": kinds, "sources": ["*"], "gitDirectories": ["*"]});
        wide[by] = json!(["*"]);
        let free = told(&object, wide);
        assert!(!free.contains(&format!("the {thing} `")), "{kind} {path} by {by}: {free}");
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
}
