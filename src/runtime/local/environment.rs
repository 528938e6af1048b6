//! What an agent on this machine gets of the server's environment. `docs/local.md` tells it to
//! people; a test holds the two together.

use sprite_reporter::wire::EnvVar;
pub use sprite_reporter::wire::names_secret as is_secret;

/// What passes by its whole name.
pub const NAMES: &[&str] = &[
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "COLORTERM",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "SSH_AUTH_SOCK",
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_SSH_COMMAND",
    "GH_TOKEN",
    "GITHUB_TOKEN",
    "DATABASE_URL",
    "CLAUDE_CONFIG_DIR",
    "CODEX_HOME",
    "OPENROUTER_API_KEY",
    "MISTRAL_API_KEY",
    "GROQ_API_KEY",
    "XAI_API_KEY",
    "DEEPSEEK_API_KEY",
];

/// What passes by the beginning of its name.
pub const PREFIXES: &[&str] = &[
    "LC_",
    "XDG_",
    "ANTHROPIC_",
    "CLAUDE_CODE_",
    "OPENAI_",
    "AZURE_OPENAI_",
    "GEMINI_",
    "GOOGLE_",
    "AWS_",
    "OPENCODE_",
];

/// What never passes, not even when the configuration names it: the server's own. A spec may
/// set variables of these names, with values of its own.
pub const NEVER: &[&str] = &["OPEN_DISPATCH_", "JOB_TOKEN", "SLACK_", "DISCORD_", "TEAMS_", "FLY_"];

/// What tells an agent's CLI that it runs inside another one, if the server does.
const NESTED: &[&str] = &["CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT"];

/// Picks what an agent gets: the allow-list and the names that the configuration adds, of
/// what the server has; then `spec` over it.
#[must_use]
pub fn pick(server: &[(String, String)], extra: &[String], spec: Vec<EnvVar>) -> Vec<EnvVar> {
    let mut picked: Vec<EnvVar> = server
        .iter()
        .filter(|(name, _)| passes(name, extra))
        .filter(|(name, _)| !spec.iter().any(|variable| variable.name == *name))
        .map(|(name, value)| EnvVar {
            name: name.clone(),
            value: value.clone(),
            secret: is_secret(name),
        })
        .collect();
    picked.extend(spec);
    picked
}

fn passes(name: &str, extra: &[String]) -> bool {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if begins(NEVER) || NESTED.contains(&name) {
        return false;
    }
    NAMES.contains(&name) || begins(PREFIXES) || extra.iter().any(|it| it == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(names: &[&str], extra: &[&str]) -> Vec<String> {
        let server: Vec<_> =
            names.iter().map(|name| ((*name).to_owned(), "value".to_owned())).collect();
        let extra: Vec<_> = extra.iter().map(|name| (*name).to_owned()).collect();
        pick(&server, &extra, Vec::new()).into_iter().map(|variable| variable.name).collect()
    }

    #[test]
    fn what_an_agent_needs_passes_and_nothing_else() {
        let names = ["HOME", "LC_ALL", "ANTHROPIC_API_KEY", "npm_config_x", "CLAUDECODE", "MY_VAR"];
        assert_eq!(picked(&names, &[]), ["HOME", "LC_ALL", "ANTHROPIC_API_KEY"]);
        assert_eq!(picked(&["MY_VAR"], &["MY_VAR"]), ["MY_VAR"]);
    }

    #[test]
    fn the_servers_own_never_passes() {
        let own = [
            "OPEN_DISPATCH_TOKEN",
            "OPEN_DISPATCH_SECRET_X",
            "JOB_TOKEN",
            "JOB_TOKEN_SECRET",
            "SLACK_BOT_TOKEN",
            "DISCORD_TOKEN",
            "TEAMS_PASSWORD",
            "FLY_API_TOKEN",
        ];
        assert_eq!(picked(&own, &own), Vec::<String>::new());
    }

    #[test]
    fn the_spec_comes_last_and_keys_are_secret() {
        let variable = |name: &str, value: &str, secret| EnvVar {
            name: name.into(),
            value: value.into(),
            secret,
        };
        let server = [("HOME".into(), "/root".into()), ("OPENAI_API_KEY".into(), "sk".into())];
        assert_eq!(
            pick(&server, &[], vec![variable("HOME", "/else", false)]),
            [variable("OPENAI_API_KEY", "sk", true), variable("HOME", "/else", false)]
        );
        assert!(!is_secret("OPENAI_BASE_URL"));
        assert!(!is_secret("GOOGLE_APPLICATION_CREDENTIALS"));
        assert!(is_secret("CLAUDE_CODE_OAUTH_TOKEN"));
    }

    #[test]
    fn the_documentation_names_everything_that_passes() {
        let page = include_str!("../../../docs/local.md");
        for name in NAMES.iter().chain(PREFIXES).chain(NEVER) {
            assert!(page.contains(&format!("`{name}")), "docs/local.md does not name {name}");
        }
    }
}
