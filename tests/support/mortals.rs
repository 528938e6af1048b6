//! Reporters that die where they are told to, and what they leave.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    sync::Arc,
};

use open_dispatch::{resource::Sprite, runtime::local::LocalRuntime};
use sprite_reporter::{steps::CRASH_AT, wire::Event};

use crate::local::Stage;

/// Reporters that die, one for each script. They are all written before the first one starts: a
/// file that some child of ours still has open for writing cannot be started.
pub struct Mortals {
    directory: tempfile::TempDir,
}

impl Mortals {
    pub fn new(scripts: impl Iterator<Item = String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("sprite-reporter");
        symlink(env!("CARGO_BIN_EXE_open-dispatch"), &program).unwrap();
        for script in scripts {
            let path = directory.path().join(&script);
            let line = format!("{CRASH_AT}='{script}' exec {} \"$@\"", program.display());
            fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { directory }
    }

    /// A runtime whose reporters follow a script.
    pub fn runtime(&self, stage: &Stage, script: &str) -> Arc<LocalRuntime> {
        let mut config = stage.config.clone();
        config.reporter = Some(self.directory.path().join(script));
        LocalRuntime::new(config)
    }
}

/// The run's log.
pub fn log(stage: &Stage, sprite: &Sprite) -> String {
    fs::read_to_string(stage.run_dir(sprite).log()).unwrap_or_default()
}

/// The steps that reporters of a run have passed.
pub fn passed(stage: &Stage, sprite: &Sprite) -> Vec<String> {
    let log = log(stage, sprite);
    log.lines().filter_map(|line| line.strip_prefix("step ")).map(str::to_owned).collect()
}

/// The events that are whole in the spool.
pub fn spooled(stage: &Stage, sprite: &Sprite) -> Vec<Event> {
    let spool = stage.run_dir(sprite).spool();
    let mut files: Vec<PathBuf> =
        fs::read_dir(spool).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
