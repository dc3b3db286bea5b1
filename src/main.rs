//! The thin binary: arguments → run → exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: weir_alloc::Mimalloc = weir_alloc::Mimalloc;

fn main() -> ExitCode {
    weir::cli::main()
}
