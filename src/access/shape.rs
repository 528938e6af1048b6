//! What ids look like on each platform, so that one that was copied wrongly is told. Pure.
//!
//! Such a row would let nobody in and look as if it did. The shapes are what the platforms show
//! today and not a promise of theirs, so what looks odd is told and taken all the same.

use crate::store::Principal;

/// What is odd about an id, and where to find the right one; none where it looks right.
#[must_use]
pub fn odd(principal: &Principal) -> Option<String> {
    let id = principal.id.as_str();
    let (is_fit, looks) = match (principal.platform.as_str(), principal.is_channel) {
        ("slack", false) => {
            (is_slack(id, &['U', 'W']), "U or W with capitals and digits behind it")
        }
        ("slack", true) => {
            (is_slack(id, &['C', 'D', 'G']), "C, D or G with capitals and digits behind it")
        }
        ("discord", _) => {
            let is_fit = (15..=20).contains(&id.len()) && id.bytes().all(|it| it.is_ascii_digit());
            (is_fit, "15 to 20 digits")
        }
        ("teams", false) => {
            (is_guid(id) || id.starts_with("29:"), "the object id of a person in Microsoft Entra")
        }
        ("teams", true) => {
            (id.starts_with("19:") || id.starts_with("a:"), "19: or a: with more behind it")
        }
        _ => return None,
    };
    let find = match principal.is_channel {
        false => "/od-whoami tells people theirs",
        true => "/od-whoami, said there, tells it",
    };
    (!is_fit).then(|| format!("{principal} may let nobody in: there an id is {looks}; {find}"))
}

fn is_slack(id: &str, fronts: &[char]) -> bool {
    let is_of_one = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    id.len() >= 2 && id.starts_with(fronts) && id.chars().all(is_of_one)
}

fn is_guid(id: &str) -> bool {
    let parts: Vec<usize> = id.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && id.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_no_id_of_its_platform_is_told_with_where_to_find_it() {
        let told = |typed: &str| odd(&typed.parse().unwrap());
        for right in [
            "slack:U0123ABC",
            "slack:channel:C1",
            "discord:123456789012345678",
            "discord:channel:123456789012345678",
            "teams:0aa00000-0000-4000-8000-000000000001",
            "teams:29:1abc",
            "teams:channel:19:x@thread.tacv2",
            "console:ada",
        ] {
            assert_eq!(told(right), None, "{right}");
        }
        let wrong =
            ["slack:u0123abc", "slack:channel:general", "discord:abc", "teams:ada@x.example"];
        let told: Vec<String> = wrong.iter().filter_map(|it| told(it)).collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
