//! Reads the files of `allow` and `deny` again for an unchanged document.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::ValidatedConfig;
use super::files::LoadedFiles;
use super::io_error::reason;
use super::network_files::{bad_lines, network_files};

impl ValidatedConfig {
    /// All files whose changes are applied without a reload, in groups that belong together.
    pub fn watched_files(&self) -> Vec<Vec<PathBuf>> {
        let mut groups = [self.backend_files(), self.body_files()].concat();
        groups.extend(network_files(self.document()).iter().map(|file| vec![self.folder().join(file.path)]));
        groups
    }

    /// Reads the changed files of networks again. Returns the same document with the new content, or `None` if no
    /// content differs. A file that cannot be used keeps its old content; the second value lists these problems.
    pub fn with_network_files(
        &self,
        changed: &BTreeSet<PathBuf>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> (Option<Self>, Vec<String>) {
        let (mut held, mut unfit, mut seen) = (self.files().held.clone(), Vec::new(), BTreeSet::new());
        for file in network_files(self.document()) {
            let whole = self.folder().join(file.path);
            if !changed.contains(&whole) || !seen.insert(file.path) {
                continue;
            }
            match self.read_networks(file.path, &whole, read) {
                Ok(bytes) => drop(held.insert(file.path.to_owned(), bytes)),
                Err(what) => unfit.push(what),
            }
        }
        let differs = held != self.files().held;
        let renewed = differs.then(|| self.with_files(LoadedFiles { held, ..self.files().clone() }));
        (renewed, unfit)
    }

    fn read_networks(
        &self,
        path: &Path,
        whole: &Path,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Vec<u8>, String> {
        let name = path.display();
        let bytes = read(whole).map_err(|error| format!("{name} cannot be read: {}", reason(&error)))?;
        let is_allow = network_files(self.document()).iter().any(|file| file.path == path && file.is_allow);
        match bad_lines(&bytes, is_allow).first() {
            Some((line, what)) => Err(format!("{name}:{line}: {what}")),
            None => Ok(bytes),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const YAML: &str = "listeners: [{ address: '127.0.0.1:1', deny: { file: deny.txt } }]\n\
                        routes: [{ respond: { status: 200 }, allow: { file: allow.txt } }]\n";

    fn checked(content: &str) -> Result<ValidatedConfig, Vec<String>> {
        let read = |_: &Path| Ok(content.as_bytes().to_vec());
        let parsed = super::super::parse(Path::new("/etc/weir.yaml"), YAML, &|_| None, &read);
        parsed.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_file_that_becomes_bad_keeps_its_content() {
        let config = checked("10.0.0.0/8\n").unwrap();
        let changed: BTreeSet<_> = config.watched_files().into_iter().flatten().collect();
        assert_eq!(changed.len(), 2);
        assert!(config.with_network_files(&changed, &|_| Ok(b"10.0.0.0/8\n".to_vec())).0.is_none());
        let (renewed, unfit) = config.with_network_files(&changed, &|_| Ok(b"# none\n".to_vec()));
        assert_eq!(renewed.unwrap().file(Path::new("deny.txt")), Some(&b"# none\n"[..]));
        assert_eq!(unfit, ["allow.txt:1: no network in this file, so `allow` would refuse every client"]);
        let (renewed, unfit) = config.with_network_files(&changed, &|_| Ok(b"10.0.0.0/8\nbad\n".to_vec()));
        assert!(renewed.is_none() && unfit.len() == 2 && unfit[0].starts_with("deny.txt:2: `bad`"), "{unfit:?}");
    }

    #[test]
    fn a_bad_line_is_a_problem_at_its_line() {
        let problems = checked("10.0.0.0/8\nbad\n").unwrap_err();
        assert!(problems.iter().any(|problem| problem.starts_with("/etc/deny.txt:2:1: ")), "{problems:?}");
        let problems = checked("").unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains("allow.txt") && problem.contains("no network")));
    }
}
