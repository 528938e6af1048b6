//! `service`: the system keeps the server up, and never touches its agents.
//!
//! What is written and what is run are one value, [`Plan`], made by a pure function; `--print` shows
//! it, and doing it is all that is left.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    args::{ServiceArgs, ServiceCommand},
    error::Error,
    out,
};
use crate::config;

/// The service's name, as systemd knows it.
const UNIT: &str = "open-dispatch.service";
/// The service's name, as launchd knows it.
const LABEL: &str = "dev.opendispatch.server";

/// What launchctl answers where there is nothing to stop.
const NOT_LOADED: [i32; 2] = [3, 113];

/// Who keeps services up here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Systemd,
    Launchd,
}

/// What a service is made of.
struct Terms<'a> {
    keeper: Keeper,
    system: bool,
    /// This program.
    program: &'a Path,
    data: &'a Path,
    home: &'a Path,
    /// Where agents' CLIs are found: a service has no search path of a person's.
    path: &'a str,
    uid: u32,
}

/// What to write and to run.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    file: PathBuf,
    text: String,
    /// What makes way for another try of the same, where one is installed already.
    make_way: Vec<Vec<String>>,
    install: Vec<Vec<String>>,
    uninstall: Vec<Vec<String>>,
    hint: String,
}

/// Runs `service`.
///
/// # Errors
/// What is in the way, with the mend.
pub fn run(command: ServiceCommand) -> Result<u8, Error> {
    let (args, install) = match command {
        ServiceCommand::Install(args) => (args, true),
        ServiceCommand::Uninstall(args) => (args, false),
    };
    let plan = plan_here(&args)?;
    if args.print {
        return print(&plan, install).map(|()| 0);
    }
    if install { do_install(&plan) } else { do_uninstall(&plan) }.map(|()| 0)
}

fn plan_here(args: &ServiceArgs) -> Result<Plan, Error> {
    let failed = |what: String| Error::Serve(what);
    let program = std::env::current_exe()
        .map_err(|error| failed(format!("this program cannot be found: {error}")))?;
    let data = config::data_dir(args.data.clone(), |name| std::env::var(name).ok())?.value;
    let data = std::path::absolute(&data)
        .map_err(|error| failed(format!("{}: {error}", data.display())))?;
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    let uid = rustix::process::geteuid().as_raw();
    if args.system && uid != 0 && !args.print {
        return Err(failed(
            "a service of the machine needs root; leave --system out, or use \
                           sudo"
                .to_owned(),
        ));
    }
    let keeper = if cfg!(target_os = "macos") { Keeper::Launchd } else { Keeper::Systemd };
    let terms = Terms {
        keeper,
        system: args.system,
        program: &program,
        data: &data,
        home: &home,
        path: &path,
        uid,
    };
    Ok(plan(&terms))
}

fn plan(terms: &Terms<'_>) -> Plan {
    match terms.keeper {
        Keeper::Systemd => systemd(terms),
        Keeper::Launchd => launchd(terms),
    }
}

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|word| (*word).to_owned()).collect()
}

fn systemd(terms: &Terms<'_>) -> Plan {
    let (file, scope): (PathBuf, &[&str]) = if terms.system {
        (Path::new("/etc/systemd/system").join(UNIT), &[])
    } else {
        (terms.home.join(".config/systemd/user").join(UNIT), &["--user"])
    };
    let control = |rest: &[&str]| words(&[&["systemctl"], scope, rest].concat());
    let wanted = if terms.system { "multi-user.target" } else { "default.target" };
    let text = format!(
        "# Written by open-dispatch service install.\n\
         [Unit]\n\
         Description=Open Dispatch, which drives coding agents from chat\n\
         After=network-online.target\n\
         Wants=network-online.target\n\
         \n\
         [Service]\n\
         Type=exec\n\
         ExecStart={program} serve --chat none --data {data}\n\
         # A .env file in the working directory is read.\n\
         WorkingDirectory={home}\n\
         Environment={path}\n\
         # The server alone is stopped: agents live on, and the next server takes them over.\n\
         KillMode=process\n\
         TimeoutStopSec=60\n\
         Restart=always\n\
         RestartSec=1\n\
         \n\
         [Install]\n\
         WantedBy={wanted}\n",
        program = word(&terms.program.display().to_string()),
        data = word(&terms.data.display().to_string()),
        home = escaped(&terms.home.display().to_string()),
        path = quoted(&format!("PATH={}", terms.path)),
    );
    let logs = if terms.system {
        format!("journalctl -u {UNIT} -f")
    } else {
        format!("journalctl --user -u {UNIT} -f")
    };
    let linger = if terms.system {
        String::new()
    } else {
        "; it ends with your last session unless you say: loginctl enable-linger".to_owned()
    };
    Plan {
        file,
        text,
        make_way: Vec::new(),
        // A restart starts what does not run, and gives to what runs what was written anew; agents
        // do not notice.
        install: vec![
            control(&["daemon-reload"]),
            control(&["enable", UNIT]),
            control(&["restart", UNIT]),
        ],
        uninstall: vec![control(&["disable", "--now", UNIT]), control(&["daemon-reload"])],
        hint: format!("its log: {logs}{linger}"),
    }
}

/// As systemd reads `%`: a specifier, unless doubled.
fn escaped(text: &str) -> String {
    text.replace('%', "%%")
}

/// As systemd reads words.
fn quoted(text: &str) -> String {
    let text = escaped(text).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

/// As systemd reads a word of a command line, where `$` names a variable unless doubled.
fn word(text: &str) -> String {
    quoted(text).replace('$', "$$")
}

fn launchd(terms: &Terms<'_>) -> Plan {
    let (directory, domain) = if terms.system {
        (PathBuf::from("/Library/LaunchDaemons"), "system".to_owned())
    } else {
        (terms.home.join("Library/LaunchAgents"), format!("gui/{}", terms.uid))
    };
    let file = directory.join(format!("{LABEL}.plist"));
    let log = terms.data.join("service.log");
    let string = |text: &str| format!("<string>{}</string>", xml(text));
    let arguments: String = [
        &*terms.program.display().to_string(),
        "serve",
        "--chat",
        "none",
        "--data",
        &*terms.data.display().to_string(),
    ]
    .iter()
    .map(|word| format!("    {}\n", string(word)))
    .collect();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!-- Written by open-dispatch service install. -->\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n\
         <dict>\n  \
         <key>Label</key>\n  {label}\n  \
         <key>ProgramArguments</key>\n  <array>\n{arguments}  </array>\n  \
         <key>WorkingDirectory</key>\n  {home}\n  \
         <key>EnvironmentVariables</key>\n  <dict>\n    \
         <key>PATH</key>\n    {path}\n  </dict>\n  \
         <key>RunAtLoad</key>\n  <true/>\n  \
         <key>KeepAlive</key>\n  <true/>\n  \
         <key>AbandonProcessGroup</key>\n  <true/>\n  \
         <key>ExitTimeOut</key>\n  <integer>60</integer>\n  \
         <key>StandardErrorPath</key>\n  {log}\n\
         </dict>\n\
         </plist>\n",
        label = string(LABEL),
        home = string(&terms.home.display().to_string()),
        path = string(terms.path),
        log = string(&log.display().to_string()),
    );
    let place = file.display().to_string();
    let bootout = vec![words(&["launchctl", "bootout", &format!("{domain}/{LABEL}")])];
    Plan {
        make_way: bootout.clone(),
        install: vec![words(&["launchctl", "bootstrap", &domain, &place])],
        uninstall: bootout,
        hint: format!("its log: {}", log.display()),
        file,
        text,
    }
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn print(plan: &Plan, install: bool) -> Result<(), Error> {
    let commands = if install { &plan.install } else { &plan.uninstall };
    if install {
        out::note(format!("# would write {}", plan.file.display()));
        out::data(&plan.text)?;
    } else {
        out::note(format!("# would remove {}", plan.file.display()));
    }
    for command in commands {
        out::note(format!("# would run {}", command.join(" ")));
    }
    Ok(())
}

fn do_install(plan: &Plan) -> Result<(), Error> {
    let failed = |error: io::Error| {
        Error::Serve(format!("{} cannot be written: {error}", plan.file.display()))
    };
    if plan.file.exists() {
        for command in &plan.make_way {
            stop(command)?;
        }
    }
    if let Some(directory) = plan.file.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    fs::write(&plan.file, &plan.text).map_err(failed)?;
    out::note(format!("wrote {}", plan.file.display()));
    for command in &plan.install {
        start(command)?;
    }
    out::note(format!("the service is installed and started; {}", plan.hint));
    Ok(())
}

fn do_uninstall(plan: &Plan) -> Result<(), Error> {
    if !plan.file.exists() {
        out::note(format!("no service is installed: {} is not there", plan.file.display()));
        return Ok(());
    }
    // The file goes last: what is left half done can be done again.
    for command in &plan.uninstall {
        stop(command)?;
    }
    fs::remove_file(&plan.file).map_err(|error| {
        Error::Serve(format!("{} cannot be removed: {error}", plan.file.display()))
    })?;
    out::note(format!(
        "removed {}; agents that run go on, until open-dispatch down or the next server",
        plan.file.display()
    ));
    Ok(())
}

/// Runs a command that has to do what it says.
fn start(command: &[String]) -> Result<(), Error> {
    spent(command, &[])
}

/// Runs a command that stops something, which may be stopped already.
fn stop(command: &[String]) -> Result<(), Error> {
    spent(command, &NOT_LOADED)
}

fn spent(command: &[String], fine: &[i32]) -> Result<(), Error> {
    let line = command.join(" ");
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    match Command::new(program).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status)
            if program == "launchctl" && status.code().is_some_and(|it| fine.contains(&it)) =>
        {
            Ok(())
        }
        Ok(status) => Err(Error::Serve(format!("`{line}` failed ({status}); run it by hand"))),
        Err(error) => Err(Error::Serve(format!(
            "`{line}` cannot be run: {error}; the file is there: let what keeps services up here \
             use it, and see that a stop signals the server's process alone"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(keeper: Keeper, system: bool) -> Plan {
        plan(&Terms {
            keeper,
            system,
            program: Path::new("/opt/my tools/open-dispatch"),
            data: Path::new("/home/a/.local/state/open-dispatch"),
            home: Path::new("/home/a"),
            path: "/home/a/.local/bin:/usr/bin:/100%/bin",
            uid: 501,
        })
    }

    #[test]
    fn a_unit_stops_the_server_alone() {
        for system in [false, true] {
            let plan = of(Keeper::Systemd, system);
            assert!(plan.text.contains("\nKillMode=process\n"));
            insta::assert_debug_snapshot!(
                format!("systemd_{system}"),
                (&plan.file, &plan.install, &plan.uninstall, &plan.hint)
            );
            insta::assert_snapshot!(format!("systemd_{system}_unit"), plan.text);
        }
    }

    #[test]
    fn a_property_list_abandons_the_servers_children() {
        let plan = of(Keeper::Launchd, false);
        assert!(plan.text.contains("<key>AbandonProcessGroup</key>\n  <true/>"));
        insta::assert_debug_snapshot!(
            "launchd",
            (&plan.file, &plan.install, &plan.uninstall, &plan.hint)
        );
        insta::assert_snapshot!("launchd_list", plan.text);
    }
}
