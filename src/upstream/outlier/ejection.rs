//! Ejection state of one backend: serving → ejected → trial → serving.
//!
//! Pure: it gets results and times and returns verdicts. It does not know how many backends may be ejected at once.

use std::time::Duration;

use super::sliding_window::SlidingWindow;
use crate::config::schema::Outlier;

/// The cause of an ejection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cause {
    /// Number of consecutive failed attempts.
    Failed(u32),
    /// Number of consecutive responses of 500 or more, and the time of the first.
    ServerErrors { count: u32, since_ms: u64 },
    /// Number of faults, and of all results in the window.
    Ratio(u32, u32),
    /// The trial request failed.
    Trial,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(1) => f.write_str("a failed attempt"),
            Self::Failed(count) => write!(f, "{count} failed attempts in a row"),
            Self::ServerErrors { count: 1, .. } => f.write_str("a 5xx response"),
            Self::ServerErrors { count, .. } => write!(f, "{count} 5xx responses in a row"),
            Self::Ratio(faults, of) => write!(f, "{faults} faults in {of} requests"),
            Self::Trial => f.write_str("its trial request failed"),
        }
    }
}

/// The result of one attempt, as far as the backend is responsible for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// A response below 500 was completed.
    Success,
    /// The status of the response is 500 or more.
    ServerError,
    /// No complete response: error in connect, TLS or protocol, reset or timeout.
    Failed,
}

/// The number of failed attempts in a row that a response header has reset. If the body of that response then fails,
/// and no other response was completed meanwhile, the count continues. So a backend that breaks off every response is
/// ejected too.
#[derive(Debug, Clone, Copy, Default)]
pub struct EndedRun {
    count: u32,
    successes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving { since_ms: u64 },
    Ejected { until_ms: u64 },
    Trial,
}

/// Ejection state of one backend.
#[derive(Debug)]
pub struct EjectionState {
    rules: Outlier,
    phase: Phase,
    /// Failed attempts since the last response below 500.
    failed: u32,
    /// Responses of 500 or more since the last response below 500. The next field is the time of the first.
    errors: u32,
    errors_since_ms: u64,
    /// Number of reported responses below 500. `watch` does not report a success that changes nothing.
    successes: u32,
    window: SlidingWindow,
    /// Number of ejections in a row. A serving time of `max_eject` sets it back.
    ejections: u32,
}

impl EjectionState {
    /// The initial state: serving, without faults.
    pub fn new(rules: Outlier) -> Self {
        let window = SlidingWindow::new(millis(rules.window.get()));
        let phase = Phase::Serving { since_ms: 0 };
        Self { rules, phase, failed: 0, errors: 0, errors_since_ms: 0, successes: 0, window, ejections: 0 }
    }

    /// Whether there are no failures in a row, so that a success changes nothing.
    pub fn is_clean(&self) -> bool {
        self.failed == 0 && self.errors == 0
    }

    /// Records a response header below 500. It ends the run of failed attempts, which is returned, and the run of
    /// responses of 500 or more.
    pub fn answered(&mut self) -> EndedRun {
        let ended = EndedRun { count: self.failed, successes: self.successes };
        (self.failed, self.errors) = (0, 0);
        ended
    }

    /// Records the result of an attempt that is not a trial. Returns the cause if the backend should be ejected. While
    /// the backend is ejected, results belong to attempts that started before, and are ignored.
    pub fn record(&mut self, report: Report, ended: EndedRun, now_ms: u64) -> Option<Cause> {
        if !matches!(self.phase, Phase::Serving { .. }) {
            return None;
        }
        self.window.add(report == Report::Success, now_ms);
        match report {
            Report::Success => {
                self.failed = 0;
                self.successes = self.successes.wrapping_add(1);
                return None;
            }
            Report::ServerError => {
                if self.errors == 0 {
                    self.errors_since_ms = now_ms;
                }
                self.errors = self.errors.saturating_add(1);
            }
            Report::Failed => {
                let before = if ended.successes == self.successes { ended.count } else { 0 };
                self.failed = self.failed.max(before).saturating_add(1);
            }
        }
        self.cause(report, now_ms)
    }

    fn cause(&self, report: Report, now_ms: u64) -> Option<Cause> {
        let reached = |count: u32, limit: u32| limit > 0 && count >= limit;
        match report {
            Report::Failed if reached(self.failed, self.rules.consecutive) => return Some(Cause::Failed(self.failed)),
            Report::ServerError if reached(self.errors, self.rules.consecutive_5xx) => {
                return Some(Cause::ServerErrors { count: self.errors, since_ms: self.errors_since_ms });
            }
            _ => {}
        }
        let ratio = self.rules.error_ratio.fraction();
        if ratio <= 0.0 {
            return None;
        }
        let (faults, all) = self.window.sums(now_ms);
        let too_many = f64::from(faults) >= ratio * f64::from(all);
        (all >= self.rules.min_requests && too_many).then_some(Cause::Ratio(faults, all))
    }

    /// Ejects the backend and returns the end time. Each ejection is twice as long as the previous one, up to
    /// `max_eject`. The duration starts again after the backend has served for `max_eject`.
    pub fn eject(&mut self, now_ms: u64) -> u64 {
        let most = millis(self.rules.max_eject.get());
        if let Phase::Serving { since_ms } = self.phase
            && now_ms.saturating_sub(since_ms) >= most
        {
            self.ejections = 0;
        }
        let doubled = millis(self.rules.eject.get()).saturating_mul(1 << self.ejections.min(32));
        self.ejections = self.ejections.saturating_add(1);
        let until_ms = now_ms.saturating_add(doubled.min(most));
        self.phase = Phase::Ejected { until_ms };
        (self.failed, self.errors) = (0, 0);
        self.window.clear();
        until_ms
    }

    /// Ends an ejection without a trial.
    pub fn release(&mut self, now_ms: u64) {
        if self.is_out() {
            self.phase = Phase::Serving { since_ms: now_ms };
        }
    }

    /// The time from which a trial is allowed; `None` while the backend serves or a trial is in progress.
    pub fn due(&self) -> Option<u64> {
        match self.phase {
            Phase::Ejected { until_ms } => Some(until_ms),
            Phase::Serving { .. } | Phase::Trial => None,
        }
    }

    /// Whether it takes no normal requests.
    pub fn is_out(&self) -> bool {
        !matches!(self.phase, Phase::Serving { .. })
    }

    /// Starts the trial if it is due. Returns whether it did.
    pub fn try_trial(&mut self, now_ms: u64) -> bool {
        let due = self.due().is_some_and(|until| until <= now_ms);
        if due {
            self.phase = Phase::Trial;
        }
        due
    }

    /// Ends the trial; `None`: it had no result, so the next request is the trial. Returns whether the backend serves
    /// again.
    pub fn trial_ended(&mut self, ok: Option<bool>, now_ms: u64) -> bool {
        if self.phase != Phase::Trial {
            return false;
        }
        match ok {
            Some(true) => self.phase = Phase::Serving { since_ms: now_ms },
            Some(false) => {
                self.eject(now_ms);
            }
            None => self.phase = Phase::Ejected { until_ms: now_ms },
        }
        ok == Some(true)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::values::{Percent, Period};

    fn rules() -> Outlier {
        Outlier {
            consecutive: 3,
            error_ratio: Percent::new(50.0),
            min_requests: 10,
            eject: Period::from_secs(1),
            max_eject: Period::from_secs(4),
            ..Outlier::default()
        }
    }

    #[test]
    fn failed_attempts_in_a_row_eject_and_a_success_ends_the_run() {
        let mut machine = EjectionState::new(rules());
        let said: Vec<_> = [false, false, true, false, false, false].map(|ok| machine.see(ok, 0)).into();
        assert_eq!(said, [None, None, None, None, None, Some(Cause::Failed(3))]);
    }

    #[test]
    fn responses_of_500_count_apart_from_failed_attempts_and_each_run_ends_with_a_response_below_500() {
        let mut machine = EjectionState::new(Outlier { consecutive_5xx: 4, ..rules() });
        let none = EndedRun::default();
        let mut saw = |report, now| machine.record(report, none, now);
        for now in 1..=2 {
            assert_eq!(saw(Report::Failed, now), None);
        }
        for now in 3..=5 {
            assert_eq!(saw(Report::ServerError, now), None, "neither run ends the other");
        }
        assert_eq!(saw(Report::Failed, 6), Some(Cause::Failed(3)));
        assert_eq!(saw(Report::ServerError, 7), Some(Cause::ServerErrors { count: 4, since_ms: 3 }));
        machine.answered();
        assert!(machine.is_clean());
        assert_eq!(machine.record(Report::ServerError, none, 8), None);
        assert_eq!(machine.record(Report::ServerError, none, 9), None);
        let off = Outlier { consecutive: 0, consecutive_5xx: 0, error_ratio: Percent::new(0.0), ..rules() };
        let mut off = EjectionState::new(off);
        let reports = [Report::ServerError, Report::Failed];
        assert!((0..2_000).all(|n| off.record(reports[n % 2], none, 0).is_none()), "0: never");
    }

    #[test]
    fn a_backend_that_breaks_off_each_response_is_ejected_although_each_had_a_header() {
        let by_runs = || EjectionState::new(Outlier { error_ratio: Percent::new(0.0), ..rules() });
        let mut machine = by_runs();
        let mut broken = || {
            let ended = machine.answered();
            machine.record(Report::Failed, ended, 0)
        };
        assert_eq!([broken(), broken(), broken()], [None, None, Some(Cause::Failed(3))]);
        let mut machine = by_runs();
        for _ in 0..10 {
            let ended = machine.answered();
            assert!(machine.record(Report::Success, EndedRun::default(), 0).is_none());
            assert!(machine.record(Report::Failed, ended, 0).is_none(), "another came to its end meanwhile");
        }
    }

    impl EjectionState {
        fn see(&mut self, ok: bool, now_ms: u64) -> Option<Cause> {
            let report = if ok { Report::Success } else { Report::Failed };
            self.record(report, EndedRun::default(), now_ms)
        }
    }

    #[test]
    fn a_ratio_needs_enough_requests_and_forgets() {
        let mut machine = EjectionState::new(Outlier { consecutive: 0, ..rules() });
        assert!((0..9).all(|_| machine.see(false, 0).is_none()), "too few to tell");
        assert_eq!(machine.see(false, 0), Some(Cause::Ratio(10, 10)));
        let later = 60_000;
        assert_eq!(machine.see(false, later), None, "what is out of the window is forgotten");
        assert!((0..20).all(|_| machine.see(true, later).is_none()));
        assert!((0..18).all(|_| machine.see(false, later).is_none()));
        assert_eq!(machine.see(false, later), Some(Cause::Ratio(20, 40)));
    }

    #[test]
    fn each_ejection_takes_twice_as_long_up_to_the_most_and_is_forgotten() {
        let mut machine = EjectionState::new(rules());
        let mut now = 100_000;
        for takes in [1_000, 2_000, 4_000, 4_000] {
            assert_eq!(machine.eject(now), now + takes);
            assert!(machine.is_out() && !machine.try_trial(now + takes - 1));
            now += takes;
            assert!(machine.try_trial(now) && !machine.try_trial(now), "one trial, not two");
            assert!(machine.trial_ended(Some(true), now) && !machine.is_out());
        }
        assert_eq!(machine.eject(now + 3_999), now + 3_999 + 4_000);
        assert!(machine.try_trial(now + 8_000) && machine.trial_ended(Some(true), now + 8_000));
        assert_eq!(machine.eject(now + 12_000), now + 13_000, "served for long enough");
    }

    #[test]
    fn a_failed_trial_ejects_for_longer_and_one_without_a_result_is_given_to_the_next() {
        let mut machine = EjectionState::new(rules());
        machine.eject(0);
        assert!(machine.try_trial(1_000) && !machine.trial_ended(Some(false), 1_000));
        assert_eq!(machine.due(), Some(3_000));
        assert!(machine.try_trial(3_000) && !machine.trial_ended(None, 3_500));
        assert!(machine.try_trial(3_500) && machine.trial_ended(Some(true), 3_600));
    }

    proptest! {
        /// Invariants: an ejected backend has a due time or a trial. No ejection is longer than the maximum. Results
        /// during an ejection change nothing.
        #[test]
        fn invariants(steps in proptest::collection::vec((0_u64..3_000, 0_u8..5), 1..300)) {
            let mut machine = EjectionState::new(rules());
            let (mut now, mut on_trial) = (1_000, false);
            for (wait, what) in steps {
                now += wait;
                match what {
                    0 | 1 => {
                        let out = machine.is_out();
                        let due = machine.due();
                        if machine.see(what == 1, now).is_some() {
                            prop_assert!(!out);
                            prop_assert!(machine.eject(now) <= now + 4_000);
                        } else {
                            prop_assert_eq!((machine.is_out(), machine.due()), (out, due));
                        }
                    }
                    2 => {
                        let due = machine.due().is_some_and(|due| due <= now);
                        prop_assert_eq!(machine.try_trial(now), due);
                        on_trial |= due;
                    }
                    _ if on_trial => {
                        machine.trial_ended((what == 3).then_some(now % 2 == 0), now);
                        on_trial = false;
                    }
                    _ => prop_assert!(!machine.trial_ended(Some(true), now), "there was none"),
                }
                prop_assert_eq!(machine.is_out(), machine.due().is_some() || on_trial);
            }
        }
    }
}
