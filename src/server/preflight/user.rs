//! The user that Weir becomes, and file operations with the rights of that user.

use std::ffi::CString;
use std::io;

use caps::{CapSet, Capability};
use nix::unistd::{self, Gid, Uid, User};

/// The user that Weir becomes.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// The user of this process.
    Same,
    /// The user of `server.user`.
    Other(User),
}

/// The user of `server.user`.
///
/// # Errors
/// There is no such user, or this process cannot become that user.
pub(super) fn target(name: Option<&str>) -> Result<Target, String> {
    let Some(name) = name else { return Ok(Target::Same) };
    let Some(user) = User::from_name(name).ok().flatten() else {
        return Err(format!("there is no user `{name}`"));
    };
    if Uid::current() == user.uid {
        return Ok(Target::Same);
    }
    let needed = [
        (CapSet::Effective, Capability::CAP_SETUID),
        (CapSet::Effective, Capability::CAP_SETGID),
        (CapSet::Permitted, Capability::CAP_NET_BIND_SERVICE),
    ];
    match needed.into_iter().find(|(set, capability)| !caps::has_cap(None, *set, *capability).unwrap_or(false)) {
        None => Ok(Target::Other(user)),
        Some((_, capability)) => Err(format!("uid {} cannot become `{name}`: it lacks {capability}", Uid::current())),
    }
}

impl Target {
    /// Runs a file operation with the rights of the user. Call it on a thread that does nothing else: the file system
    /// user is a property of the thread.
    pub(super) fn with_its_rights<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Self::Other(user) = self else { return work() };
        let name = CString::new(user.name.as_str())?;
        let (groups, before) = (unistd::getgrouplist(&name, user.gid)?, unistd::getgroups()?);
        unistd::setgroups(&groups)?;
        let gid: Gid = unistd::setfsgid(user.gid);
        let uid: Uid = unistd::setfsuid(user.uid);
        let result = work();
        unistd::setfsuid(uid);
        unistd::setfsgid(gid);
        unistd::setgroups(&before)?;
        result
    }
}
