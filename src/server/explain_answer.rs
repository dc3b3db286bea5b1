//! The parts of `weir explain` about an answer: the status and Location of a redirect, the rewritten path, the part of the
//! request that is hashed.

use super::explain_request::ExplainedRequest;
use crate::config::schema::Hash;
use crate::config::values::Percent;
use crate::message::variables::RequestValues;
use crate::route::action::{Action, Redirect};
use crate::snapshot::Route;

/// The answer of Weir itself. Both are `None` if a backend answers.
#[derive(Debug, Default)]
pub(super) struct ExplainedAnswer {
    pub(super) status: Option<u16>,
    pub(super) location: Option<String>,
}

/// The answer of the chosen route, or that of `redirect_https` with this port if there is no route.
pub(super) fn of(chosen: Option<&Route>, redirects_to: Option<u16>, request: &ExplainedRequest) -> ExplainedAnswer {
    match (chosen.map(|route| &route.action), redirects_to) {
        (Some(Action::Redirect(redirect)), _) => by(redirect, request),
        (Some(Action::Respond(respond)), _) => {
            ExplainedAnswer { status: Some(respond.status().as_u16()), location: None }
        }
        (Some(Action::Upstream(_) | Action::Split(_)), _) | (None, None) => ExplainedAnswer::default(),
        (None, Some(port)) => by(&Redirect::to_https(port), request),
    }
}

/// The answer that the route's file of redirects has for the path, and its line.
pub(super) fn listed(route: &Route, request: &ExplainedRequest) -> Option<(ExplainedAnswer, usize)> {
    let (line, status, location) = route.redirects.as_ref()?.find(&request.path, request.header.uri.query())?;
    let location = location.to_str().ok().map(str::to_owned);
    Some((ExplainedAnswer { status: Some(status.as_u16()), location }, line))
}

/// How a sticky split decides about the request, in words.
pub(super) fn split(route: &Route, request: &ExplainedRequest) -> Option<String> {
    let split = route.action.split()?;
    let by = split.by()?;
    Some(match by.of(&request.header.headers, request.client) {
        Some(key) => format!("the {by} selects {}", split.name_for(key)),
        None => format!("the request has no {by}, so the weights alone decide"),
    })
}

/// Where copies of the request go, in words.
pub(super) fn mirror(route: &Route) -> Option<String> {
    let mirror = route.mirror.as_ref()?;
    Some(format!(
        "a copy of {} of the requests goes to {}",
        Percent::new(mirror.share * 100.0),
        mirror.target.upstream.name()
    ))
}

/// The Location of `redirect_https`.
pub(super) fn to_https(port: u16, request: &ExplainedRequest) -> Option<String> {
    by(&Redirect::to_https(port), request).location
}

/// A redirect that needs a host is refused with 400 without one.
fn by(redirect: &Redirect, request: &ExplainedRequest) -> ExplainedAnswer {
    let values = RequestValues { client: request.client, ..RequestValues::of(&request.header, request.scheme) };
    let location = redirect.location(&values).and_then(|location| location.to_str().ok().map(str::to_owned));
    let status = if location.is_some() { redirect.status().as_u16() } else { 400 };
    ExplainedAnswer { status: Some(status), location }
}

/// The path and query that a backend receives, if the route rewrites them.
pub(super) fn rewritten(route: &Route, request: &ExplainedRequest) -> Option<String> {
    let rewrite = route.rewrite.as_ref().filter(|_| request.path != "*")?;
    Some(rewrite.target(&request.path, request.header.uri.query()))
}

/// The part of a request that is hashed, in words.
pub(super) fn hashed_part(hash: &Hash) -> String {
    let named = [("header", &hash.header), ("cookie", &hash.cookie), ("query parameter", &hash.query)];
    if let Some((part, name)) = named.iter().find_map(|(part, name)| Some((part, name.as_ref()?))) {
        return format!("{part} `{name}`");
    }
    match (&hash.path, &hash.host) {
        (Some(_), _) => "path".to_owned(),
        (None, Some(_)) => "host".to_owned(),
        (None, None) => "client address".to_owned(),
    }
}
