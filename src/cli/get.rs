//! `get` and `jobs`: objects as tables, JSON, YAML or names, once or as they change.

use serde_json::{Value, json};

use super::{
    args::{AgentsArgs, GetArgs, JobsArgs, ListArgs, ListFormat, ObjectFormat},
    client::{AS_JSON, AS_TABLE, Client, api, collection, member},
    error::Error,
    object::{name_of, print_json, print_object, to_yaml},
    out,
    patience::Patience,
    table::{self, Table},
    target::{self, Targets, full_name},
    watch::{Change, Watch},
};
use crate::resource::Kind;

/// The one ledger that is shown like a kind.
const DELIVERIES: &str = "deliveries";

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
    if args.what == [DELIVERIES] {
        return deliveries(&client, &args.list).await;
    }
    match target::read(&args.what)? {
        Targets::Kinds(kinds) => show_kinds(&client, &kinds, &args.list, false).await,
        Targets::Objects(objects) => {
            if args.list.selector.is_some() {
                let line = "a selector chooses among all objects of a kind; name none with it";
                return Err(Error::Usage(line.to_owned()));
            }
            if args.list.watch {
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

/// Shows what chat must still be told: rows of a ledger, which are no objects.
async fn deliveries(client: &Client, args: &ListArgs) -> Result<u8, Error> {
    if args.watch || args.selector.is_some() {
        let line = "deliveries are no objects: they have no labels, and cannot be watched";
        return Err(Error::Usage(line.to_owned()));
    }
    let path = api(DELIVERIES);
    match args.output {
        None | Some(ListFormat::Wide) => {
            let table = Table::read(&client.get(&path, &[], AS_TABLE).await?, true);
            if table.is_empty() {
                out::note("No resources found");
            } else {
                table::print(&table)?;
            }
        }
        Some(ListFormat::Yaml) => {
            let line = "deliveries are no objects, and have no YAML; -o json shows them whole";
            return Err(Error::Usage(line.to_owned()));
        }
        Some(ListFormat::Name) => {
            let list = client.get(&path, &[], AS_JSON).await?;
            for item in list["items"].as_array().into_iter().flatten() {
                out::line(item["id"].as_str().unwrap_or_default())?;
            }
        }
        Some(_) => print_json(&client.get(&path, &[], AS_JSON).await?)?,
    }
    Ok(0)
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
        labels.into_iter().chain(self.field.map(|field| ("fieldSelector", field))).collect()
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
    if args.watch && kinds.len() > 1 {
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
    match which.args.output {
        None | Some(ListFormat::Wide) => tables(client, kinds, which, by_age).await?,
        Some(format) => lists(client, kinds, which, format, by_age).await?,
    }
    Ok(0)
}

async fn tables(
    client: &Client,
    kinds: &[Kind],
    which: Which<'_>,
    by_age: bool,
) -> Result<(), Error> {
    let wide = which.args.output == Some(ListFormat::Wide);
    let mut empty = true;
    for kind in kinds {
        let answer = client.get(&collection(*kind), &which.query(), AS_TABLE).await?;
        let mut table = Table::read(&answer, wide);
        if by_age {
            table.sort_by_age();
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
        table::print(&table)?;
    }
    if empty {
        out::note("No resources found");
    }
    Ok(())
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
    let mut header = true;
    let mut rows = table;
    loop {
        if !rows.is_empty() {
            let (text, wider) = rows.lines(header, &widths);
            out::data(text)?;
            (header, widths) = (false, wider);
        }
        rows = Table::read(&changes.next().await?, which.args.output == Some(ListFormat::Wide));
    }
}

/// What changes, one after the other, whatever becomes of the server meanwhile.
struct Changes<'a> {
    client: &'a Client,
    kind: Kind,
    which: Which<'a>,
    revision: String,
    accept: &'static str,
    watch: Option<Watch>,
    patience: Patience,
}

impl<'a> Changes<'a> {
    fn new(
        client: &'a Client,
        kind: Kind,
        which: Which<'a>,
        revision: String,
        accept: &'static str,
    ) -> Self {
        let patience = Patience::new();
        Self { client, kind, which, revision, accept, watch: None, patience }
    }

    async fn next(&mut self) -> Result<Value, Error> {
        loop {
            match self.once().await {
                Ok(Some(object)) => return Ok(object),
                Ok(None) => self.watch = None,
                Err(Error::Api { code: 410, .. }) => {
                    let path = collection(self.kind);
                    let list = self.client.get(&path, &[("limit", "1")], AS_JSON).await?;
                    self.revision = revision_of(&list);
                }
                Err(error) => {
                    self.watch = None;
                    self.patience.wait(error).await?;
                }
            }
        }
    }

    async fn once(&mut self) -> Result<Option<Value>, Error> {
        let watch = match &mut self.watch {
            Some(watch) => watch,
            None => {
                let which = self.which.query();
                let watch =
                    Watch::open(self.client, self.kind, &which, &self.revision, self.accept)
                        .await?;
                self.patience.answered();
                self.watch.insert(watch)
            }
        };
        let Some(Change::There(object) | Change::Gone(object)) = watch.next().await? else {
            return Ok(None);
        };
        self.revision = revision_of(&object);
        Ok(Some(object))
    }
}

fn revision_of(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

async fn lists(
    client: &Client,
    kinds: &[Kind],
    which: Which<'_>,
    format: ListFormat,
    by_age: bool,
) -> Result<(), Error> {
    let mut all = Vec::new();
    let mut first = Value::Null;
    for kind in kinds {
        let mut list = client.get(&collection(*kind), &which.query(), AS_JSON).await?;
        if let Value::Array(items) = list["items"].take() {
            all.extend(items.into_iter().map(|item| with_kind(item, *kind)));
        }
        first = list;
    }
    if by_age {
        all.sort_by_cached_key(|object| {
            let text = |member: &str| object["metadata"][member].as_str().map(str::to_owned);
            (text("creationTimestamp"), text("name"))
        });
    }
    let revision = revision_of(&first);
    match format {
        ListFormat::Json if kinds.len() == 1 => {
            first["items"] = all.into();
            print_json(&first)?;
        }
        ListFormat::Json => print_json(&list_of(all))?,
        ListFormat::Yaml => print_yaml(&all)?,
        _ => all.iter().try_for_each(|object| out::line(name_of(object)))?,
    }
    if which.args.watch {
        return watch_objects(client, kinds[0], which, format, revision).await;
    }
    Ok(())
}

async fn watch_objects(
    client: &Client,
    kind: Kind,
    which: Which<'_>,
    format: ListFormat,
    revision: String,
) -> Result<(), Error> {
    let mut changes = Changes::new(client, kind, which, revision, AS_JSON);
    loop {
        let object = with_kind(changes.next().await?, kind);
        match format {
            ListFormat::Json => print_json(&object)?,
            ListFormat::Yaml => out::data(format!("---\n{}", to_yaml(&object)?))?,
            _ => out::line(name_of(&object))?,
        }
    }
}

/// Shows some objects; those that are not there are told, and the rest is shown all the same.
async fn show_objects(
    client: &Client,
    objects: &[(Kind, String)],
    args: &GetArgs,
) -> Result<u8, Error> {
    let wide = args.list.output == Some(ListFormat::Wide);
    let as_table = wide || args.list.output.is_none();
    let several = objects.iter().any(|(kind, _)| *kind != objects[0].0);
    let mut tables: Vec<(Kind, Table)> = Vec::new();
    let mut found = Vec::new();
    let mut failed = false;
    for (kind, name) in objects {
        let accept = if as_table { AS_TABLE } else { AS_JSON };
        match client.get(&member(*kind, name), &[], accept).await {
            Ok(answer) if as_table => {
                let mut table = Table::read(&answer, wide);
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
        table::print(table)?;
    }
    match (args.list.output, &found[..]) {
        (Some(ListFormat::Json), [one]) => print_object(one, ObjectFormat::Json)?,
        (Some(ListFormat::Json), [_, ..]) => print_json(&list_of(found))?,
        (Some(ListFormat::Yaml), all) => print_yaml(all)?,
        (Some(ListFormat::Name), all) => {
            all.iter().try_for_each(|object| out::line(name_of(object)))?;
        }
        _ => {}
    }
    if failed { Err(Error::Told) } else { Ok(0) }
}

/// Items of a list may stand without the two members that name their kind.
fn with_kind(mut item: Value, kind: Kind) -> Value {
    item["apiVersion"] = crate::resource::API_VERSION.into();
    item["kind"] = kind.name().into();
    item
}

fn list_of(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// Documents that `apply` takes again.
fn print_yaml(objects: &[Value]) -> Result<(), Error> {
    for (n, object) in objects.iter().enumerate() {
        let separator = if n > 0 { "---\n" } else { "" };
        out::data(format!("{separator}{}", to_yaml(object)?))?;
    }
    Ok(())
}
