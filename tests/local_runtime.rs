//! Sprites on this machine, through the runtime as the Sprite controller uses it: the real
//! reporter, a real shell, and a server that takes everything.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::{fs, path::Path, process::Command};

use open_dispatch::{
    resource::{EnvEntry, ExitReason, LocalRuntime as LocalSpec, Repo, RuntimeSpec, SpriteSpec},
    runtime::{Cleaned, Error, Observed, Runtime, local::LocalRuntime},
};
use sprite_reporter::process;

#[path = "support/local.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod local;

use local::{HANGS, Stage, TOKEN, is_running, pause};

#[tokio::test]
async fn a_sprite_lives_from_absent_to_absent() {
    let stage = Stage::new();
    stage.serve().await;
    let mut wakes = stage.runtime.wakes().unwrap();
    assert!(stage.runtime.wakes().is_none(), "taken once");
    let sprite = stage.sprite("echo in $(pwd); while ! [ -e go ]; do sleep 0.02; done; exit 3");
    assert_eq!(stage.runtime.observe(&sprite).await.unwrap(), Observed::Absent);
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    stage.until(&sprite, is_running).await;
    assert!(matches!(stage.runtime.clean(&sprite).await, Err(Error::Transient(_))));
    fs::write(stage.home.path().join("go"), "").unwrap();
    let woken = tokio::time::timeout(HANGS, wakes.recv()).await.unwrap();
    assert_eq!(woken.as_deref(), Some(sprite.metadata.uid.as_str()));
    assert_eq!(stage.until_gone(&sprite).await, ExitReason::Failed);
    let home = fs::canonicalize(stage.home.path()).unwrap();
    assert_eq!(stage.printed(&sprite), format!("in {}\n", home.display()));
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    assert_eq!(stage.until_gone(&sprite).await, ExitReason::Failed, "it does not run again");
    assert_eq!(stage.runtime.clean(&sprite).await.unwrap(), Cleaned::All);
    assert_eq!(stage.runtime.clean(&sprite).await.unwrap(), Cleaned::All, "again is the same");
    assert_eq!(stage.runtime.observe(&sprite).await.unwrap(), Observed::Absent);
}

#[tokio::test]
async fn starts_at_once_run_one_agent() {
    let stage = Stage::new();
    stage.serve().await;
    let sprite = stage.sprite("echo once >> ran; sleep 0.2");
    let other = LocalRuntime::new(stage.config.clone());
    let (a, b) = tokio::join!(stage.runtime.start(&sprite, TOKEN), other.start(&sprite, TOKEN),);
    // One of two that make the directory at once may lose that, and is tried again.
    assert!(a.is_ok() || b.is_ok(), "{a:?} {b:?}");
    assert_eq!(stage.until_gone(&sprite).await, ExitReason::Completed);
    assert_eq!(fs::read_to_string(stage.home.path().join("ran")).unwrap(), "once\n");
}

#[tokio::test]
async fn killing_ends_the_tree_with_the_reason_of_the_spec() {
    let stage = Stage::new();
    stage.serve().await;
    let mut sprite = stage.sprite("trap '' TERM; echo on > on; setsid sleep 600 & sleep 600");
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    while !stage.home.path().join("on").exists() {
        pause().await;
    }
    sprite.spec.stop = Some(ExitReason::TimedOut);
    stage.runtime.kill(&sprite).await.unwrap();
    assert_eq!(stage.until_gone(&sprite).await, ExitReason::TimedOut);
    stage.runtime.kill(&sprite).await.unwrap();
}

#[tokio::test]
async fn a_sprite_whose_reporter_died_is_orphaned_until_it_is_recovered() {
    let stage = Stage::new();
    let sprite = stage.sprite("echo on > on; setsid sleep 600 & sleep 600");
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    while !stage.home.path().join("on").exists() {
        pause().await;
    }
    let Observed::Running { process: Some(process) } = stage.until(&sprite, is_running).await
    else {
        panic!()
    };
    let reporter = process::Handle::open(&process).unwrap().unwrap();
    reporter.signal(rustix::process::Signal::KILL).unwrap();
    let orphaned = stage.until(&sprite, |seen| !is_running(seen)).await;
    assert_eq!(orphaned, Observed::Orphaned { exit: None });
    stage.serve().await;
    stage.runtime.recover(&sprite, TOKEN).await.unwrap();
    assert_eq!(stage.until_gone(&sprite).await, ExitReason::ReporterLost);
    let tree = process::Tree::left_behind(&sprite.metadata.uid, None);
    assert_eq!(tree.members().unwrap(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_run_is_never_seen_half_removed() {
    let stage = Stage::new();
    stage.serve().await;
    let sprite = stage.sprite("true");
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    stage.until_gone(&sprite).await;
    let run = stage.run_dir(&sprite);
    // Much to remove, before and behind what says that the run had begun.
    for directory in 0..40 {
        let directory = run.path().join(format!("{directory}"));
        fs::create_dir(&directory).unwrap();
        for file in 0..50 {
            fs::write(directory.join(format!("{file}")), "").unwrap();
        }
    }
    // What a removal left that did not finish, also of a clone.
    let left = [&stage.config.runs, &stage.config.work]
        .map(|place| place.join(format!(".gone-{}", sprite.metadata.uid)));
    for left in &left {
        fs::create_dir_all(left.join("half")).unwrap();
    }
    let looked = std::thread::spawn({
        let run = run.clone();
        move || {
            while run.path().exists() {
                let begun = run.path().join("state.json").exists();
                if !begun && run.path().exists() {
                    return false;
                }
            }
            true
        }
    });
    assert_eq!(stage.runtime.clean(&sprite).await.unwrap(), Cleaned::All);
    assert!(looked.join().unwrap(), "for a while it looked as if it had never begun");
    assert!(left.iter().all(|left| !left.exists()));
    assert_eq!(fs::read_dir(&stage.config.runs).unwrap().count(), 0);
}

#[tokio::test]
async fn after_a_reboot_nothing_lives_and_no_stranger_is_touched() {
    let stage = Stage::new();
    let sprite = stage.sprite("true");
    let run = stage.run_dir(&sprite);
    fs::create_dir_all(run.path()).unwrap();
    // This very process has the number that the reporter had before the reboot.
    let mut process = process::identity().unwrap();
    process.boot_id = "another".into();
    run.write_state(&sprite_reporter::rundir::State { process: process.clone(), cgroup: None })
        .unwrap();
    let orphaned = Observed::Orphaned { exit: None };
    assert_eq!(stage.runtime.observe(&sprite).await.unwrap(), orphaned);
    stage.runtime.kill(&sprite).await.unwrap();
    // Nor the one that has the number, but began at another time.
    process.boot_id = process::boot_id().unwrap();
    process.start_time += 1;
    run.write_state(&sprite_reporter::rundir::State { process, cgroup: None }).unwrap();
    assert_eq!(stage.runtime.observe(&sprite).await.unwrap(), orphaned);
    stage.runtime.kill(&sprite).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_read_is_unknown() {
    let stage = Stage::new();
    let sprite = stage.sprite("true");
    let run = stage.run_dir(&sprite);
    fs::create_dir_all(run.path()).unwrap();
    fs::write(run.path().join("state.json"), "{").unwrap();
    match stage.runtime.observe(&sprite).await.unwrap() {
        Observed::Unknown { why } => assert!(why.contains("state.json"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reporter_of_another_version_is_not_taken() {
    let stage = Stage::with(|config| config.reporter = Some("/bin/echo".into()));
    let error = stage.runtime.start(&stage.sprite("true"), TOKEN).await.unwrap_err();
    let Error::Terminal(message) = error else { panic!("{error:?}") };
    assert!(message.contains("/bin/echo is \""), "{message}");
}

#[tokio::test]
async fn a_secret_comes_from_the_servers_environment_and_is_masked() {
    let stage = Stage::new();
    stage.serve().await;
    let mut sprite = stage.sprite("echo $KEY | tee key; env | grep -c OPEN_DISPATCH");
    let entry = |secret: &str| EnvEntry {
        name: "KEY".into(),
        value: None,
        from_secret: Some(secret.into()),
    };
    sprite.spec.env = vec![entry("missing")];
    let error = stage.runtime.start(&sprite, TOKEN).await.unwrap_err();
    assert!(matches!(error, Error::SecretMissing(_)), "{error:?}");
    assert!(error.to_string().contains("open-dispatch secret set missing"), "{error}");
    sprite.spec.env = vec![entry("deploy-key")];
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    stage.until_gone(&sprite).await;
    assert_eq!(stage.printed(&sprite), "***\n1\n");
    let key = fs::read_to_string(stage.home.path().join("key")).unwrap();
    assert_eq!(key, "s3cret-of-deploy\n");
}

fn git(directory: &Path, arguments: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn a_clone_goes_with_its_sprite_unless_work_is_in_it() {
    let commit = "git -c user.name=T -c user.email=t@example.com commit -q --allow-empty -m mine";
    for (task, kept) in [
        ("true".to_owned(), false),
        ("echo work > file".to_owned(), true),
        (commit.to_owned(), true),
        (format!("{commit} && git push -q origin HEAD:mine"), false),
    ] {
        let stage = Stage::new();
        stage.serve().await;
        let origin = stage.home.path().join("origin");
        fs::create_dir(&origin).unwrap();
        git(&origin, &["init", "-q", "-b", "main"]);
        git(&origin, &["commit", "-q", "--allow-empty", "-m", "first"]);
        let mut sprite = stage.sprite(&task);
        sprite.spec.repo =
            Some(Repo { url: Some(format!("file://{}", origin.display())), ..Repo::default() });
        stage.runtime.start(&sprite, TOKEN).await.unwrap();
        assert_eq!(stage.until_gone(&sprite).await, ExitReason::Completed, "{task}");
        let path = stage.config.work.join(&sprite.metadata.uid);
        assert!(path.join(".git").exists());
        let cleaned = stage.runtime.clean(&sprite).await.unwrap();
        assert_eq!(path.exists(), kept, "{task}");
        assert_eq!(matches!(cleaned, Cleaned::KeptWork { .. }), kept, "{task}");
        assert!(!stage.run_dir(&sprite).path().exists());
    }
}

#[tokio::test]
async fn what_an_agent_planted_in_its_clone_sees_no_more_when_the_clone_is_cleaned() {
    let stage = Stage::new();
    stage.serve().await;
    let origin = stage.home.path().join("origin");
    fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "-q", "-b", "main"]);
    fs::write(origin.join("file"), "first\n").unwrap();
    git(&origin, &["add", "file"]);
    git(&origin, &["commit", "-q", "-m", "first"]);
    let (key, leaked) = (stage.config.data.join("key"), stage.home.path().join("leaked"));
    fs::write(&key, "the-installations-key").unwrap();
    // A filter that git runs when it must compare a file anew.
    let filter = format!("cat {} >> {}; cat", key.display(), leaked.display());
    let mut sprite = stage.sprite(&format!(
        "git config filter.x.clean '{filter}'; echo '* filter=x' > .git/info/attributes; \
         touch -d 2001-01-01 file"
    ));
    sprite.spec.repo =
        Some(Repo { url: Some(format!("file://{}", origin.display())), ..Repo::default() });
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    assert_eq!(stage.until_gone(&sprite).await, ExitReason::Completed);
    assert_eq!(stage.runtime.clean(&sprite).await.unwrap(), Cleaned::All);
    let hello = stage.held.lock().unwrap()[&sprite.metadata.uid][0].clone();
    let sprite_reporter::wire::EventBody::Hello { containment, .. } = hello else {
        panic!("{hello:?}")
    };
    if !containment.data_hidden {
        eprintln!("SKIPPED: this kernel hides nothing: {}", containment.note);
        return;
    }
    assert_eq!(fs::read_to_string(leaked).unwrap(), "", "it ran, and saw nothing");
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let stage = Stage::new();
    let refused = |change: fn(&mut SpriteSpec)| {
        let mut sprite = stage.sprite("true");
        change(&mut sprite.spec);
        let runtime = stage.runtime.clone();
        async move { runtime.start(&sprite, TOKEN).await.unwrap_err() }
    };
    let relative = refused(|spec| {
        spec.runtime =
            RuntimeSpec::Local(LocalSpec { workdir: Some("here".into()), ..LocalSpec::default() });
    });
    assert!(matches!(relative.await, Error::Terminal(why) if why.contains("not absolute")));
    let isolated = refused(|spec| {
        spec.runtime = RuntimeSpec::Local(LocalSpec {
            isolation: Some(open_dispatch::resource::Isolation::Worktree),
            ..LocalSpec::default()
        });
    });
    assert!(
        matches!(isolated.await, Error::Terminal(why) if why.contains("isolation worktree needs a repository"))
    );
}
