//! Reading the body of an answer: whole, or a list member by member as it comes.
//!
//! An app's list of machines has no pages, and ten thousand that sleep are told in thirty megabytes
//! of which little is kept. So a list is cut into its members while it comes in, each is read by
//! itself, and no more than one of them is held. It is nothing unless it came to its end: a list
//! that broke off says of nobody that they are not there.

/// Takes a body piece by piece.
pub(super) trait Reading {
    /// What it becomes.
    type Out;

    /// The next piece.
    fn take(&mut self, piece: &[u8]) -> Result<(), String>;

    /// There is no more.
    fn end(self) -> Result<Self::Out, String>;
}

/// A body that is read once it is there.
pub(super) struct Whole<F> {
    body: Vec<u8>,
    read: F,
}

impl<T, F: FnOnce(&[u8]) -> Result<T, String>> Whole<F> {
    pub(super) const fn new(read: F) -> Self {
        Self { body: Vec::new(), read }
    }
}

impl<T, F: FnOnce(&[u8]) -> Result<T, String>> Reading for Whole<F> {
    type Out = T;

    fn take(&mut self, piece: &[u8]) -> Result<(), String> {
        self.body.extend_from_slice(piece);
        Ok(())
    }

    fn end(self) -> Result<T, String> {
        (self.read)(&self.body)
    }
}

/// Where in a list the cut is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before its bracket.
    Before,
    /// Behind the bracket or a member; nothing of the next one yet.
    First,
    /// Behind a comma: a member has to come.
    Next,
    /// Within a member.
    Member,
    /// Behind its closing bracket.
    After,
}

/// A JSON list whose members are read one by one. What a member is, its reader says; here only
/// strings and brackets are told apart, so as to find the commas between.
pub(super) struct Members<T, F> {
    place: Place,
    /// How many brackets are open within the member.
    depth: usize,
    /// Within a string, and behind a backslash in it.
    string: Option<bool>,
    member: Vec<u8>,
    read: F,
    kept: Vec<T>,
}

impl<T, F: FnMut(&[u8]) -> Result<Option<T>, String>> Members<T, F> {
    /// Keeps of each member what `read` makes of it, if anything.
    pub(super) const fn new(read: F) -> Self {
        let (place, depth, string) = (Place::Before, 0, None);
        Self { place, depth, string, member: Vec::new(), read, kept: Vec::new() }
    }

    fn byte(&mut self, byte: u8) -> Result<(), String> {
        if let (Place::Member, Some(escaped)) = (self.place, self.string) {
            self.member.push(byte);
            self.string = match byte {
                b'"' if !escaped => None,
                _ => Some(byte == b'\\' && !escaped),
            };
            return Ok(());
        }
        let is_blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match (self.place, byte) {
            (Place::Before | Place::First | Place::Next | Place::After, _) if is_blank => {}
            (Place::Before, b'[') => self.place = Place::First,
            (Place::First, b']') => self.place = Place::After,
            (Place::Before | Place::After, _) | (Place::Next, b']') => {
                return Err("an answer that is no list".to_owned());
            }
            (Place::Member, b',') if self.depth == 0 => {
                self.close()?;
                self.place = Place::Next;
            }
            (Place::Member, b']') if self.depth == 0 => {
                self.close()?;
                self.place = Place::After;
            }
            (Place::First | Place::Next | Place::Member, _) => {
                self.place = Place::Member;
                self.member.push(byte);
                match byte {
                    b'"' => self.string = Some(false),
                    b'[' | b'{' => self.depth += 1,
                    // One too many is the reader's to find.
                    b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        self.kept.extend((self.read)(&self.member)?);
        self.member.clear();
        Ok(())
    }
}

impl<T, F: FnMut(&[u8]) -> Result<Option<T>, String>> Reading for Members<T, F> {
    type Out = Vec<T>;

    fn take(&mut self, piece: &[u8]) -> Result<(), String> {
        piece.iter().try_for_each(|byte| self.byte(*byte))
    }

    fn end(self) -> Result<Vec<T>, String> {
        match self.place {
            Place::After => Ok(self.kept),
            _ => Err("a list that broke off".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The list as it is read in pieces of these lengths, again and again.
    fn read(text: &[u8], lengths: &[usize]) -> Result<Vec<Value>, String> {
        let mut members = Members::new(|member: &[u8]| {
            serde_json::from_slice::<Value>(member).map(Some).map_err(|error| error.to_string())
        });
        let mut rest = text;
        for length in lengths.iter().cycle() {
            let (piece, later) = rest.split_at((*length).min(rest.len()));
            members.take(piece)?;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        members.end()
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[\\[\\]{},:\"\\\\ a-zäß\n]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a\"\\\\,\\]}]{0,4}", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        /// However a list is laid out and cut, it is read as one that is read whole.
        #[test]
        fn a_list_is_read_the_same_in_pieces(
            list in prop::collection::vec(json(), 0..6),
            lengths in prop::collection::vec(1_usize..9, 1..5),
            is_pretty in any::<bool>(),
        ) {
            let list = Value::from(list);
            let text = if is_pretty { format!(" {list:#} \n") } else { list.to_string() };
            prop_assert_eq!(read(text.as_bytes(), &lengths).map(Value::from), Ok(list));
        }

        /// What is no list read whole is none in pieces, and the other way round.
        #[test]
        fn what_is_no_list_is_none_in_pieces(text in "[\\[\\]{},:\"\\\\ 1a]{0,12}", length in 1_usize..4) {
            let whole = serde_json::from_str::<Vec<Value>>(&text).ok();
            prop_assert_eq!(read(text.as_bytes(), &[length]).ok(), whole);
        }
    }

    #[test]
    fn a_list_that_breaks_off_is_none_wherever_it_does() {
        let text = r#" [ {"id": "a]", "n": [1, {}]}, 2, "x\"," ] "#;
        assert_eq!(read(text.as_bytes(), &[7]).unwrap().len(), 3);
        let end = text.rfind(']').unwrap();
        for cut in 0..=end {
            assert!(read(&text.as_bytes()[..cut], &[3]).is_err(), "{}", &text[..cut]);
        }
    }
}
