//! Every named step of the loop, by the test that puts a fault at each of its passages.
//!
//! Each test holds its list against what its scenarios take, and `crash_steps.rs` holds all of them
//! together against the code. So a step that no scenario reaches is red, and so is one that is gone.

/// Of Jobs, of Sprites, of admission and of the engine: `crash_steps.rs`.
pub const JOBS: [&str; 30] = [
    "admission.admit",
    "admission.tell-to-wait",
    "agent.add-finalizer",
    "agent.create-sprite",
    "agent.delete-sprite",
    "agent.drop-finalizer",
    "agent.stop-sprite",
    "agent.write-status",
    "engine.forget-backoff",
    "engine.keep-backoff",
    "job.add-finalizer",
    "job.create-sprite",
    "job.delete",
    "job.delete-sprite",
    "job.drop-finalizer",
    "job.stop-sprite",
    "job.write-status",
    "sprite.answer",
    "sprite.clean",
    "sprite.close-approval",
    "sprite.end-left-behind",
    "sprite.kill",
    "sprite.let-go",
    "sprite.order-stop",
    "sprite.record-missing-secret",
    "sprite.record-stall",
    "sprite.record-start-failure",
    "sprite.recover",
    "sprite.start",
    "sprite.write-status",
];

/// Of a conversation, beside those of a Sprite's plain life and end: `crash_conversations.rs`.
pub const CONVERSATIONS: [&str; 15] = [
    "admission.want-slot",
    "agent.add-finalizer",
    "agent.cancel-turns",
    "agent.create-sprite",
    "agent.delete-sprite",
    "agent.drop-finalizer",
    "agent.move-turns",
    "agent.put-to-sleep",
    "agent.send-turn",
    "agent.stop-sprite",
    "agent.wake-sprite",
    "agent.write-status",
    "sprite.answer",
    "sprite.close-approval",
    "sprite.order-sleep",
];

/// Of Fleets and Schedules: `crash_fleets.rs`.
pub const FLEETS: [&str; 18] = [
    "fleet.add-finalizer",
    "fleet.create-members",
    "fleet.delete-member",
    "fleet.drop-confirmation",
    "fleet.drop-finalizer",
    "fleet.inherit-members",
    "fleet.note-usual",
    "fleet.prune-members",
    "fleet.release-member",
    "fleet.update-member",
    "fleet.write-status",
    "schedule.add-finalizer",
    "schedule.cancel-job",
    "schedule.create-job",
    "schedule.delete-job",
    "schedule.drop-finalizer",
    "schedule.release-job",
    "schedule.write-status",
];

/// Of a Source over a directory: the story of `crash_sources.rs`.
pub const SOURCES: [&str; 5] = [
    "source.apply",
    "source.drop-finalizer",
    "source.read",
    "source.release",
    "source.write-status",
];

/// Of a Source that inherits what one before it left: `crash_sources.rs`.
pub const HEIRS: [&str; 3] = ["source.apply", "source.inherit", "source.read"];

/// Of a Source over Git, with a change that is written back: `source_over_git/crashes.rs`.
pub const GIT_SOURCES: [&str; 12] = [
    "override.apply",
    "override.note-file",
    "override.write-file",
    "source.accept",
    "source.apply",
    "source.drop-finalizer",
    "source.fetch",
    "source.forget",
    "source.push",
    "source.read",
    "source.release",
    "source.write-status",
];

/// Of an Override over a directory: `crash_overrides.rs`.
pub const OVERRIDES: [&str; 3] = ["override.apply", "override.note-file", "override.write-file"];

/// Of a change that is committed in the work tree of a directory: `crash_overrides.rs`.
pub const WORK_TREES: [&str; 4] =
    ["override.apply", "override.note-file", "override.write-file", "source.commit_here"];
