//! Rise/fall hysteresis of a health check: `unknown → up | down`.
//!
//! It is pure: it gets probe results and returns changes of the verdict. From unknown, the first probe decides.
//! Afterwards `rise` consecutive successes or `fall` consecutive failures change the verdict.

use crate::backend::labels::Health;

/// The verdict about one backend, and the number of consecutive results against it.
#[derive(Debug, Clone)]
pub struct Hysteresis {
    verdict: Health,
    against: u32,
    rise: u32,
    fall: u32,
}

impl Hysteresis {
    /// Starts with a verdict. `rise` and `fall` below 1 count as 1.
    pub fn new(verdict: Health, rise: u32, fall: u32) -> Self {
        Self { verdict, against: 0, rise: rise.max(1), fall: fall.max(1) }
    }

    /// The current verdict.
    pub fn verdict(&self) -> Health {
        self.verdict
    }

    /// Records a probe result. Returns the new verdict if it changes.
    pub fn step(&mut self, pass: bool) -> Option<Health> {
        let result = if pass { Health::Up } else { Health::Down };
        if result == self.verdict {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = match self.verdict {
            Health::Unknown => 1,
            Health::Up => self.fall,
            Health::Down => self.rise,
        };
        if self.against < needed {
            return None;
        }
        self.verdict = result;
        self.against = 0;
        Some(result)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(hysteresis: &mut Hysteresis, results: &str) -> String {
        let show = |flip| match flip {
            None => '.',
            Some(Health::Up) => 'U',
            Some(Health::Down) => 'D',
            Some(Health::Unknown) => '?',
        };
        results.chars().map(|c| show(hysteresis.step(c == '+'))).collect()
    }

    #[test]
    fn the_first_probe_decides_then_rise_and_fall() {
        for (results, flips) in [
            ("+", "U"),
            ("-", "D"),
            ("---++", "D...U"),
            ("-+-+-++", "D.....U"),
            ("+---", "U..D"),
            ("+--+--+---", "U........D"),
            ("+-----++", "U..D...U"),
        ] {
            assert_eq!(run(&mut Hysteresis::new(Health::Unknown, 2, 3), results), flips, "{results}");
        }
        assert_eq!(run(&mut Hysteresis::new(Health::Up, 2, 3), "--+---"), ".....D");
        assert_eq!(run(&mut Hysteresis::new(Health::Down, 0, 0), "+-+"), "UDU");
    }

    proptest! {
        /// Compares with a naive implementation that checks the last results each time.
        #[test]
        fn a_flip_is_a_full_run_against_the_verdict(rise in 1_u32..5, fall in 1_u32..5,
                                                     results in proptest::collection::vec(any::<bool>(), 1..200)) {
            let mut hysteresis = Hysteresis::new(Health::Unknown, rise, fall);
            let (mut up, mut since) = (results[0], 1);
            prop_assert_eq!(hysteresis.step(results[0]), Some(if up { Health::Up } else { Health::Down }));
            for at in 1..results.len() {
                let needed = if up { fall } else { rise } as usize;
                let flips = at + 1 - since >= needed && results[at + 1 - needed..=at].iter().all(|r| *r != up);
                if flips {
                    (up, since) = (!up, at + 1);
                }
                prop_assert_eq!(hysteresis.step(results[at]).is_some(), flips);
                prop_assert_eq!(hysteresis.verdict() == Health::Up, up);
            }
        }
    }
}
