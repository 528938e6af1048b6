//! YAML in, with line and column of every fault, and YAML out that reads well.
//!
//! The only module that knows which YAML library there is.

use serde_saphyr::{
    DuplicateKeyPolicy, Error, MessageFormatter, Options, UserMessageFormatter,
    budget::BudgetBreach,
};

use super::{
    AnyObject, Fault, Faults, decode,
    fault::{in_order, quoted},
    tree::{Member, Node, Place, Placed, Plain, Shape},
};

/// The most bytes of text that are taken.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The most documents of a text that are taken.
const MAX_DOCUMENTS: usize = 1_000;
/// The most values of a text that are taken, over all its documents.
const MAX_VALUES: usize = 200_000;

/// The deepest nesting that is taken. The deepest place of our types is half of that, and each
/// level costs the reader tens of kilobytes of stack.
const MAX_DEPTH: usize = 16;

/// Reads all objects of a text: YAML or JSON, one or more documents. Documents without content
/// are skipped. `file` names the text in faults.
///
/// # Errors
/// Every fault of every document, with file, line and column; where the text is no YAML, the
/// first place that is not.
pub fn read(text: &str, file: Option<&str>) -> Result<Vec<AnyObject>, Faults> {
    let mut objects = Vec::new();
    let mut faults = Vec::new();
    match documents(text) {
        Ok(documents) => {
            for document in &documents {
                match decode::tree(document) {
                    Ok(object) => objects.push(object),
                    Err(more) => faults.extend(more),
                }
            }
        }
        Err(fault) => faults.push(fault),
    }
    if faults.is_empty() {
        return Ok(objects);
    }
    for fault in &mut faults {
        fault.file = file.map(str::to_owned);
    }
    Err(Faults(in_order(faults)))
}

/// Reads a text with exactly one document, whatever it says: YAML, or JSON, which is YAML too.
///
/// # Errors
/// Where the text is no YAML, has members that stand twice, or holds another number of documents.
pub fn one(text: &str) -> Result<serde_json::Value, Faults> {
    let documents = documents(text)?;
    let [node] = documents.as_slice() else {
        let message = format!("must hold exactly one document, and holds {}", documents.len());
        return Err(Fault::new("", message).into());
    };
    let mut faults = Vec::new();
    super::check::doubles(node, "", &mut faults);
    if !faults.is_empty() {
        return Err(Faults(in_order(faults)));
    }
    // With its nulls, which say something in a patch.
    serde_json::to_value(node).map_err(|error| Fault::new("", error.to_string()).into())
}

/// Writes any JSON as YAML.
#[must_use]
pub fn write_value(value: &serde_json::Value) -> String {
    let options = serde_saphyr::ser_options! {
        compact_list_indent: true,
        folded_wrap_chars: usize::MAX,
    };
    serde_saphyr::to_string_with_options(value, options).unwrap_or_else(|_| format!("{value:#}\n"))
}

/// What the documents of a text say, whatever they are: members that are null left out, aliases
/// followed, documents without content skipped.
///
/// # Errors
/// The first place that is no YAML, or the first key that stands twice.
pub fn values(text: &str) -> Result<Vec<serde_json::Value>, Fault> {
    let documents = documents(text)?;
    let mut doubles = Vec::new();
    for document in &documents {
        super::check::doubles(document, "", &mut doubles);
    }
    match doubles.into_iter().next() {
        Some(double) => Err(double),
        None => Ok(documents.iter().map(Node::to_value).collect()),
    }
}

fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: MAX_DOCUMENTS,
            max_nodes: MAX_VALUES,
            max_depth: MAX_DEPTH,
            max_aliases: 1_000,
            max_anchors: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
        },
        duplicate_keys: duplicate_keys,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// The documents of a text as trees.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault::new("", too_large(format_args!("{} MiB", MAX_BYTES >> 20))));
    }
    // With this policy the reader passes doubles on, and `decode` finds all of them.
    let policy = DuplicateKeyPolicy::LastWins;
    let documents = serde_saphyr::from_multiple_with_options::<Placed>(text, options(policy))
        .map_err(|error| fault(&error))?;
    let documents: Vec<Node> = documents.into_iter().map(|Placed(node)| node).collect();
    // Save where keys are numbers: those it drops by itself, so it has to look for them.
    if documents.iter().any(has_number_key) {
        let policy = DuplicateKeyPolicy::Error;
        match serde_saphyr::from_multiple_with_options::<Placed>(text, options(policy)) {
            Err(error @ Error::DuplicateMappingKey { .. })
                if !documents.iter().any(has_doubles) =>
            {
                return Err(fault(&error));
            }
            _ => {}
        }
    }
    Ok(documents)
}

/// The meaning of one value that stands by itself, such as one typed in a chat: a list or a map
/// in flow style (`[a, b]`), a number, a truth value, or `null`. All else is text as it stands,
/// whatever signs it has: `~` is a home and `a: b` a sentence.
///
/// # Errors
/// What is wrong with a list or a map, in one line.
pub fn value(text: &str) -> Result<serde_json::Value, String> {
    let is_flow = text.starts_with(['[', '{']);
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
    if !is_flow && !is_word {
        return Ok(text.into());
    }
    match documents(text) {
        Ok(documents) => match documents.as_slice() {
            [node] if is_flow || !(node.is_map() || matches!(node.shape, Shape::List(_))) => {
                Ok(node.to_value())
            }
            _ => Ok(text.into()),
        },
        Err(fault) if is_flow => {
            Err(fault.message.trim_start_matches("is no good YAML: ").to_owned())
        }
        Err(_) => Ok(text.into()),
    }
}

fn has_doubles(node: &Node) -> bool {
    let mut faults = Vec::new();
    super::check::doubles(node, "", &mut faults);
    !faults.is_empty()
}

fn has_number_key(node: &Node) -> bool {
    node.items().iter().any(has_number_key)
        || node.members().iter().any(|member| {
            member.key.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
                || has_number_key(&member.node)
        })
}

/// The limits hold for a text as a whole, however many documents there are in it.
fn too_large(limit: std::fmt::Arguments<'_>) -> String {
    format!("the file is too large (limit {limit}); split it into several files")
}

/// A fault of the text itself, in one line.
fn fault(error: &Error) -> Fault {
    let place = error.location().map(Place::from).unwrap_or_default();
    let mut cause = error.without_snippet();
    while let Error::AliasError { error, .. } = cause {
        cause = error.without_snippet();
    }
    let message = match cause {
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => {
            "aliases make the document too large; write the values out".to_owned()
        }
        Error::Budget { breach, .. } => match breach {
            BudgetBreach::Depth { .. } => {
                format!("is nested too deep (limit {MAX_DEPTH} levels); write it flatter")
            }
            BudgetBreach::Documents { .. } => too_large(format_args!("{MAX_DOCUMENTS} documents")),
            BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => {
                "there are too many anchors and aliases; write the values out".to_owned()
            }
            _ => too_large(format_args!("{MAX_VALUES} values")),
        },
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {} is there already; keep one", quoted(key))
        }
        other => format!("is no good YAML: {}", UserMessageFormatter.format_message(other)),
    };
    place.fault("", message)
}

/// Writes an object as YAML: `apiVersion`, `kind`, `metadata`, `spec` and `status`, members in
/// the order of their definition, what says nothing left out.
#[must_use]
pub fn write(object: &AnyObject) -> String {
    // JSON is YAML too, should the library ever refuse.
    text(&tidy(object)).unwrap_or_else(|| format!("{:#}\n", object.to_json()))
}

/// Writes an object as a person would have written it into a file: without status, without what the
/// server and other programs set, and without what is so by default.
#[must_use]
pub fn declared(object: &AnyObject) -> String {
    let mut tree = tidy(object);
    super::declared::declared(object, &mut tree);
    text(&tree).unwrap_or_else(|| write(object))
}

/// A tree as YAML; nothing, should the library ever refuse.
fn text(tree: &Node) -> Option<String> {
    let options = serde_saphyr::ser_options! {
        compact_list_indent: true,
        folded_wrap_chars: usize::MAX,
    };
    serde_saphyr::to_string_with_options(tree, options).ok()
}

/// The object as a tree in the order of its types, without what says nothing.
fn tidy(object: &AnyObject) -> Node {
    let [mut metadata, mut spec, mut status] = match object {
        AnyObject::Agent(object) => parts(object),
        AnyObject::Job(object) => parts(object),
        AnyObject::Fleet(object) => parts(object),
        AnyObject::Schedule(object) => parts(object),
        AnyObject::Source(object) => parts(object),
        AnyObject::Override(object) => parts(object),
        AnyObject::Sprite(object) => parts(object),
    };
    if let Shape::Map(members) = &mut metadata.shape {
        // The account of who wrote what is for programs.
        members.retain(|member| member.key != "managedFields");
    }
    if let Shape::Map(members) = &mut spec.shape {
        // The one member of a spec that is written although it says what is so anyway.
        members.retain(|member| {
            member.key != "retries" || member.node.shape != Shape::Number(0.into())
        });
    }
    let nothing = match object {
        AnyObject::Agent(_) => ordered(&super::AgentStatus::default()),
        AnyObject::Job(_) => ordered(&super::JobStatus::default()),
        AnyObject::Fleet(_) => ordered(&super::FleetStatus::default()),
        AnyObject::Schedule(_) => ordered(&super::ScheduleStatus::default()),
        AnyObject::Source(_) => ordered(&super::SourceStatus::default()),
        AnyObject::Override(_) => ordered(&super::OverrideStatus::default()),
        AnyObject::Sprite(_) => ordered(&super::SpriteStatus::default()),
    };
    if let Shape::Map(members) = &mut status.shape {
        members.retain(|member| nothing.get(&member.key) != Some(&member.node));
    }
    let text = |text: &str| Node::from(Shape::Text(text.to_owned()));
    let mut members = vec![
        ("apiVersion", text(super::API_VERSION)),
        ("kind", text(object.kind().name())),
        ("metadata", metadata),
        ("spec", spec),
    ];
    if !status.members().is_empty() {
        members.push(("status", status));
    }
    Node::from(Shape::Map(
        members
            .into_iter()
            .map(|(key, node)| Member { place: Place::default(), key: key.to_owned(), node })
            .collect(),
    ))
}

fn parts<S: serde::Serialize, T: serde::Serialize>(object: &super::Object<S, T>) -> [Node; 3] {
    [ordered(&object.metadata), ordered(&object.spec), ordered(&object.status)]
}

/// A value as a tree whose members have the order of the type: JSON text keeps it, where a
/// map of JSON values might sort.
fn ordered(value: &impl serde::Serialize) -> Node {
    serde_json::to_string(value)
        .and_then(|text| serde_json::from_str(&text))
        .map_or_else(|_| serde_json::to_value(value).unwrap_or_default().into(), |Plain(node)| node)
}
