//! A list in a file: read when the file is another, by its metadata looked at twice a second.
//!
//! Looking is plain and sees every way of replacing a file: a rename over it, a symbolic link that is turned to another
//! folder (as Kubernetes does with a ConfigMap), a network file system that tells no events. A file that is written in
//! place is read once it has stood still between two looks, so that half a list is not taken for all of it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::DiscoveryResult;
use crate::config::{self, Disk, schema};

/// From one look at the metadata to the next.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A file with problems is read again after this long as it is, so that whoever counts failures sees that they go on.
const ERROR_REPEAT_INTERVAL: Duration = Duration::from_secs(10);

/// Tells one state of a file from another; of no file there is nothing to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ListFileStamp {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64, i64, i64),
}

/// A file that is looked at.
pub struct BackendFile {
    path: PathBuf,
    upstream: schema::UpstreamSettings,
    seen: Option<ListFileStamp>,
    failed: bool,
}

impl BackendFile {
    /// `upstream`: what the list is for, and is judged with.
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

    /// Waits until it is to be read again: when it is another one than the one that was read, or if that had problems.
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

/// Whether what is there now is to be read, by what was read and what the last look saw. Another file in its place is whole;
/// the same one has to stand still first.
fn is_due(read: Option<ListFileStamp>, before: Option<ListFileStamp>, now: Option<ListFileStamp>) -> bool {
    let another = now.map(|stamp| stamp.file) != before.map(|stamp| stamp.file);
    now != read && (another || now == before)
}

/// Nothing where there is no file, and where its file system does not answer.
async fn stamp(path: &Path) -> Option<ListFileStamp> {
    let path = path.to_owned();
    let look = || Disk::default().run(&path.clone(), move || std::fs::metadata(path));
    let found = tokio::task::spawn_blocking(look).await.ok()?.ok()?.ok()?;
    Some(ListFileStamp {
        file: (found.dev(), found.ino()),
        size: found.size(),
        changed: (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn watched(path: &Path) -> BackendFile {
        BackendFile::new(path.to_owned(), &schema::UpstreamSettings::default())
    }

    async fn read(watched: &mut BackendFile) -> String {
        let look = watched.read().await;
        look.list.map_or_else(|| look.wrong.join("; "), |list| list[0].address.to_string())
    }

    /// The next state of the file, once it is seen.
    async fn next(watched: &mut BackendFile, change: impl FnOnce()) -> String {
        change();
        tokio::time::timeout(Duration::from_secs(20), watched.changed()).await.unwrap();
        read(watched).await
    }

    fn list(octet: u8) -> String {
        format!("- address: '10.0.0.{octet}:80'\n")
    }

    #[tokio::test]
    async fn every_way_of_replacing_a_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["one", "two"] {
            std::fs::create_dir(at(version)).unwrap();
        }
        std::fs::write(at("one/list"), list(1)).unwrap();
        std::fs::write(at("two/list"), list(2)).unwrap();
        symlink(at("one"), at("data")).unwrap();
        symlink(at("data/list"), at("list")).unwrap();
        let mut file = watched(&at("list"));
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
    fn a_file_that_is_being_written_is_waited_for() {
        let at = |file: u64, step: i64| Some(ListFileStamp { file: (1, file), size: 1, changed: (step, 0, step, 0) });
        let read = at(1, 0);
        assert!(!is_due(read, at(1, 0), at(1, 0)), "as it was");
        assert!(!is_due(read, at(1, 0), at(1, 1)) && !is_due(read, at(1, 1), at(1, 2)), "still being written");
        assert!(is_due(read, at(1, 2), at(1, 2)));
        assert!(is_due(read, at(1, 0), at(2, 1)), "another file is whole at once");
        assert!(is_due(read, at(1, 0), None) && !is_due(None, None, None), "gone is told once");
    }
}
