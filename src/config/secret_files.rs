//! Secret key files that Weir creates if they are missing. They are read and checked by every load, but created only
//! when the document becomes active.
//!
//! The content of a file is never printed, and an existing file is never written to.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{disk, io_error};

/// Minimum length of a secret, in bytes: the output length of HMAC-SHA-256 (RFC 2104 section 3).
pub(super) const MIN_SECRET_BYTES: usize = 32;

/// Maximum size of a key file, in bytes.
const MAX_SECRET_BYTES: u64 = 4096;

/// The result of reading or creating a key file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Had {
    /// The secret.
    Key(Vec<u8>),
    /// The file does not exist.
    Missing,
    /// This process may not use the file: the problem, and a hint.
    Forbidden(String, &'static str),
    /// The file cannot be used: the problem, and a hint.
    Unfit(String, &'static str),
}

/// Reads and checks a key file.
pub(super) fn read(path: &Path) -> Had {
    match read_private(path) {
        Ok(None) => {
            Had::Forbidden("everybody on this machine may read or write it".into(), "Take that away: `chmod 600`")
        }
        Ok(Some(bytes)) => from(Ok(bytes)),
        Err(error) => from(Err(error)),
    }
}

/// Checks the result of reading a key file.
pub(super) fn from(read: io::Result<Vec<u8>>) -> Had {
    match read {
        Ok(bytes) => judge(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Had::Missing,
        Err(error) => {
            let hint = io_error::hint(&error).unwrap_or(io_error::TO_BE_READ);
            let what = format!("cannot be read: {}", io_error::reason(&error));
            if io_error::is_of_host(&error) { Had::Forbidden(what, hint) } else { Had::Unfit(what, hint) }
        }
    }
}

/// Creates a key file for its owner alone, and returns the secret. If another process creates it first, returns that
/// secret.
pub(super) fn make(path: &Path) -> Had {
    match write_new(path) {
        Ok(()) => read(path),
        Err(error) => {
            let hint = "Its folder has to be writable for who starts Weir; or make it: `openssl rand -hex 32`";
            Had::Unfit(format!("cannot be made: {}", io_error::reason(&error)), hint)
        }
    }
}

/// The secret in a file, without surrounding white space.
fn judge(bytes: &[u8]) -> Had {
    let key = bytes.trim_ascii();
    if key.len() < MIN_SECRET_BYTES {
        let hint = "Make one with `openssl rand -hex 32`, or remove the file to have one made";
        return Had::Unfit(format!("the secret in this file is shorter than {MIN_SECRET_BYTES} bytes"), hint);
    }
    Had::Key(key.to_vec())
}

/// `None` if other users than owner and group may read or write the file.
fn read_private(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = disk::open_regular(path)?;
    if file.metadata()?.permissions().mode() & 0o006 != 0 {
        return Ok(None);
    }
    disk::read_bounded(file, MAX_SECRET_BYTES).map(Some)
}

/// Creates the file atomically: it is written under a temporary name, then linked unless a file exists.
fn write_new(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut secret = [0; MIN_SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
    // `tempfile` creates files with mode 0600.
    let mut aside = tempfile::Builder::new().prefix(".weir-key-").tempfile_in(folder)?;
    let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(aside, "{text}")?;
    aside.as_file().sync_all()?;
    match aside.persist_noclobber(path) {
        Err(refused) if refused.error.kind() != io::ErrorKind::AlreadyExists => return Err(refused.error),
        _ => {}
    }
    // The name must be durable as well. An error is ignored, because some file systems do not support it.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn unfit(had: Had) -> String {
        match had {
            Had::Forbidden(what, _) | Had::Unfit(what, _) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_created_once_with_mode_0600() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sticky.key");
        assert_eq!(read(&path), Had::Missing);
        let Had::Key(key) = make(&path) else { panic!("no key") };
        assert!(key.len() == 64 && key.iter().all(u8::is_ascii_hexdigit));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(make(&path), Had::Key(key.clone()), "what is there stays");
        assert_eq!(read(&path), Had::Key(key.clone()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        assert_ne!(make(&folder.path().join("another.key")), Had::Key(key));
    }

    #[test]
    fn concurrent_creators_get_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || make(&path))
            })
            .collect();
        let keys: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(matches!(keys[0], Had::Key(_)) && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

    #[test]
    fn an_unsuitable_key_file_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        std::fs::write(&path, "a".repeat(64)).unwrap();
        for (mode, fit) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(matches!(read(&path), Had::Key(_)), fit, "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, format!("  {} \n", "a".repeat(31))).unwrap();
        assert!(unfit(read(&path)).contains("shorter than 32 bytes"));
        std::fs::write(&path, "a".repeat(5_000)).unwrap();
        assert!(unfit(read(&path)).contains("too long"));
        assert!(unfit(read(folder.path())).contains("not a regular file"));
        assert!(unfit(make(Path::new("/no/such/folder/k"))).contains("cannot be made"));
    }
}
