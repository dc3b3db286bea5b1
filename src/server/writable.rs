//! Whether files can be created in a folder. Nothing is left behind.

use std::io;
use std::path::Path;

/// Whether a file can be created in the folder of this path.
pub(super) fn can_create(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(folder).map(drop)
}
