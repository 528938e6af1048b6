//! Files with desired state: which they are, and everything that is wrong with them.

use std::{
    collections::HashMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::error::Error;
use crate::resource::{AnyObject, Faults, Kind, yaml};

/// One document, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The file, as it was named.
    pub file: String,
    /// What stands there.
    pub object: AnyObject,
}

/// Reads all documents of files, directories and standard input (`-`).
///
/// # Errors
/// Every fault of every document, or a file that cannot be read.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Document>, Error> {
    let mut documents: Vec<Document> = Vec::new();
    let mut faults = Vec::new();
    for path in paths {
        for (name, text) in texts(path)? {
            match yaml::read(&text, Some(&name)) {
                Ok(objects) => documents.extend(
                    objects.into_iter().map(|object| Document { file: name.clone(), object }),
                ),
                Err(Faults(found)) => faults.extend(found.iter().map(ToString::to_string)),
            }
        }
    }
    faults.extend(nameless(&documents));
    faults.extend(doubles(&documents));
    if !faults.is_empty() {
        return Err(Error::Faults(faults.join("\n")));
    }
    if documents.is_empty() {
        let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Error::Faults(format!("{}: no object stands there", names.join(", "))));
    }
    Ok(documents)
}

/// A name that is made up anew each time would create another object each time.
fn nameless(documents: &[Document]) -> Vec<String> {
    documents
        .iter()
        .filter(|document| document.object.metadata().name.is_empty())
        .map(|document| {
            format!("{}: metadata.name: missing; an object in a file needs a name", document.file)
        })
        .collect()
}

fn doubles(documents: &[Document]) -> Vec<String> {
    let mut first: HashMap<(Kind, &str), &str> = HashMap::new();
    let mut faults = Vec::new();
    for Document { file, object } in documents {
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

/// The texts of a file, of the files in a directory by name, or of standard input.
fn texts(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::File { path, source }
    };
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed(Path::new("stdin")))?;
        return Ok(vec![("stdin".to_owned(), text)]);
    }
    let files =
        if path.is_dir() { files_in(path).map_err(failed(path))? } else { vec![path.into()] };
    files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).map_err(failed(&file))?;
            Ok((file.display().to_string(), text))
        })
        .collect()
}

fn files_in(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let known =
            path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if known && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
