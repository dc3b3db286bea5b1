//! File discovery: reads a backend list from a file and detects changes by polling its metadata twice a second.
//!
//! It uses no file system events. Polling also detects a rename over the file, and a symbolic link that changes its
//! target, as in a Kubernetes ConfigMap. It works on network file systems without events. A file that is written in
//! place is read only after two equal polls. So a partial list is not taken for a complete one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::DiscoveryResult;
use crate::config::{self, Disk, schema};

/// Interval between two polls of the metadata.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A file with errors is read again after this time even if it did not change. So the failure counter shows that the
/// errors persist.
const ERROR_REPEAT_INTERVAL: Duration = Duration::from_secs(10);

/// Identifies one state of a file: inode, size and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ListFileStamp {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64, i64, i64),
}

/// A backend list file that is polled.
pub struct BackendFile {
    path: PathBuf,
    upstream: schema::UpstreamSettings,
    seen: Option<ListFileStamp>,
    failed: bool,
}

impl BackendFile {
    /// `upstream`: the upstream of the list; the list is validated with its settings.
    pub fn new(path: PathBuf, upstream: &schema::UpstreamSettings) -> Self {
        Self { path, upstream: upstream.clone(), seen: None, failed: false }
    }

    /// Reads the file.
    pub async fn read(&mut self) -> DiscoveryResult {
        self.seen = stamp(&self.path).await;
        let (path, upstream) = (self.path.clone(), self.upstream.clone());
        let read = tokio::task::spawn_blocking(move || config::backends_in(&path, &upstream)).await;
        self.failed = !matches!(read, Ok(Ok(_)));
        match read {
            Ok(Ok(list)) => DiscoveryResult { list: Some(list), ..DiscoveryResult::default() },
            Ok(Err(problems)) => DiscoveryResult {
                wrong: problems.iter().map(ToString::to_string).collect(),
                ..DiscoveryResult::default()
            },
            Err(error) => DiscoveryResult {
                wrong: vec![format!("{}: {error}", self.path.display())],
                ..DiscoveryResult::default()
            },
        }
    }

    /// Waits until the file must be read again: it changed, or it had errors and `ERROR_REPEAT_INTERVAL` has passed.
    pub async fn changed(&self) {
        let again = Some(Instant::now() + ERROR_REPEAT_INTERVAL).filter(|_| self.failed);
        let mut before = self.seen;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let now = stamp(&self.path).await;
            if is_due(self.seen, before, now) || again.is_some_and(|again| Instant::now() >= again) {
                return;
            }
            before = now;
        }
    }
}

/// Whether the file must be read now. `read` is the state that was read, `before` the state of the previous poll. A
/// replaced file (another inode) is complete and is read at once. A file that is written in place must first be
/// unchanged between two polls.
fn is_due(read: Option<ListFileStamp>, before: Option<ListFileStamp>, now: Option<ListFileStamp>) -> bool {
    let another = now.map(|stamp| stamp.file) != before.map(|stamp| stamp.file);
    now != read && (another || now == before)
}

/// `None` if there is no file, or if its file system does not answer in time.
async fn stamp(path: &Path) -> Option<ListFileStamp> {
    let path = path.to_owned();
    let stat_file = || Disk::default().run(&path.clone(), move || std::fs::metadata(path));
    let stat = tokio::task::spawn_blocking(stat_file).await.ok()?.ok()?.ok()?;
    Some(ListFileStamp {
        file: (stat.dev(), stat.ino()),
        size: stat.size(),
        changed: (stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn backend_file(path: &Path) -> BackendFile {
        BackendFile::new(path.to_owned(), &schema::UpstreamSettings::default())
    }

    async fn read(backend_file: &mut BackendFile) -> String {
        let result = backend_file.read().await;
        result.list.map_or_else(|| result.wrong.join("; "), |list| list[0].address.to_string())
    }

    /// Changes the file, waits until the change is detected, and reads it.
    async fn next(backend_file: &mut BackendFile, change: impl FnOnce()) -> String {
        change();
        tokio::time::timeout(Duration::from_secs(20), backend_file.changed()).await.unwrap();
        read(backend_file).await
    }

    fn list(octet: u8) -> String {
        format!("- address: '10.0.0.{octet}:80'\n")
    }

    #[tokio::test]
    async fn every_kind_of_file_replacement_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["one", "two"] {
            std::fs::create_dir(at(version)).unwrap();
        }
        std::fs::write(at("one/list"), list(1)).unwrap();
        std::fs::write(at("two/list"), list(2)).unwrap();
        symlink(at("one"), at("data")).unwrap();
        symlink(at("data/list"), at("list")).unwrap();
        let mut file = backend_file(&at("list"));
        assert_eq!(read(&mut file).await, "10.0.0.1:80");
        let swapped = next(&mut file, || {
            symlink(at("two"), at("next")).unwrap();
            std::fs::rename(at("next"), at("data")).unwrap();
        });
        assert_eq!(swapped.await, "10.0.0.2:80");
        let renamed = next(&mut file, || {
            std::fs::write(at("new"), list(3)).unwrap();
            std::fs::rename(at("new"), at("list")).unwrap();
        });
        assert_eq!(renamed.await, "10.0.0.3:80");
        let written = next(&mut file, || std::fs::write(at("list"), list(4)).unwrap());
        assert_eq!(written.await, "10.0.0.4:80");
        let gone = next(&mut file, || std::fs::remove_file(at("list")).unwrap());
        assert!(gone.await.ends_with("list:1:1: document: cannot be read: there is no such file."));
        let back = next(&mut file, || std::fs::write(at("list"), list(5)).unwrap());
        assert_eq!(back.await, "10.0.0.5:80");
    }

    #[test]
    fn a_file_is_read_only_after_it_stops_changing() {
        let at = |file: u64, step: i64| Some(ListFileStamp { file: (1, file), size: 1, changed: (step, 0, step, 0) });
        let read = at(1, 0);
        assert!(!is_due(read, at(1, 0), at(1, 0)), "unchanged");
        assert!(!is_due(read, at(1, 0), at(1, 1)) && !is_due(read, at(1, 1), at(1, 2)), "still being written");
        assert!(is_due(read, at(1, 2), at(1, 2)));
        assert!(is_due(read, at(1, 0), at(2, 1)), "a replaced file is complete");
        assert!(is_due(read, at(1, 0), None) && !is_due(None, None, None), "a removal is reported once");
    }
}
