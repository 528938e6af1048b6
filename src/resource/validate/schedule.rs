//! Schedules: a cron line that is due some day, a zone that there is, and a Job that could be made.

use super::{
    super::{
        Kind,
        cron::{Cron, zone},
        fault::Fault,
        tree::{Node, Shape},
    },
    Rules, bad_key, bad_label_value, members, sizes, texted,
};
use crate::resource::check::join;

/// Where the Job stands.
const TEMPLATE: &str = "spec.jobTemplate";

pub(super) fn rules(spec: &Node, faults: &mut Vec<Fault>) {
    let name = texted(spec.get("timeZone"));
    let in_zone = match name.map(|(node, name)| (node, zone(Some(name)))) {
        None => zone(None).ok(),
        Some((_, Ok(zone))) => Some(zone),
        Some((node, Err(bad))) => {
            faults.push(node.fault("spec.timeZone", bad.to_string()));
            None
        }
    };
    // A line is judged by itself where the zone is wrong.
    let judged_in = in_zone.or_else(|| zone(None).ok());
    if let Some((node, line)) = texted(spec.get("schedule"))
        && let Some(zone) = judged_in
        && let Err(bad) = Cron::within(line, zone)
    {
        faults.push(node.fault("spec.schedule", bad.to_string()));
    }
    let Some(template) = spec.get("jobTemplate") else { return };
    if let Some(node) = template.at(&["metadata", "name"]) {
        let message = "is drawn from the schedule's name and the due minute; leave it out";
        faults.push(node.fault(format!("{TEMPLATE}.metadata.name"), message));
    }
    of_template(template, &format!("{TEMPLATE}.metadata"), faults);
    let Some(job) = template.get("spec") else { return };
    if let Some(node) = job.get("cancel").filter(|node| node.shape == Shape::Bool(true)) {
        let message = "would end each job before it begins; leave it out, and suspend the schedule";
        faults.push(node.fault(format!("{TEMPLATE}.spec.cancel"), message));
    }
    let mut found = Vec::new();
    Rules { spec: job, faults: &mut found }.all(Kind::Job);
    faults.extend(
        found
            .into_iter()
            .map(|fault| Fault { path: format!("{TEMPLATE}.{}", fault.path), ..fault }),
    );
}

/// Labels and annotations of what is made from a template.
fn of_template(template: &Node, path: &str, faults: &mut Vec<Fault>) {
    if let Some(metadata) = template.get("metadata") {
        sizes(metadata, path, faults);
    }
    for part in ["labels", "annotations"] {
        for member in members(template.at(&["metadata", part])) {
            let path = join(&format!("{path}.{part}"), &member.key);
            faults.extend(bad_key(&member.key).map(|message| member.place.fault(&path, message)));
            if member.key.starts_with("opendispatch.dev/") {
                let message = "is set by the server; choose another key";
                faults.push(member.place.fault(&path, message));
            }
            if part == "labels"
                && let Some(message) = member.node.text().and_then(bad_label_value)
            {
                faults.push(member.node.fault(path, message));
            }
        }
    }
}
