//! The panic hook: counts panics and writes them to the process log. It never catches a panic, which ends its task.

use std::panic;
use std::sync::Once;
use std::time::Duration;

use super::process_log;
use crate::instruments::Counter;

/// Maximum wait until the log line is written. The process may end right after the panic.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

static PANICS: Counter = Counter::new();
static INSTALL: Once = Once::new();

/// Installs the hook: panics are counted and logged as errors. A second call does nothing.
pub fn install_hook() {
    INSTALL.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.bump();
            if tracing::dispatcher::has_been_set() {
                let thread = std::thread::current();
                tracing::error!(target: process_log::PANIC_TARGET, thread = thread.name().unwrap_or("-"), "a bug in weir: {info}");
                process_log::flush(FLUSH_TIMEOUT);
            } else {
                before(info);
            }
        }));
    });
}

/// Number of panics since the hook was installed.
pub fn count() -> u64 {
    PANICS.get()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted_once() {
        install_hook();
        install_hook();
        let before = count();
        assert!(std::thread::spawn(|| panic!("on purpose")).join().is_err());
        assert!(count() > before);
    }
}
