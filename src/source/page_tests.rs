//! What the pages show as a file is one.

use super::{
    Snapshot, SourceFile,
    set::{Limits, Rules, Set},
};
use crate::resource::{Defaults, Document};

/// The pages about Sources, and what may be changed of what they declare.
const PAGES: [&str; 3] = ["docs/sources.md", "docs/overrides.md", "docs/git.md"];

/// The blocks of YAML of a page.
fn blocks(page: &str) -> Vec<String> {
    let parts: Vec<&str> = page.split("```").skip(1).step_by(2).collect();
    let blocks = parts.into_iter().filter_map(|part| part.strip_prefix("yaml\n"));
    blocks.map(str::to_owned).collect()
}

#[test]
fn whole_documents_of_the_pages_can_be_applied() {
    let mut seen = Vec::new();
    for path in PAGES {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let page = std::fs::read_to_string(page).unwrap();
        for text in blocks(&page).into_iter().filter(|text| text.starts_with("apiVersion")) {
            for document in Document::read(&text, Some(path)).unwrap() {
                let object = document.object().unwrap_or_else(|faults| panic!("{path}: {faults}"));
                seen.push(format!("{} of {path}", object.kind()));
            }
            // Nobody but a policy has anything against it.
            let file = SourceFile { path: path.to_owned(), text, repo: None };
            let snapshot = Snapshot { revision: String::new(), files: vec![file] };
            let defaults = Defaults::default();
            let rules =
                Rules { defaults: &defaults, policy: None, source: "ours", limits: Limits::WHOLE };
            if let Err(rejected) = Set::read(&snapshot, rules) {
                assert!(rejected.denied, "{}", rejected.faults);
            }
        }
    }
    assert_eq!(
        seen,
        ["Source of docs/sources.md", "Override of docs/overrides.md", "Source of docs/git.md"]
    );
}
