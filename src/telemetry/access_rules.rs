//! Which requests the access log has, and in which format. Pure: the random number is an argument.

use std::time::Duration;

use super::request_record::Record;
use super::{access_entry, common_log};
use crate::config::schema::{AccessLogFormat, AccessLogSettings};

/// The rules of the access log.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessRules {
    format: AccessLogFormat,
    /// The part of the requests that are logged, 0 to 1.
    sample: f64,
    /// A request that takes this long is always logged.
    slow: Duration,
}

impl AccessRules {
    /// The rules of these settings.
    pub fn of(settings: &AccessLogSettings) -> Self {
        Self { format: settings.format, sample: settings.sample.fraction(), slow: settings.slow.get() }
    }

    /// Whether this request is logged. `random`: from 0 up to, but not including, 1.
    pub(super) fn keeps(&self, record: &Record<'_>, random: impl FnOnce() -> f64) -> bool {
        let always = self.sample >= 1.0 || record.fault.is_some() || record.status >= 500;
        let slow = !self.slow.is_zero() && record.duration >= self.slow;
        always || slow || random() < self.sample
    }

    /// Writes the line of a request.
    pub(super) fn write(&self, out: &mut Vec<u8>, record: &Record<'_>) {
        match self.format {
            AccessLogFormat::Json => access_entry::write(out, record),
            AccessLogFormat::Common => common_log::write(out, record, false),
            AccessLogFormat::Combined => common_log::write(out, record, true),
        }
    }
}

impl Default for AccessRules {
    fn default() -> Self {
        Self::of(&AccessLogSettings::default())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::access_entry::tests::plain;
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn a_sample_has_every_fault_every_server_error_and_every_slow_request() {
        let rules = AccessRules { sample: 0.01, slow: Duration::from_secs(1), ..AccessRules::default() };
        assert!(!rules.keeps(&plain(), || 0.01) && rules.keeps(&plain(), || 0.009));
        for always in [
            Record { fault: Some(Fault::NoRoute), ..plain() },
            Record { status: 500, ..plain() },
            Record { duration: Duration::from_secs(1), ..plain() },
        ] {
            assert!(rules.keeps(&always, || 0.99), "{always:?}");
        }
        assert!(AccessRules::default().keeps(&plain(), || panic!("every request is logged without a random number")));
    }
}
