//! Jobs: `/od-run`, and what `/od-cancel` and `/od-retry` mean for one.

use std::collections::BTreeSet;

use super::{Answer, Commands, Effect, Incoming, find::has_job, spec, suffix};
use crate::{
    access::Reach,
    chat::{
        grammar::Run,
        outbox::conversation_of,
        replies::{self, Asked, Seen},
        tag::Tag,
    },
    resource::{AnyObject, Job, Kind, admit},
    store::{Conversation, Delivery, Error, Expect, Op, Part, Subject},
};

/// How many jobs `/od-jobs` lists.
const JOBS_SHOWN: usize = 10;

impl Commands {
    pub(super) async fn run(
        &self,
        run: &Run,
        line: &Incoming,
        round: u32,
    ) -> Result<Effect, Error> {
        let defaults = &self.settings.defaults;
        let spec = match spec::job_spec(run, defaults, &line.conversation, line.is_console()) {
            Ok(asked) => asked,
            Err(bad) => return Ok(Effect::private(bad.to_string())),
        };
        let spec::Asked { spec, ignored } = spec;
        // Serialising a spec cannot fail: it is made of strings, numbers and maps of both.
        let json = serde_json::to_value(&spec).unwrap_or_default();
        if let Err(fault) = defaults.check_place(&json) {
            return Ok(Effect::private(replies::faults(Asked::Run, &fault.into())));
        }
        if let Some(name) = &run.name
            && self.store.get(Kind::Job, name).await?.is_some()
        {
            return Ok(Effect::private(replies::job_exists(name)));
        }
        let mut job = Job::new(run.name.clone().unwrap_or_default(), spec);
        job.metadata.generate_name = run.name.is_none().then(|| "run-".to_owned());
        let mut effect = self.create(job, &suffix(&line.key, round));
        // The answer is the transcript; what was left out of the line is a word of its own.
        if !ignored.is_empty() && !effect.ops.is_empty() {
            let subject = Subject::Notice { text: ignored.join("\n") };
            let (id, place) = (self.ambient.ids.uid(), line.conversation.clone());
            let notice = Delivery::open(id, place, subject, self.ambient.clock.now());
            effect.ops.push(Op::Delivery(notice));
        }
        Ok(effect)
    }

    /// A new Job, whose transcript is the answer.
    fn create(&self, job: Job, suffix: &str) -> Effect {
        let uid = self.ambient.ids.uid();
        match admit::create(job.into(), uid.clone(), suffix) {
            Ok(object) => {
                let name = object.metadata().name.clone();
                Effect { ops: vec![Op::Create(object)], answer: Answer::Job { uid, name } }
            }
            Err(faults) => Effect::private(replies::faults(Asked::Run, &faults)),
        }
    }

    pub(super) fn cancel_job(mut job: Job) -> Effect {
        let text = replies::cancel(&job);
        let conditions = &job.status.conditions;
        let ended = conditions.is_true("Complete") || conditions.is_true("Failed");
        if ended || job.spec.cancel {
            return Effect::text(text);
        }
        job.spec.cancel = true;
        let op = Op::Write { object: job.into(), part: Part::Desired, expect: Expect::SameVersion };
        Effect::told(vec![op], text)
    }

    pub(super) async fn retry_job(
        &self,
        old: &Job,
        which: Option<&Tag>,
        line: &Incoming,
    ) -> Result<Effect, Error> {
        // The roots may have been narrowed since it was made, and this makes a new one.
        let json = serde_json::to_value(&old.spec).unwrap_or_default();
        if let Err(fault) = self.settings.defaults.check_place(&json) {
            return Ok(Effect::private(replies::faults(Asked::Run, &fault.into())));
        }
        let mut once = None;
        if let Some(tag) = which {
            let (name, uid) = (&old.metadata.name, &old.metadata.uid);
            if !tag.names(&Tag::of_id(uid)) {
                return Ok(Effect::private(replies::is_over(name, None)));
            }
            once = self.once("retried", uid).await?;
            if once.is_none() {
                return Ok(Effect::private(replies::retried_already(name, &old.spec.task)));
            }
        }
        let base = retry_base(&old.metadata.name);
        let mut n = 1;
        let name = loop {
            let name = retry_name(base, n);
            if self.store.get(Kind::Job, &name).await?.is_none() {
                break name;
            }
            n += 1;
        };
        let mut job = Job::new(name, old.spec.clone());
        job.metadata.labels.clone_from(&old.metadata.labels);
        job.spec.cancel = false;
        job.spec.report = spec::report_to(&line.conversation);
        let mut effect = self.create(job, "");
        if let Some(once) = once {
            effect.ops.push(Op::Receipt(once));
            effect.ops.extend(self.job_shown_again(old, line).await?);
        }
        Ok(effect)
    }

    /// Has the messages of a job that is done again shown once more, without their button.
    async fn job_shown_again(&self, job: &Job, line: &Incoming) -> Result<Vec<Op>, Error> {
        let told = job.spec.report.iter().flat_map(|report| &report.to).map(conversation_of);
        let places: BTreeSet<Conversation> = told.chain([line.conversation.clone()]).collect();
        let mut ops = Vec::new();
        for place in places {
            ops.extend(self.shown_again(&job.metadata.uid, &place).await?);
        }
        Ok(ops)
    }

    pub(super) async fn jobs(&self, reach: &Reach) -> Result<Effect, Error> {
        let mut jobs: Vec<Job> =
            self.all(Kind::Job).await?.into_iter().filter_map(AnyObject::into_job).collect();
        jobs.retain(|job| has_job(reach, job));
        jobs.sort_by(|a, b| {
            let key = |job: &Job| (job.metadata.creation_timestamp, job.metadata.uid.clone());
            key(b).cmp(&key(a))
        });
        let more = jobs.len().saturating_sub(JOBS_SHOWN);
        jobs.truncate(JOBS_SHOWN);
        let line = self.waiting().await?;
        let seen: Vec<Seen> = jobs
            .into_iter()
            .map(|job| {
                let waiting = line.place(&job.metadata.uid);
                Seen { job, waiting, machine: None }
            })
            .collect();
        Ok(Effect::text(replies::jobs(&seen, more, self.ambient.clock.now())))
    }
}

/// A job's name without the `-retry-N` of earlier retries.
fn retry_base(name: &str) -> &str {
    match name.rsplit_once("-retry-") {
        Some((base, n)) if !base.is_empty() && n.parse::<u32>().is_ok() => base,
        _ => name,
    }
}

/// The name of a job's n-th retry, a DNS label.
fn retry_name(base: &str, n: u32) -> String {
    let suffix = format!("-retry-{n}");
    let room = 63 - suffix.len();
    let base = &base[..base.len().min(room)];
    format!("{}{suffix}", base.trim_end_matches('-'))
}
