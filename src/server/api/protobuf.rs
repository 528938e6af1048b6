//! As much of Kubernetes' protobuf as its clients send whatever we tell them: kubectl asks who it is
//! and what it may in that form. Pure; our answers are JSON, which each of them takes, too.

/// With what such a body begins.
const MAGIC: &[u8] = b"k8s\0";

/// The object in a body, without the envelope that names its kind; nothing where it is no such body.
pub(in crate::server) fn object(body: &[u8]) -> Option<Message<'_>> {
    // The envelope is `Unknown {typeMeta = 1, raw = 2, contentEncoding = 3, contentType = 4}`.
    let envelope = Message::read(body.strip_prefix(MAGIC)?)?;
    match envelope.bytes(2) {
        Some(raw) => Message::read(raw),
        // All that it could hold is empty.
        None => Some(Message(Vec::new())),
    }
}

/// The members of a message that have a length: texts, bytes and messages, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Message<'a>(Vec<(u64, &'a [u8])>);

impl<'a> Message<'a> {
    /// Reads a message; nothing where the bytes are none.
    fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let mut members = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            match key & 7 {
                0 => drop(varint(&mut bytes)?),
                1 => drop(take(&mut bytes, 8)?),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    members.push((key >> 3, take(&mut bytes, length)?));
                }
                5 => drop(take(&mut bytes, 4)?),
                _ => return None,
            }
        }
        Some(Self(members))
    }

    /// The bytes of a member; of several, the last counts.
    fn bytes(&self, number: u64) -> Option<&'a [u8]> {
        self.0.iter().rev().find(|(of, _)| *of == number).map(|(_, bytes)| *bytes)
    }

    /// A member that is a message.
    pub(in crate::server) fn message(&self, number: u64) -> Option<Message<'a>> {
        Message::read(self.bytes(number)?)
    }

    /// A member that is text; empty where there is none.
    pub(in crate::server) fn text(&self, number: u64) -> String {
        String::from_utf8_lossy(self.bytes(number).unwrap_or_default()).into_owned()
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(front)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for at in 0..10 {
        let [byte] = *take(bytes, 1)? else { return None };
        number |= u64::from(byte & 0x7f).checked_shl(7 * at)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).unwrap();
        [&[number << 3 | 2, length], bytes].concat()
    }

    #[test]
    fn an_object_is_taken_out_of_its_envelope() {
        let inner = [member(2, b"create"), vec![8 << 3, 5], member(5, b"jobs")].concat();
        let body = [MAGIC, &member(1, b"kind"), &member(2, &member(9, &inner))].concat();
        let read = object(&body).unwrap().message(9).unwrap();
        assert_eq!(
            (read.text(2), read.text(5), read.text(7)),
            ("create".into(), "jobs".into(), String::new())
        );
        assert!(object(b"{}").is_none());
        assert!(object(&body[..body.len() - 1]).is_none(), "it broke off");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>) {
            let _ = object(&[MAGIC, &bytes].concat()).map(|read| read.message(1));
        }
    }
}
