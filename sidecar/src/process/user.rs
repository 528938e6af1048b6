//! Becoming another user, for good.

use std::io;

/// Makes this process one of this user and this group, and of no other group.
///
/// # Errors
/// What the system says, or that it left a way back to root.
pub fn become_user(user: u32, group: u32) -> io::Result<()> {
    let done = |result: libc::c_int| {
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    #[expect(
        unsafe_code,
        reason = "the C library changes all threads at once, and safe calls do not"
    )]
    // SAFETY: the list has one element and the length says so; the other two take numbers.
    unsafe {
        done(libc::setgroups(1, &raw const group))?;
        done(libc::setgid(group))?;
        done(libc::setuid(user))?;
    }
    if user != 0 && rustix::process::geteuid().is_root() {
        return Err(io::Error::other("the system left us root"));
    }
    Ok(())
}
