//! Reference queue: the plain queue that the real one is compared with, and the future that polls the real one.

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

/// The requests whose futures were woken, in order.
pub type Ready = Arc<Mutex<VecDeque<u64>>>;

/// Payload of a simulated panic.
pub struct Simulated;

/// A request that waits.
pub struct Waiting {
    pub tried: Rc<Tried>,
    pub limit_ms: u64,
    pub size: usize,
    /// Time of joining; `None` before.
    pub joined_ms: Option<u64>,
    /// Sending on it or dropping it disconnects the client.
    pub client: Option<oneshot::Sender<()>>,
    failed_look: Rc<Cell<Option<Vain>>>,
    waker: Waker,
    wait: Wait,
}

/// The result of a `look` without a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vain {
    Full,
    ForOthers,
}

/// If set, the next call of `look` panics.
pub type Fuse = Rc<Cell<bool>>;

impl Waiting {
    /// Starts to wait, as the proxy does.
    pub fn new(
        id: u64,
        (upstream, queue): (&Arc<Upstream>, &schema::QueueSettings),
        (tried, key): (Tried, Option<u64>),
        clock: Clock,
        (ready, fuse): (&Ready, &Fuse),
    ) -> Self {
        let (limit, size) = (queue.timeout.get(), queue.size as usize);
        let (client, gone) = oneshot::channel();
        let failed_look = Rc::new(Cell::new(None));
        let tried = Rc::new(tried);
        let turn = Turn { id, ready: Arc::clone(ready) };
        let look = {
            let (upstream, fuse, vain) = (Arc::clone(upstream), Rc::clone(fuse), Rc::clone(&failed_look));
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
        Self { tried, limit_ms, size, joined_ms: None, client: Some(client), failed_look, waker, wait }
    }

    pub fn poll(&mut self) -> Poll<Result<Pick, WaitError>> {
        self.wait.as_mut().poll(&mut Context::from_waker(&self.waker))
    }

    /// The result of the calls of `look` without a slot since the last call of this function.
    pub fn failed_look(&self) -> Option<Vain> {
        self.failed_look.take()
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

    /// The requests that joined before this one.
    pub fn before(&self, id: u64) -> impl Iterator<Item = u64> + '_ {
        self.in_order().take_while(move |other| *other != id)
    }

    pub fn joins(&mut self, id: u64, size: usize) {
        assert!(self.len() < size, "the queue is above its size");
        self.0.push_back(id);
    }

    pub fn leaves(&mut self, id: u64) {
        self.0.retain(|other| *other != id);
    }
}
