//! Which repositories a Source names, and what of each is read. Pure.

use super::GitError;
use crate::{
    resource::{GitSource, MAX_REPOS, Remote, Way, validate::is_branch},
    source::set,
};

/// Where files lie in a repository that declares its own agents.
pub const DEFAULT_REPOS_PATH: &str = ".open-dispatch";

/// One of a Source's repositories.
pub(super) struct Target {
    pub(super) remote: Remote,
    pub(super) several: bool,
    pub(super) path: String,
    /// How much its files may be.
    pub(super) limits: set::Limits,
}

/// The repositories of a Source.
pub(super) fn targets(spec: &GitSource) -> Result<Vec<Target>, GitError> {
    let member = "spec.from.git";
    let bad =
        |place: &str, why: &str| GitError::Spec { place: place.to_owned(), why: why.to_owned() };
    let several = spec.url.is_none();
    let named: Vec<(String, &String)> = match (&spec.url, spec.repos.as_slice()) {
        (Some(url), []) => vec![(format!("{member}.url"), url)],
        (None, repos @ [_, ..]) => {
            let place = |(n, repo)| (format!("{member}.repos[{n}]"), repo);
            repos.iter().enumerate().map(place).collect()
        }
        _ => return Err(bad(member, "names exactly one of url, repos")),
    };
    if named.len() > MAX_REPOS {
        let why = format!("names more than {MAX_REPOS} repositories; make several Sources");
        return Err(bad(&format!("{member}.repos"), &why));
    }
    if let Some(branch) = spec.branch.as_deref().filter(|branch| !is_branch(branch)) {
        let why = format!("is {branch:?}, which git takes for no branch");
        return Err(bad(&format!("{member}.branch"), &why));
    }
    let default = if several { DEFAULT_REPOS_PATH } else { "" };
    let path = spec.path.as_deref().unwrap_or(default).trim_matches('/');
    let path = if path == "." { "" } else { path };
    let upwards = |part: &str| matches!(part, "" | "." | "..");
    if path.contains(char::is_control) || (!path.is_empty() && path.split('/').any(upwards)) {
        let why = "is no path below the repository's root; write one such as deploy/agents";
        return Err(bad(&format!("{member}.path"), why));
    }
    let limits = if several { set::Limits::share(named.len()) } else { set::Limits::WHOLE };
    let mut targets: Vec<Target> = Vec::with_capacity(named.len());
    for (place, text) in named {
        let mut remote =
            Remote::parse(text).map_err(|why| GitError::Spec { place: place.clone(), why })?;
        remote.repo.branch.clone_from(&spec.branch);
        // The name of one may not lie within the other's: whose file would it be?
        let clash = |other: &Target| {
            let (a, b) = (format!("{}/", other.remote.name), format!("{}/", remote.name));
            a.starts_with(&b) || b.starts_with(&a)
        };
        if let Some(other) = targets.iter().find(|other| clash(other)) {
            let why = format!("names {} again; leave one of them out", other.remote.name);
            return Err(GitError::Spec { place, why });
        }
        targets.push(Target { remote, several, path: path.to_owned(), limits });
    }
    Ok(targets)
}

/// The one repository of a Source that has one.
pub(super) fn only(spec: &GitSource) -> Result<Target, GitError> {
    let mut targets = targets(spec)?;
    match targets.pop() {
        Some(target) if !target.several => Ok(target),
        _ => Err(GitError::Spec {
            place: "spec.from.git.repos".to_owned(),
            why: "names several repositories, and directories are listed of one; name it as url"
                .to_owned(),
        }),
    }
}

/// The hosts that have to be asked for a Source's repositories, each once; none for a spec that names no
/// repositories, or only such of this machine.
pub(super) fn hosts(spec: &GitSource) -> Vec<String> {
    let targets = targets(spec).unwrap_or_default();
    let mut hosts: Vec<String> = targets.iter().filter_map(|target| host(&target.remote)).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// The machine that is asked, whatever the way and the port.
fn host(remote: &Remote) -> Option<String> {
    if remote.way == Way::File {
        return None;
    }
    if let Some(url) = remote.address.parse::<url::Url>().ok().filter(url::Url::has_host) {
        return url.host_str().map(str::to_ascii_lowercase);
    }
    // As `user@host:path`.
    let place = remote.address.split(':').next().unwrap_or_default();
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    Some(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(spec: &GitSource) -> String {
        match targets(spec) {
            Ok(targets) => {
                let told = |it: &Target| format!("{} {:?}", it.remote.name, it.path);
                targets.iter().map(told).collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_a_spec_cannot_mean_is_told_with_the_mend() {
        let url = |url: &str| GitSource { url: Some(url.to_owned()), ..GitSource::default() };
        let repos = |repos: &[&str]| GitSource {
            repos: repos.iter().map(|it| (*it).to_owned()).collect(),
            ..GitSource::default()
        };
        let path = |path: &str| GitSource { path: Some(path.to_owned()), ..url("acme/api") };
        let all = [
            url("acme/api"),
            path("deploy/agents/"),
            path("."),
            repos(&["acme/api", "git@example.com:acme/web.git"]),
            GitSource::default(),
            GitSource { repos: vec!["a/b".to_owned()], ..url("a/b") },
            repos(&["acme/api", "https://github.com/acme/api.git"]),
            url("http://example.com/a"),
            path("../etc"),
            path("a//b"),
        ];
        insta::assert_snapshot!(all.iter().map(told).collect::<Vec<_>>().join("\n"), @r#"
        acme/api ""
        acme/api "deploy/agents"
        acme/api ""
        acme/api ".open-dispatch", example.com/acme/web ".open-dispatch"
        spec.from.git names exactly one of url, repos
        spec.from.git names exactly one of url, repos
        spec.from.git.repos[1] names acme/api again; leave one of them out
        spec.from.git.url is http, which everybody on the way can read and change; write https
        spec.from.git.path is no path below the repository's root; write one such as deploy/agents
        spec.from.git.path is no path below the repository's root; write one such as deploy/agents
        "#);
    }

    #[test]
    fn a_host_is_asked_for_all_repositories_that_it_has_whatever_the_way() {
        let repos = [
            "acme/api",
            "https://github.com/acme/web",
            "git@GIT.example.com:acme/web.git",
            "ssh://git@git.example.com:2222/acme/api",
            "/srv/git/ops",
        ];
        let repos = repos.iter().map(|it| (*it).to_owned()).collect();
        let found = hosts(&GitSource { repos, ..GitSource::default() });
        assert_eq!(found, ["git.example.com", "github.com"]);
        assert_eq!(hosts(&GitSource::default()), Vec::<String>::new());
    }
}
