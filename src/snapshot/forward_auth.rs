//! A forward policy, compiled: the upstream that decides, and the fields that are exchanged with it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::RouteTarget;
use crate::config::schema::{AuthFailure, ForwardAuthSettings};
use crate::message::forward_auth::ForwardAuthFields;

/// `forward`, compiled.
#[derive(Debug)]
pub struct ForwardAuth {
    /// The upstream of the authorization server.
    pub target: Arc<RouteTarget>,
    /// The fields of the authorization request and of its response.
    pub fields: ForwardAuthFields,
    /// Maximum time until the complete response.
    pub timeout: Duration,
    /// Whether requests pass while the authorization server does not answer.
    pub passes_on_failure: bool,
}

impl ForwardAuth {
    /// Compiles the settings. `target`: their upstream.
    ///
    /// # Errors
    /// A name of a field, or the path, is not valid: a gap in the checks.
    pub fn compile(settings: &ForwardAuthSettings, target: Arc<RouteTarget>) -> Result<Self, String> {
        let name = |name: &String| name.parse::<HeaderName>().map_err(|_| format!("`{name}` is not a field name"));
        let names = |list: &[String]| list.iter().map(name).collect::<Result<Vec<_>, _>>();
        let path = settings.path.parse::<http::uri::PathAndQuery>().map_err(|error| error.to_string())?;
        if !path.as_str().starts_with('/') {
            return Err("the path of an authorization request begins with `/`".to_owned());
        }
        Ok(Self {
            target,
            fields: ForwardAuthFields::new(
                path.as_str(),
                &names(&settings.request_headers)?,
                &names(&settings.response_headers)?,
            ),
            timeout: settings.timeout.get(),
            passes_on_failure: settings.on_failure == AuthFailure::Open,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::schema::{RouteTimeouts, UpstreamSettings};
    use crate::pool::peer::PeerTemplate;
    use crate::pool::transport_settings::TransportSettings;
    use crate::telemetry::meters::UpstreamMeters;
    use crate::upstream::Upstream;

    fn compile(yaml: &str) -> Result<ForwardAuth, String> {
        let settings: UpstreamSettings = serde_yaml::from_str("{}").unwrap();
        let transport = Arc::new(TransportSettings::new(&settings, &|_| None));
        let timeouts = RouteTimeouts::default();
        let peer = PeerTemplate::new(&transport, &timeouts);
        let upstream = Arc::new(Upstream::new("u".into(), settings, Vec::new(), transport, Arc::default(), None));
        let target = RouteTarget { upstream, meters: Arc::new(UpstreamMeters::new("u")), peer };
        ForwardAuth::compile(&serde_yaml::from_str(yaml).unwrap(), Arc::new(target))
    }

    #[test]
    fn a_forward_policy_fails_closed_after_two_seconds_by_default() {
        let usual = compile("{upstream: u, path: /verify}").unwrap();
        assert_eq!((usual.timeout, usual.passes_on_failure), (Duration::from_secs(2), false));
        let open = compile("{upstream: u, path: /verify, timeout: 500ms, on_failure: open}").unwrap();
        assert_eq!((open.timeout, open.passes_on_failure), (Duration::from_millis(500), true));
    }

    #[test]
    fn a_bad_path_or_field_name_is_an_error() {
        for bad in
            ["path: verify", "path: '/a b'", "path: /, request_headers: ['a b']", "path: /, response_headers: ['']"]
        {
            assert!(compile(&format!("{{upstream: u, {bad}}}")).is_err(), "{bad}");
        }
    }
}
