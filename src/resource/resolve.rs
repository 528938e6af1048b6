//! What a person need not say: which CLI works, with which model, and where.
//!
//! Whoever takes a spec from a person (chat, the API, the command line) fills it here before it
//! is checked, so that all give the same answer. What a flag or the spec says stays as it is.
//! Where they are silent, the server's configuration speaks, then its environment
//! (`SPRITE_AGENT_TYPE`, `OPENCODE_MODEL`), then the machine: the first CLI that is found on the
//! server's `PATH`. A shell (`command`) stands in only where that is said to be right: on the
//! console, where whoever types could type into a shell as well.
//!
//! Where a spec names a work directory, [`Defaults::check_place`] says whether it lies within
//! the configured roots; where it names a machine, whether there are any, and from such an
//! image. What is on the server's `PATH` says nothing of an image: there Claude Code works where
//! nobody is configured or named. The file system is looked at through functions that are handed in, so
//! that every rule can be tested without one.

use std::{
    env,
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

use serde_json::{Map, Value, json};

use super::{AcpCli, AgentCli, ClaudeCli, CodexCli, CommandCli, Fault, Images, OpencodeCli};

/// The CLIs that are looked for on the server's `PATH`, in this order, with the agents that they
/// are.
const SEARCHED: [(&str, &str); 3] =
    [("claude", "claude"), ("opencode", "opencode"), ("codex-acp", "codex")];

/// The names that a flag or `SPRITE_AGENT_TYPE` can give, for people.
pub const AGENT_NAMES: &str = "claude, opencode, codex, gemini and command";

/// An agent CLI by the name that a flag or `SPRITE_AGENT_TYPE` gives, whatever the case.
///
/// # Errors
/// That there is none of that name, with those that there are.
pub fn agent_named(name: &str) -> Result<AgentCli, NoAgent> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "claude" => AgentCli::Claude(ClaudeCli::default()),
        "opencode" => AgentCli::Opencode(OpencodeCli::default()),
        "codex" => AgentCli::Codex(CodexCli::default()),
        "gemini" => AgentCli::Acp(AcpCli {
            command: ["gemini", "--acp"].map(str::to_owned).to_vec(),
            model: None,
        }),
        "command" => AgentCli::Command(CommandCli::default()),
        "acp" => return Err(NoAgent::NeedsCommand),
        _ => return Err(NoAgent::Unknown(name.to_owned())),
    })
}

/// A name that is no agent's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAgent {
    /// Nobody has this name.
    #[error("`{0}` is no agent; the agents are {AGENT_NAMES}")]
    Unknown(String),
    /// `acp` is a protocol: a name alone does not say what to start.
    #[error("`acp` needs a command line; declare spec.agent.acp.command in YAML")]
    NeedsCommand,
}

/// What holds where a spec is silent.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// The agent that is configured, with its model.
    pub agent: Option<AgentCli>,
    /// The agents whose CLIs were found on the server's machine; the first is taken.
    pub found: Vec<AgentCli>,
    /// The model of an OpenCode agent that names none, as `provider/model`.
    pub opencode_model: Option<String>,
    /// The home of the user who runs the server: an absolute path.
    pub home: PathBuf,
    /// Where agents may work: absolute paths. The root directory allows everything.
    pub roots: Vec<PathBuf>,
    /// The images of machines; nothing where the server has no Fly.
    pub images: Option<Images>,
    /// Whether what names no place runs as a machine.
    pub on_fly: bool,
    /// Where a path leads once all links in it are followed, as far as it exists.
    pub real: fn(&Path) -> PathBuf,
}

impl Default for Defaults {
    /// Nothing is configured, nothing was found, and every place is allowed.
    fn default() -> Self {
        Self {
            agent: None,
            found: Vec::new(),
            opencode_model: None,
            home: PathBuf::from("/"),
            roots: vec![PathBuf::from("/")],
            images: None,
            on_fly: false,
            real: Path::to_path_buf,
        }
    }
}

/// Why the environment cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `SPRITE_AGENT_TYPE` names nobody.
    #[error("SPRITE_AGENT_TYPE: {0}")]
    Agent(#[from] NoAgent),
    /// A root is no absolute path.
    #[error(
        "OPEN_DISPATCH_ROOTS: `{}` is no absolute path; begin it with / or ~/, and put a colon \
         between two",
        .0.display()
    )]
    Root(PathBuf),
}

impl Defaults {
    /// Reads the environment through `variable`, for a user with this home; `is_program` says
    /// whether a path is a file that can be run.
    ///
    /// # Errors
    /// A variable that says something which cannot be.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
        home: &Path,
        is_program: impl Fn(&Path) -> bool,
    ) -> Result<Self, Error> {
        let said = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let agent = said("SPRITE_AGENT_TYPE").map(|name| agent_named(name.trim())).transpose()?;
        let search = said("PATH").unwrap_or_default();
        let found = SEARCHED
            .into_iter()
            .filter(|(program, _)| is_on(search.as_ref(), program, &is_program))
            .filter_map(|(_, name)| agent_named(name).ok())
            .collect();
        let roots = match said("OPEN_DISPATCH_ROOTS") {
            None => vec![home.to_owned()],
            Some(list) => env::split_paths(&list)
                .filter(|root| !root.as_os_str().is_empty())
                .map(|root| {
                    let whole = below_home(&root, home);
                    if whole.is_absolute() { Ok(whole) } else { Err(Error::Root(root)) }
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            agent,
            found,
            opencode_model: said("OPENCODE_MODEL").map(|model| model.trim().to_owned()),
            home: home.to_owned(),
            roots,
            images: None,
            on_fly: false,
            real: real_path,
        })
    }

    /// Reads this process's environment and looks on this machine.
    ///
    /// # Errors
    /// As [`Defaults::from_environment`].
    pub fn of_this_machine(home: &Path) -> Result<Self, Error> {
        Self::from_environment(|name| env::var(name).ok(), home, is_program)
    }

    /// The agent of a spec that names none. `console` allows a shell as the last resort.
    #[must_use]
    pub fn agent(&self, console: bool) -> Option<AgentCli> {
        let last = || console.then(|| AgentCli::Command(CommandCli::default()));
        self.agent.clone().or_else(|| self.found.first().cloned()).or_else(last)
    }

    /// The agent in a machine, for a spec that names none. What the image holds is not known
    /// here; the original's hold Claude Code.
    #[must_use]
    pub fn agent_on_fly(&self) -> AgentCli {
        self.agent.clone().unwrap_or_else(|| AgentCli::Claude(ClaudeCli::default()))
    }

    /// Fills in where it runs, the agent, and the model of one that has none, in the `spec` of an
    /// Agent or a Job that is still JSON. What is of the wrong type stays, for the schema to say so.
    ///
    /// # Errors
    /// Where no agent is named and none can be found.
    pub fn fill(&self, spec: &mut Value, console: bool) -> Result<(), Fault> {
        let Value::Object(spec) = spec else { return Ok(()) };
        if self.on_fly && spec.get("runtime").is_none_or(Value::is_null) {
            spec.insert("runtime".to_owned(), json!({"fly": {}}));
        }
        if spec.get("agent").is_none_or(Value::is_null) {
            let there = spec.get("runtime").is_some_and(|runtime| machine(runtime).is_some());
            let agent = if there { Some(self.agent_on_fly()) } else { self.agent(console) };
            let Some(agent) = agent else {
                return Err(Fault::new(
                    "spec.agent",
                    "is missing, and none of claude, opencode and codex-acp is on the server's \
                     PATH; install one there, set SPRITE_AGENT_TYPE, or name an agent here",
                ));
            };
            spec.insert("agent".to_owned(), json!(agent));
        }
        let Some(Value::Object(agent)) = spec.get_mut("agent") else { return Ok(()) };
        self.fill_model(agent);
        Ok(())
    }

    fn fill_model(&self, agent: &mut Map<String, Value>) {
        let (Some(model), Some(cli)) = (&self.opencode_model, agent.get_mut("opencode")) else {
            return;
        };
        if cli.is_null() {
            *cli = json!({});
        }
        if let Value::Object(cli) = cli
            && cli.get("model").is_none_or(Value::is_null)
        {
            cli.insert("model".to_owned(), model.as_str().into());
        }
    }

    /// As [`Defaults::fill`], for an agent that was named already.
    #[must_use]
    pub fn with_model(&self, mut agent: AgentCli) -> AgentCli {
        if let AgentCli::Opencode(cli) = &mut agent
            && cli.model.is_none()
        {
            cli.model.clone_from(&self.opencode_model);
        }
        agent
    }

    /// Whether the place that a `spec` names on the server's machine lies within the roots, or
    /// whether there are machines, and from this image. A spec with a repository and no place gets
    /// a directory of its own, which is always fine.
    ///
    /// # Errors
    /// That it does not, with the roots; or what is known of Fly and of images.
    pub fn check_place(&self, spec: &Value) -> Result<(), Fault> {
        const PATH: &str = "spec.runtime.local.workdir";
        if let Some(machine) = spec.get("runtime").and_then(machine) {
            return self.check_machine(machine);
        }
        let named = named_place(spec);
        let Some(place) = self.place(spec) else { return Ok(()) };
        if !place.is_absolute() || self.allows(&place) {
            // A relative path is refused by the rules of specs, which say how to mend it.
            return Ok(());
        }
        let roots: Vec<String> = self.roots.iter().map(|root| root.display().to_string()).collect();
        let what = match named {
            Some(named) => format!("`{named}`"),
            None => format!("is missing, and the home {}", self.home.display()),
        };
        let message = format!(
            "{what} is outside of where agents may work: {}; choose a place there (on \
             the command line: --workdir {}), or add one to OPEN_DISPATCH_ROOTS on the server",
            roots.join(", "),
            roots.first().map_or("~", String::as_str)
        );
        Err(Fault::new(PATH, message))
    }

    /// As [`Defaults::check_place`], for a `spec` that takes the place of an `old` one: a place
    /// that stays is not asked for again, whatever the roots are by now and whatever else changes.
    ///
    /// # Errors
    /// As [`Defaults::check_place`].
    pub fn check_move(&self, old: &Value, spec: &Value) -> Result<(), Fault> {
        let image = |spec: &Value| {
            let machine = spec.get("runtime").and_then(machine)?;
            Some(machine.get("image").cloned().unwrap_or_default())
        };
        match (image(old), image(spec)) {
            (None, None) => {}
            (was, is) if was == is => return Ok(()),
            _ => return self.check_place(spec),
        }
        // As it is written; a path that leads nowhere stays nowhere.
        let plain = |spec: &Value| {
            self.place(spec).map(|place| normal(&place).filter(|_| place.is_absolute()))
        };
        if plain(old) == plain(spec) { Ok(()) } else { self.check_place(spec) }
    }

    fn check_machine(&self, machine: &Value) -> Result<(), Fault> {
        let Some(images) = &self.images else {
            let message = "needs Fly Machines, and this server has none: set FLY_API_TOKEN, \
                           FLY_SPRITE_APP and SPRITE_IMAGE on it (docs/fly.md), or let it run on \
                           the server's machine, as runtime local";
            return Err(Fault::new("spec.runtime.fly", message));
        };
        let named = match machine.get("image") {
            None | Some(Value::Null) => None,
            Some(Value::String(named)) => Some(named.as_str()),
            // The schema has said so.
            Some(_) => return Ok(()),
        };
        match images.resolve(named) {
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::new("spec.runtime.fly.image", error.to_string())),
        }
    }

    /// The place on the server's machine that a `spec` chooses; none where it gets a directory of
    /// its own, or lives elsewhere.
    fn place(&self, spec: &Value) -> Option<PathBuf> {
        let has_repo = spec.get("repo").is_some_and(|repo| !repo.is_null());
        match named_place(spec) {
            _ if spec.get("runtime").and_then(machine).is_some() => None,
            None if has_repo => None,
            None => Some(self.home.clone()),
            Some(named) => Some(below_home(Path::new(named), &self.home)),
        }
    }

    /// Whether a path lies within a root: as it is written, and where its links lead.
    fn allows(&self, place: &Path) -> bool {
        let within = |place: &Path, root: &dyn Fn(&Path) -> PathBuf| {
            self.roots.iter().any(|allowed| place.starts_with(root(allowed)))
        };
        let Some(plain) = normal(place) else { return false };
        // A root may be a link itself: then what is written below it is allowed by its name,
        // and where it leads by where the root leads.
        within(&(self.real)(&plain), &|root| (self.real)(root))
            && (within(&plain, &Path::to_path_buf) || within(&plain, &|root| (self.real)(root)))
    }
}

/// What a `runtime` says of a machine.
fn machine(runtime: &Value) -> Option<&Value> {
    runtime.get("fly").filter(|fly| !fly.is_null())
}

/// The work directory that a `spec` names.
fn named_place(spec: &Value) -> Option<&str> {
    spec.pointer("/runtime/local/workdir").and_then(Value::as_str)
}

/// `~` and what is below it, as an absolute path; all else as it is.
#[must_use]
pub fn below_home(path: &Path, home: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) if rest.as_os_str().is_empty() => home.to_owned(),
        Ok(rest) => home.join(rest),
        Err(_) => path.to_owned(),
    }
}

/// An absolute path without `.` and `..`; none if it leads out of the root directory.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                if !plain.pop() {
                    return None;
                }
            }
        }
    }
    Some(plain)
}

/// Where a path leads: its deepest part that exists, with links followed, and the rest as it is.
fn real_path(path: &Path) -> PathBuf {
    for front in path.ancestors() {
        if let Ok(real) = front.canonicalize() {
            return match path.strip_prefix(front) {
                Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
                _ => real,
            };
        }
    }
    path.to_owned()
}

fn is_on(search: &OsStr, program: &str, is_program: impl Fn(&Path) -> bool) -> bool {
    env::split_paths(search)
        .filter(|directory| directory.is_absolute())
        .any(|directory| is_program(&directory.join(program)))
}

/// Whether a path is a file that this user can run.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn defaults(variables: &[(&str, &str)], programs: &[&str]) -> Result<Defaults, Error> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let is_program = |path: &Path| programs.iter().any(|known| Path::new(known) == path);
        let mut defaults = Defaults::from_environment(variable, Path::new("/home/a"), is_program)?;
        defaults.real = Path::to_path_buf;
        Ok(defaults)
    }

    fn filled(defaults: &Defaults, mut spec: Value, console: bool) -> Value {
        match defaults.fill(&mut spec, console) {
            Ok(()) => spec["agent"].take(),
            Err(fault) => fault.to_string().into(),
        }
    }

    #[test]
    fn what_is_said_beats_the_environment_and_that_beats_what_is_found() {
        let on_path = ["/bin/opencode", "/bin/codex-acp", "/opt/claude"];
        let found = defaults(&[("PATH", "/usr/bin:/bin:relative")], &on_path).unwrap();
        assert_eq!(filled(&found, json!({}), true), json!({"opencode": {}}));
        assert_eq!(filled(&found, json!({"agent": null}), true), json!({"opencode": {}}));
        let both = defaults(&[("PATH", "/bin:/opt"), ("OPENCODE_MODEL", "a/b")], &on_path).unwrap();
        assert_eq!(filled(&both, json!({}), false), json!({"claude": {}}));
        let variables = [("PATH", "/bin"), ("SPRITE_AGENT_TYPE", "Codex")];
        let said = defaults(&variables, &on_path).unwrap();
        assert_eq!(filled(&said, json!({}), false), json!({"codex": {}}));
        let spec = json!({"agent": {"claude": {"model": "opus"}}});
        assert_eq!(filled(&said, spec.clone(), false), spec["agent"]);
    }

    #[test]
    fn a_shell_is_the_last_resort_on_the_console_and_nowhere_else() {
        let nothing = defaults(&[("PATH", "/bin"), ("SPRITE_AGENT_TYPE", " ")], &[]).unwrap();
        assert_eq!(filled(&nothing, json!({}), true), json!({"command": {}}));
        insta::assert_snapshot!(filled(&nothing, json!({}), false).as_str().unwrap());
    }

    #[test]
    fn an_opencode_agent_without_a_model_gets_the_environments() {
        let said = defaults(&[("OPENCODE_MODEL", "anthropic/x")], &[]).unwrap();
        let model = json!({"opencode": {"model": "anthropic/x"}});
        assert_eq!(filled(&said, json!({"agent": {"opencode": {}}}), false), model);
        assert_eq!(filled(&said, json!({"agent": {"opencode": null}}), false), model);
        let own = json!({"agent": {"opencode": {"model": "b/c"}}});
        assert_eq!(filled(&said, own.clone(), false), own["agent"]);
        let odd = json!({"agent": {"opencode": "x"}});
        assert_eq!(filled(&said, odd.clone(), false), odd["agent"]);
        assert_eq!(filled(&said, json!({"agent": {"claude": {}}}), false), json!({"claude": {}}));
    }

    #[test]
    fn a_variable_that_cannot_be_is_told_with_its_name() {
        let errors = [
            ("SPRITE_AGENT_TYPE", "clod"),
            ("SPRITE_AGENT_TYPE", "acp"),
            ("OPEN_DISPATCH_ROOTS", "/a:b"),
        ]
        .map(|variable| defaults(&[variable], &[]).unwrap_err().to_string());
        insta::assert_snapshot!(errors.join("\n"));
    }

    fn place(roots: &str, spec: &Value) -> Result<(), String> {
        let variables =
            if roots.is_empty() { vec![] } else { vec![("OPEN_DISPATCH_ROOTS", roots)] };
        defaults(&variables, &[]).unwrap().check_place(spec).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_place_lies_within_the_roots_or_is_refused_with_them() {
        let at = |path: &str| json!({"runtime": {"local": {"workdir": path}}});
        for (roots, path) in [
            ("", "~"),
            ("", "~/p"),
            ("", "/home/a/p/../q"),
            ("/srv:~/p", "~/p/q"),
            ("/srv:", "/srv"),
            ("/", "/etc"),
            ("", "relative"),
        ] {
            assert_eq!(place(roots, &at(path)), Ok(()), "{roots} {path}");
        }
        assert_eq!(place("/srv", &json!({"repo": {"github": "a/b"}})), Ok(()));
        let refused = [
            ("", at("/etc")),
            ("", at("~/../b")),
            ("", at("/home/ab")),
            ("", at("/../../home/a")),
            ("/srv:~/p", at("~")),
            ("/srv", json!({})),
        ];
        let told = refused.map(|(roots, spec)| place(roots, &spec).unwrap_err());
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_machine_is_refused_without_fly_and_from_an_image_that_nobody_knows() {
        let bare = defaults(&[("OPEN_DISPATCH_ROOTS", "/srv")], &[]).unwrap();
        let aliases = [("node".to_owned(), "registry.fly.io/a/node:v1".to_owned())].into();
        let images = Images { usual: Some("node".into()), aliases, allowed: Vec::new() };
        let fly = Defaults { images: Some(images), ..bare.clone() };
        let from = |image: &str| json!({"runtime": {"fly": {"image": image}}});
        let any = json!({"runtime": {"fly": {}}});
        assert_eq!(fly.check_place(&any), Ok(()));
        assert_eq!(fly.check_place(&from("node")), Ok(()));
        let told = [(&bare, &any), (&fly, &from("nod"))].map(|(defaults, spec)| {
            defaults.check_place(spec).map_err(|fault| fault.to_string()).unwrap_err()
        });
        insta::assert_snapshot!(told.join("\n"));
        // What was taken once may be stopped and changed, whatever is configured by now.
        let mut stopped = from("old");
        stopped["suspend"] = true.into();
        assert_eq!(bare.check_move(&from("old"), &stopped), Ok(()));
        assert!(fly.check_move(&from("old"), &from("older")).is_err());
        assert!(bare.check_move(&json!({"runtime": {"local": {}}}), &any).is_err());
    }

    #[test]
    fn on_fly_what_names_no_place_gets_a_machine_with_claude_in_it() {
        let there = Defaults { on_fly: true, ..Defaults::default() };
        let filled = |defaults: &Defaults, mut spec: Value| {
            defaults.fill(&mut spec, true).unwrap();
            spec
        };
        let machine = json!({"runtime": {"fly": {}}, "agent": {"claude": {}}});
        assert_eq!(filled(&there, json!({})), machine);
        let local = json!({"runtime": {"local": {}}, "agent": {"command": {}}});
        assert_eq!(filled(&there, json!({"runtime": {"local": {}}})), local);
        // Here a shell would do; in a machine nobody knows that.
        assert_eq!(filled(&Defaults::default(), json!({"runtime": {"fly": {}}})), machine);
    }

    #[test]
    fn a_place_that_stays_is_not_asked_for_again_whatever_else_changes() {
        let defaults = defaults(&[("OPEN_DISPATCH_ROOTS", "/srv")], &[]).unwrap();
        let at = |path: &str, more: Value| json!({"runtime": {"local": {"workdir": path}}, "repo": more});
        let sandboxed =
            json!({"runtime": {"local": {"workdir": "/home/a/p", "isolation": "sandbox"}}});
        let branch = |branch: &str| json!({"github": "a/b", "branch": branch});
        let none = Value::Null;
        let old = at("~/p", none.clone());
        for (old, new) in [
            (&old, &sandboxed),
            (&old, &at("/home/a/./q/../p", none.clone())),
            (&at("~/p", branch("x")), &at("~/p", branch("y"))),
            (&at("~/p", branch("x")), &old),
            (&json!({}), &json!({"runtime": {"local": {"isolation": "worktree"}}})),
            (&at("~/p", none.clone()), &at("/srv/p", none.clone())),
        ] {
            assert_eq!(defaults.check_move(old, new), Ok(()), "{old} -> {new}");
        }
        for (old, new) in [
            (&old, &at("~/q", none.clone())),
            (&old, &json!({})),
            (&json!({"repo": branch("x")}), &json!({})),
            (&json!({"runtime": {"fly": {}}}), &json!({})),
        ] {
            assert!(defaults.check_move(old, new).is_err(), "{old} -> {new}");
        }
    }

    #[test]
    fn a_link_that_leads_out_is_no_way_out() {
        let mut defaults = defaults(&[], &[]).unwrap();
        let at = |path: &str| json!({"runtime": {"local": {"workdir": path}}});
        defaults.real = |path| match path.strip_prefix("/home/a/etc") {
            Ok(rest) => Path::new("/etc").join(rest),
            Err(_) => path.to_owned(),
        };
        assert!(defaults.check_place(&at("~/etc/ssl")).is_err());
        // The home itself may be a link.
        defaults.real = |path| match path.strip_prefix("/home/a") {
            Ok(rest) => Path::new("/data/a").join(rest),
            Err(_) => path.to_owned(),
        };
        assert_eq!(defaults.check_place(&at("~/p")), Ok(()));
        assert_eq!(defaults.check_place(&at("/data/a/p")), Ok(()));
    }

    #[test]
    fn links_are_followed_as_far_as_a_path_exists() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let real = real.canonicalize().unwrap();
        assert_eq!(real_path(&link.join("a/b")), real.join("a/b"));
        assert_eq!(real_path(&link), real);
    }

    proptest! {
        #[test]
        fn no_way_of_writing_a_path_leads_out(path in "(/|\\.|\\.\\.|a|home|~){0,12}") {
            let defaults = defaults(&[], &[]).unwrap();
            let spec = json!({"runtime": {"local": {"workdir": path}}});
            if defaults.check_place(&spec).is_ok() {
                let whole = below_home(Path::new(&path), Path::new("/home/a"));
                prop_assert!(
                    !whole.is_absolute() || normal(&whole).unwrap().starts_with("/home/a")
                );
            }
        }
    }
}
