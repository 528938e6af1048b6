//! What the files of a Source declare: all of it, or all that is wrong with it. Pure.
//!
//! Each document gets what the server fills in for every editor, is checked like any editor's, and
//! against the Source's policy. One fault anywhere, and nothing of the revision counts: so the faults
//! of all files are told at once, in the order of files and lines. In which order the files come
//! does not matter.
//!
//! **What is filled in today** may not be what will be written: where a document says what it said, what
//! was filled in before stays ([`super::plan`]). So what is wrong with it only because of that is noted
//! with the object ([`Today`]), and counts once it is known that nothing takes its place.
//!
//! A Job may stand under a `generateName`: its name is then drawn from what its document says, so that
//! the same Job has the same name for ever, and a changed one is another Job ([`super::said`]).

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{Snapshot, SourceFile, policy, said};
use crate::{
    resource::{
        API_VERSION, AnyObject, Defaults, Document, Fault, Faults, Kind, Repo, SourcePolicy, Usual,
        admit, decode, overlay::POWER_ANNOTATIONS, whole_worker, worker,
    },
    store::{Base, Owned},
};

/// The most files of one revision.
pub const MAX_FILES: usize = 10_000;
/// The most bytes of all files of one revision together.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The most objects of one revision.
pub const MAX_OBJECTS: usize = 20_000;
/// The most faults that are told.
const MOST_FAULTS: usize = 100;

/// An object by kind and name.
pub type Key = (Kind, String);

/// `agent/NAME`, as people read it.
#[must_use]
pub fn called((kind, name): &Key) -> String {
    format!("{}/{name}", kind.singular())
}

/// Whether a file, by its path relative to the Source's directory, holds desired state: YAML or
/// JSON, with no name on its way that begins with a dot, and not below `schema/`.
#[must_use]
pub fn is_desired(path: &str) -> bool {
    let known = [".yaml", ".yml", ".json"].iter().any(|end| path.ends_with(end));
    known && !path.starts_with("schema/") && !path.split('/').any(|name| name.starts_with('.'))
}

/// One object that a file declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// The object, with its name and all that the server fills in.
    pub object: AnyObject,
    /// The same, as the inventory keeps it.
    pub base: Base,
    /// What the document itself says of the spec.
    pub own: Value,
    /// The beginning of its name, where the rest was drawn from what it says.
    pub prefix: Option<String>,
    /// The file.
    pub file: String,
    /// The line on which its document begins.
    pub line: u32,
    /// What is the matter with what the server fills in.
    pub today: Today,
}

/// What the server fills in today for a document that is silent, and what would be wrong with that. It
/// counts where nothing that was filled in before takes its place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Today {
    /// Whether the document leaves anything to the server.
    pub is_asked: bool,
    /// What the server does not know to fill in; something else stands there meanwhile.
    pub missing: Option<Fault>,
    /// What the policy forbids of the whole.
    pub denied: Vec<Fault>,
}

impl Declared {
    /// A fault of it at the line on which its document begins.
    #[must_use]
    pub fn locate(&self, fault: Fault) -> Fault {
        Fault { file: Some(self.file.clone()), line: Some(self.line), column: Some(1), ..fault }
    }

    /// What a row says that was declared, as if a file said it still. Nothing where that cannot be read
    /// by the rules of today.
    #[must_use]
    pub fn of(row: &Owned) -> Option<Self> {
        let Base { spec, labels, annotations, .. } = &row.base;
        let object = decode(json!({
            "apiVersion": API_VERSION, "kind": row.kind,
            "metadata": {"name": row.name, "labels": labels, "annotations": annotations},
            "spec": spec,
        }));
        Some(Self {
            object: object.ok()?,
            base: row.base.clone(),
            own: spec.clone(),
            prefix: None,
            file: row.file.clone(),
            line: row.line,
            today: Today::default(),
        })
    }
}

/// What the files of a Source declare.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Set {
    /// The objects by kind and name.
    pub objects: BTreeMap<Key, Arc<Declared>>,
}

/// Why a revision does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Whether the files are good, and only the policy forbids what they say.
    pub denied: bool,
    /// What is wrong.
    pub faults: Faults,
}

/// What files are read by.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// What holds where a spec is silent.
    pub defaults: &'a Defaults,
    /// What the Source may write.
    pub policy: Option<&'a SourcePolicy>,
    /// The Source's name.
    pub source: &'a str,
    /// How much there may be.
    pub limits: Limits,
}

/// How much the files of a Source may be; of several repositories each has its part, so that none
/// takes what is another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most files.
    pub files: usize,
    /// The most bytes of all files together.
    pub bytes: usize,
    /// The most objects.
    pub objects: usize,
}

impl Limits {
    /// Of a Source that is one directory, or one repository.
    pub const WHOLE: Self = Self { files: MAX_FILES, bytes: MAX_BYTES, objects: MAX_OBJECTS };

    /// Of each of so many repositories.
    #[must_use]
    pub const fn share(of: usize) -> Self {
        let of = if of == 0 { 1 } else { of };
        Self { files: MAX_FILES / of, bytes: MAX_BYTES / of, objects: MAX_OBJECTS / of }
    }
}

impl Set {
    /// Reads all files of a revision.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, but for what depends on what is filled in ([`Today`]).
    pub fn read(snapshot: &Snapshot, rules: Rules<'_>) -> Result<Self, Rejected> {
        let mut reading = Reading::default();
        reading.limits(snapshot, rules.limits);
        let mut files: Vec<&SourceFile> = snapshot.files.iter().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        if reading.invalid.is_empty() {
            files.iter().for_each(|file| reading.file(file, rules));
        }
        let judged_here = |target: &Declared| !target.today.is_asked;
        reading.denied.extend(policy::overrides(&reading.set.objects, rules, judged_here));
        let Reading { set, invalid, denied } = reading;
        match (invalid.is_empty(), denied.is_empty()) {
            (true, true) => Ok(set),
            (false, _) => Err(Rejected { denied: false, faults: in_order(invalid) }),
            (true, false) => Err(Rejected { denied: true, faults: in_order(denied) }),
        }
    }
}

#[cfg(test)]
impl Set {
    /// As it counts where nothing was applied before.
    ///
    /// # Errors
    /// What is wrong with what is filled in today.
    pub fn alone(self, rules: Rules<'_>) -> Result<Self, Rejected> {
        let today = || self.objects.values().map(|declared| &declared.today);
        let missing: Vec<Fault> = today().filter_map(|it| it.missing.clone()).collect();
        if !missing.is_empty() {
            return Err(Rejected { denied: false, faults: in_order(missing) });
        }
        let mut denied: Vec<Fault> = today().flat_map(|it| it.denied.clone()).collect();
        denied.extend(policy::overrides(&self.objects, rules, |target| target.today.is_asked));
        if denied.is_empty() {
            return Ok(self);
        }
        Err(Rejected { denied: true, faults: in_order(denied) })
    }
}

/// Faults in the order of files and lines; past a bound, how many more there are.
#[must_use]
pub fn in_order(mut faults: Vec<Fault>) -> Faults {
    faults.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    if faults.len() > MOST_FAULTS {
        let more = faults.len() - MOST_FAULTS;
        faults.truncate(MOST_FAULTS);
        faults.push(Fault::new("", format!("and {more} more faults")));
    }
    Faults(faults)
}

#[derive(Default)]
struct Reading {
    set: Set,
    invalid: Vec<Fault>,
    denied: Vec<Fault>,
}

impl Reading {
    fn limits(&mut self, snapshot: &Snapshot, limits: Limits) {
        let bytes: usize = snapshot.files.iter().map(|file| file.text.len()).sum();
        let limit = if snapshot.files.len() > limits.files {
            format!("there are {} files (limit {})", snapshot.files.len(), limits.files)
        } else if bytes > limits.bytes {
            format!("the files are {} KiB together (limit {})", bytes >> 10, limits.bytes >> 10)
        } else {
            return;
        };
        let message = format!("{limit}; spread them over several sources");
        self.invalid.push(Fault::new("", message));
    }

    fn file(&mut self, file: &SourceFile, rules: Rules<'_>) {
        match Document::read(&file.text, Some(&file.path)) {
            Ok(documents) => {
                for document in documents {
                    self.document(document, file, rules);
                }
            }
            Err(Faults(faults)) => self.invalid.extend(faults),
        }
    }

    fn document(&mut self, mut document: Document, file: &SourceFile, rules: Rules<'_>) {
        let (silent, missing) = fill(&mut document, file.repo.as_ref(), rules.defaults);
        let missing = missing.map(|fault| document.locate(fault));
        let mut object = match document.object() {
            Ok(object) => object,
            Err(Faults(faults)) => {
                self.invalid.extend(missing);
                return self.invalid.extend(faults);
            }
        };
        let prepared = match prepare(&mut object, &silent, rules.defaults) {
            Ok(prepared) => prepared,
            Err(faults) => {
                return self
                    .invalid
                    .extend(faults.0.into_iter().map(|fault| document.locate(fault)));
            }
        };
        let denied = policy::faults(&object, rules).into_iter().map(|it| document.locate(it));
        let is_asked = silent.is_any() || is_silent_fleet(&object);
        let mut today = Today { is_asked, missing, denied: Vec::new() };
        if is_asked {
            today.denied.extend(denied)
        } else {
            self.denied.extend(denied)
        }
        let key = (object.kind(), object.metadata().name.clone());
        let line = document.line();
        if self.set.objects.len() == rules.limits.objects {
            let most = rules.limits.objects;
            let message = format!("there are more than {most} objects; use several sources");
            return self.invalid.push(document.locate(Fault::new("", message)));
        }
        match self.set.objects.entry(key) {
            Entry::Occupied(first) => {
                let message = twice(first.key(), first.get());
                self.invalid.push(document.locate(Fault::new("metadata.name", message)));
            }
            Entry::Vacant(place) => {
                let Prepared { base, own, prefix } = prepared;
                let file = file.path.clone();
                place.insert(Arc::new(Declared { object, base, own, prefix, file, line, today }));
            }
        }
    }
}

/// That something stands in a file already.
pub(super) fn twice(key: &Key, first: &Declared) -> String {
    format!("{} stands in {}:{} already; keep one of the two", called(key), first.file, first.line)
}

/// Whether a Fleet's template leaves anything to the server: its members are filled in as they were when
/// it was read first.
fn is_silent_fleet(object: &AnyObject) -> bool {
    let AnyObject::Fleet(fleet) = object else { return false };
    Usual::is_asked_by(&Value::Object(fleet.spec.template.spec.clone()))
}

/// Fills in what a document need not say: its repository, and what all editors get filled in. Answers
/// on what of the latter it was silent, and what is not known to be filled in: then another agent stands
/// there, so that the rest can be read.
fn fill(
    document: &mut Document,
    repo: Option<&Repo>,
    defaults: &Defaults,
) -> (said::Silent, Option<Fault>) {
    if let (Some(repo), Some(keys)) = (repo, document.kind().and_then(worker))
        && let Some(spec) = document.get(keys).filter(Value::is_object)
        && spec.get("repo").is_none_or(Value::is_null)
    {
        document.add(keys, &json!({"repo": repo}));
    }
    let whole = document.kind().and_then(whole_worker).and_then(|keys| document.get(keys));
    let silent = whole.map(|spec| said::silent(&spec)).unwrap_or_default();
    let missing = document.fill(defaults, false).err();
    if missing.is_some()
        && silent.is_without_agent()
        && let Some(keys) = document.kind().and_then(whole_worker)
    {
        document.add(keys, &json!({"agent": {"claude": {}}}));
    }
    (silent, missing)
}

struct Prepared {
    base: Base,
    own: Value,
    prefix: Option<String>,
}

/// Names an object that has no name yet, and checks it as a new one.
fn prepare(
    object: &mut AnyObject,
    silent: &said::Silent,
    defaults: &Defaults,
) -> Result<Prepared, Faults> {
    let spec = object.to_json()["spec"].take();
    let own = said::own(object.kind(), &spec, silent);
    let metadata = object.metadata();
    let mut prefix = None;
    if metadata.name.is_empty() {
        let front = metadata.generate_name.clone().unwrap_or_default();
        if object.kind() != Kind::Job {
            let message = format!(
                "would make another {} each time; write a name as metadata.name",
                object.kind().singular()
            );
            return Err(Fault::new("metadata.generateName", message).into());
        }
        object.metadata_mut().name = said::name(&front, &spec, silent);
        prefix = Some(front);
    }
    let asks = |key: &&&str| object.metadata().annotations.contains_key(**key);
    if let Some(key) = POWER_ANNOTATIONS.iter().find(asks) {
        let message = format!(
            "has {key}, which asks for something once, and a file says it for ever; take it out, and \
             say it to the object (open-dispatch annotate)"
        );
        return Err(Fault::new("metadata.annotations", message).into());
    }
    admit::create(object.clone(), String::new(), "")?;
    defaults.check_new(object)?;
    let metadata = object.metadata();
    let (labels, annotations) = (metadata.labels.clone(), metadata.annotations.clone());
    let base = Base { spec, said: said::digest(&own), labels, annotations };
    Ok(Prepared { base, own, prefix })
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*, sample::Index};

    use super::*;
    use crate::resource::Images;

    pub(crate) fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned(), repo: None }
    }

    fn read(files: &[(&str, &str)]) -> Result<Set, Rejected> {
        let files = files.iter().map(|(path, text)| file(path, text)).collect();
        read_files(files, &Defaults::default(), None)
    }

    fn read_files(
        files: Vec<SourceFile>,
        defaults: &Defaults,
        policy: Option<&SourcePolicy>,
    ) -> Result<Set, Rejected> {
        let snapshot = Snapshot { revision: String::new(), files };
        let rules = Rules { defaults, policy, source: "ours", limits: Limits::WHOLE };
        Set::read(&snapshot, rules)?.alone(rules)
    }

    fn agent(name: &str) -> String {
        format!(
            "apiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {{name: {name}}}\n\
             spec: {{agent: {{claude: {{}}}}}}\n"
        )
    }

    fn job(name: &str, task: &str) -> String {
        format!(
            "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata: {{{name}}}\n\
             spec: {{agent: {{claude: {{}}}}, task: {task}}}\n"
        )
    }

    #[test]
    fn all_faults_of_all_files_are_told_at_once_with_their_places() {
        let twice = format!("{}---\n{}", agent("one"), agent("two"));
        let rejected = read(&[
            ("z.yaml", &agent("two")),
            ("a.yaml", &twice),
            ("broken.yaml", "kind: [\n"),
            ("typo.json", "{\n  \"kind\": \"Agnt\"\n}"),
            (
                "deep/fields.yml",
                "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata: {name: j}\nspec:\n  \
                 agent: {claude: {}}\n  tsk: no\n",
            ),
            (
                "sprite.yaml",
                "apiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {generateName: a-}\n\
                 spec: {agent: {claude: {}}}\n",
            ),
        ])
        .unwrap_err();
        assert!(!rejected.denied);
        insta::assert_snapshot!(rejected.faults);
    }

    #[test]
    fn what_the_server_fills_in_stands_in_the_base() {
        let defaults = Defaults { opencode_model: Some("a/b".to_owned()), ..Defaults::default() };
        let text = "apiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {name: a}\n\
                    spec: {agent: {opencode: {}}}\n";
        let repo = Repo { github: Some("me/mine".to_owned()), ..Repo::default() };
        let mut one = file("a.yaml", text);
        one.repo = Some(repo);
        let set = read_files(vec![one], &defaults, None).unwrap();
        let declared = &set.objects[&(Kind::Agent, "a".to_owned())];
        assert_eq!(declared.base.spec["agent"], json!({"opencode": {"model": "a/b"}}));
        assert_eq!(declared.base.spec["repo"], json!({"github": "me/mine"}));
        let none = read(&[("a.yaml", &text.replace("{agent: {opencode: {}}}", "{}"))]);
        let line = none.unwrap_err().faults.to_string();
        assert!(line.starts_with("a.yaml:4:"), "{line}");
        assert!(line.contains("spec.agent: is missing"), "{line}");
    }

    #[test]
    fn a_place_outside_of_the_roots_is_refused_also_for_the_jobs_of_a_schedule() {
        let defaults = Defaults { roots: vec!["/srv".into()], ..Defaults::default() };
        let text = "apiVersion: opendispatch.dev/v1alpha1\nkind: Schedule\nmetadata: {name: a}\n\
                    spec:\n  schedule: '@daily'\n  jobTemplate:\n    spec:\n      task: t\n      \
                    agent: {claude: {}}\n      runtime: {local: {workdir: /etc}}\n";
        let rejected = read_files(vec![file("a.yaml", text)], &defaults, None).unwrap_err();
        let line = rejected.faults.to_string();
        assert!(line.starts_with("a.yaml:10:"), "{line}");
        assert!(line.contains("spec.jobTemplate.spec.runtime.local.workdir: `/etc`"), "{line}");
    }

    #[test]
    fn a_fleet_that_names_no_runtime_counts_as_what_its_members_will_be() {
        let fleet = "apiVersion: opendispatch.dev/v1alpha1\nkind: Fleet\nmetadata: {name: f}\n\
                     spec:\n  generate: {list: [{n: a}]}\n  template: {kind: Agent, metadata: \
                     {name: \"f-{{n}}\"}, spec: {agent: {claude: {}}}}\n";
        for (on_fly, allowed, is_good) in [
            (true, "local", false),
            (true, "fly", true),
            (false, "local", true),
            (false, "fly", false),
        ] {
            let images = Images { usual: Some("node".to_owned()), ..Images::default() };
            let defaults = Defaults { on_fly, images: Some(images), ..Defaults::default() };
            let runtimes = Some(vec![allowed.into()]);
            let policy = SourcePolicy { runtimes, ..SourcePolicy::default() };
            let read = read_files(vec![file("f.yaml", fleet)], &defaults, Some(&policy));
            if let Err(rejected) = &read {
                assert!(rejected.denied, "{}", rejected.faults);
            }
            assert_eq!(read.is_ok(), is_good, "{on_fly} {allowed}");
        }
    }

    #[test]
    fn what_the_policy_forbids_is_told_apart_with_its_place() {
        let policy = SourcePolicy { runtimes: Some(vec!["fly".into()]), ..SourcePolicy::default() };
        let files = vec![file("a.yaml", &agent("one"))];
        let rejected = read_files(files, &Defaults::default(), Some(&policy)).unwrap_err();
        assert!(rejected.denied);
        let line = rejected.faults.to_string();
        assert!(line.starts_with("a.yaml:4:7: spec.runtime.local: the runtime `local`"), "{line}");
    }

    #[test]
    fn a_job_under_a_prefix_has_the_name_of_its_spec() {
        let one = |task: &str| {
            let set = read(&[("a.yaml", &job("generateName: run-", task))]).unwrap();
            set.objects.keys().next().unwrap().1.clone()
        };
        assert_eq!(one("a"), one("a"));
        assert_ne!(one("a"), one("b"));
        assert!(one("a").starts_with("run-") && one("a").len() == 12, "{}", one("a"));
    }

    #[test]
    fn schemas_and_hidden_files_are_no_desired_state() {
        for (path, is) in [
            ("a.yaml", true),
            ("deep/a.yml", true),
            ("a.json", true),
            ("schema/agent.json", false),
            ("deep/schema/a.json", true),
            (".hidden.yaml", false),
            ("..data/a.yaml", false),
            (".git/a.yaml", false),
            ("README.md", false),
            ("a.yaml~", false),
        ] {
            assert_eq!(is_desired(path), is, "{path}");
        }
    }

    #[test]
    fn files_past_the_limits_are_refused() {
        let many = (0..=MAX_FILES).map(|n| file(&format!("{n}.yaml"), "")).collect();
        let line = read_files(many, &Defaults::default(), None).unwrap_err().faults.to_string();
        assert!(line.contains("there are 10001 files (limit 10000)"), "{line}");
        let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n\
                    c: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\n\
                    e: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e]\n";
        let line = read(&[("bomb.yaml", bomb)]).unwrap_err().faults.to_string();
        assert!(line.contains("aliases make the document too large"), "{line}");
    }

    proptest! {
        #[test]
        fn the_order_of_files_does_not_matter(
            names in collection::vec("[a-c]{1,2}", 1..8), swaps in collection::vec(any::<(Index, Index)>(), 0..8),
        ) {
            let mut files: Vec<SourceFile> = names
                .iter()
                .enumerate()
                .map(|(n, name)| file(&format!("{n}.yaml"), &agent(name)))
                .collect();
            let before = read_files(files.clone(), &Defaults::default(), None);
            for (a, b) in swaps {
                let (a, b) = (a.index(files.len()), b.index(files.len()));
                files.swap(a, b);
            }
            prop_assert_eq!(read_files(files, &Defaults::default(), None), before);
        }
    }

    #[test]
    fn what_is_asked_for_once_stands_in_no_file() {
        for key in POWER_ANNOTATIONS {
            let annotations = format!("name: a, annotations: {{{key}: \"1\"}}");
            let text = agent("a").replace("name: a", &annotations);
            let told = read(&[("a.yaml", &text)]).unwrap_err().faults.to_string();
            assert!(told.contains("metadata.annotations") && told.contains(key), "{text}: {told}");
        }
    }
}
