//! What the words for who works on what become: the parts of a spec that jobs and agents share.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{args::WorkArgs, error::Error};

/// The spec that the words describe. Paths are resolved against the caller's directory, where the
/// server sees the same files; else `~` stays, and is the server's to resolve. An agent that is
/// not named is the server's to find.
///
/// # Errors
/// Words that do not fit together.
pub fn of(
    work: &WorkArgs,
    workdir: Option<&Path>,
    here: Option<&Path>,
    home: Option<&Path>,
) -> Result<Value, Error> {
    let mut spec = json!({});
    if let Some(runtime) = runtime(work, workdir, here)? {
        spec["runtime"] = runtime;
    }
    if let Some(agent) = agent(work)? {
        spec["agent"] = agent;
    }
    if let Some(word) = &work.repo {
        let mut repo = repo(word, here, home)?;
        if let Some(branch) = &work.branch {
            repo["branch"] = branch.as_str().into();
        }
        spec["repo"] = repo;
    }
    if let Some(mode) = work.permissions {
        spec["permissions"] = json!({"mode": mode.as_str()});
    }
    Ok(spec)
}

/// Where it runs; nothing where the words do not say, which leaves it to the server.
fn runtime(
    work: &WorkArgs,
    workdir: Option<&Path>,
    here: Option<&Path>,
) -> Result<Option<Value>, Error> {
    if work.is_machine() {
        if let Some(directory) = workdir {
            return Err(Error::Usage(format!(
                "`{}` is a directory of the server's machine, and a Fly Machine has none of them; \
                 leave it out, and name what it works on with --repo",
                directory.display()
            )));
        }
        let mut fly = Map::new();
        if let Some(image) = &work.image {
            fly.insert("image".to_owned(), image.as_str().into());
        }
        if let Some(persistent) = work.persistent {
            fly.insert("persistent".to_owned(), persistent.into());
        }
        return Ok(Some(json!({"fly": fly})));
    }
    if work.image.is_some() {
        return Err(Error::Usage(
            "--image is for Fly Machines; leave it out, or --runtime local".to_owned(),
        ));
    }
    // That it is kept is so in both places; that it is not is so in machines alone.
    if work.persistent == Some(false) {
        return Err(Error::Usage(
            "--persistent=false is for Fly Machines, and what runs on the server's machine keeps \
             its files; leave it out, or --runtime local"
                .to_owned(),
        ));
    }
    let workdir = match (workdir, &work.repo) {
        (Some(directory), _) => Some(resolve(directory, here)?),
        (None, Some(_)) => None,
        (None, None) => here.map(Path::to_path_buf),
    };
    match (workdir, work.runtime) {
        (Some(directory), _) => Ok(Some(json!({"local": {"workdir": text(&directory)?}}))),
        (None, Some(_)) => Ok(Some(json!({"local": {}}))),
        (None, None) => Ok(None),
    }
}

/// The agent that is named, with its model.
fn agent(work: &WorkArgs) -> Result<Option<Value>, Error> {
    let Some(name) = work.agent else { return Ok(None) };
    let cli = crate::resource::resolve::agent_named(name.as_str())
        .map_err(|e| Error::Usage(e.to_string()))?;
    let mut agent = json!(cli);
    if let Some(model) = &work.model {
        if cli.name() == "command" {
            return Err(Error::Usage(
                "--model is for agents that have a model; name one with --agent, such as \
                 --agent claude"
                    .to_owned(),
            ));
        }
        agent[cli.name()]["model"] = model.as_str().into();
    }
    Ok(Some(agent))
}

/// Which repository a word names: a URL, a path, or `owner/project` on GitHub.
fn repo(word: &str, here: Option<&Path>, home: Option<&Path>) -> Result<Value, Error> {
    if let Some(home) = home
        && let Some(below) = word.strip_prefix("~/")
    {
        return Ok(json!({"url": text(&home.join(below))?}));
    }
    let is_path = ["/", "./", "../", "~/"].iter().any(|start| word.starts_with(start))
        || matches!(word, "." | ".." | "~");
    if is_path {
        return Ok(json!({"url": text(&resolve(Path::new(word), here)?)?}));
    }
    if word.contains(':') {
        return Ok(json!({"url": word}));
    }
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    match word.split_once('/') {
        Some((owner, project)) if part(owner) && part(project) => Ok(json!({"github": word})),
        _ => Err(Error::Usage(format!(
            "--repo is `{word}`, which names no repository; write owner/project, a URL, or a \
             path that begins with /, ~/ or ./"
        ))),
    }
}

/// A path as the server must see it; `~` is the server's to resolve.
pub fn resolve(path: &Path, here: Option<&Path>) -> Result<PathBuf, Error> {
    if path.is_absolute() || path.starts_with("~") {
        return Ok(path.to_path_buf());
    }
    let here = here.ok_or_else(|| {
        Error::Usage(format!(
            "`{}` is relative, and the server is elsewhere; write the whole path on its machine",
            path.display()
        ))
    })?;
    // `here/./x` means `here/x`; `..` stays, since with symbolic links only the kernel can tell.
    Ok(here.join(path).components().collect())
}

fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| {
        Error::Usage(format!("the path `{}` is not UTF-8, and cannot be used", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::{super::agent_args::RuntimeName, *};

    #[test]
    fn that_nothing_is_kept_names_a_machine_and_is_never_dropped() {
        let made = |runtime, persistent, workdir: Option<&str>| {
            let work = WorkArgs { runtime, persistent, ..WorkArgs::default() };
            let here = Some(Path::new("/here"));
            of(&work, workdir.map(Path::new), here, None).map(|spec| spec["runtime"].clone())
        };
        let machine = |kept: bool| json!({"fly": {"persistent": kept}});
        assert_eq!(made(None, Some(false), None).unwrap(), machine(false));
        assert_eq!(made(Some(RuntimeName::Fly), Some(true), None).unwrap(), machine(true));
        // Kept is what it is on the server's machine, too.
        assert_eq!(made(None, Some(true), None).unwrap(), json!({"local": {"workdir": "/here"}}));
        for (runtime, workdir) in [(Some(RuntimeName::Local), None), (None, Some("/x"))] {
            let refused = made(runtime, Some(false), workdir).unwrap_err().to_string();
            assert!(refused.contains("Fly Machine"), "{refused}");
        }
    }
}
