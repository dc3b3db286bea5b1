//! Certificates that an ACME server issues for us: which the configuration wants, and where they are kept.
//!
//! It reads them. The room `acme` has them issued, and writes them.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::certificate::{Certificate, digest_of};
use crate::config::schema::{AcmeChallenge, AcmeSettings};
use crate::config::{Disk, ValidatedConfig};

/// A certificate that the configuration wants to have issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeCerts {
    /// The name it is for.
    pub name: Arc<str>,
    /// What it is called in metrics and logs.
    pub label: Arc<str>,
    /// Who issues it.
    pub issuer: Arc<Issuer>,
    /// How that one sees that the name leads here.
    pub challenge: AcmeChallenge,
    /// Where it is kept, its key with it.
    pub file: PathBuf,
}

/// An ACME server, as the configuration has it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Issuer {
    /// Its directory.
    pub directory: String,
    /// Where it may write to.
    pub email: Option<String>,
    /// What its own certificate comes from, PEM; nothing: the system's authorities.
    pub authorities: Option<Vec<u8>>,
    /// Where all that belongs to it is kept.
    pub folder: PathBuf,
}

/// What of `server.state_dir` is for ACME.
pub(super) fn acme_dir(checked: &ValidatedConfig) -> Option<PathBuf> {
    Some(checked.folder().join(checked.document().server.state_dir.as_deref()?).join("acme"))
}

/// All that a configuration wants, by name.
pub(super) fn wanted(checked: &ValidatedConfig) -> BTreeMap<Arc<str>, AcmeCerts> {
    let Some(home) = acme_dir(checked) else { return BTreeMap::new() };
    let sections = checked.document().listeners.iter().filter_map(|listener| listener.tls.as_ref()?.acme.as_ref());
    let of = |acme: &AcmeSettings| {
        let issuer = Arc::new(Issuer {
            directory: acme.directory.clone(),
            email: acme.email.clone(),
            authorities: acme.directory_ca.as_deref().and_then(|ca| checked.file(ca)).map(<[u8]>::to_vec),
            folder: home.join(folder_of(&acme.directory)),
        });
        let managed = |name: String| AcmeCerts {
            label: format!("acme:{name}").into(),
            file: issuer.folder.join(format!("{name}.pem")),
            name: name.into(),
            issuer: Arc::clone(&issuer),
            challenge: acme.challenge,
        };
        let named = |name: String| (Arc::from(name.as_str()), managed(name));
        acme.names.iter().map(ToString::to_string).map(named).collect::<Vec<_>>()
    };
    sections.flat_map(of).collect()
}

/// Why a file of an issued certificate gives none.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Its file system does not answer; the file itself may be right.
    #[error("cannot be read: {0}")]
    NoAnswer(#[source] std::io::Error),
    /// The file.
    #[error("{0}")]
    Bad(String),
}

impl AcmeCerts {
    /// What is kept of it; nothing where there is no such file.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn read(&self) -> Result<Option<Certificate>, Unusable> {
        self.read_by(&Disk::default())
    }

    /// The same as one of several files.
    pub(super) fn read_by(&self, disk: &Disk) -> Result<Option<Certificate>, Unusable> {
        match disk.read_named(&self.file) {
            Ok(bytes) => self.parse(&bytes).map(Some).map_err(Unusable::Bad),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(Unusable::NoAnswer(error)),
            Err(error) => Err(Unusable::Bad(format!("cannot be read: {error}"))),
        }
    }

    /// What has been issued: key and certificates, PEM.
    ///
    /// # Errors
    /// It is none, or for another name.
    pub fn parse(&self, bytes: &[u8]) -> Result<Certificate, String> {
        let certificate = Certificate::read(&self.label, bytes, bytes)?;
        if certificate.covers(&self.name) { Ok(certificate) } else { Err("it is for another name".to_owned()) }
    }
}

/// The folder of a server: its host for people, and what tells it from others there.
fn folder_of(directory: &str) -> String {
    let host = directory.split("//").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
    let digest = digest_of(&[directory.as_bytes()]);
    format!("{host}-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_a_folder_that_people_know_again() {
        let one = folder_of("https://ca.example:14000/dir");
        assert!(one.starts_with("ca.example_14000-"), "{one}");
        assert_ne!(one, folder_of("https://ca.example:14000/other"));
        assert!(!folder_of("https://../..").contains('/'));
    }
}
