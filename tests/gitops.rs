//! A fleet that lives in Git: the real server keeps `examples/fleet/` as its commits say, over three
//! repositories, whatever is changed by hand, killed, broken or rewritten meanwhile.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]
#![expect(clippy::disallowed_methods, reason = "a test of the real binary lives in real time")]

#[path = "support/chance.rs"]
mod chance;
#[path = "support/git/mod.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod git;
#[path = "support/live.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod live;

#[path = "gitops/behind.rs"]
mod behind;
#[path = "gitops/broken.rs"]
mod broken;
#[path = "gitops/commits.rs"]
mod commits;
#[path = "gitops/drift.rs"]
mod drift;
#[path = "gitops/kills.rs"]
mod kills;
#[path = "gitops/readme.rs"]
mod readme;
#[path = "gitops/stage.rs"]
mod stage;
