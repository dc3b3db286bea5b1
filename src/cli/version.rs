//! `weir version`: the version and what the binary was built from.

use std::sync::LazyLock;

use super::{exit, say};

/// Prints it.
pub(super) fn version() -> u8 {
    say(format_args!("weir {}", *LONG));
    exit::DONE
}

/// The version, and one line for each of commit, Pingora, rustc and target.
pub(super) static LONG: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}\ncommit:  {}\npingora: {}\nrustc:   {}\ntarget:  {}",
        crate::VERSION,
        crate::COMMIT.get().copied().unwrap_or("unknown"),
        env!("WEIR_PINGORA"),
        env!("WEIR_RUSTC"),
        env!("WEIR_TARGET"),
    )
});
