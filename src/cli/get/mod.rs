//! `get`, `jobs` and `list`: objects in any form, once or as they change.
//!
//! The server makes the tables; what is sorted by a path is read as JSON too, for its order. A form
//! that is no table is made of JSON by [`Form`], which knows nothing of the server.

mod changes;
mod deliveries;
mod form;

use std::cmp::Ordering;

use serde_json::Value;

use super::{
    args::{AgentsArgs, GetArgs, JobsArgs, ListArgs},
    client::{AS_JSON, AS_TABLE, Client, collection, member},
    error::Error,
    jsonpath, out,
    output::Output,
    table::{self, Table},
    target::{self, Targets, full_name},
};
use crate::resource::Kind;
use changes::{Changes, revision_of};
use form::Form;

/// Runs `jobs`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn jobs(args: JobsArgs) -> Result<u8, Error> {
    let client = Client::find(&args.list.server)?;
    show_kinds(&client, &[Kind::Job], &args.list, true).await
}

/// Runs `list`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn agents(args: AgentsArgs) -> Result<u8, Error> {
    let client = Client::find(&args.list.server)?;
    show_kinds(&client, &[Kind::Agent], &args.list, false).await
}

/// Runs `get`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn get(args: GetArgs) -> Result<u8, Error> {
    let client = Client::find(&args.list.server)?;
    if args.what == [deliveries::DELIVERIES] {
        return deliveries::deliveries(&client, &args.list).await;
    }
    match target::read(&args.what)? {
        Targets::Kinds(kinds) => show_kinds(&client, &kinds, &args.list, false).await,
        Targets::Objects(objects) => {
            if args.list.selector.is_some() || args.list.field_selector.is_some() {
                let line = "a selector chooses among all objects of a kind; name none with it";
                return Err(Error::Usage(line.to_owned()));
            }
            if is_watch(&args.list) {
                let [(kind, name)] = &objects[..] else {
                    let line = "-w watches one object, or all of a kind";
                    return Err(Error::Usage(line.to_owned()));
                };
                return watch_one(&client, *kind, name, &args).await;
            }
            show_objects(&client, &objects, &args).await
        }
    }
}

fn is_watch(args: &ListArgs) -> bool {
    args.watch || args.watch_only
}

/// Among the objects of a kind, those that are meant.
#[derive(Clone, Copy)]
struct Which<'a> {
    args: &'a ListArgs,
    /// As the API says that only one is, by its name.
    field: Option<&'a str>,
}

impl<'a> Which<'a> {
    fn query(self) -> Vec<(&'static str, &'a str)> {
        let labels = self.args.selector.as_deref().map(|labels| ("labelSelector", labels));
        let field = self.field.or(self.args.field_selector.as_deref());
        labels.into_iter().chain(field.map(|field| ("fieldSelector", field))).collect()
    }
}

/// Shows an object, and then what becomes of it: changes, its end, and another one of its name.
async fn watch_one(client: &Client, kind: Kind, name: &str, args: &GetArgs) -> Result<u8, Error> {
    match client.get(&member(kind, name), &[], AS_JSON).await {
        Err(error) if error.is_not_found() && args.ignore_not_found => {}
        answer => drop(answer?),
    }
    let field = format!("metadata.name={name}");
    let which = Which { args: &args.list, field: Some(&field) };
    show_which(client, &[kind], which, false).await
}

/// Shows all objects of some kinds.
async fn show_kinds(
    client: &Client,
    kinds: &[Kind],
    args: &ListArgs,
    by_age: bool,
) -> Result<u8, Error> {
    if is_watch(args) && kinds.len() > 1 {
        return Err(Error::Usage("-w watches one kind at a time".to_owned()));
    }
    show_which(client, kinds, Which { args, field: None }, by_age).await
}

async fn show_which(
    client: &Client,
    kinds: &[Kind],
    which: Which<'_>,
    by_age: bool,
) -> Result<u8, Error> {
    match &which.args.output {
        None | Some(Output::Wide) => tables(client, kinds, which, by_age).await?,
        Some(output) => lists(client, kinds, which, output, by_age).await?,
    }
    Ok(0)
}

/// Reads the server's table as it is to be shown.
fn read_table(answer: &Value, args: &ListArgs) -> Table {
    let mut table = Table::read(answer, args.output == Some(Output::Wide));
    if args.show_labels {
        table.add_labels();
    }
    table
}

async fn tables(
    client: &Client,
    kinds: &[Kind],
    which: Which<'_>,
    by_age: bool,
) -> Result<(), Error> {
    let header = !which.args.no_headers;
    let mut empty = true;
    for kind in kinds {
        if which.args.watch_only {
            let list = client.get(&collection(*kind), &[("limit", "1")], AS_JSON).await?;
            let table = Table::none(revision_of(&list));
            return watch_table(client, *kind, which, table).await;
        }
        let answer = client.get(&collection(*kind), &which.query(), AS_TABLE).await?;
        let mut table = read_table(&answer, which.args);
        match &which.args.sort_by {
            Some(path) => table.sort_by_names(&names_in_order(client, *kind, which, path).await?),
            None if by_age => table.sort_by_age(),
            None => {}
        }
        if which.args.watch {
            return watch_table(client, *kind, which, table).await;
        }
        if table.is_empty() {
            continue;
        }
        if kinds.len() > 1 {
            if !empty {
                out::line("")?;
            }
            table.prefix_names(&full_name(*kind, ""));
        }
        empty = false;
        table::print(&table, header)?;
    }
    if empty {
        out::note("No resources found");
    }
    Ok(())
}

/// The names of a kind's objects in the order of what stands at a path.
async fn names_in_order(
    client: &Client,
    kind: Kind,
    which: Which<'_>,
    path: &jsonpath::Path,
) -> Result<Vec<String>, Error> {
    let mut list = client.get(&collection(kind), &which.query(), AS_JSON).await?;
    let Value::Array(mut items) = list["items"].take() else { return Ok(Vec::new()) };
    sort(&mut items, path);
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Ok(items.iter().map(name).collect())
}

/// Sorts objects by what stands at a path: those where nothing stands first, as kubectl does.
fn sort(objects: &mut [Value], path: &jsonpath::Path) {
    objects.sort_by(|a, b| match (path.find(a).first(), path.find(b).first()) {
        (Some(a), Some(b)) => jsonpath::order(a, b).unwrap_or(Ordering::Equal),
        (a, b) => a.is_some().cmp(&b.is_some()),
    });
}

/// Prints a table, and then a row for each object that changes.
async fn watch_table(
    client: &Client,
    kind: Kind,
    which: Which<'_>,
    table: Table,
) -> Result<(), Error> {
    let mut changes = Changes::new(client, kind, which, table.revision.clone(), AS_TABLE);
    let mut widths = Vec::new();
    let mut header = !which.args.no_headers;
    let mut rows = table;
    let mut columns = Value::Null;
    loop {
        if !rows.is_empty() {
            let (text, wider) = rows.lines(header, &widths);
            out::data(text)?;
            (header, widths) = (false, wider);
        }
        let mut table = changes.next().await?;
        // A watch names the columns in its first table alone.
        let named = table["columnDefinitions"].as_array().is_some_and(|named| !named.is_empty());
        if named {
            columns = table["columnDefinitions"].clone();
        } else {
            table["columnDefinitions"] = columns.clone();
        }
        rows = read_table(&table, which.args);
    }
}

async fn lists(
    client: &Client,
    kinds: &[Kind],
    which: Which<'_>,
    output: &Output,
    by_age: bool,
) -> Result<(), Error> {
    let mut form = Form::new(output, which.args);
    if which.args.watch_only {
        let list = client.get(&collection(kinds[0]), &[("limit", "1")], AS_JSON).await?;
        return watch_objects(client, kinds[0], which, form, revision_of(&list)).await;
    }
    let mut all = Vec::new();
    let mut first = Value::Null;
    for kind in kinds {
        let mut list = client.get(&collection(*kind), &which.query(), AS_JSON).await?;
        if let Value::Array(items) = list["items"].take() {
            all.extend(items.into_iter().map(|item| with_kind(item, *kind)));
        }
        first = list;
    }
    match &which.args.sort_by {
        Some(path) => sort(&mut all, path),
        None if by_age => all.sort_by_cached_key(|object| {
            let text = |member: &str| object["metadata"][member].as_str().map(str::to_owned);
            (text("creationTimestamp"), text("name"))
        }),
        None => {}
    }
    let revision = revision_of(&first);
    let head = (kinds.len() == 1).then_some(first);
    form.list(head, all)?;
    if which.args.watch {
        return watch_objects(client, kinds[0], which, form, revision).await;
    }
    Ok(())
}

async fn watch_objects(
    client: &Client,
    kind: Kind,
    which: Which<'_>,
    mut form: Form<'_>,
    revision: String,
) -> Result<(), Error> {
    let mut changes = Changes::new(client, kind, which, revision, AS_JSON);
    loop {
        form.next(with_kind(changes.next().await?, kind))?;
    }
}

/// Shows some objects; those that are not there are told, and the rest is shown all the same.
async fn show_objects(
    client: &Client,
    objects: &[(Kind, String)],
    args: &GetArgs,
) -> Result<u8, Error> {
    let as_table = Output::is_table(args.list.output.as_ref());
    let several = objects.iter().any(|(kind, _)| *kind != objects[0].0);
    let mut tables: Vec<(Kind, Table)> = Vec::new();
    let mut found = Vec::new();
    let mut failed = false;
    for (kind, name) in objects {
        let accept = if as_table { AS_TABLE } else { AS_JSON };
        match client.get(&member(*kind, name), &[], accept).await {
            Ok(answer) if as_table => {
                let mut table = read_table(&answer, &args.list);
                if several {
                    table.prefix_names(&full_name(*kind, ""));
                }
                match tables.iter_mut().find(|(of, _)| of == kind) {
                    Some((_, rows)) => rows.append(table),
                    None => tables.push((*kind, table)),
                }
            }
            Ok(object) => found.push(object),
            Err(error) if error.is_not_found() => {
                if !args.ignore_not_found {
                    failed = true;
                    out::note(error.to_string());
                }
            }
            Err(error) => return Err(error),
        }
    }
    for (n, (_, table)) in tables.iter().enumerate() {
        if n > 0 {
            out::line("")?;
        }
        table::print(table, !args.list.no_headers)?;
    }
    if let Some(output) = args.list.output.as_ref().filter(|_| !as_table && !found.is_empty()) {
        if let Some(path) = &args.list.sort_by {
            sort(&mut found, path);
        }
        Form::new(output, &args.list).objects(found, objects.len() == 1)?;
    }
    if failed { Err(Error::Told) } else { Ok(0) }
}

/// Items of a list may stand without the two members that name their kind.
fn with_kind(mut item: Value, kind: Kind) -> Value {
    item["apiVersion"] = crate::resource::API_VERSION.into();
    item["kind"] = kind.name().into();
    item
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_sorted_by_what_stands_at_a_path_and_what_lacks_it_comes_first() {
        let agent =
            |name: &str, done: Value| json!({"metadata": {"name": name}, "status": {"done": done}});
        let mut all =
            [agent("ten", 10.into()), agent("nine", 9.into()), json!({"metadata": {"name": "no"}})];
        sort(&mut all, &".status.done".parse().unwrap());
        let names: Vec<&str> =
            all.iter().filter_map(|it| it["metadata"]["name"].as_str()).collect();
        assert_eq!(names, ["no", "nine", "ten"]);
    }
}
