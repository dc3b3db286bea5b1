//! Reads the files of `auth` again for an unchanged document.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::ValidatedConfig;
use super::auth_files::auth_files;
use super::file_reload::RenewedContent;

impl ValidatedConfig {
    /// The files of access policies, as paths joined with the folder of the configuration. Each is a group of its own.
    pub fn auth_files(&self) -> Vec<Vec<PathBuf>> {
        auth_files(self.document()).iter().map(|file| vec![self.folder().join(file.path)]).collect()
    }

    /// Reads the changed files again.
    pub fn with_auth_files(
        &self,
        changed: &BTreeSet<PathBuf>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> RenewedContent {
        let named = auth_files(self.document());
        let paths = named.iter().map(|file| file.path).collect();
        self.with_files_read_again(paths, changed, read, |path, bytes| {
            let formats = named.iter().filter(|file| file.path == path).map(|file| file.format);
            let bad = formats.flat_map(|format| format.bad_lines(bytes)).next()?;
            Some(format!("{}:{}: {}", path.display(), bad.line, bad.what))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const YAML: &str = "listeners: [{ address: '127.0.0.1:1' }]\n\
                        routes: [{ respond: { status: 200 } }]\n\
                        auth:\n  \
                          staff: { basic: { file: users } }\n  \
                          programs: { api_keys: { file: keys, header: x-api-key } }\n";
    const USERS: &str = "alice:$2y$04$9gaZ0gdgvIbMab3QSVlMMO88m/BDD/0vcHv/Y.KCfThKSR13T6FmO\n";
    const KEYS: &str = "acme sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";

    fn read<'a>(users: &'a str, keys: &'a str) -> impl Fn(&Path) -> io::Result<Vec<u8>> + 'a {
        let of = move |path: &Path| if path.ends_with("users") { users } else { keys };
        move |path| Ok(of(path).as_bytes().to_vec())
    }

    fn checked(users: &str, keys: &str) -> Result<ValidatedConfig, Vec<String>> {
        let parsed = super::super::parse(Path::new("/etc/weir.yaml"), YAML, &|_| None, &read(users, keys));
        parsed.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_file_that_becomes_bad_keeps_its_content() {
        let config = checked(USERS, KEYS).unwrap();
        let changed: BTreeSet<_> = config.watched_files().into_iter().flatten().collect();
        assert_eq!(changed, BTreeSet::from(["/etc/users", "/etc/keys"].map(PathBuf::from)));
        assert!(config.with_auth_files(&changed, &read(USERS, KEYS)).config.is_none(), "nothing changed");
        let more = USERS.replace("alice", "bob") + USERS;
        let again = config.with_auth_files(&changed, &read(&more, "acme secret\n"));
        let new = again.config.unwrap();
        assert_eq!(new.file(Path::new("users")), Some(more.as_bytes()));
        assert_eq!(new.file(Path::new("keys")), Some(KEYS.as_bytes()));
        assert_eq!(again.unfit, ["keys:1: no hash `sha256:…` with 64 hexadecimal digits after the name"]);
        for (users, keys) in [("", ""), ("# none\n", "#\n"), ("alice:secret\n", "secret\n")] {
            let again = config.with_auth_files(&changed, &read(users, keys));
            assert!(again.config.is_none() && again.unfit.len() == 2, "{again:?}");
            assert!(!again.unfit.concat().contains("secret"), "{again:?}");
        }
        let gone = config.with_auth_files(&changed, &|_| Err(io::ErrorKind::NotFound.into()));
        assert!(gone.config.is_none() && gone.unfit[0].starts_with("keys cannot be read: "), "{gone:?}");
    }

    #[test]
    fn each_bad_line_is_a_problem_at_its_line() {
        let problems =
            checked(&format!("{USERS}bob:hunter2\ncarol:$1$AC3Zbb38$x\n"), &format!("{KEYS}\n{KEYS}")).unwrap_err();
        let starts = [
            "/etc/keys:3:1: auth.programs.api_keys.file: the key has a line already: line 1",
            "/etc/users:2:1: auth.staff.basic.file: no known hash: a password in clear or an unknown format",
            "/etc/users:3:1: auth.staff.basic.file: MD5, which is too weak. Make the line with `htpasswd -nB USER`",
        ];
        assert!(
            problems.len() == 3 && starts.iter().zip(&problems).all(|(start, is)| is.starts_with(start)),
            "{problems:#?}"
        );
    }

    #[test]
    fn a_missing_file_is_a_problem_at_its_key() {
        let missing = |_: &Path| Err(io::ErrorKind::NotFound.into());
        let problems = super::super::parse(Path::new("/etc/weir.yaml"), YAML, &|_| None, &missing).unwrap_err();
        let places: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(places, ["auth.staff.basic.file", "auth.programs.api_keys.file"], "{problems:?}");
    }

    #[test]
    fn debug_shows_no_content_of_a_file() {
        let shown = format!("{:?}", checked(USERS, KEYS).unwrap());
        let bytes = format!("{:?}", &USERS.as_bytes()[..20]);
        assert!(!shown.contains("$2y$") && !shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
    }
}
