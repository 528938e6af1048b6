//! What a job's output looks like in chat: events in, text out, one after the other.
//!
//! Pure and incremental: each event appends some text, and text that was appended never
//! changes. So a transcript can be cut into messages while it grows, and made again, the same,
//! from the store after a restart.
//!
//! Where a platform shows text as it is ([`Markup::Plain`]), what the agent printed stands there
//! byte for byte, as far as it is UTF-8. Where it shows Markdown, printed lines go into fences.
//! What the agent says is Markdown itself. All else is one line each, with a sign in front:
//! `→` a tool, `·` the reporter, `!` a trouble, `?` a question, `+` something that was made.

use std::{collections::HashMap, time::Duration};

use sprite_reporter::wire::{EventBody, Exit, ExitReason, Stream};

use super::platform::Markup;
use crate::{
    ambient::between,
    resource::{Detail, Job},
    store::OutputRow,
};

/// What stands at the transcript's end at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// Nothing, or a whole line.
    Line,
    /// What the agent printed.
    Log,
    /// What the agent says.
    Text,
}

/// A growing transcript.
#[derive(Debug, Clone)]
pub struct Transcript {
    markup: Markup,
    detail: Detail,
    block: Block,
    /// Whether the last character was a line break, or there was none.
    at_start: bool,
    /// Bytes that may be the front of a character whose rest comes with the next event.
    torn: Vec<u8>,
    /// How many backticks the printed text ends with, for breaking up fences.
    ticks: usize,
    /// The names of the tools that run, by the CLI's id.
    tools: HashMap<String, String>,
    /// With [`Detail::Final`]: the answer so far.
    answer: String,
    /// The exit of the sprite that was read last.
    exit: Option<Exit>,
    /// The job's name, once the header was told.
    name: String,
}

/// With [`Detail::Final`], about the most that is kept of what was printed, in bytes.
const ANSWER_BYTES: usize = 4096;

impl Transcript {
    /// An empty transcript.
    #[must_use]
    pub fn new(markup: Markup, detail: Detail) -> Self {
        Self {
            markup,
            detail,
            block: Block::Line,
            at_start: true,
            torn: Vec::new(),
            ticks: 0,
            tools: HashMap::new(),
            answer: String::new(),
            exit: None,
            name: String::new(),
        }
    }

    /// The first line: what the job is.
    #[must_use]
    pub fn header(&mut self, job: &Job) -> String {
        let mut out = String::new();
        self.name.clone_from(&job.metadata.name);
        self.line(&mut out, &header(job));
        out
    }

    /// Appends one event; answers with the text that it adds.
    #[must_use]
    pub fn push(&mut self, row: &OutputRow) -> String {
        let mut out = String::new();
        if self.detail == Detail::Final && !self.belongs_to_answer(&row.event.body) {
            return out;
        }
        match &row.event.body {
            EventBody::Log { stream: Stream::System, chunk } => {
                let bytes = chunk.bytes();
                for line in String::from_utf8_lossy(&bytes).lines() {
                    self.line(&mut out, &format!("· {line}"));
                }
            }
            EventBody::Log { chunk, .. } => self.bytes(&mut out, Block::Log, &chunk.bytes()),
            EventBody::Text { chunk, .. } => self.bytes(&mut out, Block::Text, &chunk.bytes()),
            EventBody::Tool { id, name, title, .. } => {
                self.tools.insert(id.clone(), name.clone());
                let title = one_line(title);
                // Some CLIs begin the title with the name.
                let prefix = format!("{name}: ");
                let title = title.strip_prefix(&prefix).unwrap_or(&title);
                if title.is_empty() || title == name {
                    self.line(&mut out, &format!("→ {name}"));
                } else {
                    self.line(&mut out, &format!("→ {name}: {title}"));
                }
            }
            EventBody::ToolEnded { id, failed, .. } => {
                let name = self.tools.remove(id).unwrap_or_else(|| "the tool".to_owned());
                if *failed {
                    self.line(&mut out, &format!("! {name} failed"));
                }
            }
            EventBody::Approval { tool, title, .. } => {
                let title = one_line(title);
                let title = title.strip_prefix(&format!("{tool}: ")).unwrap_or(&title);
                let how = match self.name.as_str() {
                    "" => String::new(),
                    name => format!(" - answer with /od-approve {name} yes|no"),
                };
                self.line(&mut out, &format!("? asks to use {tool}: {title}{how}"));
            }
            EventBody::Retry { attempt, of, message, delay_ms } => self.line(
                &mut out,
                &format!(
                    "! {}; try {attempt}{} in {}",
                    one_line(message),
                    if *of == 0 { String::new() } else { format!(" of {of}") },
                    seconds(Duration::from_millis(*delay_ms))
                ),
            ),
            EventBody::Artifact { name, url, .. } => {
                self.line(&mut out, &format!("+ {name}: {url}"));
            }
            EventBody::Gap { bytes, .. } => self.line(
                &mut out,
                &format!(
                    "! {bytes} bytes of output are missing here: they could not be kept until a server \
                     took them"
                ),
            ),
            EventBody::Exit(exit) => self.exit = Some(exit.clone()),
            EventBody::Hello { .. }
            | EventBody::Thought { .. }
            | EventBody::Ready {}
            | EventBody::Session { .. }
            | EventBody::TurnAccepted { .. }
            | EventBody::TurnEnded { .. }
            | EventBody::Usage { .. }
            | EventBody::ApprovalWithdrawn { .. } => {}
        }
        self.told(out)
    }

    /// Another attempt begins; answers with the text that this adds.
    #[must_use]
    pub fn next_attempt(&mut self, attempt: u32) -> String {
        let mut out = String::new();
        let end = match self.exit.take() {
            Some(exit) => exit_words(&exit),
            None => "the attempt was lost".to_owned(),
        };
        self.tools.clear();
        match self.detail {
            Detail::Stream => self.line(&mut out, &format!("! {end}; attempt {attempt} begins")),
            Detail::Final => self.forget_answer(),
        }
        out
    }

    /// The end: what closes open blocks, and the last line. `whole` says whether all output
    /// of the last sprite was read.
    #[must_use]
    pub fn end(&self, job: &Job, whole: bool) -> String {
        let mut copy = self.clone();
        let mut out = String::new();
        copy.detail = Detail::Stream;
        if self.detail == Detail::Final {
            out.push_str(&self.final_answer());
        }
        if !whole {
            copy.line(
                &mut out,
                "! what it printed last may be missing here: its reporter went away before \
                 everything was sent",
            );
        }
        copy.line(&mut out, &end_line(job));
        // The message ends without a line break.
        out.truncate(out.trim_end_matches('\n').len());
        out
    }

    /// The answer, with a fence in front where its own was cut off.
    fn final_answer(&self) -> String {
        let fences = self.answer.lines().filter(|line| *line == "```").count();
        let open = usize::from(self.block == Block::Log);
        match self.markup {
            Markup::Markdown if fences % 2 != open => format!("```\n{}", self.answer),
            _ => self.answer.clone(),
        }
    }

    /// The end of a job that was deleted while it was shown.
    #[must_use]
    pub fn deleted(&self, name: &str) -> String {
        let mut copy = self.clone();
        copy.detail = Detail::Stream;
        let mut out = String::new();
        copy.line(&mut out, &format!("{name} was deleted"));
        out.truncate(out.trim_end_matches('\n').len());
        out
    }

    /// With [`Detail::Final`], whether an event is part of the answer. What was said before a
    /// tool was not the answer yet.
    fn belongs_to_answer(&mut self, body: &EventBody) -> bool {
        match body {
            EventBody::Tool { .. } => {
                self.forget_answer();
                false
            }
            EventBody::Log { stream, .. } => *stream != Stream::System,
            EventBody::Text { .. } | EventBody::Artifact { .. } | EventBody::Gap { .. } => true,
            EventBody::Exit(_) => true,
            _ => false,
        }
    }

    fn forget_answer(&mut self) {
        self.answer.clear();
        self.torn.clear();
        self.block = Block::Line;
        self.at_start = true;
        self.ticks = 0;
    }

    /// Shows the text, or keeps it for the end.
    fn told(&mut self, out: String) -> String {
        match self.detail {
            Detail::Stream => out,
            Detail::Final => {
                self.answer.push_str(&out);
                if self.answer.len() > 2 * ANSWER_BYTES {
                    let mut from = self.answer.len() - ANSWER_BYTES;
                    while !self.answer.is_char_boundary(from) {
                        from += 1;
                    }
                    let line = self.answer[from..].find('\n').map_or(from, |at| from + at + 1);
                    self.answer.drain(..line);
                }
                String::new()
            }
        }
    }

    fn put(&mut self, out: &mut String, text: &str) {
        if let Some(last) = text.chars().next_back() {
            out.push_str(text);
            self.at_start = last == '\n';
        }
    }

    /// Ends what stands there, so that a line can begin.
    fn settle(&mut self, out: &mut String) {
        if !self.torn.is_empty() {
            self.torn.clear();
            self.put(out, "\u{FFFD}");
        }
        if !self.at_start {
            self.put(out, "\n");
        }
        if self.block == Block::Log && self.markup == Markup::Markdown {
            self.put(out, "```\n");
        }
        self.block = Block::Line;
        self.ticks = 0;
    }

    fn line(&mut self, out: &mut String, line: &str) {
        self.settle(out);
        self.put(out, line);
        self.put(out, "\n");
    }

    fn bytes(&mut self, out: &mut String, block: Block, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.block != block {
            self.settle(out);
            if block == Block::Log && self.markup == Markup::Markdown {
                self.put(out, "```\n");
            }
            self.block = block;
        }
        self.torn.extend_from_slice(bytes);
        let whole = whole_characters(&self.torn);
        let rest = self.torn.split_off(whole);
        let text = String::from_utf8_lossy(&std::mem::replace(&mut self.torn, rest)).into_owned();
        if block == Block::Log && self.markup == Markup::Markdown {
            let text = self.harmless(&text);
            self.put(out, &text);
        } else {
            self.put(out, &text);
        }
    }

    /// Printed text that can stand in a fence: three backticks in a row get a break that
    /// nobody sees, and colours go.
    fn harmless(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut letters = text.chars().peekable();
        while let Some(c) = letters.next() {
            if c == '\u{1B}' && letters.peek() == Some(&'[') {
                letters.next();
                while letters.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
                continue;
            }
            self.ticks = if c == '`' { self.ticks + 1 } else { 0 };
            if self.ticks == 3 {
                out.push('\u{200B}');
                self.ticks = 1;
            }
            out.push(c);
        }
        out
    }
}

/// How many bytes in front are whole characters, or can never become one.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for at in (tail..bytes.len()).rev() {
        let length = match bytes[at] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => 1,
        };
        return if at + length > bytes.len() { at } else { bytes.len() };
    }
    bytes.len()
}

/// A text on one line, cut where it is long.
#[must_use]
pub fn one_line(text: &str) -> String {
    const MOST: usize = 160;
    let mut words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = words.char_indices().nth(MOST) {
        words.truncate(at);
        words.push('…');
    }
    words
}

/// A length of time for people: tenths of a second below ten seconds, then whole units.
#[must_use]
pub fn seconds(length: Duration) -> String {
    let all = length.as_secs();
    match all {
        0..10 => format!("{:.1} s", length.as_secs_f64()),
        10..60 => format!("{all} s"),
        60..3600 => format!("{} min {} s", all / 60, all % 60),
        _ => format!("{} h {} min", all / 3600, all % 3600 / 60),
    }
}

/// The first line of a job's transcript.
fn header(job: &Job) -> String {
    let spec = &job.spec;
    let mut place = String::new();
    if let Some(repo) = &spec.repo {
        place.push_str(repo.github.as_deref().or(repo.url.as_deref()).unwrap_or_default());
        if let Some(branch) = &repo.branch {
            place.push_str(&format!(" ({branch})"));
        }
    } else if let crate::resource::RuntimeSpec::Local(local) = &spec.runtime {
        place.push_str(local.workdir.as_deref().unwrap_or("~"));
    }
    let name = &job.metadata.name;
    format!("{name} created: {} in {place}", spec.agent.name())
}

/// The last line of a job's transcript.
#[must_use]
pub fn end_line(job: &Job) -> String {
    let status = &job.status;
    let name = &job.metadata.name;
    let word = match status.phase.as_str() {
        "Succeeded" => "succeeded",
        "TimedOut" => "timed out",
        "Cancelled" => "was cancelled",
        _ if status.conditions.is_true("Complete") => "succeeded",
        _ => "failed",
    };
    let succeeded = word == "succeeded";
    let code = status.exit_code.filter(|code| *code != 0).map(|code| format!("exit code {code}"));
    let message = one_line(&status.message);
    let why = match (code, message.is_empty()) {
        (_, true) if succeeded => String::new(),
        (_, false) if succeeded => format!(": {message}"),
        (_, _) if word == "was cancelled" => String::new(),
        (Some(code), true) => format!(": {code}"),
        (Some(code), false) if message.contains(&code) => format!(": {message}"),
        (Some(code), false) if word == "failed" => format!(": {code}: {message}"),
        (_, false) => format!(": {message}"),
        (None, true) => String::new(),
    };
    let time = match (status.start_time, status.completion_time) {
        (Some(from), Some(to)) => format!(" ({})", seconds(between(from, to))),
        _ => String::new(),
    };
    format!("{name} {word}{why}{time}")
}

/// How an attempt ended, in a few words.
#[must_use]
pub fn exit_words(exit: &Exit) -> String {
    let message = one_line(&exit.message);
    if !message.is_empty() {
        return message;
    }
    match (exit.code, exit.signal, exit.reason) {
        (_, _, ExitReason::Cancelled) => "cancelled".to_owned(),
        (_, _, ExitReason::TimedOut) => "it took too long".to_owned(),
        (_, _, ExitReason::IdleTimedOut) => "it was silent for too long".to_owned(),
        (_, Some(signal), _) => format!("ended by signal {signal}"),
        (Some(code), None, _) => format!("exit code {code}"),
        (None, None, _) => "it ended without an exit code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use sprite_reporter::wire::{Chunk, Containment, Event, ProcessIdentity};

    use super::*;
    use crate::resource::{AgentCli, CommandCli, ConditionStatus, JobSpec};

    fn row(seq: u64, body: EventBody) -> OutputRow {
        OutputRow { run: 1, event: Event { seq, at: Timestamp::UNIX_EPOCH, body } }
    }

    fn log(stream: Stream, bytes: &[u8]) -> EventBody {
        EventBody::Log { stream, chunk: Chunk::pack(bytes, false) }
    }

    fn text(bytes: &str) -> EventBody {
        EventBody::Text { turn: "task".into(), chunk: Chunk::pack(bytes.as_bytes(), false) }
    }

    fn job() -> Job {
        let spec: JobSpec = serde_json::from_value(serde_json::json!({
            "task": "true", "agent": {"command": {}}
        }))
        .expect("a job");
        assert_eq!(spec.agent, AgentCli::Command(CommandCli::default()));
        Job::new("run-x7k2p", spec)
    }

    fn ended(code: i32) -> Job {
        let mut job = job();
        let status = &mut job.status;
        status.start_time = Some(Timestamp::UNIX_EPOCH);
        status.completion_time = Timestamp::from_millisecond(420).ok();
        status.exit_code = Some(code);
        let (condition, phase) =
            if code == 0 { ("Complete", "Succeeded") } else { ("Failed", "Failed") };
        status.phase = phase.to_owned();
        status.conditions.set(
            condition,
            ConditionStatus::True,
            phase,
            "",
            1,
            Timestamp::UNIX_EPOCH,
        );
        job
    }

    fn everything() -> Vec<EventBody> {
        let turn = || "task".to_owned();
        vec![
            EventBody::Hello {
                wire: 1,
                version: "0".into(),
                process: ProcessIdentity { boot_id: "b".into(), pid: 1, start_time: 1 },
                containment: Containment::default(),
            },
            log(Stream::System, b"cloning owner/project\n"),
            EventBody::Session { id: "s".into() },
            text("I will look at **it**."),
            EventBody::Thought { turn: turn(), chunk: Chunk::pack(b"hm", false) },
            EventBody::Tool {
                turn: turn(),
                id: "1".into(),
                name: "Bash".into(),
                title: "Bash: cargo\n test".into(),
            },
            EventBody::ToolEnded { turn: turn(), id: "1".into(), failed: true },
            log(Stream::Stdout, b"plain \x1b[31mred\x1b[0m\n```\nodd"),
            log(Stream::Stderr, b" end"),
            EventBody::Retry { attempt: 2, of: 10, message: "overloaded".into(), delay_ms: 1_250 },
            EventBody::Gap { through: 20, bytes: 4_711 },
            EventBody::Approval {
                kind: Default::default(),
                rule: None,
                questions: Vec::new(),
                turn: turn(),
                request: "r".into(),
                tool: "Write".into(),
                title: "a.txt".into(),
                input: serde_json::Value::Null,
            },
            EventBody::Artifact {
                name: "pull request".into(),
                url: "https://example.com/1".into(),
                kind: "pr".into(),
            },
            text("All done:\n- one\n"),
            EventBody::Exit(Exit {
                code: Some(3),
                signal: None,
                reason: ExitReason::Failed,
                message: String::new(),
            }),
        ]
    }

    fn told(markup: Markup, detail: Detail) -> String {
        let mut transcript = Transcript::new(markup, detail);
        let mut all = transcript.header(&job());
        for (n, body) in everything().into_iter().enumerate() {
            all.push_str(&transcript.push(&row(n as u64 + 1, body)));
        }
        all.push_str(&transcript.clone().next_attempt(2));
        all.push_str(&transcript.end(&ended(3), false));
        all
    }

    #[test]
    fn a_transcript_reads_well_as_plain_text() {
        insta::assert_snapshot!(told(Markup::Plain, Detail::Stream));
    }

    #[test]
    fn a_transcript_reads_well_as_markdown() {
        insta::assert_snapshot!(told(Markup::Markdown, Detail::Stream));
    }

    #[test]
    fn with_detail_final_only_the_answer_is_told() {
        insta::assert_snapshot!(told(Markup::Plain, Detail::Final));
    }

    #[test]
    fn the_last_line_says_how_it_ended() {
        let mut jobs = vec![ended(0), ended(3)];
        let mut timed_out = ended(137);
        timed_out.status.phase = "TimedOut".into();
        timed_out.status.message = "took longer than 10m".into();
        jobs.push(timed_out);
        let mut cancelled = ended(143);
        cancelled.status.phase = "Cancelled".into();
        jobs.push(cancelled);
        let mut broken = ended(1);
        broken.status.exit_code = None;
        broken.status.message = "claude: no such binary; install it".into();
        jobs.push(broken);
        let lines: Vec<String> = jobs.iter().map(end_line).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    proptest! {
        #[test]
        fn plain_output_stands_there_byte_for_byte_however_it_was_torn(
            text in "\\PC{0,20}\n?\\PC{0,20}", cuts in proptest::collection::vec(1_usize..7, 1..20),
        ) {
            let mut transcript = Transcript::new(Markup::Plain, Detail::Stream);
            let mut rest = text.as_bytes();
            let mut all = String::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (part, more) = rest.split_at((*cut).min(rest.len()));
                all.push_str(&transcript.push(&row(1, log(Stream::Stdout, part))));
                rest = more;
            }
            prop_assert_eq!(all, text);
        }

        #[test]
        fn bytes_that_are_no_utf8_never_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut transcript = Transcript::new(Markup::Markdown, Detail::Stream);
            let told = transcript.push(&row(1, log(Stream::Stdout, &bytes)));
            let end = transcript.end(&ended(0), true);
            prop_assert!(end.ends_with("succeeded (0.4 s)"));
            prop_assert!(told.len() <= bytes.len() * 6 + 8);
        }
    }
}
