//! Where requests wait when every backend is full: a semaphore whose permits are the backends' free slots.
//!
//! Only the first in line is ever awake. It is woken when a slot becomes free, and when it becomes the first; so a wake
//! costs the same however many wait, nobody overtakes, and no wake is lost: whoever leaves, with a slot or without, wakes
//! the next. Whoever comes while somebody waits joins the line. It never polls, and picks nothing itself.
//!
//! Who has tried a backend does not want its slots: those who have tried the same are of one kind and wait for the same
//! slots. If the first finds none for itself, it wakes the first that came after it of another kind.

mod classes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use classes::{ClassTicket, WaitClasses};

/// What a look for a slot came to.
#[derive(Debug)]
pub enum PickOutcome<T> {
    /// There was one.
    Slot(T),
    /// All are taken.
    Full,
    /// Some are free, but not for this one: it waits for others.
    ForOthers,
    /// Nobody is left whose slots could become free.
    Nobody,
}

/// Why somebody waited for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitError {
    /// As many wait as may.
    Overflow,
    /// The time was over.
    Timeout,
    /// The client left.
    Left,
    /// Nobody is left whose slots could become free.
    Nobody,
}

/// Those who wait for a slot of one upstream.
#[derive(Debug, Default)]
pub struct Queue {
    classes: Mutex<WaitClasses<Arc<Notify>>>,
    /// The line's length, for those who only ask whether somebody waits.
    depth: AtomicUsize,
}

impl Queue {
    /// How many wait.
    pub fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    /// A slot may be free: the first in line has a look. Costs a load where nobody waits.
    pub fn notify_first(&self) {
        // Against the fence in `join`: either the slot that became free before this is seen by who joins, or who has
        // joined is seen here.
        fence(Ordering::SeqCst);
        if self.depth() > 0
            && let Some(first) = self.classes().first()
        {
            first.notify_one();
        }
    }

    /// Waits for a slot: `look` takes one if it can, and is asked only when it is this one's turn. `gone` ends when the
    /// client has left. At most `size` wait, none for longer than `limit`. `kind`: the same for those who want the same slots.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn wait<T>(
        &self,
        (kind, size): (u64, usize),
        limit: Duration,
        gone: impl Future<Output = ()>,
        mut look: impl FnMut() -> PickOutcome<T>,
    ) -> Result<T, WaitError> {
        let Some(place) = self.join(kind, size) else {
            // No room to wait; what is free may still be what none of those who wait wants.
            let is_wanted = self.classes().has(kind);
            let look = if is_wanted { PickOutcome::Full } else { look() };
            return if let PickOutcome::Slot(slot) = look { Ok(slot) } else { Err(WaitError::Overflow) };
        };
        let over = tokio::time::sleep(limit);
        tokio::pin!(over, gone);
        let mut turn = place.is_oldest();
        if !turn && place.is_first() {
            // What is free now may be what those of other kinds do not want; they are asked first.
            self.notify_first();
        }
        loop {
            if turn {
                match look() {
                    PickOutcome::Slot(slot) => return Ok(slot),
                    PickOutcome::Nobody => return Err(WaitError::Nobody),
                    PickOutcome::Full | PickOutcome::ForOthers => place.notify_next(),
                }
            }
            tokio::select! {
                biased;
                () = &mut gone => return Err(WaitError::Left),
                () = place.notify.notified() => turn = place.is_first(),
                () = &mut over => return Err(WaitError::Timeout),
            }
        }
    }

    fn join(&self, kind: u64, size: usize) -> Option<Ticket<'_>> {
        let turn = Arc::new(Notify::new());
        let mut lines = self.classes();
        let standing = lines.join(kind, Arc::clone(&turn), size)?;
        self.depth.store(lines.len(), Ordering::Relaxed);
        drop(lines);
        fence(Ordering::SeqCst);
        Some(Ticket { queue: self, notify: turn, ticket: Some(standing) })
    }

    fn classes(&self) -> MutexGuard<'_, WaitClasses<Arc<Notify>>> {
        self.classes.lock()
    }
}

/// A place in the line; dropping it is leaving, and wakes who is first then.
struct Ticket<'a> {
    queue: &'a Queue,
    notify: Arc<Notify>,
    ticket: Option<ClassTicket>,
}

impl Ticket<'_> {
    /// Of its kind.
    fn is_first(&self) -> bool {
        self.ticket.as_ref().is_some_and(|standing| self.queue.classes().is_first(standing))
    }

    /// Of all.
    fn is_oldest(&self) -> bool {
        self.ticket.as_ref().is_some_and(|standing| self.queue.classes().is_oldest(standing))
    }

    fn notify_next(&self) {
        let lines = self.queue.classes();
        if let Some(next) = self.ticket.as_ref().and_then(|standing| lines.first_after(standing)) {
            next.notify_one();
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut lines = self.queue.classes();
        if let Some(standing) = self.ticket.take() {
            lines.leave(standing);
        }
        self.queue.depth.store(lines.len(), Ordering::Relaxed);
        if let Some(first) = lines.first() {
            first.notify_one();
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
