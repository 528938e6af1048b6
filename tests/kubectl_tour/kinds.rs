//! One object of each kind that people declare, and what the tour does to all of them alike.

use serde_json::Value;

use super::{Rig, json};
use open_dispatch::resource::Kind;

/// An object of a kind that does nothing by itself, and the field of it that the tour changes.
pub struct Case {
    pub kind: Kind,
    /// Its spec; `VALUE` stands for what the field holds.
    spec: &'static str,
    /// The way to the field, as a JSON pointer.
    pub pointer: &'static str,
    /// What the field can hold, as it stands in YAML.
    values: [&'static str; 6],
    /// A condition that comes to hold, in the words of `kubectl wait`.
    pub condition: &'static str,
    /// The phase that it comes to.
    pub phase: &'static str,
}

/// Lengths of time, each in the unit in which the server keeps it.
const TIMES: [&str; 6] = ["15m", "20m", "25m", "35m", "40m", "45m"];
/// Small numbers.
const NUMBERS: [&str; 6] = ["1", "2", "3", "4", "5", "6"];

/// All kinds that people declare.
pub const CASES: [Case; 6] = [
    Case {
        kind: Kind::Agent,
        spec: "{agent: {command: {}}, suspend: true, idleTimeout: VALUE}",
        pointer: "/spec/idleTimeout",
        values: TIMES,
        condition: "Ready=false",
        phase: "Suspended",
    },
    Case {
        kind: Kind::Job,
        spec: "{agent: {command: {}}, task: 'true', ttlAfterFinished: VALUE}",
        pointer: "/spec/ttlAfterFinished",
        values: TIMES,
        condition: "Complete",
        phase: "Succeeded",
    },
    Case {
        kind: Kind::Fleet,
        spec: "{suspend: true, generate: {replicas: 2}, strategy: {maxUnavailable: VALUE}, \
               template: {kind: Agent, spec: {agent: {command: {}}, suspend: true}}}",
        pointer: "/spec/strategy/maxUnavailable",
        values: NUMBERS,
        condition: "Suspended",
        phase: "Suspended",
    },
    Case {
        kind: Kind::Schedule,
        spec: "{suspend: true, schedule: '0 5 * * *', startingDeadline: VALUE, \
               jobTemplate: {spec: {agent: {command: {}}, task: 'true'}}}",
        pointer: "/spec/startingDeadline",
        values: TIMES,
        condition: "Suspended",
        phase: "Suspended",
    },
    Case {
        kind: Kind::Source,
        spec: "{suspend: true, from: {directory: {path: declared}}, interval: VALUE}",
        pointer: "/spec/interval",
        values: TIMES,
        condition: "Ready=false",
        phase: "Suspended",
    },
    Case {
        kind: Kind::Override,
        spec: "{target: {kind: Agent, name: nobody}, patch: {idleTimeout: 1h}, expiresAfter: VALUE}",
        pointer: "/spec/expiresAfter",
        values: TIMES,
        condition: "Applied=false",
        phase: "Refused",
    },
];

impl Case {
    /// As kubectl takes it: `fleet/tour`.
    pub fn word(&self) -> String {
        format!("{}/tour", self.kind.singular())
    }

    /// As kubectl calls it: `fleet.opendispatch.dev/tour`.
    pub fn full(&self) -> String {
        format!("{}.opendispatch.dev/tour", self.kind.singular())
    }

    /// The document, with one of the values.
    pub fn yaml(&self, value: usize) -> String {
        let spec = self.spec.replace("VALUE", self.values[value]);
        let kind = self.kind;
        format!(
            "apiVersion: opendispatch.dev/v1alpha1\nkind: {kind}\n\
             metadata: {{name: tour, labels: {{app: tour}}}}\nspec: {spec}\n"
        )
    }

    /// Writes the document into a file, and gives its name.
    pub fn write(&self, rig: &Rig, value: usize) -> String {
        let file = format!("{}.yaml", self.kind.singular());
        rig.world.write(&file, self.yaml(value));
        file
    }

    /// One of the values as JSON.
    pub fn value(&self, value: usize) -> Value {
        serde_saphyr::from_str(self.values[value]).unwrap()
    }

    /// The field's own name.
    pub fn leaf(&self) -> &'static str {
        self.pointer.rsplit('/').next().unwrap()
    }

    /// The way to the field with dots: `spec.idleTimeout`.
    pub fn path(&self) -> String {
        self.pointer.trim_start_matches('/').replace('/', ".")
    }

    /// The field's line in YAML.
    pub fn line(&self, value: usize) -> String {
        format!("{}: {}", self.leaf(), self.values[value])
    }

    /// A merge patch that sets the field.
    pub fn merge(&self, value: usize) -> String {
        let steps: Vec<&str> = self.pointer.split('/').skip(1).collect();
        let inner = |patch, step: &&str| serde_json::json!({ *step: patch });
        steps.iter().rev().fold(self.value(value), inner).to_string()
    }

    /// The object as the server has it.
    pub fn read(&self, rig: &Rig) -> Value {
        json(&rig.ok(&["get", &self.word(), "-o", "json"]))
    }

    /// What the field holds on the server.
    pub fn found(&self, rig: &Rig) -> Value {
        self.read(rig).pointer(self.pointer).unwrap().clone()
    }

    /// Makes it, in a way that leaves no annotation.
    pub fn create(&self, rig: &Rig) {
        let file = self.write(rig, 0);
        assert_eq!(rig.ok(&["create", "-f", &file]), format!("{} created\n", self.full()));
    }
}
