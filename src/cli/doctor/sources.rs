//! What doctor looks at of Sources: whether their directories can be read, whether their repositories
//! answer and have the branch, and whether their secrets are there.
//!
//! Which Sources there are the running server says. What they read is looked at from here, with the
//! server's own settings and secrets: nothing is fetched, and nothing is changed.

use std::path::Path;

use super::Check;
use crate::{
    ambient::Ambient,
    cli::client::{AS_JSON, Client, Place, collection},
    config::Config,
    resource::{AnyObject, GitSource, Kind, Source, SourceFrom},
    secrets::Secrets,
    source::git::{Git, Settings},
};

const NAME: &str = "source";
/// Where secrets and mirrors lie in the data directory.
const SECRETS: &str = "secrets";
const MIRRORS: &str = "sources";

/// The checks of all Sources; none where no server runs that could name them.
pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let data = &config.data.value;
    let Ok(client) = Client::new(Place::Data(data.clone())) else { return Vec::new() };
    let Ok(list) = client.get(&collection(Kind::Source), &[], AS_JSON).await else {
        return Vec::new();
    };
    let items = list["items"].as_array().into_iter().flatten().cloned();
    let sources = items.filter_map(|item| AnyObject::from_json(Kind::Source, item).ok());
    let secrets = Secrets::new(data.join(SECRETS), config.environment.clone());
    let settings = Settings::from_environment(data.join(MIRRORS), &config.environment);
    let git = Git::new(settings, secrets.clone(), Ambient::real());
    let mut checks = Vec::new();
    for source in sources.filter_map(AnyObject::into_source) {
        checks.extend(one(&source, &git, &secrets).await);
    }
    checks
}

async fn one(source: &Source, git: &Git, secrets: &Secrets) -> Vec<Check> {
    let name = &source.metadata.name;
    if source.spec.suspend {
        let mend = format!("open-dispatch resume source/{name} lets it go on");
        return vec![Check::note(NAME, format!("{name} is suspended"), mend)];
    }
    let mut checks = match &source.spec.from {
        SourceFrom::Directory(directory) => vec![self::directory(name, Path::new(&directory.path))],
        SourceFrom::Git(spec) => repositories(name, spec, git, secrets).await,
    };
    let stalled = source.status.conditions.get("Stalled");
    if let Some(stalled) = stalled.filter(|_| source.status.conditions.is_true("Stalled")) {
        let found = format!("{name} stands still: {}: {}", stalled.reason, stalled.message);
        let mend = format!("see open-dispatch describe source/{name}, and docs/sources.md");
        checks.push(Check::fails(NAME, found, mend));
    }
    checks
}

/// Whether a directory can be read.
fn directory(name: &str, path: &Path) -> Check {
    let shown = path.display();
    if path.is_relative() {
        // It lies where the server was started, which nobody can tell from here.
        return Check::ok(
            NAME,
            format!("{name} reads {shown}, below where the server was started"),
        );
    }
    match std::fs::read_dir(path) {
        Ok(_) => Check::ok(NAME, format!("{name} reads {shown}")),
        Err(error) => {
            let mend = "make it, mend its owner and mode, or name another one in \
                        spec.from.directory.path";
            Check::fails(NAME, format!("{name}: {shown} cannot be read: {error}"), mend)
        }
    }
}

/// Whether repositories answer and have the branch, and whether a push webhook can be checked.
async fn repositories(name: &str, spec: &GitSource, git: &Git, secrets: &Secrets) -> Vec<Check> {
    let mut checks: Vec<Check> = git
        .reach(spec)
        .await
        .into_iter()
        .map(|(repo, found)| match found {
            Ok(commit) => {
                let short: String = commit.chars().take(12).collect();
                Check::ok(NAME, format!("{name}: {repo} answers, and is at {short}"))
            }
            // Each says its place and its mend.
            Err(error) => Check::fails(NAME, format!("{name}: {error}"), ""),
        })
        .collect();
    if let Some(secret) = &spec.webhook_secret_from_secret
        && let Err(error) = secrets.resolve(secret)
    {
        let found = format!("{name}: pushes cannot be told by webhook: {error}");
        checks.push(Check::fails(NAME, found, "see spec.from.git.webhookSecretFromSecret"));
    }
    checks
}
