//! Linux: the tested platform. The only module of the house that may use `unsafe`.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change, mount_remount,
    },
    process::{
        DumpableBehavior, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open,
        pidfd_send_signal,
    },
    thread::UnshareFlags,
};

use super::Entry;

/// This program, even if its file was replaced since.
#[expect(clippy::unnecessary_wraps, reason = "the twin on macOS can fail")]
pub(super) fn own_program() -> io::Result<PathBuf> {
    Ok("/proc/self/exe".into())
}

pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The fields of `/proc/PID/stat` behind the command's name, which may hold anything.
fn stat(pid: u32) -> io::Result<Option<Vec<String>>> {
    let line = match fs::read(format!("/proc/{pid}/stat")) {
        Ok(line) => line,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => return Ok(None),
        Err(error) => return Err(error),
    };
    let line = String::from_utf8_lossy(&line);
    Ok(line
        .rsplit_once(')')
        .map(|(_, fields)| fields.split_whitespace().map(str::to_owned).collect()))
}

/// When a process started, in clock ticks since boot; none if it is gone or a zombie.
pub(super) fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let Some(fields) = stat(pid)? else { return Ok(None) };
    if is_dead(&fields) {
        return Ok(None);
    }
    match fields.get(19).and_then(|field| field.parse().ok()) {
        Some(start) => Ok(Some(start)),
        None => Err(io::Error::other(format!("/proc/{pid}/stat could not be understood"))),
    }
}

fn is_dead(fields: &[String]) -> bool {
    matches!(fields.first().map(String::as_str), Some("Z" | "X"))
}

/// Every process that lives.
pub(super) fn processes() -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Ok(Some(fields)) = stat(pid)
            && !is_dead(&fields)
            && let Some(parent) = fields.get(1).and_then(|field| field.parse().ok())
            && let Some(group) = fields.get(2).and_then(|field| field.parse::<u32>().ok())
        {
            entries.push(Entry { pid, parent, leads: group == pid });
        }
    }
    Ok(entries)
}

/// Whether a process was started with this variable.
pub(super) fn carries(pid: u32, name: &str, value: &str) -> bool {
    let marker = format!("{name}={value}");
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|it| it == marker.as_bytes()))
}

pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A pidfd.
#[derive(Debug)]
pub(super) struct Handle(OwnedFd);

impl Handle {
    pub(super) fn open(pid: u32) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(handle) => Ok(Some(Self(handle))),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn ended(self) -> io::Result<()> {
        use tokio::io::{Interest, unix::AsyncFd};
        #[expect(unsafe_code, reason = "a descriptor must stay open while it is registered")]
        // SAFETY: an `OwnedFd` stays open until the registration that owns it is dropped.
        let handle = unsafe { AsyncFd::register_with_interest(self.0, Interest::READABLE) }
            .map_err(io::Error::from)?;
        handle.readable().await?.retain_ready();
        Ok(())
    }
}

pub(super) fn adopt_orphans() -> Result<(), String> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| format!("orphans of the agent are not adopted: {error}"))
}

pub(super) fn forbid_dumps() -> Result<(), String> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| format!("the reporter's memory is open to its user: {error}"))
}

/// Takes the exit of children that nobody waits for: of all but `ours`.
pub(super) fn reap_orphans(ours: &[u32]) {
    let Ok(children) = children(std::process::id()) else { return };
    for child in children.into_iter().filter(|child| !ours.contains(child)) {
        if let Some(pid) = i32::try_from(child).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
            );
        }
    }
}

fn children(pid: u32) -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let list = fs::read_to_string(task?.path().join("children"))?;
        children.extend(list.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(children)
}

/// Makes a control group for the agent below our own, where we may.
pub(super) fn make_cgroup(job_id: &str) -> Result<PathBuf, String> {
    let why = |reason: String| format!("no control group for the agent: {reason}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|e| why(e.to_string()))?;
    let root = cgroup2_mount(&mounts).ok_or_else(|| why("cgroup v2 is not mounted".into()))?;
    let groups = fs::read_to_string("/proc/self/cgroup").map_err(|e| why(e.to_string()))?;
    let own = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .ok_or_else(|| why("this process is in none of version 2".into()))?;
    let group = root.join(own).join(format!("sprite-{job_id}"));
    match fs::create_dir(&group) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(why(format!("{}: {error}", group.display()))),
    }
    let usable = group.join("cgroup.kill").exists()
        && rustix::fs::access(group.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok();
    if usable {
        Ok(group)
    } else {
        remove_cgroup(&group);
        Err(why(format!("{} cannot be used", group.display())))
    }
}

fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        (kind.split(' ').next() == Some("cgroup2"))
            .then(|| mount.split(' ').nth(4).map(PathBuf::from))
            .flatten()
    })
}

pub(super) fn enter_cgroup(group: &Path) {
    // Without it the tree is still found by descent and by its marker.
    let _ = fs::write(group.join("cgroup.procs"), "0");
}

pub(super) fn cgroup_members(group: &Path) -> Vec<u32> {
    let list = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|pid| pid.parse().ok()).collect()
}

pub(super) fn kill_cgroup(group: &Path) {
    let _ = fs::write(group.join("cgroup.kill"), "1");
}

pub(super) fn remove_cgroup(group: &Path) {
    let _ = fs::remove_dir(group);
}

/// Gives the agent the signals as a fresh process has them. The mask is cleared by the
/// standard library when it becomes the agent.
pub(super) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        #[expect(unsafe_code, reason = "the C library has no safe way to say this")]
        // SAFETY: the default disposition runs no code of ours, and a signal that cannot be
        // changed answers with an error that changes nothing. The process has one thread.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Closes all but the three standard streams when this process becomes another: whatever
/// was inherited by accident ends here.
pub(super) fn seal_descriptors() {
    #[expect(unsafe_code, reason = "the C library has no safe way to say this")]
    // SAFETY: nothing is closed now, and no descriptor changes its meaning. A kernel that does
    // not know the call answers with an error that changes nothing.
    unsafe {
        // By its number: musl has no function of that name.
        libc::syscall(
            libc::SYS_close_range,
            3 as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        );
    }
}

/// Hides directories from this process and all that come from it: in a mount namespace, an empty
/// file system lies over each. The work directory and what else is to be kept stay, also inside
/// of one.
pub(super) fn hide(
    directories: &[PathBuf],
    workdir: &Path,
    keep: &[PathBuf],
) -> Result<(), String> {
    enter_mount_namespace()?;
    let workdir = fs::canonicalize(workdir).map_err(|e| format!("{}: {e}", workdir.display()))?;
    let directories: Vec<PathBuf> =
        directories.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    if directories.contains(&workdir) {
        return Err(format!("{} is the work directory itself", workdir.display()));
    }
    let mut kept = Vec::new();
    // What is not there needs not be kept.
    let places = keep.iter().filter_map(|path| fs::canonicalize(path).ok());
    for place in std::iter::once(workdir.clone()).chain(places) {
        let inside = directories.iter().any(|it| place.starts_with(it) && place != *it);
        if inside && !kept.iter().any(|(other, _): &(PathBuf, _)| place.starts_with(other)) {
            let open = open_directory(&place)?;
            kept.push((place, open));
        }
    }
    for directory in &directories {
        cover(directory)?;
        for (place, open) in kept.iter().filter(|(place, _)| place.starts_with(directory)) {
            uncover(directory, place, open)?;
        }
        let read_only =
            MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount(directory, read_only, "")
            .map_err(|error| format!("{} cannot be sealed: {error}", directory.display()))?;
    }
    // The old work directory lies below the cover; step onto the new one.
    std::env::set_current_dir(&workdir).map_err(|e| format!("{}: {e}", workdir.display()))
}

fn open_directory(path: &Path) -> Result<OwnedFd, String> {
    use rustix::fs::{Mode, OFlags, open};
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn cover(directory: &Path) -> Result<(), String> {
    mount(
        "tmpfs",
        directory,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"mode=0755,size=64k",
    )
    .map_err(|error| format!("{} cannot be covered: {error}", directory.display()))
}

/// Binds a directory that is to be kept back into the cover.
fn uncover(directory: &Path, workdir: &Path, keep: &OwnedFd) -> Result<(), String> {
    let below = workdir.strip_prefix(directory).unwrap_or(Path::new(""));
    if below.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(format!("{} is no plain path", workdir.display()));
    }
    fs::create_dir_all(workdir).map_err(|error| format!("{}: {error}", workdir.display()))?;
    mount_bind_recursive(format!("/proc/self/fd/{}", keep.as_fd().as_raw_fd()), workdir)
        .map_err(|error| format!("{} cannot be kept: {error}", workdir.display()))
}

fn enter_mount_namespace() -> Result<(), String> {
    if let Err(first) = unshare(UnshareFlags::NEWNS) {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(|second| {
            format!("the kernel gives no mount namespace ({first}), nor one with users ({second})")
        })?;
        let map = |name: &str, text: String| {
            fs::write(format!("/proc/self/{name}"), text)
                .map_err(|error| format!("/proc/self/{name}: {error}"))
        };
        map("setgroups", "deny".into())?;
        map("uid_map", format!("{0} {0} 1", uid.as_raw()))?;
        map("gid_map", format!("{0} {0} 1", gid.as_raw()))?;
    }
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| format!("mounts cannot be kept apart: {error}"))
}

fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    #[expect(unsafe_code, reason = "leaving a namespace is unsafe for file tables alone")]
    // SAFETY: the flags leave the table of open files shared, so no descriptor changes its
    // meaning. The process has one thread.
    unsafe {
        rustix::thread::unshare_unsafe(flags)
    }
}

/// What a sandbox always reads: the system's programs and settings, and no more of its devices
/// than what is everybody's.
const SYSTEM: [&str; 20] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix",
    "/proc",
    "/sys",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/run/current-system",
    // Where names of hosts are looked up.
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/run/NetworkManager/resolv.conf",
    "/run/nscd",
];
/// What a sandbox always writes.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts"];

/// Whether this kernel can make a sandbox; answers what it is made of.
pub(super) fn sandbox_holds() -> Result<String, String> {
    ruleset().map(|_| "Landlock".to_owned())
}

/// What a sandbox decides about: as much as the kernel knows, and not less than truncation, without
/// which any file could be emptied.
fn ruleset() -> Result<landlock::RulesetCreated, String> {
    use landlock::{
        ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope,
    };
    let missing = |error: landlock::RulesetError| {
        format!(
            "this kernel has no Landlock that decides about truncation ({error}); use Linux 6.2 \
             or newer with landlock in its list of security modules (lsm=), or another isolation"
        )
    };
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V3))
        .map_err(missing)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))
        .map_err(missing)?
        .scope(Scope::from_all(ABI::V6))
        .map_err(missing)?
        .create()
        .map_err(missing)
}

/// Keeps this process and all that come from it inside a sandbox, for good.
pub(super) fn enclose(sandbox: &super::Sandbox) -> Result<(), String> {
    use landlock::{
        ABI, Access as _, AccessFs, RulesetCreatedAttr as _, RulesetStatus, path_beneath_rules,
    };
    drop_capabilities()?;
    let failed = |error: landlock::RulesetError| error.to_string();
    let read = AccessFs::from_read(ABI::V5);
    // A device file that it made itself would be a way around everything.
    let write = AccessFs::from_all(ABI::V5) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    for place in &sandbox.write {
        if !place.exists() {
            return Err(format!("{} is missing", place.display()));
        }
    }
    let status = ruleset()?
        .add_rules(path_beneath_rules(SYSTEM, read))
        .map_err(failed)?
        .add_rules(path_beneath_rules(&sandbox.read, read))
        .map_err(failed)?
        .add_rules(path_beneath_rules(["/dev"], AccessFs::ReadDir))
        .map_err(failed)?
        .add_rules(path_beneath_rules(DEVICES, write))
        .map_err(failed)?
        .add_rules(path_beneath_rules(&sandbox.write, write))
        .map_err(failed)?
        .restrict_self()
        .map_err(failed)?;
    if status.ruleset == RulesetStatus::NotEnforced || !status.no_new_privs {
        return Err("the kernel does not enforce it".into());
    }
    Ok(())
}

/// Root without what would undo a sandbox: the kernel's memory and modules, raw disks, mounts.
fn drop_capabilities() -> Result<(), String> {
    use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    for capability in [
        CapabilitySet::SYS_ADMIN,
        CapabilitySet::SYS_MODULE,
        CapabilitySet::SYS_RAWIO,
        CapabilitySet::SYS_PTRACE,
        CapabilitySet::SYS_BOOT,
        CapabilitySet::SYS_TIME,
        CapabilitySet::MKNOD,
        CapabilitySet::BPF,
        CapabilitySet::PERFMON,
    ] {
        remove_capability_from_bounding_set(capability)
            .map_err(|error| format!("{capability:?} cannot be given up: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let start = start_time(std::process::id()).unwrap();
        assert!(start.is_some());
        assert_eq!(start_time(u32::MAX / 4).unwrap(), None);
    }

    #[test]
    fn cgroup_2_is_found_beside_version_1() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      31 23 0:27 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup2_mount(""), None);
    }
}
