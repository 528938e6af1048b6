//! Which image a machine is made from: what a person named, what the server is configured with,
//! and what may be named at all. Pure.
//!
//! An alias stands for a whole reference and is never followed further. A bare word that is no
//! alias is refused, although a registry might have something by that name: an agent's image
//! holds the reporter, and nobody's stock image does. Where an allow-list is set, what it does
//! not name cannot run, save for the images that the configuration itself names.

use std::collections::BTreeMap;

/// The images that machines may be made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images {
    /// The image of who names none; itself an alias or a whole reference.
    pub usual: Option<String>,
    /// Images by alias.
    pub aliases: BTreeMap<String, String>,
    /// Beginnings of further images that may be named; every one where the list is empty.
    pub allowed: Vec<String>,
}

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoImage {
    /// Nothing was named, and nothing is configured.
    #[error(
        "no image is named, and the server has no default; name one{}, or set SPRITE_IMAGE on the \
         server",
        among(.0)
    )]
    NoDefault(Vec<String>),
    /// A bare word that is nobody's alias.
    #[error(
        "`{named}` is no alias of an image{}; write {}a whole reference, such as \
         registry.fly.io/my-sprites/agent:v1",
        suggest(nearest.as_deref()),
        one_of(aliases)
    )]
    Unknown {
        /// What was named.
        named: String,
        /// The aliases that there are, in order.
        aliases: Vec<String>,
        /// The alias that is nearest to it.
        nearest: Option<String>,
    },
    /// Not the form of an image's reference.
    #[error(
        "`{0}` is no image; write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, such as \
         registry.fly.io/my-sprites/agent:v1"
    )]
    Malformed(String),
    /// The allow-list does not name it.
    #[error(
        "the image `{named}` is not allowed on this server; {}have it added to \
         OPEN_DISPATCH_ALLOWED_IMAGES there (it has {})",
        name_one(aliases),
        allowed.join(", ")
    )]
    NotAllowed {
        /// What was named.
        named: String,
        /// The aliases that there are, in order.
        aliases: Vec<String>,
        /// The allow-list.
        allowed: Vec<String>,
    },
}

fn among(aliases: &[String]) -> String {
    if aliases.is_empty() { String::new() } else { format!(" of {}", aliases.join(", ")) }
}

fn one_of(aliases: &[String]) -> String {
    if aliases.is_empty() { String::new() } else { format!("one of {}, or ", aliases.join(", ")) }
}

fn name_one(aliases: &[String]) -> String {
    if aliases.is_empty() { String::new() } else { format!("name {}", one_of(aliases)) }
}

fn suggest(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default()
}

impl Images {
    /// The whole reference for what was named, or for nothing.
    ///
    /// # Errors
    /// Why there is none, with what there is instead.
    pub fn resolve<'a>(&'a self, named: Option<&'a str>) -> Result<&'a str, NoImage> {
        let aliases = || self.aliases.keys().cloned().collect::<Vec<_>>();
        let Some(named) = named.map(str::trim).filter(|named| !named.is_empty()) else {
            let usual = self.usual.as_deref().ok_or_else(|| NoImage::NoDefault(aliases()))?;
            return Ok(self.aliases.get(usual).map_or(usual, String::as_str));
        };
        // Configured, so nobody needs to allow it.
        if let Some(image) = self.aliases.get(named) {
            return Ok(image);
        }
        if let Some(image) = self.aliases.values().chain(&self.usual).find(|it| *it == named) {
            return Ok(image);
        }
        if is_word(named) {
            return Err(NoImage::Unknown {
                named: named.to_owned(),
                aliases: aliases(),
                nearest: self.nearest(named),
            });
        }
        if !is_reference(named) {
            return Err(NoImage::Malformed(named.to_owned()));
        }
        if self.allowed.is_empty() || self.allowed.iter().any(|front| begins(named, front)) {
            return Ok(named);
        }
        Err(NoImage::NotAllowed {
            named: named.to_owned(),
            aliases: aliases(),
            allowed: self.allowed.clone(),
        })
    }

    fn nearest(&self, word: &str) -> Option<String> {
        const FURTHEST: usize = 3;
        let distance = |alias: &&String| strsim::osa_distance(word, alias);
        self.aliases.keys().min_by_key(distance).filter(|it| distance(it) <= FURTHEST).cloned()
    }
}

/// Whether a text could only be an alias: it names no registry, no owner, no tag and no digest.
#[must_use]
pub fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Whether a text has the form of an image's reference: what registries take, without a scheme,
/// credentials or a way out of the path.
#[must_use]
pub fn is_reference(text: &str) -> bool {
    const LONGEST: usize = 512;
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let hex = |digest: &str| {
        digest
            .strip_prefix("sha256:")
            .is_some_and(|hex| hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit()))
    };
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && !part.contains("..")
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'))
            && part.matches(':').count() <= 1
            && !part.ends_with(':')
    };
    // A colon is a port's in the first part, and a tag's in the last.
    let parts: Vec<&str> = name.split('/').collect();
    let middle = parts.len().saturating_sub(1);
    text.len() <= LONGEST
        && digest.is_none_or(hex)
        && parts.iter().all(|it| part(it))
        && parts.iter().take(middle).skip(1).all(|it| !it.contains(':'))
}

/// Whether an image begins as an entry of the allow-list says, and not only as its letters do:
/// `registry.fly.io/mine` lets `registry.fly.io/mine:v1` in, and `registry.fly.io/mine-too` not.
fn begins(image: &str, front: &str) -> bool {
    let Some(rest) = image.strip_prefix(front) else { return false };
    match rest.chars().next() {
        None | Some('/' | '@') => true,
        // Behind a registry alone, a colon begins a port: another server.
        Some(':') => front.contains('/'),
        Some(_) => front.ends_with('/') || front.ends_with(':'),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn images(usual: Option<&str>, allowed: &[&str]) -> Images {
        let aliases = [("node", "registry.fly.io/mine/node:v3"), ("dotnet", "ghcr.io/me/net:10")];
        Images {
            usual: usual.map(str::to_owned),
            aliases: aliases.map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
            allowed: allowed.iter().map(|&it| it.to_owned()).collect(),
        }
    }

    #[test]
    fn an_alias_its_image_and_a_whole_reference_are_taken() {
        let images = images(Some("node"), &[]);
        assert_eq!(images.resolve(None), Ok("registry.fly.io/mine/node:v3"));
        assert_eq!(images.resolve(Some(" ")), Ok("registry.fly.io/mine/node:v3"));
        assert_eq!(images.resolve(Some("dotnet")), Ok("ghcr.io/me/net:10"));
        let digest = format!("localhost:5000/a/b@sha256:{}", "0".repeat(64));
        for whole in ["my-agent:v1", "me/agent", "registry.fly.io/x/y:z", &digest] {
            assert_eq!(images.resolve(Some(whole)), Ok(whole));
        }
    }

    #[test]
    fn the_allow_list_lets_in_what_it_names_and_what_is_configured() {
        let images =
            images(Some("docker.io/me/agent:v1"), &["registry.fly.io/mine", "ghcr.io/me/"]);
        let takes = |image: &str| images.resolve(Some(image)).is_ok();
        for image in [
            "registry.fly.io/mine:v1",
            "registry.fly.io/mine/x:v1",
            "ghcr.io/me/any",
            "docker.io/me/agent:v1",
            "node",
        ] {
            assert!(takes(image), "{image}");
        }
        for image in [
            "registry.fly.io/mine-too:v1",
            "registry.fly.io/mine/../other:v1",
            "ghcr.io/mean/any",
            "docker.io/me/agent:v2",
        ] {
            assert!(!takes(image), "{image}");
        }
        assert!(!begins("registry.fly.io:5000/x", "registry.fly.io"));
    }

    #[test]
    fn each_refusal_names_what_there_is_and_the_mend() {
        let bare = Images::default();
        let told = |images: &Images, named| images.resolve(named).unwrap_err().to_string();
        let strict = images(None, &["registry.fly.io/mine/"]);
        insta::assert_snapshot!(
            [
                told(&bare, None),
                told(&strict, None),
                told(&bare, Some("custom-agent")),
                told(&strict, Some("nodee")),
                told(&strict, Some("python")),
                told(&strict, Some("https://registry.fly.io/mine/x")),
                told(&strict, Some("ghcr.io/me/agent:v1")),
            ]
            .join("\n")
        );
    }

    proptest! {
        #[test]
        fn what_is_let_in_is_a_reference_that_the_list_begins(text in "[a-zA-Z0-9./:@-]{1,40}") {
            let front = "registry.fly.io/mine/";
            let images = Images { allowed: vec![front.to_owned()], ..Images::default() };
            if let Ok(image) = images.resolve(Some(&text)) {
                prop_assert!(is_reference(image) && image.starts_with(front), "{}", image);
                prop_assert!(!image.contains(".."), "{}", image);
            }
        }
    }
}
