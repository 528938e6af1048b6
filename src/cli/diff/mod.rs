//! `diff`: what `apply` would change, by the server's judgement, so that defaults and its checks are
//! in it; of what a Source declares, what the Source would change if its file said this ([`declared`]).
//! Without files: what stands there against what the Source has read ([`drift`]).
//!
//! Both sides are YAML of what is wanted; [`unified`] compares them, or a program of the person's
//! own. Nothing secret is shown by either: [`mask`] comes first.

mod declared;
pub(super) mod drift;
mod mask;
mod unified;

use std::{io::IsTerminal as _, path::Path, process::Command};

use serde_json::Value;

use super::{
    apply::{Outcome, all_of, documents, judge_one, set_name},
    applyset::left_over,
    args::{DiffArgs, FileArgs},
    client::Client,
    error::{Error, PIPE_CLOSED},
    files::Document,
    object::{desired, to_yaml},
    out, watch,
};
use crate::resource::{AnyObject, GROUP, Kind};

/// Exit code: something differs.
const DIFFERS: u8 = 1;
/// Exit code: whether anything differs could not be found out.
const TROUBLE: u8 = 2;
/// The variable that names a program to compare with.
const EXTERNAL: &str = "OPEN_DISPATCH_EXTERNAL_DIFF";

/// One object on both sides; an empty text where it is not there.
struct Pair {
    /// What its file is called, should it become one.
    name: String,
    live: String,
    merged: String,
}

/// Runs `diff`.
///
/// # Errors
/// Every fault of every document, or why the server cannot be asked.
pub async fn diff(args: DiffArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    if args.file.is_empty() && args.set.prune {
        return Err(Error::Usage("--prune needs files: -f FILE".to_owned()));
    }
    if args.file.is_empty() {
        return drifted(&client, &args.what).await;
    }
    let set = set_name(&args.set)?;
    let files = FileArgs { file: args.file, recursive: args.recursive };
    let documents = documents(&files, set).await?;
    let mut pairs = Vec::new();
    for (document, outcome) in documents.iter().zip(judge(&client, &documents, set).await?) {
        let (kind, name) = (document.object.kind(), &document.object.metadata().name);
        pairs.push(pair(kind, name, outcome.before, Some(outcome.after))?);
    }
    if let Some(set) = set {
        let wanted: Vec<&AnyObject> = documents.iter().map(|document| &document.object).collect();
        for gone in left_over(&client, set, &wanted).await? {
            let live = watch::object(&client, gone.kind, &gone.name).await?;
            pairs.push(pair(gone.kind, &gone.name, live, None)?);
        }
    }
    show(pairs)
}

/// Shows what stands against what files say, of the objects that are named or of all.
async fn drifted(client: &Client, words: &[String]) -> Result<u8, Error> {
    let mut pairs = Vec::new();
    for drift in drift::drift(client, words).await? {
        let pair = pair(drift.kind, &drift.name, Some(drift.live), Some(drift.file))?;
        if pair.live != pair.merged {
            out::note(drift.note);
        }
        pairs.push(pair);
    }
    show(pairs)
}

/// Shows what differs, and says by the exit code whether anything does.
fn show(mut pairs: Vec<Pair>) -> Result<u8, Error> {
    pairs.retain(|pair| pair.live != pair.merged);
    match std::env::var(EXTERNAL).ok().filter(|program| !program.trim().is_empty()) {
        Some(program) => external(&program, &pairs),
        None => {
            let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            for pair in &pairs {
                out::data(unified::unified(&pair.name, &pair.live, &pair.merged, colours))?;
            }
            Ok(if pairs.is_empty() { 0 } else { DIFFERS })
        }
    }
}

/// What would become of each document.
async fn judge(
    client: &Client,
    documents: &[Document],
    set: Option<&str>,
) -> Result<Vec<Outcome>, Error> {
    let mut judged = Vec::new();
    for document in documents {
        let outcome = match declared::outcome(client, document).await {
            Ok(Some((outcome, note))) => {
                if outcome.verdict() != "unchanged" {
                    out::note(note);
                }
                Ok(outcome)
            }
            Ok(None) => judge_one(client, document, set).await,
            Err(error) => Err(error),
        };
        judged.push((document, outcome));
    }
    all_of(judged)
}

/// Tells an error, and gives the exit code that says that nothing is known.
#[must_use]
pub fn trouble(error: &Error) -> u8 {
    if let Some(line) = error.line() {
        out::note(line);
    }
    if matches!(error, Error::PipeClosed) { PIPE_CLOSED } else { TROUBLE }
}

fn pair(kind: Kind, name: &str, live: Option<Value>, merged: Option<Value>) -> Result<Pair, Error> {
    let mut live = live.as_ref().map(desired);
    let mut merged = merged.as_ref().map(desired);
    mask::mask(&mut live, &mut merged);
    let text = |object: Option<Value>| object.as_ref().map_or(Ok(String::new()), to_yaml);
    let name = format!("{}.{GROUP}.{name}", kind.singular());
    Ok(Pair { name, live: text(live)?, merged: text(merged)? })
}

/// Lets a program compare two directories, one with what is and one with what would be.
fn external(program: &str, pairs: &[Pair]) -> Result<u8, Error> {
    let directory = tempfile::Builder::new()
        .prefix("open-dispatch-diff-")
        .tempdir()
        .map_err(|source| Error::File { path: std::env::temp_dir(), source })?;
    let side = |name: &str, of: fn(&Pair) -> &str| {
        let side = directory.path().join(name);
        write_side(&side, pairs, of).map(|()| side)
    };
    let live = side("live", |pair| &pair.live)?;
    let merged = side("merged", |pair| &pair.merged)?;
    let mut words = program.split_whitespace();
    let status = Command::new(words.next().unwrap_or_default())
        .args(words)
        .args([live, merged])
        .status()
        .map_err(|error| {
            Error::Usage(format!("{EXTERNAL} is `{program}`, which fails: {error}"))
        })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(TROUBLE))
}

fn write_side(side: &Path, pairs: &[Pair], of: fn(&Pair) -> &str) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::File { path, source }
    };
    std::fs::create_dir(side).map_err(failed(side))?;
    for pair in pairs.iter().filter(|pair| !of(pair).is_empty()) {
        let path = side.join(format!("{}.yaml", pair.name));
        std::fs::write(&path, of(pair)).map_err(failed(&path))?;
    }
    Ok(())
}
