//! `edit`: an object in the person's editor.
//!
//! What is shown is what is wanted; what the server sets is its own. What is wrong with a text is
//! told at its top, and it is opened again, until it is good or left as it was. What is sent is the
//! difference to what was shown ([`rebase`]), on the condition that nobody wrote meanwhile: who did
//! so elsewhere in the object is built upon, and who changed the very same thing is told of first.

mod rebase;
mod text;

use std::{
    io::{IsTerminal as _, Read as _, Seek as _, Write as _},
    process::Command,
};

use reqwest::Method;
use serde_json::{Value, json};

use self::text::{Sheet, Verdict};
use super::{
    args::EditArgs,
    client::{AS_JSON, Client, member},
    error::Error,
    object::desired,
    out,
    select::select,
    target::full_name,
};
use crate::resource::{Kind, merge::merge_patch};

/// How often a write is tried again when others write elsewhere in the object meanwhile.
const TRIES: u32 = 8;

/// Runs `edit`.
///
/// # Errors
/// The server's refusal, or an editor that cannot be run.
pub async fn edit(args: EditArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    for (kind, name) in select(&client, &args.what, None, false).await? {
        one(&client, kind, &name).await?;
    }
    Ok(0)
}

async fn one(client: &Client, kind: Kind, name: &str) -> Result<(), Error> {
    let path = member(kind, name);
    let mut base = client.get(&path, &[], AS_JSON).await?;
    let mut sheet = Sheet::of(&desired(&base))?;
    loop {
        let saved = open(&sheet)?;
        let edited = match sheet.read(&saved, kind, name) {
            Verdict::Cancelled(why) => {
                out::note(format!("Edit cancelled, {why}."));
                return Ok(());
            }
            Verdict::GivenUp => {
                let line = "Edit cancelled, no valid changes were saved.";
                return Err(kept(&saved, line));
            }
            Verdict::Again(next) => {
                sheet = next;
                continue;
            }
            Verdict::Wanted(edited) => edited,
        };
        let Some(mine) = rebase::difference(&desired(&base), &edited) else {
            out::note("Edit cancelled, no changes made.");
            return Ok(());
        };
        match send(client, &path, &mut base, &mine).await {
            Ok(None) => return out::line(format!("{} edited", full_name(kind, name))),
            Ok(Some(fields)) => sheet = Sheet::of_conflict(&with(&base, &mine), &fields)?,
            Err(Error::Api { code: 400 | 422, message, .. }) => {
                sheet = sheet.again(&saved, &message)
            }
            Err(error) => return Err(kept(&saved, &error.to_string())),
        }
    }
}

/// What is wanted of an object, with a patch.
fn with(base: &Value, mine: &Value) -> Value {
    let mut wanted = desired(base);
    merge_patch(&mut wanted, mine);
    wanted
}

/// Sends a patch on top of what was shown. `base` becomes what is there by then. Answers with the
/// fields that somebody else changed too, where there are any; then nothing was written.
async fn send(
    client: &Client,
    path: &str,
    base: &mut Value,
    mine: &Value,
) -> Result<Option<Vec<String>>, Error> {
    let mut tries = 0;
    loop {
        let mut patch = mine.clone();
        patch["metadata"]["resourceVersion"] = base["metadata"]["resourceVersion"].clone();
        match client.write(Method::PATCH, path, &[], &patch).await {
            Ok(_) => return Ok(None),
            Err(Error::Api { code: 409, .. }) if tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
        let newest = client.get(path, &[], AS_JSON).await?;
        if newest["metadata"]["uid"] != base["metadata"]["uid"] {
            return Err(Error::Api {
                code: 409,
                reason: "Conflict".to_owned(),
                message: "the object was deleted meanwhile, and this is another one of its name"
                    .to_owned(),
            });
        }
        let theirs = rebase::difference(&desired(base), &desired(&newest)).unwrap_or(json!({}));
        let both = rebase::overlap(mine, &theirs);
        *base = newest;
        if !both.is_empty() {
            return Ok(Some(both));
        }
    }
}

/// Keeps a text that could not be sent, and says where.
fn kept(text: impl AsRef<[u8]>, why: &str) -> Error {
    let mut builder = tempfile::Builder::new();
    let file = builder.prefix("open-dispatch-edit-").suffix(".yaml").tempfile();
    let written = file.and_then(|mut file| {
        file.write_all(text.as_ref())?;
        file.keep().map_err(|error| error.error)
    });
    Error::Faults(match written {
        Ok((_, path)) => format!("{why}\nWhat you wrote is kept in {}", path.display()),
        Err(_) => why.to_owned(),
    })
}

/// Opens a text in the editor, and gives it as it was saved.
fn open(sheet: &Sheet) -> Result<String, Error> {
    let directory = std::env::temp_dir();
    let failed = |source| Error::File { path: directory.clone(), source };
    let mut file = tempfile::Builder::new()
        .prefix("open-dispatch-edit-")
        .suffix(".yaml")
        .tempfile()
        .map_err(failed)?;
    file.write_all(sheet.text().as_bytes()).and_then(|()| file.flush()).map_err(failed)?;
    let set = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    let editor = match set("VISUAL").or_else(|| set("EDITOR")) {
        Some(editor) => editor,
        // It would wait for keys that nobody can press.
        None if !std::io::stdin().is_terminal() => {
            let line = "edit opens an editor, and there is no terminal for it; say the change with \
                        open-dispatch set, patch or apply, or set EDITOR to a program that needs none";
            return Err(Error::Usage(line.to_owned()));
        }
        None => "vi".to_owned(),
    };
    // The shell splits the editor's words, as it does for everybody else who reads EDITOR.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(file.path())
        .status()
        .map_err(|error| Error::Terminal(format!("no shell can be run: {error}")))?;
    let mut left = Vec::new();
    // Editors write anew in the same place, or put another file there.
    let read = match std::fs::read(file.path()) {
        Ok(left) => Ok(left),
        Err(_) => file.rewind().and_then(|()| file.read_to_end(&mut left)).map(|_| left),
    };
    if !status.success() {
        let line = format!(
            "the editor `{}` ended with {status}, so nothing was sent; set EDITOR to one that is there",
            out::harmless(&editor)
        );
        // It may have ended after somebody wrote much.
        return Err(match read {
            Ok(left) if left != sheet.text().as_bytes() => kept(left, &line),
            _ => Error::Terminal(line),
        });
    }
    String::from_utf8(read.map_err(failed)?).map_err(|error| {
        let line = "what was saved is no text in UTF-8, so nothing was sent";
        kept(error.into_bytes(), line)
    })
}
