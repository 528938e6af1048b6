//! The address of a Git repository, as a Source names it: what git is given, and by which way.
//!
//! Git takes many things for an address: a helper's name before `::`, an unencrypted protocol, a flag.
//! A [`Remote`] is one of the few that are let through, so that whoever runs git need not ask again.

use std::net::IpAddr;

use super::{
    Repo,
    validate::{bad_url, is_github},
};

/// The most repositories of one Source.
pub const MAX_REPOS: usize = 200;

/// A repository's address, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// What git is given; never with credentials.
    pub address: String,
    /// What people call it: `owner/name` on GitHub, else host and path. Files of one among several
    /// repositories lie behind it.
    pub name: String,
    /// By which way it is reached.
    pub way: Way,
    /// The same repository, as an Agent's or a Job's `repo` names it.
    pub repo: Repo,
}

/// By which way a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// HTTPS.
    Https,
    /// HTTP, to this machine alone.
    Http,
    /// SSH, with the keys of the user who runs the server.
    Ssh,
    /// A directory of this machine.
    File,
}

impl Way {
    /// The protocol's name, as git knows it.
    #[must_use]
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::File => "file",
        }
    }
}

impl Remote {
    /// Reads an address: `owner/name` on GitHub, an https, ssh or file address, `user@host:path`, an
    /// absolute path, or http to this machine.
    ///
    /// # Errors
    /// Why git is not given it, to be read behind the member's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        if is_github(text) {
            return Ok(Self::on_github(text));
        }
        if let Some(fault) = bad_url(text) {
            return Err(fault.replace(
                "let git's own credential helper or GH_TOKEN of the server's environment give them",
                "name a secret in tokenFromSecret",
            ));
        }
        if text.starts_with('~') {
            return Err("begins with ~, which stands for nobody's home here; write the whole path"
                .to_owned());
        }
        if text.starts_with('/') {
            return Self::directory(text, text);
        }
        match text.split_once("://") {
            Some(_) => Self::url(text),
            None => Self::scp(text),
        }
    }

    /// The address by which git sends credentials: scheme, host and port; none but for the web.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        let url = self.address.parse::<url::Url>().ok()?;
        matches!(self.way, Way::Https | Way::Http)
            .then(|| format!("{}/", url.origin().ascii_serialization()))
    }

    fn on_github(text: &str) -> Self {
        let name = text.strip_suffix(".git").unwrap_or(text).to_owned();
        let repo = Repo { github: Some(name.clone()), ..Repo::default() };
        let address = format!("https://github.com/{name}.git");
        Self { address, name, way: Way::Https, repo }
    }

    fn url(text: &str) -> Result<Self, String> {
        let url = text.parse::<url::Url>().map_err(|error| format!("is no address: {error}"))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let path = url.path().trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        if url.query().is_some() || url.fragment().is_some() {
            return Err("has a `?` or a `#` in it, which no repository's address has".to_owned());
        }
        if host.starts_with('-') || url.username().starts_with('-') {
            return Err("has a host that begins with a dash, which ssh takes for a flag".to_owned());
        }
        let way = match url.scheme() {
            "file" if host.is_empty() || host == "localhost" => {
                let path = url.to_file_path().map_err(|()| "names no path".to_owned())?;
                let path = path.to_str().ok_or("names a path that is no text")?;
                return Self::directory(text, path);
            }
            "file" => return Err("names a host; a file address has none: file:///path".to_owned()),
            "https" if host == "github.com" && is_github(path) => {
                let found = Self::on_github(path);
                return Ok(Self { address: text.to_owned(), ..found });
            }
            "https" => Way::Https,
            "http" if is_loopback(&url) => Way::Http,
            "http" => {
                return Err("is http, which everybody on the way can read and change; write https"
                    .to_owned());
            }
            "ssh" => Way::Ssh,
            other => {
                return Err(format!("is {other}, which is not read; write https, ssh or file"));
            }
        };
        if path.is_empty() || host.is_empty() {
            return Err("names no repository; write host and path".to_owned());
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self::at(text, format!("{host}{port}/{path}"), way))
    }

    /// `user@host:path`.
    fn scp(text: &str) -> Result<Self, String> {
        let (host, path) = text.split_once(':').unwrap_or((text, ""));
        let (user, bare) = host.rsplit_once('@').unwrap_or(("", host));
        let path = path.trim_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_host = |text: &str| text.chars().all(plain) && !text.starts_with('-');
        if bare.is_empty() || path.is_empty() || path.starts_with('-') {
            return Err("is no address; write an https, ssh or file address".to_owned());
        }
        if !is_host(bare) || !is_host(user) {
            return Err("has a host that ssh cannot be given; write user@host:path".to_owned());
        }
        let path = path.strip_suffix(".git").unwrap_or(path);
        Ok(Self::at(text, format!("{bare}/{path}"), Way::Ssh))
    }

    fn directory(text: &str, path: &str) -> Result<Self, String> {
        let bare = path.trim_matches('/');
        if bare.is_empty() || bare.split('/').any(|part| part == "..") {
            return Err("leads upwards or nowhere; write the whole path".to_owned());
        }
        let name = bare.strip_suffix(".git").unwrap_or(bare).to_owned();
        let repo = Repo { url: Some(text.to_owned()), ..Repo::default() };
        Ok(Self { address: format!("/{bare}"), name, way: Way::File, repo })
    }

    fn at(text: &str, name: String, way: Way) -> Self {
        let repo = Repo { url: Some(text.to_owned()), ..Repo::default() };
        Self { address: text.to_owned(), name, way, repo }
    }
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        match Remote::parse(text) {
            Ok(it) => format!("{} {} {}", it.way.protocol(), it.name, it.address),
            Err(why) => why,
        }
    }

    #[test]
    fn each_way_to_a_repository_has_a_name_for_people() {
        let told: Vec<String> = [
            "acme/api",
            "https://github.com/acme/api.git",
            "https://git.example.com/team/api.git",
            "https://git.example.com:8443/team/api",
            "http://127.0.0.1:3000/a.git",
            "ssh://git@git.example.com/team/api.git",
            "git@git.example.com:team/api.git",
            "/srv/git/api.git",
            "file:///srv/git/api.git",
        ]
        .map(told)
        .into();
        insta::assert_snapshot!(told.join("\n"), @r#"
        https acme/api https://github.com/acme/api.git
        https acme/api https://github.com/acme/api.git
        https git.example.com/team/api https://git.example.com/team/api.git
        https git.example.com:8443/team/api https://git.example.com:8443/team/api
        http 127.0.0.1:3000/a http://127.0.0.1:3000/a.git
        ssh git.example.com/team/api ssh://git@git.example.com/team/api.git
        ssh git.example.com/team/api git@git.example.com:team/api.git
        file srv/git/api /srv/git/api.git
        file srv/git/api /srv/git/api.git
        "#);
    }

    #[test]
    fn what_git_should_not_get_is_refused_with_the_reason() {
        let told: Vec<String> = [
            "",
            "--upload-pack=touch x",
            "ext::sh -c id",
            "ext::sh",
            "git://git.example.com/a",
            "http://git.example.com/a",
            "https://token@git.example.com/a",
            "https://user:token@git.example.com/a",
            "https://git.example.com/a?x=1",
            "ssh://-oProxyCommand=id/a",
            "-oProxyCommand=id:a",
            "git@host:-x",
            "file://host/a",
            "/srv/../etc",
            "~/a",
            "a/b/c",
            "https://a\n/b",
        ]
        .map(told)
        .into();
        insta::assert_snapshot!(told.join("\n"), @r#"
        is empty; write an https, ssh or file address, or a path that begins with / or ~/
        begins with a dash, which git would take for a flag; write an https, ssh or file address, or a path that begins with / or ~/
        has a space in it, which no address may have; write %20, or a path that begins with / or ~/
        names a remote helper; write an https, ssh or file address, or a path
        is git, which is not read; write https, ssh or file
        is http, which everybody on the way can read and change; write https
        has credentials in it; leave them out, and name a secret in tokenFromSecret
        has credentials in it; leave them out, and name a secret in tokenFromSecret
        has a `?` or a `#` in it, which no repository's address has
        has a host that begins with a dash, which ssh takes for a flag
        begins with a dash, which git would take for a flag; write an https, ssh or file address, or a path that begins with / or ~/
        is no address; write an https, ssh or file address
        names a host; a file address has none: file:///path
        leads upwards or nowhere; write the whole path
        begins with ~, which stands for nobody's home here; write the whole path
        is a relative path, and the server does not stand where you do; begin it with / or ~/
        has a control character in it, such as a line break; take it out
        "#);
    }

    #[test]
    fn credentials_go_to_the_repositorys_own_host_alone() {
        let origin = |text| Remote::parse(text).unwrap().origin();
        assert_eq!(origin("acme/api").as_deref(), Some("https://github.com/"));
        assert_eq!(origin("http://[::1]:3000/a").as_deref(), Some("http://[::1]:3000/"));
        assert_eq!(origin("git@host:a"), None);
        assert_eq!(origin("/srv/a"), None);
    }
}
