//! The binary: parses arguments, runs, exits with a status.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: weir_alloc::Mimalloc = weir_alloc::Mimalloc;

fn main() -> ExitCode {
    // Read here, not in the library, so that a new commit recompiles this file only.
    if let Some(commit) = option_env!("WEIR_COMMIT").filter(|commit| !commit.is_empty()) {
        let _ = weir::COMMIT.set(commit);
    }
    weir::cli::main()
}
