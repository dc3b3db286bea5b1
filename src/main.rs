//! The thin binary: arguments → run → exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: weir_alloc::Mimalloc = weir_alloc::Mimalloc;

fn main() -> ExitCode {
    // Read here and not in the library: another commit then compiles this file only.
    if let Some(commit) = option_env!("WEIR_COMMIT").filter(|commit| !commit.is_empty()) {
        let _ = weir::COMMIT.set(commit);
    }
    weir::cli::main()
}
