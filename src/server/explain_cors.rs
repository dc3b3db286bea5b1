//! CORS in `weir explain`: whether pages of an origin may read the response, and the answer to a preflight.

use http::{Method, header};

use super::explain_request::ExplainedRequest;
use crate::snapshot::Route;

/// The decision of the route in words. `asked` is the method that a preflight asks about. `None`: the route has no `cors`,
/// or the request has no origin.
pub(super) fn decision(route: &Route, asked: Option<&Method>, request: &ExplainedRequest) -> Option<String> {
    let (cors, origin) = (route.cors.as_ref()?, request.header.headers.get(header::ORIGIN)?);
    let shown = String::from_utf8_lossy(origin.as_bytes());
    Some(match (asked, cors.allows(origin)) {
        (Some(method), true) => {
            let methods = cors.preflight_fields(&request.header.headers);
            let methods = methods.iter().find(|(name, _)| *name == header::ACCESS_CONTROL_ALLOW_METHODS);
            let methods = methods.map_or("none", |(_, value)| value.to_str().unwrap_or_default());
            format!("Weir answers the preflight for {method} with 204: pages of {shown} may send {methods}")
        }
        (Some(_), false) => {
            format!("Weir answers the preflight with 204 and no permission: {shown} is none of `cors.origins`")
        }
        (None, true) => format!("pages of {shown} may read the response"),
        (None, false) => format!("pages of {shown} may not read the response: it is none of `cors.origins`"),
    })
}
