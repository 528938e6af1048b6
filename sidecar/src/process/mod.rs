//! Starting, watching and killing a process tree. What differs between platforms sits in twins
//! with the same items: `linux.rs` (tested) and `macos.rs` (less containment, and says so).
//!
//! An agent starts by way of this very program, called again as a *helper* that gives it a
//! session of its own, clean signals and, where the kernel lets us, a view of the disk
//! without the server's data, and then becomes the agent. A pipe that closes at that moment
//! tells us what kept it from becoming one.
//!
//! Killing a tree is a loop, not a signal: agents start their tools in sessions of their own, so
//! a process group alone leaks. A process belongs to the tree if it stands in the agent's
//! control group, descends from the reporter (which is a subreaper), or carries the
//! sprite's `JOB_ID` in its environment, or descends from one that does. The loop ends when
//! no such process is left.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};

use crate::{
    ambient,
    steps::{Passage, step},
    wire::{Containment, JOB_ID_VARIABLE, ProcessIdentity},
};

pub mod helper;
mod leftovers;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
mod user;
#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "macos")]
use macos as platform;

pub use leftovers::Roster;
pub use user::become_user;

/// What to start: a program with the agent's whole environment.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program: a path, or a name to be found on the `PATH` of `env`.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its work directory.
    pub workdir: PathBuf,
    /// Directories to hide from it, where the kernel lets us.
    pub hide: Vec<PathBuf>,
}

/// What an agent may see and touch, beyond what a [`Launch`] says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enclosure {
    /// Directories that stay visible where they lie inside of hidden ones.
    pub keep: Vec<PathBuf>,
    /// The sandbox, where there is one.
    pub sandbox: Option<Sandbox>,
}

/// A sandbox: all that is not named here can be neither read nor written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Where it may write, and read.
    pub write: Vec<PathBuf>,
    /// Where it may read and run programs, beside the system's own directories.
    pub read: Vec<PathBuf>,
}

/// What [`start`] puts around whatever it starts.
static ENCLOSURE: Mutex<Enclosure> = Mutex::new(Enclosure { keep: Vec::new(), sandbox: None });

/// Whether a sandbox can be made here.
///
/// # Errors
/// Why not.
pub fn can_enclose() -> Result<(), String> {
    platform::sandbox_holds().map(|_| ())
}

/// Puts an enclosure around all that is started from here on.
///
/// # Errors
/// Why a sandbox cannot be made here; then nothing changes.
pub fn enclose(enclosure: Enclosure) -> Result<(), String> {
    if enclosure.sandbox.is_some() {
        can_enclose()?;
    }
    *ENCLOSURE.lock().unwrap_or_else(PoisonError::into_inner) = enclosure;
    Ok(())
}

/// Notes how well a sandbox contains an agent here; nothing where there can be none.
pub fn note_sandbox(containment: &mut Containment) {
    if let Ok(what) = platform::sandbox_holds() {
        containment.data_hidden = true;
        containment.note = format!(
            "in a sandbox ({what}): it writes to its work directory, its home and its files alone, \
             and reads no more than these and the system's programs"
        );
    }
}

/// How this process starts agents once it is a sprite's reporter.
#[derive(Debug)]
struct Household {
    job_id: String,
    cgroup: Option<PathBuf>,
}

static HOUSEHOLD: OnceLock<Household> = OnceLock::new();

/// The children that somebody waits for: not to be taken for orphans. A number that comes
/// again costs a zombie that stays until the reporter ends, and no more.
static STARTED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Closes this process's memory to others of its user, before it holds a token. What keeps it
/// from that is told when the process settles.
pub fn close_memory() {
    let _ = platform::forbid_dumps();
}

/// Makes this process the reporter of a sprite: not dumpable, adopting orphans, with a control
/// group for the agent where there is one. From here on [`start`] goes by way of the helper.
/// Answers what containment there is, and the control group.
pub fn settle(job_id: &str, hide: &[PathBuf], workdir: &Path) -> (Containment, Option<PathBuf>) {
    let mut notes = Vec::new();
    let subreaper = platform::adopt_orphans().map_err(|why| notes.push(why)).is_ok();
    if let Err(why) = platform::forbid_dumps() {
        notes.push(why);
    }
    let made = step("make control group", || platform::make_cgroup(job_id));
    let cgroup = made.map_err(|why| notes.push(why)).ok();
    let _ = HOUSEHOLD.set(Household { job_id: job_id.to_owned(), cgroup: cgroup.clone() });
    let data_hidden = match probe(hide, workdir) {
        Ok(()) => true,
        Err(why) => {
            notes.push(why);
            false
        }
    };
    if data_hidden && !hide.is_empty() && rustix::process::geteuid().is_root() {
        notes.push("the agent runs as root and can undo its containment".into());
    }
    let containment =
        Containment { subreaper, cgroup: cgroup.is_some(), data_hidden, note: notes.join("; ") };
    (containment, cgroup)
}

/// Starts the agent in a session of its own, with pipes on all three standard streams.
///
/// # Errors
/// What kept it from starting, such as a missing binary or work directory.
pub fn start(launch: &Launch) -> io::Result<Child> {
    let enclosure = ENCLOSURE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    start_in(launch, &enclosure)
}

/// As [`start`], in another enclosure than the agent's.
///
/// # Errors
/// As [`start`].
pub fn start_in(launch: &Launch, enclosure: &Enclosure) -> io::Result<Child> {
    if !launch.workdir.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("the work directory {} is missing", launch.workdir.display()),
        ));
    }
    let Some(household) = HOUSEHOLD.get() else {
        if enclosure.sandbox.is_some() {
            return Err(io::Error::other("a sandbox is made by a reporter alone"));
        }
        return pipes(
            Command::new(&launch.program)
                .args(&launch.args)
                .env_clear()
                .envs(launch.env.iter().cloned())
                .current_dir(&launch.workdir)
                .process_group(0),
        )
        .spawn();
    };
    let program = find_program(&launch.program, &launch.env, &launch.workdir)?;
    let (mut reports, theirs) = inherited_pipe()?;
    let mut command = Command::new(platform::own_program()?);
    command
        .arg0(helper::PROGRAM)
        .arg(helper::SUBCOMMAND)
        .args(helper::arguments(
            theirs.as_raw_fd(),
            household.cgroup.as_deref(),
            &launch.hide,
            &launch.workdir,
            enclosure,
        ))
        .arg("--")
        .arg(&program)
        .args(&launch.args)
        .env_clear()
        .envs(launch.env.iter().cloned())
        .env(JOB_ID_VARIABLE, &household.job_id)
        .current_dir(&launch.workdir);
    let child = step("spawn", || pipes(&mut command).spawn())?;
    drop(theirs);
    STARTED.lock().unwrap_or_else(PoisonError::into_inner).extend(child.id());
    let mut report = String::new();
    reports.read_to_string(&mut report)?;
    match report.lines().find_map(|line| line.strip_prefix(helper::FAILED)) {
        None => Ok(child),
        Some(why) => Err(io::Error::other(why.to_owned())),
    }
}

/// Why a program cannot be started, if it is not on this machine. One that may lie below the
/// work directory is not looked for: the directory may not be there yet.
#[must_use]
pub fn absent(launch: &Launch) -> Option<io::Error> {
    let program = Path::new(&launch.program);
    let path = launch.env.iter().rev().find(|(name, _)| name == "PATH");
    let below = if program.components().count() > 1 {
        !program.is_absolute()
    } else {
        path.is_some_and(|(_, path)| std::env::split_paths(path).any(|it| !it.is_absolute()))
    };
    if below {
        return None;
    }
    find_program(&launch.program, &launch.env, &launch.workdir).err()
}

fn pipes(command: &mut Command) -> &mut Command {
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
}

/// A pipe whose writing end a child inherits. Nothing else is started in between: the
/// reporter starts processes from one thread.
fn inherited_pipe() -> io::Result<(std::fs::File, std::os::fd::OwnedFd)> {
    let (read, write) = rustix::pipe::pipe()?;
    rustix::io::fcntl_setfd(&read, rustix::io::FdFlags::CLOEXEC)?;
    Ok((std::fs::File::from(read), write))
}

/// Finds a program as a shell would, so that a missing one is told by its name.
fn find_program(
    program: &OsStr,
    env: &[(OsString, OsString)],
    workdir: &Path,
) -> io::Result<PathBuf> {
    let as_path = Path::new(program);
    if as_path.components().count() > 1 || as_path.is_absolute() {
        let path = workdir.join(as_path);
        return if path.exists() { Ok(path) } else { Err(missing(&path.to_string_lossy(), "")) };
    }
    let path =
        env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    let path = path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
    std::env::split_paths(path)
        .map(|directory| workdir.join(directory).join(program))
        .find(|candidate| is_executable(candidate))
        .ok_or_else(|| {
            missing(
                &program.to_string_lossy(),
                &format!(" on the agent's PATH ({})", path.to_string_lossy()),
            )
        })
}

fn missing(program: &str, place: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{program} was not found{place}; install it, or name its path"),
    )
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Tries whether directories can be hidden, without starting anything in their absence.
fn probe(hide: &[PathBuf], workdir: &Path) -> Result<(), String> {
    if hide.is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| format!("the data directory is visible to the agent: {error}");
    let (mut reports, theirs) = inherited_pipe().map_err(failed)?;
    // A work directory inside a hidden one may not be there yet, before its clone.
    let workdir = if workdir.is_dir() { workdir } else { Path::new("/") };
    let mut command = std::process::Command::new(platform::own_program().map_err(failed)?);
    std::os::unix::process::CommandExt::arg0(&mut command, helper::PROGRAM);
    let status = command
        .arg(helper::SUBCOMMAND)
        .args(helper::arguments(theirs.as_raw_fd(), None, hide, workdir, &Enclosure::default()))
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    drop(theirs);
    let mut child = status.map_err(failed)?;
    let mut report = String::new();
    reports.read_to_string(&mut report).map_err(failed)?;
    child.wait().map_err(failed)?;
    match report.lines().find_map(|line| line.strip_prefix(helper::VISIBLE)) {
        None => Ok(()),
        Some(why) => Err(format!("the data directory is visible to the agent: {why}")),
    }
}

/// Who this process is.
///
/// # Errors
/// What kept it from being told.
pub fn identity() -> io::Result<ProcessIdentity> {
    let pid = std::process::id();
    let start_time = platform::start_time(pid)?
        .ok_or_else(|| io::Error::other("this process has no start time"))?;
    Ok(ProcessIdentity { boot_id: platform::boot_id()?, pid, start_time })
}

/// The machine's boot id.
///
/// # Errors
/// What kept it from being told.
pub fn boot_id() -> io::Result<String> {
    platform::boot_id()
}

/// Whether this very process lives, and not another that got its number.
///
/// # Errors
/// What kept it from being told; then nothing may be assumed.
pub fn lives(process: &ProcessIdentity) -> io::Result<bool> {
    Ok(platform::boot_id()? == process.boot_id
        && platform::start_time(process.pid)? == Some(process.start_time))
}

/// A handle on a process that no other can take the place of.
#[derive(Debug)]
pub struct Handle(platform::Handle);

impl Handle {
    /// A handle on this very process; none if it is gone.
    ///
    /// # Errors
    /// What kept it from being told.
    pub fn open(process: &ProcessIdentity) -> io::Result<Option<Self>> {
        let Some(handle) = platform::Handle::open(process.pid)? else { return Ok(None) };
        // The number was verified after the handle was taken, so the handle is of this one.
        Ok(lives(process)?.then_some(Self(handle)))
    }

    /// Sends a signal; nothing happens if the process is gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.0.signal(signal)
    }

    /// Waits for the process to end, without polling where the kernel can tell.
    ///
    /// # Errors
    /// What kept it from waiting.
    pub async fn ended(self) -> io::Result<()> {
        self.0.ended().await
    }
}

/// Sends a signal to the session's group that a child leads.
pub fn signal_group(leader: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        // A group that is gone needs no signal.
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// The processes of one sprite's tree.
#[derive(Debug, Clone)]
pub struct Tree {
    job_id: String,
    cgroup: Option<PathBuf>,
    /// Whether descendants of this process belong to it.
    ours: bool,
}

impl Tree {
    /// The tree below this process, the sprite's reporter.
    #[must_use]
    pub fn below(job_id: &str, cgroup: Option<PathBuf>) -> Self {
        Self { job_id: job_id.to_owned(), cgroup, ours: true }
    }

    /// The tree that a dead reporter left.
    #[must_use]
    pub fn left_behind(job_id: &str, cgroup: Option<PathBuf>) -> Self {
        Self { job_id: job_id.to_owned(), cgroup, ours: false }
    }

    /// The numbers of all its processes.
    ///
    /// # Errors
    /// What kept it from looking.
    pub fn members(&self) -> io::Result<Vec<u32>> {
        let me = std::process::id();
        let all = platform::processes()?;
        // In a machine of its own whoever started the reporter may carry the mark as well, such as
        // an image's init; it is no part of what the reporter started.
        let above = ancestors(me, &all);
        let marked = |pid: u32| platform::carries(pid, JOB_ID_VARIABLE, &self.job_id);
        let grouped = self.cgroup.as_deref().map(platform::cgroup_members).unwrap_or_default();
        let mut members: Vec<u32> = all
            .iter()
            .filter(|process| process.pid != me && !above.contains(&process.pid))
            .filter(|process| {
                (self.ours && process.parent == me)
                    || grouped.contains(&process.pid)
                    || marked(process.pid)
            })
            .map(|process| process.pid)
            .collect();
        let mut from = 0;
        while from < members.len() {
            let until = members.len();
            let children: Vec<u32> = all
                .iter()
                .filter(|process| members[from..until].contains(&process.parent))
                .map(|process| process.pid)
                .filter(|pid| *pid != me && !members.contains(pid))
                .collect();
            members.extend(children);
            from = until;
        }
        Ok(members)
    }

    /// Sends a signal to every process of the tree; answers how many there were.
    ///
    /// # Errors
    /// What kept it from looking.
    pub fn signal(&self, signal: Signal) -> io::Result<usize> {
        let members = self.members()?;
        if signal == Signal::KILL
            && let Some(cgroup) = &self.cgroup
        {
            platform::kill_cgroup(cgroup);
        }
        for member in &members {
            platform::signal(*member, signal);
        }
        Ok(members.len())
    }

    /// Kills every process of the tree until none is left. Answers how many rounds it took;
    /// calls `stuck` each time that ten seconds passed with processes that do not die.
    ///
    /// # Errors
    /// What kept it from looking.
    pub async fn kill(&self, mut stuck: impl FnMut(&[u32])) -> io::Result<u32> {
        let passage = Passage::begin(&"kill the tree");
        let mut rounds = 0;
        let mut waited = Duration::ZERO;
        let mut pause = Duration::from_millis(1);
        while self.signal(Signal::KILL)? > 0 {
            rounds += 1;
            self.reap();
            ambient::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(Duration::from_millis(250));
            if waited > Duration::from_secs(10) {
                waited = Duration::ZERO;
                stuck(&self.members()?);
            }
        }
        self.reap();
        if let Some(cgroup) = &self.cgroup {
            platform::remove_cgroup(cgroup);
        }
        passage.end();
        Ok(rounds)
    }

    /// Orphans come to the tree's own reporter alone. Whoever kills a tree that is not below it
    /// has children of its own, whose exits somebody waits for.
    fn reap(&self) {
        if self.ours {
            reap_orphans();
        }
    }
}

/// Lets every descriptor but the three standard streams end when this process starts another.
pub fn seal_descriptors() {
    platform::seal_descriptors();
}

/// Takes the exit of orphans that came to us, so that they do not stay as zombies. The
/// children that somebody waits for are left alone.
pub fn reap_orphans() {
    platform::reap_orphans(&STARTED.lock().unwrap_or_else(PoisonError::into_inner));
}

/// The processes that a process descends from.
fn ancestors(of: u32, all: &[Entry]) -> Vec<u32> {
    let mut above = Vec::new();
    let mut at = of;
    while let Some(entry) = all.iter().find(|entry| entry.pid == at) {
        // The table is read while it changes: a circle must not hold us.
        if entry.parent == 0 || above.contains(&entry.parent) {
            break;
        }
        above.push(entry.parent);
        at = entry.parent;
    }
    above
}

/// One process in the machine's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    pid: u32,
    parent: u32,
    /// Whether it leads a process group, as each leader of a session does too. Read from the
    /// table and not asked by `getpgid`: of a group that was begun outside this PID namespace
    /// both say 0, which `rustix` takes for impossible.
    leads: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_started_us_is_above_us_and_a_table_in_motion_ends() {
        let all: Vec<Entry> = [(1, 0), (7, 1), (9, 7), (20, 9), (30, 31), (31, 30)]
            .map(|(pid, parent)| Entry { pid, parent, leads: false })
            .into();
        assert_eq!(ancestors(9, &all), [7, 1]);
        assert_eq!(ancestors(1, &all), Vec::<u32>::new());
        assert_eq!(ancestors(30, &all), [31, 30]);
        assert_eq!(ancestors(99, &all), Vec::<u32>::new());
    }
}
