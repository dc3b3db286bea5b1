//! Sliding window of attempt results in ten buckets.
//!
//! Pure and of fixed size; it makes no decisions.

const BUCKET_COUNT: usize = 10;

/// Faults and results of the last `width` milliseconds, with a resolution of a tenth of it.
#[derive(Debug)]
pub(super) struct SlidingWindow {
    bucket_ms: u64,
    /// (number of the interval, faults, results). Intervals start at 1, so an unused bucket belongs to none.
    buckets: [(u64, u32, u32); BUCKET_COUNT],
}

impl SlidingWindow {
    pub(super) fn new(width_ms: u64) -> Self {
        Self { bucket_ms: width_ms.div_ceil(BUCKET_COUNT as u64).max(1), buckets: [(0, 0, 0); BUCKET_COUNT] }
    }

    pub(super) fn add(&mut self, ok: bool, now_ms: u64) {
        let stretch = self.stretch(now_ms);
        let bucket = &mut self.buckets[(stretch % BUCKET_COUNT as u64) as usize];
        if bucket.0 != stretch {
            *bucket = (stretch, 0, 0);
        }
        bucket.1 = bucket.1.saturating_add((!ok).into());
        bucket.2 = bucket.2.saturating_add(1);
    }

    /// (faults, results).
    pub(super) fn sums(&self, now_ms: u64) -> (u32, u32) {
        let last = self.stretch(now_ms);
        let first = last.saturating_sub(BUCKET_COUNT as u64 - 1).max(1);
        let seen = self.buckets.iter().filter(|bucket| (first..=last).contains(&bucket.0));
        seen.fold((0, 0), |sums: (u32, u32), bucket| (sums.0.saturating_add(bucket.1), sums.1.saturating_add(bucket.2)))
    }

    pub(super) fn clear(&mut self) {
        self.buckets = [(0, 0, 0); BUCKET_COUNT];
    }

    fn stretch(&self, now_ms: u64) -> u64 {
        now_ms / self.bucket_ms + 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sums_are_those_of_the_last_ten_stretches(
            events in proptest::collection::vec((0_u64..2_500, any::<bool>()), 1..200)
        ) {
            let mut window = SlidingWindow::new(10_000);
            let (mut now, mut all) = (0, Vec::new());
            for (wait, ok) in events {
                now += wait;
                window.add(ok, now);
                all.push((now / 1_000, ok));
                let within = || all.iter().filter(|(second, _)| *second + 10 > now / 1_000);
                let faults = within().filter(|(_, ok)| !ok).count() as u32;
                prop_assert_eq!(window.sums(now), (faults, within().count() as u32));
            }
            window.clear();
            prop_assert_eq!(window.sums(now), (0, 0));
        }
    }
}
