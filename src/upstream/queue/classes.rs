//! Waiting requests by wait class: one FIFO for all requests that can use the same slots, and one global order.
//!
//! Pure. The number of requests is bounded. It does not know slots: the caller decides which requests share a class.

use std::collections::BTreeMap;

/// Maximum number of classes. Further classes share one overflow FIFO, in which the head blocks those behind it.
const MAX_CLASSES: usize = 64;
/// Key of the overflow class.
const OVERFLOW_CLASS: u64 = u64::MAX;

/// All wait classes.
#[derive(Debug)]
pub struct WaitClasses<T> {
    classes: Vec<WaitClass<T>>,
    /// Number of the last arrival.
    numbers: u64,
    len: usize,
}

/// The requests of one class by arrival number. Never empty.
#[derive(Debug)]
struct WaitClass<T> {
    key: u64,
    fifo: BTreeMap<u64, T>,
}

/// Position in a class. Its owner must pass it to `leave`.
#[derive(Debug)]
pub struct ClassTicket {
    key: u64,
    number: u64,
}

impl<T> Default for WaitClasses<T> {
    fn default() -> Self {
        Self { classes: Vec::new(), numbers: 0, len: 0 }
    }
}

impl<T> WaitClasses<T> {
    /// Appends a request; `None` if `size` requests wait already.
    pub fn join(&mut self, key: u64, waiter: T, size: usize) -> Option<ClassTicket> {
        if self.len >= size {
            return None;
        }
        let key = if self.classes.len() < MAX_CLASSES || self.has(key) { key } else { OVERFLOW_CLASS };
        let at = self.classes.iter().position(|each| each.key == key).unwrap_or_else(|| {
            self.classes.push(WaitClass { key, fifo: BTreeMap::new() });
            self.classes.len() - 1
        });
        self.numbers += 1;
        self.classes[at].fifo.insert(self.numbers, waiter);
        self.len += 1;
        Some(ClassTicket { key, number: self.numbers })
    }

    /// Removes a request from any position.
    pub fn leave(&mut self, ticket: ClassTicket) -> Option<T> {
        let at = self.classes.iter().position(|each| each.key == ticket.key)?;
        let fifo = &mut self.classes[at].fifo;
        let waiter = fifo.remove(&ticket.number)?;
        if fifo.is_empty() {
            self.classes.swap_remove(at);
        }
        self.len -= 1;
        Some(waiter)
    }

    /// The oldest request.
    pub fn first(&self) -> Option<&T> {
        self.oldest_after(0)
    }

    /// The oldest of the class heads that arrived after this request.
    pub fn first_after(&self, ticket: &ClassTicket) -> Option<&T> {
        self.oldest_after(ticket.number)
    }

    /// Whether this request is the head of its class.
    pub fn is_first(&self, ticket: &ClassTicket) -> bool {
        let class = self.classes.iter().find(|each| each.key == ticket.key);
        class.and_then(|class| class.fifo.keys().next()) == Some(&ticket.number)
    }

    /// Whether this is the oldest request.
    pub fn is_oldest(&self, ticket: &ClassTicket) -> bool {
        self.heads().all(|(number, _)| number >= ticket.number)
    }

    /// Whether a request of this class waits.
    pub fn has(&self, key: u64) -> bool {
        self.classes.iter().any(|each| each.key == key)
    }

    /// Number of waiting requests.
    pub fn len(&self) -> usize {
        self.len
    }

    fn heads(&self) -> impl Iterator<Item = (u64, &T)> {
        self.classes.iter().filter_map(|class| class.fifo.first_key_value()).map(|(number, waiter)| (*number, waiter))
    }

    fn oldest_after(&self, number: u64) -> Option<&T> {
        let later = self.heads().filter(|(each, _)| *each > number);
        later.min_by_key(|(each, _)| *each).map(|(_, waiter)| waiter)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compares one class with a plain queue: same order, never above the size, with removals at any position.
        #[test]
        fn first_come_first_served_and_bounded(
            size in 0_usize..12,
            steps in proptest::collection::vec((0_u8..4, any::<usize>()), 1..300)
        ) {
            let (mut fifo, mut model, mut next) = (WaitClasses::default(), VecDeque::new(), 0_u32);
            for (what, which) in steps {
                match what {
                    0 | 1 => {
                        let ticket = fifo.join(7, next, size);
                        prop_assert_eq!(ticket.is_some(), model.len() < size);
                        model.extend(ticket.map(|ticket| (next, ticket)));
                        next += 1;
                    }
                    2 => if let Some((waiter, ticket)) = model.pop_front() {
                        prop_assert!(fifo.is_first(&ticket));
                        prop_assert_eq!(fifo.leave(ticket), Some(waiter));
                    },
                    _ => if !model.is_empty() {
                        let (waiter, ticket) = model.remove(which % model.len()).unwrap();
                        prop_assert_eq!(fifo.leave(ticket), Some(waiter));
                    },
                }
                prop_assert_eq!(fifo.first().copied(), model.front().map(|(waiter, _)| *waiter));
                prop_assert!(fifo.len() == model.len() && fifo.len() <= size);
                prop_assert!(fifo.classes.len() <= 1);
            }
        }

        /// Compares with a plain list: the oldest, the head of each class and the next head, for any joins and leaves.
        #[test]
        fn each_class_and_the_class_heads_are_in_order(
            size in 0_usize..12,
            steps in proptest::collection::vec((any::<bool>(), 0_u64..4, any::<usize>()), 1..200)
        ) {
            let (mut classes, mut model) = (WaitClasses::default(), Vec::<(u64, u32, ClassTicket)>::new());
            for (waiter, (joins, key, which)) in (0_u32..).zip(steps) {
                if joins {
                    let ticket = classes.join(key, waiter, size);
                    prop_assert_eq!(ticket.is_some(), model.len() < size);
                    model.extend(ticket.map(|ticket| (key, waiter, ticket)));
                } else if !model.is_empty() {
                    let (_, waiter, ticket) = model.remove(which % model.len());
                    prop_assert_eq!(classes.leave(ticket), Some(waiter));
                }
                prop_assert_eq!(classes.len(), model.len());
                prop_assert_eq!(classes.first().copied(), model.first().map(|(_, waiter, _)| *waiter));
                let is_first = |at: usize| model[..at].iter().all(|(key, ..)| *key != model[at].0);
                for (at, (_, _, ticket)) in model.iter().enumerate() {
                    prop_assert_eq!(classes.is_first(ticket), is_first(at));
                    prop_assert_eq!(classes.is_oldest(ticket), at == 0);
                    let after = (at + 1..model.len()).find(|after| is_first(*after)).map(|after| model[after].1);
                    prop_assert_eq!(classes.first_after(ticket).copied(), after);
                }
            }
            prop_assert!(classes.classes.len() <= model.len(), "empty classes are removed");
        }
    }

    #[test]
    fn the_number_of_classes_is_bounded() {
        let mut classes = WaitClasses::default();
        let tickets: Vec<_> = (0..1_000).filter_map(|key| classes.join(key, key, 1_000)).collect();
        assert_eq!((classes.classes.len(), classes.len()), (MAX_CLASSES + 1, 1_000));
        assert!(tickets.into_iter().zip(0..).all(|(ticket, waiter)| classes.leave(ticket) == Some(waiter)));
        assert_eq!((classes.classes.len(), classes.len()), (0, 0));
    }
}
