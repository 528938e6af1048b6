//! The words of the commands that change objects.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{
    args::{ServerArgs, Within},
    read_args::{NoNamespaces, ObjectFormat},
};

/// Which files a command means.
#[derive(Debug, Clone, Default, Args)]
pub struct FileArgs {
    /// A file, a directory, an http(s) address, or - for standard input; may be given more than once
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub file: Vec<PathBuf>,
    /// Directories with all that are in them
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// The set of objects that files are the whole of.
#[derive(Debug, Clone, Default, Args)]
pub struct SetOfObjects {
    /// Delete what this set held last time and the files do not hold any more
    #[arg(long, requires = "applyset")]
    pub prune: bool,
    /// The name of the set that the files are the whole of
    #[arg(long, value_name = "NAME", requires = "prune")]
    pub applyset: Option<String>,
}

/// Who judges a dry run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Nobody: it happens
    None,
    /// This program, by what the server holds now
    Client,
    /// The server, with all its checks
    Server,
}

impl DryRun {
    /// What stands behind a line about something that did not happen.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }

    /// The parameters of a request.
    #[must_use]
    pub fn query(self) -> &'static [(&'static str, &'static str)] {
        if self == Self::Server { &[("dryRun", "All")] } else { &[] }
    }
}

/// The flag for a dry run.
#[derive(Debug, Clone, Copy, Args)]
pub struct DryRunArgs {
    /// Only say what would be done, by this program's judgement or by the server's
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "none",
        default_missing_value = "client",
        num_args = 0..=1,
        require_equals = true,
        hide_default_value = true
    )]
    pub dry_run: DryRun,
}

/// How unknown fields are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Validate {
    /// They are faults, as ever
    #[value(alias = "true")]
    Strict,
}

/// `apply`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch apply -f agents.yaml
  open-dispatch apply -f specs/              every .yaml, .yml and .json file in it
  open-dispatch apply -f specs/ -R           and in the directories below (save specs/schema)
  open-dispatch apply -f - < job.yaml
  open-dispatch apply -f specs/ --dry-run=server
  open-dispatch apply -f specs/ -R --prune --applyset main

All documents are checked first, by this program and by the server; when one is bad, every
fault is shown with its place, and nothing is applied.

With --prune the files are the whole of a set, and what was applied with the set's name and stands
in them no more is deleted, once all else is applied. A file or directory without any object is then
refused, and so are more deletions than --max-deletions. An object is in one set at most, by an
annotation that names the set and the object itself, so that copies of it are in none.")]
pub struct ApplyArgs {
    /// Which files.
    #[command(flatten)]
    pub files: FileArgs,
    /// Which set they are.
    #[command(flatten)]
    pub set: SetOfObjects,
    /// How many objects --prune may delete at most; 10 where it is not given
    #[arg(long, value_name = "N", requires = "prune")]
    pub max_deletions: Option<u32>,
    /// How unknown fields are taken: strict, which is the one way there is
    #[arg(long, value_name = "HOW", default_value = "strict", hide_default_value = true)]
    pub validate: Validate,
    /// Whether it happens.
    #[command(flatten)]
    pub dry: DryRunArgs,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `create`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch create -f job.yaml           once; apply may be repeated
  open-dispatch create -f job.yaml --dry-run=server -o yaml

A document without a name and with metadata.generateName gets a name of the server's.")]
pub struct CreateArgs {
    /// Which files.
    #[command(flatten)]
    pub files: FileArgs,
    /// Print what was created in this format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<ObjectFormat>,
    /// Whether it happens.
    #[command(flatten)]
    pub dry: DryRunArgs,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `replace`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch replace -f agent.yaml
  open-dispatch get agent api-bot -o yaml | sed s/sonnet/opus/ | open-dispatch replace -f -

What the file does not say is taken away. Where it bears a metadata.resourceVersion, it is refused
if somebody changed the object since.")]
pub struct ReplaceArgs {
    /// Which files.
    #[command(flatten)]
    pub files: FileArgs,
    /// Whether it happens.
    #[command(flatten)]
    pub dry: DryRunArgs,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `edit`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch edit agent/api-bot
  EDITOR='code --wait' open-dispatch edit job nightly

It opens VISUAL, else EDITOR, else vi. What is wrong is told at the top of the file, which is opened
again. What others change meanwhile stays, unless it is the very thing that you change; then you are
asked again.")]
pub struct EditArgs {
    /// KIND/NAME... or KIND NAME...
    #[arg(value_name = "KIND/NAME", required = true)]
    pub what: Vec<String>,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `patch`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch patch agent/api-bot -p '{\"spec\": {\"idleTimeout\": \"1h\"}}'
  open-dispatch patch agent api-bot -p 'spec: {budget: null}'
  open-dispatch patch job/nightly --type json \\
      -p '[{\"op\": \"replace\", \"path\": \"/spec/retries\", \"value\": 2}]'
  open-dispatch patch agent/api-bot --patch-file patch.yaml --dry-run=server -o yaml")]
pub struct PatchArgs {
    /// KIND/NAME... or KIND NAME...
    #[arg(value_name = "KIND/NAME", required = true)]
    pub what: Vec<String>,
    /// The patch, as JSON or YAML
    #[arg(short, long, value_name = "PATCH", required_unless_present = "patch_file")]
    pub patch: Option<String>,
    /// The file that the patch stands in; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "patch")]
    pub patch_file: Option<PathBuf>,
    /// What the patch is
    #[arg(long = "type", value_name = "TYPE", default_value = "merge")]
    pub sort: PatchType,
    /// The part of the object that is patched: status, instead of what is wanted
    #[arg(long, value_name = "NAME")]
    pub subresource: Option<Subresource>,
    /// Print the object in this format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<ObjectFormat>,
    /// Whether it happens.
    #[command(flatten)]
    pub dry: DryRunArgs,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The types of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PatchType {
    /// A JSON Merge Patch (RFC 7386): members replace members, null takes away
    Merge,
    /// A JSON Patch (RFC 6902): a list of operations
    Json,
}

/// A part of an object that is written apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subresource {
    /// What is observed
    Status,
}

/// `label` and `annotate`.
#[derive(Debug, Clone, Args)]
pub struct MarkArgs {
    /// KIND/NAME... or KIND [NAME...], and then KEY=VALUE to set or KEY- to take away
    #[arg(value_name = "KIND/NAME KEY=VALUE", required = true)]
    pub what: Vec<String>,
    /// Write over a value that is there
    #[arg(long)]
    pub overwrite: bool,
    /// Objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// All objects of the kind
    #[arg(long, conflicts_with = "selector")]
    pub all: bool,
    /// Only show what is there
    #[arg(long)]
    pub list: bool,
    /// Whether it happens.
    #[command(flatten)]
    pub dry: DryRunArgs,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `label`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch label agent/api-bot team=payments
  open-dispatch label agent/api-bot team=search --overwrite
  open-dispatch label agents -l team=payments tier=test
  open-dispatch label agent api-bot team-    takes it away
  open-dispatch label agent/api-bot --list")]
pub struct LabelArgs {
    /// What is to be.
    #[command(flatten)]
    pub mark: MarkArgs,
}

/// `annotate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch annotate agent/api-bot example.org/owner='the payments team'
  open-dispatch annotate agent/api-bot example.org/owner-    takes it away")]
pub struct AnnotateArgs {
    /// What is to be.
    #[command(flatten)]
    pub mark: MarkArgs,
}

/// `scale`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch scale fleet/reviewers --replicas 5
  open-dispatch scale fleet/reviewers --current-replicas 5 --replicas 8")]
pub struct ScaleArgs {
    /// KIND/NAME... or KIND NAME...
    #[arg(value_name = "KIND/NAME", required = true)]
    pub what: Vec<String>,
    /// How many there shall be
    #[arg(long, value_name = "N")]
    pub replicas: u32,
    /// Only where so many are wanted now
    #[arg(long, value_name = "N")]
    pub current_replicas: Option<u32>,
    /// Whether it happens.
    #[command(flatten)]
    pub dry: DryRunArgs,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `rollout`.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "Examples:
  open-dispatch rollout restart agent/api-bot    a new sprite once no turn is open
  open-dispatch rollout restart fleet/reviewers  of every member, one after another
  open-dispatch rollout status agent/api-bot --timeout 5m
  open-dispatch rollout status fleet/reviewers
  open-dispatch rollout history agent/api-bot

An agent's session goes on in the new sprite; open-dispatch retry --force begins another one.")]
pub enum RolloutCommand {
    /// Wait until what is wanted is so
    Status(RolloutStatusArgs),
    /// Make the sprites anew, between turns
    Restart(RolloutArgs),
    /// Show the sprites that there were
    History(RolloutArgs),
    /// Say how to go back
    Undo(RolloutArgs),
}

/// `rollout restart`, `rollout history` and `rollout undo`.
#[derive(Debug, Clone, Args)]
pub struct RolloutArgs {
    /// KIND/NAME... or KIND NAME...
    #[arg(value_name = "KIND/NAME", required = true)]
    pub what: Vec<String>,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `rollout status`.
#[derive(Debug, Clone, Args)]
pub struct RolloutStatusArgs {
    /// KIND/NAME... or KIND NAME...
    #[arg(value_name = "KIND/NAME", required = true)]
    pub what: Vec<String>,
    /// Look once, and wait for nothing
    #[arg(long)]
    pub no_watch: bool,
    /// How long to wait, for all of them together
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    pub timeout: Within,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `delete`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch delete job/nightly
  open-dispatch delete jobs a b c --wait=false
  open-dispatch delete -f agents.yaml --ignore-not-found
  open-dispatch delete jobs -l batch=7 --dry-run=server
  open-dispatch delete jobs --all

An object that runs is stopped first. What it owns goes with it. What a fleet or a schedule has made
stays with --cascade=orphan; of all others the server refuses that.")]
pub struct DeleteArgs {
    /// KIND/NAME... or KIND NAME...
    #[arg(value_name = "KIND/NAME", required_unless_present = "file")]
    pub what: Vec<String>,
    /// The objects that stand in these files
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "what")]
    pub file: Vec<PathBuf>,
    /// Directories with all that are in them
    #[arg(short = 'R', long, requires = "file")]
    pub recursive: bool,
    /// Objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "file")]
    pub selector: Option<String>,
    /// All objects of the kind
    #[arg(long, conflicts_with_all = ["selector", "file"])]
    pub all: bool,
    /// What becomes of what it owns
    #[arg(long, value_name = "HOW", default_value = "background")]
    pub cascade: Cascade,
    /// Wait until the objects are gone
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    pub wait: bool,
    /// How long to wait for that, for all of them together; for ever where it is not given
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<Within>,
    /// An object that is not there is no error
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Whether it happens.
    #[command(flatten)]
    pub dry: DryRunArgs,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// What becomes of what an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cascade {
    /// It goes, after the object
    Background,
    /// It goes, before the object
    Foreground,
    /// It stays, and belongs to nobody: for fleets and schedules alone
    Orphan,
}

impl Cascade {
    /// The word for it in a request.
    #[must_use]
    pub fn policy(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}
