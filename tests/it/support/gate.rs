//! A gate that scripted backends wait at: the test decides when they answer.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};

use super::{Origin, Reply};

/// Closed at first. Its clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    /// An origin whose answers wait here; it answers the path that was asked for.
    pub fn origin(&self) -> Origin {
        self.origin_on(([127, 0, 0, 1], 0).into())
    }

    /// The same at this address.
    pub fn origin_on(&self, address: SocketAddr) -> Origin {
        let gate = self.clone();
        Origin::start_on(address, move |request| {
            gate.pass();
            Reply::new(200, &request.target)
        })
    }

    /// Waits until it lets one through.
    pub fn pass(&self) {
        let (open, changed) = &*self.0;
        let mut open = changed.wait_while(open.lock().unwrap(), |open| *open == 0).unwrap();
        *open = open.saturating_sub(1);
    }

    /// Lets so many through.
    pub fn let_through(&self, count: usize) {
        *self.0.0.lock().unwrap() += count;
        self.0.1.notify_all();
    }

    /// Lets all through from now on.
    pub fn open(&self) {
        self.let_through(usize::MAX / 2);
    }
}
