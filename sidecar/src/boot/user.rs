//! Whom everything runs as: `SPRITE_USER`.
//!
//! A volume that is mounted for the first time belongs to root, and an image's own user cannot write
//! to it. So an image may let the reporter begin as root and name a user: the reporter gives that one
//! the directories that are the machine's to give, and becomes that user for good, before it asks
//! for a run. Nothing of the agent's ever runs as root then, and the reporter's memory is closed to it.
//!
//! Only directories are given that no earlier agent can have replaced by a link: the volume itself and
//! those outside of it. What lies on the volume belongs to that user from its first boot on. Where an
//! earlier image had its agent work as root, what it left is root's, and is given once as well: link by
//! link and never through one, and before anything of an agent's runs.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, lchown},
    path::{Path, PathBuf},
};

use super::{
    heritage::Heritage,
    place::{ELSEWHERE, Place, VOLUME, below},
};
use crate::{process, wire::ROOT_VARIABLE};

/// The variable that names the user.
pub const VARIABLE: &str = "SPRITE_USER";

/// What a file system keeps for itself.
const LOST_AND_FOUND: &str = "lost+found";

/// A user, as `/etc/passwd` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    name: String,
    id: u32,
    group: u32,
    pub(super) home: Option<PathBuf>,
}

/// Becomes the user that the environment names, if it names one and we are root.
///
/// # Errors
/// One line on what kept it from that: nothing may run as root then.
pub(super) fn become_named(heritage: &mut Heritage) -> Result<(), String> {
    let Some(name) = heritage.value(VARIABLE).map(str::to_owned) else { return Ok(()) };
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = all(&users).find(|user| user.name == name).ok_or_else(|| {
        format!(
            "{VARIABLE} names {name:?}, whom /etc/passwd of the image does not know; add it there"
        )
    })?;
    let root = PathBuf::from(heritage.value(ROOT_VARIABLE).unwrap_or("/"));
    for place in places(&root, &Place::workspace(heritage)) {
        give(&place, &user)
            .map_err(|error| format!("cannot give {} to {name}: {error}", place.display()))?;
    }
    give_roots(&below(&root, VOLUME), &user)
        .map_err(|error| format!("cannot give what root left on the volume to {name}: {error}"))?;
    process::become_user(user.id, user.group)
        .map_err(|error| format!("cannot become {name}: {error}"))?;
    if let Some(home) = &user.home {
        heritage.set("HOME", &home.to_string_lossy());
    }
    heritage.set("USER", &name);
    heritage.set("LOGNAME", &name);
    Ok(())
}

/// The user with this number.
pub(super) fn with_id(users: &str, id: u32) -> Option<User> {
    all(users).find(|user| user.id == id)
}

fn all(users: &str) -> impl Iterator<Item = User> {
    users.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let home = fields.get(5).filter(|home| !home.is_empty()).map(PathBuf::from);
        Some(User {
            name: (*fields.first()?).to_owned(),
            id: fields.get(2)?.parse().ok()?,
            group: fields.get(3)?.parse().ok()?,
            home,
        })
    })
}

/// What is given: the volume where there is one, and what lies outside of it.
fn places(root: &Path, workspace: &str) -> Vec<PathBuf> {
    let volume = below(root, VOLUME);
    let workspace = below(root, workspace);
    let mut places = vec![below(root, ELSEWHERE)];
    if workspace != root && !workspace.starts_with(&volume) {
        places.push(workspace);
    }
    if volume.is_dir() {
        places.push(volume);
    }
    places
}

/// Gives what lies on a volume and is root's, with all that is in it.
fn give_roots(volume: &Path, user: &User) -> io::Result<()> {
    if !volume.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        if entry.metadata()?.uid() == 0 && entry.file_name() != LOST_AND_FOUND {
            let one = |path: &Path| lchown(path, Some(user.id), Some(user.group));
            give_all(&entry.path(), &mut { one })?;
        }
    }
    Ok(())
}

/// Gives something, and what is in it, where it is a directory; a link is given and not followed. What
/// is in a directory comes before it, and so the top comes last: a machine that ends in the middle leaves
/// a top that is still root's, and the next boot begins with it again.
fn give_all(path: &Path, one: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    // Each with whether what is in it was looked at.
    let mut left = vec![(path.to_owned(), false)];
    while let Some((path, is_open)) = left.pop() {
        if is_open || !path.symlink_metadata()?.is_dir() {
            one(&path)?;
            continue;
        }
        let entries: Vec<_> = fs::read_dir(&path)?.collect::<io::Result<_>>()?;
        left.push((path, true));
        left.extend(entries.into_iter().map(|entry| (entry.path(), false)));
    }
    Ok(())
}

fn give(place: &Path, user: &User) -> io::Result<()> {
    if place.symlink_metadata().is_err() {
        fs::create_dir_all(place)?;
    }
    lchown(place, Some(user.id), Some(user.group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number_and_lines_that_are_none_are_passed_over() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nagent:x:1000:1001::/home/agent:\n\
                     homeless:x:7:7:::\n";
        let agent = with_id(users, 1000).unwrap();
        assert_eq!((agent.name.as_str(), agent.group), ("agent", 1001));
        assert_eq!(agent.home, Some("/home/agent".into()));
        assert_eq!(with_id(users, 7).unwrap().home, None);
        assert_eq!(with_id(users, 8), None);
    }

    #[test]
    fn what_root_left_on_the_volume_is_given_whole_and_no_link_is_followed() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root may give files away");
            return;
        }
        let (volume, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |path: &str| volume.path().join(path);
        fs::create_dir_all(at("home/.cache")).unwrap();
        fs::create_dir_all(at("lost+found")).unwrap();
        fs::write(at("home/.cache/it"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), at("home/out")).unwrap();
        let user = User { name: "agent".into(), id: 1000, group: 1001, home: None };
        give_roots(volume.path(), &user).unwrap();
        let owner = |path: &Path| path.symlink_metadata().unwrap().uid();
        for given in ["home", "home/.cache", "home/.cache/it", "home/out"] {
            assert_eq!(owner(&at(given)), 1000, "{given}");
        }
        assert_eq!((owner(outside.path()), owner(&at("lost+found"))), (0, 0));
        // What is the user's already is looked at no more.
        fs::write(at("home/roots"), "").unwrap();
        give_roots(volume.path(), &user).unwrap();
        assert_eq!(owner(&at("home/roots")), 0);
    }

    #[test]
    fn what_was_given_only_in_part_is_given_whole_at_the_next_boot() {
        let volume = tempfile::tempdir().unwrap();
        let top = volume.path().join("home");
        fs::create_dir_all(top.join(".cache/deep")).unwrap();
        for file in ["a", ".cache/b", ".cache/deep/c"] {
            fs::write(top.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("/", top.join("out")).unwrap();
        let given = |most: usize| {
            let mut given = Vec::new();
            let ended = give_all(&top, &mut |path: &Path| {
                if given.len() == most {
                    return Err(io::Error::other("the machine ends"));
                }
                given.push(path.to_owned());
                Ok(())
            });
            (ended.is_ok(), given)
        };
        let (whole, all) = given(usize::MAX);
        assert!(whole);
        assert_eq!(all.len(), 7, "everything, and nothing behind the link: {all:?}");
        for most in 0..all.len() {
            let (whole, some) = given(most);
            assert!(!whole && !some.contains(&top), "the top comes last, so it is looked at again");
            // Nobody owns a directory below which something is still root's.
            for path in &some {
                let below = all.iter().filter(|it| it.starts_with(path));
                assert!(below.clone().all(|it| some.contains(it)), "{path:?} came too early");
            }
        }
    }

    #[test]
    fn the_machine_gives_what_is_its_own_and_nothing_on_the_volume() {
        let root = tempfile::tempdir().unwrap();
        let of = |workspace: &str| {
            let all = places(root.path(), workspace);
            let short = |it: &PathBuf| it.strip_prefix(root.path()).unwrap().display().to_string();
            all.iter().map(short).collect::<Vec<_>>()
        };
        assert_eq!(of("/workspace"), ["tmp/open-dispatch", "workspace"]);
        fs::create_dir(root.path().join("data")).unwrap();
        assert_eq!(of("/data/work"), ["tmp/open-dispatch", "data"]);
        assert_eq!(of("/"), ["tmp/open-dispatch", "data"]);
    }
}
