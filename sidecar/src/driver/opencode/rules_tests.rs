//! What holds of every list of rules, by a reading of them as OpenCode does it.

use proptest::prelude::*;

use super::*;

/// Whether a pattern fits, as OpenCode has it: a blank and a star at the end fit nothing as well.
fn fits(text: &str, pattern: &str) -> bool {
    fn run(text: &[u8], pattern: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b' ', b'*'] if text.is_empty() => true,
            [b'*', rest @ ..] => (0..=text.len()).any(|at| run(&text[at..], rest)),
            [first, rest @ ..] => {
                text.first().is_some_and(|byte| *first == b'?' || byte == first)
                    && run(&text[1..], rest)
            }
        }
    }
    run(text.as_bytes(), pattern.as_bytes())
}

fn decide(rules: &[Rule], name: &str, about: &str) -> Action {
    let fit = |rule: &&Rule| fits(name, &rule.name) && fits(about, &rule.pattern);
    rules.iter().rfind(fit).map_or(Action::Ask, |rule| rule.action)
}

fn rules(of: &[(&str, &str, Action)]) -> Vec<Rule> {
    of.iter().map(|(name, pattern, action)| Rule::new(name, pattern, *action)).collect()
}

/// The list of OpenCode: a person's rules, ours, and those of an agent behind them.
fn laid(before: &[Rule], ours: &[Rule], behind: &[Rule]) -> Vec<Rule> {
    let spelled = ours.iter().map(|our| Rule { name: spelled(&our.name), ..our.clone() });
    before.iter().cloned().chain(spelled).chain(behind.iter().cloned()).collect()
}

use Action::{Allow, Ask, Deny};

#[test]
fn a_persons_denial_is_said_again_with_its_exceptions() {
    let ours = rules(&[("*", "*", Ask), ("bash", "*", Ask), ("read", "*", Allow)]);
    let before = rules(&[("*", "*", Allow), ("bash", "*", Deny), ("bash", "git *", Allow)]);
    let output = "/home/ann/.local/share/opencode/tool-output/*";
    let behind = rules(&[("read", "*.key", Deny), ("external_directory", output, Allow)]);
    let kept = kept(&ours, &laid(&before, &ours, &behind));
    let tail = rules(&[
        ("bash", "*", Deny),
        ("bash", "git *", Ask),
        ("read", "*.key", Deny),
        ("external_directory", output, Allow),
    ]);
    assert_eq!(kept, [ours, tail].concat());
}

#[test]
fn where_nothing_is_denied_the_mode_is_all_there_is() {
    let ours = rules(&[("*", "*", Ask)]);
    let before = rules(&[("*", "*", Allow), ("bash", "*", Allow)]);
    assert_eq!(kept(&ours, &laid(&before, &ours, &before)), ours);
}

#[test]
fn an_exception_is_as_the_last_rule_of_the_mode_has_it() {
    let ours = rules(&[("*", "*", Ask), ("read", "*", Deny), ("*", "*", Allow)]);
    let before = rules(&[("*", "*", Deny), ("read", "*", Allow)]);
    let all = laid(&before, &ours, &[]);
    let last = [all.clone(), kept(&ours, &all)].concat();
    assert_eq!(decide(&last, "read", "a"), Allow);
    assert_eq!(decide(&last, "bash", "a"), Deny);
}

#[test]
fn the_rules_of_the_agent_that_works_are_read() {
    let rule = serde_json::json!([{"permission": "bash", "pattern": "*", "action": "deny"}]);
    let agents = serde_json::json!([
        {"name": "helper", "mode": "subagent", "permission": []},
        {"name": "title", "mode": "primary", "hidden": true, "permission": []},
        {"name": "own", "mode": "primary", "permission": rule},
        {"name": "plan", "mode": "primary", "permission": []},
    ]);
    assert_eq!(of_agent(&agents, None), Ok(rules(&[("bash", "*", Deny)])));
    assert_eq!(of_agent(&agents, Some("plan")), Ok(Vec::new()));
    insta::assert_snapshot!(of_agent(&agents, Some("gone")).unwrap_err(), @r#"it has no agent "gone""#);
    let odd = serde_json::json!([{"name": "own", "mode": "all", "permission": {"bash": "deny"}}]);
    insta::assert_snapshot!(
        of_agent(&odd, None).unwrap_err(),
        @"it does not tell the rules that it decides by"
    );
}

#[test]
fn what_is_written_is_read_again() {
    let some = rules(&[("*", "*", Ask), ("bash", "rm *", Deny), ("edit", "docs/*", Allow)]);
    assert_eq!(Rule::read(&Rule::write(&some)), Some(some));
    assert_eq!(Rule::read(&serde_json::json!([{"permission": "bash"}])), None);
}

fn some_rules(actions: &'static [Action]) -> impl Strategy<Value = Vec<Rule>> {
    const NAMES: [&str; 6] = ["*", "bash", "edit", "read", "mcp_*", "external_directory"];
    const PATTERNS: [&str; 6] = ["*", "a*", "*b", "a b", "git *", "/opencode/tool-output/*"];
    let rule = (
        prop::sample::select(&NAMES[..]),
        prop::sample::select(&PATTERNS[..]),
        prop::sample::select(actions),
    );
    let rule = rule.prop_map(|(name, pattern, action)| Rule::new(name, pattern, action));
    prop::collection::vec(rule, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever a person denies is denied, whatever the mode and the rules of the spec; nothing
    /// else is denied that the mode does not deny; and nothing is allowed that it does not allow.
    #[test]
    fn a_mode_never_loosens_what_a_person_denies(
        before in some_rules(&[Allow, Ask, Deny]),
        behind in some_rules(&[Allow, Ask, Deny]),
        ours in some_rules(&[Allow, Ask, Deny]),
        name in prop::sample::select(&["bash", "edit", "read", "mcp_x", "external_directory"][..]),
        about in prop::sample::select(&["a", "b", "a b", "git log", "/opencode/tool-output/x"][..]),
    ) {
        let ours = [rules(&[("*", "*", Ask)]), ours].concat();
        let all = laid(&before, &ours, &behind);
        let theirs = decide(&[before, behind].concat(), name, about);
        let mode = decide(&ours, name, about);
        let last = decide(&[all.clone(), kept(&ours, &all)].concat(), name, about);
        prop_assert!(theirs != Deny || last == Deny, "loosened: {:?}", kept(&ours, &all));
        prop_assert!(last != Deny || theirs == Deny || mode == Deny, "{:?}", kept(&ours, &all));
        let is_output = about.starts_with("/opencode") && name == "external_directory";
        prop_assert!(last != Allow || mode == Allow || is_output, "{:?}", kept(&ours, &all));
    }
}
