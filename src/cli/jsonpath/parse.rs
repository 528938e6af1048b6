//! Steps out of a text. Every refusal says in one line what to write.

use serde_json::Value;

use super::{Node, Operand, Relation, Step, Steps};

/// The characters that end a field's name.
const ENDS: &str = ".,[](){}$@ \t\n=!<>'\"";
/// How deep ranges and filters may stand in one another. Each may walk over the whole document for every
/// value of the one around it, so the time that a template takes grows by a power with each.
const DEEPEST: usize = 8;

/// Reads a template.
pub(super) fn template(text: &str) -> Result<Vec<Node>, String> {
    nodes(&mut Cursor { rest: text, depth: 0 })
}

/// Nodes up to the text's end, or to the `{end}` of a range.
fn nodes(cursor: &mut Cursor<'_>) -> Result<Vec<Node>, String> {
    let mut nodes = Vec::new();
    loop {
        let plain = cursor.until(|c| c == '{' || c == '}');
        if !plain.is_empty() {
            nodes.push(Node::Text(plain.to_owned()));
        }
        match cursor.next() {
            None if cursor.depth > 0 => return Err("a range has no {end}".to_owned()),
            None => return Ok(nodes),
            Some('}') => return Err("a } has no { before it".to_owned()),
            Some(_) => {}
        }
        cursor.skip_space();
        if cursor.take_word("end") {
            cursor.close()?;
            return if cursor.depth > 0 { Ok(nodes) } else { Err("{end} has no range".to_owned()) };
        }
        if cursor.take_word("range") {
            cursor.skip_space();
            let steps = path(cursor)?;
            cursor.close()?;
            nodes.push(Node::Range(steps, cursor.inside(self::nodes)?));
            continue;
        }
        nodes.push(match cursor.peek() {
            Some(quote @ ('"' | '\'')) => Node::Text(cursor.quoted(quote)?),
            _ => Node::Path(path(cursor)?),
        });
        cursor.close()?;
    }
}

/// A path: `$`, `@` or neither, and steps.
fn path(cursor: &mut Cursor<'_>) -> Result<Steps, String> {
    let from_root = cursor.take('$');
    let mut begun = from_root || cursor.take('@');
    let mut steps = Vec::new();
    loop {
        match cursor.peek() {
            Some('.') => {
                begun = true;
                cursor.next();
                if cursor.take('.') {
                    steps.push(Step::Deep);
                    if cursor.peek() == Some('[') {
                        continue;
                    }
                }
                if cursor.take('*') {
                    steps.push(Step::Every);
                    continue;
                }
                match cursor.field()? {
                    Some(name) => steps.push(Step::Fields(vec![name])),
                    // `{.}` is what the range stands at, and `{.['a']}` a member of it.
                    None if steps.is_empty() => {}
                    None => return Err("a dot has no name behind it".to_owned()),
                }
            }
            Some('[') => {
                begun = true;
                cursor.next();
                steps.push(brackets(cursor)?);
            }
            _ if !begun => {
                return Err("a path begins with a dot, such as .metadata.name".to_owned());
            }
            _ => return Ok(Steps { from_root, steps }),
        }
    }
}

/// What stands in brackets.
fn brackets(cursor: &mut Cursor<'_>) -> Result<Step, String> {
    cursor.skip_space();
    let step = match cursor.peek() {
        Some('*') => {
            cursor.next();
            Step::Every
        }
        Some('?') => cursor.inside(filter)?,
        Some('\'' | '"') => {
            let mut names = Vec::new();
            while let Some(quote @ ('"' | '\'')) = cursor.peek() {
                names.push(cursor.quoted(quote)?);
                cursor.skip_space();
                if !cursor.take(',') {
                    break;
                }
                cursor.skip_space();
            }
            Step::Fields(names)
        }
        _ => places(cursor)?,
    };
    cursor.skip_space();
    if cursor.take(']') { Ok(step) } else { Err("a [ has no ]".to_owned()) }
}

/// `3`, `-1`, `0,2`, `1:3`, `::2`.
fn places(cursor: &mut Cursor<'_>) -> Result<Step, String> {
    let inside = cursor.until(|c| c == ']').trim();
    let number = |text: &str| {
        text.trim().parse::<i64>().map_err(|_| {
            format!("`{text}` is no place in a list; write [0], [0:2], [*] or ['a.name']")
        })
    };
    if !inside.contains(':') {
        return inside.split(',').map(number).collect::<Result<_, _>>().map(Step::Places);
    }
    let edges: Vec<Option<i64>> = inside
        .split(':')
        .map(|text| if text.trim().is_empty() { Ok(None) } else { number(text).map(Some) })
        .collect::<Result<_, _>>()?;
    match edges[..] {
        [_, _, Some(step)] if step < 1 => Err("a slice steps forwards, by 1 or more".to_owned()),
        [from, to] => Ok(Step::Slice(from, to, None)),
        [from, to, step] => Ok(Step::Slice(from, to, step)),
        _ => Err("a slice is [FROM:TO] or [FROM:TO:STEP]".to_owned()),
    }
}

/// `?(@.a == 'b')`.
fn filter(cursor: &mut Cursor<'_>) -> Result<Step, String> {
    let form = || "a filter is [?(@.FIELD == VALUE)], with ==, !=, <, <=, > or >=".to_owned();
    if !(cursor.take('?') && cursor.take('(')) {
        return Err(form());
    }
    cursor.skip_space();
    let left = operand(cursor)?;
    cursor.skip_space();
    if cursor.take(')') {
        return Ok(Step::Filter(left, None));
    }
    let relation = [
        Relation::Equal,
        Relation::Unequal,
        Relation::LessOrEqual,
        Relation::GreaterOrEqual,
        Relation::Less,
        Relation::Greater,
    ]
    .into_iter()
    .find(|relation| cursor.take_text(&relation.to_string()))
    .ok_or_else(form)?;
    cursor.skip_space();
    let right = operand(cursor)?;
    cursor.skip_space();
    if cursor.take(')') { Ok(Step::Filter(left, Some((relation, right)))) } else { Err(form()) }
}

fn operand(cursor: &mut Cursor<'_>) -> Result<Operand, String> {
    match cursor.peek() {
        Some(quote @ ('"' | '\'')) => {
            cursor.quoted(quote).map(|text| Operand::Literal(text.into()))
        }
        Some('@' | '$' | '.' | '[') => path(cursor).map(Operand::Path),
        _ => {
            let word = cursor.until(|c| " )=!<>]}".contains(c));
            match serde_json::from_str::<Value>(word) {
                Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::Null)) => {
                    Ok(Operand::Literal(value))
                }
                _ => Err(format!("`{word}` is neither a path nor a value; quote text")),
            }
        }
    }
}

/// The text that is not read yet.
struct Cursor<'a> {
    rest: &'a str,
    /// In how many ranges and filters it stands.
    depth: usize,
}

impl<'a> Cursor<'a> {
    /// Reads the inside of a range or a filter.
    fn inside<T>(&mut self, read: fn(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth == DEEPEST {
            return Err(format!(
                "ranges and filters stand more than {DEEPEST} deep in one another; take one away"
            ));
        }
        self.depth += 1;
        let found = read(self);
        self.depth -= 1;
        found
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.next();
        }
        found
    }

    fn take_text(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A word that nothing follows which would belong to it.
    fn take_word(&mut self, word: &str) -> bool {
        let behind = self.rest.strip_prefix(word);
        let ends = behind.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '}']));
        ends && self.take_text(word)
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn until(&mut self, end: impl Fn(char) -> bool) -> &'a str {
        let at = self.rest.find(end).unwrap_or(self.rest.len());
        let (front, rest) = self.rest.split_at(at);
        self.rest = rest;
        front
    }

    /// The end of an expression.
    fn close(&mut self) -> Result<(), String> {
        self.skip_space();
        if self.take('}') {
            return Ok(());
        }
        if self.rest.is_empty() {
            return Err("a { has no }".to_owned());
        }
        let strange: String = self.until(|c| c == '}').chars().take(20).collect();
        Err(format!("`{strange}` does not belong there; put each path in braces of its own"))
    }

    /// A field's name; a backslash takes the next character as it is.
    fn field(&mut self) -> Result<Option<String>, String> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            if c == '\\' {
                self.next();
                match self.next() {
                    Some(c) => name.push(c),
                    None => return Err("a \\ has nothing behind it".to_owned()),
                }
            } else if ENDS.contains(c) {
                break;
            } else {
                name.push(c);
                self.next();
            }
        }
        Ok(Some(name).filter(|name| !name.is_empty()))
    }

    /// Text in quotes.
    fn quoted(&mut self, quote: char) -> Result<String, String> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(format!("a {quote} has no second one")),
                Some(c) if c == quote => return Ok(text),
                Some('\\') => match self.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c) => text.push(c),
                    None => return Err("a \\ has nothing behind it".to_owned()),
                },
                Some(c) => text.push(c),
            }
        }
    }
}
