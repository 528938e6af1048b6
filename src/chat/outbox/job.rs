//! What a delivery shows of a Job: its transcript, over all attempts.

use std::time::Duration;

use super::{
    GRACE, Outbox,
    again::go_on,
    rendering::{Frames, Rendering, Stopped, fixed},
};
use crate::{
    ambient::{between, later},
    chat::{
        buttons::{About, of_wrong},
        commands::sprites_of,
        platform::Capabilities,
        transcript::Transcript,
    },
    reconcile::Error,
    resource::{AnyObject, Detail, Job, Kind},
    store::{Cursor, Delivery},
};

/// How far a Job's output was read.
struct Read {
    /// Whether everything was read that there is at the moment.
    at_end: bool,
    /// Whether nothing can come behind it.
    whole: bool,
}

impl Outbox {
    pub(super) async fn job(&self, uid: &str) -> Result<Option<Job>, Error> {
        Ok(self.store.get_by_uid(Kind::Job, uid).await?.and_then(AnyObject::into_job))
    }

    pub(super) async fn job_frames(
        &self,
        delivery: &Delivery,
        job: &Job,
        capabilities: &Capabilities,
        rendering: &mut Option<Rendering>,
    ) -> Result<Frames, Error> {
        let rendering = match rendering {
            Some(rendering) => rendering,
            None => rendering.insert(self.begin(delivery, job, capabilities).await?),
        };
        rendering.stand(delivery.messages.len() - 1);
        // The Job was read first: what it had printed when it ended is there to be read.
        let conditions = &job.status.conditions;
        let ended = conditions.is_true("Complete") || conditions.is_true("Failed");
        let read = self.read_job(&delivery.id, job, rendering).await?;
        if !ended || !read.at_end {
            return Ok(rendering.growing("", None));
        }
        let left = job
            .status
            .completion_time
            .map_or(Duration::ZERO, |time| between(self.ambient.clock.now(), later(time, GRACE)));
        if read.whole || left.is_zero() {
            if let Some(uid) = rendering.sprite.clone() {
                self.end_questions(rendering, &uid).await?;
            }
            let end = rendering.transcript.end(job, read.whole);
            let line = rendering.transcript.blank().end(job, read.whole);
            let frames = rendering.whole(&end, &line);
            let succeeded = job.status.phase == "Succeeded" || conditions.is_true("Complete");
            if succeeded || self.was_retried(&job.metadata.uid).await? {
                return Ok(frames);
            }
            let about = About { kind: Kind::Job, name: &job.metadata.name };
            Ok(frames.with(of_wrong(about, &job.metadata.uid)))
        } else {
            Ok(rendering.growing("", Some(left)))
        }
    }

    /// A rendering of which nothing is read yet.
    async fn begin(
        &self,
        delivery: &Delivery,
        job: &Job,
        capabilities: &Capabilities,
    ) -> Result<Rendering, Error> {
        let detail = job.spec.report.as_ref().map_or(Detail::Stream, |report| report.detail);
        let mut transcript = Transcript::new(capabilities.markup, detail);
        let header = transcript.header(job);
        let mut rendering = Rendering::new(transcript, capabilities);
        let sprites = sprites_of(&*self.store, &job.metadata.uid).await?;
        let uids =
            || sprites.iter().map(|sprite| (sprite.metadata.uid.as_str(), Cursor::default()));
        match uids().next() {
            // The answer alone is made of all that is kept.
            Some(first)
                if detail == Detail::Stream && self.is_unrepeatable(delivery, uids()).await? =>
            {
                go_on(&mut rendering, delivery, first);
            }
            _ => rendering.append(&header),
        }
        Ok(rendering)
    }

    /// Reads on, through the Job's sprites.
    async fn read_job(
        &self,
        id: &str,
        job: &Job,
        rendering: &mut Rendering,
    ) -> Result<Read, Error> {
        let sprites = sprites_of(&*self.store, &job.metadata.uid).await?;
        for sprite in &sprites {
            self.watch(&sprite.metadata.uid, id);
        }
        let first = match &rendering.sprite {
            None => 0,
            Some(uid) => {
                let known = sprites.iter().position(|sprite| sprite.metadata.uid == *uid);
                // A sprite that is gone was read to its end, or can be read no more.
                known.unwrap_or(0)
            }
        };
        for (at, sprite) in sprites.iter().enumerate().skip(first) {
            let uid = &sprite.metadata.uid;
            let is_last = at + 1 == sprites.len();
            if rendering.sprite.as_ref() != Some(uid) {
                if rendering.sprite.is_some() {
                    let line = rendering.transcript.next_attempt(sprite.spec.attempt);
                    rendering.append(&line);
                }
                rendering.turn_to(uid, Cursor::default());
            }
            // Looked at first, so that the end of what is read is not taken for the end of all.
            let held = self.store.held(uid, None).await?;
            match self.read(rendering, uid, |_| false).await? {
                Stopped::Full => return Ok(Read { at_end: false, whole: false }),
                Stopped::AtEnd | Stopped::Here if is_last => {
                    return Ok(Read { at_end: true, whole: held.finished || held.run == 0 });
                }
                Stopped::AtEnd | Stopped::Here => self.end_questions(rendering, uid).await?,
            }
        }
        Ok(Read { at_end: true, whole: true })
    }

    /// The Job was deleted: shows what is known, and says so.
    pub(super) async fn gone_frames(
        &self,
        delivery: &Delivery,
        name: &str,
        capabilities: &Capabilities,
        rendering: Option<&mut Rendering>,
    ) -> Result<Frames, Error> {
        let at = delivery.messages.len() - 1;
        let Some(rendering) = rendering else {
            // What stands there cannot be made again; so it stays, and a new message follows.
            let first = if delivery.hash.is_empty() { at } else { at + 1 };
            let lost = match self.is_lost(delivery).await? {
                true => "! what else was said is kept no longer\n",
                false => "",
            };
            return Ok(fixed(first, &format!("{lost}{name} was deleted"), capabilities));
        };
        rendering.stand(at);
        if let Some(uid) = rendering.sprite.clone() {
            if self.read(rendering, &uid, |_| false).await? == Stopped::Full {
                return Ok(rendering.growing("", None));
            }
            self.end_questions(rendering, &uid).await?;
        }
        let end = rendering.transcript.deleted(name);
        let line = rendering.transcript.blank().deleted(name);
        Ok(rendering.whole(&end, &line))
    }

    /// Whether more was said than a delivery shows, as far as can be told behind the Job's end.
    async fn is_lost(&self, delivery: &Delivery) -> Result<bool, Error> {
        let Some(sprite) = &delivery.shown_of else { return Ok(delivery.parked.is_some()) };
        let held = self.store.held(sprite, None).await?;
        Ok(held.run == 0 || Cursor { run: held.run, seq: held.seq } > delivery.shown)
    }
}
