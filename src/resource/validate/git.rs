//! The addresses of a Source's repositories: such as git may be given, and none twice. Whoever reads them
//! asks the same again; here a document hears it with its place.

use super::{
    super::{
        fault::Fault,
        remote::{MAX_REPOS, Remote},
        tree::Node,
    },
    texted,
};

pub(super) fn addresses(git: &Node, faults: &mut Vec<Fault>) {
    let mut say = |node: &Node, path: &str, message: String| {
        faults.push(node.fault(format!("spec.from.git.{path}"), message));
    };
    let repos = git.get("repos").map(Node::items).unwrap_or_default();
    if repos.len() > MAX_REPOS {
        let message = format!("names more than {MAX_REPOS} repositories; make several Sources");
        say(git, "repos", message);
    }
    let named = texted(git.get("url")).map(|(node, text)| ("url".to_owned(), node, text));
    let several = repos.iter().enumerate().filter_map(|(n, node)| {
        texted(Some(node)).map(|(node, text)| (format!("repos[{n}]"), node, text))
    });
    let mut names: Vec<String> = Vec::new();
    for (path, node, text) in named.into_iter().chain(several) {
        match Remote::parse(text) {
            Err(why) => say(node, &path, why),
            Ok(remote) => {
                // The files of one may not lie behind the name of another.
                let name = format!("{}/", remote.name);
                let clash = |other: &&String| other.starts_with(&name) || name.starts_with(*other);
                if let Some(other) = names.iter().find(clash) {
                    let other = other.trim_end_matches('/');
                    say(node, &path, format!("names {other} again; leave one of them out"));
                }
                names.push(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::resource::{Kind, tree::Node};

    fn told(git: Value) -> String {
        let object = json!({
            "metadata": {"name": "ops"},
            "spec": {"from": {"git": git}},
        });
        let mut faults = Vec::new();
        super::super::rules(Kind::Source, &Node::from(object), &mut faults);
        faults.iter().map(|fault| format!("{fault}\n")).collect()
    }

    #[test]
    fn what_git_can_be_given_has_no_fault() {
        assert_eq!(told(json!({"url": "acme/ops", "branch": "main", "path": "a/b"})), "");
        let repos = json!(["acme/api", "https://git.example.com/team/web.git"]);
        assert_eq!(told(json!({"repos": repos, "tokenFromSecret": "github"})), "");
    }

    #[test]
    fn each_fault_of_a_repository_is_told_with_its_place() {
        let mut all = String::new();
        for git in [
            json!({"url": "https://t0ken@example.com/a"}),
            json!({"url": "--upload-pack=touch x"}),
            json!({"repos": ["acme/api", "http://example.com/a", "https://github.com/acme/api"]}),
        ] {
            all += &told(git);
        }
        assert!(!all.contains("t0ken"), "{all}");
        let lines: Vec<&str> = all.lines().collect();
        let begins = [
            "spec.from.git.url: has credentials in it",
            "spec.from.git.url: begins with a dash",
            "spec.from.git.repos[1]: is http",
            "spec.from.git.repos[2]: names acme/api again",
        ];
        assert_eq!(lines.len(), begins.len(), "{all}");
        for (line, begin) in lines.iter().zip(begins) {
            assert!(line.starts_with(begin), "{line}");
        }
    }
}
