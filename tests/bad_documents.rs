//! Bad input gets one clear error per fault, which names the place and the mend.
//!
//! Every text that people read about a bad document stands in a snapshot.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fmt::Write as _;

use open_dispatch::resource::{self, yaml};
use serde_json::json;

/// What is said about a text.
fn faults(text: &str) -> String {
    yaml::read(text, Some("job.yaml")).expect_err("the document is bad").to_string()
}

/// What is said about each of some documents, made from a line by a template; each beside the
/// line.
fn each(template: &str, lines: &[&str]) -> String {
    let mut said = String::new();
    for line in lines {
        let text =
            format!("apiVersion: opendispatch.dev/v1alpha1\n{}\n", template.replace('@', line));
        writeln!(said, "{{{line}}}\n    {}", faults(&text).replace('\n', "\n    ")).unwrap();
    }
    said
}

/// About Jobs with these specs.
fn specs(specs: &[&str]) -> String {
    each("kind: Job\nmetadata: {name: a}\nspec: {@}", specs)
}

/// About Jobs that are good but for these members.
fn with(members: &[&str]) -> String {
    each("kind: Job\nmetadata: {name: a}\nspec: {task: t, agent: {claude: {}}, @}", members)
}

/// About Agents that are good but for these members.
fn agents_with(members: &[&str]) -> String {
    each("kind: Agent\nmetadata: {name: a}\nspec: {agent: {claude: {}}, @}", members)
}

/// About Jobs with this metadata.
fn metadata(metadata: &[&str]) -> String {
    each("kind: Job\nmetadata: {@}\nspec: {task: t, agent: {command: {}}}", metadata)
}

#[test]
fn every_fault_of_a_document_is_said_at_once() {
    insta::assert_snapshot!(faults(
        r#"apiVersion: opendispatch.dev/v1
kind: Job
metadata:
  name: Not_A_Label
  labels: {"a b": "c d", n: 1}
spec:
  tusk: hello
  agent: {claude: {modle: x}, command: {}}
  runtime:
    local:
      workdri: /tmp
  timeout: 5 minutes
  retries: -1
  cancel: "no"
  report: {detail: strem}
"#
    ));
}

#[test]
fn faults_of_all_documents_of_a_text_are_said() {
    insta::assert_snapshot!(faults(
        "---\n# nothing here\n---\nkind: Job\n---\nhello\n---\n- a\n---\nkind: jobs\napiVersion: v1\n"
    ));
}

#[test]
fn a_wrong_envelope_is_said() {
    let mut said = String::new();
    for head in [
        "{}",
        "kind: Job",
        "apiVersion: opendispatch.dev/v1alpha1",
        "{apiVersion: opendispatch.dev/v1alpha1, kind: Jbo}",
        "{apiVersion: opendispatch.dev/v1alpha1, kind: Deployment}",
        "{apiVersion: opendispatch.dev/v1alpha1, kind: Fleet}",
        "{apiVersion: opendispatch.dev/v1alpha1, kind: 5}",
        "{apiVersion: 1, kind: Job, metadata: {name: a}, spec: {task: t, agent: {command: {}}}, sepc: {}}",
        "{apiVersion: opendispatch.dev/v1alpha1, kind: Job, metadata: a, spec: []}",
        "{apiVersion: opendispatch.dev/v1alpha1, kind: Job, metadata: null, spec: null}",
    ] {
        writeln!(said, "{head}\n    {}", faults(head).replace('\n', "\n    ")).unwrap();
    }
    insta::assert_snapshot!(said);
}

#[test]
fn a_wrong_agent_is_said_with_the_members_that_there_are() {
    insta::assert_snapshot!(specs(&[
        "task: t",
        "task: t, agent: {}",
        "task: t, agent: null",
        "task: t, agent: claude",
        "task: t, agent: claud",
        "task: t, agent: [claude]",
        "task: t, agent: {cluade: {}}",
        "task: t, agent: {bash: {}}",
        "task: t, agent: {claude: {}, command: {}}",
        "task: t, agent: {claude: }",
        "task: t, agent: {claude: {model: 4.5}}",
        "task: t, agent: {claude: {model: ''}}",
        "task: t, agent: {opencode: {model: ''}}",
        "task: t, agent: {opencode: {model: claude-sonnet-4-5}}",
        "task: t, agent: {command: {shell: [sh, -c]}}",
    ]));
}

#[test]
fn a_budget_or_a_command_that_says_nothing_is_refused() {
    insta::assert_snapshot!(
        specs(&[
            "task: t, agent: {acp: {command: []}}",
            "task: t, agent: {acp: {command: ['']}}",
            "task: t, agent: {opencode: {model: sonnet}}",
            "task: t, agent: {codex: {model: ''}}",
        ]) + &agents_with(&[
            "budget: {}",
            "budget: {usd: 0}",
            "budget: {turns: 0}",
            "budget: {usd: -1, turns: 5}",
            "turnTimeout: 0s",
            "idleTimeout: 0s",
        ])
    );
}

#[test]
fn what_no_machine_can_be_is_said() {
    insta::assert_snapshot!(with(&[
        "runtime: {fly: {image: https://registry.fly.io/x}}",
        "runtime: {fly: {image: ''}}",
        "runtime: {fly: {region: ashburn}}",
        "runtime: {fly: {region: 'iad,'}}",
        "runtime: {fly: {guest: {cpuKind: big, cpus: 1, memoryMb: 256}}}",
        "runtime: {fly: {guest: {cpuKind: shared, cpus: 3, memoryMb: 1024}}}",
        "runtime: {fly: {guest: {cpuKind: shared, cpus: 1, memoryMb: 300}}}",
        "runtime: {fly: {guest: {cpuKind: shared, cpus: 1}}}",
        "runtime: {fly: {}, local: {}}",
        "runtime: {fly: {persistent: true}}",
        "env: [{name: OPEN_DISPATCH_CLAIM, value: '1'}]",
    ]));
}

#[test]
fn a_wrong_value_is_said() {
    insta::assert_snapshot!(
        with(&[
            "timeout: 10",
            "timeout: 10 m",
            "timeout: 0s",
            "idleTimeout: [1m]",
            "deadline: 99999999999999999999d",
            "ttlAfterFinished: -1h",
            "retries: 1.5",
            "retries: 5000000000",
            "retries: many",
            "cancel: yes",
            "instructions: true",
            "instructions: {a: b}",
            "permissions: {mode: yolo}",
            "permissions: {mode: acceptedits}",
            "permissions: {allow: Bash}",
            "permissions: [ask]",
            "report: {to: console}",
            "report: {to: [{consul: {channel: a}}]}",
            "report: {detail: 5}",
            "runtime: {remote: {}}",
            "runtime: local",
            "runtime: {local: {workdir: ./here}}",
            "runtime: {local: {workdir: ~other/x}}",
            "runtime: {local: {isolation: wortree}}",
            "runtime: {local: {isolation: worktree}}",
            "env: [{name: A, fromSecret: ../key}, {name: B, fromSecret: b, value: c}]",
        ]) + &specs(&[
            "task: '', agent: {command: {}}",
            "task: 5, agent: {command: {}}",
            r#"task: "a\0b", agent: {command: {}}"#,
            r#"task: t, agent: {claude: {model: "a\0"}}, instructions: "\0", runtime: {local: {workdir: "/a\0b"}}, permissions: {allow: ["\0"]}"#,
            "task: t, agent: {command: {}}, instructions: Be kind.",
            "task: t, agent: {command: {}}, permissions: {mode: ask, allow: [Bash]}",
        ])
    );
}

#[test]
fn a_wrong_repo_is_said_and_a_secret_in_it_is_not_repeated() {
    let said = with(&[
        "repo: owner/name",
        "repo: {}",
        "repo: {branch: main}",
        "repo: {github: a/b, url: 'https://github.com/a/b'}",
        "repo: {github: name}",
        "repo: {github: 'https://github.com/a/b'}",
        "repo: {github: a/b/c}",
        "repo: {url: ''}",
        "repo: {url: '--upload-pack=touch /tmp/x'}",
        "repo: {url: 'https://example.com/a b.git'}",
        "repo: {url: 'a\\nb'}",
        "repo: {url: '../a repo'}",
        "repo: {url: a/b/c}",
        "repo: {url: '~root/a'}",
        "repo: {url: 'ext::sh -c touch% /tmp/x'}",
        "repo: {url: 'ext::sh'}",
        "repo: {github: a/b, branch: '-x'}",
        "repo: {github: a/b, branch: 'a..b'}",
        "repo: {github: a/b, branch: 'a b'}",
        "repo: {github: a/b, brunch: main}",
    ]);
    let secrets = [
        "https://me:hunter2@example.com/a.git",
        "https://hunter2@example.com/a.git",
        "ssh://git:hunter2@example.com/a.git",
    ];
    let mut about_secrets = String::new();
    for url in secrets {
        let text = with(&[&format!("repo: {{url: '{url}'}}")]);
        let message = text.lines().nth(1).unwrap();
        assert!(!message.contains("hunter2"), "{message}");
        about_secrets += message;
        about_secrets += "\n";
    }
    insta::assert_snapshot!(said + &about_secrets);
}

#[test]
fn a_path_of_a_repo_may_hold_spaces() {
    for url in ["/srv/my repos/a", "~/my repos/a", "~", "git@host:a", "file:///srv/a"] {
        let text = format!(
            "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata: {{name: a}}\n\
             spec: {{task: t, agent: {{command: {{}}}}, repo: {{url: '{url}'}}}}\n"
        );
        assert_eq!(resource::yaml::read(&text, None).map(|objects| objects.len()), Ok(1), "{url}");
    }
}

#[test]
fn a_wrong_variable_is_said() {
    insta::assert_snapshot!(with(&[
        "env: {A: b}",
        "env: [A=b]",
        "env: [{name: A}]",
        "env: [{value: a}]",
        "env: [{name: 1A, value: a}, {name: A B, value: a}, {name: '', value: a}]",
        "env: [{name: A, value: 1}, {name: B, value: true}, {name: C, value: null}]",
        "env: [{name: A, value: a}, {name: A, value: b}]",
        "env: [{name: JOB_TOKEN, value: a}]",
        r#"env: [{name: A, value: "a\0b"}]"#,
    ]));
}

#[test]
fn wrong_metadata_is_said() {
    let long = format!("name: {}", "a".repeat(64));
    let label = format!("name: a, labels: {{team: {}}}", "v".repeat(100));
    insta::assert_snapshot!(metadata(&[
        "",
        "name: ''",
        "name: null",
        "name: Job",
        "name: a.b",
        "name: -a",
        "name: 7",
        &long,
        "generateName: Run-",
        "nmae: a",
        "name: a, labels: [a]",
        "name: a, labels: {-a: b, a/b/c: d, A_/x: y}",
        "name: a, labels: {a: 'b c', b: true, c: null}",
        &label,
        "name: a, annotations: {a b: c, b: 5}",
        "name: a, creationTimestamp: yesterday",
        "name: a, finalizers: x",
        "name: a, ownerReferences: [{kind: Pod, name: a}]",
    ]));
}

#[test]
fn members_that_stand_twice_are_said_with_both_places() {
    insta::assert_snapshot!(faults(
        "apiVersion: opendispatch.dev/v1alpha1
kind: Job
metadata: {name: a, name: b}
spec:
  task: a
  agent: {command: {}, command: {}}
  task: b
  env:
  - {name: A, value: x, value: y}
  task: c
"
    ));
}

#[test]
fn numbers_that_stand_twice_as_keys_are_said() {
    insta::assert_snapshot!(faults(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata: {name: a, labels: {1: x, 1: y}}\nspec: {task: a, agent: {command: {}}}\n"
    ));
}

#[test]
fn text_that_is_no_yaml_is_said() {
    let mut said = String::new();
    for text in [
        "apiVersion: [\nkind: }\n",
        "apiVersion: v1\n\tkind: Job\n",
        "a: *nobody\n",
        "a: 'open\n",
        "a: {b\n",
        "a: b: c\n",
        "? [a, b]\n: c\n",
        "a: !!binary gA==\n",
        "a: .nan\n",
        "a: 99999999999999999999999999999999999999999999\n",
        "{\"a\": \"\u{1}\"}",
        "a: &a [*a]\n",
        "%YAML 7.3\n---\na: b\n",
    ] {
        writeln!(said, "{text:?}\n    {}", faults(text).replace('\n', "\n    ")).unwrap();
    }
    insta::assert_snapshot!(said);
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let ten = vec![format!("*a{}", n - 1); 10].join(", ");
        writeln!(aliases, "a{n}: &a{n} [{ten}]").unwrap();
    }
    let deep = "[".repeat(100_000);
    let blocks: String = (0..2_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    let many = "- a\n".repeat(300_000);
    let long = "a".repeat(9 * 1024 * 1024);
    let documents = "---\na: b\n".repeat(10_000);
    let said: Vec<_> =
        [aliases, deep, blocks, many, long, documents].iter().map(|text| faults(text)).collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_text_with_very_many_faults_is_not_answered_with_a_flood() {
    let members: String = (0..5_000).map(|n| format!("  field{n}: 1\n")).collect();
    let text = format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata: {{name: a}}\nspec:\n{members}"
    );
    let said = faults(&text);
    assert_eq!(said.lines().count(), 101);
    insta::assert_snapshot!(said.lines().last().unwrap());
}

#[test]
fn json_is_answered_with_paths_alone() {
    let faults = resource::decode(json!({
        "apiVersion": "opendispatch.dev/v1alpha1",
        "kind": "Job",
        "metadata": {"name": "a"},
        "spec": {"task": "t", "agent": {"claude": {"modle": "x"}}, "env": [{"name": "A"}]},
    }))
    .expect_err("the document is bad");
    insta::assert_snapshot!(faults);
}

#[test]
fn control_characters_of_a_document_do_not_reach_the_terminal() {
    let said = specs(&[r#"task: t, agent: {command: {}}, "\e[2Jx\ny": 1"#]);
    assert!(!said.contains('\u{1b}'), "{said:?}");
    insta::assert_snapshot!(said);
}

#[test]
fn a_misspelt_kind_does_not_hide_the_other_faults() {
    let text = "apiVersion: opendispatch.dev/v1alpha1\nkind: Jop\nmetadata: {name: a}\n\
                spec: {taks: t, agent: {command: {}}, timeout: 99999999999999999999h}\n";
    insta::assert_snapshot!(faults(text));
}
