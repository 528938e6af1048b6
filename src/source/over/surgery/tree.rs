//! Where the values of a YAML text stand.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};

/// The deepest nesting that is looked at.
const MAX_DEPTH: usize = 64;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// The bytes of its content: of a value in block style, from its first to its last one.
    pub(super) range: Range<usize>,
    /// The line, from 1.
    pub(super) line: usize,
    /// The column of its first byte, from 0.
    pub(super) column: usize,
    pub(super) style: Style,
    /// Whether an anchor or a tag stands in front of it.
    pub(super) is_marked: bool,
    /// What a scalar says.
    pub(super) text: Option<String>,
    pub(super) inner: Inner,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
    /// A literal or folded text.
    Lines,
    Block,
    Flow,
    Alias,
}

#[derive(Debug)]
pub(super) enum Inner {
    Nothing,
    Map(Vec<(Node, Node)>),
    List(Vec<Node>),
}

impl Node {
    pub(super) fn members(&self) -> &[(Node, Node)] {
        if let Inner::Map(members) = &self.inner { members } else { &[] }
    }

    pub(super) fn items(&self) -> &[Node] {
        if let Inner::List(items) = &self.inner { items } else { &[] }
    }

    pub(super) fn member(&self, key: &str) -> Option<&(Node, Node)> {
        self.members().iter().find(|(name, _)| name.text.as_deref() == Some(key))
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.member(key).map(|(_, value)| value)
    }

    /// The first value in it, or it itself, that is an alias or bears a mark.
    pub(super) fn shared(&self) -> Option<&Node> {
        if self.is_marked || self.style == Style::Alias {
            return Some(self);
        }
        let members = self.members().iter().flat_map(|(key, value)| [key, value]);
        members.chain(self.items()).find_map(Node::shared)
    }
}

/// The documents of a text.
///
/// # Errors
/// What the parser says, in one line.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, String> {
    let mut reader = Reader { text, parser: Parser::new_from_str(text) };
    let mut found = Vec::new();
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event => found.push(reader.node(event, span, 0)?),
        }
    }
    Ok(found)
}

struct Reader<'a> {
    text: &'a str,
    parser: Parser<'a, granit_parser::StrInput<'a>>,
}

impl<'a> Reader<'a> {
    /// The next event that is no comment.
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, String> {
        for next in self.parser.by_ref() {
            let (event, span) = next.map_err(|error| error.to_string())?;
            if !matches!(event, Event::Comment(..)) {
                return Ok(Some((event, span)));
            }
        }
        Ok(None)
    }

    fn must(&mut self) -> Result<(Event<'a>, Span), String> {
        self.next()?.ok_or_else(|| "it ends too early".to_owned())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
        }
        let range = span.byte_range().ok_or("a value has no place")?;
        let mut node = Node {
            range,
            line: span.start.line(),
            column: span.start.col(),
            style: Style::Block,
            is_marked: false,
            text: None,
            inner: Inner::Nothing,
        };
        match event {
            Event::Alias(_) => node.style = Style::Alias,
            Event::Scalar(text, style, anchor, tag) => {
                node.text = Some(text.into_owned());
                node.is_marked = anchor != 0 || tag.is_some();
                node.style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::Single,
                    ScalarStyle::DoubleQuoted => Style::Double,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Lines,
                };
            }
            Event::MappingStart(style, anchor, tag) => {
                node.is_marked = anchor != 0 || tag.is_some();
                let mut members = Vec::new();
                let end = loop {
                    match self.must()? {
                        (Event::MappingEnd, span) => break span,
                        (event, span) => {
                            let key = self.node(event, span, depth + 1)?;
                            let (event, span) = self.must()?;
                            members.push((key, self.node(event, span, depth + 1)?));
                        }
                    }
                };
                if let (Some((key, _)), StructureStyle::Block) = (members.first(), style) {
                    (node.range.start, node.line, node.column) =
                        (key.range.start, key.line, key.column);
                }
                let last = members.last().map(|(key, value)| key.range.end.max(value.range.end));
                self.close(&mut node, style, &end, last)?;
                node.inner = Inner::Map(members);
            }
            Event::SequenceStart(style, anchor, tag) => {
                node.is_marked = anchor != 0 || tag.is_some();
                let mut items = Vec::new();
                let end = loop {
                    match self.must()? {
                        (Event::SequenceEnd, span) => break span,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                };
                let last = items.last().map(|item| item.range.end);
                self.close(&mut node, style, &end, last)?;
                node.inner = Inner::List(items);
            }
            _ => return Err("it has an event where a value was expected".to_owned()),
        }
        if node.style == Style::Lines {
            // The reader counts the line breaks behind a text to it.
            let content = self.text[node.range.clone()].trim_end();
            node.range.end = node.range.start + content.len();
        }
        Ok(node)
    }

    fn close(
        &self,
        node: &mut Node,
        style: StructureStyle,
        end: &Span,
        last: Option<usize>,
    ) -> Result<(), String> {
        let closed = end.byte_range().ok_or("a value has no place")?;
        (node.style, node.range.end) = match style {
            StructureStyle::Flow => (Style::Flow, closed.end),
            StructureStyle::Block => (Style::Block, last.unwrap_or(closed.start)),
        };
        if node.range.start > node.range.end || node.range.end > self.text.len() {
            return Err("a value has no place".to_owned());
        }
        Ok(())
    }
}
