//! `get deliveries`: rows of a ledger that are shown like a kind.

use crate::cli::{
    args::ListArgs,
    client::{AS_JSON, AS_TABLE, Client, api},
    error::Error,
    object::print_json,
    out,
    output::Output,
    table::{self, Table},
};

/// What they are called.
pub(super) const DELIVERIES: &str = "deliveries";

/// Shows what chat must still be told: rows of a ledger, which are no objects.
pub(super) async fn deliveries(client: &Client, args: &ListArgs) -> Result<u8, Error> {
    let chooses = args.selector.is_some() || args.field_selector.is_some();
    if args.watch || args.watch_only || chooses {
        let line = "deliveries are no objects: they have no labels, and cannot be watched";
        return Err(Error::Usage(line.to_owned()));
    }
    let path = api(DELIVERIES);
    match &args.output {
        None | Some(Output::Wide) => {
            let table = Table::read(&client.get(&path, &[], AS_TABLE).await?, true);
            if table.is_empty() {
                out::note("No resources found");
            } else {
                table::print(&table, !args.no_headers)?;
            }
        }
        Some(Output::Yaml) => {
            let line = "deliveries are no objects, and have no YAML; -o json shows them whole";
            return Err(Error::Usage(line.to_owned()));
        }
        Some(Output::Name) => {
            let list = client.get(&path, &[], AS_JSON).await?;
            for item in list["items"].as_array().into_iter().flatten() {
                out::line(item["id"].as_str().unwrap_or_default())?;
            }
        }
        Some(Output::JsonPath(template)) => {
            let list = client.get(&path, &[], AS_JSON).await?;
            out::theirs(template.render(&list).as_bytes())?;
        }
        Some(Output::Columns(columns)) => {
            let list = client.get(&path, &[], AS_JSON).await?;
            let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            table::print(&columns.table(items), !args.no_headers)?;
        }
        Some(Output::Json) => print_json(&client.get(&path, &[], AS_JSON).await?)?,
    }
    Ok(0)
}
