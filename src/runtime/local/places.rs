//! Where an agent works on this machine, and what it has there: decided from its sprite's spec.
//!
//! What outlives a sprite belongs to its owner, and stands below `work/` under the owner's uid:
//!
//! | place | what |
//! |---|---|
//! | `UID` | the worktree, the clone or the plain directory that is its own |
//! | `UID.tree` | of which repository the worktree is, and on which branch |
//! | `UID.plain` | which directory it was given in its sandbox that was in no repository |
//! | `UID.home` | its home, in a sandbox |
//! | `UID.files` | files that came with its turns |
//! | `UID.out`, `UID.told` | files that it made, and which of them were told |
//! | `repos/HASH` | a clone that worktrees share |
//!
//! A Job's clone belongs to the attempt, and goes with it: each attempt begins with a fresh one.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sprite_reporter::wire::{SandboxSpec, WorktreeSpec};

use super::{super::Error, LocalConfig, repo_spec, safe, sandbox, text, workspace};
use crate::resource::{Isolation, Kind, RuntimeSpec, Sprite};

/// The endings of what stands beside an owner's directory.
pub(super) const BESIDE: [&str; 6] = ["tree", "plain", "home", "files", "out", "told"];
/// Where clones are that worktrees share.
pub(super) const REPOS: &str = "repos";
/// How the branches of agents begin.
const BRANCHES: &str = "open-dispatch";
/// How many characters of a hash name a shared clone.
const HASH: usize = 16;

/// Whose a sprite's places are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner<'a> {
    pub(super) uid: &'a str,
    pub(super) name: &'a str,
    /// Whether what stands there outlives the sprite.
    pub(super) stays: bool,
}

impl<'a> Owner<'a> {
    pub(super) fn of(sprite: &'a Sprite) -> Result<Self, Error> {
        let metadata = &sprite.metadata;
        let (uid, name, stays) = match metadata.controller() {
            Some(owner) => (&owner.uid, &owner.name, owner.kind == Kind::Agent),
            None => (&metadata.uid, &metadata.name, false),
        };
        Ok(Self { uid: safe(uid)?, name: safe(name)?, stays })
    }
}

/// Where a sprite's agent works, and what it has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// Where it works.
    pub(super) workdir: PathBuf,
    /// Of what that is a worktree.
    pub(super) worktree: Option<WorktreeSpec>,
    /// What it is kept in.
    pub(super) sandbox: Option<SandboxSpec>,
    /// Where files are put that come with its turns.
    pub(super) attachments: PathBuf,
    /// Where it puts files that it made.
    pub(super) artifacts: PathBuf,
    /// Its own home.
    pub(super) home: Option<PathBuf>,
    /// A directory of its own to work in, to be made.
    own: Option<PathBuf>,
    /// Where the note of the worktree stands.
    note: PathBuf,
    /// A directory that was named and is in no repository, and where that is noted: what an agent
    /// makes of it later changes nothing.
    plain: Option<(PathBuf, PathBuf)>,
    /// Who commits, where nobody says.
    committer: String,
}

/// The note of a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The repository.
    pub(super) of: PathBuf,
    /// The branch that was made for it.
    pub(super) branch: String,
}

/// The directory that a sprite has for itself, where it has one.
pub(super) fn own(config: &LocalConfig, sprite: &Sprite) -> Result<PathBuf, Error> {
    let owner = Owner::of(sprite)?;
    let uid = if owner.stays { owner.uid } else { safe(&sprite.metadata.uid)? };
    Ok(config.work.join(uid))
}

/// Decides.
pub(super) fn places(config: &LocalConfig, sprite: &Sprite) -> Result<Places, Error> {
    let spec = &sprite.spec;
    let RuntimeSpec::Local(local) = &spec.runtime else {
        return Err(Error::Terminal("this sprite does not live on this machine".into()));
    };
    let owner = Owner::of(sprite)?;
    let at = |ending: &str| config.work.join(format!("{}.{ending}", owner.uid));
    let mut places = Places {
        workdir: config.work.join(owner.uid),
        worktree: None,
        sandbox: None,
        attachments: at("files"),
        artifacts: at("out"),
        home: None,
        own: None,
        note: at("tree"),
        plain: None,
        committer: owner.name.to_owned(),
    };
    let (named, has_repo) = (local.workdir.as_deref(), spec.repo.is_some());
    let isolation = local.isolation.unwrap_or(Isolation::None);
    // What the worktree is of, or would be.
    let source = match (named, &spec.repo) {
        (Some(_), _) => Some(workspace::place(named, has_repo, &config.home, Path::new("/"))?),
        (None, Some(repo)) => {
            let url = repo_spec(repo, Some(&config.home))?.url;
            Some(config.work.join(REPOS).join(hash(&url)))
        }
        (None, None) => None,
    };
    let tree = |of: PathBuf| -> Result<WorktreeSpec, Error> {
        Ok(WorktreeSpec { of: text(&of)?, branch: format!("{BRANCHES}/{}", owner.name) })
    };
    match isolation {
        Isolation::None => {
            let own = own(config, sprite)?;
            places.workdir = workspace::place(named, has_repo, &config.home, &own)?;
        }
        Isolation::Worktree => match source {
            Some(source) => places.worktree = Some(tree(source)?),
            None => {
                return Err(Error::Terminal(
                    "isolation worktree needs a repository: name a workdir that is in one, or a repo"
                        .into(),
                ));
            }
        },
        Isolation::Sandbox => {
            match source {
                Some(source) => {
                    let plain = at("plain");
                    let was_plain = || fs::read(&plain).is_ok_and(|it| it == bytes(&source));
                    if has_repo || is_in_repository(&source) && !was_plain() {
                        places.worktree = Some(tree(source)?);
                    } else {
                        sandbox::check_workdir(config, &source)?;
                        places.plain = Some((plain, source.clone()));
                        places.workdir = source;
                    }
                }
                None => places.own = Some(places.workdir.clone()),
            }
            let home = at("home");
            let sandbox = SandboxSpec {
                home: text(&home)?,
                write: Vec::new(),
                read: sandbox::readable(config, &spec.agent)?,
            };
            places.sandbox = Some(sandbox);
            places.home = Some(home);
        }
    }
    Ok(places)
}

impl Places {
    /// Makes what has to be there before the reporter begins.
    pub(super) fn make(&self) -> io::Result<()> {
        let own = self.own.iter().chain(&self.home);
        for place in own.chain([&self.attachments, &self.artifacts]) {
            DirBuilder::new().recursive(true).mode(0o700).create(place)?;
        }
        if let Some(WorktreeSpec { of, branch }) = &self.worktree {
            let note = Note { of: of.into(), branch: branch.clone() };
            write(&self.note, &serde_json::to_vec(&note)?)?;
        }
        if let Some((note, plain)) = &self.plain {
            write(note, bytes(plain))?;
        }
        if let Some(home) = &self.home {
            let settings = home.join(".gitconfig");
            if !settings.exists() {
                write(&settings, gitconfig(&self.committer).as_bytes())?;
            }
        }
        Ok(())
    }
}

/// What git is told in a home that is an agent's own: who commits, and not to tidy up a
/// repository of which only a part can be written.
fn gitconfig(name: &str) -> String {
    format!(
        "[user]\n\tname = {name}\n\temail = {name}@localhost\n[gc]\n\tauto = 0\n\
         [maintenance]\n\tauto = false\n"
    )
}

/// Writes a private file, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut half = path.as_os_str().to_owned();
    half.push(".new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(half, path)
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// Whether a directory is in a git repository.
fn is_in_repository(place: &Path) -> bool {
    place.ancestors().any(|it| it.join(".git").exists())
}

fn hash(url: &str) -> String {
    let hash: String =
        Sha256::digest(url.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    hash[..HASH].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{
        AgentCli, CommandCli, LocalRuntime, OwnerReference, Permissions, Repo, SpriteSpec,
    };

    fn sprite(kind: Kind, local: LocalRuntime, repo: Option<Repo>) -> Sprite {
        let spec = SpriteSpec {
            agent: AgentCli::Command(CommandCli::default()),
            runtime: RuntimeSpec::Local(local),
            task: None,
            repo,
            instructions: None,
            permissions: Permissions::default(),
            env: Vec::new(),
            timeout: None,
            idle_timeout: None,
            session: None,
            attempt: 1,
            running: true,
            run: 1,
            stop: None,
        };
        let mut sprite = Sprite::new("bot-1", spec);
        sprite.metadata.uid = "s1".into();
        sprite.metadata.owner_references = vec![OwnerReference {
            api_version: String::new(),
            kind,
            name: "bot".into(),
            uid: "a1".into(),
            controller: true,
        }];
        sprite
    }

    fn decided(kind: Kind, workdir: Option<&str>, isolation: Isolation, repo: bool) -> Places {
        let config = LocalConfig::new(Path::new("/data"), "i", Path::new("/home/x"));
        let repo = repo.then(|| Repo { github: Some("o/r".into()), ..Repo::default() });
        let local = LocalRuntime { workdir: workdir.map(Into::into), isolation: Some(isolation) };
        places(&config, &sprite(kind, local, repo)).unwrap()
    }

    #[test]
    fn without_isolation_an_agents_clone_is_its_own_and_a_jobs_its_attempts() {
        let of = |kind, workdir, repo| decided(kind, workdir, Isolation::None, repo).workdir;
        assert_eq!(of(Kind::Agent, None, true), Path::new("/data/work/a1"));
        assert_eq!(of(Kind::Job, None, true), Path::new("/data/work/s1"));
        assert_eq!(of(Kind::Agent, None, false), Path::new("/home/x"));
        assert_eq!(of(Kind::Agent, Some("~/p"), true), Path::new("/home/x/p"));
    }

    #[test]
    fn a_worktree_is_the_owners_and_of_what_is_named_or_of_a_shared_clone() {
        let named = decided(Kind::Job, Some("~/p"), Isolation::Worktree, false);
        assert_eq!(named.workdir, Path::new("/data/work/a1"));
        let tree = WorktreeSpec { of: "/home/x/p".into(), branch: "open-dispatch/bot".into() };
        assert_eq!(named.worktree, Some(tree));
        let shared = decided(Kind::Agent, None, Isolation::Worktree, true).worktree.unwrap();
        assert_eq!(
            shared.of,
            "/data/work/repos/14d4d6b5e0a0b3a1"
                .replace("14d4d6b5e0a0b3a1", &hash("https://github.com/o/r.git"))
        );
        let config = LocalConfig::new(Path::new("/data"), "i", Path::new("/home/x"));
        let local = LocalRuntime { workdir: None, isolation: Some(Isolation::Worktree) };
        let error = places(&config, &sprite(Kind::Agent, local, None)).unwrap_err().to_string();
        insta::assert_snapshot!(error, @"isolation worktree needs a repository: name a workdir that is in one, or a repo");
    }

    #[test]
    fn a_sandbox_has_a_home_and_something_of_its_own_to_work_in() {
        let own = decided(Kind::Agent, None, Isolation::Sandbox, false);
        assert_eq!((own.workdir.clone(), own.worktree), ("/data/work/a1".into(), None));
        assert_eq!(own.own, Some(own.workdir));
        assert_eq!(own.sandbox.unwrap().home, "/data/work/a1.home");
        let plain = decided(Kind::Agent, Some("/srv/notes"), Isolation::Sandbox, false);
        assert_eq!((plain.workdir, plain.worktree), ("/srv/notes".into(), None));
        assert!(decided(Kind::Agent, None, Isolation::Sandbox, true).worktree.is_some());
        let config = LocalConfig::new(Path::new("/data"), "i", Path::new("/home/x"));
        for wide in ["~", "/home", "/", "/data", "/data/work"] {
            let local =
                LocalRuntime { workdir: Some(wide.into()), isolation: Some(Isolation::Sandbox) };
            let refused = places(&config, &sprite(Kind::Agent, local, None));
            assert!(refused.is_err(), "{wide}: {refused:?}");
        }
    }
}
