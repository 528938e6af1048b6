//! Desired state from files: directories and Git repositories, kept in the store as they say.
//!
//! A Source names where to read. Whatever announces a change (the file system, a push, a timer) only
//! wakes its key; the controller then reads everything anew as a [`Snapshot`], checks it whole, and
//! applies it in one transaction, or not at all. What it owns stands in the store's inventory
//! ([`crate::store::Owned`]), which alone decides what may be pruned.

mod beneath;
pub mod controller;
pub mod directory;
pub mod git;
mod heir;
mod lanes;
pub mod many;
pub mod over;
pub mod plan;
pub mod policy;
pub mod read;
mod said;
pub mod set;
pub mod stand;
pub mod star;
pub mod watch;

pub use controller::SourceController;

/// What a Source said at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision: a commit (of several repositories, a digest of their commits), or for a directory
    /// a digest of what was read.
    pub revision: String,
    /// The files with desired state, by path.
    pub files: Vec<SourceFile>,
}

/// A file with desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path relative to the Source's directory, with `/`; of several repositories, behind the
    /// repository's name.
    pub path: String,
    /// What stands in it.
    pub text: String,
    /// What `repo` a document means that names none: of a repository that declares its own agents,
    /// that repository.
    pub repo: Option<crate::resource::Repo>,
}

#[cfg(test)]
mod many_tests;
#[cfg(test)]
mod page_tests;
#[cfg(test)]
mod plan_tests;
