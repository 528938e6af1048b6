//! The gate: who may say a line, and the note of what they said.
//!
//! Each line passes here, typed or pressed, and is decided by the rows as they are then. What was
//! allowed by a row commits only while that row still stands; so a role that was taken at the same
//! instant does nothing more. The note for the audit commits with the effect.
//!
//! Whoever's id names nobody may nothing, not even where the channel has a role: it would stand in
//! rows that nobody can read back. A stranger who speaks to us gets a pairing code, once as long as it is open; all else that
//! strangers say leaves no trace, so that they cannot fill the store.

use super::{Answer, Commands, Effect, Incoming, Via};
use crate::{
    access::{Known, Quoted, Right, Standing, Verdict, decide, noted, pairing, standing},
    chat::{
        grammar::{Command, Diff, Line, Refusal, Scheduling, Stop, Target},
        replies,
    },
    resource::AnyObject,
    store::{
        Access, AuditRow, Conversation, Error, MOST_PAIRINGS, Op, Outcome, PAIRING_EXPIRY, Pairing,
        Part, Principal, Role,
    },
};

/// The longest target that is noted, in characters.
const LONGEST_TARGET: usize = 80;

impl Commands {
    /// What a line leads to for whoever said it, with the note of it.
    pub(super) async fn effect(
        &self,
        parsed: &Result<Line, Refusal>,
        line: &Incoming,
        round: u32,
    ) -> Result<Effect, Error> {
        let who = line.principal();
        if !who.is_readable() {
            tracing::warn!(?who, "somebody spoke whose id names nobody; nothing was done with it");
            return Ok(Effect::nothing());
        }
        let rows = self.store.access().await?;
        let known = Known { rows: &rows, admins: &self.settings.admins };
        let right = parsed.as_ref().map_or(Right::Read, right_of);
        let standing = match decide(known, &line.user, &line.conversation, right) {
            Verdict::Stranger => return self.stranger(line).await,
            Verdict::Refused(standing) => {
                // What people say to each other is nothing that we refuse.
                if line.via == Via::Overheard && matches!(parsed, Ok(Line::Plain(_))) {
                    return Ok(Effect::nothing());
                }
                let what = match parsed {
                    Ok(Line::Command(command)) => format!("/{}", command.verb().name()),
                    _ => "a message to an agent".to_owned(),
                };
                let mut refused =
                    Effect::refused(self.refusal(line, &standing, &what, right, &rows));
                refused.ops.push(self.noted(what_of(parsed), line, Outcome::Refused));
                return Ok(refused);
            }
            Verdict::Allowed(standing) => standing,
        };
        let vouched;
        let line = if line.context.is_empty() {
            line
        } else {
            vouched = Incoming { context: vouch(known, line), ..line.clone() };
            &vouched
        };
        let mut effect = self.meant(parsed, line, round, &standing, &rows).await?;
        let outcome = match &effect.answer {
            Answer::Nothing => return Ok(effect),
            Answer::Refused(_) => Outcome::Refused,
            _ => Outcome::Allowed,
        };
        let what = what_of(parsed);
        let what = match (noted::answer(&effect.ops).or_else(|| looked(parsed)), made(&effect.ops))
        {
            (Some(answer), _) => format!("{what} {answer}"),
            (None, Some(made)) => format!("{what} ({made})"),
            (None, None) => what,
        };
        effect.ops.push(self.noted(what, line, outcome));
        // Whatever was relied on: the person's row, or the channel's.
        let theirs = [line.principal(), line.channel()];
        let relied = rows.iter().filter(|row| theirs.contains(&row.principal));
        effect.ops.extend(relied.cloned().map(Op::StillAdmitted));
        Ok(effect)
    }

    /// Somebody whom nobody knows.
    async fn stranger(&self, line: &Incoming) -> Result<Effect, Error> {
        let who = Principal::user(&line.conversation.platform, &line.user);
        if line.via == Via::Overheard {
            return Ok(Effect::nothing());
        }
        let now = self.ambient.clock.now();
        let waiting = self.store.pairings().await?;
        let open: Vec<&Pairing> = waiting.iter().filter(|pairing| pairing.is_open(now)).collect();
        if open.iter().any(|pairing| pairing.principal == who) {
            return Ok(Effect::nothing());
        }
        if open.len() >= MOST_PAIRINGS {
            tracing::warn!(%who, "too many strangers wait for a pairing; this one is told nothing");
            return Ok(Effect::nothing());
        }
        let code = pairing::code(&format!("{}\n{}", self.ambient.ids.uid(), line.key));
        let text = replies::pairing(&line.conversation.platform, &who, &code);
        let expires = now.checked_add(PAIRING_EXPIRY).unwrap_or(jiff::Timestamp::MAX);
        let pairing = Pairing {
            code,
            principal: who,
            name: line.author.clone(),
            conversation: line.conversation.clone(),
            created: now,
            expires,
        };
        let note = self.noted("ask to be let in".to_owned(), line, Outcome::Pairing);
        let ops = vec![Op::OpenPairing(pairing), note];
        Ok(Effect { ops, answer: Answer::Refused(text) })
    }

    /// Why somebody may not, and who can change that.
    pub(super) fn refusal(
        &self,
        line: &Incoming,
        standing: &Standing,
        what: &str,
        right: Right,
        rows: &[Access],
    ) -> String {
        let platform = &line.conversation.platform;
        let rows = rows.iter().filter(|row| row.role == Role::Admin).map(|row| &row.principal);
        let admins = self.settings.admins.iter().chain(rows);
        let mut names: Vec<String> = admins
            .filter(|admin| admin.platform == *platform && !admin.is_channel)
            .map(Principal::to_string)
            .collect();
        names.sort();
        names.dedup();
        let who = Principal::user(platform, &line.user);
        replies::not_allowed(standing.role, what, right.needs(), &who, &names)
    }

    fn noted(&self, what: String, line: &Incoming, outcome: Outcome) -> Op {
        Op::Audit(AuditRow {
            n: 0,
            at: self.ambient.clock.now(),
            who: Principal::user(&line.conversation.platform, &line.user).to_string(),
            name: line.author.clone(),
            place: place_of(&line.conversation),
            what,
            outcome,
        })
    }

    /// The answer to `/od-whoami`.
    pub(super) fn whoami(line: &Incoming, standing: &Standing) -> Effect {
        let text = replies::whoami(&line.author, &line.user, &line.conversation, standing);
        Effect::text(text)
    }
}

/// What a line needs.
pub(super) fn right_of(line: &Line) -> Right {
    match line {
        Line::Plain(_) => Right::Talk,
        Line::Command(command) => right(command),
    }
}

/// What a command needs. Whoever may only cancel what they said themselves is told apart where
/// the turn is looked up.
pub(super) fn right(command: &Command) -> Right {
    match command {
        Command::List
        | Command::Jobs
        | Command::Schedule(Scheduling::List)
        | Command::Status(_)
        | Command::Logs(_)
        | Command::Help(_)
        | Command::Whoami => Right::Read,
        Command::Send { .. } | Command::Pick { .. } => Right::Talk,
        Command::Cancel { .. } => Right::CancelOwn,
        Command::Stop(Stop::Everywhere) => Right::Admin,
        Command::Start(_)
        | Command::Run(_)
        | Command::Schedule(_)
        | Command::Stop(Stop::One(_) | Stop::Here)
        | Command::Retry { .. }
        | Command::Set { .. }
        | Command::Choose { .. }
        | Command::Apply { .. }
        | Command::Diff(_)
        | Command::Export(_)
        | Command::Scale { .. }
        | Command::Delete(_) => Right::Command,
        Command::Approve { .. } => Right::Approve,
    }
}

/// What is noted of a line: the verb and what it is about; never a message, a task, an answer or
/// the value of a field.
fn what_of(parsed: &Result<Line, Refusal>) -> String {
    let command = match parsed {
        Err(_) => return "say what is no command".to_owned(),
        Ok(Line::Plain(_)) => return "say something".to_owned(),
        Ok(Line::Command(command)) => command,
    };
    let verb = command.verb().name().trim_start_matches("od-");
    let about = match command {
        Command::List | Command::Jobs | Command::Help(_) | Command::Whoami => return verb.into(),
        Command::Pick { .. } => return "pick".into(),
        Command::Choose { .. } => return "choose".into(),
        Command::Apply { .. } | Command::Diff(Diff::All | Diff::Text(_)) => return verb.into(),
        Command::Export(targets) => targets.iter().map(named).collect::<Vec<_>>().join(" "),
        Command::Schedule(what) => match what {
            Scheduling::List => "list".to_owned(),
            Scheduling::Add(added) => {
                format!("add {}", added.run.name.as_deref().unwrap_or_default())
            }
            Scheduling::Run(name) => format!("run {name}"),
            Scheduling::Suspend(name) => format!("suspend {name}"),
            Scheduling::Resume(name) => format!("resume {name}"),
            Scheduling::Delete(name) => format!("delete {name}"),
        },
        Command::Start(start) => start.name.clone().unwrap_or_default(),
        Command::Run(run) => run.name.clone().unwrap_or_default(),
        Command::Stop(Stop::Here) => "--all".to_owned(),
        Command::Stop(Stop::Everywhere) => "--all everywhere".to_owned(),
        Command::Stop(Stop::One(target))
        | Command::Send { to: target, .. }
        | Command::Status(target)
        | Command::Logs(target)
        | Command::Diff(Diff::One(target))
        | Command::Cancel { target, .. }
        | Command::Retry { target, .. }
        | Command::Approve { target, .. }
        | Command::Scale { target, .. }
        | Command::Delete(target) => named(target),
        Command::Set { target, changes } => {
            let fields: Vec<String> = changes.iter().map(|change| change.path.join(".")).collect();
            format!("{} {}", named(target), fields.join(" "))
        }
    };
    let about: String = about.chars().filter(|c| !c.is_control()).take(LONGEST_TARGET).collect();
    format!("{verb} {about}").trim_end().to_owned()
}

/// What somebody looked at who answered nothing.
fn looked(parsed: &Result<Line, Refusal>) -> Option<String> {
    let Ok(Line::Command(Command::Approve { words, .. })) = parsed else { return None };
    let word = words.split_whitespace().next()?.to_lowercase();
    matches!(word.as_str(), "list" | "show").then_some(word)
}

fn named(target: &Target) -> String {
    match target.kind {
        Some(kind) => format!("{}/{}", kind.name().to_lowercase(), target.name),
        None => target.name.clone(),
    }
}

/// What a transaction makes or talks to, where the line does not name it.
fn made(ops: &[Op]) -> Option<String> {
    let talks = ops.iter().any(|op| matches!(op, Op::AddTurn(_)));
    let name = |object: &AnyObject| {
        let kind = object.kind().name().to_lowercase();
        format!("{kind}/{}", object.metadata().name)
    };
    ops.iter().find_map(|op| match op {
        Op::Create(object) => Some(name(object)),
        Op::Write { object, part: Part::Status, .. } if talks => Some(name(object)),
        _ => None,
    })
}

/// Who of those that are quoted may talk here.
fn vouch(known: Known<'_>, line: &Incoming) -> Vec<Quoted> {
    let may = |user: &str| {
        standing(known, user, &line.conversation)
            .is_some_and(|standing| standing.role >= Right::Talk.needs())
    };
    line.context.iter().map(|quote| quote.vouched(may)).collect()
}

fn place_of(place: &Conversation) -> String {
    let thread = place.thread.as_ref().map(|thread| format!("/{thread}")).unwrap_or_default();
    format!("{}/{}{thread}", place.platform, place.channel)
}
