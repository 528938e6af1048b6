//! The vocabulary: what can be declared, and what is observed of it.
//!
//! This room knows nobody. Its types are the single definition from which everything else
//! is made: serde reads and writes them, `schemars` publishes their JSON Schemas, the same
//! schemas find every fault in a document at once and name the place.
//!
//! An object's life here: text or JSON comes in through [`yaml`] or [`decode`], which point
//! at every unknown field, wrong type and missing member with its path (and line and column
//! where there is text); [`mod@validate`] finds what a schema cannot say, and what this version
//! does not support yet; [`admit`] fills in what the server sets; a typed [`AnyObject`] goes
//! on to the store.

pub mod admit;
mod agent;
pub mod apply;
mod check;
mod condition;
pub mod cron;
mod declared;
mod decode;
mod document;
pub mod expand;
mod fault;
pub mod field_selector;
pub mod fields;
pub mod fleet;
pub mod fly;
pub mod images;
mod job;
pub mod json_patch;
pub mod leaks;
pub mod merge;
mod meta;
mod object;
mod over;
pub mod overlay;
mod parts;
mod remote;
pub mod resolve;
mod rows;
mod schedule;
pub mod schema;
pub mod selector;
pub mod short;
mod source;
mod span;
mod sprite;
pub mod table;
mod tree;
pub mod unknown;
mod usual;
pub mod validate;
mod worker;
pub mod yaml;

pub use agent::{
    Agent, AgentSpec, AgentStatus, FRESH_SESSION_AFTER, RESTARTED_UP_TO, TOLD_STOPPED, TurnCounts,
};
pub use condition::{Condition, ConditionStatus, Conditions};
pub use decode::{decode, json_doubles};
pub use document::Document;
pub use fault::{Fault, Faults};
pub use fleet::{
    FLEET_LABEL, FLEET_RESTART, FLEET_TEMPLATE, Fleet, FleetSpec, FleetStatus, PastRun, RunOutcome,
    counted_by,
};
pub use images::{Images, NoImage};
pub use job::{Artifact, Job, JobSpec, JobStatus};
pub use meta::{
    ADOPT, API_VERSION, APPLYSET, ASKED_BY, CONFIRM_DELETIONS, FINALIZER_OWNED, FINALIZER_RUNTIME,
    FINALIZER_SPRITES, GROUP, KUBECTL_LAST_APPLIED, LAST_APPLIED, ManagedFields, Metadata, ORPHAN,
    Operation, OwnerReference, RECONCILE_REQUESTED, RELEASED_FROM, RUN_REQUESTED,
};
pub use object::{AnyObject, Kind, Object, WrongKind};
pub use over::{
    DEFAULT_OVERRIDE_TIME, MAX_OVERRIDE_TIME, Override, OverrideSpec, OverrideStatus,
    OverrideTarget, sign,
};
pub use parts::{
    AcpCli, AgentCli, Budget, Channel, ClaudeCli, CodexCli, CommandCli, Cost, DEFAULT_IDLE_TIMEOUT,
    DEFAULT_JOB_TIMEOUT, DEFAULT_JOB_TTL, DEFAULT_TURN_TIMEOUT, Detail, EnvEntry, ExitReason,
    ExitStatus, FlyGuest, FlyRuntime, Isolation, LocalRuntime, OpencodeCli, PermissionMode,
    Permissions, Place, ProcessIdentity, Repo, Report, RuntimeSpec,
};
pub use remote::{MAX_REPOS, Remote, Way};
pub use resolve::Defaults;
pub use schedule::{
    ConcurrencyPolicy, DEFAULT_FAILED_JOBS_KEPT, DEFAULT_SUCCESSFUL_JOBS_KEPT, JobTemplate,
    LEAST_STARTING_DEADLINE, MissedRuns, SCHEDULE_LABEL, SCHEDULED_AT, Schedule, ScheduleSpec,
    ScheduleStatus,
};
pub use source::{
    DEFAULT_MAX_DELETIONS, DEFAULT_SOURCE_INTERVAL, DeletionPolicy, DirectorySource, GitSource,
    Prune, Source, SourceFrom, SourcePolicy, SourceSpec, SourceStatus,
};
pub use span::{NotASpan, Span};
pub use sprite::{Claim, FlyMachine, Sprite, SpriteSpec, SpriteStatus};
pub use usual::{PastUsual, Usual};
pub use worker::{FILLED, whole_worker, worker};
