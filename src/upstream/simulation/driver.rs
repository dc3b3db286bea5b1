//! Event loop of the simulation: runs events in the order of their time and checks all invariants after each one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::backends::{Clock, Fleet};
use super::oracle::{Checks, Ledger, has_no_slot_for};
use super::params::Plan;
use super::reference_queue::{Fuse, Line, Ready, Simulated, Vain, Waiting};
use super::request::{Attempt, Outcome, Request, Stage};
use crate::backend::BackendState;
use crate::config::schema;
use crate::upstream::PickHints;
use crate::upstream::balance::rng::{GOLDEN, Prng, mix};
use crate::upstream::members::Pick;
use crate::upstream::outlier::AttemptObserver;
use crate::upstream::queue::{PickOutcome, WaitError};
use crate::upstream::retry_policy::{Failed, Rule, Verdict, decide};

/// An event. The first number is that of the request. The second is the try to which the event belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    Ended(u64, u8),
    Again(u64, u8),
    Leave(u64),
    Panic(u64),
    Probe(usize),
    Grow,
    Swing,
    Operate,
    Reload,
}

/// Counts of a run.
#[derive(Debug, Default, Clone, Copy)]
pub struct Summary {
    pub events: u64,
    pub trace: u64,
    pub checks: Checks,
    pub waited: u64,
    pub panics: u64,
}

/// One upstream with its backends and clients.
pub struct World {
    plan: Plan,
    rng: Prng,
    clock: Clock,
    fleet: Fleet,
    ledger: Ledger,
    line: Line,
    ready: Ready,
    fuse: Fuse,
    requests: BTreeMap<u64, Request>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    numbers: u64,
    rule: schema::Retry,
    compiled: Rule,
    summary: Summary,
    mended: bool,
}

impl World {
    pub fn new(plan: Plan, seed: u64) -> Self {
        let (mut rng, clock) = (Prng::new(seed), Clock::new());
        Prng::seed_thread(rng.draw());
        let rule = plan.retry(&mut rng);
        let fleet = Fleet::new(plan, clock, &mut rng);
        let mut world = Self {
            plan,
            clock,
            compiled: Rule::new(&rule),
            rule,
            ledger: Ledger::default(),
            line: Line::default(),
            ready: Ready::default(),
            fuse: Fuse::default(),
            requests: BTreeMap::new(),
            events: BinaryHeap::new(),
            numbers: 0,
            summary: Summary::default(),
            mended: false,
            rng,
            fleet,
        };
        let probes = (0..world.fleet.sites.len()).map(Event::Probe);
        let first = [Event::Arrive, Event::Grow, Event::Swing, Event::Operate, Event::Reload];
        probes.chain(first).for_each(|event| world.at(0, event));
        world
    }

    /// Runs this many events, repairs all backends, and then waits until no request is left.
    pub async fn run(mut self, events: u64) -> Summary {
        while self.summary.events < events {
            self.step().await;
        }
        self.fleet.mend();
        self.mended = true;
        // Waiting requests that this notified must be polled before the next request arrives.
        self.settle();
        let until = self.clock.now_ms() + 10_000;
        while self.clock.now_ms() < until {
            self.step().await;
        }
        let out = self.fleet.upstream.backends().iter().filter(|backend| backend.state.is_ejected()).count();
        assert_eq!(out, 0, "ejected for ever");
        self.events.retain(|Reverse((_, _, event))| *event != Event::Arrive);
        while !self.requests.is_empty() {
            self.step().await;
        }
        assert!(self.fleet.sites.iter().all(|site| site.backend_state.in_flight() == 0));
        self.summary.checks = self.ledger.checks;
        self.summary
    }

    async fn step(&mut self) {
        let Reverse((at_ms, _, event)) = self.events.pop().unwrap();
        let wait = at_ms.saturating_sub(self.clock.now_ms());
        if wait > 0 {
            tokio::time::advance(Duration::from_millis(wait)).await;
            self.settle();
        }
        self.summary.events += 1;
        self.happens(event);
        self.settle();
        self.check(event);
        self.note(at_ms);
        self.note(self.line.len() as u64);
    }

    fn at(&mut self, wait_ms: u64, event: Event) {
        self.numbers += 1;
        self.events.push(Reverse((self.clock.now_ms() + wait_ms, self.numbers, event)));
    }

    fn note(&mut self, word: u64) {
        self.summary.trace = mix(self.summary.trace ^ word).wrapping_add(GOLDEN);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Ended(id, tries) => self.ended(id, tries),
            Event::Again(id, tries) => {
                if let Some(request) = self.requests.remove(&id).filter(|request| request.tries == tries) {
                    self.next(id, request);
                }
            }
            Event::Leave(id) => self.leave(id),
            Event::Panic(id) => self.panic(id),
            _ => self.change(event),
        }
    }

    /// Events that change the environment. After the repair nothing gets worse again.
    fn change(&mut self, event: Event) {
        let rarely = if self.plan.changes_seldom() { 4 } else { 1 };
        let wait = match event {
            Event::Probe(_) => 50,
            Event::Grow => 60,
            Event::Swing => 40,
            Event::Operate => 150,
            _ => 250,
        };
        let wait = self.rng.below(2 * wait * rarely);
        self.at(wait.max(1), event);
        match event {
            Event::Grow if self.fleet.upstream.members().is_ramping() => self.fleet.rebuild(),
            Event::Probe(at) => self.fleet.probe(at, &mut self.rng),
            Event::Swing if !self.mended => self.fleet.swing(&mut self.rng),
            Event::Operate if !self.mended => self.fleet.operate(&mut self.rng),
            Event::Reload if !self.mended => self.fleet.reload(&mut self.rng),
            _ => {}
        }
    }

    fn arrive(&mut self) {
        // The load varies in cycles: from up to two arrivals per millisecond to one in twelve milliseconds.
        let crowd = (self.clock.now_ms() / 100) % 4;
        let wait = if self.mended { 20 } else { [self.rng.below(2), 2, 5, 12][crowd as usize] };
        self.at(wait, Event::Arrive);
        let (id, now) = (self.numbers, self.clock.now_ms());
        let request = Request::new(&self.fleet.upstream, &mut self.rng);
        request.upstream.budget().count_request(now);
        self.ledger.counted(now);
        if self.rng.below(16) == 0 {
            let wait = self.rng.below(60);
            self.at(wait, Event::Leave(id));
        }
        if self.rng.below(64) == 0 {
            let wait = self.rng.below(30);
            self.at(wait, Event::Panic(id));
        }
        self.next(id, request);
    }

    /// Finds a backend for the next try, as the proxy does.
    fn next(&mut self, id: u64, mut request: Request) {
        let (upstream, now) = (Arc::clone(&request.upstream), self.clock.now_ms());
        if let Some((pick, watching)) = upstream.pick_trial(&request.tried, now, None) {
            assert!(!request.tried.contains(&pick.backend.state) && pick.backend.state.is_ejected());
            return self.begin(id, request, pick, Some(watching));
        }
        if upstream.queue().depth() == 0 {
            match upstream.try_pick(&request.tried, now, PickHints { key: request.key, named: None }) {
                PickOutcome::Slot(pick) => {
                    self.ledger.picked(&upstream, &pick, &request.tried, request.key, now);
                    let watching = upstream.observe(&pick.backend);
                    return self.begin(id, request, pick, watching);
                }
                PickOutcome::Nobody => return self.ledger.found_none(&upstream, true),
                PickOutcome::Full => self.ledger.found_none(&upstream, false),
                PickOutcome::ForOthers => self.ledger.found_only_for_others(&upstream, &request.tried),
            }
        }
        if let Some(queue) = &upstream.settings().queue {
            let what = (std::mem::take(&mut request.tried), request.key);
            let waiting = Waiting::new(id, (&upstream, queue), what, self.clock, (&self.ready, &self.fuse));
            request.stage = Stage::Waiting(Box::new(waiting));
            self.requests.insert(id, request);
            self.poll(id);
        } else {
            self.back(id, request);
        }
    }

    /// The request cannot wait: it goes back to a backend that was tried, if that has a free slot.
    fn back(&mut self, id: u64, request: Request) {
        let upstream = Arc::clone(&request.upstream);
        if let Some(pick) = upstream.pick_tried(&request.tried, self.clock.now_ms(), request.key) {
            self.ledger.picked_back(&upstream, &pick, &request.tried);
            let watching = upstream.observe(&pick.backend);
            self.begin(id, request, pick, watching);
        }
    }

    fn begin(&mut self, id: u64, mut request: Request, pick: Pick, watching: Option<AttemptObserver>) {
        let backend_state = &pick.backend.state;
        self.ledger.raised(backend_state);
        let at = self.site_of(backend_state);
        self.note(at as u64);
        let outcome = Outcome::draw(self.fleet.sites[at].mood, &mut self.rng);
        request.tries += 1;
        request.tried.add(backend_state);
        assert!(request.tries <= self.rule.attempts, "too many tries");
        self.at(outcome.took_ms, Event::Ended(id, request.tries));
        request.stage = Stage::Trying(Attempt { backend: pick.backend, watching, outcome, _guard: pick.guard });
        self.requests.insert(id, request);
    }

    fn site_of(&self, backend_state: &Arc<BackendState>) -> usize {
        self.fleet.sites.iter().position(|site| Arc::ptr_eq(&site.backend_state, backend_state)).unwrap()
    }

    /// Reports the end of an attempt to its backend and decides about a retry, as the proxy does.
    fn ended(&mut self, id: u64, tries: u8) {
        let Some(mut request) = self.requests.remove(&id).filter(|request| request.tries == tries) else { return };
        let Stage::Trying(mut attempt) = std::mem::replace(&mut request.stage, Stage::Idle) else { unreachable!() };
        let (now, Outcome { took_ms, failed }) = (self.clock.now_ms(), attempt.outcome);
        let took = Duration::from_millis(took_ms);
        match failed {
            None => attempt.backend.state.load().observe(took, now),
            Some(_) => attempt.backend.state.load().fault(took, now),
        }
        if let Some(watching) = &mut attempt.watching {
            if matches!(failed, None | Some(Failed::Status(_))) {
                watching.answered(failed.is_none(), now);
            }
            watching.ended(failed.is_none(), now);
        }
        self.ledger.lowered(&attempt.backend.state);
        drop(attempt);
        if let Some(failed) = failed {
            self.again(id, request, failed);
        }
    }

    fn again(&mut self, id: u64, request: Request, failed: Failed) {
        let described = request.described();
        let (now, share) = (self.clock.now_ms(), self.rule.budget.fraction());
        match decide(&self.compiled, failed, described) {
            Verdict::GiveUp => return,
            Verdict::Again => assert_eq!(failed, Failed::ToConnect, "something was sent"),
            Verdict::AgainWithinBudget => {
                assert!(request.idempotent && request.replayable, "must not be retried");
                if !request.upstream.budget().try_spend(share, self.rule.floor, now) {
                    return;
                }
                self.ledger.spent(&self.rule, now);
            }
        }
        let rng = self.rng.below(1_000) as f64 / 1_000.0;
        let pause = self.compiled.pause(request.tries, rng).as_millis() as u64;
        self.at(pause, Event::Again(id, request.tries));
        self.requests.insert(id, request);
    }

    /// The client disconnects. Either its request is notified, or it is cancelled immediately.
    fn leave(&mut self, id: u64) {
        let told = self.rng.below(2) == 0;
        match self.requests.get_mut(&id).map(|request| &mut request.stage) {
            Some(Stage::Waiting(waiting)) if told => drop(waiting.client.take()),
            Some(_) => drop(self.cancel(id)),
            None => {}
        }
    }

    /// Removes a request from the accounting. The returned request still holds its guards.
    fn cancel(&mut self, id: u64) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        match &request.stage {
            Stage::Trying(attempt) => self.ledger.lowered(&attempt.backend.state),
            Stage::Waiting(_) => self.line.leaves(id),
            Stage::Idle => {}
        }
        Some(request)
    }

    /// The task of a request panics with all its guards. If it waits, the next call of `look` panics instead.
    fn panic(&mut self, id: u64) {
        if let Some(Request { stage: Stage::Waiting(_), .. }) = self.requests.get(&id) {
            return self.fuse.set(true);
        }
        let Some(request) = self.cancel(id) else { return };
        self.summary.panics += 1;
        let unwinds = AssertUnwindSafe(move || {
            let _held = request;
            // Without the panic hook, which would print it.
            resume_unwind(Box::new(Simulated))
        });
        assert!(catch_unwind(unwinds).map(|(): ()| ()).is_err());
    }

    /// Polls the notified requests until none is left.
    fn settle(&mut self) {
        loop {
            let next = self.ready.lock().unwrap().pop_front();
            match next {
                Some(id) => self.poll(id),
                None => return,
            }
        }
    }

    fn poll(&mut self, id: u64) {
        let Some(Request { stage: Stage::Waiting(waiting), upstream, .. }) = self.requests.get_mut(&id) else { return };
        let (upstream, now) = (Arc::clone(upstream), self.clock.now_ms());
        let polled = catch_unwind(AssertUnwindSafe(|| waiting.poll()));
        match waiting.failed_look() {
            Some(Vain::Full) if matches!(polled, Ok(Poll::Pending)) => self.ledger.found_none(&upstream, false),
            Some(Vain::ForOthers) if matches!(polled, Ok(Poll::Pending)) => {
                self.ledger.found_only_for_others(&upstream, &waiting.tried);
            }
            _ => {}
        }
        match polled {
            Ok(Poll::Pending) if waiting.joined_ms.is_none() => {
                waiting.joined_ms = Some(now);
                let size = waiting.size;
                self.line.joins(id, size);
            }
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(result)) => self.waited(id, result),
            Err(panic) => {
                assert!(panic.is::<Simulated>() || { resume_unwind(panic) });
                self.summary.panics += 1;
                drop(self.cancel(id));
            }
        }
    }

    /// Handles the end of a wait, with or without a slot.
    fn waited(&mut self, id: u64, result: Result<Pick, WaitError>) {
        if let Ok(pick) = &result {
            self.overtakes_no_waiting_request(id, pick);
        }
        let mut request = self.requests.remove(&id).unwrap();
        let Stage::Waiting(waiting) = std::mem::replace(&mut request.stage, Stage::Idle) else { unreachable!() };
        let (now, upstream) = (self.clock.now_ms(), Arc::clone(&request.upstream));
        let Waiting { tried, joined_ms, limit_ms, size, client, .. } = *waiting;
        request.tried = Rc::into_inner(tried).unwrap();
        self.summary.waited += 1;
        self.line.leaves(id);
        match result {
            Ok(pick) => {
                self.ledger.picked(&upstream, &pick, &request.tried, request.key, now);
                let watching = upstream.observe(&pick.backend);
                self.begin(id, request, pick, watching);
            }
            Err(WaitError::Overflow) => {
                assert!(self.line.len() >= size, "the queue is not full");
                self.back(id, request);
            }
            Err(WaitError::Timeout) => {
                assert!(now >= joined_ms.unwrap() + limit_ms, "too early");
                self.back(id, request);
            }
            Err(WaitError::Left) => assert!(client.is_none(), "the client did not disconnect"),
            Err(WaitError::Nobody) => self.ledger.found_none(&upstream, true),
        }
    }

    fn waiting(&self, id: u64) -> (&Request, &Waiting) {
        let request = &self.requests[&id];
        let Stage::Waiting(waiting) = &request.stage else { unreachable!() };
        (request, waiting)
    }

    /// Asserts that no earlier request that still waits could have used the slot.
    fn overtakes_no_waiting_request(&self, id: u64, pick: &Pick) {
        let kind = |request: &Request, waiting: &Waiting| request.upstream.wait_class(&waiting.tried);
        let (request, waiting) = self.waiting(id);
        let own = kind(request, waiting);
        for elder in self.line.before(id) {
            let (request, waiting) = self.waiting(elder);
            request.upstream.follow(self.clock.now_ms());
            let members = request.upstream.members();
            let knows = members.eligible().any(|backend| Arc::ptr_eq(&backend.state, &pick.backend.state));
            let wants = knows && !(waiting.tried.contains(&pick.backend.state) && members.has_untried(&waiting.tried));
            assert!(!wants && kind(request, waiting) != own, "overtakes an older request");
        }
    }

    /// Asserts the invariants that hold at any time.
    fn check(&mut self, event: Event) {
        for site in &self.fleet.sites {
            self.ledger.in_flight_is_right(&site.backend_state);
        }
        self.ledger.ejections_are_bounded(&self.fleet.upstream, event == Event::Reload);
        assert_eq!(self.fleet.upstream.queue().depth(), self.line.len(), "queue depth");
        for id in self.line.in_order() {
            let (request, waiting) = self.waiting(id);
            request.upstream.follow(self.clock.now_ms());
            let members = request.upstream.members();
            assert!(has_no_slot_for(&members, &waiting.tried), "waits although a slot is free");
            let until = waiting.joined_ms.unwrap() + waiting.limit_ms;
            assert!(self.clock.now_ms() <= until + 1, "waits beyond its limit");
        }
    }
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.trace = mix(self.trace ^ other.trace);
        self.waited += other.waited;
        self.panics += other.panics;
        self.checks += other.checks;
    }
}

impl Summary {
    /// Whether every check that depends on chance was made at least once.
    pub fn is_telling(&self) -> bool {
        self.waited > 100 && self.panics > 50 && self.checks.least() > 0
    }
}
