//! Files with desired state: which they are, and everything that is wrong with them.
//!
//! A place is a file, a directory, an address or standard input. Whatever is wrong with any of them
//! is told at once, and then nothing of any of them is used.

use std::{
    collections::HashMap,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::StreamExt as _;
use serde_json::Value;

use super::{args::FileArgs, client::root_cause, error::Error};
use crate::resource::{self, AnyObject, Faults, Kind};

/// The directory below one with desired state that holds schemas for editors.
const SCHEMAS: &str = "schema";
/// The most bytes that a file, standard input or an address may give.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// What is wrong with what is no text.
const NO_TEXT: &str = "is no text in UTF-8";
/// How long an address may take.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// One document, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The file, as it was named.
    pub file: String,
    /// What stands there. What the server fills in means nothing here.
    pub object: AnyObject,
    /// The same for the server, silent where the file is: what the file need not say, the server says.
    pub json: Value,
}

/// Whether an object may stand in a file without a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Each has one; one that is made up anew each time would create another object each time.
    All,
    /// One that has `generateName` needs none.
    MayBeMadeUp,
}

/// Reads all documents of files, directories, addresses and standard input (`-`).
///
/// # Errors
/// Every fault of every document, and every file that cannot be read.
pub async fn read(args: &FileArgs, names: Names) -> Result<Vec<Document>, Error> {
    let (documents, empty) = gather(args, names).await?;
    if documents.is_empty() {
        return Err(Error::Faults(format!("{}: no object stands there", empty.join(", "))));
    }
    Ok(documents)
}

/// As [`read`], of files that are the whole of a set: a place without an object is a fault, for it may
/// as well be one that is not there, and all that it ever held would be deleted.
///
/// # Errors
/// As [`read`], and every place in which no object stands.
pub async fn read_whole(args: &FileArgs, names: Names) -> Result<Vec<Document>, Error> {
    let (documents, empty) = gather(args, names).await?;
    let fault = |place: &String| {
        format!(
            "{place}: no object stands there, and --prune would delete all that did; leave it out"
        )
    };
    match empty.is_empty() {
        true => Ok(documents),
        false => Err(Error::Faults(empty.iter().map(fault).collect::<Vec<_>>().join("\n"))),
    }
}

/// All documents, and the places without any.
async fn gather(args: &FileArgs, names: Names) -> Result<(Vec<Document>, Vec<String>), Error> {
    let mut documents: Vec<Document> = Vec::new();
    let mut faults = Vec::new();
    let mut empty = Vec::new();
    for path in &args.file {
        let before = (documents.len(), faults.len());
        for (name, text) in texts(path, args.recursive).await {
            let text = match text {
                Ok(text) => text,
                Err(why) => {
                    faults.push(format!("{name}: {why}"));
                    continue;
                }
            };
            match objects(&text, &name) {
                Ok(found) => documents.extend(found),
                Err(Faults(found)) => faults.extend(found.iter().map(ToString::to_string)),
            }
        }
        if before == (documents.len(), faults.len()) {
            empty.push(path.display().to_string());
        }
    }
    faults.extend(nameless(&documents, names));
    faults.extend(doubles(&documents));
    if !faults.is_empty() {
        return Err(Error::Faults(faults.join("\n")));
    }
    Ok((documents, empty))
}

/// The documents of a text, or all that is wrong with any of them.
fn objects(text: &str, name: &str) -> Result<Vec<Document>, Faults> {
    let mut found = Vec::new();
    let mut faults = Vec::new();
    for document in resource::Document::read(text, Some(name))? {
        match document.unfilled() {
            Ok((object, json)) => found.push(Document { file: name.to_owned(), object, json }),
            Err(Faults(more)) => faults.extend(more),
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(Faults(faults)) }
}

fn nameless(documents: &[Document], names: Names) -> Vec<String> {
    documents
        .iter()
        .filter(|document| {
            let metadata = document.object.metadata();
            let made_up = names == Names::MayBeMadeUp && metadata.generate_name.is_some();
            metadata.name.is_empty() && !made_up
        })
        .map(|document| {
            format!("{}: metadata.name: missing; an object in a file needs a name", document.file)
        })
        .collect()
}

fn doubles(documents: &[Document]) -> Vec<String> {
    let mut first: HashMap<(Kind, &str), &str> = HashMap::new();
    let mut faults = Vec::new();
    for Document { file, object, .. } in documents {
        let name = object.metadata().name.as_str();
        if name.is_empty() {
            continue;
        }
        if let Some(other) = first.insert((object.kind(), name), file) {
            let kind = object.kind().singular();
            faults.push(format!("{file}: {kind}/{name} stands in {other} already"));
        }
    }
    faults
}

/// A text with its name, or why it cannot be read.
type Text = (String, Result<String, String>);

/// The texts of a place.
async fn texts(path: &Path, recursive: bool) -> Vec<Text> {
    if path == Path::new("-") {
        return vec![("stdin".to_owned(), text(std::io::stdin()))];
    }
    if let Some(url) = path.to_str().filter(|path| is_address(path)) {
        return vec![(url.to_owned(), download(url).await)];
    }
    let files = if path.is_dir() {
        match files_in(path, recursive, true) {
            Ok(files) => files,
            Err((path, error)) => {
                return vec![(path.display().to_string(), Err(error.to_string()))];
            }
        }
    } else {
        vec![path.to_path_buf()]
    };
    files
        .into_iter()
        .map(|file| {
            let read = std::fs::File::open(&file).map_err(|error| error.to_string()).and_then(text);
            (file.display().to_string(), read)
        })
        .collect()
}

/// All that a file says, which may have no end.
fn text(from: impl std::io::Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > MAX_BYTES {
        return Err(too_long());
    }
    String::from_utf8(bytes).map_err(|_| NO_TEXT.to_owned())
}

fn too_long() -> String {
    format!("holds more than {} MiB", MAX_BYTES >> 20)
}

fn is_address(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}

/// The files of a directory by name. Symbolic links to directories are not followed, and neither
/// hidden directories nor the schemas below the topmost one hold desired state.
fn files_in(
    directory: &Path,
    recursive: bool,
    topmost: bool,
) -> Result<Vec<PathBuf>, (PathBuf, std::io::Error)> {
    let failed = |error| (directory.to_path_buf(), error);
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|it| it.path())).collect())
        .map_err(failed)?;
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let known =
            path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if path.is_dir() {
            let left_out = name.starts_with('.') || (topmost && name == SCHEMAS);
            if recursive && !left_out && !path.is_symlink() {
                files.extend(files_in(&path, recursive, false)?);
            }
        } else if known && path.exists() {
            files.push(path);
        }
    }
    Ok(files)
}

/// Reads an address. Nothing goes there that would tell who asks: neither the server's token nor
/// the name of the person.
async fn download(url: &str) -> Result<String, String> {
    let failed = |error: reqwest::Error| root_cause(&error.without_url());
    let client = reqwest::Client::builder()
        .timeout(DOWNLOAD_TIMEOUT)
        .user_agent(concat!("open-dispatch/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(failed)?;
    let answer = client.get(url).send().await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(format!("it answers {}", answer.status()));
    }
    let mut bytes = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(part) = stream.next().await {
        bytes.extend_from_slice(&part.map_err(failed)?);
        if bytes.len() > MAX_BYTES {
            return Err(too_long());
        }
    }
    String::from_utf8(bytes).map_err(|_| NO_TEXT.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_or_no_text_is_told_and_not_read_to_its_end() {
        let long = std::io::repeat(b'a').take(2 * MAX_BYTES as u64);
        assert_eq!(text(long).unwrap_err(), "holds more than 8 MiB");
        assert_eq!(text(&b"\xff"[..]).unwrap_err(), "is no text in UTF-8");
        assert_eq!(text(&b"a: 1\n"[..]).unwrap(), "a: 1\n");
    }
}
