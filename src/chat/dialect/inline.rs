//! One line: what it is by its front, and the signs within it.

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};

use super::{GAP, RULE};
use crate::chat::platform::Dialect;

/// A whole line, or the front of one.
pub(super) fn block(dialect: Dialect, line: &str, is_whole: bool) -> String {
    let inner = line.trim_start_matches([' ', '\t']);
    let indent = &line[..line.len() - inner.len()];
    if is_rule(inner) && is_whole {
        return RULE.to_owned();
    }
    if let Some((level, title)) = heading(inner) {
        return titled(dialect, level, title);
    }
    if let Some(rest) = inner.strip_prefix('>') {
        // Discord would quote all that follows; no platform knows more than one level.
        let rest = rest.trim_start_matches('>');
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        return format!("> {}", block(dialect, rest, is_whole).trim_start());
    }
    if let Some((mark, rest)) = item(inner) {
        let (mark, rest) = match rest.get(..4).map(str::to_lowercase).as_deref() {
            Some("[ ] ") => ("☐", &rest[4..]),
            Some("[x] ") => ("☑", &rest[4..]),
            _ => (mark, rest),
        };
        let mark = match (mark, dialect) {
            ("-" | "*" | "+", Dialect::Slack) => "•",
            ("-" | "*" | "+", _) => "-",
            ("☐" | "☑", Dialect::Slack) => mark,
            ("☐", _) => "- ☐",
            ("☑", _) => "- ☑",
            (number, _) => number,
        };
        return format!("{indent}{mark} {}", text(dialect, rest, is_whole));
    }
    format!("{indent}{}", text(dialect, inner, is_whole))
}

fn is_rule(line: &str) -> bool {
    let signs: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    signs.len() >= 3 && ['-', '*', '_'].into_iter().any(|mark| signs.chars().all(|c| c == mark))
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let title = line.trim_start_matches('#');
    let level = line.len() - title.len();
    let parted = title.starts_with([' ', '\t']);
    if !(1..=6).contains(&level) || !parted {
        return None;
    }
    let title = title.trim();
    let bare = title.trim_end_matches('#');
    let closed = bare.is_empty() || bare.ends_with(' ');
    Some((level, if closed { bare.trim_end() } else { title }))
}

fn titled(dialect: Dialect, level: usize, title: &str) -> String {
    let mut writer = Writer::new(dialect);
    let (front, back) = match dialect {
        Dialect::Discord if level <= 3 => (format!("{} ", "#".repeat(level)), ""),
        Dialect::Slack => ("*".to_owned(), "*"),
        _ => ("**".to_owned(), "**"),
    };
    writer.is_strong = !back.is_empty();
    let title = writer.read(title);
    if title.is_empty() { title } else { format!("{front}{title}{back}") }
}

/// The mark in front of an item, and what is behind it.
fn item(line: &str) -> Option<(&str, &str)> {
    let end = line.find([' ', '\t'])?;
    let (mark, rest) = line.split_at(end);
    let digits = mark.trim_end_matches(['.', ')']);
    let is_number = mark.len() == digits.len() + 1
        && (1..=9).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_item = is_number || matches!(mark, "-" | "*" | "+");
    is_item.then(|| (mark, rest.trim_start()))
}

/// Prose, or a part of it; the spaces around it stay where more follows.
pub(super) fn text(dialect: Dialect, line: &str, is_whole: bool) -> String {
    let inner = line.trim_start();
    let indent = &line[..line.len() - inner.len()];
    let core = inner.trim_end();
    let behind = if is_whole { "" } else { &inner[core.len()..] };
    format!("{indent}{}{behind}", Writer::new(dialect).read(core))
}

/// The words of a line without any signs.
pub(super) fn bare(line: &str) -> String {
    let source = format!(".{line}");
    let mut out = String::new();
    for event in Parser::new_ext(&source, options()) {
        match event {
            Event::Text(text) | Event::Code(text) => out.push_str(&text),
            Event::InlineHtml(html) | Event::Html(html) => out.push_str(&html),
            _ => {}
        }
    }
    out.strip_prefix('.').unwrap_or(&out).to_owned()
}

/// Text as Slack takes it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn options() -> Options {
    Options::ENABLE_STRIKETHROUGH
}

/// Writes one line's signs as a dialect has them.
struct Writer {
    dialect: Dialect,
    out: String,
    /// Words that were read and not written yet.
    words: String,
    /// Whether all is strong, so that what is strong within needs no sign.
    is_strong: bool,
    /// Whether a sign of Slack's was closed, which must not touch a letter.
    is_closed: bool,
    /// The links that stand open, with how much was written before each.
    links: Vec<(String, usize, bool)>,
}

impl Writer {
    fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            out: String::new(),
            words: String::new(),
            is_strong: false,
            is_closed: false,
            links: Vec::new(),
        }
    }

    /// A full stop in front keeps the line from being anything but prose, and is a sign before
    /// which emphasis may begin.
    fn read(mut self, line: &str) -> String {
        if line.is_empty() {
            return String::new();
        }
        let source = format!(".{line}");
        let mut is_first = true;
        for (event, range) in Parser::new_ext(&source, options()).into_offset_iter() {
            match event {
                Event::Text(text) => {
                    let text = match is_first {
                        true => text.strip_prefix('.').unwrap_or(&text),
                        false => &text,
                    };
                    is_first = false;
                    let is_escaped = range.start > 0
                        && source.as_bytes()[range.start - 1] == b'\\'
                        && text.starts_with(|c: char| c.is_ascii_punctuation());
                    if is_escaped && self.dialect != Dialect::Slack {
                        self.words.push('\\');
                    }
                    self.words.push_str(text);
                }
                Event::InlineHtml(html) | Event::Html(html) => self.words.push_str(&html),
                Event::SoftBreak | Event::HardBreak => self.words.push(' '),
                Event::Code(code) => self.code(&code),
                Event::Start(Tag::Strong) => self.open(self.strong()),
                Event::End(TagEnd::Strong) => self.close(self.strong()),
                Event::Start(Tag::Emphasis) => self.open(self.emphasis()),
                Event::End(TagEnd::Emphasis) => self.close(self.emphasis()),
                Event::Start(Tag::Strikethrough) => self.open(self.struck()),
                Event::End(TagEnd::Strikethrough) => self.close(self.struck()),
                Event::Start(Tag::Link { dest_url, link_type, .. }) => {
                    let is_auto = matches!(link_type, LinkType::Autolink | LinkType::Email);
                    self.link(&dest_url, is_auto);
                }
                Event::Start(Tag::Image { dest_url, .. }) => self.link(&dest_url, false),
                Event::End(TagEnd::Link | TagEnd::Image) => self.end_link(),
                _ => {}
            }
        }
        self.flush();
        self.out
    }

    fn strong(&self) -> &'static str {
        match self.dialect {
            _ if self.is_strong || self.is_bare() => "",
            Dialect::Slack => "*",
            _ => "**",
        }
    }

    fn emphasis(&self) -> &'static str {
        match self.dialect {
            _ if self.is_bare() => "",
            Dialect::Slack | Dialect::Teams => "_",
            _ => "*",
        }
    }

    fn struck(&self) -> &'static str {
        match self.dialect {
            _ if self.is_bare() => "",
            Dialect::Slack => "~",
            _ => "~~",
        }
    }

    /// Whether no signs are written: what a link of Slack's is called is words alone.
    fn is_bare(&self) -> bool {
        self.dialect == Dialect::Slack && !self.links.is_empty()
    }

    fn open(&mut self, sign: &str) {
        self.flush();
        if sign.is_empty() {
            return;
        }
        let touches = self.out.ends_with(char::is_alphanumeric);
        if touches && self.dialect == Dialect::Slack {
            self.out.push(GAP);
        }
        self.is_closed = false;
        self.out.push_str(sign);
    }

    fn close(&mut self, sign: &str) {
        self.flush();
        self.out.push_str(sign);
        self.is_closed = !sign.is_empty() && self.dialect == Dialect::Slack;
    }

    fn code(&mut self, code: &str) {
        self.flush();
        let code = match self.dialect {
            Dialect::Slack => escaped(code).replace('`', "ˋ"),
            _ if code.contains("``") => code.replace('`', "ˋ"),
            _ => code.to_owned(),
        };
        self.is_closed = false;
        match (self.is_bare(), code.contains('`')) {
            (true, _) => self.out.push_str(&code),
            (false, true) => self.out.push_str(&format!("`` {code} ``")),
            (false, false) => self.out.push_str(&format!("`{code}`")),
        }
    }

    fn link(&mut self, url: &str, is_auto: bool) {
        self.flush();
        self.links.push((url.to_owned(), self.out.len(), is_auto));
    }

    fn end_link(&mut self) {
        self.flush();
        let Some((url, from, is_auto)) = self.links.pop() else { return };
        // A picture within a link: what it is called belongs to the link.
        if !self.links.is_empty() {
            return;
        }
        let name = self.out.split_off(from);
        let is_web = ["http://", "https://", "mailto:"].iter().any(|front| url.starts_with(front));
        let address = safe(&url);
        let written = match self.dialect {
            _ if is_auto && !url.contains("://") => name,
            _ if !is_web && (is_auto || name.is_empty()) => self.said(&url),
            _ if !is_web => format!("{name} ({})", self.said(&url)),
            Dialect::Slack if is_auto || name.is_empty() => format!("<{}>", escaped(&address)),
            Dialect::Slack => format!("<{}|{}>", escaped(&address), name.replace('|', "¦")),
            Dialect::Discord if is_auto => format!("<{address}>"),
            _ if is_auto => address,
            _ if name.is_empty() => format!("[{}]({address})", self.said(&url)),
            _ => format!("[{name}]({address})"),
        };
        self.out.push_str(&written);
    }

    /// Writes the words that were read.
    fn flush(&mut self) {
        if self.words.is_empty() {
            return;
        }
        let words = std::mem::take(&mut self.words);
        if self.is_closed && words.starts_with(char::is_alphanumeric) {
            self.out.push(GAP);
        }
        self.is_closed = false;
        // A mention may be parted by what was written just before.
        if self.out.ends_with('<') && words.starts_with(['@', '!', '#']) {
            self.out.push(GAP);
        }
        let words = self.said(&words);
        self.out.push_str(&words);
    }

    /// Words that call nobody.
    fn said(&self, words: &str) -> String {
        let mut words = match self.dialect {
            Dialect::Slack | Dialect::Teams => escaped(words),
            _ => words.replace("<@", "<\u{200B}@").replace("<#", "<\u{200B}#"),
        };
        // In prose a platform would take them for the beginning of code.
        words = words.replace("```", "``\u{200B}`").replace("~~~", "~~\u{200B}~");
        for name in ["everyone", "here", "channel"] {
            words = words.replace(&format!("@{name}"), &format!("@{GAP}{name}"));
        }
        words
    }
}

/// An address that ends nothing but itself.
fn safe(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    for c in url.chars() {
        match c {
            '<' => out.push_str("%3C"),
            '>' => out.push_str("%3E"),
            '|' => out.push_str("%7C"),
            '(' => out.push_str("%28"),
            ')' => out.push_str("%29"),
            '@' => out.push_str("%40"),
            '`' => out.push_str("%60"),
            c if c.is_whitespace() => out.push_str("%20"),
            c => out.push(c),
        }
    }
    out
}
