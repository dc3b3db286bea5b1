//! Becoming another user once the sockets are bound, keeping only CAP_NET_BIND_SERVICE so that a reload can still
//! bind port 80. The one place that changes what the process may do.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use caps::{CapSet, Capability, CapsHashSet};

/// Why the process could not become the user.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// No such user.
    #[error("server.user: there is no user `{0}`")]
    NoSuchUser(String),
    /// The system refused a step.
    #[error("server.user: cannot become `{user}`: {step}: {source}; start as root or leave the key out")]
    Refused {
        /// The user.
        user: String,
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Becomes the user. Nothing to do if the process is that user already. Call before threads are started: Linux keeps
/// capabilities per thread.
pub(super) fn become_user(name: &str) -> Result<(), PrivilegeError> {
    let (uid, gid) = look_up(name)?;
    // SAFETY: getuid has no preconditions and cannot fail.
    if unsafe { libc::getuid() } == uid {
        return Ok(());
    }
    let refused = |step| {
        let user = name.to_owned();
        move |source| PrivilegeError::Refused { user, step, source }
    };
    let c_name = CString::new(name).map_err(|_| PrivilegeError::NoSuchUser(name.to_owned()))?;
    // SAFETY: plain system calls; `c_name` is a valid C string that outlives the call.
    unsafe {
        call(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0)).map_err(refused("keep capabilities"))?;
        call(libc::initgroups(c_name.as_ptr(), gid)).map_err(refused("set groups"))?;
        call(libc::setgid(gid)).map_err(refused("set group"))?;
        call(libc::setuid(uid)).map_err(refused("set user"))?;
    }
    keep_only_bind().map_err(refused("drop capabilities"))
}

/// Gives files that were just made to the user, so that a reload can read them. Call while still root.
pub(super) fn hand_over(name: &str, made: &[PathBuf]) -> Result<(), PrivilegeError> {
    let (uid, gid) = look_up(name)?;
    // SAFETY: geteuid has no preconditions and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(());
    }
    let refused = |source| PrivilegeError::Refused { user: name.to_owned(), step: "give it its files", source };
    made.iter().try_for_each(|path| std::os::unix::fs::chown(path, Some(uid), Some(gid))).map_err(refused)
}

fn call(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn look_up(name: &str) -> Result<(libc::uid_t, libc::gid_t), PrivilegeError> {
    let missing = || PrivilegeError::NoSuchUser(name.to_owned());
    let c_name = CString::new(name).map_err(|_| missing())?;
    let mut text = vec![0; 16 * 1024];
    let mut found = std::ptr::null_mut();
    // SAFETY: `passwd` is plain old data for which all zeroes is a value.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    // SAFETY: all pointers are valid for the lengths given, for the time of the call.
    let result =
        unsafe { libc::getpwnam_r(c_name.as_ptr(), &raw mut entry, text.as_mut_ptr(), text.len(), &raw mut found) };
    if result != 0 || found.is_null() { Err(missing()) } else { Ok((entry.pw_uid, entry.pw_gid)) }
}

fn keep_only_bind() -> io::Result<()> {
    let bind: CapsHashSet = [Capability::CAP_NET_BIND_SERVICE].into_iter().collect();
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &bind).map_err(io::Error::other)?;
    }
    Ok(())
}
