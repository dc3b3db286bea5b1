//! Waiting requests by wait class: one FIFO for all requests that can use the same slots, and one global order.
//!
//! Pure. The number of requests is bounded. It does not know slots: the caller decides which requests share a
//! class.

use std::collections::BTreeMap;

/// Maximum number of classes. Further classes share one overflow FIFO, in which the head blocks those behind
/// it.
const MAX_CLASSES: usize = 64;
/// Key of the overflow class.
const OVERFLOW_CLASS: u64 = u64::MAX;

/// All wait classes.
#[derive(Debug)]
pub struct WaitClasses<T> {
    kinds: Vec<WaitClass<T>>,
    /// Number of the last arrival.
    numbers: u64,
    len: usize,
}

/// The requests of one class by arrival number. Never empty.
#[derive(Debug)]
struct WaitClass<T> {
    kind: u64,
    line: BTreeMap<u64, T>,
}

/// Position in a class. Its owner must pass it to `leave`.
#[derive(Debug)]
pub struct ClassTicket {
    kind: u64,
    number: u64,
}

impl<T> Default for WaitClasses<T> {
    fn default() -> Self {
        Self { kinds: Vec::new(), numbers: 0, len: 0 }
    }
}

impl<T> WaitClasses<T> {
    /// Appends a request; `None` if `size` requests wait already.
    pub fn join(&mut self, kind: u64, who: T, size: usize) -> Option<ClassTicket> {
        if self.len >= size {
            return None;
        }
        let kind = if self.kinds.len() < MAX_CLASSES || self.has(kind) { kind } else { OVERFLOW_CLASS };
        let at = self.kinds.iter().position(|each| each.kind == kind).unwrap_or_else(|| {
            self.kinds.push(WaitClass { kind, line: BTreeMap::new() });
            self.kinds.len() - 1
        });
        self.numbers += 1;
        self.kinds[at].line.insert(self.numbers, who);
        self.len += 1;
        Some(ClassTicket { kind, number: self.numbers })
    }

    /// Removes a request from any position.
    pub fn leave(&mut self, standing: ClassTicket) -> Option<T> {
        let at = self.kinds.iter().position(|each| each.kind == standing.kind)?;
        let line = &mut self.kinds[at].line;
        let who = line.remove(&standing.number)?;
        if line.is_empty() {
            self.kinds.swap_remove(at);
        }
        self.len -= 1;
        Some(who)
    }

    /// The oldest request.
    pub fn first(&self) -> Option<&T> {
        self.oldest_after(0)
    }

    /// The oldest of the class heads that arrived after this request.
    pub fn first_after(&self, standing: &ClassTicket) -> Option<&T> {
        self.oldest_after(standing.number)
    }

    /// Whether this request is the head of its class.
    pub fn is_first(&self, standing: &ClassTicket) -> bool {
        let class = self.kinds.iter().find(|each| each.kind == standing.kind);
        class.and_then(|class| class.line.keys().next()) == Some(&standing.number)
    }

    /// Whether this is the oldest request.
    pub fn is_oldest(&self, standing: &ClassTicket) -> bool {
        self.firsts().all(|(number, _)| number >= standing.number)
    }

    /// Whether a request of this class waits.
    pub fn has(&self, kind: u64) -> bool {
        self.kinds.iter().any(|each| each.kind == kind)
    }

    /// Number of waiting requests.
    pub fn len(&self) -> usize {
        self.len
    }

    fn firsts(&self) -> impl Iterator<Item = (u64, &T)> {
        self.kinds.iter().filter_map(|class| class.line.first_key_value()).map(|(number, who)| (*number, who))
    }

    fn oldest_after(&self, number: u64) -> Option<&T> {
        let later = self.firsts().filter(|(each, _)| *each > number);
        later.min_by_key(|(each, _)| *each).map(|(_, who)| who)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compares one class with a plain queue: same order, never above the size, with removals at any
        /// position.
        #[test]
        fn first_come_first_served_and_bounded(
            size in 0_usize..12,
            steps in proptest::collection::vec((0_u8..4, any::<usize>()), 1..300)
        ) {
            let (mut line, mut model, mut next) = (WaitClasses::default(), VecDeque::new(), 0_u32);
            for (what, which) in steps {
                match what {
                    0 | 1 => {
                        let ticket = line.join(7, next, size);
                        prop_assert_eq!(ticket.is_some(), model.len() < size);
                        model.extend(ticket.map(|ticket| (next, ticket)));
                        next += 1;
                    }
                    2 => if let Some((who, ticket)) = model.pop_front() {
                        prop_assert!(line.is_first(&ticket));
                        prop_assert_eq!(line.leave(ticket), Some(who));
                    },
                    _ => if !model.is_empty() {
                        let (who, ticket) = model.remove(which % model.len()).unwrap();
                        prop_assert_eq!(line.leave(ticket), Some(who));
                    },
                }
                prop_assert_eq!(line.first().copied(), model.front().map(|(who, _)| *who));
                prop_assert!(line.len() == model.len() && line.len() <= size);
                prop_assert!(line.kinds.len() <= 1);
            }
        }

        /// Compares with a plain list: the oldest, the head of each class and the next head, for any joins and
        /// leaves.
        #[test]
        fn each_class_and_the_class_heads_are_in_order(
            size in 0_usize..12,
            steps in proptest::collection::vec((any::<bool>(), 0_u64..4, any::<usize>()), 1..200)
        ) {
            let (mut lines, mut model) = (WaitClasses::default(), Vec::<(u64, u32, ClassTicket)>::new());
            for (who, (joins, kind, which)) in (0_u32..).zip(steps) {
                if joins {
                    let standing = lines.join(kind, who, size);
                    prop_assert_eq!(standing.is_some(), model.len() < size);
                    model.extend(standing.map(|standing| (kind, who, standing)));
                } else if !model.is_empty() {
                    let (_, who, standing) = model.remove(which % model.len());
                    prop_assert_eq!(lines.leave(standing), Some(who));
                }
                prop_assert_eq!(lines.len(), model.len());
                prop_assert_eq!(lines.first().copied(), model.first().map(|(_, who, _)| *who));
                let is_first = |at: usize| model[..at].iter().all(|(kind, ..)| *kind != model[at].0);
                for (at, (_, _, standing)) in model.iter().enumerate() {
                    prop_assert_eq!(lines.is_first(standing), is_first(at));
                    prop_assert_eq!(lines.is_oldest(standing), at == 0);
                    let after = (at + 1..model.len()).find(|after| is_first(*after)).map(|after| model[after].1);
                    prop_assert_eq!(lines.first_after(standing).copied(), after);
                }
            }
            prop_assert!(lines.kinds.len() <= model.len(), "kinds are given up");
        }
    }

    #[test]
    fn the_number_of_classes_is_bounded() {
        let mut lines = WaitClasses::default();
        let standings: Vec<_> = (0..1_000).filter_map(|kind| lines.join(kind, kind, 1_000)).collect();
        assert_eq!((lines.kinds.len(), lines.len()), (MAX_CLASSES + 1, 1_000));
        assert!(standings.into_iter().zip(0..).all(|(standing, who)| lines.leave(standing) == Some(who)));
        assert_eq!((lines.kinds.len(), lines.len()), (0, 0));
    }
}
