//! Compiles `auth.*.jwt`.

use std::sync::Arc;

use http::HeaderName;

use crate::auth::jwt::{
    ClaimFields, ClaimPath, JwksLocation, JwtPolicy, KeySet, KeySource, KeyStore, RequiredClaim, TokenKeys,
    TokenSource, Verifier,
};
use crate::config::ValidatedConfig;
use crate::config::schema::{JwtAuth, JwtRequirements, KeySetSource, TokenPlace};

/// Compiles a policy. `store`: the keys that outlive configurations.
///
/// # Errors
/// A value that the check of the configuration should have refused.
pub fn compile(settings: &JwtAuth, config: &ValidatedConfig, store: &KeyStore) -> Result<JwtPolicy, String> {
    Ok(JwtPolicy {
        source: source(&settings.from)?,
        verifier: verifier(settings),
        keys: keys(settings, config, store)?,
        fields: fields(settings)?,
        forwards_token: settings.forward_token,
    })
}

fn verifier(settings: &JwtAuth) -> Verifier {
    let JwtRequirements { exp, claims, scopes } = &settings.require;
    let claims = claims.iter().map(|(path, values)| RequiredClaim {
        path: ClaimPath::new(path),
        values: values.iter().map(|value| value.as_str().to_owned()).collect(),
    });
    Verifier {
        algorithms: settings.algorithms.clone(),
        issuer: settings.issuer.clone(),
        audience: (!settings.any_audience).then(|| settings.audience.clone()),
        leeway: settings.leeway.get().as_secs(),
        requires_expiry: *exp,
        claims: claims.collect(),
        scopes: scopes.clone(),
    }
}

fn source(place: &TokenPlace) -> Result<TokenSource, String> {
    Ok(match place {
        TokenPlace::Authorization => TokenSource::Authorization,
        TokenPlace::Header(name) => TokenSource::Header(field(name)?),
        TokenPlace::Cookie(name) => TokenSource::Cookie(name.clone()),
        TokenPlace::Query(name) => TokenSource::Query(name.clone()),
    })
}

fn fields(settings: &JwtAuth) -> Result<ClaimFields, String> {
    let fields = settings.headers.iter().map(|(name, path)| Ok((field(name)?, ClaimPath::new(path))));
    Ok(ClaimFields::new(fields.collect::<Result<Vec<_>, String>>()?))
}

fn field(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not the name of a header field"))
}

fn keys(settings: &JwtAuth, config: &ValidatedConfig, store: &KeyStore) -> Result<TokenKeys, String> {
    let source = match (&settings.jwks, &settings.issuer) {
        (Some(KeySetSource::File(path)), _) => {
            let bytes = config.file(path).ok_or_else(|| format!("{} was not read", path.display()))?;
            let parsed = KeySet::parse(bytes).map_err(|error| format!("{}: {error}", path.display()))?;
            return Ok(TokenKeys::File(Arc::new(parsed.keys)));
        }
        (Some(KeySetSource::Url(url)), _) => KeySource::Url(url.as_str().to_owned()),
        (None, Some(issuer)) => KeySource::Issuer(issuer.clone()),
        (None, None) => return Err("the policy has neither `issuer` nor `jwks`".to_owned()),
    };
    let ca = settings.ca.as_deref().and_then(|path| config.file(path)).map(Arc::from);
    Ok(TokenKeys::Fetched(store.keys(&JwksLocation { source, ca })))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::path::Path;

    use super::*;

    const REST: &str = "listeners: [{ address: '127.0.0.1:1' }]\nroutes: [{ respond: { status: 200 } }]\n";

    fn compiled(store: &KeyStore, jwt: &str) -> JwtPolicy {
        let yaml = format!("{REST}auth: {{ api: {{ jwt: {jwt} }} }}\n");
        let keys = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let read = |_: &Path| Ok(keys.as_bytes().to_vec());
        let config = crate::config::parse(Path::new("weir.yaml"), &yaml, &|_| None, &read).unwrap();
        let settings = config.document().auth.values().next().unwrap().jwt().unwrap().clone();
        compile(&settings, &config, store).unwrap()
    }

    #[test]
    fn the_defaults_require_the_issuer_the_audience_and_an_expiry() {
        let policy = compiled(&KeyStore::default(), "{ issuer: 'https://id.example', audience: api }");
        let verifier = &policy.verifier;
        assert_eq!((verifier.issuer.as_deref(), verifier.leeway), (Some("https://id.example"), 30));
        assert!(verifier.requires_expiry && verifier.audience.as_deref() == Some(&["api".to_owned()]));
        assert_eq!(policy.source, TokenSource::Authorization);
        assert!(matches!(&policy.keys, TokenKeys::Fetched(keys) if keys.status().location == "https://id.example"));
    }

    #[test]
    fn policies_with_the_same_location_share_the_keys_across_reloads() {
        let store = KeyStore::default();
        let [a, b, c] = ["a", "b", "c"].map(|audience| {
            let url = if audience == "c" { "https://other.example/keys" } else { "https://id.example/keys" };
            match compiled(&store, &format!("{{ jwks: '{url}', audience: {audience} }}")).keys {
                TokenKeys::Fetched(keys) => keys,
                TokenKeys::File(_) => panic!("the keys are fetched"),
            }
        });
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
        assert_eq!(store.status().len(), 2);
    }

    #[test]
    fn keys_of_a_file_need_no_fetch() {
        let store = KeyStore::default();
        let policy = compiled(
            &store,
            "{ jwks: { file: keys.json }, any_audience: true, from: { query: t }, headers: { X-User: sub },
               require: { exp: false, claims: { verified: true }, scopes: read } }",
        );
        assert!(matches!(&policy.keys, TokenKeys::File(keys) if keys.len() == 1) && store.status().is_empty());
        assert_eq!(policy.source, TokenSource::Query("t".into()));
        assert_eq!(policy.fields.names(), ["x-user"]);
        assert_eq!(policy.verifier.claims[0].values, ["true"]);
        assert!(policy.verifier.audience.is_none() && !policy.verifier.requires_expiry);
    }
}
