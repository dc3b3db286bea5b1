//! Reads the files of `redirects` and of conditions again for an unchanged document.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::ValidatedConfig;
use super::file_reload::RenewedContent;
use super::list_files::list_files;

impl ValidatedConfig {
    /// The files of lists, as paths joined with the folder of the configuration. Each is a group of its own.
    pub fn list_files(&self) -> Vec<Vec<PathBuf>> {
        list_files(self.document()).iter().map(|file| vec![self.folder().join(file.path)]).collect()
    }

    /// Reads the changed files again.
    pub fn with_list_files(
        &self,
        changed: &BTreeSet<PathBuf>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> RenewedContent {
        let named = list_files(self.document());
        let paths = named.iter().map(|file| file.path).collect();
        self.with_files_read_again(paths, changed, read, |path, bytes| {
            let kinds = named.iter().filter(|file| file.path == path).map(|file| file.kind);
            let (line, what, _) = kinds.flat_map(|kind| kind.problems(bytes)).next()?;
            Some(format!("{}:{line}: {what}", path.display()))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const YAML: &str = "listeners: [{ address: '127.0.0.1:1' }]\n\
                        routes: [{ respond: { status: 200 }, redirects: { file: r.txt }, \
                        match: { headers: { User-Agent: { not: { file: bots.txt } } } } }]\n";

    fn checked(redirects: &str, texts: &str) -> Result<ValidatedConfig, Vec<String>> {
        let content = |path: &Path| if path.ends_with("r.txt") { redirects } else { texts };
        let read = |path: &Path| Ok(content(path).as_bytes().to_vec());
        let parsed = super::super::parse(Path::new("/etc/weir.yaml"), YAML, &|_| None, &read);
        parsed.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_bad_line_of_a_list_is_a_problem_at_its_line() {
        let problems = checked("/a /b\n/c\n/d /d\n", "# none\n").unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems.iter().any(|at| at.starts_with("/etc/r.txt:2:1: routes[0].redirects.file: ")), "{problems:?}");
        assert!(problems.iter().any(|at| at.starts_with("/etc/r.txt:3:1: ")), "{problems:?}");
        let at = "/etc/bots.txt:1:1: routes[0].match.headers.User-Agent.not.file: ";
        assert!(problems.iter().any(|problem| problem.starts_with(at)), "{problems:?}");
    }

    #[test]
    fn a_list_of_defaults_is_reported_once_at_the_default() {
        let yaml = "listeners: [{ address: '127.0.0.1:1' }]\ndefaults: { redirects: { file: r.txt } }\n\
                    routes: [{ respond: { status: 200 } }, { respond: { status: 200 }, match: { path: /x } }]\n";
        let read = |_: &Path| Ok(b"/a\n".to_vec());
        let problems = super::super::parse(Path::new("/etc/weir.yaml"), yaml, &|_| None, &read).unwrap_err();
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("/etc/r.txt:1:1: defaults.redirects.file: `/a` has no target"), "{problems:?}");
    }

    #[test]
    fn a_list_that_becomes_bad_keeps_its_content() {
        let config = checked("/a /b\n", "bot\n").unwrap();
        let changed: BTreeSet<_> = config.watched_files().into_iter().flatten().collect();
        assert_eq!(changed.len(), 2);
        let again = config.with_list_files(&changed, &|_| Ok(b"/a /c\n".to_vec()));
        let renewed = again.config.unwrap();
        assert_eq!(renewed.file(Path::new("r.txt")), Some(&b"/a /c\n"[..]));
        let again = config.with_list_files(&changed, &|_| Ok(b"/a /a\n".to_vec()));
        assert_eq!((again.changed, again.unfit.len()), (vec![PathBuf::from("bots.txt")], 1));
        assert!(again.unfit[0].starts_with("r.txt:1: the redirect never ends"), "{:?}", again.unfit);
    }
}
