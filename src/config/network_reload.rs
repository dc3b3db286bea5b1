//! Reads the files of `allow` and `deny` again for an unchanged document.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::ValidatedConfig;
use super::file_reload::RenewedContent;
use super::network_files::{bad_lines, network_files};

impl ValidatedConfig {
    /// The files of networks, as paths joined with the folder of the configuration. Each is a group of its own.
    pub fn network_files(&self) -> Vec<Vec<PathBuf>> {
        network_files(self.document()).iter().map(|file| vec![self.folder().join(file.path)]).collect()
    }

    /// Reads the changed files again.
    pub fn with_network_files(
        &self,
        changed: &BTreeSet<PathBuf>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> RenewedContent {
        let named = network_files(self.document());
        let paths = named.iter().map(|file| file.path).collect();
        self.with_files_read_again(paths, changed, read, |path, bytes| {
            let is_allow = named.iter().any(|file| file.path == path && file.is_allow);
            let (line, what) = bad_lines(bytes, is_allow).into_iter().next()?;
            Some(format!("{}:{line}: {what}", path.display()))
        })
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
        assert!(config.with_network_files(&changed, &|_| Ok(b"10.0.0.0/8\n".to_vec())).config.is_none());
        let again = config.with_network_files(&changed, &|_| Ok(b"# none\n".to_vec()));
        assert_eq!(again.config.unwrap().file(Path::new("deny.txt")), Some(&b"# none\n"[..]));
        assert_eq!(again.unfit, ["allow.txt:1: no network in this file, so `allow` would refuse every client"]);
        let again = config.with_network_files(&changed, &|_| Ok(b"10.0.0.0/8\nbad\n".to_vec()));
        assert!(again.config.is_none() && again.unfit.len() == 2, "{again:?}");
        assert!(again.unfit[1].starts_with("deny.txt:2: `bad`"), "{again:?}");
    }

    #[test]
    fn a_bad_line_is_a_problem_at_its_line() {
        let problems = checked("10.0.0.0/8\nbad\n").unwrap_err();
        assert!(problems.iter().any(|problem| problem.starts_with("/etc/deny.txt:2:1: ")), "{problems:?}");
        let problems = checked("").unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains("allow.txt") && problem.contains("no network")));
    }
}
