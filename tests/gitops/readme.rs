//! The page of the example says what is so: its commands are run as they stand there, by a shell, in a
//! fresh directory with an empty home.

use std::{fs, path::Path, process::Command};

use super::live::{self, Live};

/// The blocks of commands of the page, in order.
fn blocks() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet/README.md");
    let page = fs::read_to_string(page).unwrap();
    let parts = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    parts.map(str::to_owned).collect()
}

/// A directory with the example as `ops`, a home, and the program along the path.
struct Newcomer {
    home: tempfile::TempDir,
}

impl Newcomer {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("fleet")).unwrap();
        let ops = home.path().join("fleet/ops");
        fs::create_dir(&ops).unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet");
        for entry in fs::read_dir(example).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, ops.join(path.file_name().unwrap())).unwrap();
        }
        Self { home }
    }

    /// Runs a block; answers what it printed.
    fn run(&self, block: &str) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_open-dispatch")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", block]).current_dir(self.home.path().join("fleet")).env_clear();
        shell.envs(super::git::plain()).env("PATH", path).env("HOME", self.home.path());
        let output = tokio::task::block_in_place(|| shell.output().unwrap());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{block}\n--- said\n{said}\n--- errors\n{errors}");
        said + &errors
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_the_example_can_be_followed_to_the_letter() {
    let blocks = blocks();
    let [prepare, serve, declare, commit, drift, end] = blocks.as_slice() else {
        panic!("the page has {} blocks", blocks.len());
    };
    let newcomer = Newcomer::new();
    newcomer.run(prepare);

    // The server is started as the page says, save that its port is free and that it ends with the test.
    let data = newcomer.home.path().join(".local/state/open-dispatch");
    let fleet = newcomer.home.path().join("fleet");
    assert!(serve.contains("OPEN_DISPATCH_GIT_ROOTS=$PWD open-dispatch serve --max-sprites 12"));
    fs::create_dir_all(&data).unwrap();
    let roots = fleet.display().to_string();
    let home = newcomer.home.path().display().to_string();
    let env = [("OPEN_DISPATCH_GIT_ROOTS", roots.as_str()), ("HOME", home.as_str())];
    let server = Live::start(&data, &["--max-sprites", "12"], &env).await;

    let said = newcomer.run(declare);
    assert_eq!(said.matches("command").count(), 10, "a table of ten: {said}");
    assert!(!said.contains("+++"), "no difference: {said}");
    let said = newcomer.run(commit);
    assert!(said.contains("+++") && said.contains("scribe"), "{said}");
    let agents = server.get("agents").await;
    let roles = agents["items"].as_array().unwrap().iter();
    let roles: Vec<&str> =
        roles.filter_map(|agent| agent["metadata"]["labels"]["role"].as_str()).collect();
    assert_eq!(roles.iter().filter(|role| **role == "scribe").count(), 3, "{roles:?}");
    let said = newcomer.run(drift);
    assert!(said.contains("override it for a time"), "{said}");
    newcomer.run(end);
    let end = tokio::time::Instant::now() + live::PATIENCE;
    while !server.reporters().is_empty() {
        assert!(tokio::time::Instant::now() < end, "somebody stays:\n{}", server.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(server.get("agents").await["items"].as_array().map(Vec::len), Some(0));
}
