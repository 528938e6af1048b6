//! `Source`: a directory or Git repositories that hold desired state.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Channel, Conditions, Kind, Object, Span};

/// A directory or Git repositories that hold desired state.
pub type Source = Object<SourceSpec, SourceStatus>;

/// How often a Git source is asked for news where nothing else is said.
pub const DEFAULT_SOURCE_INTERVAL: Span = Span::from_secs(60);
/// How many objects one revision may delete where nothing else is said.
pub const DEFAULT_MAX_DELETIONS: u32 = 10;

/// Where desired state is read from, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceSpec {
    /// Where it is read from.
    pub from: SourceFrom,
    /// How often it is looked at where nothing announces a change; 1m by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// True: nothing is read, written or deleted for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// What becomes of objects that the source does not name any more.
    #[serde(default, skip_serializing_if = "Prune::is_default")]
    pub prune: Prune,
    /// What it may write; everything by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<SourcePolicy>,
    /// Where it is told that a revision could not be applied, and that one could again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Channel>,
}

/// Where a Source reads from: exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SourceFrom {
    /// A directory on the server's machine.
    Directory(DirectorySource),
    /// Git repositories.
    Git(GitSource),
}

/// A directory on the server's machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DirectorySource {
    /// The directory; a relative one lies in the directory where the server was started.
    pub path: String,
    /// Whether a change that is written into one of its files is also committed, to the Git work tree
    /// in which the directory lies: that file alone, without hooks, and without a push.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub commit: bool,
}

/// Git repositories: one that holds everything (`url`), or many that each declare their own agents
/// (`repos`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitSource {
    /// The repository, as `git clone` takes it. Either this or `repos`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The repositories that declare their own agents, each as `owner/name` or as a URL. A document
    /// in one of them that names no `repo` means that repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repos: Vec<String>,
    /// The branch; the repository's own default where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The directory in the repository; its root by default, `.open-dispatch` for `repos`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The secret with which it is read and, where a change from chat is written back, pushed: a
    /// token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_from_secret: Option<String>,
    /// The secret with which GitHub signs its push webhooks; without one no webhook is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret_from_secret: Option<String>,
    /// Whether a commit that is made for a change from chat is pushed; without, it is refused to
    /// write to the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub push: bool,
}

/// What becomes of objects that a Source does not name any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prune {
    /// What is done with them, and with all of them when the Source itself is deleted.
    #[serde(default, skip_serializing_if = "DeletionPolicy::is_default")]
    pub policy: DeletionPolicy,
    /// How many objects one revision may delete before somebody has to confirm; 10 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_deletions: Option<u32>,
    /// Whether a revision without any object may delete everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_empty: bool,
}

impl Prune {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is done with objects that a Source does not name any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They are deleted; those of a deleted Source as well.
    #[default]
    Delete,
    /// They stay, and belong to nobody.
    Orphan,
}

impl DeletionPolicy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a Source may write. A member that is left out allows everything of its sort, save where it
/// says otherwise. `docs/sources.md` says which fields each is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourcePolicy {
    /// The kinds of objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<Kind>>,
    /// The runtimes: `local`, `fly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtimes: Option<Vec<String>>,
    /// How far agents on the server's machine have to be kept apart: `none`, `worktree`, `sandbox`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolations: Option<Vec<String>>,
    /// Where agents may work on the server's machine, within its roots; `*` stands for any text, `~`
    /// for the home of the user who runs the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdirs: Option<Vec<String>>,
    /// The images of machines; `*` stands for any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<String>>,
    /// The repositories that agents may work in, as `owner/project` or as a URL, just as `repo` names
    /// them; `*` stands for any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repos: Option<Vec<String>>,
    /// The programs that may run in an agent's place: its `path`, the command line of an `acp` agent
    /// with spaces between its words, the shell of a `command` agent; `*` stands for any text. Left
    /// out, none where `permissionModes` leaves `bypass` out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<Vec<String>>,
    /// The modes of permissions: `ask`, `acceptEdits`, `plan`, `bypass`. Without `bypass` nothing is
    /// done unasked that `programs`, `permissionRules` and `env` do not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission_modes: Option<Vec<String>>,
    /// The rules that `permissions.allow` may hold; `*` stands for any text. Left out, none where
    /// `permissionModes` leaves `bypass` out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission_rules: Option<Vec<String>>,
    /// The names of the variables that may be given a value; `*` stands for any text. Left out, none
    /// where `permissionModes` leaves `bypass` out: a variable such as `PATH` chooses what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The secrets that may be named; `*` stands for any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// The channels that an agent may listen in and report to, as `platform:channel`; `*` stands for
    /// any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<String>>,
    /// The Sources whose directories a Fleet may be made for; always the Source itself, and no other
    /// where this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_directories: Option<Vec<String>>,
    /// Where Sources that it writes may read, as directory, URL or `owner/name`, just as they name it;
    /// `*` stands for any text. Left out, nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
}

/// What is observed of a Source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SourceStatus {
    /// Observations: `Ready`, `Reconciling`, `Stalled`.
    #[serde(skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
    /// The generation that the conditions speak of.
    pub observed_generation: u64,
    /// A word for people, computed from the conditions: `Pending`, `Ready`, `Failing`, `Held`,
    /// `Suspended` or `Deleting`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// The revision that was read last: a commit, or for directories a digest of what was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempted_revision: Option<String>,
    /// The revision that the objects stand at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_applied_revision: Option<String>,
    /// When that was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_applied_time: Option<Timestamp>,
    /// The value of the annotation `opendispatch.dev/reconcile-requested-at` that was obeyed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// What people were told last of a revision that is not applied, as a word, the revision and a hash
    /// of what is wrong with it; nothing once one is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_told: Option<String>,
    /// How many objects it owns.
    pub objects: u32,
    /// How many of them stand under an Override.
    pub overridden: u32,
    /// How many deletions wait for somebody to confirm them.
    pub held_deletions: u32,
}
