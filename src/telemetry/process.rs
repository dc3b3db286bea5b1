//! The `process_*` metric families of the prometheus crate, with a more exact CPU time.
//!
//! The crate counts CPU time in whole seconds, which is too coarse for a rate over one minute.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Counter, MetricFamily};

const CPU: &str = "process_cpu_seconds_total";

#[derive(Debug)]
pub(super) struct Process(ProcessCollector);

impl Process {
    pub(super) fn new() -> Self {
        Self(ProcessCollector::for_self())
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        let cpu = families.iter_mut().find(|family| family.name() == CPU);
        if let (Some(family), Some(seconds)) = (cpu, cpu_seconds()) {
            for metric in family.mut_metric() {
                let mut counter = Counter::default();
                counter.set_value(seconds);
                metric.set_counter(counter);
            }
        }
        families
    }
}

/// User and system time of all threads, in seconds.
fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Some(seconds(usage.user_time()) + seconds(usage.system_time()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_has_fractions_and_increases() {
        let before = cpu_seconds().unwrap();
        let sum = (0..20_000_000_u64).fold(0, |sum: u64, n| std::hint::black_box(sum ^ n));
        assert!(cpu_seconds().unwrap() > before, "{sum}");
        assert!(Process::new().collect().iter().any(|family| family.name() == CPU));
    }
}
