//! Pull requests in what is said: a pure scanner for text that comes in pieces.
//!
//! It knows `https://HOST/OWNER/REPO/pull/N` (GitHub) and `https://HOST/GROUP/.../-/merge_requests/N`
//! (GitLab), tells each once, and holds back no more than the beginning of an address.

use std::collections::{HashMap, HashSet};

/// The longest address that is looked for, in bytes.
const MAX_LINK: usize = 400;
/// How many are told in a run: an agent that prints a list of thousands did not make them.
const MAX_TOLD: usize = 50;
/// How an address begins.
const SCHEME: &[u8] = b"https://";

/// A pull request that was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Its address, without what may stand behind the number.
    pub(super) url: String,
    /// `OWNER/REPO#N`.
    pub(super) name: String,
}

/// The scanner of a run. Each stream has an end of its own that may go on.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    told: HashSet<String>,
    open: HashMap<String, Vec<u8>>,
}

impl Scanner {
    /// Hears more of a stream.
    pub(super) fn hear(&mut self, stream: &str, bytes: &[u8]) -> Vec<Link> {
        let mut text = self.open.remove(stream).unwrap_or_default();
        text.extend_from_slice(bytes);
        let (links, rest) = self.scan(&text, false);
        if rest < text.len() {
            self.open.insert(stream.to_owned(), text.split_off(rest));
        }
        links
    }

    /// All streams end here, or pause: what is open is whole.
    pub(super) fn close(&mut self) -> Vec<Link> {
        let mut open: Vec<_> = std::mem::take(&mut self.open).into_iter().collect();
        open.sort();
        open.into_iter().flat_map(|(_, text)| self.scan(&text, true).0).collect()
    }

    /// The links of a text, and from where on it may go on to be one.
    fn scan(&mut self, text: &[u8], end: bool) -> (Vec<Link>, usize) {
        let mut links = Vec::new();
        let mut at = 0;
        while let Some(found) = text[at..].iter().position(|byte| *byte == SCHEME[0]) {
            let from = at + found;
            let rest = &text[from..];
            if !rest.starts_with(SCHEME) {
                if !end && SCHEME.starts_with(rest) {
                    return (links, from);
                }
                at = from + 1;
                continue;
            }
            let length = rest.iter().position(|byte| !is_part(*byte));
            if length.is_none() && !end && rest.len() < MAX_LINK {
                return (links, from);
            }
            let length = length.unwrap_or(rest.len()).min(MAX_LINK);
            let link = str::from_utf8(&rest[..length]).ok().and_then(parse);
            if let Some(link) = link
                && self.told.len() < MAX_TOLD
                && self.told.insert(link.url.clone())
            {
                links.push(link);
            }
            at = from + length;
        }
        (links, text.len())
    }
}

/// Whether a byte can stand in an address that we know.
fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#@!$&+,;=%".contains(&byte)
}

/// The pull request that an address is of.
fn parse(address: &str) -> Option<Link> {
    let path = address.strip_prefix("https://")?;
    // What stands behind the path is not of it.
    let path = path.split(['?', '#']).next()?;
    let parts: Vec<&str> = path.split('/').collect();
    let host = *parts.first()?;
    let host_good = host.contains(|c: char| c.is_ascii_alphanumeric())
        && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c));
    let word = |part: &str| {
        !part.is_empty()
            && part != "-"
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    if !host_good {
        return None;
    }
    let (repo, number) = match parts.as_slice() {
        [_, owner, repo, "pull", number, ..] => (vec![*owner, *repo], *number),
        parts => {
            let at = parts.iter().position(|part| *part == "merge_requests")?;
            let before = parts.get(1..at)?;
            let repo = before.strip_suffix(&["-"]).unwrap_or(before);
            (repo.to_vec(), *parts.get(at + 1)?)
        }
    };
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    // A sentence may end behind it.
    let good_end = number[digits..].chars().all(|c| ".,;:!".contains(c));
    if repo.len() < 2 || !repo.iter().all(|part| word(part)) || digits == 0 || digits > 10 {
        return None;
    }
    if !good_end || number.starts_with('0') {
        return None;
    }
    let number = &number[..digits];
    let marker = if parts.get(3) == Some(&"pull") { "/pull/" } else { "/merge_requests/" };
    let at = address.find(marker)? + marker.len();
    let url = format!("{}{number}", &address[..at]);
    Some(Link { url, name: format!("{}#{number}", repo.join("/")) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut scanner = Scanner::default();
        let mut links: Vec<Link> =
            pieces.iter().flat_map(|piece| scanner.hear("text", piece)).collect();
        links.extend(scanner.close());
        links.into_iter().map(|link| (link.name, link.url)).collect()
    }

    fn names(text: &str) -> Vec<String> {
        all(&[text.as_bytes()]).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn pull_requests_are_found_and_told_once() {
        let text = "I opened https://github.com/o/r-1/pull/12. See (https://github.com/o/r-1/pull/12/files), \
                    [MR](https://gitlab.example.com/a/b/c/-/merge_requests/7) and \
                    <https://git.example.com:8443/o/r/pull/3#issuecomment-1>";
        let expected = [
            ("o/r-1#12", "https://github.com/o/r-1/pull/12"),
            ("a/b/c#7", "https://gitlab.example.com/a/b/c/-/merge_requests/7"),
            ("o/r#3", "https://git.example.com:8443/o/r/pull/3"),
        ];
        let expected = expected.map(|(name, url)| (name.to_owned(), url.to_owned()));
        assert_eq!(all(&[text.as_bytes()]), expected);
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        for text in [
            "https://github.com/o/r/pull/new/branch",
            "https://github.com/o/r/pulls",
            "https://github.com/o/r/pull/",
            "https://github.com/o/r/pull/12x",
            "https://github.com/o/r/pull/012",
            "https://github.com/o/pull/1",
            "http://github.com/o/r/pull/1",
            "https://gitlab.com/o/r/-/merge_requests/new?x=1",
            "https:///o/r/pull/1",
            "https://github.com/o/r/issues/1",
        ] {
            assert_eq!(names(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_list_of_thousands_is_not_told() {
        let text: String =
            (1..1000).map(|n| format!("https://github.com/o/r/pull/{n}\n")).collect();
        assert_eq!(names(&text).len(), MAX_TOLD);
    }

    #[test]
    fn a_stream_without_spaces_is_not_held_for_ever() {
        let mut scanner = Scanner::default();
        for _ in 0..100 {
            scanner.hear("a", &b"https://x".repeat(100));
        }
        assert!(scanner.open["a"].len() < MAX_LINK);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "https://github.com/o/r/pull/12", "https://gitlab.com/a/b/-/merge_requests/3",
                    " ", "\n", "h", "https:/", "7", ".", "\u{e9}", "x",
                ]), 0..20),
            cuts in prop::collection::vec(1_usize..9, 0..60),
        ) {
            let text = words.concat().into_bytes();
            let mut pieces = Vec::new();
            let mut rest = text.as_slice();
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            pieces.push(rest);
            prop_assert_eq!(all(&pieces), all(&[&text]));
        }

        #[test]
        fn every_pull_request_between_words_is_found(
            owner in "[a-z][a-z0-9-]{0,8}", repo in "[a-z][a-z0-9._-]{0,8}", n in 1_u32..100_000,
            before in "[^h]{0,10} ", after in "[ )\\]>\"'\n].{0,10}",
        ) {
            let text = format!("{before}https://github.com/{owner}/{repo}/pull/{n}{after}");
            prop_assert_eq!(&names(&text)[0], &format!("{owner}/{repo}#{n}"));
        }
    }
}
