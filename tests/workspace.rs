//! What surrounds an agent on this machine: its worktree, its sandbox, its files, through the real
//! reporter, a real shell and real git.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use open_dispatch::{
    resource::{
        EnvEntry, ExitReason, Isolation, Kind, LocalRuntime as LocalSpec, OwnerReference, Repo,
        RuntimeSpec, Sprite,
    },
    runtime::{Cleaned, Runtime},
};

use sprite_reporter::wire::{EventBody, Stream};

#[path = "support/local.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod local;

use local::{Stage, TOKEN};

/// The owner of all sprites here.
const OWNER: &str = "owner-1";

fn git(directory: &Path, arguments: &[&str]) -> String {
    let done = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// A repository with one commit, in the home of the stage.
fn repository(stage: &Stage) -> PathBuf {
    let place = stage.home.path().join("project");
    fs::create_dir(&place).unwrap();
    git(&place, &["init", "-q", "-b", "main"]);
    fs::write(place.join("file"), "first\n").unwrap();
    git(&place, &["add", "file"]);
    git(&place, &["commit", "-q", "-m", "first"]);
    place
}

fn sprite(
    stage: &Stage,
    n: u32,
    isolation: Isolation,
    workdir: Option<&str>,
    task: &str,
) -> Sprite {
    let mut sprite = stage.sprite(task);
    sprite.metadata.uid = format!("{}-{n}", sprite.metadata.uid);
    sprite.metadata.owner_references = vec![OwnerReference {
        api_version: String::new(),
        kind: Kind::Agent,
        name: "bot".into(),
        uid: OWNER.into(),
        controller: true,
    }];
    sprite.spec.runtime = RuntimeSpec::Local(LocalSpec {
        workdir: workdir.map(Into::into),
        isolation: Some(isolation),
    });
    sprite
}

/// What it printed on its standard output.
fn printed(stage: &Stage, sprite: &Sprite) -> String {
    let held = stage.held.lock().unwrap();
    let bodies = held.get(&sprite.metadata.uid).into_iter().flatten();
    let bytes = bodies.filter_map(|body| match body {
        EventBody::Log { stream: Stream::Stdout, chunk } => Some(chunk.bytes()),
        _ => None,
    });
    String::from_utf8(bytes.flatten().collect()).unwrap()
}

/// Runs a sprite to its end; answers how it ended, and what it printed.
async fn lives(stage: &Stage, sprite: &Sprite) -> (ExitReason, String) {
    stage.runtime.start(sprite, TOKEN).await.unwrap();
    let reason = stage.until_gone(sprite).await;
    let message = match stage.runtime.observe(sprite).await.unwrap() {
        open_dispatch::runtime::Observed::Gone { exit: Some(exit) } => exit.message,
        other => panic!("{other:?}"),
    };
    let said = format!("{}{message}", printed(stage, sprite));
    stage.runtime.clean(sprite).await.unwrap();
    (reason, said)
}

const COMMIT: &str = "git -c user.name=T -c user.email=t@example.com commit -qam mine";

#[tokio::test]
async fn a_worktree_is_made_once_and_reused_as_it_is_dirty_or_not() {
    let stage = Stage::new();
    stage.serve().await;
    let project = repository(&stage);
    let run = |n, task: &str| sprite(&stage, n, Isolation::Worktree, Some("~/project"), task);
    let (reason, said) = lives(&stage, &run(1, "git branch --show-current; echo 2 >> file")).await;
    assert_eq!(reason, ExitReason::Completed, "{said}");
    assert_eq!(said, "open-dispatch/bot\n");
    let (reason, said) = lives(&stage, &run(2, "cat file; pwd")).await;
    let place = fs::canonicalize(stage.config.work.join(OWNER)).unwrap();
    assert_eq!((reason, said), (ExitReason::Completed, format!("first\n2\n{}\n", place.display())));
    assert_eq!(fs::read_to_string(project.join("file")).unwrap(), "first\n");
    assert_eq!(git(&project, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_worktree_that_a_crash_left_half_made_is_made_anew_or_mended() {
    let stage = Stage::new();
    stage.serve().await;
    let project = repository(&stage);
    let place = stage.config.work.join(OWNER);
    let beside = stage.config.work.join(format!(".tree-{OWNER}"));
    fs::create_dir_all(&stage.config.work).unwrap();
    // It died while git was at it.
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("half"), "").unwrap();
    let task = "git status --porcelain && cat file";
    let run = |n| sprite(&stage, n, Isolation::Worktree, Some("~/project"), task);
    assert_eq!(lives(&stage, &run(1)).await, (ExitReason::Completed, "first\n".into()));
    // It died behind the move.
    git(&project, &["worktree", "move", place.to_str().unwrap(), beside.to_str().unwrap()]);
    fs::rename(&beside, &place).unwrap();
    assert_eq!(lives(&stage, &run(2)).await, (ExitReason::Completed, "first\n".into()));
    let known = git(&project, &["worktree", "list", "--porcelain"]);
    assert!(known.contains(&format!("{}\n", place.display())), "{known}");
}

#[tokio::test]
async fn what_keeps_a_worktree_from_being_made_names_place_cause_and_mend() {
    let stage = Stage::new();
    stage.serve().await;
    let project = repository(&stage);
    fs::create_dir(stage.home.path().join("plain")).unwrap();
    git(&project, &["switch", "-q", "-c", "open-dispatch/bot"]);
    for (n, workdir, cause, mend) in [
        (1, "~/plain", "is in no git repository", "git init"),
        (2, "~/missing", "is missing", "make it, or name another"),
        (3, "~/project", "already", "let go of open-dispatch/bot there"),
    ] {
        let sprite = sprite(&stage, n, Isolation::Worktree, Some(workdir), "true");
        let (reason, said) = lives(&stage, &sprite).await;
        assert_eq!(reason, ExitReason::WorkspaceFailed, "{said}");
        let place = stage.home.path().join(workdir.strip_prefix("~/").unwrap());
        for part in [place.to_str().unwrap(), cause, mend] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}

#[tokio::test]
async fn a_worktree_goes_with_its_owner_unless_work_is_in_it() {
    for (task, kept) in [
        ("true".to_owned(), false),
        ("echo new > untracked".to_owned(), true),
        ("echo 2 >> file".to_owned(), true),
        (format!("echo 2 >> file; {COMMIT}"), true),
        (format!("echo 2 >> file; {COMMIT}; git branch -q elsewhere"), false),
        (format!("echo 2 >> file; {COMMIT}; git checkout -q --detach main"), true),
    ] {
        let stage = Stage::new();
        stage.serve().await;
        let project = repository(&stage);
        let sprite = sprite(&stage, 1, Isolation::Worktree, Some("~/project"), &task);
        let (reason, said) = lives(&stage, &sprite).await;
        assert_eq!(reason, ExitReason::Completed, "{task}: {said}");
        assert_eq!(stage.runtime.keeps().await.unwrap(), [OWNER]);
        let place = stage.config.work.join(OWNER);
        let cleaned = stage.runtime.discard(OWNER).await.unwrap();
        assert_eq!(matches!(cleaned, Cleaned::KeptWork { .. }), kept, "{task}");
        assert_eq!(place.exists(), kept, "{task}");
        let branches = git(&project, &["branch", "--list", "open-dispatch/*"]);
        assert_eq!(!branches.is_empty(), kept, "{task}: {branches}");
        if !kept {
            assert_eq!(stage.runtime.keeps().await.unwrap(), Vec::<String>::new());
            assert_eq!(git(&project, &["worktree", "list"]).lines().count(), 1);
            assert_eq!(stage.runtime.discard(OWNER).await.unwrap(), Cleaned::All, "again");
        }
    }
}

#[tokio::test]
async fn worktrees_of_one_remote_share_a_clone() {
    let stage = Stage::new();
    stage.serve().await;
    let project = repository(&stage);
    git(&project, &["branch", "-q", "feature"]);
    let task = format!("git log --format=%s; echo 2 >> file; {COMMIT}; git branch --show-current");
    let mut sprite = sprite(&stage, 1, Isolation::Worktree, None, &task);
    sprite.spec.repo = Some(open_dispatch::resource::Repo {
        url: Some(format!("file://{}", project.display())),
        branch: Some("feature".into()),
        ..Default::default()
    });
    let (reason, said) = lives(&stage, &sprite).await;
    assert_eq!(reason, ExitReason::Completed, "{said}");
    assert!(said.ends_with("first\nopen-dispatch/bot\n"), "{said}");
    assert_eq!(fs::read_dir(stage.config.work.join("repos")).unwrap().count(), 1);
    assert!(matches!(stage.runtime.discard(OWNER).await.unwrap(), Cleaned::KeptWork { .. }));
}

#[tokio::test]
async fn a_shared_clone_goes_with_the_last_that_used_it_and_never_with_work() {
    let stage = Stage::new();
    stage.serve().await;
    let project = repository(&stage);
    let clones = || {
        let entries = fs::read_dir(stage.config.work.join("repos")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    for n in [1, 2] {
        let mut sprite = sprite(&stage, n, Isolation::Worktree, None, "git log --format=%s");
        let owner = &mut sprite.metadata.owner_references[0];
        (owner.uid, owner.name) = (format!("owner-{n}"), format!("bot-{n}"));
        sprite.spec.repo =
            Some(Repo { url: Some(project.display().to_string()), ..Repo::default() });
        assert_eq!(lives(&stage, &sprite).await.0, ExitReason::Completed);
    }
    let [shared] = clones().try_into().unwrap();
    assert_eq!(stage.runtime.discard("owner-1").await.unwrap(), Cleaned::All);
    stage.runtime.sweep().await.unwrap();
    assert_eq!(clones(), std::slice::from_ref(&shared), "the other agent's worktree is of it");
    // A branch that the remote does not have.
    git(&shared, &["switch", "-q", "-c", "mine"]);
    git(&shared, &["commit", "-q", "--allow-empty", "-m", "mine"]);
    assert_eq!(stage.runtime.discard("owner-2").await.unwrap(), Cleaned::All);
    stage.runtime.sweep().await.unwrap();
    assert_eq!(clones(), std::slice::from_ref(&shared), "somebody's commit is in it alone");
    git(&shared, &["push", "-q", "origin", "mine"]);
    let mut third = sprite(&stage, 3, Isolation::Worktree, None, "true");
    third.spec.repo = Some(Repo { url: Some(project.display().to_string()), ..Repo::default() });
    assert_eq!(lives(&stage, &third).await.0, ExitReason::Completed);
    assert_eq!(stage.runtime.discard(OWNER).await.unwrap(), Cleaned::All);
    // The server may have died here: no owner leads to the clone any more.
    assert_eq!(stage.runtime.keeps().await.unwrap(), Vec::<String>::new());
    assert_eq!(clones(), [shared]);
    stage.runtime.sweep().await.unwrap();
    assert_eq!(clones(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_sandbox_holds_and_leaves_room_to_work() {
    let stage = Stage::new();
    stage.serve().await;
    let project = repository(&stage);
    fs::write(stage.home.path().join("diary"), "private").unwrap();
    fs::write(stage.data.path().join("key"), "the-key").unwrap();
    let (home, data) = (stage.home.path().display(), stage.data.path().display());
    let outside = tempfile::tempdir().unwrap();
    let task = format!(
        "no() {{ if sh -c \"$1\" 2>/dev/null; then echo \"could $1\"; fi; }}
         no 'cat {home}/diary'; no 'ls {home}'; no 'cat {data}/key'; no 'ls {outside}'
         no 'echo x > {outside}/x'; no 'echo x > {home}/x'; no 'echo x >> {home}/project/file'
         no 'echo x > {home}/project/.git/hooks/post-commit'
         no 'git config --file {home}/project/.git/config x.y z'
         no 'cat /proc/{server}/environ'; no 'kill -0 {server}'
         (setsid sh -c 'cat {home}/diary' 2>/dev/null && echo could as a child)
         set -e
         echo own > $HOME/note; echo t > $TMPDIR/t; echo a > $OPEN_DISPATCH_ARTIFACTS/a.txt
         echo x > /dev/null
         echo 2 >> file; git commit -qam mine; git log -1 --format='%s by %an'
         python3 -c 'print(6 * 7)'; git status --porcelain; sh -c 'echo $HOME' | grep -c home
         ",
        outside = outside.path().display(),
        server = std::process::id(),
    );
    let run = sprite(&stage, 1, Isolation::Sandbox, Some("~/project"), &task);
    let (reason, said) = lives(&stage, &run).await;
    if said.contains("isolation: sandbox cannot be kept here") {
        assert_eq!(reason, ExitReason::WorkspaceFailed);
        eprintln!("SKIPPED: {said}");
        return;
    }
    assert_eq!((reason, said.as_str()), (ExitReason::Completed, "mine by bot\n42\n1\n"));
    assert_eq!(git(&project, &["log", "-1", "--format=%s", "open-dispatch/bot"]), "mine");
    let hello = stage.held.lock().unwrap()[&run.metadata.uid][0].clone();
    let EventBody::Hello { containment, .. } = hello else { panic!("{hello:?}") };
    assert!(containment.data_hidden && containment.note.contains("sandbox"), "{containment:?}");
    // Its home is its own, and stays.
    let again =
        sprite(&stage, 2, Isolation::Sandbox, Some("~/project"), "cat $HOME/note; cat file");
    assert_eq!(lives(&stage, &again).await, (ExitReason::Completed, "own\nfirst\n2\n".into()));
}

#[tokio::test]
async fn a_sandboxed_agent_cannot_turn_its_worktree_into_a_way_out() {
    let stage = Stage::new();
    stage.serve().await;
    repository(&stage);
    let other = stage.home.path().join("other");
    fs::create_dir_all(other.join("worktrees/x")).unwrap();
    fs::write(other.join("worktrees/x/commondir"), "../..\n").unwrap();
    let task = format!("echo 'gitdir: {}/worktrees/x' > .git", other.display());
    let run = |n, task: &str| sprite(&stage, n, Isolation::Sandbox, Some("~/project"), task);
    let (reason, said) = lives(&stage, &run(1, &task)).await;
    assert_eq!(reason, ExitReason::Completed, "{said}");
    let write = format!("echo x > {}/worktrees/x/y", other.display());
    let (reason, said) = lives(&stage, &run(2, &write)).await;
    assert_eq!(reason, ExitReason::WorkspaceFailed, "{said}");
    assert!(said.contains("turned to another repository"), "{said}");
    assert!(!other.join("worktrees/x/y").exists());
}

#[tokio::test]
async fn a_sandbox_without_a_repository_has_a_directory_of_its_own() {
    let stage = Stage::new();
    stage.serve().await;
    let run = |n, task: &str| sprite(&stage, n, Isolation::Sandbox, None, task);
    assert_eq!(lives(&stage, &run(1, "echo 1 > a")).await, (ExitReason::Completed, String::new()));
    assert_eq!(lives(&stage, &run(2, "cat a")).await, (ExitReason::Completed, "1\n".into()));
    let kept = stage.runtime.discard(OWNER).await.unwrap();
    assert!(matches!(kept, Cleaned::KeptWork { .. }));
}

#[tokio::test]
async fn what_a_sandboxed_agent_planted_gets_no_further_when_its_places_go() {
    for (workdir, before) in [(None, "git init -q"), (Some("~/project"), "rm .git; git init -q")] {
        let stage = Stage::new();
        stage.serve().await;
        repository(&stage);
        let out = stage.home.path().join("out");
        let task = format!(
            "{before}; git config filter.x.clean 'echo x > {out}; cat'
             echo '* filter=x' > .gitattributes; echo a > a; git add -A 2> /dev/null
             touch -d '1 hour ago' a .gitattributes",
            out = out.display(),
        );
        let run = sprite(&stage, 1, Isolation::Sandbox, workdir, &task);
        assert_eq!(lives(&stage, &run).await, (ExitReason::Completed, String::new()));
        let kept = stage.runtime.discard(OWNER).await.unwrap();
        assert!(matches!(kept, Cleaned::KeptWork { .. }), "{kept:?}");
        assert!(!out.exists(), "{before}: its filter wrote outside of the sandbox");
    }
}

/// A shell's words that plant whatever git would run, once as settings and once as hooks.
fn planted(scope: &str, hooks: &str, out: &Path) -> String {
    let out = out.display();
    format!(
        "mkdir -p {hooks}; for hook in post-checkout reference-transaction; do
           printf '#!/bin/sh\\necho $0 >> {out}\\n' > {hooks}/$hook; chmod +x {hooks}/$hook; done
         git config {scope} core.hooksPath {hooks}
         git config {scope} core.fsmonitor 'echo fsmonitor >> {out}; false'
         git config {scope} filter.x.smudge 'echo filter >> {out}; cat'
         {}",
        promised(scope, &format!("echo ssh >> {out}"))
    )
}

/// A shell's words that let git fetch what is missing by way of this command.
fn promised(scope: &str, command: &str) -> String {
    format!(
        "git config {scope} core.sshCommand '{command}'
         git config {scope} remote.origin.url ssh://localhost/nowhere
         git config {scope} remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*'
         git config {scope} remote.origin.promisor true
         git config {scope} remote.origin.partialclonefilter blob:none"
    )
}

/// A commit that no repository has.
const MISSING: &str = "0123456789012345678901234567890123456789";

#[tokio::test]
async fn what_a_sandboxed_agent_planted_in_its_home_is_not_run_for_its_next_run() {
    let stage = Stage::new();
    stage.serve().await;
    let project = repository(&stage);
    fs::write(project.join(".gitattributes"), "* filter=x\n").unwrap();
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "attributes"]);
    let out = stage.home.path().join("out");
    let task =
        format!("{}; rm -rf .git .gitattributes *", planted("--global", "$HOME/hooks", &out));
    let run = |n, url: String, task: &str| {
        let mut sprite = sprite(&stage, n, Isolation::Sandbox, None, task);
        sprite.spec.repo = Some(Repo { url: Some(url), ..Repo::default() });
        sprite
    };
    let first = run(1, project.display().to_string(), &task);
    assert_eq!(lives(&stage, &first).await.0, ExitReason::Completed);
    // Another address: a clone that is not there yet.
    let second = run(2, format!("file://{}", project.display()), "cat file");
    let (reason, _) = lives(&stage, &second).await;
    assert_eq!(reason, ExitReason::Completed);
    assert!(printed(&stage, &second).ends_with("first\n"), "it is made anew");
    assert_eq!(fs::read_to_string(&out).unwrap_or_default(), "", "run outside of the sandbox");
}

#[tokio::test]
async fn a_plain_directory_in_which_a_sandboxed_agent_planted_a_repository_stays_plain() {
    let stage = Stage::new();
    stage.serve().await;
    let notes = stage.home.path().join("notes");
    fs::create_dir(&notes).unwrap();
    let out = stage.home.path().join("out");
    let task = format!(
        "git init -q; echo '* filter=x' > .gitattributes; git add .; git commit -qm planted; {}",
        planted("--local", "$PWD/.git/hooks", &out)
    );
    let run = |n, task: &str| sprite(&stage, n, Isolation::Sandbox, Some("~/notes"), task);
    assert_eq!(lives(&stage, &run(1, &task)).await, (ExitReason::Completed, String::new()));
    let (reason, said) = lives(&stage, &run(2, "pwd")).await;
    let place = format!("{}\n", fs::canonicalize(&notes).unwrap().display());
    assert_eq!((reason, said), (ExitReason::Completed, place), "where it was before");
    // Another agent that is sent there has a worktree of it, and git is kept in while it makes it.
    let mut other = run(3, "ls .gitattributes");
    other.metadata.owner_references[0].uid = "owner-2".into();
    let (reason, said) = lives(&stage, &other).await;
    assert_eq!((reason, said.as_str()), (ExitReason::Completed, ".gitattributes\n"));
    assert_eq!(fs::read_to_string(&out).unwrap_or_default(), "", "run outside of the sandbox");
}

/// The `n`th sandboxed run in `~/notes`, by an agent of its own.
fn in_notes(stage: &Stage, n: u32, task: &str) -> Sprite {
    let mut sprite = sprite(stage, n, Isolation::Sandbox, Some("~/notes"), task);
    sprite.metadata.owner_references[0].uid = format!("owner-{n}");
    let secret = Some("deploy-key".to_owned());
    sprite.spec.env = vec![EnvEntry { name: "KEY".into(), value: None, from_secret: secret }];
    sprite
}

#[tokio::test]
async fn git_that_is_only_asked_fetches_nothing_for_what_a_sandboxed_agent_planted() {
    let stage = Stage::new();
    stage.serve().await;
    let notes = stage.home.path().join("notes");
    fs::create_dir(&notes).unwrap();
    let out = stage.home.path().join("out");
    let evil = format!("env > {}/env; echo ssh >> {}", notes.display(), out.display());
    let task = format!("git init -q; {}; echo {MISSING} > .git/HEAD", promised("--local", &evil));
    let planted = in_notes(&stage, 1, &task);
    assert_eq!(lives(&stage, &planted).await, (ExitReason::Completed, String::new()));
    let (reason, said) = lives(&stage, &in_notes(&stage, 2, "true")).await;
    assert_eq!(reason, ExitReason::WorkspaceFailed, "{said}");
    assert!(said.contains("there is no commit yet"), "{said}");
    for trace in [out, notes.join("env")] {
        assert!(!trace.exists(), "{} was written", trace.display());
    }
}

#[tokio::test]
async fn the_runs_secrets_are_not_told_to_git_where_a_sandboxed_agent_planted_its_settings() {
    let stage = Stage::new();
    stage.serve().await;
    let notes = stage.home.path().join("notes");
    fs::create_dir(&notes).unwrap();
    let (trace, out) = (notes.join(".git/env"), stage.home.path().join("out"));
    let evil = format!("env > {}; echo ssh >> {}", trace.display(), out.display());
    let task = format!(
        "git init -q; git commit -q --allow-empty -m planted; {}",
        promised("--local", &evil)
    );
    let planted = in_notes(&stage, 1, &task);
    assert_eq!(lives(&stage, &planted).await, (ExitReason::Completed, String::new()));
    let mut other = in_notes(&stage, 2, "true");
    other.spec.repo = Some(Repo { github: Some("nobody/nothing".into()), ..Repo::default() });
    let (reason, said) = lives(&stage, &other).await;
    assert_eq!(reason, ExitReason::WorkspaceFailed, "{said}");
    assert!(said.contains("git fetches without your keys: leave out repo or workdir"), "{said}");
    let told = fs::read_to_string(&trace).unwrap();
    assert!(told.contains("GIT_TERMINAL_PROMPT=0"), "{told}");
    assert!(!told.contains("s3cret-of-deploy"), "{told}");
    assert!(!out.exists(), "run outside of the sandbox");
}

#[tokio::test]
async fn nothing_is_fetched_when_it_is_asked_whether_work_is_left() {
    let stage = Stage::new();
    stage.serve().await;
    repository(&stage);
    let out = stage.home.path().join("out");
    let task = format!(
        "{}; echo {MISSING} > $(git rev-parse --git-dir)/HEAD",
        promised("--local", &format!("echo ssh >> {}", out.display()))
    );
    let run = sprite(&stage, 1, Isolation::Worktree, Some("~/project"), &task);
    let (reason, said) = lives(&stage, &run).await;
    assert_eq!(reason, ExitReason::Completed, "{said}");
    let kept = stage.runtime.discard(OWNER).await.unwrap();
    assert!(matches!(kept, Cleaned::KeptWork { .. }), "{kept:?}");
    assert!(!out.exists(), "git asked the remote that the agent chose");
}

#[tokio::test]
async fn a_worktree_of_a_bare_repository_goes_with_its_note_and_its_branch() {
    for isolation in [Isolation::Worktree, Isolation::Sandbox] {
        let stage = Stage::new();
        stage.serve().await;
        let project = repository(&stage);
        let bare = stage.home.path().join("bare");
        git(&project, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
        // As if somebody committed to the sources of their home.
        git(stage.home.path(), &["init", "-q"]);
        let run = sprite(&stage, 1, isolation, Some("~/bare"), "git log --format=%s");
        let ended = lives(&stage, &run).await;
        assert_eq!(ended, (ExitReason::Completed, "first\n".into()), "{isolation:?}");
        assert_eq!(stage.runtime.discard(OWNER).await.unwrap(), Cleaned::All);
        assert_eq!(git(&bare, &["branch", "--list", "open-dispatch/*"]), "", "{isolation:?}");
        assert_eq!(git(&bare, &["worktree", "list"]).lines().count(), 1, "{isolation:?}");
        assert_eq!(fs::read_dir(bare.join("worktrees")).map_or(0, Iterator::count), 0);
    }
}

#[tokio::test]
async fn a_look_for_clones_that_nobody_shares_holds_up_nobody_else() {
    let stage = Stage::new();
    let work = &stage.config.work;
    let clone = work.join("repos/clone");
    fs::create_dir_all(&clone).unwrap();
    let (note, plain) = (work.join("owner-9.tree"), work.join("plain"));
    let json = serde_json::json!({"of": clone, "branch": "open-dispatch/bot"}).to_string();
    fs::write(&plain, &json).unwrap();
    // A disk that answers only once somebody else was served.
    assert!(Command::new("mkfifo").arg(&note).status().unwrap().success());
    let (served, waits) = std::sync::mpsc::channel();
    let disk = std::thread::spawn(move || {
        let in_time = waits.recv_timeout(local::HANGS / 6).is_ok();
        let mut pipe = fs::OpenOptions::new().write(true).open(&note).unwrap();
        fs::rename(&plain, &note).unwrap();
        pipe.write_all(json.as_bytes()).unwrap();
        in_time
    });
    let other = async { served.send(()).unwrap_or_default() };
    let (swept, ()) = tokio::join!(stage.runtime.sweep(), other);
    swept.unwrap();
    assert!(disk.join().unwrap(), "the only worker waited for the disk");
    assert!(clone.exists(), "a note names it");
    fs::remove_file(work.join("owner-9.tree")).unwrap();
    stage.runtime.sweep().await.unwrap();
    assert!(!clone.exists());
}
