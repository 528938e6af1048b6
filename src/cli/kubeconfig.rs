//! `kubeconfig`: what kubectl and the client libraries of Kubernetes need to talk to this server.
//!
//! That is an address by https, the authority to trust, and a token; the token is made for it, with a
//! name and a role, so that it can be ended alone. The form is kubectl's own. Merged into a file, the
//! entries of our names are replaced and all else stays; comments in it do not, as with kubectl.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use url::Url;

use super::{
    args::KubeconfigArgs,
    client::{AS_JSON, Client, api},
    error::Error,
    out, token,
};

/// What the entries are made of.
struct Parts<'a> {
    context: &'a str,
    user: &'a str,
    server: &'a str,
    authority: &'a str,
    token: &'a str,
}

/// Runs `kubeconfig`.
///
/// # Errors
/// The server's refusal, why it cannot be reached, or a file that cannot be read or written.
pub async fn kubeconfig(args: KubeconfigArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let server = address(&args, &client)?;
    let target = match (&args.file, args.merge) {
        (Some(file), _) => Some(file.clone()),
        (None, true) => Some(usual_file(|name| std::env::var(name).ok())?),
        (None, false) => None,
    };
    // Before the token is made: a file that cannot be merged into or written leaves none behind.
    let before = target.as_deref().map(read).transpose()?.flatten();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    let draft =
        target.as_deref().map(|path| Draft::beside(path).map_err(failed(path))).transpose()?;
    let tls = client.get(&api("tls"), &[], AS_JSON).await?;
    warn_of_name(&server, &tls);
    let name = args.name.clone().unwrap_or_else(usual_name);
    let wanted = token::Wanted {
        name: &name,
        role: &args.role,
        expires: args.expires.as_deref(),
        replace: args.replace,
    };
    let made = token::make(&client, &wanted).await?;
    let parts = Parts {
        context: &args.context,
        user: &format!("{}-{name}", args.context),
        server: server.as_str().trim_end_matches('/'),
        authority: &STANDARD.encode(tls["authority"].as_str().unwrap_or_default()),
        token: made["token"].as_str().unwrap_or_default(),
    };
    let whole = merge(before.unwrap_or_else(empty), &parts);
    let text = to_yaml(&whole)?;
    match target.zip(draft) {
        None => {
            out::data(text)?;
            warn_of_readers(&io::stdout());
        }
        Some((path, draft)) => {
            if let Err(error) = draft.write(&text).map_err(failed(&path)) {
                // Nobody was told this token, so it shall open nothing.
                return Err(match token::end(&client, &name).await {
                    Ok(()) => error,
                    Err(why) => {
                        out::note(format!("token/{name} stands, and nobody has it: {why}"));
                        error
                    }
                });
            }
            out::note(format!("wrote {}", path.display()));
            if whole["current-context"] != parts.context {
                out::note(format!(
                    "kubectl goes on with the context {}; kubectl config use-context {} takes this \
                     one",
                    whole["current-context"], parts.context
                ));
            }
        }
    }
    out::note(format!(
        "token/{name} created, with the role {}; open-dispatch token revoke {name} ends it",
        args.role
    ));
    Ok(0)
}

/// Where clients reach the server.
fn address(args: &KubeconfigArgs, client: &Client) -> Result<Url, Error> {
    match &args.address {
        Some(text) => Url::parse(text)
            .ok()
            .filter(|url| url.scheme() == "https" && url.has_host())
            .ok_or_else(|| Error::Usage(format!("--address is `{text}`; write https://HOST:PORT"))),
        None => {
            let mut url = client.place().target()?.url;
            // What is no special port of http must be told to https.
            let port = url.port_or_known_default();
            url.set_scheme("https")
                .and_then(|()| url.set_port(port))
                .map_err(|()| Error::BadServer(url.to_string()))?;
            Ok(url)
        }
    }
}

/// Tells of a file behind standard output that others can read: a shell makes it so.
fn warn_of_readers(output: &impl std::os::fd::AsFd) {
    use rustix::fs::{FileType, Mode, fstat};
    let Ok(stat) = fstat(output) else { return };
    let mode = Mode::from_raw_mode(stat.st_mode);
    if FileType::from_raw_mode(stat.st_mode).is_file() && mode.intersects(Mode::RGRP | Mode::ROTH) {
        out::note(format!(
            "warning: standard output is a file that others can read (mode {:04o}), and it holds a \
             token; chmod 600 it, or let --file FILE write it, for its owner alone",
            mode.bits()
        ));
    }
}

/// Tells of an address for which the server's certificate does not stand.
fn warn_of_name(server: &Url, tls: &Value) {
    let host = server.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let names = tls["names"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !names.iter().any(|name| name == host) {
        out::note(format!(
            "warning: the server's certificate does not stand for {host}, so clients will not trust \
             it there; start the server with --tls-names {host}"
        ));
    }
}

/// How the token of who names none is called.
fn usual_name() -> String {
    let user = std::env::var("USER").unwrap_or_default().to_lowercase();
    let plain: String = user.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    if plain.is_empty() { "kubectl".to_owned() } else { format!("kubectl-{plain}") }
}

/// The file that kubectl reads and writes first.
fn usual_file(variable: impl Fn(&str) -> Option<String>) -> Result<PathBuf, Error> {
    let named = variable("KUBECONFIG").unwrap_or_default();
    if let Some(first) = named.split(':').find(|path| !path.is_empty()) {
        return Ok(first.into());
    }
    match variable("HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(Path::new(&home).join(".kube/config")),
        None => Err(Error::Usage("HOME is not set; name the file with --file".to_owned())),
    }
}

/// A kubeconfig without entries.
fn empty() -> Value {
    json!({"apiVersion": "v1", "kind": "Config"})
}

/// What stands in a kubeconfig; nothing where there is none, or an empty one.
fn read(path: &Path) -> Result<Option<Value>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::File { path: path.to_owned(), source }),
    };
    let bad = |why: &str| {
        Error::Faults(format!(
            "{}: {why}; mend it, or name another file with --file",
            path.display()
        ))
    };
    if text.trim().is_empty() {
        return Ok(None);
    }
    let value: Value = serde_saphyr::from_str(&text).map_err(|error| {
        let why = error.to_string();
        bad(why.lines().next().unwrap_or_default())
    })?;
    match value["kind"].as_str() {
        Some("Config") => Ok(Some(value)),
        _ => Err(bad("it is no kubeconfig (kind: Config)")),
    }
}

fn to_yaml(whole: &Value) -> Result<String, Error> {
    serde_saphyr::to_string(whole)
        .map_err(|error| Error::Broken(format!("the kubeconfig cannot be written: {error}")))
}

/// A kubeconfig with our entries in it, in place of those of the same names.
fn merge(mut whole: Value, parts: &Parts<'_>) -> Value {
    let cluster = json!({"server": parts.server, "certificate-authority-data": parts.authority});
    let context = json!({"cluster": parts.context, "user": parts.user});
    for (list, name, member, entry) in [
        ("clusters", parts.context, "cluster", cluster),
        ("users", parts.user, "user", json!({"token": parts.token})),
        ("contexts", parts.context, "context", context),
    ] {
        let entry = json!({"name": name, member: entry});
        match whole[list].as_array_mut() {
            None => whole[list] = json!([entry]),
            Some(entries) => match entries.iter_mut().find(|held| held["name"] == name) {
                Some(held) => *held = entry,
                None => entries.push(entry),
            },
        }
    }
    if whole["current-context"].as_str().unwrap_or_default().is_empty() {
        whole["current-context"] = parts.context.into();
    }
    whole
}

/// A file that is to hold a token: written whole or not at all, and for its owner alone unless it is
/// there with other rights.
struct Draft {
    path: PathBuf,
    half: tempfile::NamedTempFile,
}

impl Draft {
    /// Begins it in the directory of a file, which is made where it is missing.
    fn beside(path: &Path) -> io::Result<Self> {
        // A link stays one.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let half = tempfile::NamedTempFile::new_in(directory)?;
        if let Ok(before) = fs::metadata(&path) {
            use std::os::unix::fs::PermissionsExt as _;
            if !before.is_file() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            half.as_file().set_permissions(fs::Permissions::from_mode(before.mode() & 0o777))?;
        }
        Ok(Self { path, half })
    }

    /// Writes it, and puts it in the file's place.
    fn write(mut self, text: &str) -> io::Result<()> {
        self.half.write_all(text.as_bytes())?;
        self.half.as_file().sync_all()?;
        self.half.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts<'static> {
        Parts {
            context: "open-dispatch",
            user: "open-dispatch-ci",
            server: "https://127.0.0.1:8080",
            authority: "Q0E=",
            token: "odt_hush",
        }
    }

    #[test]
    fn a_kubeconfig_reads_as_kubectl_writes_it() {
        insta::assert_snapshot!(to_yaml(&merge(empty(), &parts())).unwrap());
    }

    #[test]
    fn what_else_is_in_the_file_stays_and_ours_is_there_once() {
        let theirs = json!({"apiVersion": "v1", "kind": "Config", "current-context": "work",
            "preferences": {"colors": true},
            "clusters": [{"name": "work", "cluster": {"server": "https://k8s"}}],
            "users": [{"name": "me", "user": {"token": "mine"}}],
            "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me"}}]});
        let once = merge(theirs.clone(), &parts());
        assert_eq!(once["current-context"], "work");
        assert_eq!(once["preferences"], theirs["preferences"]);
        for list in ["clusters", "users", "contexts"] {
            assert_eq!(once[list][0], theirs[list][0]);
            assert_eq!(once[list].as_array().unwrap().len(), 2, "{list}");
        }
        assert_eq!(merge(once.clone(), &parts()), once);
    }

    #[test]
    fn the_file_is_the_one_that_kubectl_reads_first() {
        let file = |kubeconfig: Option<&str>| {
            let variable = |name: &str| match name {
                "KUBECONFIG" => kubeconfig.map(str::to_owned),
                _ => Some("/home/a".to_owned()),
            };
            usual_file(variable).unwrap().display().to_string()
        };
        assert_eq!(file(None), "/home/a/.kube/config");
        assert_eq!(file(Some("")), "/home/a/.kube/config");
        assert_eq!(file(Some(":/b:/c")), "/b");
    }

    #[test]
    fn a_file_that_is_none_is_told_and_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("config");
        assert!(read(&path).unwrap().is_none());
        for text in ["a: [", "kind: Pod", "- 1"] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("--file"), "{text}");
        }
        Draft::beside(&path).unwrap().write("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_new_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("sub/config");
        Draft::beside(&path).unwrap().write("x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
