//! The certificates that an ACME server issues: which the configuration asks for, and in which files they are stored.
//!
//! It only reads the files. The module `acme` obtains the certificates and writes the files.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::certificate::{Certificate, digest_of};
use crate::config::schema::{AcmeChallenge, AcmeSettings};
use crate::config::{Disk, ValidatedConfig};

/// A certificate that the configuration asks to have issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeCerts {
    /// The DNS name that the certificate is for.
    pub name: Arc<str>,
    /// The name of the certificate in metrics and logs.
    pub label: Arc<str>,
    /// The ACME server that issues it.
    pub issuer: Arc<Issuer>,
    /// The challenge type by which the ACME server checks control of the name.
    pub challenge: AcmeChallenge,
    /// The PEM file with the certificate chain and the key.
    pub file: PathBuf,
}

/// An ACME server and account, as configured.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Issuer {
    /// The URL of the ACME directory.
    pub directory: String,
    /// The contact address of the account.
    pub email: Option<String>,
    /// The CA certificates for the ACME server's own certificate, PEM. `None`: those of the operating system.
    pub authorities: Option<Vec<u8>>,
    /// The directory of all files that belong to this server.
    pub folder: PathBuf,
}

/// The ACME directory inside `server.state_dir`. `None` without a state directory.
pub(super) fn acme_dir(checked: &ValidatedConfig) -> Option<PathBuf> {
    Some(checked.folder().join(checked.document().server.state_dir.as_deref()?).join("acme"))
}

/// All ACME certificates of a configuration, by DNS name.
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

/// Why the file of an issued certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The file system does not answer in time. The file itself may be valid.
    #[error("cannot be read: {0}")]
    NoAnswer(#[source] std::io::Error),
    /// The file is invalid or unreadable.
    #[error("{0}")]
    Bad(String),
}

impl AcmeCerts {
    /// Reads the stored certificate. `None` if there is no such file.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn read(&self) -> Result<Option<Certificate>, Unusable> {
        self.read_by(&Disk::default())
    }

    /// As `read`, with a shared `Disk` for several files.
    pub(super) fn read_by(&self, disk: &Disk) -> Result<Option<Certificate>, Unusable> {
        match disk.read_named(&self.file) {
            Ok(bytes) => self.parse(&bytes).map(Some).map_err(Unusable::Bad),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(Unusable::NoAnswer(error)),
            Err(error) => Err(Unusable::Bad(format!("cannot be read: {error}"))),
        }
    }

    /// Parses an issued key and certificate chain, both in one PEM text.
    ///
    /// # Errors
    /// The text is invalid, or the certificate is for another name.
    pub fn parse(&self, bytes: &[u8]) -> Result<Certificate, String> {
        let certificate = Certificate::read(&self.label, bytes, bytes)?;
        if certificate.covers(&self.name) { Ok(certificate) } else { Err("it is for another name".to_owned()) }
    }
}

/// The directory name of an ACME server: its host for readability, and a digest of its URL to make it unique.
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
    fn each_acme_server_has_a_folder_with_a_readable_name() {
        let one = folder_of("https://ca.example:14000/dir");
        assert!(one.starts_with("ca.example_14000-"), "{one}");
        assert_ne!(one, folder_of("https://ca.example:14000/other"));
        assert!(!folder_of("https://../..").contains('/'));
    }
}
