//! Detection of changed files by their metadata (symbolic links are followed). It never reads a file.
//!
//! A change is reported only after the file stayed the same between two polls. Therefore a certificate is not loaded
//! while its key is still being written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::disk::Disk;

/// Metadata that identify a version of a file; `None` if there is no file.
pub type FileStamp = Option<(i64, i64, u64, u64, u64)>;

/// If the last change is at least this old, a later change gets another time stamp. The clock of a file system has a
/// resolution of some milliseconds.
const CLOCK_TICK: Duration = Duration::from_millis(100);

/// The stamp of the file at this path; outer `None` if its folder is not accessible to this user.
pub fn stamp(path: &Path) -> Option<FileStamp> {
    match fs::metadata(path) {
        Ok(data) => Some(of(&data)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(_) => Some(None),
    }
}

/// The stamp of a file that is about to be read. `None` if the last change is so recent that a further change could
/// leave the same stamp.
pub(super) fn stamp_to_go_by(path: &Path) -> Option<FileStamp> {
    let data = fs::metadata(path).ok()?;
    let age = SystemTime::now().duration_since(data.modified().ok()?).ok()?;
    (age >= CLOCK_TICK).then(|| of(&data))
}

fn of(data: &fs::Metadata) -> FileStamp {
    Some((data.mtime(), data.mtime_nsec(), data.len(), data.ino(), data.dev()))
}

/// The last known stamps of files.
#[derive(Debug, Default)]
pub struct Watch {
    files: BTreeMap<PathBuf, SeenFiles>,
}

#[derive(Debug, Default)]
struct SeenFiles {
    /// The stamp at the last poll.
    last: Option<FileStamp>,
    /// The stamp when the file was last reported as changed.
    handled: Option<FileStamp>,
}

impl Watch {
    /// A watch on files that had these stamps when they were read.
    pub fn since(read: BTreeMap<PathBuf, FileStamp>) -> Self {
        let seen = |stamp| SeenFiles { last: Some(stamp), handled: Some(stamp) };
        Self { files: read.into_iter().map(|(path, stamp)| (path, seen(stamp))).collect() }
    }

    /// Polls these files, forgets all others, and returns those that have changed and are stable since the last poll.
    /// The files of a group are returned together, once all of them are stable. A file without a known stamp counts as
    /// changed, because its stamp at the time of reading is unknown. If `stamp` returns `None`, the file counts as
    /// unchanged.
    pub fn changed(
        &mut self,
        groups: &[Vec<PathBuf>],
        stamp: &dyn Fn(&Path) -> Option<FileStamp>,
    ) -> BTreeSet<PathBuf> {
        let mut before = std::mem::take(&mut self.files);
        let mut quiet = BTreeSet::new();
        for path in groups.iter().flatten() {
            if self.files.contains_key(path) {
                continue;
            }
            let (seen, now) = (before.remove(path).unwrap_or_default(), stamp(path));
            let now = now.or(seen.last);
            if now.is_some() && seen.last == now {
                quiet.insert(path.clone());
            }
            self.files.insert(path.clone(), SeenFiles { last: now, handled: seen.handled });
        }
        let mut due = BTreeSet::new();
        for group in groups {
            let changed = |path: &PathBuf| self.files.get(path).is_some_and(|seen| seen.handled != seen.last);
            if group.iter().all(|path| quiet.contains(path)) && group.iter().any(changed) {
                due.extend(group.iter().cloned());
            }
        }
        for path in &due {
            if let Some(seen) = self.files.get_mut(path) {
                seen.handled = seen.last;
            }
        }
        due
    }

    /// As `changed`, with stamps from the file system. Blocks, at most for `FILE_TIMEOUT`.
    ///
    /// # Errors
    /// The file system does not respond. This poll is ignored.
    pub fn look_on_disk(&mut self, groups: &[Vec<PathBuf>]) -> io::Result<BTreeSet<PathBuf>> {
        let Some(first) = groups.iter().flatten().next() else { return Ok(self.changed(groups, &|_| None)) };
        let paths: Vec<PathBuf> = groups.iter().flatten().cloned().collect();
        let stamps = Disk::default().run(first, move || {
            let stamped = paths.into_iter().map(|path| (stamp(&path), path));
            stamped.map(|(stamp, path)| (path, stamp)).collect::<BTreeMap<_, _>>()
        })?;
        Ok(self.changed(groups, &|path| stamps.get(path).copied().flatten()))
    }

    /// Reports these files again at the next poll, because they could not be read for a temporary reason.
    pub fn again(&mut self, paths: &BTreeSet<PathBuf>) {
        for path in paths {
            if let Some(seen) = self.files.get_mut(path) {
                seen.handled = None;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_reported_once_when_all_its_files_are_stable() {
        let groups = vec![vec![PathBuf::from("cert"), PathBuf::from("key")]];
        let mut watch = Watch::default();
        let mut look = |cert: i64, key: i64| {
            let stamp = |path: &Path| Some(Some((if path.ends_with("cert") { cert } else { key }, 0, 0, 0, 0)));
            watch.changed(&groups, &stamp).len()
        };
        assert_eq!((look(1, 1), look(1, 1), look(1, 1)), (0, 2, 0), "new to us: once");
        assert_eq!((look(2, 1), look(2, 2), look(2, 2), look(2, 2)), (0, 0, 2, 0), "the key comes later");
        assert_eq!((look(3, 2), look(2, 2), look(2, 2)), (0, 0, 0), "back to what it was");
    }

    #[test]
    fn files_passed_to_again_are_reported_again() {
        let (groups, mut watch) = (vec![vec![PathBuf::from("a")]], Watch::default());
        let stamp: &dyn Fn(&Path) -> Option<FileStamp> = &|_| Some(Some((1, 0, 0, 0, 0)));
        assert_eq!(watch.changed(&groups, stamp).len(), 0);
        let due = watch.changed(&groups, stamp);
        watch.again(&due);
        assert_eq!((watch.changed(&groups, stamp), watch.changed(&groups, stamp).len()), (due, 0));
    }

    #[test]
    fn a_removed_file_has_changed() {
        let groups = vec![vec![PathBuf::from("a")]];
        let mut watch = Watch::default();
        let there: &dyn Fn(&Path) -> Option<FileStamp> = &|_| Some(Some((1, 0, 0, 0, 0)));
        let gone: &dyn Fn(&Path) -> Option<FileStamp> = &|_| Some(None);
        let counts = [there, there, gone, gone, gone].map(|stamp| watch.changed(&groups, stamp).len());
        assert_eq!(counts, [0, 1, 0, 1, 0]);
    }

    #[test]
    fn files_with_the_same_or_an_unknown_stamp_have_not_changed() {
        let (path, was, is) = (PathBuf::from("a"), Some((1, 0, 0, 0, 0)), Some((2, 0, 0, 0, 0)));
        let groups = vec![vec![path.clone()]];
        let mut watch = Watch::since(BTreeMap::from([(path, was)]));
        let counts =
            [Some(was), None, Some(was), Some(is), None, Some(is)].map(|s| watch.changed(&groups, &|_| s).len());
        assert_eq!(counts, [0, 0, 0, 0, 1, 0]);
        let mut watch = Watch::default();
        let counts = [None, None, Some(is), Some(is)].map(|stamp| watch.changed(&groups, &|_| stamp).len());
        assert_eq!(counts, [0, 0, 0, 1]);
    }

    #[test]
    fn a_recently_changed_file_has_no_reliable_stamp() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let aged = |age| file.as_file().set_modified(SystemTime::now() - age).map(|()| stamp_to_go_by(file.path()));
        assert_eq!(aged(Duration::ZERO).unwrap(), None);
        assert_eq!(aged(Duration::from_secs(60)).unwrap(), stamp(file.path()));
        assert_eq!((stamp(Path::new("/nowhere")), stamp_to_go_by(Path::new("/nowhere"))), (Some(None), None));
    }
}
