//! The order of those who wait: first come, first served, of a bounded length. Pure. Joining, leaving from anywhere and
//! asking who is first take the same time however long the line is.

/// No place.
const NONE: usize = usize::MAX;

/// Those who wait, in the order in which they came.
#[derive(Debug)]
pub struct Fifo<T> {
    places: Vec<Node<T>>,
    free: Vec<usize>,
    first: usize,
    last: usize,
    len: usize,
}

#[derive(Debug)]
struct Node<T> {
    who: Option<T>,
    before: usize,
    after: usize,
}

/// A place in a line; whoever holds it has to leave by it.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(usize);

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), first: NONE, last: NONE, len: 0 }
    }
}

impl<T> Fifo<T> {
    /// Joins at the end; nothing if `size` wait already.
    pub fn join(&mut self, who: T, size: usize) -> Option<Ticket> {
        if self.len >= size {
            return None;
        }
        let place = Node { who: Some(who), before: self.last, after: NONE };
        let at = match self.free.pop() {
            Some(at) => {
                self.places[at] = place;
                at
            }
            None => {
                self.places.push(place);
                self.places.len() - 1
            }
        };
        match self.last {
            NONE => self.first = at,
            last => self.places[last].after = at,
        }
        self.last = at;
        self.len += 1;
        Some(Ticket(at))
    }

    /// Leaves, from wherever.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let at = ticket.0;
        let place = self.places.get_mut(at)?;
        let who = place.who.take()?;
        let (before, after) = (place.before, place.after);
        match before {
            NONE => self.first = after,
            before => self.places[before].after = after,
        }
        match after {
            NONE => self.last = before,
            after => self.places[after].before = before,
        }
        self.len -= 1;
        if self.len == 0 {
            // The room that a rush took is given back.
            *self = Self::default();
        } else {
            self.free.push(at);
        }
        Some(who)
    }

    /// Who is first.
    pub fn first(&self) -> Option<&T> {
        self.places.get(self.first)?.who.as_ref()
    }

    /// Whether this place is the first.
    pub fn is_first(&self, ticket: &Ticket) -> bool {
        self.first == ticket.0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a plain queue: the same order, never above the size, whoever leaves.
        #[test]
        fn first_come_first_served_and_bounded(
            size in 0_usize..12,
            steps in proptest::collection::vec((0_u8..4, any::<usize>()), 1..300)
        ) {
            let (mut line, mut model, mut next) = (Fifo::default(), VecDeque::new(), 0_u32);
            for (what, which) in steps {
                match what {
                    0 | 1 => {
                        let ticket = line.join(next, size);
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
                prop_assert!(line.places.len() <= size, "places are used again");
            }
        }
    }
}
