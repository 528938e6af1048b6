//! Desired state in Git, read by the real git from real repositories, over files and over HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

#[path = "support/git/mod.rs"]
mod git;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use git::{Fault, GitHttp, Origin, shown};
use open_dispatch::{
    ambient::{self, Ambient, Mode, ScriptedSteps, Steps},
    resource::{DirectorySource, GitSource, Kind, Source, SourceFrom},
    secrets::Secrets,
    source::{
        git::{Author, Edit, Git, GitError, Limits, Reading, Settings},
        over::pen::{self, Pen as _, PenError, SourcePen},
    },
};
use secrecy::SecretString;

const UID: &str = "0199-source";
const TOKEN: &str = "s3cret-Token-of-tests";

/// A server's side of it: a data directory, and repositories of this machine below it.
struct World {
    dir: tempfile::TempDir,
    limits: Limits,
    steps: Arc<dyn Steps>,
}

impl World {
    fn new() -> Self {
        let limits = Limits { stalled: Duration::from_secs(60), ..Limits::default() };
        let dir = tempfile::tempdir().unwrap();
        Self { dir, limits, steps: Arc::new(ambient::FreeSteps) }
    }

    fn repos(&self) -> std::path::PathBuf {
        self.dir.path().join("repos")
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    fn origin(&self, name: &str) -> Origin {
        Origin::new(&self.repos(), name)
    }

    fn git(&self) -> Git {
        let environment = vec![("PATH".to_owned(), std::env::var("PATH").unwrap())];
        let secrets = Secrets::new(self.dir.path().join("secrets"), Vec::new());
        secrets.set("token", &SecretString::from(TOKEN)).unwrap();
        let settings = Settings {
            dir: self.data().join("sources"),
            environment,
            roots: vec![self.repos()],
            limits: self.limits.clone(),
        };
        Git::new(settings, secrets, Ambient { steps: Arc::clone(&self.steps), ..Ambient::real() })
    }
}

fn url(origin: &Origin) -> GitSource {
    GitSource { url: Some(shown(&origin.bare)), ..GitSource::default() }
}

fn over_http(http: &GitHttp, name: &str) -> GitSource {
    GitSource { url: Some(format!("{}/{name}.git", http.url)), ..GitSource::default() }
}

async fn read(git: &Git, spec: &GitSource) -> Result<Reading, GitError> {
    git.read(UID, spec).await
}

fn files(reading: &Reading) -> Vec<(&str, &str)> {
    reading.snapshot.files.iter().map(|it| (it.path.as_str(), it.text.as_str())).collect()
}

/// Every file below a directory that holds a text.
fn holding(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(shown(&path));
            }
        }
    }
    found
}

/// The command lines of the processes that run in a directory.
fn command_lines(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if cwd.starts_with(dir) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    found
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let clock = Ambient::real().clock;
    for _ in 0..600 {
        if is_so() {
            return;
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {what}");
}

#[tokio::test]
async fn a_commit_is_read_whole_from_its_own_tree() {
    let world = World::new();
    let origin = world.origin("ops");
    origin.write("b.yaml", "b: 1\n").write("a/a.yml", "a: 1\n").write("README.md", "x");
    origin.write(".github/ci.yaml", "x").write("schema/agent.yaml", "x");
    std::os::unix::fs::symlink("/etc/passwd", origin.work.join("link.txt")).unwrap();
    let first = origin.push();
    let (git, spec) = (world.git(), url(&origin));
    let reading = read(&git, &spec).await.unwrap();
    assert_eq!(reading.snapshot.revision, first);
    assert_eq!(files(&reading), [("a/a.yml", "a: 1\n"), ("b.yaml", "b: 1\n")]);
    assert!(reading.repos[0].notes.is_empty());
    assert!(reading.snapshot.files.iter().all(|file| file.repo.is_none()));
    // The next commit, of a branch that was rewritten.
    origin.git(&["commit", "-q", "--amend", "-m", "rewritten"]);
    fs::remove_file(origin.work.join("b.yaml")).unwrap();
    let second = origin.push();
    let reading = read(&git, &spec).await.unwrap();
    assert_eq!(reading.snapshot.revision, second);
    assert_eq!(files(&reading), [("a/a.yml", "a: 1\n")]);
    // And another one, with no commit of the first: its branch begins anew.
    origin.git(&["checkout", "-q", "--orphan", "fresh"]);
    origin.write("c.yaml", "c: 1\n");
    origin.push();
    origin.git(&["push", "-q", "-f", "origin", "fresh:main"]);
    let reading = read(&git, &spec).await.unwrap();
    assert_eq!(reading.snapshot.files.len(), 2);
}

#[tokio::test]
async fn a_branch_is_a_branch_whatever_else_bears_its_name() {
    let world = World::new();
    let origin = world.origin("ops");
    origin.write("a.yaml", "main\n").push();
    origin.git(&["checkout", "-q", "-b", "release/1"]);
    let branch = origin.write("a.yaml", "release\n").push();
    origin.git(&["tag", "release/1", "main"]);
    origin.git(&["push", "-q", "origin", "refs/tags/release/1"]);
    let git = world.git();
    let spec = GitSource { branch: Some("release/1".to_owned()), ..url(&origin) };
    let reading = read(&git, &spec).await.unwrap();
    assert_eq!(reading.snapshot.revision, branch);
    assert_eq!(files(&reading), [("a.yaml", "release\n")]);
    let none = GitSource { branch: Some("nowhere".to_owned()), ..url(&origin) };
    let error = read(&git, &none).await.unwrap_err();
    assert!(matches!(&error, GitError::NoBranch { branch, .. } if branch == "nowhere"), "{error}");
    // What would be a flag is no branch, and neither is a revision.
    let touched = world.dir.path().join("touched");
    for name in [format!("--upload-pack=touch {}", shown(&touched)), "a..b".to_owned()] {
        let spec = GitSource { branch: Some(name), ..url(&origin) };
        assert!(matches!(read(&git, &spec).await, Err(GitError::Spec { .. })));
    }
    assert!(!touched.exists());
    let empty = world.origin("empty");
    let error = read(&git, &url(&empty)).await.unwrap_err();
    assert!(matches!(error, GitError::Empty { .. }), "{error}");
}

#[tokio::test]
async fn a_directory_is_read_alone_and_must_be_there() {
    let world = World::new();
    let origin = world.origin("ops");
    origin.write("a.yaml", "no").write("--x/deploy/b.yaml", "yes").push();
    let git = world.git();
    let spec = |path: &str| GitSource { path: Some(path.to_owned()), ..url(&origin) };
    let reading = read(&git, &spec("--x/deploy")).await.unwrap();
    assert_eq!(files(&reading), [("b.yaml", "yes")]);
    let error = read(&git, &spec("nowhere")).await.unwrap_err();
    assert!(matches!(error, GitError::NoPath { .. }), "{error}");
    // A pattern is a name like any other.
    assert!(read(&git, &spec("*")).await.is_err());
}

#[tokio::test]
async fn a_file_that_is_no_text_or_too_large_is_refused_with_its_name() {
    let world = World::new();
    let origin = world.origin("ops");
    let git = world.git();
    origin.write("deep/a.yaml", b"ok: 1\nbad: \xff\n").push();
    let told = async || read(&git, &url(&origin)).await.unwrap_err().to_string();
    insta::assert_snapshot!(told().await, @"deep/a.yaml is no UTF-8 text (line 2); save it as UTF-8");
    origin.write("deep/a.yaml", "ok").write("a\nb.yaml", "x").push();
    insta::assert_snapshot!(told().await, @r"a\nb.yaml has a name that is no plain text (a line break, or bytes that are no UTF-8); rename the file");
    fs::remove_file(origin.work.join("a\nb.yaml")).unwrap();
    origin.write("film.mp4", vec![7; 50_000_000]).push();
    assert_eq!(files(&read(&git, &url(&origin)).await.unwrap()), [("deep/a.yaml", "ok")]);
    origin.write("huge.yaml", vec![b'#'; 50_000_000]).push();
    insta::assert_snapshot!(told().await, @"huge.yaml is 50000000 bytes large, and a file with desired state may have 4 MiB; split it, or move it out of the directory");
}

#[tokio::test]
async fn a_repository_that_is_too_large_is_not_fetched() {
    let mut world = World::new();
    world.limits.pack = 256 * 1024;
    let origin = world.origin("ops");
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()
    };
    let noise: Vec<u8> = (0..256 * 1024).flat_map(|_| noise()).collect();
    origin.write("a.yaml", "a").write("noise", noise).push();
    let error = read(&world.git(), &url(&origin)).await.unwrap_err();
    assert!(matches!(error, GitError::TooMuch { .. }), "{error}");
    fs::remove_file(origin.work.join("noise")).unwrap();
    origin.push();
    assert_eq!(files(&read(&world.git(), &url(&origin)).await.unwrap()), [("a.yaml", "a")]);
}

#[tokio::test]
async fn a_repository_of_this_machine_is_read_only_where_the_operator_allows_it() {
    let world = World::new();
    let outside = Origin::new(&world.dir.path().join("private"), "a");
    outside.write("a.yaml", "a").push();
    let git = world.git();
    let error = read(&git, &url(&outside)).await.unwrap_err();
    assert!(matches!(error, GitError::NotAllowed { .. }), "{error}");
    // A link does not lead there either.
    fs::create_dir_all(world.repos()).unwrap();
    let link = world.repos().join("link.git");
    std::os::unix::fs::symlink(&outside.bare, &link).unwrap();
    let spec = GitSource { url: Some(shown(&link)), ..GitSource::default() };
    let error = read(&git, &spec).await.unwrap_err();
    assert!(matches!(error, GitError::NotAllowed { .. }), "{error}");
}

#[tokio::test]
async fn a_token_opens_a_repository_and_is_seen_nowhere() {
    let world = World::new();
    let origin = world.origin("ops");
    origin.write("a.yaml", "a: 1\n").push();
    let http = GitHttp::serve(&world.repos()).await;
    http.want(&format!("x-access-token:{TOKEN}"));
    let git = world.git();
    let without = over_http(&http, "ops");
    let error = read(&git, &without).await.unwrap_err();
    assert!(matches!(error, GitError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("tokenFromSecret"), "{error}");
    let with = GitSource { token_from_secret: Some("token".to_owned()), ..without.clone() };
    assert_eq!(files(&read(&git, &with).await.unwrap()), [("a.yaml", "a: 1\n")]);
    let missing = GitSource { token_from_secret: Some("other".to_owned()), ..without };
    let error = read(&git, &missing).await.unwrap_err();
    assert!(matches!(error, GitError::Secret { .. }), "{error}");
    // Not on disk, as it is or as it travels.
    let encoded = http.seen().into_iter().flatten().next().unwrap();
    let encoded = encoded.trim_start_matches("Basic ").to_owned();
    for text in [TOKEN, encoded.as_str()] {
        assert_eq!(holding(&world.data(), text), Vec::<String>::new());
    }
    // Nor on a command line, while git is at it.
    http.fault(Fault::Hang);
    let reading = tokio::spawn({
        let (git, with) = (git.clone(), with.clone());
        async move { read(&git, &with).await }
    });
    until("git asks the server", || {
        command_lines(&world.data()).iter().any(|line| line.contains("remote-http"))
    })
    .await;
    let lines = command_lines(&world.data()).join("\n");
    assert!(lines.contains(&http.url) && !lines.contains(TOKEN) && !lines.contains(&encoded));
    // Whoever is not waited for any more is gone, with all that it started.
    reading.abort();
    until("git is gone", || command_lines(&world.data()).is_empty()).await;
    // A wrong one is told without being told.
    http.fault(Fault::None);
    http.want("x-access-token:another");
    let error = read(&git, &with).await.unwrap_err().to_string();
    assert!(error.contains("does not let us") && !error.contains(TOKEN), "{error}");
}

#[tokio::test]
async fn a_token_is_not_shown_to_whom_a_server_sends_us() {
    let world = World::new();
    world.origin("ops").write("a.yaml", "a").push();
    let (http, other) =
        (GitHttp::serve(&world.repos()).await, GitHttp::serve(&world.repos()).await);
    http.fault(Fault::Redirect(other.url.clone()));
    let spec = GitSource { token_from_secret: Some("token".to_owned()), ..over_http(&http, "ops") };
    let error = read(&world.git(), &spec).await.unwrap_err().to_string();
    assert!(error.contains("moved"), "{error}");
    assert_eq!(other.seen(), []);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_leaves_nothing_in_the_way() {
    let mut world = World::new();
    world.limits.fetch = Duration::from_secs(1);
    world.origin("ops").write("a.yaml", "a").push();
    let http = GitHttp::serve(&world.repos()).await;
    let (git, spec) = (world.git(), over_http(&http, "ops"));
    http.fault(Fault::Hang);
    let error = read(&git, &spec).await.unwrap_err();
    assert!(matches!(error, GitError::TimedOut { seconds: 1, .. }), "{error}");
    until("git is gone", || command_lines(&world.data()).is_empty()).await;
    http.fault(Fault::None);
    world.limits.fetch = Duration::from_secs(60);
    assert_eq!(files(&read(&world.git(), &spec).await.unwrap()), [("a.yaml", "a")]);
    // One that sends nothing any more is given up before its time is over.
    world.limits.stalled = Duration::from_secs(1);
    http.fault(Fault::Hang);
    let error = read(&world.git(), &spec).await.unwrap_err();
    assert!(matches!(error, GitError::Failed { .. }), "{error}");
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let world = World::new();
    let origin = world.origin("ops");
    origin.write("a.yaml", "a").push();
    let http = GitHttp::serve(&world.repos()).await;
    let (git, spec) = (world.git(), over_http(&http, "ops"));
    read(&git, &spec).await.unwrap();
    origin.write("a.yaml", "b").push();
    for at in ["info/refs", "git-upload-pack"] {
        http.fault(Fault::Half(at));
        let error = read(&git, &spec).await.unwrap_err();
        assert!(matches!(error, GitError::Failed { .. }), "{at}: {error}");
    }
    http.fault(Fault::None);
    assert_eq!(files(&read(&git, &spec).await.unwrap()), [("a.yaml", "b")]);
}

#[tokio::test]
async fn locks_and_halves_of_a_git_that_was_killed_are_cleared_away() {
    let world = World::new();
    let origin = world.origin("ops");
    origin.write("a.yaml", "a").push();
    let (git, spec) = (world.git(), url(&origin));
    read(&git, &spec).await.unwrap();
    let sources = world.data().join("sources");
    let mirror = fs::read_dir(&sources).unwrap().next().unwrap().unwrap().path();
    for lock in ["shallow.lock", "packed-refs.lock", &format!("refs/sources/{UID}/tip.lock")] {
        fs::write(mirror.join(lock), "").unwrap();
    }
    fs::write(mirror.join("objects/pack/tmp_pack_x"), "half").unwrap();
    origin.write("a.yaml", "b").push();
    assert_eq!(files(&read(&git, &spec).await.unwrap()), [("a.yaml", "b")]);
    assert!(!mirror.join("objects/pack/tmp_pack_x").exists());
    // One that was never whole as well.
    fs::remove_file(mirror.join("HEAD")).unwrap();
    assert_eq!(files(&read(&git, &spec).await.unwrap()), [("a.yaml", "b")]);
}

/// The mirror, where there is one alone.
fn mirror(world: &World) -> std::path::PathBuf {
    let mut all = fs::read_dir(world.data().join("sources")).unwrap();
    let first = all.next().unwrap().unwrap().path();
    assert!(all.next().is_none());
    first
}

#[tokio::test]
async fn a_damaged_mirror_is_removed_once_and_made_anew_by_the_next_look() {
    let world = World::new();
    let origin = world.origin("ops");
    let commit = origin.write("services/api/x", "").write("a.yaml", "a").push();
    let (git, spec) = (world.git(), url(&origin));
    let fetched = async |uid: &str| git.fetched(uid, &spec).await.unwrap();
    let (first, second) = (fetched("0199-a").await, fetched("0199-b").await);
    for entry in fs::read_dir(mirror(&world).join("objects/pack")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    // Nobody outside is asked by whoever finds it.
    let away = origin.bare.with_extension("away");
    fs::rename(&origin.bare, &away).unwrap();
    let error = git.texts("0199-a", &spec, first).await.map(|_| ()).unwrap_err();
    assert!(error.is_passing(), "{error}");
    fs::rename(&away, &origin.bare).unwrap();
    let reading = git.read("0199-a", &spec).await.unwrap();
    git.accept("0199-a", &spec, &reading).await.unwrap();
    // Who fetched before that takes nothing away from the others.
    let reading = git.texts("0199-b", &spec, second).await.unwrap();
    assert_eq!(files(&reading), [("a.yaml", "a")]);
    let found = git.directories("0199-a", &spec, &commit, "services/*").await.unwrap();
    assert_eq!(found, ["services/api"]);
}

#[tokio::test]
async fn a_commit_that_a_later_fetch_has_let_go_of_is_no_damage() {
    let world = World::new();
    let origin = world.origin("ops");
    let commit = origin.write("services/api/x", "").write("a.yaml", "a").push();
    let (git, spec) = (world.git(), url(&origin));
    let reading = git.read("0199-other", &spec).await.unwrap();
    git.accept("0199-other", &spec, &reading).await.unwrap();
    origin.write("a.yaml", "b").push();
    let fetched = git.fetched(UID, &spec).await.unwrap();
    origin.write("a.yaml", "c").push();
    git.fetched(UID, &spec).await.unwrap();
    git::git_in(&mirror(&world), &["gc", "--quiet", "--prune=now"]);
    let error = git.texts(UID, &spec, fetched).await.map(|_| ()).unwrap_err();
    assert!(error.is_passing(), "{error}");
    let found = git.directories("0199-other", &spec, &commit, "services/*").await.unwrap();
    assert_eq!(found, ["services/api"]);
    assert_eq!(files(&read(&git, &spec).await.unwrap()), [("a.yaml", "c")]);
}

#[tokio::test]
async fn a_crash_at_each_step_of_a_reading_leaves_what_the_next_one_goes_on_from() {
    let mut world = World::new();
    let origin = world.origin("ops");
    origin.write("a.yaml", "a").push();
    let spec = url(&origin);
    let whole = async |git: &Git| -> Result<Reading, GitError> {
        let reading = read(git, &spec).await?;
        git.accept(UID, &spec, &reading).await?;
        Ok(reading)
    };
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0.. {
            origin.write("a.yaml", format!("{mode:?} {n}")).push();
            let steps = Arc::new(ScriptedSteps::new(Some((n, mode))));
            world.steps = Arc::clone(&steps) as Arc<dyn Steps>;
            let ended = whole(&world.git()).await;
            if !steps.has_fired() {
                assert!(n > 1, "there are fewer steps than thought");
                break;
            }
            assert!(matches!(ended, Err(GitError::Fault(_))));
            world.steps = Arc::new(ambient::FreeSteps);
            let reading = whole(&world.git()).await.unwrap();
            assert_eq!(files(&reading), [("a.yaml", format!("{mode:?} {n}").as_str())]);
        }
    }
}

#[tokio::test]
async fn of_several_repositories_one_that_cannot_be_read_has_a_trouble_in_place_of_files() {
    let world = World::new();
    let (api, web) = (world.origin("api"), world.origin("web"));
    api.write(".open-dispatch/a.yaml", "api 1").write("other.yaml", "no").push();
    web.write(".open-dispatch/a.json", "web 1").push();
    let http = GitHttp::serve(&world.repos()).await;
    let git = world.git();
    let (of_api, of_web) = (format!("{}/api.git", http.url), shown(&web.bare));
    let spec = GitSource { repos: vec![of_api.clone(), of_web.clone()], ..GitSource::default() };
    let reading = read(&git, &spec).await.unwrap();
    let names: Vec<&str> = reading.repos.iter().map(|it| it.name.as_str()).collect();
    let texts = |reading: &Reading| -> Vec<String> {
        reading.snapshot.files.iter().map(|it| it.text.clone()).collect()
    };
    assert_eq!(texts(&reading), ["api 1", "web 1"]);
    assert_eq!(reading.files_of(names[1]).count(), 1);
    let repo = reading.snapshot.files[0].repo.clone().unwrap();
    assert_eq!(repo.url.as_deref(), Some(of_api.as_str()));
    http.fault(Fault::Vanish);
    web.write(".open-dispatch/a.json", "web 2").push();
    let without = read(&git, &spec).await.unwrap();
    assert_eq!(texts(&without), ["web 2"]);
    assert_eq!(without.troubles().map(|(name, _)| name).collect::<Vec<_>>(), [names[0]]);
    assert_eq!(without.repos[0].commit, None);
    assert_ne!(without.snapshot.revision, reading.snapshot.revision);
}

#[tokio::test]
async fn repositories_that_hang_leave_time_for_those_that_answer() {
    let mut world = World::new();
    world.limits.whole = Duration::from_secs(8);
    let good = world.origin("good");
    good.write(".open-dispatch/a.yaml", "good").push();
    for n in 0..7 {
        world.origin(&format!("hangs-{n}")).write(".open-dispatch/a.yaml", "x").push();
    }
    let http = GitHttp::serve(&world.repos()).await;
    http.fault(Fault::Hang);
    let hangs = |n| format!("{}/hangs-{n}.git", http.url);
    // The one that answers comes last.
    let mut repos: Vec<String> = (0..7).map(hangs).collect();
    repos.push(shown(&good.bare));
    let spec = GitSource { repos, ..GitSource::default() };
    let clock = Ambient::real().clock;
    let began = clock.elapsed();
    let reading = read(&world.git(), &spec).await.unwrap();
    let took = clock.elapsed() - began;
    assert_eq!(reading.snapshot.files.len(), 1);
    assert_eq!(reading.troubles().count(), 7);
    let (_, why) = reading.troubles().next().unwrap();
    assert!(why.contains("gave no answer in its part of the time"), "{why}");
    assert!(took < Duration::from_secs(60), "{took:?}");
    until("git is gone", || command_lines(&world.data()).is_empty()).await;
}

#[tokio::test]
async fn what_a_source_does_not_name_any_more_is_forgotten() {
    let world = World::new();
    let (a, b) = (world.origin("a"), world.origin("b"));
    a.write("a.yaml", "a").push();
    b.write("a.yaml", "b").push();
    let git = world.git();
    let mirrors = || fs::read_dir(world.data().join("sources")).unwrap().count();
    let both = async |uid: &str| {
        for origin in [&a, &b] {
            let reading = git.read(uid, &url(origin)).await.unwrap();
            git.accept(uid, &url(origin), &reading).await.unwrap();
        }
    };
    both(UID).await;
    both("0199-other").await;
    assert_eq!(mirrors(), 2);
    // It is another's still.
    git.sweep(UID, Some(&url(&b))).await.unwrap();
    assert_eq!(mirrors(), 2);
    git.sweep("0199-other", Some(&url(&b))).await.unwrap();
    assert_eq!(mirrors(), 1);
    // Refs that git has packed are found as well, and so is a mirror that was never fetched into.
    let mirror =
        fs::read_dir(world.data().join("sources")).unwrap().next().unwrap().unwrap().path();
    git::git_in(&mirror, &["pack-refs", "--all"]);
    let nowhere = GitSource { url: Some(shown(&world.repos().join("none.git"))), ..url(&a) };
    git.read("0199-third", &nowhere).await.unwrap_err();
    assert_eq!(mirrors(), 2);
    git.sweep("0199-third", None).await.unwrap();
    assert_eq!(mirrors(), 1);
    git.sweep(UID, None).await.unwrap();
    assert_eq!(mirrors(), 1);
    git.sweep("0199-other", None).await.unwrap();
    assert_eq!(mirrors(), 0);
}

#[tokio::test]
async fn sources_of_one_repository_share_a_mirror_and_do_not_disturb_each_other() {
    let world = World::new();
    let origin = world.origin("ops");
    let commit = origin.write("a.yaml", "a").push();
    let (git, spec) = (world.git(), url(&origin));
    let reads = (0..6).map(|n| {
        let (git, spec) = (git.clone(), spec.clone());
        async move { git.read(&format!("0199-{n}"), &spec).await }
    });
    for reading in futures::future::join_all(reads).await {
        assert_eq!(reading.unwrap().snapshot.revision, commit);
    }
    let mirrors = || fs::read_dir(world.data().join("sources")).unwrap().count();
    assert_eq!(mirrors(), 1);
    // It goes with the last one.
    for n in 0..6 {
        assert_eq!(mirrors(), 1);
        git.sweep(&format!("0199-{n}"), None).await.unwrap();
    }
    assert_eq!(mirrors(), 0);
    git.sweep("0199-1", None).await.unwrap();
}

#[tokio::test]
async fn directories_are_those_of_the_applied_commit() {
    let world = World::new();
    let origin = world.origin("mono");
    origin.write("services/api/x", "").write("services/web/src/x", "").write("lib/x", "");
    let first = origin.write("a.yaml", "a").push();
    let (git, spec) = (world.git(), url(&origin));
    let before = git.directories(UID, &spec, &first, "services/*").await.unwrap_err();
    assert!(matches!(before, GitError::NoCommit { .. }), "{before}");
    let reading = read(&git, &spec).await.unwrap();
    git.accept(UID, &spec, &reading).await.unwrap();
    origin.write("services/new/x", "").push();
    read(&git, &spec).await.unwrap();
    let found = async |pattern: &str| git.directories(UID, &spec, &first, pattern).await.unwrap();
    assert_eq!(found("services/*").await, ["services/api", "services/web"]);
    assert_eq!(found("*").await, ["lib", "services"]);
    assert_eq!(found("*/*/src").await, ["services/web/src"]);
    assert_eq!(found("nowhere/*").await, Vec::<String>::new());
    for odd in ["HEAD", "--all", ""] {
        assert!(git.directories(UID, &spec, odd, "*").await.is_err(), "{odd}");
    }
}

fn edit(old: &str, new: &str) -> Edit {
    Edit {
        path: "agents.yaml".to_owned(),
        old: Some(old.to_owned()),
        new: new.to_owned(),
        message: "Raise the limit\n\nAsked for in chat.".to_owned(),
        author: Author { name: "Ada".to_owned(), email: "ada@localhost".to_owned() },
    }
}

fn pushing(spec: GitSource) -> GitSource {
    GitSource { push: true, ..spec }
}

#[tokio::test]
async fn a_change_is_committed_by_its_author_and_touches_nothing_else() {
    let world = World::new();
    let origin = world.origin("ops");
    origin.write("agents.yaml", "limit: 1\n").write("other/b.txt", "stays");
    std::os::unix::fs::symlink("agents.yaml", origin.work.join("link")).unwrap();
    let before = origin.push();
    let http = GitHttp::serve(&world.repos()).await;
    http.want(&format!("x-access-token:{TOKEN}"));
    let git = world.git();
    let token_from_secret = Some("token".to_owned());
    let spec = pushing(GitSource { token_from_secret, ..over_http(&http, "ops") });
    let file = git.file(UID, &spec, "agents.yaml").await.unwrap();
    assert_eq!((file.commit.as_str(), file.text.as_deref()), (before.as_str(), Some("limit: 1\n")));
    let change = edit("limit: 1\n", "limit: 2\n");
    let done = git.commit(UID, &spec, &change).await.unwrap();
    assert_eq!(done.branch, "main");
    assert_eq!(origin.at_origin(&["rev-parse", "main"]), done.commit);
    assert_eq!(origin.at_origin(&["rev-parse", "main^"]), before);
    let show = origin.at_origin(&["show", "-s", "--format=%an <%ae>|%cn|%B", "main"]);
    insta::assert_snapshot!(show, @r"
    Ada <ada@localhost>|Open Dispatch|Raise the limit

    Asked for in chat.
    ");
    assert_eq!(origin.at_origin(&["diff", "--name-only", &before, "main"]), "agents.yaml");
    assert_eq!(origin.at_origin(&["show", "main:agents.yaml"]), "limit: 2");
    // The same once more makes nothing.
    assert_eq!(git.commit(UID, &spec, &change).await.unwrap().commit, done.commit);
    // A file that is not there yet, and one that was to be there.
    let new = Edit { path: "new/x.yaml".to_owned(), old: None, ..change.clone() };
    let done = git.commit(UID, &spec, &new).await.unwrap();
    assert_eq!(origin.at_origin(&["rev-parse", "main"]), done.commit);
    let gone = Edit { path: "gone.yaml".to_owned(), ..change.clone() };
    let error = git.commit(UID, &spec, &gone).await.unwrap_err();
    assert!(matches!(error, GitError::Conflict { .. }), "{error}");
    let link = Edit { path: "link".to_owned(), ..change.clone() };
    assert!(matches!(git.commit(UID, &spec, &link).await, Err(GitError::File { .. })));
    let error = git.commit(UID, &GitSource { push: false, ..spec }, &change).await.unwrap_err();
    assert!(matches!(error, GitError::ReadOnly { .. }), "{error}");
    assert_eq!(holding(&world.data(), TOKEN), Vec::<String>::new());
}

/// Pushes something else just before our push, the first so many times.
struct Faster {
    origin: Mutex<(Origin, usize)>,
    path: &'static str,
}

#[async_trait]
impl Steps for Faster {
    async fn before(&self, step: &'static str) -> Result<(), ambient::Fault> {
        let mut held = self.origin.lock().unwrap();
        if step == "source.push" && held.1 > 0 {
            held.1 -= 1;
            let text = format!("faster {}\n", held.1);
            held.0.git(&["pull", "-q", "--rebase", "origin", "main"]);
            held.0.write(self.path, text).push();
        }
        Ok(())
    }

    async fn after(&self, _: &'static str) -> Result<(), ambient::Fault> {
        Ok(())
    }
}

#[tokio::test]
async fn who_is_overtaken_tries_again_unless_the_same_file_was_changed() {
    for (path, times, wins) in [("other.yaml", 2, true), ("agents.yaml", 1, false)] {
        let mut world = World::new();
        let origin = world.origin("ops");
        origin.write("agents.yaml", "limit: 1\n").push();
        let (spec, bare) = (pushing(url(&origin)), origin.bare.clone());
        world.steps = Arc::new(Faster { origin: Mutex::new((origin, times)), path });
        let ended = world.git().commit(UID, &spec, &edit("limit: 1\n", "limit: 2\n")).await;
        let log = git::git_in(&bare, &["log", "--format=%s", "main"]).stdout;
        let log = String::from_utf8(log).unwrap();
        if wins {
            ended.unwrap();
            // Everybody's commit is there, in a line.
            assert_eq!(log, "Raise the limit\nchange\nchange\nchange\n");
        } else {
            let error = ended.unwrap_err();
            assert!(matches!(error, GitError::Conflict { .. }), "{error}");
            assert_eq!(log, "change\nchange\n");
        }
    }
}

#[tokio::test]
async fn a_push_whose_answer_is_lost_is_found_and_not_done_twice() {
    let world = World::new();
    let origin = world.origin("ops");
    origin.write("agents.yaml", "limit: 1\n").push();
    let http = GitHttp::serve(&world.repos()).await;
    http.fault(Fault::Lost("/git-receive-pack"));
    let spec = pushing(over_http(&http, "ops"));
    let done = world.git().commit(UID, &spec, &edit("limit: 1\n", "limit: 2\n")).await.unwrap();
    assert_eq!(origin.at_origin(&["rev-parse", "main"]), done.commit);
    assert_eq!(origin.at_origin(&["rev-list", "--count", "main"]), "2");
}

#[tokio::test]
async fn a_repository_that_takes_no_push_says_why() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let origin = world.origin("ops");
    origin.write("agents.yaml", "limit: 1\n").push();
    let hook = origin.bare.join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho main is protected >&2\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let change = edit("limit: 1\n", "limit: 2\n");
    let error = world.git().commit(UID, &pushing(url(&origin)), &change).await.unwrap_err();
    let error = error.to_string().replace(&shown(world.dir.path())[1..], "DIR");
    insta::assert_snapshot!(error, @"DIR/repos/ops does not let us push: [remote rejected] (pre-receive hook declined) main is protected; let the token push to main, or change the file there yourself");
}

#[tokio::test]
async fn a_crash_around_a_push_never_makes_two() {
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0..2 {
            let mut world = World::new();
            let origin = world.origin("ops");
            origin.write("agents.yaml", "limit: 1\n").push();
            let spec = pushing(url(&origin));
            let change = edit("limit: 1\n", "limit: 2\n");
            world.steps = Arc::new(ScriptedSteps::new(Some((n, mode))));
            assert!(world.git().commit(UID, &spec, &change).await.is_err());
            world.steps = Arc::new(ambient::FreeSteps);
            world.git().commit(UID, &spec, &change).await.unwrap();
            assert_eq!(origin.at_origin(&["rev-list", "--count", "main"]), "2", "{mode:?} {n}");
        }
    }
}

#[tokio::test]
async fn in_a_work_tree_one_file_is_committed_and_no_hook_runs() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let origin = world.origin("ops");
    origin.write("specs/a.yaml", "a: 1\n").write("b.txt", "1").push();
    let hook = origin.work.join(".git/hooks/pre-commit");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    origin.write("b.txt", "2");
    origin.git(&["add", "b.txt"]);
    origin.write("specs/a.yaml", "a: 2\n").write("specs/new.yaml", "n: 1\n");
    let here = world.git();
    let author = Author { name: "Ada".to_owned(), email: "ada@localhost".to_owned() };
    let commit = async |name: &str| {
        let file = origin.work.join(name);
        here.commit_here(&file, "By chat", &author).await
    };
    let first = commit("specs/a.yaml").await.unwrap();
    assert_eq!(
        origin.git(&["show", "--name-only", "--format=%an %s", "HEAD"]),
        "Ada By chat\n\nspecs/a.yaml"
    );
    assert_eq!(commit("specs/a.yaml").await.unwrap(), first);
    commit("specs/new.yaml").await.unwrap();
    // What they had staged is staged still.
    assert_eq!(origin.git(&["status", "--porcelain"]), "M  b.txt");
    let file = origin.work.join("specs/a.yaml");
    let tree = here.work_tree(&file).await.unwrap();
    assert_eq!(tree, Some(fs::canonicalize(&origin.work).unwrap()));
    let outside = world.dir.path().join("x.yaml");
    let tree = here.work_tree(&outside).await.unwrap();
    assert_eq!(tree, None);
}

/// A Source of a spec, and a change of `agent/bot` in a file of it.
fn asked(from: SourceFrom, file: &str) -> (Source, pen::Edit) {
    let spec = serde_json::json!({"from": {"directory": {"path": "/"}}});
    let mut source = Source::new("ops", serde_json::from_value(spec).unwrap());
    source.metadata.uid = UID.to_owned();
    source.spec.from = from;
    let edit = pen::Edit {
        file: file.to_owned(),
        kind: Kind::Agent,
        name: "bot".to_owned(),
        patch: serde_json::json!({"instructions": "two"}),
        why: Some("Asked for in chat.".to_owned()),
        by: Some("Ada (slack:U1)".to_owned()),
    };
    (source, edit)
}

fn bot(words: &str) -> String {
    format!("kind: Agent # ours\nmetadata: {{name: bot}}\nspec: {{instructions: {words}}}\n")
}

#[tokio::test]
async fn a_change_in_a_directory_is_committed_by_whoever_asked_for_it_and_once() {
    let world = World::new();
    let origin = world.origin("ops");
    origin.write("specs/team/a.yaml", bot("one")).write("b.txt", "1").push();
    let from = |commit| {
        SourceFrom::Directory(DirectorySource { path: "ops-work/specs".to_owned(), commit })
    };
    let pen = SourcePen::new(world.repos(), world.git());
    let (source, edit) = asked(from(true), "team/a.yaml");
    let place = pen.write(&source, &edit).await.unwrap();
    let commit = origin.git(&["rev-parse", "HEAD"]);
    assert_eq!(place, format!("team/a.yaml at {}", &commit[..12]));
    let said = origin.git(&["show", "-s", "--format=%an|%cn|%B", "HEAD"]);
    let wanted = "Ada (slack:U1)|Open Dispatch|Set instructions of agent bot\n\nAsked for in chat.";
    assert_eq!(said.trim_end(), wanted);
    let files = origin.git(&["show", "--name-only", "--format=", "HEAD"]);
    assert_eq!(files.trim(), "specs/team/a.yaml");
    assert_eq!(fs::read_to_string(origin.work.join("specs/team/a.yaml")).unwrap(), bot("two"));
    // Once more, as after a crash: the file and its commit say it already.
    assert_eq!(pen.write(&source, &edit).await.unwrap(), place);
    assert_eq!(origin.git(&["rev-list", "--count", "HEAD"]), "2");
    // Where the last call came no further than the file, it is committed now.
    origin.write("specs/team/a.yaml", bot("three"));
    let three = pen::Edit { patch: serde_json::json!({"instructions": "three"}), ..edit.clone() };
    pen.write(&source, &three).await.unwrap();
    assert_eq!(origin.git(&["rev-list", "--count", "HEAD"]), "3");
    assert_eq!(origin.git(&["status", "--porcelain"]), "");
    // Nobody asked for a commit.
    let (quiet, edit) = asked(from(false), "team/a.yaml");
    assert_eq!(pen.write(&quiet, &edit).await.unwrap(), "team/a.yaml");
    assert_eq!(origin.git(&["status", "--porcelain"]).trim(), "M specs/team/a.yaml");
    // And where there is no work tree, there is none to make.
    let bare = DirectorySource { path: shown(world.dir.path()), commit: true };
    let (nowhere, edit) = asked(SourceFrom::Directory(bare), "a.yaml");
    let Err(PenError::Refused(why)) = pen.write(&nowhere, &edit).await else {
        panic!("it is no work tree");
    };
    assert!(why.contains("lies in no work tree of git"), "{why}");
}

#[tokio::test]
async fn a_change_of_a_file_that_has_moved_is_tried_again_and_not_given_up() {
    let world = World::new();
    let origin = world.origin("ops");
    origin.write("old.yaml", bot("one")).push();
    origin.git(&["mv", "old.yaml", "new.yaml"]);
    origin.push();
    let pen = SourcePen::new(world.repos(), world.git());
    let (source, edit) = asked(SourceFrom::Git(pushing(url(&origin))), "old.yaml");
    let Err(PenError::Failed(why)) = pen.write(&source, &edit).await else {
        panic!("it is given up");
    };
    assert_eq!(
        why,
        "old.yaml is not there any more; if it was moved, it is written where the source reads it \
         next, and if not, take agent/bot back into that file, or delete the override"
    );
    let moved = pen::Edit { file: "new.yaml".to_owned(), ..edit };
    pen.write(&source, &moved).await.unwrap();
    assert_eq!(origin.at_origin(&["show", "main:new.yaml"]), bot("two").trim_end());
    // The document alone may have moved as well, and in a directory it is no other matter.
    origin.git(&["pull", "-q", "--rebase", "origin", "main"]);
    origin.write("new.yaml", "# Nothing.\n").push();
    assert!(matches!(pen.write(&source, &moved).await, Err(PenError::Failed(_))));
    let path = "ops-work".to_owned();
    for file in ["old.yaml", "new.yaml"] {
        let directory = DirectorySource { path: path.clone(), commit: false };
        let (source, edit) = asked(SourceFrom::Directory(directory), file);
        let Err(PenError::Failed(why)) = pen.write(&source, &edit).await else {
            panic!("{file} is given up");
        };
        assert!(why.contains("if it was moved"), "{why}");
    }
}

#[tokio::test]
async fn a_repository_is_reached_without_being_fetched() {
    let world = World::new();
    let origin = world.origin("ops");
    let commit = origin.write("a.yaml", "a").push();
    let git = world.git();
    let found = git.reach(&url(&origin)).await;
    assert_eq!(found[0].1, Ok(commit));
    let none = GitSource { branch: Some("nowhere".to_owned()), ..url(&origin) };
    assert!(matches!(git.reach(&none).await[0].1, Err(GitError::NoBranch { .. })));
    assert!(!world.data().exists());
}
