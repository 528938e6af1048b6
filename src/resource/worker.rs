//! Where a document holds the spec of whoever works, and what the server says of it: the same for
//! every editor (files, the API, the command line, chat), because all of them ask here.
//!
//! An Agent and a Job *are* workers; a Schedule holds the Job that it makes, and a Fleet the template
//! of its members. What a person need not say is filled in where the whole spec stands: in a Fleet's
//! template parameters may still say it, so its members are filled when they are made, and checked here
//! as they will be then.

use serde_json::{Value, json};

use super::{AnyObject, Defaults, Document, Fault, Faults, FleetSpec, Kind, expand};

/// Fields of a worker's spec that the server fills in where a document is silent.
pub const FILLED: [&str; 2] = ["agent", "runtime"];

/// Where a document of a kind holds the spec of an Agent or a Job; nothing where it holds none.
#[must_use]
pub fn worker(kind: Kind) -> Option<&'static [&'static str]> {
    match kind {
        Kind::Agent | Kind::Job => Some(&["spec"]),
        Kind::Schedule => Some(&["spec", "jobTemplate", "spec"]),
        Kind::Fleet => Some(&["spec", "template", "spec"]),
        Kind::Source | Kind::Override | Kind::Sprite => None,
    }
}

fn at<'a>(document: &'a Value, keys: &[&str]) -> Option<&'a Value> {
    keys.iter().try_fold(document, |value, key| value.get(*key))
}

/// As [`worker`], where what stands there is the whole of it: no parameters are still to come.
#[must_use]
pub fn whole_worker(kind: Kind) -> Option<&'static [&'static str]> {
    worker(kind).filter(|_| kind != Kind::Fleet)
}

impl Defaults {
    /// As [`Defaults::fill`], for the worker that a document of a kind holds.
    ///
    /// # Errors
    /// As [`Defaults::fill`], with a path into the document.
    pub fn fill_document(
        &self,
        kind: Kind,
        document: &mut Value,
        console: bool,
    ) -> Result<(), Fault> {
        let Some(keys) = whole_worker(kind) else { return Ok(()) };
        let place = keys.iter().try_fold(document, |value, key| value.get_mut(*key));
        let Some(spec) = place else { return Ok(()) };
        self.fill(spec, console).map_err(|fault| below(fault, keys))
    }

    /// As [`Defaults::fill_document`], for a document that takes the place of an `old` one: what it says
    /// as that did stays as that has it, whatever is usual by now.
    ///
    /// # Errors
    /// As [`Defaults::fill_document`].
    pub fn fill_change(&self, kind: Kind, old: &Value, document: &mut Value) -> Result<(), Fault> {
        let Some(keys) = whole_worker(kind) else { return Ok(()) };
        let said = at(document, keys).cloned().unwrap_or_default();
        self.fill_document(kind, document, false)?;
        let place = keys.iter().try_fold(document, |value, key| value.get_mut(*key));
        if let (Some(Value::Object(spec)), Some(old)) = (place, at(old, keys)) {
            for field in FILLED {
                if let Some(value) = old.get(field).filter(|value| said.get(field) == Some(value)) {
                    spec.insert(field.to_owned(), value.clone());
                }
            }
        }
        Ok(())
    }

    /// Whether a new object's workers may work where it says.
    ///
    /// # Errors
    /// As [`Defaults::check_place`], with paths into the object.
    pub fn check_new(&self, object: &AnyObject) -> Result<(), Faults> {
        let spec = object.to_json()["spec"].take();
        self.check_worker(object.kind(), &object.metadata().name, None, &spec)
    }

    /// As [`Defaults::check_new`], for a `spec` that takes the place of an `old` one: what stays as it
    /// was is not asked for again.
    ///
    /// # Errors
    /// As [`Defaults::check_new`].
    pub fn check_change(
        &self,
        kind: Kind,
        name: &str,
        old: &Value,
        spec: &Value,
    ) -> Result<(), Faults> {
        self.check_worker(kind, name, Some(old), spec)
    }

    fn check_worker(
        &self,
        kind: Kind,
        name: &str,
        old: Option<&Value>,
        spec: &Value,
    ) -> Result<(), Faults> {
        if kind == Kind::Fleet {
            return self.check_members(name, old, spec);
        }
        let Some(keys) = whole_worker(kind) else { return Ok(()) };
        let held = |spec| keys.iter().skip(1).try_fold(spec, |value: &Value, key| value.get(*key));
        let Some(new) = held(spec) else { return Ok(()) };
        let checked = match old.and_then(held) {
            Some(old) => self.check_move(old, new),
            None => self.check_place(new),
        };
        checked.map_err(|fault| below(fault, keys).into())
    }

    /// A Fleet's members, as they will be made here.
    fn check_members(&self, name: &str, old: Option<&Value>, spec: &Value) -> Result<(), Faults> {
        let is_same = |part: &str| old.is_some_and(|old| old.get(part) == spec.get(part));
        if is_same("template") && is_same("generate") {
            return Ok(());
        }
        // What is no such spec was refused by its schema.
        let Ok(spec) = serde_json::from_value::<FleetSpec>(spec.clone()) else { return Ok(()) };
        expand::sample(name, &spec, &mut |spec| {
            self.fill(spec, false)?;
            self.check_place(spec)
        })
        .map(drop)
    }
}

impl Document {
    /// As [`Defaults::fill_document`]; what is added has the place of what it is added to.
    ///
    /// # Errors
    /// As [`Defaults::fill_document`], without a place.
    pub fn fill(&mut self, defaults: &Defaults, console: bool) -> Result<(), Fault> {
        let Some(keys) = self.kind().and_then(whole_worker) else { return Ok(()) };
        let Some(mut spec) = self.get(keys).filter(Value::is_object) else { return Ok(()) };
        let filled = defaults.fill(&mut spec, console);
        self.add(keys, &spec);
        filled.map_err(|fault| below(fault, keys))
    }

    /// The object, and its JSON for a server that still fills in what the document does not say: where
    /// it is silent, so is the JSON. The object has something in those places, which means nothing.
    ///
    /// # Errors
    /// As [`Document::object`].
    pub fn unfilled(&self) -> Result<(AnyObject, Value), Faults> {
        let Some(keys) = self.kind().and_then(whole_worker) else {
            return self.object().map(|object| (object.clone(), object.to_json()));
        };
        let said = self.get(keys).unwrap_or_default();
        let is_silent = |field: &str| said.get(field).is_none_or(Value::is_null);
        let mut stands_in = self.clone();
        if is_silent("agent") {
            stands_in.add(keys, &json!({"agent": {"claude": {}}}));
        }
        let object = stands_in.object()?;
        let mut json = object.to_json();
        let spec = keys.iter().try_fold(&mut json, |value, key| value.get_mut(*key));
        if let Some(Value::Object(spec)) = spec {
            spec.retain(|field, _| !FILLED.contains(&field.as_str()) || !is_silent(field));
        }
        Ok((object, json))
    }
}

/// A fault of a spec, as one of the document that the spec stands in.
fn below(mut fault: Fault, keys: &[&str]) -> Fault {
    let rest = fault.path.strip_prefix("spec").unwrap_or(&fault.path);
    fault.path = format!("{}{rest}", keys.join("."));
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: &str = "apiVersion: opendispatch.dev/v1alpha1\nkind: Schedule\nmetadata: \
                            {name: s}\nspec:\n  schedule: '@daily'\n  jobTemplate:\n    spec: \
                            {task: t}\n";

    fn on_fly() -> Defaults {
        Defaults { on_fly: true, ..Defaults::default() }
    }

    fn document(text: &str) -> Document {
        Document::read(text, Some("a.yaml")).unwrap().remove(0)
    }

    #[test]
    fn a_file_and_a_request_get_the_same_filled_in() {
        let mut file = document(SCHEDULE);
        let (object, mut request) = file.unfilled().unwrap();
        assert_eq!(object.metadata().name, "s");
        let sent = &request["spec"]["jobTemplate"]["spec"];
        assert_eq!((sent.get("agent"), sent.get("runtime")), (None, None));
        on_fly().fill_document(Kind::Schedule, &mut request, false).unwrap();
        file.fill(&on_fly(), false).unwrap();
        let filled = file.object().unwrap().to_json();
        assert_eq!(filled["spec"], request["spec"]);
        let spec = &filled["spec"]["jobTemplate"]["spec"];
        assert_eq!(spec["runtime"], json!({"fly": {}}));
        assert_eq!(spec["agent"], json!({"claude": {}}));
    }

    #[test]
    fn what_a_document_says_goes_to_the_server_as_it_is() {
        let said =
            SCHEDULE.replace("{task: t}", "{task: t, agent: {codex: {}}, runtime: {local: {}}}");
        let (_, json) = document(&said).unfilled().unwrap();
        let spec = &json["spec"]["jobTemplate"]["spec"];
        assert_eq!(spec["agent"], json!({"codex": {}}));
        assert_eq!(spec["runtime"], json!({"local": {}}));
    }

    #[test]
    fn where_nobody_can_be_found_the_fault_is_in_the_document_and_the_rest_stands() {
        let mut file = document(SCHEDULE);
        let fault = file.fill(&Defaults::default(), false).unwrap_err();
        assert_eq!(fault.path, "spec.jobTemplate.spec.agent");
        let mut json = json!({"spec": {"jobTemplate": {"spec": {"task": "t"}}}});
        let same = Defaults::default().fill_document(Kind::Schedule, &mut json, false);
        assert_eq!(same.unwrap_err().path, "spec.jobTemplate.spec.agent");
    }

    #[test]
    fn a_fleet_is_asked_for_the_places_of_all_its_members_and_not_twice() {
        let defaults = Defaults { roots: vec!["/srv".into()], ..Defaults::default() };
        let fleet = |path: &str| {
            json!({
                "generate": {"list": [{"dir": "/srv/a"}, {"dir": path}]},
                "template": {"kind": "Agent", "metadata": {"name": "m-{{dir}}"}, "spec": {
                    "agent": {"claude": {}}, "runtime": {"local": {"workdir": "{{dir}}"}},
                }},
            })
        };
        assert_eq!(defaults.check_worker(Kind::Fleet, "f", None, &fleet("/srv/b")), Ok(()));
        let bad = fleet("/etc");
        let faults = defaults.check_worker(Kind::Fleet, "f", None, &bad).unwrap_err();
        assert_eq!(faults.0.len(), 1, "{faults}");
        assert_eq!(faults.0[0].path, "spec.template.spec.runtime.local.workdir");
        let mut paused = bad.clone();
        paused["suspend"] = true.into();
        assert_eq!(defaults.check_change(Kind::Fleet, "f", &bad, &paused), Ok(()));
        assert!(defaults.check_change(Kind::Fleet, "f", &fleet("/srv/b"), &bad).is_err());
    }

    #[test]
    fn a_schedules_place_is_asked_for_unless_it_stays() {
        let defaults = Defaults { roots: vec!["/srv".into()], ..Defaults::default() };
        let at = |path: &str| json!({"jobTemplate": {"spec": {"runtime": {"local": {"workdir": path}}}}});
        let new = defaults.check_worker(Kind::Schedule, "s", None, &at("/etc")).unwrap_err();
        assert_eq!(new.0[0].path, "spec.jobTemplate.spec.runtime.local.workdir");
        let stays = defaults.check_change(Kind::Schedule, "s", &at("/etc"), &at("/etc"));
        assert_eq!(stays, Ok(()));
        let moves = defaults.check_change(Kind::Schedule, "s", &at("/srv"), &at("/etc"));
        assert!(moves.is_err());
    }
}
