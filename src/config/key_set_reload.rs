//! Reads the key sets of `auth.*.jwt.jwks` again for an unchanged document.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::ValidatedConfig;
use super::file_reload::RenewedContent;
use super::key_set_files::{bad_key_set, key_set_files};

impl ValidatedConfig {
    /// The files of key sets, as paths joined with the folder of the configuration. Each is a group of its own.
    pub fn key_set_files(&self) -> Vec<Vec<PathBuf>> {
        key_set_files(self.document()).iter().map(|(_, path)| vec![self.folder().join(path)]).collect()
    }

    /// Reads the changed files again.
    pub fn with_key_set_files(
        &self,
        changed: &BTreeSet<PathBuf>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> RenewedContent {
        let paths = key_set_files(self.document()).into_iter().map(|(_, path)| path).collect();
        self.with_files_read_again(paths, changed, read, |path, bytes| {
            bad_key_set(bytes).map(|(what, _)| format!("{}: {what}", path.display()))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const YAML: &str = "listeners: [{ address: '127.0.0.1:1' }]\nroutes: [{ respond: { status: 200 } }]\n\
                        auth: { api: { jwt: { issuer: i, audience: a, jwks: { file: keys.json } } } }\n";
    const KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn checked(content: &str) -> Result<ValidatedConfig, Vec<String>> {
        let read = |_: &Path| Ok(content.as_bytes().to_vec());
        let parsed = super::super::parse(Path::new("/etc/weir.yaml"), YAML, &|_| None, &read);
        parsed.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_bad_key_is_a_problem_at_its_index() {
        let bad = KEY.replace("11qY", "11");
        let problems = checked(&format!("{{\"keys\":[{KEY},{bad}]}}")).unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains("keys[1]: ")), "{problems:?}");
        for content in ["{\"keys\":[]}", "<html>", "{}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}"] {
            assert!(checked(content).is_err(), "{content}");
        }
    }

    #[test]
    fn a_key_for_encryption_beside_others_is_no_problem() {
        let other = KEY.replace("{\"kty\"", "{\"use\":\"enc\",\"kty\"");
        assert!(checked(&format!("{{\"keys\":[{KEY},{other}]}}")).is_ok());
    }

    #[test]
    fn a_key_set_that_becomes_bad_keeps_its_content() {
        let config = checked(&format!("{{\"keys\":[{KEY}]}}")).unwrap();
        let changed: BTreeSet<_> = config.watched_files().into_iter().flatten().collect();
        assert_eq!(changed, BTreeSet::from([PathBuf::from("/etc/keys.json")]));
        let again = config.with_key_set_files(&changed, &|_| Ok(b"{}".to_vec()));
        assert!(again.config.is_none() && again.unfit[0].starts_with("keys.json: "), "{again:?}");
        let two = format!("{{\"keys\":[{KEY},{KEY}]}}");
        let again = config.with_key_set_files(&changed, &|_| Ok(two.clone().into_bytes()));
        assert_eq!(again.config.unwrap().file(Path::new("keys.json")), Some(two.as_bytes()));
    }
}
