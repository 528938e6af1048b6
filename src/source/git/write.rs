//! Writing back: a commit on top of what was just fetched, pushed if nobody was faster.
//!
//! Nothing is checked out for it. The new text becomes an object, a temporary index takes it in, and
//! the commit is there before anybody sees it. The push says on top of which commit it stands; where the
//! branch has gone on meanwhile, it is fetched and done again, unless somebody else has changed the same
//! file: that is for people to settle. A push whose answer was lost is found out by fetching.

use super::{
    Git, GitError, Target,
    mirror::{Mirror, Pushed, short},
    targets,
};
use crate::resource::GitSource;

/// How often a push is tried that is overtaken, or whose answer is lost.
const TRIES: usize = 5;

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The address; any text without line breaks and angle brackets.
    pub email: String,
}

impl Author {
    /// The server itself.
    #[must_use]
    pub fn server() -> Self {
        Self { name: "Open Dispatch".to_owned(), email: "open-dispatch@localhost".to_owned() }
    }

    /// The variables by which git knows them.
    pub(super) fn environment(&self, date: jiff::Timestamp) -> Vec<(&'static str, String)> {
        let plain = |text: &str, other: &str| {
            let text: String =
                text.chars().filter(|c| !c.is_control() && !"<>".contains(*c)).collect();
            let text = text.trim().to_owned();
            if text.is_empty() { other.to_owned() } else { text }
        };
        let server = Self::server();
        let date = format!("{} +0000", date.as_second());
        vec![
            ("GIT_AUTHOR_NAME", plain(&self.name, &server.name)),
            ("GIT_AUTHOR_EMAIL", plain(&self.email, &server.email)),
            ("GIT_AUTHOR_DATE", date.clone()),
            ("GIT_COMMITTER_NAME", server.name),
            ("GIT_COMMITTER_EMAIL", server.email),
            ("GIT_COMMITTER_DATE", date),
        ]
    }
}

/// A change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The file, as the Source's inventory and [`super::Snapshot`] name it.
    pub path: String,
    /// The text that the change was made on; nothing for a file that is not there yet.
    pub old: Option<String>,
    /// The text that it shall have.
    pub new: String,
    /// The commit's message.
    pub message: String,
    /// Who wants it.
    pub author: Author,
}

/// A change that stands on the branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The commit that has it.
    pub commit: String,
    /// The branch.
    pub branch: String,
}

/// A file as its branch has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNow {
    /// The commit.
    pub commit: String,
    /// What stands in it; nothing where it is not there.
    pub text: Option<String>,
}

impl Git {
    /// Fetches, and reads one file of a Source, named as its inventory names it.
    ///
    /// # Errors
    /// A repository that cannot be read, or a file that is no text.
    pub async fn file(
        &self,
        source: &str,
        spec: &GitSource,
        path: &str,
    ) -> Result<FileNow, GitError> {
        let (target, inside) = place(spec, path)?;
        self.allowed(&target.remote)?;
        let token = self.token(spec)?;
        let (mirror, _lock) = self.mirror(source, &target.remote, token.as_ref()).await?;
        let commit = self.fetch(&mirror, spec.branch.as_deref()).await?;
        let text = match blob(&mirror, &commit, &inside).await? {
            None => None,
            Some((_, id)) => Some(text(&mirror, path, &id).await?),
        };
        Ok(FileNow { commit, text })
    }

    /// Commits a change of one file on top of its branch, and pushes it. Answers the commit that stands
    /// there; where the file says it already, nothing is made.
    ///
    /// # Errors
    /// A Source that does not push, a file that somebody else has changed, or a repository that does
    /// not take it.
    pub async fn commit(
        &self,
        source: &str,
        spec: &GitSource,
        edit: &Edit,
    ) -> Result<Committed, GitError> {
        let (target, inside) = place(spec, &edit.path)?;
        let name = target.remote.name.clone();
        if !spec.push {
            return Err(GitError::ReadOnly { name });
        }
        self.allowed(&target.remote)?;
        let token = self.token(spec)?;
        let (mirror, _lock) = self.mirror(source, &target.remote, token.as_ref()).await?;
        let mut last = None;
        for _ in 0..TRIES {
            let tip = self.fetch(&mirror, spec.branch.as_deref()).await?;
            let branch = match &spec.branch {
                Some(branch) => branch.clone(),
                None => mirror.head().await?,
            };
            let new = object(&mirror, &edit.new).await?;
            let there = blob(&mirror, &tip, &inside).await?;
            if there.as_ref().is_some_and(|(_, id)| *id == new) {
                return Ok(Committed { commit: tip, branch });
            }
            let old = match &edit.old {
                Some(text) => Some(object(&mirror, text).await?),
                None => None,
            };
            if there.as_ref().map(|(_, id)| id) != old.as_ref() {
                let (file, commit) = (edit.path.clone(), short(&tip));
                return Err(GitError::Conflict { name, file, commit });
            }
            let mode = there.map_or("100644".to_owned(), |(mode, _)| mode);
            let commit = self.make(&mirror, &tip, (&mode, &new, &inside), edit).await?;
            let push = mirror.push(&commit, &branch, &tip);
            match self.0.ambient.step("source.push", push).await {
                Ok(Pushed::Done) => return Ok(Committed { commit, branch }),
                Ok(Pushed::Overtaken) => {
                    let (name, verb) = (name.clone(), "push".to_owned());
                    let why = format!("{branch} goes on faster than we can push; try again");
                    last = Some(GitError::Failed { name, verb, why });
                }
                // It may stand there all the same: the next fetch tells.
                Err(error @ (GitError::Failed { .. } | GitError::TimedOut { .. })) => {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(GitError::Failed { name, verb: "push".to_owned(), why: String::new() }))
    }

    /// Makes the commit, in the mirror alone.
    async fn make(
        &self,
        mirror: &Mirror<'_>,
        tip: &str,
        (mode, id, inside): (&str, &str, &str),
        edit: &Edit,
    ) -> Result<String, GitError> {
        let index = mirror.path.join("write.index");
        let with = |args: &[&str]| {
            let mut call = mirror.call(args);
            call.env.push(("GIT_INDEX_FILE", index.display().to_string()));
            let args = call.args;
            (args, call.env)
        };
        let run = |args: Vec<String>, env: Vec<(&'static str, String)>, stdin: Vec<u8>| {
            let mut call = mirror.call(&[]);
            (call.args, call.env, call.stdin) = (args, env, stdin);
            mirror.must(call)
        };
        // One that a crash left is nobody's.
        let _ = std::fs::remove_file(&index);
        let (args, env) = with(&["read-tree", tip]);
        run(args, env, Vec::new()).await?;
        let entry = format!("{mode},{id},{inside}");
        let (args, env) = with(&["update-index", "--add", "--cacheinfo", &entry]);
        run(args, env, Vec::new()).await?;
        let (args, env) = with(&["write-tree"]);
        let tree = run(args, env, Vec::new()).await?.text();
        let _ = std::fs::remove_file(&index);
        let (args, mut env) = with(&["commit-tree", &tree, "-p", tip, "-F", "-"]);
        env.extend(edit.author.environment(self.0.ambient.clock.now()));
        let message = format!("{}\n", edit.message.trim());
        Ok(run(args, env, message.into_bytes()).await?.text())
    }
}

/// Which repository a file lies in, and where there.
fn place(spec: &GitSource, path: &str) -> Result<(Target, String), GitError> {
    let odd = |part: &str| matches!(part, "" | "." | ".." | ".git");
    if path.contains(char::is_control) || path.split('/').any(odd) {
        let why = "is no path of a file below a repository's root".to_owned();
        return Err(GitError::File { file: path.escape_debug().to_string(), why });
    }
    for target in targets(spec)? {
        let below = match target.several {
            true => path.strip_prefix(&format!("{}/", target.remote.name)),
            false => Some(path),
        };
        if let Some(below) = below {
            let inside = match target.path.as_str() {
                "" => below.to_owned(),
                base => format!("{base}/{below}"),
            };
            return Ok((target, inside));
        }
    }
    let why = "lies in none of the Source's repositories".to_owned();
    Err(GitError::File { file: path.to_owned(), why })
}

/// A file's mode and object in a commit; nothing where there is no such file.
async fn blob(
    mirror: &Mirror<'_>,
    commit: &str,
    inside: &str,
) -> Result<Option<(String, String)>, GitError> {
    let args = ["ls-tree", "-z", "--full-tree", commit, "--", inside];
    let printed = mirror.must(mirror.call(&args)).await?.text();
    let mut words = printed.split_ascii_whitespace();
    Ok(match (words.next(), words.next(), words.next()) {
        (Some(mode @ ("100644" | "100755")), Some("blob"), Some(id)) => {
            Some((mode.to_owned(), id.to_owned()))
        }
        (None, ..) => None,
        _ => {
            let why = "is no plain file, and is not written to".to_owned();
            return Err(GitError::File { file: inside.to_owned(), why });
        }
    })
}

/// What stands in an object.
async fn text(mirror: &Mirror<'_>, path: &str, id: &str) -> Result<String, GitError> {
    let mut call = mirror.call(&["cat-file", "blob", id]);
    call.most = usize::try_from(super::MAX_FILE).unwrap_or(usize::MAX);
    let printed = mirror.must(call).await?;
    String::from_utf8(printed.stdout).map_err(|_| GitError::File {
        file: path.to_owned(),
        why: "is no UTF-8 text; save it as UTF-8".to_owned(),
    })
}

/// Makes an object of a text; the same text has the same.
async fn object(mirror: &Mirror<'_>, text: &str) -> Result<String, GitError> {
    let mut call = mirror.call(&["hash-object", "-w", "--no-filters", "--stdin"]);
    call.stdin = text.as_bytes().to_vec();
    Ok(mirror.must(call).await?.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_in_the_repository_that_its_path_names() {
        let url = GitSource {
            url: Some("acme/ops".to_owned()),
            path: Some("agents".to_owned()),
            ..GitSource::default()
        };
        let repos = GitSource {
            repos: vec!["acme/api".to_owned(), "acme/web".to_owned()],
            ..GitSource::default()
        };
        let found = |spec: &GitSource, path: &str| match place(spec, path) {
            Ok((target, inside)) => format!("{} {inside}", target.remote.name),
            Err(error) => error.to_string(),
        };
        assert_eq!(found(&url, "a/b.yaml"), "acme/ops agents/a/b.yaml");
        assert_eq!(found(&repos, "acme/web/b.yaml"), "acme/web .open-dispatch/b.yaml");
        insta::assert_snapshot!(found(&repos, "acme/other/b.yaml"), @"acme/other/b.yaml lies in none of the Source's repositories");
        for path in ["", "../a", "a/../b", ".git/config", "/a", "a\nb"] {
            assert!(found(&url, path).contains("is no path"), "{path:?}");
        }
    }

    #[test]
    fn an_author_of_any_name_is_one_line_of_a_commit() {
        let author = Author { name: "A <b>\nc".to_owned(), email: "\n".to_owned() };
        let env = author.environment(jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(env[0], ("GIT_AUTHOR_NAME", "A bc".to_owned()));
        assert_eq!(env[1].1, Author::server().email);
        assert_eq!(env[2].1, "0 +0000");
    }
}
