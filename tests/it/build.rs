//! The promises of the build: a new commit compiles only the binary again, and the bench compares binaries of one profile.

use std::path::{Path, PathBuf};

use crate::support::Weir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.chain(folders.iter().flat_map(|folder| rust_files(folder))).collect()
}

/// The lines of a manifest's section, up to the next section.
fn section(manifest: &str, head: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(manifest)).unwrap();
    let lines = text.lines().skip_while(|line| *line != head).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_new_commit_compiles_only_the_binary_again() {
    let source = root().join("src");
    let readers = rust_files(&source).into_iter().filter(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        text.contains("WEIR_COMMIT")
    });
    assert_eq!(readers.collect::<Vec<_>>(), [source.join("main.rs")]);
}

#[test]
fn build_info_names_the_commit_that_was_given_to_the_build() {
    let weir = Weir::start(
        "admin: { address: \"127.0.0.1:0\" }\nlisteners: [{ name: web, address: \"127.0.0.1:0\" }]\nroutes: [{ respond: { status: 204 } }]\n",
    );
    // `cargo test` builds the binary in the environment of the tests.
    let commit = std::env::var("WEIR_COMMIT").ok().filter(|commit| !commit.is_empty()).unwrap_or("unknown".to_owned());
    let series = format!("weir_build_info{{version=\"{}\",commit=\"{commit}\"}}", weir::VERSION);
    assert_eq!(weir.metric(&series), 1.0);
}

#[test]
fn the_bare_proxy_of_the_bench_is_built_with_the_profile_of_the_shipped_binary() {
    let shipped = section("Cargo.toml", "[profile.dist]");
    assert!(shipped.contains(&"lto = \"fat\"".to_owned()), "{shipped:?}");
    assert_eq!(section("bench/bare/Cargo.toml", "[profile.dist]"), shipped);
}

#[test]
fn the_shipped_binary_inherits_no_override_of_a_package() {
    assert_eq!(section("Cargo.toml", "[profile.release.package]"), Vec::<String>::new());
    assert_eq!(section("Cargo.toml", "[profile.dist.package]"), Vec::<String>::new());
    assert!(section("Cargo.toml", "[profile.release]").contains(&"opt-level = 3".to_owned()));
}
