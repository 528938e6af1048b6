//! `export`: what is declared, as it would stand in files.

use std::path::Path;

use serde_json::Value;

use super::{
    args::ExportArgs,
    client::{AS_JSON, Client, collection, member},
    create::Told,
    diff::drift::without_overrides,
    error::Error,
    object::read_object,
    out,
    target::{self, Targets},
};
use crate::resource::{AnyObject, Kind, yaml};

/// Runs `export`.
///
/// # Errors
/// The server's refusal, or a file that cannot be written.
pub async fn export(args: ExportArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let mut told = Told::default();
    let objects = found(&client, &args, &mut told).await?;
    if objects.is_empty() {
        out::note("No resources found");
    }
    match &args.out {
        Some(directory) => files(directory, &objects, args.force)?,
        None => {
            for (n, object) in objects.iter().enumerate() {
                let separator = if n > 0 { "---\n" } else { "" };
                out::data(format!("{separator}{}", yaml::declared(object)))?;
            }
        }
    }
    told.end()
}

/// Whether a kind is declared to stay: what runs once, what the loop makes, and what is meant for a
/// time does not belong into a file.
fn stays(kind: Kind) -> bool {
    !matches!(kind.name(), "Job" | "Sprite" | "Override")
}

/// The objects that are meant. Of whole kinds those that belong to another object are left out: it
/// makes them anew.
async fn found(
    client: &Client,
    args: &ExportArgs,
    told: &mut Told,
) -> Result<Vec<AnyObject>, Error> {
    let kinds = if args.what.is_empty() {
        Kind::ALL.into_iter().filter(|kind| stays(*kind)).collect()
    } else {
        match target::read(&args.what)? {
            Targets::Kinds(kinds) => kinds,
            Targets::Objects(objects) => {
                if args.selector.is_some() {
                    let line = "a selector chooses among all objects of a kind; name none with it";
                    return Err(Error::Usage(line.to_owned()));
                }
                let mut found = Vec::new();
                for (kind, name) in objects {
                    let answer = client.get(&member(kind, &name), &[], AS_JSON).await;
                    if let Some(object) = told.or(answer)? {
                        found.push(lasting(client, kind, &object).await?);
                    }
                }
                return Ok(found);
            }
        }
    };
    let query: Vec<_> =
        args.selector.as_deref().into_iter().map(|labels| ("labelSelector", labels)).collect();
    let mut found = Vec::new();
    for kind in kinds {
        let list = client.get(&collection(kind), &query, AS_JSON).await?;
        for item in list["items"].as_array().into_iter().flatten() {
            let mut item = item.clone();
            item["kind"] = kind.name().into();
            if !belongs(&item) && !item["metadata"]["deletionTimestamp"].is_string() {
                found.push(lasting(client, kind, &item).await?);
            }
        }
    }
    Ok(found)
}

/// The object as it is meant to stay: without what is laid over it for a time, and that is said.
async fn lasting(client: &Client, kind: Kind, live: &Value) -> Result<AnyObject, Error> {
    match without_overrides(client, kind, live).await? {
        Some((file, note)) => {
            out::note(format!("{note}; exported as the file says it"));
            read_object(&file)
        }
        None => read_object(live),
    }
}

fn belongs(object: &Value) -> bool {
    let mut owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.any(|owner| owner["controller"] == true)
}

/// Writes a file for each object; none is written over unless that is meant, and then none at all.
fn files(directory: &Path, objects: &[AnyObject], force: bool) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::File { path, source }
    };
    let path = |object: &AnyObject| {
        let name = &object.metadata().name;
        directory.join(format!("{}-{name}.yaml", object.kind().singular()))
    };
    let texts: Vec<_> =
        objects.iter().map(|object| (path(object), yaml::declared(object))).collect();
    let differs = |path: &Path, text: &str| {
        std::fs::read_to_string(path).map_or_else(|_| path.exists(), |there| there != text)
    };
    if !force {
        let faults: Vec<String> = texts
            .iter()
            .filter(|(path, text)| differs(path, text))
            .map(|(path, _)| {
                format!(
                    "{}: is there and says something else; --force writes over it",
                    path.display()
                )
            })
            .collect();
        if !faults.is_empty() {
            return Err(Error::Faults(faults.join("\n")));
        }
    }
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    for (path, text) in &texts {
        std::fs::write(path, text).map_err(failed(path))?;
        out::line(path.display().to_string())?;
    }
    Ok(())
}
