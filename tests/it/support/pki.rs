//! An authority of our own, and what it issues.

use std::path::Path;
use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};

use super::files::put;

/// An authority.
pub struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

/// What it has issued: PEM.
#[derive(Clone)]
pub struct Issued {
    pub cert: String,
    pub key: String,
    pub serial: u64,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("Weir's tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        Self { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// The authority's own certificate.
    pub fn ca(&self) -> String {
        self.ca.as_ref().pem()
    }

    /// A server's certificate.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_for(names, &rcgen::PKCS_ECDSA_P256_SHA256, |_| {})
    }

    /// The same with a key of this kind, and a change.
    pub fn issue_for(
        &self,
        names: &[&str],
        kind: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        static SERIAL: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1000);
        let serial = SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name = named(names.first().map_or("nobody", String::as_str));
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate_for(kind).unwrap();
        Issued { cert: params.signed_by(&key, &self.ca).unwrap().pem(), key: key.serialize_pem(), serial }
    }

    /// A client's certificate.
    pub fn client(&self, name: &str) -> Issued {
        self.issue_for(&[], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
            params.distinguished_name = named(name);
            params.subject_alt_names = vec![SanType::URI(format!("spiffe://tests/{name}").try_into().unwrap())];
        })
    }

    /// A list that revokes these.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2124, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.ca).unwrap().pem().unwrap()
    }

    /// What examples of a configuration stand for, by a file's ending.
    pub fn example(path: &Path) -> Option<Vec<u8>> {
        static EXAMPLE: OnceLock<(Issued, String)> = OnceLock::new();
        let (pair, crl) = EXAMPLE.get_or_init(|| {
            // One that issued itself stands for authorities as well.
            let own = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
            let pair = Issued { cert: own.cert.pem(), key: own.signing_key.serialize_pem(), serial: 0 };
            (pair, Pki::new().revoke(&[]))
        });
        match path.extension()?.to_str()? {
            "pem" => Some(pair.cert.clone().into_bytes()),
            "key" => Some(pair.key.clone().into_bytes()),
            "crl" => Some(crl.clone().into_bytes()),
            _ => None,
        }
    }
}

impl Issued {
    /// Writes `NAME.pem` and `NAME.key`, each in one go.
    pub fn put(&self, folder: &Path, name: &str) {
        put(folder, &format!("{name}.key"), &self.key);
        put(folder, &format!("{name}.pem"), &self.cert);
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}
