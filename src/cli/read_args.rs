//! The words of the commands that look at objects.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::{
    args::{ServerArgs, Within},
    jsonpath,
    output::Output,
};

/// What is taken from whoever is used to kubectl, and means nothing: there are no namespaces here, as
/// there are none for kubectl's own kinds without one.
#[derive(Debug, Clone, Default, Args)]
pub struct NoNamespaces {
    /// Taken and of no effect: there are no namespaces
    #[arg(short = 'A', long, hide = true)]
    pub all_namespaces: bool,
    /// Taken and of no effect: there are no namespaces
    #[arg(short = 'n', long, value_name = "NAME", hide = true)]
    pub namespace: Option<String>,
}

/// How one object is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ObjectFormat {
    /// The object as JSON
    Json,
    /// The object as YAML
    Yaml,
    /// Its kind and name alone
    Name,
}

/// How a list is shown.
#[derive(Debug, Clone, Default, Args)]
pub struct ListArgs {
    /// Print in this format instead of a table: json, yaml, name, wide,
    /// jsonpath=TEMPLATE, custom-columns=HEADER:PATH,... (or -file=FILE for these two)
    #[arg(short, long, value_name = "FORMAT", value_parser = Output::parse)]
    pub output: Option<Output>,
    /// Only objects with these labels, such as team=payments,tier!=test,env in (a,b),!old
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Only objects with these fields, such as metadata.name=nightly
    #[arg(long, value_name = "SELECTOR")]
    pub field_selector: Option<String>,
    /// Sort by what stands at this JSONPath, such as .metadata.creationTimestamp
    #[arg(long, value_name = "PATH")]
    pub sort_by: Option<jsonpath::Path>,
    /// Show the labels as the last column
    #[arg(long)]
    pub show_labels: bool,
    /// Leave out the line with the names of the columns
    #[arg(long)]
    pub no_headers: bool,
    /// Go on with what changes, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// Only what changes from now on, until Ctrl-C
    #[arg(long)]
    pub watch_only: bool,
    /// Show in JSON and YAML who wrote which field
    #[arg(long)]
    pub show_managed_fields: bool,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `jobs`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch jobs
  open-dispatch jobs -o wide
  open-dispatch jobs -w                      and go on with what changes")]
pub struct JobsArgs {
    /// How the list is shown.
    #[command(flatten)]
    pub list: ListArgs,
}

/// `get`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Kinds: open-dispatch api-resources lists them; `all` is every one.
Alone: deliveries, which are what chat must still be told.

Examples:
  open-dispatch get jobs
  open-dispatch get job nightly -o yaml
  open-dispatch get agents,jobs -l 'team in (payments, search),!old'
  open-dispatch get job/nightly agent/api-bot -o name
  open-dispatch get agents -o 'jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}'
  open-dispatch get agents -o custom-columns=NAME:.metadata.name,DONE:.status.turns.done
  open-dispatch get agents --sort-by .status.turns.done --show-labels
  open-dispatch get jobs -w --watch-only
  open-dispatch get deliveries")]
pub struct GetArgs {
    /// KIND[,KIND...] [NAME...] or KIND/NAME...
    #[arg(value_name = "KIND [NAME]", required = true)]
    pub what: Vec<String>,
    /// An object that is not there is no error
    #[arg(long)]
    pub ignore_not_found: bool,
    /// How the list is shown.
    #[command(flatten)]
    pub list: ListArgs,
}

/// `describe`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch describe job/nightly
  open-dispatch describe agent api-bot
  open-dispatch describe agents -l team=payments")]
pub struct DescribeArgs {
    /// KIND/NAME... or KIND [NAME...]
    #[arg(value_name = "KIND/NAME", required = true)]
    pub what: Vec<String>,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `explain`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch explain agent
  open-dispatch explain agent.spec.runtime.fly
  open-dispatch explain job.spec --recursive

No server needs to run: it tells of the kinds as this program knows them.")]
pub struct ExplainArgs {
    /// A kind, or a field of it: KIND.FIELD.FIELD
    #[arg(value_name = "KIND[.FIELD]")]
    pub what: String,
    /// All fields below it, by name and type alone
    #[arg(long)]
    pub recursive: bool,
}

/// `wait`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch wait job/nightly --for=condition=Complete --timeout 10m
  open-dispatch wait agent/api-bot --for=condition=Ready
  open-dispatch wait jobs -l batch=7 --for=delete
  open-dispatch wait agent/api-bot --for=jsonpath='{.status.phase}'=Idle
  open-dispatch wait job/nightly --for=create

A condition counts once it speaks of the object's newest generation. It exits with 1 where the time
is over first; --timeout 0 looks once.")]
pub struct WaitArgs {
    /// KIND/NAME... or KIND [NAME...]
    #[arg(value_name = "KIND/NAME", required = true)]
    pub what: Vec<String>,
    /// What to wait for: condition=NAME[=VALUE], delete, create, or jsonpath={PATH}[=VALUE]
    #[arg(long = "for", value_name = "WHAT", value_parser = super::wait::For::parse)]
    pub what_for: super::wait::For,
    /// How long to wait, for all of them together
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub timeout: Within,
    /// Objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// All objects of the kind
    #[arg(long, conflicts_with = "selector")]
    pub all: bool,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `events`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch events
  open-dispatch events --for agent/api-bot -w
  open-dispatch events --types Warning
  open-dispatch events -o json")]
pub struct EventsArgs {
    /// Only those of this object
    #[arg(long = "for", value_name = "KIND/NAME")]
    pub what_for: Option<String>,
    /// Go on with what happens, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// Only these types, with commas between: Normal, Warning
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    pub types: Vec<EventType>,
    /// Leave out the line with the names of the columns
    #[arg(long)]
    pub no_headers: bool,
    /// Print in this format instead of a table
    #[arg(short, long, value_name = "FORMAT", conflicts_with = "watch")]
    pub output: Option<JsonOnly>,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum EventType {
    /// What was meant to happen
    Normal,
    /// What a person may have to look at
    Warning,
}

/// The one format beside a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum JsonOnly {
    /// As JSON
    Json,
}

/// `api-resources`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch api-resources
  open-dispatch api-resources -o wide
  open-dispatch api-resources --verbs create,delete -o name")]
pub struct ApiResourcesArgs {
    /// Print in this format: wide or name
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<ResourcesFormat>,
    /// Only kinds that know all of these verbs, with commas between
    #[arg(long, value_name = "VERB", value_delimiter = ',')]
    pub verbs: Vec<String>,
    /// Leave out the line with the names of the columns
    #[arg(long)]
    pub no_headers: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// How kinds are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResourcesFormat {
    /// With verbs and categories
    Wide,
    /// Names alone
    Name,
}

/// `schema`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch schema agent                 the JSON Schema of one kind
  open-dispatch schema --out specs/schema    a file for each kind, and one for config.yaml

An editor completes and checks YAML by them where its first line is
  # yaml-language-server: $schema=schema/agent.json")]
pub struct SchemaArgs {
    /// The kind, or config for the configuration file
    #[arg(value_name = "KIND", required_unless_present = "out")]
    pub kind: Option<String>,
    /// Write all of them into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "kind")]
    pub out: Option<PathBuf>,
}

/// `export`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch export > specs/fleet.yaml
  open-dispatch export agents -l team=payments --out specs/
  open-dispatch export agent/api-bot

Everything that is declared, as it would stand in a file: without status, without what the server
sets, and without what is so by default. Jobs and what belongs to others come only by name.")]
pub struct ExportArgs {
    /// KIND[,KIND...] [NAME...] or KIND/NAME...; what is declared to stay where none is given
    #[arg(value_name = "KIND [NAME]")]
    pub what: Vec<String>,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Write a file for each object into this directory, as KIND-NAME.yaml
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write over files that are there
    #[arg(long, requires = "out")]
    pub force: bool,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `diff`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch diff -f specs/ -R
  open-dispatch diff -f agents.yaml --prune --applyset main
  OPEN_DISPATCH_EXTERNAL_DIFF='colordiff -N -u' open-dispatch diff -f agents.yaml

It asks the server what apply would make of each object. Values of variables whose names say
that they are secret are shown as ***. It exits with
  0   apply would change nothing
  1   it would
  2   that could not be found out (or what the external program said above 1)")]
pub struct DiffArgs {
    /// Which files.
    #[command(flatten)]
    pub files: super::write_args::FileArgs,
    /// Which set they are.
    #[command(flatten)]
    pub set: super::write_args::SetOfObjects,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `auth`.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "Examples:
  open-dispatch auth can-i create agents
  open-dispatch auth can-i delete job/nightly
  open-dispatch auth whoami")]
pub enum AuthCommand {
    /// Ask whether this token may do something: yes and exit code 0, or no and 1
    CanI(CanIArgs),
    /// Ask who the server takes this token for
    #[command(name = "whoami")]
    WhoAmI(WhoAmIArgs),
}

/// `auth can-i`.
#[derive(Debug, Clone, Args)]
pub struct CanIArgs {
    /// The verb: get, list, watch, create, update, patch, delete
    #[arg(value_name = "VERB")]
    pub verb: String,
    /// KIND or KIND/NAME
    #[arg(value_name = "KIND[/NAME]")]
    pub what: String,
    /// A part of the object, such as status
    #[arg(long, value_name = "NAME")]
    pub subresource: Option<String>,
    /// Say nothing; the exit code alone answers
    #[arg(short, long)]
    pub quiet: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `auth whoami`.
#[derive(Debug, Clone, Args)]
pub struct WhoAmIArgs {
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `completion`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  open-dispatch completion bash > ~/.local/share/bash-completion/completions/open-dispatch
  open-dispatch completion zsh > ~/.zfunc/_open-dispatch
  open-dispatch completion fish > ~/.config/fish/completions/open-dispatch.fish

Where an object may stand, the scripts of these three ask the server which there are, for two
seconds at most; where no server answers, nothing is offered.")]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}
