use proptest::prelude::*;

use super::*;
use crate::chat::{
    platform::Markup,
    split::{Piece, Splitter, Unit},
};

const STORY: &str = "# The *end* of **it**\n\
    #### Deep\n\
    Some **bold**, *leaning*, ~~gone~~ and ***both***; `a < b && c` and ``x ` y``.\n\
    foo**bar**baz, snake_case_name, 2 * 3 * 4, \\*not this\\*.\n\
    \n\
    - one\n\
    * two\n    + deep **item**\n\
    - [ ] to do\n\
    - [x] done\n\
    1. first\n\
    2) second\n\
    > quoted & <b>\n\
    >> more\n\
    ---\n\
    [The docs](https://example.com/a_(b)?x=1&y=2), <https://example.com>, ![a cat](https://example.com/c.png), \
    [local](src/lib.rs), [**strong** | bar](https://example.com)\n\
    @everyone and <!channel>, <@U123>, <#C1>, <@&55> & @here: [@everyone](https://x.org/@here)\n\
    | name | size | note |\n\
    |:-----|-----:|:----:|\n\
    | `a.rs` | 12 | **new** |\n\
    | 汉字 | 1,000 | a \\| b |\n\
    \n\
    a | b is no table\n\
    ```rust,ignore\n\
    let x: Vec<&str> = vec![];\n\
    ```\n\
    ````md\n\
    ```\n\
    inner\n\
    ```\n\
    ````\n\
    ~~~\n\
    tilde\n\
    ~~~\n\
    1. item\n   ```sh\n   make\n     all\n   ```\n\
    the end";

const ALL: [Dialect; 3] = [Dialect::Slack, Dialect::Discord, Dialect::Teams];

#[test]
fn slack_reads_well() {
    insta::assert_snapshot!(translate(Dialect::Slack, STORY));
}

#[test]
fn discord_reads_well() {
    insta::assert_snapshot!(translate(Dialect::Discord, STORY));
}

#[test]
fn teams_reads_well() {
    insta::assert_snapshot!(translate(Dialect::Teams, STORY));
}

#[test]
fn plain_text_is_not_touched() {
    assert_eq!(translate(Dialect::Plain, STORY), STORY);
}

#[test]
fn a_table_that_grows_is_shown_as_far_as_it_came() {
    let mut translator = Translator::new(Dialect::Slack);
    assert_eq!(translator.push("| a | b |\n|---|---|\n| 1 | 2"), "");
    assert_eq!(translator.rest(), "```\na  b\n────\n1  2\n```\n");
    assert_eq!(translator.push(" |\n\nend"), "```\na  b\n────\n1  2\n```\n\n");
    assert_eq!(translator.rest(), "end");
}

fn words() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![
            Just("```\n".to_owned()),
            Just("````md\n".to_owned()),
            Just("~~~\n".to_owned()),
            Just("   ```rust\n".to_owned()),
            Just("**bo".to_owned()),
            Just("| a | b |\n".to_owned()),
            Just("|---|:-:|\n".to_owned()),
            Just("👩‍👩‍👧‍👦".to_owned()),
            Just("e\u{301}".to_owned()),
            Just("<@U1> @everyone <!here> ".to_owned()),
            Just("[a](https://x.org) ".to_owned()),
            Just("# ".to_owned()),
            Just("\n".to_owned()),
            Just("\r\n".to_owned()),
            Just("word ".repeat(80)),
            "[a-z ]{0,30}",
            "[*_~`<>&|\\\\\\[\\]()!#@ \n-]{0,10}",
            "\\PC{0,8}",
        ],
        0..30,
    )
    .prop_map(|words| words.concat())
}

fn dialects() -> impl Strategy<Value = Dialect> {
    proptest::sample::select(ALL.to_vec())
}

proptest! {
    #[test]
    fn how_it_came_makes_no_difference_and_what_came_out_stays(
        text in words(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        dialect in dialects(),
    ) {
        let borders: Vec<usize> =
            text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|at| *at.get(&borders)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut translator = Translator::new(dialect);
        let mut out = String::new();
        for pair in cuts.windows(2) {
            out.push_str(&translator.push(&text[pair[0]..pair[1]]));
        }
        out.push_str(&translator.rest());
        prop_assert_eq!(out, translate(dialect, &text));
    }

    #[test]
    fn cut_into_messages_nothing_is_lost_and_every_fence_is_closed(
        text in words(), limit in 64_usize..200, dialect in dialects(),
        unit in prop_oneof![Just(Unit::CodePoints), Just(Unit::Utf16), Just(Unit::Bytes)],
    ) {
        let whole = translate(dialect, &text);
        let pieces = Splitter::new(limit, unit, Markup::Markdown).preview(&whole);
        let joined: String = pieces.iter().map(Piece::body).collect();
        prop_assert_eq!(&joined, &whole);
        for piece in &pieces {
            prop_assert!(unit.measure(&piece.text) <= limit, "{:?}", piece);
            let fences = piece.text.lines().filter(|line| {
                fence_line(line).is_some_and(|(fence, _)| fence.mark == '`')
            });
            prop_assert_eq!(fences.count() % 2, 0, "{}", piece.text);
        }
    }

    #[test]
    fn nobody_is_called(text in words(), dialect in dialects()) {
        // Within code a platform calls nobody: neither in what the text has of it, nor in a table,
        // which is shown in a fence.
        let text = text.replace(['`', '~'], "");
        let mut within = false;
        let whole = translate(dialect, &text);
        let open = whole.lines().filter(|line| {
            let is_fence = line.starts_with("```");
            within ^= is_fence;
            !within && !is_fence
        });
        let out = open.collect::<Vec<_>>().join("\n");
        for call in ["@everyone", "@here", "<@"] {
            prop_assert!(!out.contains(call), "{call} in {out}");
        }
        if dialect == Dialect::Slack {
            prop_assert!(!out.contains("<!"), "{out}");
        }
    }

    #[test]
    fn a_visible_character_is_never_parted(text in "(👩‍👩‍👧‍👦|e\u{301}|🇩🇪|a| ){0,80}", dialect in dialects()) {
        use unicode_segmentation::UnicodeSegmentation as _;
        let whole = translate(dialect, &text);
        let pieces = Splitter::new(64, Unit::Utf16, Markup::Markdown).preview(&whole);
        let parted: Vec<&str> = pieces.iter().flat_map(|piece| piece.body().graphemes(true)).collect();
        let same: Vec<&str> = whole.graphemes(true).collect();
        prop_assert_eq!(parted, same);
    }
}
