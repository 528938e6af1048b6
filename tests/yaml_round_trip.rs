//! YAML that we write reads well, and reads back as the same object.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use jiff::Timestamp;
use open_dispatch::resource::{
    self, AgentCli, AgentSpec, AnyObject, Channel, ClaudeCli, CommandCli, ConditionStatus, Cost,
    Detail, EnvEntry, ExitReason, FINALIZER_SPRITES, JobSpec, JobStatus, LocalRuntime, Object,
    PermissionMode, Permissions, Place, Repo, Report, RuntimeSpec, Span, SpriteSpec, yaml,
};
use proptest::{collection, option, prelude::*, sample};

/// A Job with everything that a person may write, and a status.
fn a_whole_job() -> AnyObject {
    let created: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
    let ended: Timestamp = "2026-11-21T08:03:05Z".parse().unwrap();
    let mut job: resource::Job = Object::new(
        "fix-the-tests",
        job_spec("Run the tests.\nFix what fails:\n\n  - first `a`\n  - then \"b\"\n"),
    );
    job.metadata.uid = "0193a0de-0000-7000-8000-000000000001".to_owned();
    job.metadata.resource_version = "42".to_owned();
    job.metadata.generation = 1;
    job.metadata.creation_timestamp = Some(created);
    job.metadata.labels =
        [("team", "payments"), ("build", "012"), ("dry-run", "no"), ("empty", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
    job.metadata.finalizers.push(FINALIZER_SPRITES.to_owned());
    job.spec.repo =
        Some(Repo { github: Some("owner/project".into()), url: None, branch: Some("1.10".into()) });
    job.spec.env = vec![
        EnvEntry { name: "RUST_LOG".into(), value: Some("info".into()), from_secret: None },
        EnvEntry { name: "ON".into(), value: Some("true".into()), from_secret: None },
        EnvEntry { name: "NOTHING".into(), value: Some(String::new()), from_secret: None },
    ];
    job.spec.permissions = Permissions {
        mode: Some(PermissionMode::AcceptEdits),
        allow: vec!["Bash(cargo test:*)".into()],
    };
    job.spec.timeout = Some(Span::from_secs(90 * 60));
    job.spec.report = Some(Report {
        to: vec![Channel::Console(Place { channel: "main".into(), thread: None })],
        detail: Detail::Final,
    });
    job.status.conditions.set(
        "Complete",
        ConditionStatus::False,
        "AgentFailed",
        "exited with 3",
        1,
        ended,
    );
    job.status.phase = "Failed".to_owned();
    job.status.attempts = 1;
    job.status.exit_code = Some(0);
    job.status.start_time = Some(created);
    job.into()
}

fn job_spec(task: &str) -> JobSpec {
    JobSpec::new(task, AgentCli::Claude(ClaudeCli::default()))
}

#[test]
fn an_object_reads_well() {
    insta::assert_snapshot!(yaml::write(&a_whole_job()));
}

#[test]
fn what_says_nothing_is_left_out() {
    let job = Object::<JobSpec, JobStatus>::new("a", job_spec("echo hello && exit 3"));
    insta::assert_snapshot!(yaml::write(&job.into()));
}

#[test]
fn an_object_reads_back_as_it_was() {
    let object = a_whole_job();
    assert_eq!(yaml::read(&yaml::write(&object), None).unwrap(), [object]);
}

#[test]
fn objects_with_lines_between_them_read_back_in_order() {
    let (one, two) =
        (a_whole_job(), AnyObject::from(Object::<JobSpec, JobStatus>::new("b", job_spec("t"))));
    let text = format!("---\n{}---\n{}", yaml::write(&one), yaml::write(&two));
    assert_eq!(yaml::read(&text, None).unwrap(), [one, two]);
}

#[test]
fn json_is_yaml_too() {
    let object = a_whole_job();
    let text = serde_json::to_string_pretty(&object.to_json()).unwrap();
    assert_eq!(yaml::read(&text, None).unwrap(), [object]);
}

#[test]
fn a_text_without_documents_has_no_objects() {
    for text in ["", "\n", "# nothing\n", "---\n---\n", "\u{feff}"] {
        assert_eq!(yaml::read(text, None).unwrap(), [], "{text:?}");
    }
}

#[test]
fn codex_and_any_acp_agent_are_taken() {
    for agent in [
        "{codex: {}}",
        "{codex: {model: gpt-5.5, path: /opt/codex-acp}}",
        "{acp: {command: [gemini, --acp]}}",
        "{acp: {command: [gemini, --acp], model: gemini-2.5-flash}}",
    ] {
        for (kind, task) in [("Job", "task: t, "), ("Agent", "")] {
            let text = format!(
                "apiVersion: opendispatch.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}\n\
                 spec: {{{task}agent: {agent}}}\n"
            );
            let read = yaml::read(&text, None);
            assert!(read.is_ok(), "{kind} {agent}: {}", read.unwrap_err());
        }
    }
}

#[test]
fn anchors_and_merge_keys_are_followed() {
    let text = "
apiVersion: opendispatch.dev/v1alpha1
kind: Job
metadata: {name: a, labels: &labels {team: payments}, annotations: *labels}
spec:
  task: |
    one
    two
  agent: {claude: {<<: {model: opus}, path: /bin/claude}}
";
    let [AnyObject::Job(job)] = &yaml::read(text, None).unwrap()[..] else { panic!("one Job") };
    assert_eq!(job.metadata.annotations["team"], "payments");
    assert_eq!(job.spec.task, "one\ntwo\n");
    let claude = ClaudeCli { model: Some("opus".into()), path: Some("/bin/claude".into()) };
    assert_eq!(job.spec.agent, AgentCli::Claude(claude));
}

/// Texts that YAML might take for something else, and any others without NUL.
fn text() -> impl Strategy<Value = String> {
    let tricky = sample::select(vec![
        "no",
        "yes",
        "on",
        "y",
        "N",
        "true",
        "null",
        "~",
        "",
        " ",
        "\n",
        "\n\n",
        "012",
        "0x1F",
        "0o7",
        "1_000",
        "1e3",
        ".5",
        ".inf",
        ".nan",
        "-",
        "--",
        "---",
        "...",
        "- a",
        "? a",
        "a: b",
        "a:",
        ":a",
        "#a",
        "a #b",
        "&a",
        "*a",
        "!a",
        "!!str a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "'",
        "\"",
        "'a'",
        "\"a\"",
        "{a}",
        "[a",
        "a,b",
        "<<",
        "=",
        "22:22",
        "2001-01-01",
        "2001-01-01T00:00:00Z",
        "\ta",
        "a\t",
        " a",
        "a ",
        "a\nb",
        "a\nb\n",
        "a\nb\n\n",
        "\na",
        " a\nb",
        "a \nb",
        "\ta\nb",
        "a\r\nb",
        "a\rb",
        "a\u{85}b",
        "a\u{2028}b",
        "\u{feff}a",
        "a\u{7f}",
        "a\u{1b}[31m",
        "\\n",
        "\\",
        "a\\",
        "🦀",
        "a: |\n  b",
        "  \n  a\n",
        "a\n\n\nb",
        "#!/bin/sh\nset -e\n",
        "if x:\n\ty\n",
    ])
    .prop_map(str::to_owned);
    let any = "(?s).{0,40}".prop_map(|text: String| text.replace('\0', ""));
    let lines = "([ \t]{0,3}[a-z#:'\"-]{0,12}[ \t]{0,2}\r?\n{0,2}){0,6}";
    let long = "[a-z ]{100,300}";
    prop_oneof![3 => tricky, 2 => any, 2 => lines, 1 => long]
}

fn task() -> impl Strategy<Value = String> {
    text().prop_filter("a task says something", |task| !task.trim().is_empty())
}

fn span() -> impl Strategy<Value = Span> {
    (1..u64::MAX / 2).prop_map(Span::from_millis)
}

fn cli() -> impl Strategy<Value = AgentCli> {
    let word = || option::of("[a-z0-9./:-]{1,20}");
    prop_oneof![
        (word(), word()).prop_map(|(model, path)| AgentCli::Claude(ClaudeCli { model, path })),
        word().prop_map(|shell| AgentCli::Command(CommandCli { shell })),
    ]
}

prop_compose! {
    fn metadata()(
        name in "[a-z]([a-z0-9-]{0,20}[a-z0-9])?",
        uid in option::of("[0-9a-f-]{36}"),
        version in option::of("[0-9]{1,8}"),
        generation in 0..100_u64,
        labels in collection::btree_map("[a-zA-Z]([a-z._/]{0}[a-z0-9._-]{0,10}[a-z0-9])?", "([a-zA-Z0-9]([a-z0-9._-]{0,10}[a-z0-9])?)?", 0..4),
        annotations in collection::btree_map("example\\.com/[a-z]{1,10}", text(), 0..4),
        created in option::of(0..4_000_000_000_i64),
    ) -> resource::Metadata {
        resource::Metadata {
            name,
            uid: uid.unwrap_or_default(),
            resource_version: version.unwrap_or_default(),
            generation,
            labels,
            annotations,
            creation_timestamp: created.map(|second| Timestamp::from_second(second).unwrap()),
            ..resource::Metadata::default()
        }
    }
}

prop_compose! {
    fn a_job()(
        metadata in metadata(),
        task in task(),
        agent in cli(),
        instructions in option::of(text()),
        values in collection::vec(text(), 0..4),
        (timeout, idle_timeout, ttl_after_finished) in (option::of(span()), option::of(span()), option::of(span())),
        retries in 0..3_u32,
        cancel: bool,
        exit_code in option::of(-1..256_i32),
        (message, micro_usd) in (text(), 0..3_u64),
    ) -> AnyObject {
        let claude = matches!(agent, AgentCli::Claude(_));
        let env = values.into_iter().enumerate().map(|(n, value)| EnvEntry {
            name: format!("V{n}"),
            value: Some(value.replace('\0', "")),
            from_secret: None,
        });
        let mut spec = job_spec(&task);
        spec.agent = agent;
        spec.instructions = instructions.filter(|_| claude);
        spec.env = env.collect();
        (spec.timeout, spec.idle_timeout) = (timeout, idle_timeout);
        spec.ttl_after_finished = ttl_after_finished;
        (spec.retries, spec.cancel) = (retries, cancel);
        let mut status = JobStatus { exit_code, message: message.clone(), ..JobStatus::default() };
        status.cost.micro_usd = micro_usd;
        let now = Timestamp::UNIX_EPOCH;
        if cancel {
            status.conditions.set("Failed", ConditionStatus::True, "Cancelled", message, 1, now);
        }
        Object { metadata, spec, status }.into()
    }
}

prop_compose! {
    fn an_agent()(metadata in metadata(), agent in cli(), workdir in option::of("/[a-z ]{0,10}"), suspend: bool) -> AnyObject {
        let runtime = RuntimeSpec::Local(LocalRuntime { workdir, isolation: None });
        let spec = AgentSpec {
            agent,
            runtime,
            repo: None,
            channels: Vec::new(),
            instructions: None,
            permissions: Permissions::default(),
            env: Vec::new(),
            suspend,
            idle_timeout: None,
            turn_timeout: None,
            budget: None,
        };
        Object { metadata, spec, status: resource::AgentStatus::default() }.into()
    }
}

prop_compose! {
    fn a_sprite()(metadata in metadata(), agent in cli(), task in option::of(task()), stop: bool, tokens in 0..3_u64) -> AnyObject {
        let spec = SpriteSpec {
            agent,
            runtime: RuntimeSpec::default(),
            task,
            repo: None,
            instructions: None,
            permissions: Permissions { mode: Some(PermissionMode::Bypass), allow: Vec::new() },
            env: Vec::new(),
            timeout: None,
            idle_timeout: None,
            session: None,
            attempt: 1,
            running: true,
            run: 1,
            stop: stop.then_some(ExitReason::Cancelled),
        };
        let cost = Cost { output_tokens: tokens, ..Cost::default() };
        let status = resource::SpriteStatus { cost, ..resource::SpriteStatus::default() };
        Object { metadata, spec, status }.into()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_object_reads_back_as_it_was_written(object in prop_oneof![3 => a_job(), 1 => an_agent(), 1 => a_sprite()]) {
        let text = yaml::write(&object);
        let back = yaml::read(&text, None);
        prop_assert_eq!(back.as_deref().map_err(ToString::to_string), Ok(&[object][..]), "{}", text);
    }

    #[test]
    fn every_object_reads_back_from_json(object in prop_oneof![3 => a_job(), 1 => an_agent(), 1 => a_sprite()]) {
        prop_assert_eq!(resource::decode(object.to_json()), Ok(object.clone()));
        prop_assert_eq!(AnyObject::from_json(object.kind(), object.to_json()).unwrap(), object);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(?s).{0,200}") {
        let _ = yaml::read(&text, Some("x")).map_err(|faults| assert!(!faults.0.is_empty()));
    }

    #[test]
    fn no_yaml_like_text_makes_the_reader_panic(text in "([a-z]{1,4}: |- |\\[|\\]|\\{|\\}|, |&a |\\*a|\n {0,4}|kind: Job\n|spec:\n|'|\"|\\||>|!!str |# ){0,60}") {
        let _ = yaml::read(&text, Some("x")).map_err(|faults| assert!(!faults.0.is_empty()));
    }
}
