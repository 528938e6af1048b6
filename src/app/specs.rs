//! The directories that the server is told to keep up: a Source each, which the server keeps.
//!
//! A Source of the server's bears a label that says so, and is found by its directory; its policy, its
//! prune and the rest belong to whoever edits it. One whose directory is not named any more is
//! suspended, so that starting the server elsewhere deletes nothing; named again, it goes on. The
//! default directory need not be there: its Source is made when it comes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    ambient::Ambient,
    resource::{
        AnyObject, DirectorySource, Kind, Prune, Source, SourceFrom, SourceSpec, admit,
        validate::MAX_NAME,
    },
    store::{self, Expect, Op, Part, Store, Transaction},
};

/// The label of Sources that the server keeps.
const KEPT_BY: &str = "opendispatch.dev/kept-by";
/// Its value.
const SERVER: &str = "server";
/// The annotation of a Source that the server has suspended because nobody names its directory.
const UNNAMED: &str = "opendispatch.dev/unnamed-directory";
/// How often it is looked whether the default directory is there by now.
const LOOK: Duration = Duration::from_secs(5);

/// What the server is told to keep up.
#[derive(Debug, Clone)]
pub(super) struct Specs {
    /// The directories, as absolute paths.
    pub(super) directories: Vec<PathBuf>,
    /// Whether they need not be there, because nobody named them.
    pub(super) optional: bool,
}

impl Specs {
    /// Makes the Sources as they are to be. Once before the engine starts.
    pub(super) async fn keep(
        &self,
        store: &Arc<dyn Store>,
        ambient: &Ambient,
    ) -> Result<(), store::Error> {
        let sources = store.list(Kind::Source, None, usize::MAX).await?.items;
        let sources: Vec<Source> = sources.into_iter().filter_map(AnyObject::into_source).collect();
        let there = |path: &PathBuf| !self.optional || path.is_dir();
        let named: Vec<PathBuf> =
            self.directories.iter().filter(|path| there(path)).cloned().collect();
        let ops = plan(&sources, &self.directories, &named, &mut || ambient.ids.uid());
        if ops.is_empty() {
            return Ok(());
        }
        let now = ambient.clock.now();
        let mut transaction = Transaction::at(now).with(Op::WrittenBy(SERVER.to_owned()));
        transaction.ops.extend(ops);
        let apply = store.apply(transaction);
        ambient.step("specs.keep", apply).await?;
        Ok(())
    }

    /// Waits for the default directory, and makes its Source when it comes.
    pub(super) async fn wait(self, store: Arc<dyn Store>, ambient: Ambient) {
        if !self.optional {
            return;
        }
        while !self.directories.iter().all(|path| path.is_dir()) {
            ambient.clock.sleep(LOOK).await;
        }
        while let Err(error) = self.keep(&store, &ambient).await {
            tracing::warn!(%error, "the source of the default directory could not be made");
            ambient.clock.sleep(LOOK).await;
        }
    }
}

fn directory(source: &Source) -> Option<&str> {
    match &source.spec.from {
        SourceFrom::Directory(directory) => Some(&directory.path),
        SourceFrom::Git(_) => None,
    }
}

/// What has to be written so that there is a Source for each directory that is `named` and `there`,
/// and so that those of others rest.
fn plan(
    sources: &[Source],
    named: &[PathBuf],
    there: &[PathBuf],
    uid: &mut dyn FnMut() -> String,
) -> Vec<Op> {
    let mut ops = Vec::new();
    let kept =
        |source: &&Source| source.metadata.labels.get(KEPT_BY).is_some_and(|by| by == SERVER);
    let is_of = |source: &Source, path: &PathBuf| directory(source) == path.to_str();
    for source in sources.iter().filter(kept).filter(|source| !source.metadata.is_deleting()) {
        let is_named = named.iter().any(|path| is_of(source, path));
        let rests = source.metadata.annotations.contains_key(UNNAMED);
        let mut source = source.clone();
        if is_named && rests {
            source.spec.suspend = false;
            source.metadata.annotations.remove(UNNAMED);
        } else if !is_named && !source.spec.suspend {
            let name = &source.metadata.name;
            tracing::warn!(
                source = name,
                "suspended: this server is told to keep up other directories"
            );
            source.spec.suspend = true;
            source.metadata.annotations.insert(UNNAMED.to_owned(), "true".to_owned());
        } else {
            continue;
        }
        let (part, expect) = (Part::Desired, Expect::SameVersion);
        ops.push(Op::Write { object: source.into(), part, expect });
    }
    let mut names: Vec<String> = sources.iter().map(|it| it.metadata.name.clone()).collect();
    for path in there.iter().filter(|path| !sources.iter().any(|source| is_of(source, path))) {
        let Some(text) = path.to_str() else {
            tracing::error!(path = %path.display(), "no UTF-8: it cannot be kept up");
            continue;
        };
        let name = name_for(text, &names);
        let mut source = Source::new(
            name.clone(),
            SourceSpec {
                from: SourceFrom::Directory(DirectorySource {
                    path: text.to_owned(),
                    commit: false,
                }),
                interval: None,
                suspend: false,
                prune: Prune::default(),
                policy: None,
                channels: Vec::new(),
            },
        );
        source.metadata.labels.insert(KEPT_BY.to_owned(), SERVER.to_owned());
        match admit::create(source.into(), uid(), "") {
            Ok(object) => ops.push(Op::Create(object)),
            Err(error) => tracing::error!(%error, path = text, "it cannot be kept up"),
        }
        names.push(name);
    }
    ops
}

/// A name for the Source of a directory: its own, made a label, and a number where that is taken.
fn name_for(path: &str, taken: &[String]) -> String {
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let slug: String = last.chars().map(plain).take(MAX_NAME - 4).collect();
    let slug = match slug.trim_matches('-') {
        "" => "specs",
        slug => slug,
    };
    let numbered = (2..).map(|n| format!("{slug}-{n}"));
    let mut names = std::iter::once(slug.to_owned()).chain(numbered);
    names.find(|name| !taken.contains(name)).unwrap_or_else(|| slug.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Sources behind a plan, as the store would hold them.
    fn behind(mut sources: Vec<Source>, ops: Vec<Op>) -> Vec<Source> {
        for op in ops {
            let written = match op {
                Op::Create(object) | Op::Write { object, .. } => object.into_source().unwrap(),
                other => panic!("{other:?}"),
            };
            sources.retain(|source| source.metadata.name != written.metadata.name);
            sources.push(written);
        }
        sources
    }

    fn keep(sources: Vec<Source>, paths: &[&str]) -> Vec<Source> {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        let ops = plan(&sources, &paths, &paths, &mut || "uid".to_owned());
        let after = behind(sources, ops);
        assert_eq!(plan(&after, &paths, &paths, &mut || "uid".to_owned()), []);
        after
    }

    #[test]
    fn each_directory_has_a_source_of_its_name_and_none_is_deleted() {
        let sources = keep(Vec::new(), &["/a/specs", "/b/specs", "/c/My Team.d"]);
        let names: Vec<_> = sources.iter().map(|it| it.metadata.name.as_str()).collect();
        assert_eq!(names, ["specs", "specs-2", "my-team-d"]);
        let rests = |sources: &[Source], name: &str| {
            sources.iter().find(|it| it.metadata.name == name).unwrap().spec.suspend
        };
        let sources = keep(sources, &["/b/specs"]);
        assert!(rests(&sources, "specs") && !rests(&sources, "specs-2"));
        let sources = keep(sources, &["/a/specs", "/b/specs", "/c/My Team.d"]);
        assert!(sources.iter().all(|source| !source.spec.suspend));
    }

    #[test]
    fn what_a_person_suspended_stays_suspended_and_what_a_person_made_is_left_alone() {
        let mut sources = keep(Vec::new(), &["/a/specs"]);
        sources[0].spec.suspend = true;
        let mut own = sources[0].clone();
        own.metadata.name = "own".to_owned();
        own.metadata.labels.clear();
        own.spec.suspend = false;
        own.spec.from =
            SourceFrom::Directory(DirectorySource { path: "/own".to_owned(), commit: false });
        sources.push(own);
        let after = keep(sources, &["/a/specs"]);
        assert!(after[0].spec.suspend && !after[1].spec.suspend);
    }

    #[test]
    fn the_default_directory_need_not_be_there() {
        let named = [PathBuf::from("/a/specs")];
        assert_eq!(plan(&[], &named, &[], &mut String::new), []);
    }
}
