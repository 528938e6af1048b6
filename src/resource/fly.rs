//! What Fly takes of sizes and regions, so far as it can be known without asking Fly. Pure.
//!
//! The sizes are those that Fly's documentation lists (shared CPUs with 256 to 2048 MB each in
//! steps of 256, performance CPUs with 2048 to 8192 MB each in steps of 2048). Which regions
//! there are changes, so only their form is checked: three letters, or one of the words that
//! stand for several. Fly itself refuses what is none.

use super::fault::quoted;

/// The words that stand for several regions.
const REGION_GROUPS: [&str; 7] = ["any", "apac", "eu", "na", "sa", "us", "usa"];

/// A kind of CPU.
struct CpuKind {
    name: &'static str,
    cpus: &'static [u64],
    /// MB for each CPU.
    least: u64,
    most: u64,
    step: u64,
}

const CPU_KINDS: [CpuKind; 2] = [
    CpuKind { name: "shared", cpus: &[1, 2, 4, 6, 8], least: 256, most: 2048, step: 256 },
    CpuKind {
        name: "performance",
        cpus: &[1, 2, 4, 6, 8, 10, 12, 14, 16],
        least: 2048,
        most: 8192,
        step: 2048,
    },
];

/// Where in a size something is wrong, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadGuest {
    /// The member of `guest`.
    pub member: &'static str,
    /// What is wrong, with the mend.
    pub message: String,
}

/// What is wrong with a size, if something is.
#[must_use]
pub fn bad_guest(kind: &str, cpus: u64, memory_mb: u64) -> Option<BadGuest> {
    let bad = |member, message| Some(BadGuest { member, message });
    let Some(known) = CPU_KINDS.iter().find(|known| known.name == kind) else {
        return bad(
            "cpuKind",
            format!("{} is no kind of CPU; write shared or performance", quoted(kind)),
        );
    };
    if !known.cpus.contains(&cpus) {
        let counts: Vec<String> = known.cpus.iter().map(ToString::to_string).collect();
        let message = format!("is {cpus}; Fly has {kind} machines with {} CPUs", counts.join(", "));
        return bad("cpus", message);
    }
    let (least, most) = (known.least * cpus, known.most * cpus);
    if !(least..=most).contains(&memory_mb) || !memory_mb.is_multiple_of(known.step) {
        let message = format!(
            "is {memory_mb}; {cpus} {kind} CPUs go with {least} to {most}, in steps of {}",
            known.step
        );
        return bad("memoryMb", message);
    }
    None
}

/// What is wrong with a list of regions with commas between, if something is.
#[must_use]
pub fn bad_regions(text: &str) -> Option<String> {
    let good = |region: &str| {
        REGION_GROUPS.contains(&region)
            || (region.len() == 3 && region.chars().all(|c| c.is_ascii_lowercase()))
    };
    let bad: Vec<String> =
        text.split(',').map(str::trim).filter(|region| !good(region)).map(quoted).collect();
    let are = match bad.as_slice() {
        [] => return None,
        [_] => "is no region",
        _ => "are no regions",
    };
    Some(format!(
        "{} {are} of Fly's; write three letters such as iad, or one of {}, several with commas \
         between in the order in which they are tried",
        bad.join(", "),
        REGION_GROUPS.join(", ")
    ))
}

/// Whether a text can be the name of a Fly app: fewer than 63 of a-z, 0-9 and dashes.
#[must_use]
pub fn is_app(text: &str) -> bool {
    !text.is_empty()
        && text.len() < 63
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_fly_has_are_taken_and_others_told() {
        for (kind, cpus, memory) in [
            ("shared", 1, 256),
            ("shared", 2, 2048),
            ("shared", 8, 16384),
            ("performance", 1, 2048),
            ("performance", 16, 131_072),
        ] {
            assert_eq!(bad_guest(kind, cpus, memory), None, "{kind} {cpus} {memory}");
        }
        let told = [
            ("big", 1, 256),
            ("shared", 3, 1024),
            ("shared", 0, 0),
            ("shared", 2, 256),
            ("shared", 1, 300),
            ("shared", 1, 4096),
            ("performance", 2, 3072),
            ("performance", 1, 512),
        ]
        .map(|(kind, cpus, memory)| {
            let bad = bad_guest(kind, cpus, memory).expect(kind);
            format!("{} {}", bad.member, bad.message)
        });
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn regions_are_three_letters_or_words_for_several() {
        for text in ["iad", "iad,us", " iad , eu", "any"] {
            assert_eq!(bad_regions(text), None, "{text}");
        }
        for text in ["", "iad,", "IAD", "ashburn", "us-east-1", "i d"] {
            assert!(bad_regions(text).is_some(), "{text}");
        }
    }

    #[test]
    fn all_regions_that_are_none_are_told_at_once() {
        let told = bad_regions("iadd, iad,Zz").expect("two are none");
        assert!(told.starts_with("`iadd`, `Zz` are no regions of Fly's; "), "{told}");
    }

    #[test]
    fn an_app_has_a_name_that_dns_takes() {
        assert!(is_app("my-sprites2"));
        for text in ["", "My-Sprites", "a/b", "-a", "a b", &"a".repeat(63)] {
            assert!(!is_app(text), "{text}");
        }
    }
}
