//! Where requests wait when every backend is full: a semaphore whose permits are the backends' free slots.
//!
//! Only the first in line is ever awake. It is woken when a slot becomes free, and when it becomes the first; so a wake
//! costs the same however many wait, nobody overtakes, and no wake is lost: whoever leaves, with a slot or without, wakes
//! the next. Whoever comes while somebody waits joins the line. It never polls, and picks nothing itself.

mod line;

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use line::{Line, Ticket};

/// What a look for a slot came to.
#[derive(Debug)]
pub enum Look<T> {
    /// There was one.
    Slot(T),
    /// All are taken.
    Full,
    /// Nobody is left whose slots could become free.
    Nobody,
}

/// Why somebody waited for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InVain {
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
    line: Mutex<Line<Arc<Notify>>>,
    /// The line's length, for those who only ask whether somebody waits.
    depth: AtomicUsize,
}

impl Queue {
    /// How many wait.
    pub fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    /// A slot may be free: the first in line has a look. Costs a load where nobody waits.
    pub fn nudge(&self) {
        // Against the fence in `join`: either the slot that became free before this is seen by who joins, or who has
        // joined is seen here.
        fence(Ordering::SeqCst);
        if self.depth() > 0
            && let Some(first) = self.line().first()
        {
            first.notify_one();
        }
    }

    /// Waits for a slot: `look` takes one if it can, and is asked only when it is this one's turn. `gone` ends when the
    /// client has left. At most `size` wait, none for longer than `limit`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn wait<T>(
        &self,
        size: usize,
        limit: Duration,
        gone: impl Future<Output = ()>,
        mut look: impl FnMut() -> Look<T>,
    ) -> Result<T, InVain> {
        let place = self.join(size).ok_or(InVain::Overflow)?;
        let over = tokio::time::sleep(limit);
        tokio::pin!(over, gone);
        loop {
            if place.is_first() {
                match look() {
                    Look::Slot(slot) => return Ok(slot),
                    Look::Nobody => return Err(InVain::Nobody),
                    Look::Full => {}
                }
            }
            tokio::select! {
                biased;
                () = &mut gone => return Err(InVain::Left),
                () = place.turn.notified() => {}
                () = &mut over => return Err(InVain::Timeout),
            }
        }
    }

    fn join(&self, size: usize) -> Option<Place<'_>> {
        let turn = Arc::new(Notify::new());
        let mut line = self.line();
        let ticket = line.join(Arc::clone(&turn), size)?;
        self.depth.store(line.len(), Ordering::Relaxed);
        drop(line);
        fence(Ordering::SeqCst);
        Some(Place { queue: self, turn, ticket: Some(ticket) })
    }

    fn line(&self) -> MutexGuard<'_, Line<Arc<Notify>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line; dropping it is leaving, and wakes who is first then.
struct Place<'a> {
    queue: &'a Queue,
    turn: Arc<Notify>,
    ticket: Option<Ticket>,
}

impl Place<'_> {
    fn is_first(&self) -> bool {
        self.ticket.as_ref().is_some_and(|ticket| self.queue.line().is_first(ticket))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut line = self.queue.line();
        if let Some(ticket) = self.ticket.take() {
            line.leave(ticket);
        }
        self.queue.depth.store(line.len(), Ordering::Relaxed);
        if let Some(first) = line.first() {
            first.notify_one();
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
