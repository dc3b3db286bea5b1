//! Queue of requests that wait while every backend is full: a semaphore whose permits are the free slots of backends.
//!
//! It never polls and does not pick a backend itself. Only the head of each wait class is awake. It is notified when a
//! slot becomes free and when it becomes the head. So the cost of a notification does not depend on the length of the
//! queue. No request overtakes an older one that could use the same slot. No notification is lost: a request that
//! leaves, with or without a slot, notifies the next.
//!
//! A waiting request does not use slots of backends that it has tried. Requests that tried the same backends form one
//! wait class, because they wait for the same slots. If a head cannot use a free slot, it notifies the next oldest head
//! of another class.

mod classes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use classes::{ClassTicket, WaitClasses};

/// Result of an attempt to take a slot.
#[derive(Debug)]
pub enum PickOutcome<T> {
    /// A slot was taken.
    Slot(T),
    /// All slots are taken.
    Full,
    /// Some slots are free, but this request cannot use them. It waits for others.
    ForOthers,
    /// No backend is left whose slots could become free.
    Nobody,
}

/// Why a wait ended without a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitError {
    /// The queue is full.
    Overflow,
    /// The time limit expired.
    Timeout,
    /// The client disconnected.
    Left,
    /// No backend is left whose slots could become free.
    Nobody,
}

/// The requests that wait for a slot of one upstream.
#[derive(Debug, Default)]
pub struct Queue {
    classes: Mutex<WaitClasses<Arc<Notify>>>,
    /// Length of the queue, readable without the lock.
    depth: AtomicUsize,
}

impl Queue {
    /// Number of waiting requests.
    pub fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    /// Notifies the oldest request after a slot may have become free. Costs one load if no request waits.
    pub fn notify_first(&self) {
        // Pairs with the fence in `join`. Either the joining request sees the slot that was freed before this fence, or
        // this function sees the request.
        fence(Ordering::SeqCst);
        if self.depth() > 0
            && let Some(first) = self.classes().first()
        {
            first.notify_one();
        }
    }

    /// Waits for a slot. `look` tries to take one and is called only when it is the turn of this request. `gone`
    /// completes when the client disconnects. At most `size` requests wait, each at most `limit`. `class`: the wait
    /// class.
    ///
    /// # Errors
    /// Why there is no slot.
    pub async fn wait<T>(
        &self,
        (class, size): (u64, usize),
        limit: Duration,
        gone: impl Future<Output = ()>,
        mut look: impl FnMut() -> PickOutcome<T>,
    ) -> Result<T, WaitError> {
        let Some(ticket) = self.join(class, size) else {
            // The queue is full. A free slot may still be one that no waiting request can use.
            let is_wanted = self.classes().has(class);
            let look = if is_wanted { PickOutcome::Full } else { look() };
            return if let PickOutcome::Slot(slot) = look { Ok(slot) } else { Err(WaitError::Overflow) };
        };
        let over = tokio::time::sleep(limit);
        tokio::pin!(over, gone);
        let mut is_turn = ticket.is_oldest();
        if !is_turn && ticket.is_first() {
            // A slot may be free that the older heads cannot use. They are notified first.
            self.notify_first();
        }
        loop {
            if is_turn {
                match look() {
                    PickOutcome::Slot(slot) => return Ok(slot),
                    PickOutcome::Nobody => return Err(WaitError::Nobody),
                    PickOutcome::Full | PickOutcome::ForOthers => ticket.notify_next(),
                }
            }
            tokio::select! {
                biased;
                () = &mut gone => return Err(WaitError::Left),
                () = ticket.notify.notified() => is_turn = ticket.is_first(),
                () = &mut over => return Err(WaitError::Timeout),
            }
        }
    }

    fn join(&self, class: u64, size: usize) -> Option<Ticket<'_>> {
        let notify = Arc::new(Notify::new());
        let mut classes = self.classes();
        let class_ticket = classes.join(class, Arc::clone(&notify), size)?;
        self.depth.store(classes.len(), Ordering::Relaxed);
        drop(classes);
        fence(Ordering::SeqCst);
        Some(Ticket { queue: self, notify, ticket: Some(class_ticket) })
    }

    fn classes(&self) -> MutexGuard<'_, WaitClasses<Arc<Notify>>> {
        self.classes.lock()
    }
}

/// Position in the queue. Dropping it leaves the queue and notifies the oldest request.
struct Ticket<'a> {
    queue: &'a Queue,
    notify: Arc<Notify>,
    ticket: Option<ClassTicket>,
}

impl Ticket<'_> {
    /// Whether it is the head of its class.
    fn is_first(&self) -> bool {
        self.ticket.as_ref().is_some_and(|class_ticket| self.queue.classes().is_first(class_ticket))
    }

    /// Whether it is the oldest of all.
    fn is_oldest(&self) -> bool {
        self.ticket.as_ref().is_some_and(|class_ticket| self.queue.classes().is_oldest(class_ticket))
    }

    fn notify_next(&self) {
        let classes = self.queue.classes();
        if let Some(next) = self.ticket.as_ref().and_then(|class_ticket| classes.first_after(class_ticket)) {
            next.notify_one();
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut classes = self.queue.classes();
        if let Some(class_ticket) = self.ticket.take() {
            classes.leave(class_ticket);
        }
        self.queue.depth.store(classes.len(), Ordering::Relaxed);
        if let Some(first) = classes.first() {
            first.notify_one();
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
