//! The writer of one metric family in text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
//!
//! It never stores values and knows no family by name: it writes each series as soon as its value is read.

use std::fmt::Write;

use crate::instruments::Histogram;

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricType {
    Counter,
    Gauge,
    Histogram,
}

/// The metadata of a family.
#[derive(Debug, Clone, Copy)]
pub(super) struct FamilyHeader {
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    /// Must not contain a backslash or a line break.
    pub(super) help: &'static str,
    pub(super) labels: &'static [&'static str],
}

/// Writes the series of one family. A family without series is not written.
pub(super) struct SeriesWriter<'a> {
    family: &'a FamilyHeader,
    out: &'a mut String,
    /// Whether the family's header is written.
    begun: &'a mut bool,
}

impl<'a> SeriesWriter<'a> {
    pub(super) fn new(family: &'a FamilyHeader, out: &'a mut String, begun: &'a mut bool) -> Self {
        Self { family, out, begun }
    }

    /// Writes a series of a counter or an integer gauge.
    pub(super) fn add(&mut self, values: &[&str], value: u64) {
        self.name(values);
        self.end(value);
    }

    /// Writes a series of a gauge with a fractional value.
    pub(super) fn push(&mut self, values: &[&str], value: f64) {
        self.name(values);
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, " {value}");
    }

    /// Writes a series of a histogram if it has an observation.
    pub(super) fn observe(&mut self, values: &[&str], durations: &Histogram) {
        let Some(observed) = durations.observed() else { return };
        self.head();
        let mut labels = String::with_capacity(128);
        pairs(&mut labels, self.family.labels, values);
        let comma = if labels.is_empty() { "" } else { "," };
        for (bound, count) in observed.buckets {
            self.part("_bucket{", &[&labels, comma, "le=\""]);
            seconds(self.out, bound);
            self.out.push_str("\"}");
            self.end(count);
        }
        self.part("_bucket{", &[&labels, comma, "le=\"+Inf\"}"]);
        self.end(observed.count);
        let braces = if labels.is_empty() { ["", "", ""] } else { ["{", &labels, "}"] };
        self.part("_sum", &braces);
        self.out.push(' ');
        seconds(self.out, observed.nanos);
        self.out.push('\n');
        self.part("_count", &braces);
        self.end(observed.count);
    }

    /// Total size of the output buffer, in bytes.
    pub(super) fn written(&self) -> usize {
        self.out.len()
    }

    fn name(&mut self, values: &[&str]) {
        self.head();
        self.out.push_str(self.family.name);
        if !values.is_empty() {
            self.out.push('{');
            pairs(self.out, self.family.labels, values);
            self.out.push('}');
        }
    }

    /// Writes the family's name, the suffix and the rest.
    fn part(&mut self, suffix: &str, rest: &[&str]) {
        self.out.push_str(self.family.name);
        self.out.push_str(suffix);
        rest.iter().for_each(|piece| self.out.push_str(piece));
    }

    fn end(&mut self, value: u64) {
        self.out.push(' ');
        self.out.push_str(itoa::Buffer::new().format(value));
        self.out.push('\n');
    }

    fn head(&mut self) {
        if std::mem::replace(self.begun, true) {
            return;
        }
        let FamilyHeader { name, help, .. } = self.family;
        let kind = match self.family.kind {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
        };
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }
}

fn pairs(out: &mut String, names: &[&str], values: &[&str]) {
    debug_assert_eq!(names.len(), values.len(), "{names:?}");
    for (at, (name, value)) in names.iter().zip(values).enumerate() {
        out.push_str(if at > 0 { "," } else { "" });
        out.push_str(name);
        out.push_str("=\"");
        escaped(out, value);
        out.push('"');
    }
}

fn escaped(out: &mut String, value: &str) {
    if !value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        return out.push_str(value);
    }
    for letter in value.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            letter => out.push(letter),
        }
    }
}

/// Writes nanoseconds as exact seconds, without an exponent.
fn seconds(out: &mut String, nanos: u64) {
    out.push_str(itoa::Buffer::new().format(nanos / 1_000_000_000));
    let mut rest = nanos % 1_000_000_000;
    if rest == 0 {
        return;
    }
    let mut digits = 9;
    while rest.is_multiple_of(10) {
        rest /= 10;
        digits -= 1;
    }
    let mut buffer = itoa::Buffer::new();
    let rest = buffer.format(rest);
    out.push('.');
    (rest.len()..digits).for_each(|_| out.push('0'));
    out.push_str(rest);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const GAUGE: FamilyHeader =
        FamilyHeader { name: "g", kind: MetricType::Gauge, help: "Of what.", labels: &["a", "b"] };

    fn written(family: &FamilyHeader, write: impl Fn(&mut SeriesWriter<'_>)) -> String {
        let (mut out, mut begun) = (String::new(), false);
        write(&mut SeriesWriter::new(family, &mut out, &mut begun));
        out
    }

    #[test]
    fn a_family_header_is_written_once_and_only_with_series() {
        assert_eq!(written(&GAUGE, |_| {}), "");
        let text = written(&GAUGE, |series| {
            series.add(&["x", "y"], u64::MAX);
            series.push(&["\"\\\n", "ü"], 0.25);
        });
        let series = "g{a=\"x\",b=\"y\"} 18446744073709551615\ng{a=\"\\\"\\\\\\n\",b=\"ü\"} 0.25\n";
        assert_eq!(text, format!("# HELP g Of what.\n# TYPE g gauge\n{series}"));
    }

    #[test]
    fn a_histogram_is_cumulative_with_and_without_labels() {
        let durations = Histogram::new(&[500_000, 60_000_000_000]);
        [400_000, 500_001, 61_000_000_000].into_iter().for_each(|nanos| durations.observe(Duration::from_nanos(nanos)));
        let family = FamilyHeader { name: "h", kind: MetricType::Histogram, help: "Help.", labels: &["a"] };
        let labelled = written(&family, |series| series.observe(&["x"], &durations));
        let expected = "h_bucket{a=\"x\",le=\"0.0005\"} 1\nh_bucket{a=\"x\",le=\"60\"} 2\nh_bucket{a=\"x\",le=\"+Inf\"} 3\n\
                        h_sum{a=\"x\"} 61.000900001\nh_count{a=\"x\"} 3\n";
        assert_eq!(labelled, format!("# HELP h Help.\n# TYPE h histogram\n{expected}"));
        let bare = written(&FamilyHeader { labels: &[], ..family }, |series| series.observe(&[], &durations));
        assert!(
            bare.contains("h_bucket{le=\"0.0005\"} 1\n") && bare.ends_with("h_sum 61.000900001\nh_count 3\n"),
            "{bare}"
        );
    }

    proptest! {
        #[test]
        fn seconds_are_exact(nanos in prop_oneof![any::<u64>(), 0..10_000_000_000_u64, (0..100_u64).prop_map(|n| n * 10_000_000)]) {
            let mut out = String::new();
            seconds(&mut out, nanos);
            let (whole, rest) = out.split_once('.').unwrap_or((&out, ""));
            prop_assert!(!rest.ends_with('0'));
            let rest: u64 = format!("{rest:0<9}").parse().unwrap();
            prop_assert_eq!(whole.parse::<u64>().unwrap() * 1_000_000_000 + rest, nanos);
        }
    }
}
