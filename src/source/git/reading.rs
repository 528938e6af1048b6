//! What a Source's repositories said, put together. Pure.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::source::{Snapshot, SourceFile};

/// What a Source's repositories said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The files, and the revision.
    pub snapshot: Snapshot,
    /// The repositories that were read, in the order of the spec.
    pub repos: Vec<RepoReading>,
}

impl Reading {
    /// The repositories that cannot be read, with the reason.
    pub fn troubles(&self) -> impl Iterator<Item = (&str, &str)> {
        self.repos.iter().filter_map(|it| Some((it.name.as_str(), it.trouble.as_deref()?)))
    }

    /// Whether a repository cannot be read for a reason that goes away by itself.
    #[must_use]
    pub fn is_away(&self, name: &str) -> bool {
        self.repos.iter().any(|repo| repo.passing && repo.name == name)
    }

    /// What was passed over, in words, with the repository where there are several.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let note = |it: &RepoReading, note: &String| match it.several {
            true => format!("{}: {note}", it.name),
            false => note.clone(),
        };
        self.repos.iter().flat_map(|it| it.notes.iter().map(move |text| note(it, text))).collect()
    }

    /// The files of one of several repositories.
    pub fn files_of(&self, repo: &str) -> impl Iterator<Item = &SourceFile> {
        self.snapshot.files.iter().filter(move |file| {
            file.path.strip_prefix(repo).is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// The revision, where these repositories do not count as they say now.
    #[must_use]
    pub fn revision_without(&self, out: &BTreeSet<&str>) -> String {
        match self.repos.iter().any(|it| it.several) {
            true => revision(&self.repos, out),
            false => self.snapshot.revision.clone(),
        }
    }
}

/// What one repository said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoReading {
    /// Its name, behind which its files lie where there are several.
    pub name: String,
    /// Whether it is one of several.
    pub several: bool,
    /// The commit that its files are of; nothing where it cannot be read.
    pub commit: Option<String>,
    /// Why it cannot be read.
    pub trouble: Option<String>,
    /// Whether that goes away by itself, as a host that does not answer.
    pub passing: bool,
    /// What was passed over, in words.
    pub notes: Vec<String>,
}

/// Puts the answers of a Source's repositories together.
pub(super) fn gathered(repos: Vec<RepoReading>, files: Vec<SourceFile>) -> Reading {
    let revision = match repos.as_slice() {
        [RepoReading { several: false, commit: Some(commit), .. }] => commit.clone(),
        _ => revision(&repos, &BTreeSet::new()),
    };
    Reading { snapshot: Snapshot { revision, files }, repos }
}

/// What several repositories come to together, without those that do not count.
fn revision(repos: &[RepoReading], out: &BTreeSet<&str>) -> String {
    let line = |it: &RepoReading| {
        let commit = it.commit.as_deref().filter(|_| !out.contains(it.name.as_str()));
        format!("{} {}\n", it.name, commit.unwrap_or("-"))
    };
    let mut lines: Vec<String> = repos.iter().map(line).collect();
    lines.sort();
    let digest = Sha256::digest(lines.concat().as_bytes());
    digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(name: &str, commit: Option<&str>) -> RepoReading {
        RepoReading {
            name: name.to_owned(),
            several: true,
            commit: commit.map(str::to_owned),
            trouble: None,
            passing: false,
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_revision_of_several_repositories_changes_with_each_and_not_with_their_order() {
        let of = |repos: &[(&str, Option<&str>)]| {
            let repos = repos.iter().map(|(name, commit)| repo(name, *commit)).collect();
            gathered(repos, Vec::new()).snapshot.revision
        };
        let both = of(&[("a/a", Some("1")), ("b/b", Some("2"))]);
        assert_eq!(both, of(&[("b/b", Some("2")), ("a/a", Some("1"))]));
        assert_ne!(both, of(&[("a/a", Some("1")), ("b/b", Some("3"))]));
        assert_ne!(both, of(&[("a/a", Some("1")), ("b/b", None)]));
        assert_eq!(both.len(), 40);
    }

    #[test]
    fn a_file_belongs_to_the_repository_that_its_path_begins_with() {
        let repos = vec![repo("acme/api", Some("1")), repo("acme/api-two", Some("1"))];
        let file =
            |path: &str| SourceFile { path: path.to_owned(), text: String::new(), repo: None };
        let files = vec![file("acme/api/a.yaml"), file("acme/api-two/a.yaml")];
        let reading = gathered(repos, files);
        let of = |repo: &str| -> Vec<String> {
            reading.files_of(repo).map(|file| file.path.clone()).collect()
        };
        assert_eq!(of("acme/api"), ["acme/api/a.yaml"]);
        assert_eq!(of("acme/api-two"), ["acme/api-two/a.yaml"]);
        assert_eq!(of("acme"), ["acme/api/a.yaml", "acme/api-two/a.yaml"]);
    }

    #[test]
    fn what_does_not_count_is_no_part_of_the_revision() {
        let of = |api: &str, out: &[&str]| {
            let repos = vec![repo("acme/api", Some(api)), repo("acme/web", Some("1"))];
            gathered(repos, Vec::new()).revision_without(&out.iter().copied().collect())
        };
        assert_ne!(of("1", &[]), of("2", &[]));
        assert_eq!(of("1", &["acme/api"]), of("2", &["acme/api"]));
        assert_ne!(of("1", &["acme/api"]), of("1", &["acme/web"]));
    }
}
