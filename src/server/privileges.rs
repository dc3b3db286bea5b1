//! Drops root privileges after the sockets are bound. CAP_NET_BIND_SERVICE is retained, so that a reload can bind port
//! 80.
//!
//! No other module changes the user or the capabilities of the process.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{Uid, User, initgroups, setgid, setuid};

/// Why the process could not switch to the user.
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
        /// The step that failed.
        step: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// Switches to the user. Does nothing if the process already runs as that user. Call it before threads start: Linux
/// keeps capabilities per thread.
pub(super) fn become_user(name: &str) -> Result<(), PrivilegeError> {
    let user = look_up(name)?;
    if Uid::current() == user.uid {
        return Ok(());
    }
    let refused = |step| {
        let user = name.to_owned();
        move |source: nix::Error| PrivilegeError::Refused { user, step, source: source.into() }
    };
    let c_name = CString::new(name).map_err(|_| PrivilegeError::NoSuchUser(name.to_owned()))?;
    prctl::set_keepcaps(true).map_err(refused("keep capabilities"))?;
    initgroups(&c_name, user.gid).map_err(refused("set groups"))?;
    setgid(user.gid).map_err(refused("set group"))?;
    setuid(user.uid).map_err(refused("set user"))?;
    let step = "drop capabilities";
    keep_only_bind().map_err(|source| PrivilegeError::Refused { user: name.to_owned(), step, source })
}

/// Changes the owner of created files to the user, so that a reload can read them. Call it while still root.
pub(super) fn hand_over(name: &str, made: &[PathBuf]) -> Result<(), PrivilegeError> {
    let user = look_up(name)?;
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    let refused = |source| PrivilegeError::Refused { user: name.to_owned(), step: "give it its files", source };
    made.iter().try_for_each(|path| std::os::unix::fs::chown(path, Some(uid), Some(gid))).map_err(refused)
}

fn look_up(name: &str) -> Result<User, PrivilegeError> {
    User::from_name(name).ok().flatten().ok_or_else(|| PrivilegeError::NoSuchUser(name.to_owned()))
}

fn keep_only_bind() -> io::Result<()> {
    let bind: CapsHashSet = [Capability::CAP_NET_BIND_SERVICE].into_iter().collect();
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &bind).map_err(io::Error::other)?;
    }
    // The new process of an upgrade has the capability only if it is ambient.
    for set in [CapSet::Inheritable, CapSet::Ambient] {
        if let Err(error) = caps::set(None, set, &bind) {
            tracing::debug!(%error, "an upgrade will not keep CAP_NET_BIND_SERVICE");
        }
    }
    Ok(())
}
