//! Those who wait, as they should: the plain queue that the real one is compared with, and what polls the real one.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::oneshot;

use super::backends::Clock;
use crate::config::schema;
use crate::upstream::balance::Tried;
use crate::upstream::members::Pick;
use crate::upstream::queue::{PickOutcome, WaitError};
use crate::upstream::{PickHints, Upstream};

type Wait = Pin<Box<dyn Future<Output = Result<Pick, WaitError>>>>;

/// Whose futures were woken, in order.
pub type Ready = Arc<Mutex<VecDeque<u64>>>;

/// What a panic in the middle of a look is.
pub struct Simulated;

/// A request that waits.
pub struct Waiting {
    pub tried: Rc<Tried>,
    pub limit_ms: u64,
    pub size: usize,
    /// Since when; nothing before it has joined.
    pub joined_ms: Option<u64>,
    /// Sending or dropping it is the client's leaving.
    pub client: Option<oneshot::Sender<()>>,
    looked_in_vain: Rc<Cell<Option<Vain>>>,
    waker: Waker,
    wait: Wait,
}

/// A look that found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vain {
    Full,
    ForOthers,
}

/// What makes the next look panic.
pub type Fuse = Rc<Cell<bool>>;

impl Waiting {
    /// As the proxy waits.
    pub fn new(
        id: u64,
        (upstream, queue): (&Arc<Upstream>, &schema::QueueSettings),
        (tried, key): (Tried, Option<u64>),
        clock: Clock,
        (ready, fuse): (&Ready, &Fuse),
    ) -> Self {
        let (limit, size) = (queue.timeout.get(), queue.size as usize);
        let (client, gone) = oneshot::channel();
        let looked_in_vain = Rc::new(Cell::new(None));
        let tried = Rc::new(tried);
        let turn = Turn { id, ready: Arc::clone(ready) };
        let look = {
            let (upstream, fuse, vain) = (Arc::clone(upstream), Rc::clone(fuse), Rc::clone(&looked_in_vain));
            let tried = Rc::clone(&tried);
            move || {
                if fuse.take() {
                    std::panic::resume_unwind(Box::new(Simulated));
                }
                let look = upstream.try_pick(&tried, clock.now_ms(), PickHints { key, named: None });
                vain.set(match look {
                    PickOutcome::Full => Some(Vain::Full),
                    PickOutcome::ForOthers => Some(Vain::ForOthers),
                    _ => vain.get(),
                });
                look
            }
        };
        let queue = Arc::clone(upstream.queue());
        let kind = upstream.wait_class(&tried);
        let wait = Box::pin(async move {
            let gone = async {
                let _ = gone.await;
            };
            queue.wait((kind, size), limit, gone, look).await
        });
        let waker = Waker::from(Arc::new(turn));
        let limit_ms = limit.as_millis() as u64;
        Self { tried, limit_ms, size, joined_ms: None, client: Some(client), looked_in_vain, waker, wait }
    }

    pub fn poll(&mut self) -> Poll<Result<Pick, WaitError>> {
        self.wait.as_mut().poll(&mut Context::from_waker(&self.waker))
    }

    /// What it found if it was its turn since this was asked last, and there was no place for it.
    pub fn looked_in_vain(&self) -> Option<Vain> {
        self.looked_in_vain.take()
    }
}

struct Turn {
    id: u64,
    ready: Ready,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap().push_back(self.id);
    }
}

/// The plain queue.
#[derive(Default)]
pub struct Line(VecDeque<u64>);

impl Line {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn in_order(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied()
    }

    /// Those who came before this one.
    pub fn before(&self, id: u64) -> impl Iterator<Item = u64> + '_ {
        self.in_order().take_while(move |other| *other != id)
    }

    pub fn joins(&mut self, id: u64, size: usize) {
        assert!(self.len() < size, "more wait than may");
        self.0.push_back(id);
    }

    pub fn leaves(&mut self, id: u64) {
        self.0.retain(|other| *other != id);
    }
}
