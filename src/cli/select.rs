//! Which objects a command means: by name, by labels, or all of a kind.

use super::{
    client::{AS_JSON, Client, collection},
    error::Error,
    out,
    target::{self, Targets},
};
use crate::resource::Kind;

/// The objects that words and a selector mean.
///
/// # Errors
/// Words that do not fit together, or the server's refusal.
pub async fn select(
    client: &Client,
    words: &[String],
    selector: Option<&str>,
    all: bool,
) -> Result<Vec<(Kind, String)>, Error> {
    match target::read(words)? {
        Targets::Objects(_) if selector.is_some() || all => {
            let line = "a selector chooses among all objects of a kind; name none with it";
            Err(Error::Usage(line.to_owned()))
        }
        Targets::Objects(objects) => Ok(objects),
        Targets::Kinds(_) if selector.is_none() && !all => Err(Error::Usage(
            "name the objects, such as job/nightly, or choose them with -l or --all".to_owned(),
        )),
        Targets::Kinds(kinds) => {
            let objects = list(client, &kinds, selector).await?;
            if objects.is_empty() {
                out::note("No resources found");
            }
            Ok(objects)
        }
    }
}

/// The objects of kinds that have some labels.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn list(
    client: &Client,
    kinds: &[Kind],
    selector: Option<&str>,
) -> Result<Vec<(Kind, String)>, Error> {
    let query: Vec<_> = selector.into_iter().map(|labels| ("labelSelector", labels)).collect();
    let mut objects = Vec::new();
    for kind in kinds {
        let list = client.get(&collection(*kind), &query, AS_JSON).await?;
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names = items.iter().filter_map(|item| item["metadata"]["name"].as_str());
        objects.extend(names.map(|name| (*kind, name.to_owned())));
    }
    Ok(objects)
}
