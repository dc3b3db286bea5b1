//! Files and folders that tests make.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::pki::Issued;

/// A folder with these pairs, as `NAME.pem` and `NAME.key`.
pub fn folder(pairs: &[(&str, &Issued)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    pairs.iter().for_each(|(name, issued)| issued.put(folder.path(), name));
    folder
}

/// Writes a file in one go: others see the old one or the new one.
pub fn put(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let new = folder.join(format!(".{name}.new"));
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, folder.join(name)).unwrap();
}

/// Makes a FIFO.
pub fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
}

pub fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
