//! What a job's or a turn's output looks like in chat: events in, text out, one after the other.
//!
//! Pure and incremental: each event appends some text, and text that was appended never
//! changes. So a transcript can be cut into messages while it grows, and made again, the same,
//! from the store after a restart.
//!
//! Where a platform shows text as it is ([`Markup::Plain`]), what the agent printed stands there
//! byte for byte, as far as it is UTF-8. Where it shows Markdown, printed lines go into fences.
//! What the agent says is Markdown itself. All else is one line each ([`lines`]), with a sign in
//! front: `→` a tool, `·` the reporter, `!` a trouble, `?` a question, `+` something that was made.
//!
//! A question stands there when it is asked, and what became of it ([`Transcript::resolved`])
//! behind what was said meanwhile: at the place that the ledger keeps. So a transcript that is
//! made again has both at the same place.

mod asked;
mod lines;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, time::Duration};

pub use asked::asked_lines;
pub(in crate::chat) use asked::{Request, as_code};
pub use lines::{end_line, exit_words, one_line, resolved_line, seconds, tool_line, turn_end_line};
use lines::{header, tool_title, tools_line};
use sprite_reporter::wire::{EventBody, Exit, Stream};

use super::platform::Markup;
use crate::{
    resource::{Detail, Job},
    store::{Approval, OutputRow, files::id_in_url},
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

/// Of what a transcript is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// All that a job's attempts did.
    Job,
    /// One turn of an agent, whose sprite does other turns as well.
    Turn {
        id: String,
        /// Whether the agent answers by what it prints, as a shell does.
        prints: bool,
    },
}

/// A growing transcript.
#[derive(Debug, Clone)]
pub struct Transcript {
    markup: Markup,
    detail: Detail,
    scope: Scope,
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
    /// The name of the job, once the header was told, or of the agent.
    name: String,
    /// Where Markdown is shown: tools that were used one after the other and stand in one line
    /// once something else comes.
    run_of_tools: Tools,
}

/// Tools that were used one after the other.
#[derive(Debug, Clone, Default)]
struct Tools {
    count: usize,
    /// The last one's line.
    last: String,
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
            scope: Scope::Job,
            block: Block::Line,
            at_start: true,
            torn: Vec::new(),
            ticks: 0,
            tools: HashMap::new(),
            answer: String::new(),
            exit: None,
            name: String::new(),
            run_of_tools: Tools::default(),
        }
    }

    /// An empty transcript of one turn of an agent. `prints` says that the agent answers by what
    /// it prints, as a shell does; of others, what they print beside their answer is for the log.
    #[must_use]
    pub fn of_turn(markup: Markup, agent: &str, turn: &str, prints: bool) -> Self {
        Self {
            scope: Scope::Turn { id: turn.to_owned(), prints },
            name: agent.to_owned(),
            ..Self::new(markup, Detail::Stream)
        }
    }

    /// The name of the job, once its header was told, or of the agent.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its platform shows text.
    pub(in crate::chat) fn markup(&self) -> Markup {
        self.markup
    }

    /// Whether this is a job's.
    #[must_use]
    pub fn is_of_job(&self) -> bool {
        self.scope == Scope::Job
    }

    /// What stands at the end for the moment, and changes still: the tools that are used one after
    /// the other, and these lines.
    #[must_use]
    pub fn for_now(&self, lines: &str) -> String {
        // What was said is not shown yet.
        if self.detail == Detail::Final {
            return lines.to_owned();
        }
        let mut copy = self.clone();
        let mut out = String::new();
        if copy.run_of_tools.count > 0 {
            copy.settle(&mut out);
        }
        for line in lines.lines() {
            copy.line(&mut out, line);
        }
        out
    }

    /// The same with nothing of what was said: for an end that stands alone.
    #[must_use]
    pub fn blank(&self) -> Self {
        let mut copy = Self::new(self.markup, Detail::Stream);
        copy.name.clone_from(&self.name);
        copy
    }

    /// Whether an event is this transcript's own.
    #[must_use]
    pub fn concerns(&self, body: &EventBody) -> bool {
        let Scope::Turn { id, prints } = &self.scope else { return true };
        match body {
            EventBody::Text { turn, .. }
            | EventBody::Tool { turn, .. }
            | EventBody::ToolEnded { turn, .. }
            | EventBody::Approval { turn, .. } => turn == id,
            EventBody::Log { stream, .. } => *prints || *stream == Stream::System,
            _ => true,
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

    /// The first line of a turn that the agent began by itself.
    #[must_use]
    pub fn header_of_own_turn(&mut self) -> String {
        let mut out = String::new();
        let line = format!("{} has something to say", self.name);
        self.line(&mut out, &line);
        out
    }

    /// Appends one event; answers with the text that it adds.
    #[must_use]
    pub fn push(&mut self, row: &OutputRow) -> String {
        let mut out = String::new();
        if !self.concerns(&row.event.body) {
            return out;
        }
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
                let line = match tool_title(name, title) {
                    title if title.is_empty() => name.clone(),
                    title => format!("{name}: {}", self.quoted(&title)),
                };
                self.tool(&mut out, line);
            }
            EventBody::ToolEnded { id, failed, .. } => {
                let name = self.tools.remove(id).unwrap_or_else(|| "the tool".to_owned());
                if *failed {
                    self.line(&mut out, &format!("! {name} failed"));
                }
            }
            body @ EventBody::Approval { .. } => {
                let is_agent = self.scope != Scope::Job;
                let text = asked_lines(&self.name, is_agent, body, self.markup);
                for line in text.lines() {
                    self.line(&mut out, line);
                }
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
                // In chat the file itself follows: its address opens on the server's machine alone.
                let line = match self.markup {
                    Markup::Markdown if id_in_url(url).is_some() => {
                        format!("+ {}", self.quoted(&one_line(name)))
                    }
                    _ => format!("+ {name}: {url}"),
                };
                self.line(&mut out, &line);
            }
            EventBody::Gap { bytes, .. } => self.line(
                &mut out,
                &format!(
                    "! {bytes} bytes of output are missing here: there was no room to keep them"
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

    /// What became of a request; answers with the text that this adds.
    #[must_use]
    pub fn resolved(&mut self, approval: &Approval) -> String {
        let mut out = String::new();
        if self.detail == Detail::Stream {
            let line = resolved_line(approval);
            self.line(&mut out, &line);
        }
        out
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

    /// The end of a turn: what closes open blocks, and this line. `whole` says whether all that
    /// was said of it was read.
    #[must_use]
    pub fn end_of_turn(&self, line: &str, whole: bool) -> String {
        let mut copy = self.clone();
        let mut out = String::new();
        if !whole {
            copy.line(
                &mut out,
                "! what it said last may be missing here: its reporter went away before everything \
                 was sent",
            );
        }
        copy.line(&mut out, line);
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
        self.run_of_tools = Tools::default();
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

    /// A title that is no Markdown where Markdown is shown.
    fn quoted(&self, title: &str) -> String {
        match self.markup {
            Markup::Plain => title.to_owned(),
            Markup::Markdown => format!("`{}`", title.replace('`', "ˋ")),
        }
    }

    /// A tool is used. In chat, those that follow each other share a line.
    fn tool(&mut self, out: &mut String, line: String) {
        if self.markup == Markup::Plain {
            return self.line(out, &format!("→ {line}"));
        }
        if self.run_of_tools.count == 0 {
            self.settle(out);
        }
        self.run_of_tools.count += 1;
        self.run_of_tools.last = line;
    }

    /// Ends what stands there, so that a line can begin.
    fn settle(&mut self, out: &mut String) {
        let tools = std::mem::take(&mut self.run_of_tools);
        if tools.count > 0 {
            let line = tools_line(&self.name, tools.count, &tools.last);
            self.put(out, &line);
            self.put(out, "\n");
        }
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
        if self.block != block || self.run_of_tools.count > 0 {
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
