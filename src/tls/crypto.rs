//! The crypto provider: aws-lc-rs, with hybrid post-quantum key exchange (X25519MLKEM768) preferred.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, SupportedCipherSuite};

use crate::config::schema::Suite;

/// Installs it as the default of the process, also for connections to backends. Call it before any use of TLS.
pub fn install() {
    // Fails only if one is already installed, which then stays.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The provider, restricted to `suites` if there are any.
pub(super) fn provider(suites: Option<&[Suite]>) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if let Some(suites) = suites {
        let wanted: Vec<CipherSuite> = suites.iter().map(|suite| registered(*suite)).collect();
        provider.cipher_suites.retain(|suite: &SupportedCipherSuite| wanted.contains(&suite.suite()));
    }
    Arc::new(provider)
}

fn registered(suite: Suite) -> CipherSuite {
    match suite {
        Suite::TLS_AES_256_GCM_SHA384 => CipherSuite::TLS13_AES_256_GCM_SHA384,
        Suite::TLS_AES_128_GCM_SHA256 => CipherSuite::TLS13_AES_128_GCM_SHA256,
        Suite::TLS_CHACHA20_POLY1305_SHA256 => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use rustls::NamedGroup;

    use super::*;

    #[test]
    fn post_quantum_key_exchange_comes_first() {
        assert_eq!(provider(None).kx_groups[0].name(), NamedGroup::X25519MLKEM768);
        assert!(provider(None).kx_groups.iter().any(|group| group.name() == NamedGroup::X25519));
    }

    #[test]
    fn every_suite_of_the_schema_is_there() {
        let generator = schemars::schema_for!(Suite).to_value();
        let names = generator["enum"].as_array().unwrap().clone();
        assert_eq!(names.len(), 9);
        for name in names {
            let suite: Suite = serde_json::from_value(name.clone()).unwrap();
            let only = provider(Some(&[suite]));
            assert_eq!(only.cipher_suites.len(), 1, "{name}");
            assert_eq!(only.cipher_suites[0].tls13().is_some(), suite.is_13(), "{name}");
        }
    }
}
