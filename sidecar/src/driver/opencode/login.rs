//! `OPENCODE_AUTH_JSON`: a log-in that comes with the run, as OpenCode's `auth.json` holds it.
//!
//! In a home of the agent's own (a sandbox, a machine in the cloud) it becomes that file, so that
//! tokens which OpenCode renews are kept; what is there already is newer, and stays. The home of
//! the user who runs the server is not touched: there OpenCode gets it by its environment.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use serde_json::{Map, Value};

use crate::wire::RunSpec;

/// What the person sets.
const VARIABLE: &str = "OPENCODE_AUTH_JSON";
/// What OpenCode reads instead of its file.
pub(super) const CONTENT: &str = "OPENCODE_AUTH_CONTENT";

/// The log-in, where OpenCode gets it by its environment.
pub(super) fn by_environment(spec: &RunSpec) -> Option<String> {
    let is_set = value(spec, CONTENT).is_some();
    if is_set || has_own_home(spec) { None } else { wanted(spec).ok().flatten() }
}

/// Puts the log-in into a home of the agent's own, unless one is there. What kept it from being
/// used is answered in one line.
pub(in crate::driver) fn settle(spec: &RunSpec) -> Result<(), String> {
    let Some(login) = wanted(spec)? else { return Ok(()) };
    if !has_own_home(spec) {
        return Ok(());
    }
    let Some(file) = file(spec) else {
        return Err(format!("{VARIABLE} is not used: the agent has no HOME"));
    };
    write(&file, &login)
        .map_err(|error| format!("{VARIABLE} is not used: {}: {error}", file.display()))
}

/// The log-in that is to be used, if there is one.
fn wanted(spec: &RunSpec) -> Result<Option<String>, String> {
    let Some(login) = value(spec, VARIABLE) else { return Ok(None) };
    match serde_json::from_str::<Map<String, Value>>(login) {
        Ok(_) => Ok(Some(login.to_owned())),
        Err(_) => Err(format!(
            "{VARIABLE} is not used: it is no JSON object; give the text of OpenCode's auth.json"
        )),
    }
}

/// Whether the home is the agent's own. A run on this machine that is in no sandbox has the home
/// of the user who runs the server.
fn has_own_home(spec: &RunSpec) -> bool {
    spec.sandbox.is_some() || spec.endpoint_file.is_none()
}

fn file(spec: &RunSpec) -> Option<PathBuf> {
    let sandbox = spec.sandbox.as_ref().map(|sandbox| sandbox.home.as_str());
    let data = match (value(spec, "XDG_DATA_HOME"), sandbox.or_else(|| value(spec, "HOME"))) {
        (Some(data), None | Some(_)) => PathBuf::from(data),
        (None, home) => PathBuf::from(home?).join(".local/share"),
    };
    Some(data.join("opencode/auth.json"))
}

fn write(file: &std::path::Path, login: &str) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut file) => file.write_all(login.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn value<'a>(spec: &'a RunSpec, name: &str) -> Option<&'a str> {
    let variable = spec.env.iter().rev().find(|variable| variable.name == name)?;
    Some(variable.value.as_str()).filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{super::launch::tests::spec, *};

    const LOGIN: &str = r#"{"anthropic":{"type":"api","key":"k"}}"#;

    #[test]
    fn a_home_of_its_own_gets_the_file_and_keeps_a_newer_one() {
        let home = tempfile::tempdir().unwrap();
        let mut spec = spec(&[(VARIABLE, LOGIN), ("HOME", &home.path().to_string_lossy())]);
        spec.endpoint_file = None;
        assert_eq!(settle(&spec), Ok(()));
        assert_eq!(by_environment(&spec), None);
        let file = home.path().join(".local/share/opencode/auth.json");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), LOGIN);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, "renewed").unwrap();
        assert_eq!(settle(&spec), Ok(()));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "renewed");
    }

    #[test]
    fn the_home_of_a_person_is_not_touched() {
        let home = tempfile::tempdir().unwrap();
        let spec = spec(&[(VARIABLE, LOGIN), ("HOME", &home.path().to_string_lossy())]);
        assert_eq!(settle(&spec), Ok(()));
        assert_eq!(by_environment(&spec).as_deref(), Some(LOGIN));
        assert_eq!(home.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_log_in_is_told_and_not_shown() {
        let spec = spec(&[(VARIABLE, "sk-secret")]);
        let why = settle(&spec).unwrap_err();
        assert!(why.contains("no JSON object") && !why.contains("sk-secret"), "{why}");
        assert_eq!(by_environment(&spec), None);
    }
}
