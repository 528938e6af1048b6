//! Where settings come from: files, one over the other, and what is said of bad ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use open_dispatch::config::{Chat, Config, Flags, Layers, Machine, Places, Source};

fn read(cwd: &Path, data: &Path, variables: &[(&str, &str)]) -> Result<Layers, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let (cwd, data) = (cwd.to_owned(), Some(data.to_owned()));
    Layers::read(variables, &Places { cwd, data, config: None }).map_err(|error| error.to_string())
}

fn config(layers: &Layers, data: &Path) -> Config {
    let flags = Flags { data: Some(data.to_owned()), ..Flags::default() };
    Config::resolve(&flags, layers, Machine { cpus: 2 }).unwrap()
}

fn stage() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
    let stage = tempfile::tempdir().unwrap();
    let (cwd, data) = (stage.path().join("cwd"), stage.path().join("data"));
    fs::create_dir(&cwd).unwrap();
    fs::create_dir(&data).unwrap();
    (stage, cwd, data)
}

#[test]
fn the_environment_beats_dot_env_and_dot_env_beats_the_file() {
    let (_stage, cwd, data) = stage();
    fs::write(cwd.join(".env"), "CHAT_PROVIDER=none\nOPEN_DISPATCH_MAX_SPRITES='7' # seven\n")
        .unwrap();
    let file = "chat: console\nmaxSprites: 3\nagent: opencode\nroots: [/srv, ~/projects]\n";
    fs::write(data.join("config.yaml"), file).unwrap();
    let layers = read(&cwd, &data, &[("CHAT_PROVIDER", "console")]).unwrap();
    let config = config(&layers, &data);
    assert_eq!(config.chat.value, std::collections::BTreeSet::from([Chat::Console]));
    assert_eq!(config.chat.source, Source::Environment("CHAT_PROVIDER"));
    assert_eq!(config.max_sprites.value, 7);
    assert_eq!(config.max_sprites.source, Source::DotEnv("OPEN_DISPATCH_MAX_SPRITES"));
    assert_eq!(config.agent.value.as_deref(), Some("opencode"));
    assert_eq!(config.agent.source, Source::File("agent"));
    assert_eq!(config.roots.value.len(), 2);
}

#[test]
fn the_working_directorys_dot_env_is_taken_and_else_the_data_directorys() {
    let (_stage, cwd, data) = stage();
    fs::write(data.join(".env"), "ANTHROPIC_API_KEY=of-data\n").unwrap();
    let layers = read(&cwd, &data, &[]).unwrap();
    assert_eq!(layers.variable("ANTHROPIC_API_KEY").as_deref(), Some("of-data"));
    fs::write(cwd.join(".env"), "GH_TOKEN=of-cwd\n").unwrap();
    let layers = read(&cwd, &data, &[]).unwrap();
    assert_eq!(layers.dot_env(), Some(cwd.join(".env").as_path()));
    assert_eq!(layers.variable("ANTHROPIC_API_KEY"), None);
    // Agents inherit it as if it stood in the environment.
    let environment = config(&layers, &data).environment;
    assert!(environment.contains(&("GH_TOKEN".to_owned(), "of-cwd".to_owned())));
}

#[test]
fn a_dot_env_that_others_can_read_is_warned_of() {
    let (_stage, cwd, data) = stage();
    let path = cwd.join(".env");
    fs::write(&path, "GH_TOKEN=x\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(read(&cwd, &data, &[]).unwrap().warnings(), Vec::<String>::new());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(read(&cwd, &data, &[]).unwrap().warnings().len(), 1);
}

#[test]
fn a_bad_file_is_refused_with_its_place_and_without_a_secret() {
    let (_stage, cwd, data) = stage();
    let refusal = |dot_env: &str, file: &str| {
        fs::write(cwd.join(".env"), dot_env).unwrap();
        fs::write(data.join("config.yaml"), file).unwrap();
        let refusal = read(&cwd, &data, &[]).map(|_| String::new());
        let text = refusal.unwrap_or_else(|refusal| refusal);
        text.replace(&*cwd.to_string_lossy(), "CWD").replace(&*data.to_string_lossy(), "DATA")
    };
    let lines = [
        refusal("GH_TOKEN=hush hush \"x\n", ""),
        refusal("what is this\n", ""),
        refusal("", "chatt: console\n"),
        refusal("", "maxSprites: many\n"),
        refusal("", "chat: [\n"),
        refusal("", "- 1\n"),
    ];
    let text = lines.join("\n");
    assert!(!text.contains("hush"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn an_empty_file_and_one_of_comments_say_nothing() {
    let (_stage, cwd, data) = stage();
    for file in ["", "# nothing\n\n", "# yaml-language-server: $schema=x\n"] {
        fs::write(data.join("config.yaml"), file).unwrap();
        assert!(read(&cwd, &data, &[]).is_ok(), "{file}");
    }
}
