//! The Dockerfiles, read as text: there is no engine to build them here, and what can be wrong with
//! them without one is looked for.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

use std::{fs, path::PathBuf};

use serde_json::Value;

/// An instruction: its word, and the rest of it with continued lines joined.
type Instruction = (String, String);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> Vec<Instruction> {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let bare = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = bare.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty());
    let split = |line: &str| {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        (word.to_owned(), rest)
    };
    lines.map(split).collect()
}

const EXAMPLES: [&str; 3] = ["claude", "opencode", "dotnet"];

fn all() -> Vec<(String, Vec<Instruction>)> {
    let examples = EXAMPLES.map(|name| format!("examples/images/{name}/Dockerfile"));
    let paths = examples.into_iter().chain(["sidecar/Dockerfile".to_owned()]);
    paths.map(|path| (path.clone(), read(&path))).collect()
}

/// What BuildKit says of the platform that is built for.
const PLATFORM: [&str; 4] = ["TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT"];

/// What is wrong with a Dockerfile, in words.
fn faults(file: &[Instruction]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut stages: Vec<String> = Vec::new();
    for (word, rest) in file {
        match word.as_str() {
            "FROM" => {
                let words: Vec<&str> = rest.split(' ').collect();
                let image = words[0];
                let tag = image.rsplit('/').next().and_then(|name| name.split_once(':'));
                let is_pinned = tag.is_some_and(|(_, tag)| {
                    tag != "latest" && tag.contains(|c: char| c.is_ascii_alphanumeric())
                });
                if image != "scratch" && !stages.iter().any(|stage| stage == image) && !is_pinned {
                    faults.push(format!("{image} is not pinned"));
                }
                if let [_, as_, name] = words[..]
                    && as_.eq_ignore_ascii_case("as")
                {
                    stages.push(name.to_owned());
                }
            }
            "COPY" => {
                if let Some(from) = rest.strip_prefix("--from=") {
                    let stage = from.split(' ').next().unwrap();
                    if !stages.iter().any(|known| known == stage) {
                        faults.push(format!("{stage} is no stage"));
                    }
                }
            }
            "RUN" => {
                for fetcher in ["curl", "wget"] {
                    if rest.split(|c: char| !c.is_alphanumeric()).any(|word| word == fetcher) {
                        faults.push(format!("{fetcher} fetches what nobody pinned"));
                    }
                }
                let installs = rest.contains("apt-get install");
                if installs && !rest.contains("--no-install-recommends") {
                    faults.push("recommended packages are installed".to_owned());
                }
                if installs && !rest.contains("rm -rf /var/lib/apt/lists") {
                    faults.push("package lists stay".to_owned());
                }
            }
            // BuildKit's own; a default goes before what it would say.
            "ARG" if PLATFORM.iter().any(|name| rest.starts_with(&format!("{name}="))) => {
                faults.push(format!("{rest} is built for whatever platform is asked for"));
            }
            "ADD" | "MAINTAINER" => faults.push(format!("{word} is used")),
            _ => {}
        }
    }
    faults
}

#[test]
fn what_is_fetched_is_pinned_and_what_is_copied_is_there() {
    for (path, file) in all() {
        assert_eq!(faults(&file), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn a_dockerfile_with_faults_is_found_out() {
    let line = |word: &str, rest: &str| (word.to_owned(), rest.to_owned());
    let bad = [
        line("FROM", "debian"),
        line("FROM", "node:latest AS agent"),
        line("COPY", "--from=agnt /a /b"),
        line("RUN", "curl https://example.org/install | sh"),
        line("RUN", "apt-get update && apt-get install --yes git"),
        line("ARG", "TARGETARCH=amd64"),
    ];
    assert_eq!(
        faults(&bad),
        [
            "debian is not pinned",
            "node:latest is not pinned",
            "agnt is no stage",
            "curl fetches what nobody pinned",
            "recommended packages are installed",
            "package lists stay",
            "TARGETARCH=amd64 is built for whatever platform is asked for",
        ]
    );
}

#[test]
fn each_example_ends_in_the_reporter_and_takes_it_from_the_sidecar_of_this_version() {
    for name in EXAMPLES {
        let file = read(&format!("examples/images/{name}/Dockerfile"));
        let last = |word: &str| {
            let found = file.iter().rev().find(|(it, _)| it == word);
            found.map(|(_, rest)| rest.clone()).unwrap_or_default()
        };
        assert_eq!(last("ENTRYPOINT"), "[\"/usr/local/bin/sprite-reporter\"]", "{name}");
        assert_eq!(last("COPY"), "--from=sidecar /sidecar/ /usr/local/bin/", "{name}");
        assert!(
            !file.iter().any(|(word, _)| word == "CMD"),
            "{name}: its words would be arguments"
        );
        let version = env!("CARGO_PKG_VERSION");
        let sidecar = format!("ghcr.io/open-dispatch/open-dispatch/sidecar:{version} AS sidecar");
        assert_eq!(file[0], ("FROM".to_owned(), sidecar), "{name}");
        // The last stage is what a machine loads: no Node, curl or jq in it for our sake.
        let at = file.iter().rposition(|(word, _)| word == "FROM").unwrap();
        for (_, rest) in &file[at..] {
            let words: Vec<&str> = rest.split(' ').collect();
            assert!(!["node", "nodejs", "npm", "curl", "jq"].iter().any(|it| words.contains(it)));
        }
    }
    let guide = fs::read_to_string(root().join("docs/fly.md")).unwrap();
    let sidecar = concat!("sidecar:", env!("CARGO_PKG_VERSION"), " AS sidecar");
    assert!(guide.contains(sidecar) && !guide.contains("sidecar:latest"), "docs/fly.md: {sidecar}");
    let sidecar = read("sidecar/Dockerfile");
    let place = "--from=build /sidecar/sprite-reporter /sidecar/sprite-reporter";
    let end = [("FROM", "scratch"), ("COPY", place)];
    let end = end.map(|(word, rest)| (word.to_owned(), rest.to_owned()));
    assert_eq!(sidecar[sidecar.len() - 2..], end);
}

#[test]
fn the_examples_pin_the_clis_that_the_tests_drive() {
    let json = fs::read_to_string(root().join("tests/agents/package.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let version =
        |package: &str| json["optionalDependencies"][package].as_str().unwrap().to_owned();
    let claude = format!("CLAUDE_CODE={}", version("@anthropic-ai/claude-code-linux-x64"));
    let opencode = format!("OPENCODE={}", version("opencode-linux-x64"));
    for (name, pin) in [("claude", &claude), ("opencode", &opencode), ("dotnet", &claude)] {
        let file = read(&format!("examples/images/{name}/Dockerfile"));
        assert!(file.contains(&("ARG".to_owned(), pin.clone())), "{name}: {pin}");
        let page = fs::read_to_string(root().join("examples/images/README.md")).unwrap();
        assert!(page.contains(pin.split('=').nth(1).unwrap()), "the page names {pin}");
    }
}

#[test]
fn the_build_uses_the_profile_that_is_there_and_a_compiler_that_is_new_enough() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("[profile.sidecar]"));
    let file = read("sidecar/Dockerfile");
    let build = file.iter().find(|(_, rest)| rest.contains("cargo build")).unwrap();
    assert!(build.1.contains("--locked") && build.1.contains("--profile sidecar"), "{}", build.1);
    let number = |text: &str| -> u32 {
        text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    let least = number(manifest.split("rust-version = \"1.").nth(1).unwrap());
    let image = number(file[0].1.strip_prefix("rust:1.").unwrap());
    assert!(image >= least, "rust:1.{image} is older than 1.{least}");
}
