//! `create` and `replace`: files as they are, once, or in the place of what is there.

use reqwest::Method;
use serde_json::Value;

use super::{
    args::{CreateArgs, DryRun, ReplaceArgs},
    client::{Client, collection, member},
    error::Error,
    files::{self, Document, Names},
    object::{name_of, print_object},
    out,
};
use crate::resource::Kind;

/// Runs `create`.
///
/// # Errors
/// Every fault of every document that this program finds; or some that the server refused.
pub async fn create(args: CreateArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let documents = files::read(&args.files, Names::MayBeMadeUp).await?;
    let dry = args.dry.dry_run;
    let mut told = Told::default();
    for (n, Document { object, json, .. }) in documents.iter().enumerate() {
        let created = match dry {
            DryRun::Client => Ok(json.clone()),
            _ => client.write(Method::POST, &collection(object.kind()), dry.query(), json).await,
        };
        let Some(created) = told.or(created)? else { continue };
        match args.output {
            Some(format) => {
                if n > 0 && format == super::args::ObjectFormat::Yaml {
                    out::data("---\n")?;
                }
                print_object(&created, format)?;
            }
            None => {
                out::line(format!("{} created{}", named(object.kind(), &created), dry.words()))?
            }
        }
    }
    told.end()
}

/// Runs `replace`.
///
/// # Errors
/// Every fault of every document that this program finds; or some that the server refused.
pub async fn replace(args: ReplaceArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let documents = files::read(&args.files, Names::All).await?;
    let dry = args.dry.dry_run;
    let mut told = Told::default();
    for Document { object, json, .. } in &documents {
        let path = member(object.kind(), &object.metadata().name);
        let replaced = match dry {
            DryRun::Client => client.get(&path, &[], super::client::AS_JSON).await,
            _ => client.write(Method::PUT, &path, dry.query(), json).await,
        };
        if told.or(replaced)?.is_some() {
            out::line(format!("{} replaced{}", named(object.kind(), json), dry.words()))?;
        }
    }
    told.end()
}

/// An object's name as it is printed; one that has only the front of a name shows that.
fn named(kind: Kind, object: &Value) -> String {
    match object["metadata"]["name"].as_str() {
        Some(name) if !name.is_empty() => name_of(object),
        _ => {
            let front = object["metadata"]["generateName"].as_str().unwrap_or_default();
            super::target::full_name(kind, &format!("{front}..."))
        }
    }
}

/// Whether all of several went well; what did not is told at once, and the others go on.
#[derive(Debug, Default)]
pub struct Told(bool);

impl Told {
    /// What went well; a refusal is told here, and nothing is left of it.
    ///
    /// # Errors
    /// What is no refusal: the server cannot be asked at all.
    pub fn or<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error @ Error::Api { .. }) if !matches!(error, Error::Api { code: 401, .. }) => {
                self.0 = true;
                out::note(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The exit code.
    ///
    /// # Errors
    /// [`Error::Told`] where something was refused.
    pub fn end(self) -> Result<u8, Error> {
        if self.0 { Err(Error::Told) } else { Ok(0) }
    }
}
