//! The live status page: takes samples, and sends the changes of a view to each viewer by server-sent events.
//!
//! All of it runs on background threads. The state of the process is read once a second at most, for all viewers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval};

use super::activity::Activity;
use super::api::StatusReply;
use super::api_limits::LimitsReply;
use super::caller::{AuthLayer, Caller};
use super::control::Control;
use super::history::{History, SAMPLE_MS};
use super::page_elements::{Part, TimeStyle};
use super::page_markup;
use super::page_model::{PageModel, ViewQuery};
use super::respond::refuse;
use crate::background;

/// Maximum number of viewers.
pub(super) const MAX_VIEWERS: usize = 32;

/// Time between two events of a viewer, and the age at which the state of the process is read again.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
const MAX_STATE_AGE: Duration = Duration::from_millis(800);

/// The source of the live page.
pub(super) struct LivePage {
    control: Arc<dyn Control>,
    guard: AuthLayer,
    history: Mutex<History>,
    state: Mutex<Option<(Instant, Arc<PageState>)>>,
    viewers: Arc<Semaphore>,
    started: Instant,
}

/// The state of the process at one time.
struct PageState {
    status: StatusReply,
    activity: Activity,
    limits: LimitsReply,
}

impl LivePage {
    pub(super) fn new(control: Arc<dyn Control>, guard: AuthLayer) -> Self {
        let viewers = Arc::new(Semaphore::new(MAX_VIEWERS));
        Self { control, guard, history: Mutex::default(), state: Mutex::default(), viewers, started: Instant::now() }
    }

    /// Takes samples until the task is dropped.
    pub(super) async fn sample(self: Arc<Self>) {
        let mut ticks = interval(Duration::from_millis(SAMPLE_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let this = Arc::clone(&self);
            let take = move || {
                let activity = this.control.activity();
                let now_ms = u64::try_from(this.started.elapsed().as_millis()).unwrap_or(u64::MAX);
                this.history.lock().sample(&activity, now_ms);
            };
            if let Err(error) = background::run(take).await {
                tracing::error!("the status page has no sample: {error}");
            }
        }
    }

    /// Renders a view of the present state. May block.
    pub(super) fn render<T>(&self, query: ViewQuery, write: impl FnOnce((&PageModel<'_>, &LimitsReply)) -> T) -> T {
        self.render_state(&self.read(), query, write)
    }

    fn render_state<T>(
        &self,
        state: &PageState,
        query: ViewQuery,
        write: impl FnOnce((&PageModel<'_>, &LimitsReply)) -> T,
    ) -> T {
        let model = PageModel::build(&state.status, &state.activity, &self.history.lock(), query);
        write((&model, &state.limits))
    }

    fn read(&self) -> Arc<PageState> {
        let control = &self.control;
        Arc::new(PageState { status: control.status(), activity: control.activity(), limits: control.limits() })
    }

    /// The state for events: one for all viewers.
    fn recent(&self) -> Arc<PageState> {
        let mut recent = self.state.lock();
        if let Some((at, state)) = recent.as_ref()
            && at.elapsed() < MAX_STATE_AGE
        {
            return Arc::clone(state);
        }
        let state = self.read();
        *recent = Some((Instant::now(), Arc::clone(&state)));
        state
    }
}

/// `GET /live`: the changes of a view as events.
pub(super) async fn events(
    State(live): State<Arc<LivePage>>,
    Query(query): Query<ViewQuery>,
    headers: HeaderMap,
) -> Response {
    let Ok(permit) = Arc::clone(&live.viewers).try_acquire_owned() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "there are 32 viewers already; reload the page by hand");
    };
    let viewer = Viewer { live, query, headers, sent: None, ticks: interval(UPDATE_INTERVAL), _permit: permit };
    let changes = stream::unfold(viewer, |mut viewer| async move {
        let event = viewer.next().await?;
        Some((Ok::<_, Infallible>(event), viewer))
    });
    Sse::new(changes).keep_alive(KeepAlive::new()).into_response()
}

/// One open page.
struct Viewer {
    live: Arc<LivePage>,
    query: ViewQuery,
    headers: HeaderMap,
    /// The parts that the page has. `None` before the first event.
    sent: Option<Vec<Part>>,
    ticks: tokio::time::Interval,
    _permit: OwnedSemaphorePermit,
}

impl Viewer {
    /// Waits for the next change. `None`: the session has ended.
    async fn next(&mut self) -> Option<Event> {
        let mut quiet = 0;
        loop {
            self.ticks.tick().await;
            // A log-out or a new token ends the session, and with it the events.
            if self.live.guard.caller(&self.headers) == Caller::Unknown {
                return None;
            }
            let (live, query, sent) = (Arc::clone(&self.live), self.query.clone(), self.sent.take());
            let update = background::run(move || live.update(query, sent)).await.ok()?;
            self.sent = Some(update.parts);
            if update.event.is_some() {
                return update.event;
            }
            quiet += 1;
            if quiet >= QUIET_UPDATES {
                return Some(Event::default().event("alive").data("{}"));
            }
        }
    }
}

/// Updates without a change after which the page is told that the connection is alive.
const QUIET_UPDATES: u32 = 10;

struct Update {
    parts: Vec<Part>,
    event: Option<Event>,
}

impl LivePage {
    fn update(&self, query: ViewQuery, sent: Option<Vec<Part>>) -> Update {
        self.render_state(&self.recent(), query, |page| {
            let parts = page_markup::parts(page, TimeStyle::Absolute);
            let event = match sent {
                Some(sent) if same_ids(&sent, &parts) => changes(&sent, &parts),
                _ => {
                    let mut all = page_markup::top(page.0, TimeStyle::Absolute);
                    all.push(("content".to_owned(), page_markup::content(page, TimeStyle::Absolute).into_string()));
                    Event::default().event("change").json_data(all).ok()
                }
            };
            Update { parts, event }
        })
    }
}

fn same_ids(before: &[Part], after: &[Part]) -> bool {
    before.len() == after.len() && before.iter().zip(after).all(|((before, _), (after, _))| before == after)
}

/// The parts that differ. `None`: nothing has changed.
fn changes(before: &[Part], after: &[Part]) -> Option<Event> {
    let changed = before.iter().zip(after).filter(|(before, after)| before.1 != after.1);
    let changed: Vec<_> = changed.map(|(_, after)| after).collect();
    if changed.is_empty() { None } else { Event::default().event("change").json_data(changed).ok() }
}
