//! The thin binary: arguments → run → exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: weir::allocator::Mimalloc = weir::allocator::Mimalloc;

fn main() -> ExitCode {
    weir::cli::main()
}
