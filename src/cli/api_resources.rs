//! `api-resources`: the kinds that the server has, as its discovery tells them.

use serde_json::Value;

use super::{
    args::{ApiResourcesArgs, ResourcesFormat},
    client::{AS_JSON, Client, api},
    error::Error,
    out,
    table::{self, Table},
};
use crate::resource::{API_VERSION, GROUP};

/// Runs `api-resources`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn api_resources(args: ApiResourcesArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let answer = client.get(api("").trim_end_matches('/'), &[], AS_JSON).await?;
    let resources: Vec<&Value> = answer["resources"]
        .as_array()
        .into_iter()
        .flatten()
        // What has a slash is a part of another one.
        .filter(|resource| !resource["name"].as_str().unwrap_or_default().contains('/'))
        .filter(|resource| {
            let verbs = list(&resource["verbs"]);
            args.verbs.iter().all(|verb| verbs.contains(verb))
        })
        .collect();
    if args.output == Some(ResourcesFormat::Name) {
        for resource in resources {
            let name = resource["name"].as_str().unwrap_or_default();
            out::line(format!("{}.{GROUP}", out::harmless(name)))?;
        }
        return Ok(0);
    }
    let wide = args.output == Some(ResourcesFormat::Wide);
    table::print(&rows(&resources, wide), !args.no_headers)?;
    Ok(0)
}

fn rows(resources: &[&Value], wide: bool) -> Table {
    let mut head = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
    if wide {
        head.extend(["VERBS", "CATEGORIES"]);
    }
    let row = |resource: &&Value| {
        let text = |member: &str| resource[member].as_str().unwrap_or_default().to_owned();
        let mut cells = vec![
            text("name"),
            list(&resource["shortNames"]).join(","),
            API_VERSION.to_owned(),
            resource["namespaced"].as_bool().unwrap_or_default().to_string(),
            text("kind"),
        ];
        if wide {
            cells.push(list(&resource["verbs"]).join(","));
            cells.push(list(&resource["categories"]).join(","));
        }
        cells
    };
    let head = head.into_iter().map(str::to_owned).collect();
    Table::of(head, resources.iter().map(row).collect())
}

fn list(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
