use serde_json::json;

use super::*;
use crate::{
    resource::{API_VERSION, Defaults, SourcePolicy, decode},
    source::{
        Snapshot, SourceFile,
        set::{Limits, Rejected, Set},
    },
};

pub(super) fn object(kind: &str, spec: Value) -> AnyObject {
    decode(json!({
        "apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "a"}, "spec": spec,
    }))
    .unwrap()
}

pub(super) fn told(object: &AnyObject, policy: Value) -> String {
    let policy: SourcePolicy = serde_json::from_value(policy).unwrap();
    let defaults = Defaults { home: "/home/us".into(), ..Defaults::default() };
    let rules =
        Rules { defaults: &defaults, policy: Some(&policy), source: "ours", limits: Limits::WHOLE };
    faults(object, rules).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn narrow() -> Value {
    json!({
        "runtimes": ["local"], "images": ["node", "registry/*"], "channels": ["slack:C1*"],
        "secrets": ["team-*"], "permissionModes": ["ask"], "env": ["A", "B"],
    })
}

fn fleet(generate: Value, spec: Value) -> AnyObject {
    // Not decoded: whether its members are good is not asked here.
    let spec = json!({
        "generate": generate,
        "template": {"kind": "Agent", "metadata": {}, "spec": spec},
    });
    let fleet = json!({"metadata": {"name": "a"}, "spec": spec});
    AnyObject::from_json(Kind::Fleet, fleet).unwrap()
}

#[test]
fn sources_and_overrides_are_written_only_where_the_policy_says_so() {
    let source = object("Source", json!({"from": {"directory": {"path": "/a"}}}));
    let defaults = Defaults::default();
    let none = Rules { defaults: &defaults, policy: None, source: "ours", limits: Limits::WHOLE };
    assert_eq!(faults(&source, none).len(), 1);
    assert_eq!(
        told(&source, json!({"kinds": ["Agent"], "sources": ["/a"]})).lines().next().unwrap(),
        "kind: Source may not be written by this source; its policy allows Agent"
    );
}

#[test]
fn each_thing_that_is_not_allowed_is_told_with_its_path() {
    let agent = object(
        "Agent",
        json!({
            "agent": {"claude": {}}, "runtime": {"fly": {"image": "evil"}},
            "channels": [{"slack": {"channel": "C1x"}}, {"discord": {"channel": "7"}}],
            "env": [{"name": "A", "fromSecret": "team-a"}, {"name": "B", "fromSecret": "root"}],
            "permissions": {"mode": "bypass"},
        }),
    );
    insta::assert_snapshot!(told(&agent, narrow()), @r"
    spec.runtime.fly: the runtime `fly` is not allowed to this source; its policy allows local
    spec.runtime.fly.image: the image `evil` is not allowed to this source; its policy allows node, registry/*
    spec.permissions.mode: the permission mode `bypass` is not allowed to this source; its policy allows ask
    spec.env[1].fromSecret: the secret `root` is not allowed to this source; its policy allows team-*
    spec.channels[1].discord.channel: the channel `discord:7` is not allowed to this source; its policy allows slack:C1*
    ");
}

#[test]
fn what_is_not_said_counts_as_what_it_means() {
    let job = object("Job", json!({"task": "t", "agent": {"claude": {}}}));
    let policy = json!({
        "permissionModes": ["ask"], "runtimes": ["fly"], "isolations": ["worktree"],
        "workdirs": ["/srv/*"],
    });
    insta::assert_snapshot!(told(&job, policy), @r"
    spec.runtime.local: the runtime `local` is not allowed to this source; its policy allows fly
    spec.runtime.local: the isolation `none` is not allowed to this source; its policy allows worktree
    spec.runtime.local: the work directory `~` is not allowed to this source; its policy allows /srv/*
    spec.permissions.mode: the permission mode `bypass` is not allowed to this source; its policy allows ask
    ");
    // A clone gets a directory of its own.
    let spec = json!({"task": "t", "agent": {"claude": {}}, "repo": {"github": "a/b"}});
    assert_eq!(told(&object("Job", spec), json!({"workdirs": []})), "");
}

#[test]
fn what_does_the_same_as_bypass_needs_to_be_named_where_bypass_is_not_allowed() {
    let agent = object(
        "Agent",
        json!({
            "agent": {"claude": {"path": "/tmp/evil"}},
            "permissions": {"mode": "ask", "allow": ["Bash(*)"]},
            "env": [{"name": "PATH", "value": "/tmp"}, {"name": "TOKEN", "fromSecret": "any"}],
        }),
    );
    insta::assert_snapshot!(told(&agent, json!({"permissionModes": ["ask"]})), @r"
    spec.agent.claude.path: the program `/tmp/evil` is not allowed to this source; its policy allows none (spec.policy.programs)
    spec.permissions.allow[0]: the permission rule `Bash(*)` is not allowed to this source; its policy allows none (spec.policy.permissionRules)
    spec.env[0].name: the variable `PATH` is not allowed to this source; its policy allows none (spec.policy.env)
    spec.env[1].name: the variable `TOKEN` is not allowed to this source; its policy allows none (spec.policy.env)
    ");
    let listed = json!({
        "permissionModes": ["ask"], "programs": ["/tmp/*"], "permissionRules": ["Bash(*)"],
        "env": ["PATH", "TOKEN"],
    });
    assert_eq!(told(&agent, listed), "");
    for free in
        [json!({}), json!({"permissionModes": ["*"]}), json!({"permissionModes": ["bypass"]})]
    {
        let lines = told(&agent, free);
        assert!(!lines.contains("programs") && !lines.contains("env"), "{lines}");
    }
    for cli in [
        json!({"acp": {"command": ["sh", "-c", "evil"]}}),
        json!({"codex": {"path": "x"}}),
        json!({"opencode": {"model": "a/b", "path": "x"}}),
        // It never asks, so it names no mode.
        json!({"command": {}}),
        json!({"command": {"shell": "bash"}}),
    ] {
        let agent = object("Agent", json!({"agent": cli}));
        let lines = told(&agent, json!({"permissionModes": ["ask"]}));
        assert!(lines.starts_with("spec.agent.") && lines.contains("the program `"), "{lines}");
    }
}

#[test]
fn parameters_that_nobody_knows_are_not_believed() {
    let replicas = |spec: Value| fleet(json!({"replicas": 2}), spec);
    let kinds = told(&replicas(json!({})), json!({"kinds": ["Fleet"]}));
    assert!(kinds.starts_with("spec.template.kind: Agent may not"), "{kinds}");
    for hidden in [
        json!({"runtime": "{{index}}"}),
        json!({"runtime": {"fly": {"image": "{{index}}"}}}),
        json!({"runtime": {"fly": "{{index}}"}}),
        json!({"runtime": {"local": {}}, "channels": "{{index}}"}),
        json!({"runtime": {"local": {}}, "channels": ["{{index}}"]}),
        json!({"runtime": {"local": {}}, "channels": [{"slack": {"channel": "C1{{index}}"}}]}),
        json!({"runtime": {"local": {}}, "channels": [{"{{p}}": {"channel": "x"}}]}),
        json!({"runtime": {"local": {}}, "env": "{{index}}"}),
        json!({"runtime": {"local": {}}, "env": [{"name": "A", "fromSecret": "{{index}}"}]}),
        json!({"runtime": {"local": {}}, "env": [{"name": "{{index}}", "value": "a"}]}),
        json!({"runtime": {"local": {}}, "permissions": "{{index}}"}),
        json!({"runtime": {"local": {}}, "permissions": {"mode": "{{index}}"}}),
        json!({"runtime": {"local": {}}, "permissions": {"allow": ["{{index}}"]}}),
        json!({"runtime": {"local": {}}, "report": {"to": "{{index}}"}}),
        json!({"runtime": {"local": {}}, "agent": "{{index}}"}),
        json!({"runtime": {"local": {}}, "agent": {"claude": {"path": "{{index}}"}}}),
        json!({"runtime": {"local": {}}, "agent": {"acp": {"command": ["a", "{{index}}"]}}}),
    ] {
        assert_ne!(told(&replicas(hidden.clone()), narrow()), "", "{hidden}");
    }
    let fine = json!({"agent": {"claude": {}}, "instructions": "{{index}}"});
    assert_eq!(told(&replicas(fine), narrow()), "");
}

#[test]
fn members_are_judged_as_they_will_be_with_their_parameters_filled_in() {
    let spec = |at: &str| {
        json!({
            "agent": {"claude": {}}, "channels": [{"slack": {"channel": at}}],
            "permissions": {"mode": "{{mode}}"},
        })
    };
    let entries = |modes: &[&str]| {
        let all: Vec<Value> =
            modes.iter().enumerate().map(|(n, mode)| json!({"n": n, "mode": mode})).collect();
        json!({"list": all})
    };
    assert_eq!(told(&fleet(entries(&["ask", "ask"]), spec("C1{{n}}")), narrow()), "");
    insta::assert_snapshot!(
        told(&fleet(entries(&["ask", "bypass", "bypass"]), spec("C{{n}}")), narrow()), @r"
    spec.template.spec.channels[0].slack.channel: the channel `slack:C0` is not allowed to this source; its policy allows slack:C1* (member a-ask-0)
    spec.template.spec.permissions.mode: the permission mode `bypass` is not allowed to this source; its policy allows ask (member a-bypass-1)
    spec.template.spec.channels[0].slack.channel: the channel `slack:C2` is not allowed to this source; its policy allows slack:C1* (member a-bypass-2)
    ");
    let matrix = json!({"matrix": {"mode": ["ask"], "n": [1, 10]}});
    assert_eq!(told(&fleet(matrix, spec("C{{n}}")), narrow()), "");
    let job = json!({
        "schedule": "@daily",
        "jobTemplate": {"spec": {
            "task": "t", "agent": {"claude": {}}, "permissions": {"mode": "ask"},
            "report": {"to": [{"slack": {"channel": "C2"}}]},
        }},
    });
    let lines = told(&object("Schedule", job), narrow());
    assert!(lines.starts_with("spec.jobTemplate.spec.report.to[0].slack.channel"), "{lines}");
}

#[test]
fn a_fleet_is_made_for_the_directories_of_its_own_source_alone() {
    let of = |source: &str| {
        let generate = json!({"gitDirectories": {"source": source, "pattern": "services/*"}});
        fleet(generate, json!({"agent": {"claude": {}}}))
    };
    assert_eq!(told(&of("ours"), json!({})), "");
    assert_eq!(
        told(&of("theirs"), json!({})),
        "spec.generate.gitDirectories.source: the source of directories `theirs` is not allowed to \
         this source; its policy allows none (spec.policy.gitDirectories)"
    );
    assert_eq!(told(&of("theirs"), json!({"gitDirectories": ["their*"]})), "");
    let defaults = Defaults::default();
    let free = Rules { defaults: &defaults, policy: None, source: "ours", limits: Limits::WHOLE };
    assert_eq!(faults(&of("theirs"), free), []);
}

#[test]
fn a_place_is_judged_by_where_it_leads_as_far_as_that_is_written() {
    let at = |workdir: &str| {
        let runtime = json!({"local": {"workdir": workdir}});
        let spec = json!({"agent": {"claude": {}}, "runtime": runtime});
        let agent = json!({"metadata": {"name": "a"}, "spec": spec});
        AnyObject::from_json(Kind::Agent, agent).unwrap()
    };
    for (workdir, policy, is_good) in [
        ("/srv/a", "/srv/*", true),
        ("/srv/../etc", "/srv/*", false),
        ("/srv", "/srv/*", false),
        ("~/a", "/home/us/*", true),
        ("/home/us/a", "~/*", true),
        ("~", "~/*", false),
    ] {
        let told = told(&at(workdir), json!({"workdirs": [policy]}));
        assert_eq!(told.is_empty(), is_good, "{workdir} {policy} {told}");
    }
}

#[test]
fn a_source_that_a_source_writes_is_no_wider_than_that_one() {
    let git = json!({"git": {
        "url": "https://evil.example/x", "tokenFromSecret": "root", "webhookSecretFromSecret": "team-a",
    }});
    let wide = object(
        "Source",
        json!({
            "from": git, "channels": [{"slack": {"channel": "C2"}}],
            "policy": {"kinds": ["Agent", "Override"], "permissionModes": ["ask", "bypass"], "secrets": ["*"]},
        }),
    );
    let ours = json!({
        "kinds": ["Source", "Agent"], "secrets": ["team-*"], "permissionModes": ["ask", "plan"],
        "channels": ["slack:C1*"], "sources": ["https://good.example/*"],
    });
    insta::assert_snapshot!(told(&wide, ours.clone()));
    let good = object(
        "Source",
        json!({
            "from": {"git": {"url": "https://good.example/x", "tokenFromSecret": "team-a"}},
            "policy": {
                "kinds": ["Agent"], "secrets": ["team-b*"], "permissionModes": ["ask"],
                "channels": ["slack:C1", "slack:C1*x"],
            },
        }),
    );
    assert_eq!(told(&good, ours.clone()), "");
    // One without any policy is as wide as can be.
    let none = object("Source", json!({"from": {"git": {"url": "https://good.example/x"}}}));
    let lines = told(&none, ours);
    for member in ["kinds", "secrets", "permissionModes", "permissionRules", "sources"] {
        assert!(lines.contains(&format!("spec.policy.{member}: ")), "{member}: {lines}");
    }
    let repos = json!({"from": {"git": {"repos": ["acme/a", "evil/b"]}}, "policy": {}});
    let lines = told(&object("Source", repos), json!({"kinds": ["Source"], "sources": ["acme/*"]}));
    assert!(lines.starts_with("spec.from.git.repos[1]: the place `evil/b`"), "{lines}");
    let up = json!({"from": {"directory": {"path": "team/../.."}}, "policy": {}});
    let lines = told(&object("Source", up), json!({"kinds": ["Source"], "sources": ["team/*"]}));
    assert!(lines.contains("spec.from.directory.path: `team/../..` leads up"), "{lines}");
}

/// What a set of documents in one file is refused for.
fn read(text: &str, policy: Value) -> Result<Set, Rejected> {
    let policy: SourcePolicy = serde_json::from_value(policy).unwrap();
    let file = SourceFile { path: "a.yaml".to_owned(), text: text.to_owned(), repo: None };
    let snapshot = Snapshot { revision: String::new(), files: vec![file] };
    let defaults = Defaults::default();
    let rules =
        Rules { defaults: &defaults, policy: Some(&policy), source: "ours", limits: Limits::WHOLE };
    Set::read(&snapshot, rules)?.alone(rules)
}

fn over(name: &str, target: &str, patch: &str) -> String {
    format!(
        "---\napiVersion: opendispatch.dev/v1alpha1\nkind: Override\nmetadata: {{name: {name}}}\n\
         spec:\n  target: {{kind: Agent, name: {target}}}\n  patch: {patch}\n"
    )
}

#[test]
fn an_override_of_a_source_may_do_what_the_source_might_have_written_and_to_its_own_alone() {
    let bot = "apiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {name: bot}\n\
               spec: {agent: {claude: {}}}\n";
    let policy = json!({
        "kinds": ["Agent", "Override"], "runtimes": ["local"], "secrets": ["team-*"],
        "permissionModes": ["ask"], "env": ["A"],
    });
    let good = format!("{bot}{}", over("o", "bot", "{env: [{name: A, fromSecret: team-a}]}"));
    assert_eq!(read(&good, policy.clone()).unwrap().objects.len(), 2);
    let mut told = Vec::new();
    for bad in [
        over("o", "bot", "{permissions: {mode: bypass}}"),
        over("o", "bot", "{env: [{name: A, fromSecret: root}]}"),
        over("o", "bot", "{agent: {claude: null, command: {}}}"),
        over("o", "bot", "{agent: {opencode: {}}}"),
        over("o", "theirs", "{budget: {usd: 1}}"),
        over("o", "bot", "{budget: {usd: 1}}") + &over("p", "bot", "{budget: {usd: 2}}"),
    ] {
        let rejected = read(&format!("{bot}{bad}"), policy.clone()).unwrap_err();
        assert!(rejected.denied, "{}", rejected.faults);
        told.push(rejected.faults.to_string());
    }
    insta::assert_snapshot!(told.join("\n"));
}
