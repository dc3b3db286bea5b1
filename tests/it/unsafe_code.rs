//! Unsafe code has its own crates. The package itself denies it, with the exceptions that are listed here.

use std::path::{Path, PathBuf};

use crate::source_tree::rust_files;

/// The files of the package that allow unsafe code, and why.
const EXCEPTIONS: [(&str, &str); 2] = [
    (
        "src/pool/http1/fast_path.rs",
        "the parser has checked each value, and a second check costs 2 % of a small request",
    ),
    ("src/proxy/service.rs", "Pingora hands out a proxy with a custom connector only inside a service"),
];

/// The Rust files under the folders of the package.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = ["src", "tests", "benches"].into_iter().flat_map(|folder| rust_files(&root.join(folder)));
    all.map(|(path, text)| (path.strip_prefix(root).unwrap().to_owned(), text)).collect()
}

#[test]
fn unsafe_code_is_denied_with_the_listed_exceptions_alone() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""), "the lint is off");
    let lint = concat!("allow(unsafe", "_code");
    let mut allowed: Vec<String> = sources()
        .iter()
        .filter(|(path, _)| path != Path::new(file!()))
        .flat_map(|(path, text)| text.matches(lint).map(|_| path.display().to_string()))
        .collect();
    allowed.sort();
    assert_eq!(allowed, EXCEPTIONS.map(|(path, _)| path), "one allowance for each exception");
}
