//! Reloads the files of `upstreams.*.tls` for an unchanged document.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::ValidatedConfig;
use super::authority::PeerRole;
use super::file_reload::RenewedContent;
use super::io_error::reason;
use super::pem;
use super::schema::Document;

/// Paths of files that belong together, as written in the document.
type Group<'a> = Vec<&'a Path>;

/// CA files, and certificates with their keys.
fn groups(document: &Document) -> Vec<Group<'_>> {
    let mut groups = Vec::new();
    for tls in document.upstreams.values().filter_map(|upstream| upstream.tls.as_ref()) {
        groups.extend(tls.ca.as_deref().map(|ca| vec![ca]));
        groups.extend(tls.certificate.as_ref().map(|pair| vec![&*pair.cert, &*pair.key]));
    }
    groups
}

impl ValidatedConfig {
    /// The groups of files of `upstreams.*.tls`, as paths joined with the folder of the configuration.
    pub fn backend_files(&self) -> Vec<Vec<PathBuf>> {
        let whole = |group: Group<'_>| group.into_iter().map(|path| self.folder().join(path)).collect();
        groups(self.document()).into_iter().map(whole).collect()
    }

    /// Reads the changed files again.
    pub fn with_backend_files(
        &self,
        changed: &BTreeSet<PathBuf>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> RenewedContent {
        let (mut new, mut unfit) = (BTreeMap::new(), Vec::new());
        for group in groups(self.document()) {
            if !group.iter().any(|path| changed.contains(&self.folder().join(path))) {
                continue;
            }
            match self.read_group(&group, read) {
                Ok(files) => new.extend(files),
                Err(what) => unfit.push(what),
            }
        }
        self.with_content(new, unfit)
    }

    fn read_group(
        &self,
        group: &[&Path],
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
        let mut files = Vec::new();
        for path in group {
            let bytes = read(&self.folder().join(path));
            let bytes = bytes.map_err(|error| format!("{} cannot be read: {}", path.display(), reason(&error)))?;
            files.push((path.to_path_buf(), bytes));
        }
        let judged = match files.as_slice() {
            [(_, cert), (_, key)] => pem::pair(cert, key).map(drop).map_err(|bad| bad.to_string()),
            _ => files
                .iter()
                .try_for_each(|(_, ca)| pem::authorities(ca, PeerRole::Server).map(drop).map_err(|(what, _)| what)),
        };
        judged.map_err(|what| format!("{}: {what}", group[0].display()))?;
        Ok(files)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn equal_content_changes_nothing_and_invalid_content_is_reported() {
        let yaml = "listeners: [{ address: \"127.0.0.1:1\" }]\nroutes: [{ upstream: up }]\n\
                    upstreams: { up: { tls: { server_name: a, ca: ca.pem }, backends: [{ address: \"127.0.0.1:2\" }] } }";
        let authority = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            rcgen::CertificateParams::new(vec![name.into()]).unwrap().self_signed(&key).unwrap().pem().into_bytes()
        };
        let (one, other) = (authority("one"), authority("other"));
        let read = |_: &Path| Ok(one.clone());
        let checked = super::super::parse(Path::new("/etc/weir.yaml"), yaml, &|_| None, &read).unwrap();
        let files = checked.backend_files();
        assert_eq!(files, [[PathBuf::from("/etc/ca.pem")]]);
        let changed: BTreeSet<_> = files.into_iter().flatten().collect();
        assert!(checked.with_backend_files(&BTreeSet::new(), &|_| panic!("not asked for")).config.is_none());
        assert!(checked.with_backend_files(&changed, &read).config.is_none());
        let again = checked.with_backend_files(&changed, &|_| Ok(other.clone()));
        assert_eq!(again.config.unwrap().file(Path::new("ca.pem")), Some(&*other));
        assert!(again.unfit.is_empty());
        let again = checked.with_backend_files(&changed, &|_| Ok(b"nothing".to_vec()));
        assert!(again.config.is_none() && again.unfit[0].starts_with("ca.pem: "), "{again:?}");
    }
}
