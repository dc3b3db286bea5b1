//! Detects `ca` files whose certificates can never verify a peer. Without this check, the mistake would only show as
//! failed handshakes.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Version};

/// The problem of a file, and a hint.
pub type FileFault = (String, &'static str);

/// The peers that the certificates verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerRole {
    /// A backend or another server, identified by its names.
    Server,
    /// A client.
    Client,
}

const OF_ISSUER: &str = "Write the certificate of the authority that issued it, which says CA:TRUE";
const NEW_VERSION: &str = "Make the authority anew as version 3: `openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=… -keyout … -out …`";
const NEW_NAMES: &str = "Make it anew with the names in subjectAltName: `openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=… \
     -addext subjectAltName=DNS:… -addext basicConstraints=critical,CA:FALSE -keyout … -out …`";

/// The reason why none of these certificates can verify a peer; `None` if at least one can.
pub(super) fn never_verifies(certificates: &[CertificateDer<'_>], peer: PeerRole) -> Option<FileFault> {
    let mut first = None;
    for (index, der) in certificates.iter().enumerate() {
        let (what, hint) = unfit(der, peer)?;
        let which =
            if certificates.len() == 1 { "the certificate".to_owned() } else { format!("certificate {}", index + 1) };
        first.get_or_insert((format!("nothing can be verified by it: {which} {what}"), hint));
    }
    first
}

/// The reason why this certificate cannot verify a peer.
fn unfit(der: &CertificateDer<'_>, peer: PeerRole) -> Option<(&'static str, &'static str)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    if certificate.version() == X509Version::V1 {
        return Some(("is X.509 version 1, which does not say whether it is an authority's", NEW_VERSION));
    }
    if certificate.is_ca() {
        return None;
    }
    if certificate.subject() != certificate.issuer() {
        return Some(("is no authority's (CA:FALSE), and was issued by another one", OF_ISSUER));
    }
    // A self-signed certificate verifies itself if the peer presents it. A server also needs a subject alternative
    // name.
    (peer == PeerRole::Server && !has_name(&certificate))
        .then_some(("is no authority's (CA:FALSE), and has a common name only, which no server is known by", NEW_NAMES))
}

fn has_name(certificate: &X509Certificate<'_>) -> bool {
    let names = certificate.subject_alternative_name().ok().flatten();
    let is_name = |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_));
    names.is_some_and(|names| names.value.general_names.iter().any(is_name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls_pki_types::{ServerName, UnixTime};

    use super::*;

    fn certificate(names: &[&str], is_ca: IsCa) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.is_ca = is_ca;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn issued() -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
    }

    /// Whether a server that presents the certificate is trusted with this certificate as the only root.
    fn verifies_itself(certificate: &CertificateDer<'static>) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
        let name = ServerName::try_from("a.example").unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        verifier.build().unwrap().verify_server_cert(certificate, &[], &name, &[], now).is_ok()
    }

    #[test]
    fn certificates_are_rejected_only_if_they_can_never_verify_a_server() {
        let fault = |certificate: &CertificateDer<'static>| {
            never_verifies(std::slice::from_ref(certificate), PeerRole::Server).map(|(what, _)| what)
        };
        let pinned = [certificate(&["a.example"], IsCa::NoCa), certificate(&["a.example"], IsCa::ExplicitNoCa)];
        for pinned in pinned {
            assert!(verifies_itself(&pinned));
            assert_eq!(fault(&pinned), None);
        }
        for (useless, why) in [
            (certificate(&[], IsCa::NoCa), "common name only"),
            (certificate(&[], IsCa::ExplicitNoCa), "common name only"),
            (issued(), "was issued by another one"),
        ] {
            assert!(!verifies_itself(&useless));
            assert!(fault(&useless).unwrap().contains(why), "{why}");
        }
        assert_eq!(fault(&certificate(&[], IsCa::Ca(BasicConstraints::Unconstrained))), None);
    }

    #[test]
    fn one_certificate_that_verifies_is_enough_and_a_client_needs_no_server_name() {
        let authority = certificate(&[], IsCa::Ca(BasicConstraints::Unconstrained));
        let nameless = certificate(&[], IsCa::ExplicitNoCa);
        assert_eq!(never_verifies(&[issued(), authority], PeerRole::Server), None);
        assert_eq!(never_verifies(std::slice::from_ref(&nameless), PeerRole::Client), None);
        let fault = never_verifies(&[issued(), nameless], PeerRole::Server).unwrap().0;
        assert!(fault.contains("certificate 1 is no authority's"), "{fault}");
    }
}
