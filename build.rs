//! Tells the library about the build: the compiler, the target, and Pingora's version, for `weir version`.
//!
//! It never reads the commit, so another commit does not compile the library again.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.lock");
    let target = env::var("TARGET").unwrap_or_default();
    let compiler = env::var_os("RUSTC").and_then(|rustc| Command::new(rustc).arg("--version").output().ok());
    let compiler = compiler.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    println!("cargo:rustc-env=WEIR_TARGET={}", known(&target));
    println!("cargo:rustc-env=WEIR_RUSTC={}", known(compiler.trim().trim_start_matches("rustc ")));
    println!("cargo:rustc-env=WEIR_PINGORA={}", known(locked(&lock, "pingora").unwrap_or_default()));
}

fn known(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

/// The version of a package in `Cargo.lock`.
fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    rest.split('"').next()
}
