//! The spool: what the agent said, numbered, on disk, until the server holds it.
//!
//! Events are appended as lines of JSON to segment files that are named by the number of
//! their first event. Once the server holds a segment's last event, the file goes. So a
//! directory listing shows how far behind the server is, and `cat` shows what it lacks.
//!
//! A line counts once it is whole: it ends with a newline, is JSON, and carries a number
//! that follows. A torn tail is cut off when the spool is opened again. Events that decide
//! something ([`decides`]) are on disk before [`Spool::append`] returns; the others are in
//! the kernel's hands, and survive the death of this process.
//!
//! The spool is bounded. Past its cap the oldest text gives way to [`EventBody::Gap`], which says
//! how much is missing; turns, approvals and exits stay. A rewritten segment replaces the old
//! one by renaming, and [`Spool::read`] skips what it has seen and fills holes by a gap,
//! so that a crash between any two steps loses and doubles nothing.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    steps::step,
    wire::{Event, EventBody, Exit},
};

/// How large a spool and its files may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The most bytes of all segments together, as far as dropping text can help it.
    pub cap: u64,
    /// The size in bytes past which a new segment is begun.
    pub segment: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { cap: 256 * 1024 * 1024, segment: 1024 * 1024 }
    }
}

/// Lines to send, in order and without holes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Events as JSON, without newlines.
    pub lines: Vec<String>,
    /// The number behind the last of them.
    pub next: u64,
}

/// One file of the spool.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    /// The number behind its last event.
    next: u64,
    bytes: u64,
    /// How many of its bytes are text that may be dropped.
    text: u64,
    /// Whether its text was dropped already.
    settled: bool,
}

/// Where reading goes on: a shortcut, good as long as the segment is the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    path: PathBuf,
    offset: u64,
    next: u64,
}

/// The part of a line that the spool itself looks at.
#[derive(Debug, Deserialize)]
struct Head {
    seq: u64,
    at: Timestamp,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    through: Option<u64>,
    #[serde(default)]
    bytes: Option<u64>,
}

impl Head {
    fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    fn is_gap(&self) -> bool {
        self.kind == "gap"
    }

    fn is_text(&self) -> bool {
        matches!(self.kind.as_str(), "log" | "text" | "thought")
    }

    fn next(&self) -> u64 {
        match self.through {
            Some(through) if self.is_gap() => through.max(self.seq) + 1,
            _ => self.seq + 1,
        }
    }
}

/// Whether something rests on this event, so that it must be on disk before we go on.
#[must_use]
pub fn decides(body: &EventBody) -> bool {
    matches!(
        body,
        EventBody::Hello { .. }
            | EventBody::Session { .. }
            | EventBody::TurnAccepted { .. }
            | EventBody::TurnEnded { .. }
            | EventBody::Approval { .. }
            | EventBody::ApprovalWithdrawn { .. }
            | EventBody::Artifact { .. }
            | EventBody::Exit(_)
    )
}

/// A spool on disk.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    options: Options,
    segments: VecDeque<Segment>,
    /// The last segment's file, open for appending.
    active: Option<File>,
    /// Whether a file was made that the directory on disk may not know yet.
    directory_dirty: bool,
    next: u64,
    acknowledged: u64,
    cursor: Option<Cursor>,
    ended: Option<Exit>,
}

impl Spool {
    /// Opens a spool, making its directory if need be, and cuts off a torn tail.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(directory: &Path, options: Options) -> io::Result<Self> {
        // Only the last part: the spool of a run that was cleaned must not bring it back.
        step("make spool", || match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        })?;
        let mut spool = Self {
            directory: directory.to_owned(),
            options,
            segments: VecDeque::new(),
            active: None,
            directory_dirty: true,
            next: 1,
            acknowledged: 0,
            cursor: None,
            ended: None,
        };
        for path in segment_files(directory)? {
            spool.recover_segment(path)?;
        }
        if let Some(last) = spool.segments.back() {
            spool.active = Some(OpenOptions::new().append(true).open(&last.path)?);
        }
        Ok(spool)
    }

    fn recover_segment(&mut self, path: PathBuf) -> io::Result<()> {
        let content = fs::read(&path)?;
        let named = first_number(&path).unwrap_or(self.next);
        let mut segment = Segment { path, next: named, bytes: 0, text: 0, settled: false };
        for line in content.split_inclusive(|byte| *byte == b'\n') {
            let Some(head) = whole_line(line).and_then(Head::read) else { break };
            if segment.bytes > 0 && head.seq != segment.next {
                break;
            }
            segment.next = head.next();
            segment.bytes += line.len() as u64;
            if head.is_text() {
                segment.text += line.len() as u64;
            }
            if head.kind == "exit" {
                self.ended = whole_line(line).and_then(exit_of);
            }
        }
        let covered = segment.next < self.next || (segment.next == self.next && segment.bytes > 0);
        if covered && !self.segments.is_empty() {
            // Joined to the segment before it by a compaction that did not finish.
            return fs::remove_file(&segment.path);
        }
        if segment.bytes < content.len() as u64 {
            let file = OpenOptions::new().write(true).open(&segment.path)?;
            step("cut a torn tail", || {
                file.set_len(segment.bytes)?;
                file.sync_data()
            })?;
        }
        self.next = segment.next;
        self.segments.push_back(segment);
        Ok(())
    }

    /// The number that the next event gets.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The exit event, if it was appended; nothing comes behind it.
    #[must_use]
    pub fn ended(&self) -> Option<&Exit> {
        self.ended.as_ref()
    }

    /// The lowest number that may still be here.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.segments.front().and_then(|segment| first_number(&segment.path)).unwrap_or(self.next)
    }

    /// How many bytes the segments take.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Appends an event and answers its number. A deciding event is on disk afterwards.
    ///
    /// # Errors
    /// What the file system says; the event is then not in the spool.
    pub fn append(&mut self, at: Timestamp, body: EventBody) -> io::Result<u64> {
        let durable = decides(&body);
        let text = matches!(
            body,
            EventBody::Log { .. } | EventBody::Text { .. } | EventBody::Thought { .. }
        );
        let exit = match &body {
            EventBody::Exit(exit) => Some(exit.clone()),
            _ => None,
        };
        let event = Event { seq: self.next, at, body };
        let mut line = serde_json::to_vec(&event).map_err(io::Error::other)?;
        line.push(b'\n');
        self.roll_if_full()?;
        if let Err(error) = self.write(&line, durable) {
            self.undo();
            return Err(error);
        }
        self.next = event.next_seq();
        self.ended = self.ended.take().or(exit);
        if let Some(segment) = self.segments.back_mut() {
            segment.next = self.next;
            segment.bytes += line.len() as u64;
            if text {
                segment.text += line.len() as u64;
            }
        }
        // The event has its number and its place. On a disk that has no room to tidy, the next
        // one tries again; to fail here would have this one appended twice.
        let _ = self.keep_below_cap();
        Ok(event.seq)
    }

    fn write(&mut self, line: &[u8], durable: bool) -> io::Result<()> {
        let Some(file) = self.active.as_mut() else {
            return Err(io::Error::other("the spool has no open segment"));
        };
        step(kind_of(line), || file.write_all(line))?;
        if durable {
            step("sync", || {
                file.sync_data()?;
                if self.directory_dirty {
                    sync_directory(&self.directory)?;
                }
                Ok::<_, io::Error>(())
            })?;
            self.directory_dirty = false;
        }
        Ok(())
    }

    /// Takes back a line that was written in part.
    fn undo(&mut self) {
        if let (Some(file), Some(segment)) = (self.active.as_ref(), self.segments.back()) {
            // If even this fails, the tail is torn, and is cut off when the spool is opened.
            let _ = file.set_len(segment.bytes);
        }
    }

    fn roll_if_full(&mut self) -> io::Result<()> {
        let full = self.segments.back().is_none_or(|last| last.bytes >= self.options.segment);
        if full { self.roll() } else { Ok(()) }
    }

    fn roll(&mut self) -> io::Result<()> {
        if let Some(file) = &self.active {
            file.sync_data()?;
        }
        let path = self.directory.join(format!("{:020}.ndjson", self.next));
        let open = || OpenOptions::new().create(true).append(true).open(&path);
        self.active = Some(step("make segment", open)?);
        self.directory_dirty = true;
        let next = self.next;
        self.segments.push_back(Segment { path, next, bytes: 0, text: 0, settled: false });
        Ok(())
    }

    /// Continues the numbers behind `held`, where the server holds more than we do: the
    /// machine went down before the tail was on disk.
    ///
    /// # Errors
    /// What the file system says.
    pub fn skip_to(&mut self, next: u64) -> io::Result<()> {
        if next > self.next {
            self.next = next;
            self.roll()?;
        }
        Ok(())
    }

    /// The server holds everything up to this number: files that it needs no more go.
    ///
    /// # Errors
    /// What the file system says.
    pub fn acknowledge(&mut self, held: u64) -> io::Result<()> {
        self.acknowledged = self.acknowledged.max(held);
        while self.segments.len() > 1 && self.segments[0].next <= self.acknowledged + 1 {
            if let Some(segment) = self.segments.pop_front() {
                fs::remove_file(&segment.path)?;
            }
        }
        Ok(())
    }

    /// Reads events from this number on: as many as fit, but at least one if there is one.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(&mut self, from: u64, max_bytes: usize, max_events: usize) -> io::Result<Page> {
        let mut page = Page { lines: Vec::new(), next: from };
        let mut room = max_bytes;
        let start = self.segments.iter().position(|segment| segment.next > from);
        for index in start.unwrap_or(self.segments.len())..self.segments.len() {
            let segment = &self.segments[index];
            let offset = match &self.cursor {
                Some(cursor) if cursor.path == segment.path && cursor.next == page.next => {
                    cursor.offset
                }
                _ => 0,
            };
            let (end, full) = read_segment(segment, offset, &mut page, &mut room, max_events)?;
            self.cursor = Some(Cursor { path: segment.path.clone(), offset: end, next: page.next });
            if full {
                break;
            }
        }
        Ok(page)
    }

    /// Drops one event's text, because the server refuses it: a gap stands in its place.
    /// Answers whether that was possible.
    ///
    /// # Errors
    /// What the file system says.
    pub fn give_up(&mut self, seq: u64) -> io::Result<bool> {
        let Some(index) = self.segments.iter().position(|segment| segment.next > seq) else {
            return Ok(false);
        };
        let lines = read_lines(&self.segments[index])?;
        let mut found = false;
        let lines = lines
            .into_iter()
            .map(|line| match Head::read(&line) {
                Some(head) if head.seq == seq && head.is_text() => {
                    found = true;
                    gap_line(seq, seq, text_bytes(&line), head.at)
                }
                _ => line,
            })
            .collect::<Vec<_>>();
        if found {
            self.replace(index, &lines, false)?;
        }
        Ok(found)
    }

    fn keep_below_cap(&mut self) -> io::Result<()> {
        while self.size() > self.options.cap {
            let Some(index) =
                self.segments.iter().position(|segment| segment.text > 0 && !segment.settled)
            else {
                return Ok(());
            };
            if index + 1 == self.segments.len() {
                self.roll()?;
            }
            self.compact(index)?;
        }
        Ok(())
    }

    /// Replaces a segment's text by gaps, and joins what is left to the segment before it if
    /// both are small.
    fn compact(&mut self, index: usize) -> io::Result<()> {
        let joins = index > 0
            && self.segments[index - 1].settled
            && self.segments[index - 1].bytes < self.options.segment / 2;
        let mut lines = if joins { read_lines(&self.segments[index - 1])? } else { Vec::new() };
        lines.extend(read_lines(&self.segments[index])?);
        let lines = without_text(lines);
        if !joins {
            return self.replace(index, &lines, true);
        }
        let next = self.segments[index].next;
        self.replace(index - 1, &lines, true)?;
        self.segments[index - 1].next = next;
        if let Some(joined) = self.segments.remove(index) {
            fs::remove_file(&joined.path)?;
        }
        Ok(())
    }

    fn replace(&mut self, index: usize, lines: &[String], settled: bool) -> io::Result<()> {
        let temporary = self.directory.join("rewrite.tmp");
        let mut content = String::new();
        let mut text = 0;
        for line in lines {
            if Head::read(line).is_some_and(|head| head.is_text()) {
                text += line.len() as u64 + 1;
            }
            content.push_str(line);
            content.push('\n');
        }
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).append(true).open(&temporary)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        let last = index + 1 == self.segments.len();
        let segment = &mut self.segments[index];
        fs::rename(&temporary, &segment.path)?;
        // What is known of the file changes with it, whatever fails behind it.
        segment.bytes = content.len() as u64;
        segment.text = text;
        segment.settled = settled;
        self.cursor = None;
        if last {
            // It was opened for appending: it is the new file, under whatever name.
            self.active = Some(file);
        }
        sync_directory(&self.directory)
    }
}

/// A line's text, if it is whole.
fn whole_line(line: &[u8]) -> Option<&str> {
    std::str::from_utf8(line.strip_suffix(b"\n")?).ok()
}

/// What a line is called as a step.
fn kind_of(line: &[u8]) -> impl std::fmt::Display {
    std::fmt::from_fn(|f| {
        let head = whole_line(line).and_then(Head::read);
        write!(f, "append {}", head.map(|head| head.kind).unwrap_or_default())
    })
}

/// The exit event that a line holds.
fn exit_of(line: &str) -> Option<Exit> {
    match serde_json::from_str::<Event>(line).ok()?.body {
        EventBody::Exit(exit) => Some(exit),
        _ => None,
    }
}

fn segment_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ndjson") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The number that a segment's file is named by.
fn first_number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn read_lines(segment: &Segment) -> io::Result<Vec<String>> {
    BufReader::new(File::open(&segment.path)?.take(segment.bytes)).lines().collect()
}

/// Reads one segment onto a page; answers where it stopped, and whether the page is full.
fn read_segment(
    segment: &Segment,
    offset: u64,
    page: &mut Page,
    room: &mut usize,
    max_events: usize,
) -> io::Result<(u64, bool)> {
    let mut file = File::open(&segment.path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut reader = BufReader::with_capacity(64 * 1024, file.take(segment.bytes - offset));
    let mut at = offset;
    let mut line = String::new();
    loop {
        line.clear();
        let length = reader.read_line(&mut line)? as u64;
        if length == 0 {
            return Ok((at, false));
        }
        let text = line.trim_end_matches('\n');
        let Some(head) = Head::read(text) else {
            return Err(io::Error::other(format!(
                "{} holds a line that is no event at byte {at}",
                segment.path.display()
            )));
        };
        for piece in fit(text, &head, page.next) {
            if !page.lines.is_empty() && (piece.len() + 1 > *room || page.lines.len() >= max_events)
            {
                return Ok((at, true));
            }
            *room = room.saturating_sub(piece.len() + 1);
            page.next = Head::read(&piece).map_or(page.next, |head| head.next());
            page.lines.push(piece);
        }
        at += length;
    }
}

/// What to send of a line when `want` is the number that is waited for: nothing if it is
/// covered, the line itself if it follows, with a gap before it where a hole is.
fn fit(line: &str, head: &Head, want: u64) -> Vec<String> {
    if head.next() <= want {
        Vec::new()
    } else if head.seq > want {
        vec![gap_line(want, head.seq - 1, 0, head.at), line.to_owned()]
    } else if head.seq < want {
        vec![gap_line(want, head.next() - 1, head.bytes.unwrap_or_default(), head.at)]
    } else {
        vec![line.to_owned()]
    }
}

fn gap_line(seq: u64, through: u64, bytes: u64, at: Timestamp) -> String {
    let event = Event { seq, at, body: EventBody::Gap { through, bytes } };
    serde_json::to_string(&event).unwrap_or_default()
}

/// How many bytes of text a line carries.
fn text_bytes(line: &str) -> u64 {
    match serde_json::from_str::<Event>(line).map(|event| event.body) {
        Ok(
            EventBody::Log { chunk, .. }
            | EventBody::Text { chunk, .. }
            | EventBody::Thought { chunk, .. },
        ) => chunk.bytes().len() as u64,
        Ok(EventBody::Gap { bytes, .. }) => bytes,
        _ => 0,
    }
}

/// The same lines, with a gap for each run of text.
fn without_text(lines: Vec<String>) -> Vec<String> {
    struct Run {
        seq: u64,
        through: u64,
        bytes: u64,
        at: Timestamp,
    }
    let mut kept = Vec::new();
    let mut run: Option<Run> = None;
    for line in lines {
        let Some(head) = Head::read(&line) else { continue };
        if head.is_text() || head.is_gap() {
            let bytes = text_bytes(&line);
            let run = run.get_or_insert(Run { seq: head.seq, through: 0, bytes: 0, at: head.at });
            run.through = head.next() - 1;
            run.bytes += bytes;
            run.at = head.at;
        } else {
            kept.extend(run.take().map(|run| gap_line(run.seq, run.through, run.bytes, run.at)));
            kept.push(line);
        }
    }
    kept.extend(run.map(|run| gap_line(run.seq, run.through, run.bytes, run.at)));
    kept
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
