//! Masking: the values of secrets never leave the sprite, wherever the agent prints them.
//!
//! A [`Masker`] sits in each stream of bytes before they are numbered. It knows the values, and
//! puts [`MARK`] where one stands, also when a value arrives in pieces: it holds back what
//! may yet become a secret, and nothing else, until more bytes or the end decide.

use std::sync::Arc;

/// What stands where a secret stood.
pub const MARK: &[u8] = b"***";

/// Shorter values are not masked: they would tear holes into innocent text.
pub const SHORTEST: usize = 6;

/// Shorter lines of a value that has several are innocent by themselves.
const LINE: usize = 16;

/// Shorter pieces of base64 are innocent by themselves.
const BASE64: usize = 8;

/// How a value may be written where something prints it: plain, line by line, in base64 (of itself,
/// or inside of something longer, wherever it begins), as a part of an address, and in JSON.
#[must_use]
pub fn spellings(value: &str) -> Vec<Vec<u8>> {
    use base64::{
        Engine as _,
        engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
    };
    let mut all = vec![value.as_bytes().to_vec()];
    if value.len() < SHORTEST {
        return all;
    }
    all.extend(
        value.lines().filter(|line| line.len() >= LINE).map(|line| line.as_bytes().to_vec()),
    );
    for offset in 0..3_usize {
        // What stands before it and behind it has a share in the characters at its ends.
        let mut bytes = vec![0; offset];
        bytes.extend_from_slice(value.as_bytes());
        let first = [0, 2, 3][offset];
        let last = bytes.len() / 3 * 4;
        for text in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            if let Some(inner) = text.get(first..last).filter(|inner| inner.len() >= BASE64) {
                all.push(inner.as_bytes().to_vec());
            }
            if offset == 0 {
                all.push(text.into_bytes());
            }
        }
    }
    let upper = crate::report::percent_encoded(value);
    all.push(upper.replace("%20", "+").into_bytes());
    all.push(upper.to_ascii_lowercase().into_bytes());
    all.push(upper.into_bytes());
    if let Ok(json) = serde_json::to_string(value) {
        all.push(json.trim_matches('"').as_bytes().to_vec());
    }
    all.sort();
    all.dedup();
    all
}

/// The values to mask, cheap to clone.
#[derive(Debug, Clone)]
pub struct Secrets {
    values: Arc<[Vec<u8>]>,
    starts: Arc<[bool; 256]>,
}

impl Secrets {
    /// Takes the values that are long enough to be masked.
    pub fn new<V: Into<Vec<u8>>>(values: impl IntoIterator<Item = V>) -> Self {
        let mut values: Vec<Vec<u8>> =
            values.into_iter().map(Into::into).filter(|value| value.len() >= SHORTEST).collect();
        values.sort();
        values.dedup();
        let mut starts = [false; 256];
        for value in &values {
            starts[usize::from(value[0])] = true;
        }
        Self { values: values.into(), starts: Arc::new(starts) }
    }

    /// Masks a text that is whole.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let mut masker = Masker::new(self.clone());
        let mut out = masker.push(text.as_bytes());
        out.extend(masker.flush());
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The length of the longest value that stands at the front of `bytes`, or 0.
    fn longest_at(&self, bytes: &[u8]) -> usize {
        self.values
            .iter()
            .filter(|value| bytes.starts_with(value))
            .map(Vec::len)
            .max()
            .unwrap_or_default()
    }

    /// Whether `bytes`, to the last of them, may be the beginning of a longer value.
    fn may_begin(&self, bytes: &[u8]) -> bool {
        self.values.iter().any(|value| value.len() > bytes.len() && value.starts_with(bytes))
    }
}

/// One stream of bytes on its way through the mask.
#[derive(Debug, Clone)]
pub struct Masker {
    secrets: Secrets,
    /// Bytes that may be the beginning of a secret, or stand inside of one.
    held: Vec<u8>,
    /// How many of the held bytes are known to be covered.
    covered: usize,
    /// Whether the mark of the covered run stands already.
    marked: bool,
}

impl Masker {
    /// A stream's mask.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, held: Vec::new(), covered: 0, marked: false }
    }

    /// Takes bytes in, gives out what is decided.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.secrets.values.is_empty() {
            return bytes.to_vec();
        }
        self.held.extend_from_slice(bytes);
        self.decide(false)
    }

    /// The stream is over: gives out what was held back.
    pub fn flush(&mut self) -> Vec<u8> {
        self.decide(true)
    }

    fn decide(&mut self, end: bool) -> Vec<u8> {
        let buffer = std::mem::take(&mut self.held);
        let mut out = Vec::with_capacity(buffer.len());
        let mut covered_to = std::mem::take(&mut self.covered);
        let mut at = 0;
        while at < buffer.len() {
            if self.secrets.starts[usize::from(buffer[at])] {
                let rest = &buffer[at..];
                if !end && self.secrets.may_begin(rest) {
                    break;
                }
                covered_to = covered_to.max(at + self.secrets.longest_at(rest));
            }
            if at >= covered_to {
                self.marked = false;
                out.push(buffer[at]);
            } else if !self.marked {
                self.marked = true;
                out.extend_from_slice(MARK);
            }
            at += 1;
        }
        self.covered = covered_to.saturating_sub(at);
        self.held = buffer[at..].to_vec();
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through(secrets: &[Vec<u8>], pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut masker = Masker::new(Secrets::new(secrets.to_vec()));
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| masker.push(piece)).collect();
        out.extend(masker.flush());
        out
    }

    fn contains(hay: &[u8], needle: &[u8]) -> bool {
        hay.windows(needle.len()).any(|window| window == needle)
    }

    fn word() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(b"ab".to_vec()), 6..10)
    }

    proptest! {
        #[test]
        fn no_secret_ever_leaves_in_whatever_pieces_it_comes(
            secrets in prop::collection::vec(word(), 1..4),
            pieces in prop::collection::vec(
                prop::collection::vec(prop::sample::select(b"abc".to_vec()), 0..7), 0..30),
        ) {
            let out = through(&secrets, &pieces);
            for secret in &secrets {
                prop_assert!(!contains(&out, secret), "{:?} in {:?}", secret, out);
            }
        }

        #[test]
        fn pieces_make_no_difference(
            secrets in prop::collection::vec(word(), 1..4),
            pieces in prop::collection::vec(
                prop::collection::vec(prop::sample::select(b"abc".to_vec()), 0..7), 0..30),
        ) {
            prop_assert_eq!(through(&secrets, &pieces), through(&secrets, &[pieces.concat()]));
        }

        #[test]
        fn text_without_secrets_passes_unchanged(
            secrets in prop::collection::vec(word(), 0..4),
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10),
        ) {
            let whole = pieces.concat();
            prop_assume!(!secrets.iter().any(|secret| contains(&whole, secret)));
            prop_assert_eq!(through(&secrets, &pieces), whole);
        }
    }

    #[test]
    fn only_the_beginning_of_a_secret_is_held_back() {
        let mut masker = Masker::new(Secrets::new(["sk-12345"]));
        assert_eq!(masker.push(b"key: sk-1"), b"key: ");
        assert_eq!(masker.push(b"9 and"), b"sk-19 and");
        assert_eq!(masker.push(b" sk-1234"), b" ");
        assert_eq!(masker.push(b"5!"), b"***!");
        assert_eq!(masker.push(b"sk"), b"");
        assert_eq!(masker.flush(), b"sk");
    }

    #[test]
    fn secrets_that_overlap_are_both_masked_whole() {
        assert_eq!(Secrets::new(["abcdef", "defghi"]).mask("_abcdefghi_"), "_***_");
        assert_eq!(Secrets::new(["abcdef", "abcdefgh"]).mask("abcdefgx abcdefgh"), "***gx ***");
    }

    #[test]
    fn a_secret_is_masked_however_it_is_written() {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let secret = "p+ss/w\u{f6}rd \"1\" of mine";
        let secrets = Secrets::new(spellings(secret));
        let basic = STANDARD.encode(format!("x-access-token:{secret}"));
        let twice = STANDARD.encode(format!("ab{secret}cd"));
        let url = "p%2Bss%2Fw%C3%B6rd%20%221%22%20of%20mine";
        for text in [
            secret,
            &STANDARD.encode(secret),
            &basic,
            &twice,
            url,
            &url.to_ascii_lowercase(),
            &url.replace("%20", "+"),
            &serde_json::to_string(secret).unwrap(),
        ] {
            let masked = secrets.mask(&format!("<{text}>"));
            assert!(masked.contains("***"), "{text} became {masked}");
            let inner = &text.as_bytes()[text.len() / 3..text.len() * 2 / 3];
            assert!(!contains(masked.as_bytes(), inner), "{masked}");
        }
    }

    #[test]
    fn each_line_of_a_key_is_masked() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END KEY-----\n";
        let secrets = Secrets::new(spellings(key));
        assert_eq!(secrets.mask("| MIIEvQIBADANBgkqhkiG9w0BAQEFAASC |"), "| *** |");
    }

    #[test]
    fn short_values_are_left_alone() {
        assert_eq!(Secrets::new(["yes"]).mask("yes"), "yes");
    }
}
