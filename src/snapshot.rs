//! The compiled configuration as an immutable snapshot, swapped as a whole. Only the backend state and the backend
//! lists of its upstreams change.
//!
//! Compiling never does I/O, reads no clock and spawns no task, so a rejected reload has no effect.

pub mod access;
pub mod forward_auth;
pub mod jwt_policy;
pub mod mirror;
mod splits;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use self::access::{AccessPolicies, RouteAccess};
use self::mirror::Mirror;
use crate::auth::jwt::KeyStore;
use crate::config::schema::{self, CompressSettings, Document, Errors, Networks, RouteTimeouts, SecurityHeaders};
use crate::config::values::Name;
use crate::config::{ClientFilter, ListenerFilters, ValidatedConfig};
use crate::cors::CorsPolicy;
use crate::message::error_page::ErrorPages;
use crate::message::forwarded::ForwardedHeaders;
use crate::message::header_edits::CompiledHeaderEdits;
use crate::message::host::HostPolicy;
use crate::message::rewrite::Rewrite;
use crate::pool::peer::PeerTemplate;
use crate::rate_limit::{Limit, RateLimits};
use crate::route::action::{Action, CompiledRedirects, CompiledSplitKey, Redirect, Respond, Split};
use crate::route::listener_names::ListenerNames;
use crate::route::table::RouteTable;
use crate::telemetry::meters::{RouteMeters, UpstreamMeters};
use crate::telemetry::registry::Metrics;
use crate::upstream::Upstream;
use crate::upstream::manager::{UpstreamManager, Upstreams};
use crate::upstream::retry_policy::Rule;

/// The compiled configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// 1 at start; each applied reload adds one.
    pub generation: u64,
    /// The document from which it was compiled.
    pub document: Arc<Document>,
    /// The route table.
    pub routes: RouteTable<Arc<Route>>,
    /// Names of the listeners, for routes that refer to them.
    pub listeners: ListenerNames,
    /// The client filters of the listeners.
    pub listener_filters: ListenerFilters,
    /// All upstreams, used or not.
    pub upstreams: Upstreams,
    /// All rate limits, used or not.
    pub rate_limits: RateLimits,
    /// The keys of tokens that are fetched from issuers. All snapshots share them.
    pub key_store: Arc<KeyStore>,
    /// The error pages of requests that match no route.
    pub errors: Option<Arc<ErrorPages>>,
    /// Which forwarding fields are trusted, and which are sent.
    pub forwarding: ForwardedHeaders,
}

/// A compiled route. Requests never look up a name or parse a value in it.
#[derive(Debug)]
pub struct Route {
    /// Its meters, which include its name.
    pub meters: Arc<RouteMeters>,
    /// The action for a request.
    pub action: Action<Arc<RouteTarget>>,
    /// Changes of the path.
    pub rewrite: Option<Rewrite>,
    /// The Host field that backends receive.
    pub host: HostPolicy,
    /// Edits of the request header fields.
    pub request_headers: CompiledHeaderEdits,
    /// Edits of the response header fields.
    pub response_headers: CompiledHeaderEdits,
    /// Header fields of responses that make browsers stricter.
    pub security_headers: SecurityHeaders,
    /// Redirects that come before the action.
    pub redirects: Option<Arc<CompiledRedirects>>,
    /// Copies of requests for another upstream.
    pub mirror: Option<Arc<Mirror>>,
    /// The rate limits of its requests, in the order in which they are asked.
    pub rate_limits: Box<[Arc<Limit>]>,
    /// The access policies; `None`: all requests pass.
    pub access: Option<RouteAccess>,
    /// `allow` and `deny`; `None`: all clients pass.
    pub clients: Option<ClientFilter>,
    /// Maximum bytes of a request body; `None`: no limit.
    pub body_limit: Option<u64>,
    /// Timeouts towards backends.
    pub timeouts: RouteTimeouts,
    /// When a request is retried on another backend.
    pub retry: Rule,
    /// Retry budget: the share of requests that may be retried after bytes were sent, 0 to 1.
    pub retry_share: f64,
    /// Retries per second that are allowed regardless of the budget.
    pub retry_floor: u32,
    /// How the route answers during maintenance.
    pub maintenance: RouteMaintenance,
    /// Error pages. `None`: Weir's own.
    pub errors: Option<Arc<ErrorPages>>,
    /// CORS. `None`: its fields pass as they are.
    pub cors: Option<Box<CorsPolicy>>,
    /// Compression of responses.
    pub compress: Option<CompressSettings>,
    /// Whether the coding of a response is removed for clients that do not accept it.
    pub decompress: bool,
}

/// An upstream as the target of a route, with the timeouts of the route.
#[derive(Debug)]
pub struct RouteTarget {
    /// The upstream, with its backends.
    pub upstream: Arc<Upstream>,
    /// The upstream's meters.
    pub meters: Arc<UpstreamMeters>,
    /// The settings that an attempt copies.
    pub peer: PeerTemplate,
}

/// A valid document that cannot be compiled: a gap in the checks.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct CompileError {
    /// The place in the document.
    pub path: String,
    /// The problem.
    pub what: String,
}

impl Snapshot {
    /// Compiles a document. Backend state, health and the sequence of the balancer are taken from `previous` where they
    /// still apply.
    ///
    /// # Errors
    /// A gap in the checks of `config`.
    pub fn compile(
        checked: &ValidatedConfig,
        previous: Option<&Self>,
        manager: &UpstreamManager,
        metrics: &Metrics,
    ) -> Result<Self, CompileError> {
        let document = checked.document();
        let none = Upstreams::new();
        let before = previous.map_or(&none, |snapshot| &snapshot.upstreams);
        has_its_keys(checked)?;
        let file = |path: &Path| checked.file(path).map(<[u8]>::to_vec);
        let upstreams = manager.compile(&document.upstreams, checked.folder(), &file, before);
        let limits_before = previous.map(|snapshot| &snapshot.rate_limits);
        let rate_limits = RateLimits::compile(document, &file, limits_before, metrics)
            .map_err(|(path, what)| CompileError { path, what })?;
        let key_store = previous.map_or_else(Arc::default, |snapshot| Arc::clone(&snapshot.key_store));
        let mut targets = Targets { upstreams: &upstreams, metrics, made: HashMap::new(), redirects: HashMap::new() };
        let policies =
            access::compile(checked, &mut targets, &key_store).map_err(|(path, what)| CompileError { path, what })?;
        let mut pages = SharedPages { file: &file, made: HashMap::new() };
        let mut routes = Vec::with_capacity(document.routes.len());
        for (index, route) in document.routes.iter().enumerate() {
            let at = |what: String| CompileError { path: format!("routes[{index}]"), what };
            let meters = metrics.route(&route.label(index));
            routes.push((
                route.matches.loaded(&file).map_err(at)?,
                Arc::new(
                    Route::compile(route, meters, (&mut targets, &mut pages), (&rate_limits, &policies), &file)
                        .map_err(at)?,
                ),
            ));
        }
        splits::inherit(routes.iter().map(|(_, route)| &**route), previous);
        Ok(Self {
            generation: previous.map_or(1, |snapshot| snapshot.generation + 1),
            document: Arc::new(document.clone()),
            routes: RouteTable::build(routes.iter().map(|(matches, route)| (&**matches, Arc::clone(route))))
                .map_err(|what| CompileError { path: "routes".into(), what })?,
            listeners: ListenerNames::new(&document.listeners),
            listener_filters: ListenerFilters::compile(&document.listeners, &file)
                .map_err(|what| CompileError { path: "listeners".into(), what })?,
            errors: pages
                .find(document.defaults.errors.as_ref())
                .map_err(|what| CompileError { path: "defaults.errors".into(), what })?,
            upstreams,
            rate_limits,
            key_store,
            forwarding: ForwardedHeaders::new(document.forwarded, &document.trusted_proxies),
        })
    }

    /// Starts the work behind the requests: health checks, discovery, and the fetches of keys.
    pub fn activate(&self, manager: &UpstreamManager) {
        manager.activate(&self.upstreams);
        self.key_store.start(manager.runtime());
    }
}

/// A document that was only checked may lack key files, because they are created when it becomes active.
fn has_its_keys(checked: &ValidatedConfig) -> Result<(), CompileError> {
    for (name, upstream) in &checked.document().upstreams {
        if upstream.sticky.as_ref().is_some_and(|sticky| checked.file(&sticky.key_file).is_none()) {
            let path = format!("upstreams.{name}.sticky.key_file");
            return Err(CompileError { path, what: "there is no such file".into() });
        }
    }
    Ok(())
}

impl Route {
    fn compile<'d>(
        route: &'d schema::RouteSettings,
        meters: Arc<RouteMeters>,
        (targets, pages): (&mut Targets<'_>, &mut SharedPages<'d>),
        (rate_limits, policies): (&RateLimits, &AccessPolicies),
        file: &dyn Fn(&Path) -> Option<Vec<u8>>,
    ) -> Result<Self, String> {
        let limit = |name: &Name| rate_limits.get(name).cloned().ok_or_else(|| format!("no rate limit `{name}`"));
        let rewrite = route.rewrite.as_ref().map(Rewrite::compile).transpose()?;
        Ok(Self {
            meters,
            action: action(route, targets, file)?,
            rewrite,
            host: HostPolicy::compile(&route.host)?,
            request_headers: CompiledHeaderEdits::compile(&route.request_headers)?,
            response_headers: CompiledHeaderEdits::compile(&route.response_headers)?,
            security_headers: route.security_headers,
            redirects: route.redirects.as_ref().map(|list| targets.redirects(list, file)).transpose()?,
            mirror: route.mirror.as_ref().map(|mirror| compile_mirror(mirror, route, targets)).transpose()?,
            rate_limits: route.rate_limits.iter().map(limit).collect::<Result<_, _>>()?,
            access: RouteAccess::compile(&route.auth, policies)?,
            clients: ClientFilter::compile(&route.allow, &route.deny, file)?,
            body_limit: Some(route.limits.body.get()).filter(|limit| *limit > 0),
            timeouts: route.timeouts.clone(),
            retry: Rule::new(&route.retry),
            retry_share: route.retry.budget.fraction(),
            retry_floor: route.retry.floor,
            maintenance: RouteMaintenance::compile(&route.maintenance, file)?,
            errors: pages.find(Some(&route.errors))?,
            cors: route.cors.settings().map(CorsPolicy::compile).transpose()?.map(Box::new),
            compress: route.compress.settings().cloned(),
            decompress: route.decompress,
        })
    }
}

/// How a route answers during maintenance.
#[derive(Debug)]
pub struct RouteMaintenance {
    /// `None`: no client passes.
    allow: Option<ClientFilter>,
    /// The value of Retry-After.
    pub retry_after: Duration,
}

impl RouteMaintenance {
    fn compile(
        settings: &schema::MaintenanceSettings,
        file: &dyn Fn(&Path) -> Option<Vec<u8>>,
    ) -> Result<Self, String> {
        let allow = ClientFilter::compile(&settings.allow, &Networks::default(), file)?;
        Ok(Self { allow, retry_after: settings.retry_after.get() })
    }

    /// Whether this client uses the route during maintenance.
    pub fn allows(&self, client: IpAddr) -> bool {
        self.allow.as_ref().is_some_and(|allow| allow.refuses(client).is_none())
    }
}

fn compile_mirror(
    mirror: &schema::MirrorSettings,
    route: &schema::RouteSettings,
    targets: &mut Targets<'_>,
) -> Result<Arc<Mirror>, String> {
    Ok(Arc::new(Mirror::compile(mirror, targets.find(&mirror.upstream, &route.timeouts)?)))
}

fn action(
    route: &schema::RouteSettings,
    targets: &mut Targets<'_>,
    file: &dyn Fn(&Path) -> Option<Vec<u8>>,
) -> Result<Action<Arc<RouteTarget>>, String> {
    let mut find = |name: &Name| targets.find(name, &route.timeouts);
    if let Some(name) = &route.upstream {
        return Ok(Action::Upstream(find(name)?));
    }
    if let Some(split) = &route.split {
        let parts = split.targets.iter().map(|part| Ok((find(&part.upstream)?, part.upstream.as_str(), part.weight)));
        let by = split.by.as_ref().map(CompiledSplitKey::compile).transpose()?;
        return Ok(Action::Split(Split::compile(parts.collect::<Result<Vec<_>, String>>()?, by)?));
    }
    if let Some(redirect) = &route.redirect {
        return Ok(Action::Redirect(Redirect::compile(redirect)?));
    }
    match &route.respond {
        Some(respond) => Ok(Action::Respond(Box::new(Respond::compile(respond, file)?))),
        None => Err("no action".into()),
    }
}

/// Shares the pages of `defaults.errors` among all routes that inherit them.
struct SharedPages<'d> {
    file: &'d dyn Fn(&Path) -> Option<Vec<u8>>,
    made: HashMap<&'d Errors, Arc<ErrorPages>>,
}

impl<'d> SharedPages<'d> {
    fn find(&mut self, errors: Option<&'d Errors>) -> Result<Option<Arc<ErrorPages>>, String> {
        let Some(errors) = errors.filter(|errors| !errors.is_empty()) else { return Ok(None) };
        if let Some(made) = self.made.get(errors) {
            return Ok(Some(Arc::clone(made)));
        }
        let pages = Arc::new(ErrorPages::compile(errors, self.file)?);
        self.made.insert(errors, Arc::clone(&pages));
        Ok(Some(pages))
    }
}

/// Shares one target among all routes with the same upstream and timeouts, and one list of redirects among all routes
/// with the same file: there may be thousands of routes.
struct Targets<'a> {
    upstreams: &'a Upstreams,
    metrics: &'a Metrics,
    made: HashMap<(Name, RouteTimeouts), Arc<RouteTarget>>,
    redirects: HashMap<(PathBuf, u16), Arc<CompiledRedirects>>,
}

impl Targets<'_> {
    fn find(&mut self, name: &Name, timeouts: &RouteTimeouts) -> Result<Arc<RouteTarget>, String> {
        let upstream = self.upstreams.get(name).ok_or_else(|| format!("no upstream `{name}`"))?;
        let made = self.made.entry((name.clone(), timeouts.clone()));
        Ok(Arc::clone(made.or_insert_with(|| Arc::new(RouteTarget::new(upstream, timeouts, self.metrics)))))
    }

    /// A list of `defaults` is the same for all routes.
    fn redirects(
        &mut self,
        list: &schema::RedirectList,
        file: &dyn Fn(&Path) -> Option<Vec<u8>>,
    ) -> Result<Arc<CompiledRedirects>, String> {
        let key = (list.file.clone(), list.status);
        if let Some(made) = self.redirects.get(&key) {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(CompiledRedirects::compile(list, file)?);
        self.redirects.insert(key, Arc::clone(&made));
        Ok(made)
    }
}

impl RouteTarget {
    fn new(upstream: &Arc<Upstream>, timeouts: &RouteTimeouts, metrics: &Metrics) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            meters: metrics.upstream(upstream.name()),
            peer: PeerTemplate::new(upstream.transport(), timeouts),
        }
    }
}

/// The current snapshot, shared by all threads.
#[derive(Debug)]
pub struct CurrentSnapshot {
    now: ArcSwap<Snapshot>,
    replaced: Retired<Snapshot>,
}

impl CurrentSnapshot {
    /// Starts with this snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { now: ArcSwap::from_pointee(snapshot), replaced: Retired::default() }
    }

    /// The current snapshot. A request calls this once.
    pub fn load(&self) -> Arc<Snapshot> {
        self.now.load_full()
    }

    /// Replaces the snapshot. Requests in progress keep the old one.
    pub fn store(&self, snapshot: Arc<Snapshot>) {
        self.replaced.add(self.now.swap(snapshot));
    }

    /// Whether replaced snapshots wait for `reap`.
    pub fn has_replaced(&self) -> bool {
        !self.replaced.lock().is_empty()
    }

    /// Drops replaced snapshots that no request uses any more. Call it periodically, outside of the traffic threads:
    /// the time depends on the size of the snapshots.
    pub fn reap(&self) {
        self.replaced.reap();
    }
}

/// Replaced values that may still be in use. This list holds one reference to each. Otherwise a request could hold the
/// last one and would drop a large configuration while other requests wait.
#[derive(Debug)]
struct Retired<T>(Mutex<Vec<Arc<T>>>);

impl<T> Default for Retired<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Retired<T> {
    fn add(&self, one: Arc<T>) {
        self.lock().push(one);
    }

    fn reap(&self) {
        let all = std::mem::take(&mut *self.lock());
        // A count of one cannot rise: this is the only reference that could be cloned.
        let (unused, used): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| Arc::strong_count(one) == 1);
        self.lock().extend(used);
        drop(unused);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<T>>> {
        // No code under this lock can leave the list half-changed.
        self.0.lock()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::backend::BackendState;

    #[tokio::test]
    async fn routes_with_the_same_upstream_and_timeouts_share_their_target() {
        let manager = UpstreamManager::new(
            tokio::runtime::Handle::current(),
            |labels| Arc::new(BackendState::new(labels)),
            |name| Arc::new(UpstreamMeters::new(name)),
        );
        let yaml = "{u: {backends: [{address: '127.0.0.1:1'}]}}";
        let written = serde_yaml::from_str(yaml).unwrap();
        let upstreams = manager.compile(&written, Path::new(""), &|_| None, &Upstreams::new());
        let metrics = Metrics::new("1", "c");
        let mut targets =
            Targets { upstreams: &upstreams, metrics: &metrics, made: HashMap::new(), redirects: HashMap::new() };
        let (name, usual): (Name, _) = ("u".parse().unwrap(), RouteTimeouts::default());
        let shorter = RouteTimeouts { read: "1s".parse().unwrap(), ..usual.clone() };
        let [one, same, other] = [&usual, &usual, &shorter].map(|timeouts| targets.find(&name, timeouts).unwrap());
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        assert_eq!(targets.find(&"v".parse().unwrap(), &usual).unwrap_err(), "no upstream `v`");
    }

    #[test]
    fn a_retired_value_is_dropped_by_reap_and_not_by_its_last_user() {
        let (replaced, one) = (Retired::default(), Arc::new(()));
        let weak = Arc::downgrade(&one);
        replaced.add(Arc::clone(&one));
        replaced.reap();
        drop(one);
        assert_eq!(weak.strong_count(), 1, "its last user did not take it apart");
        replaced.reap();
        assert_eq!(weak.strong_count(), 0);
    }
}
