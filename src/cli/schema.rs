//! `schema`: the JSON Schemas by which editors complete and check YAML.

use std::path::Path;

use serde_json::Value;

use super::{args::SchemaArgs, error::Error, object::print_json, out, target};
use crate::{
    config,
    resource::{Kind, schema::json_schema},
};

/// What the configuration file's schema is called.
const CONFIG: &str = "config";

/// Runs `schema`. No server needs to run.
///
/// # Errors
/// A word that names no kind, or a directory that cannot be written.
pub fn schema(args: &SchemaArgs) -> Result<u8, Error> {
    if let Some(directory) = &args.out {
        return write_all(directory);
    }
    match args.kind.as_deref().unwrap_or_default() {
        CONFIG => print_json(&config::File::schema())?,
        word => print_json(&json_schema(target::kind(word)?))?,
    }
    Ok(0)
}

fn write_all(directory: &Path) -> Result<u8, Error> {
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    let kinds = Kind::ALL.map(|kind| (kind.singular(), json_schema(kind)));
    for (name, schema) in kinds.into_iter().chain([(CONFIG, config::File::schema())]) {
        write(&directory.join(format!("{name}.json")), &schema)?;
    }
    Ok(0)
}

fn write(path: &Path, schema: &Value) -> Result<(), Error> {
    let text = format!("{schema:#}\n");
    let word = match std::fs::read_to_string(path) {
        Ok(there) if there == text => "unchanged",
        Ok(_) => "configured",
        Err(_) => "created",
    };
    if word != "unchanged" {
        std::fs::write(path, text).map_err(failed(path))?;
    }
    out::line(format!("{} {word}", path.display()))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::File { path, source }
}
