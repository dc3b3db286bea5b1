//! Fuzz targets for the parsers that read bytes of clients, backends and name servers. Each is a test on stable: it tries its seeds,
//! then random inputs for a second. `make fuzz TARGET=request_head` runs a target as a coverage-guided fuzzer.
//!
//! An input is text with shortcuts, so that random bytes form tokens of the grammar. A first byte of 0xff means that the rest is
//! taken as it is: `scripts/fuzz.sh` puts it before each seed.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod access_log;
mod chunks;
mod cookies;
mod dns;
mod forwarded;
mod path_form;
mod proxy_header;
mod rate_limit;
mod request_head;
mod yaml;

use std::path::Path;

/// The first byte of an input that is taken as it is.
const RAW: u8 = 0xff;

/// Declares a fuzz target: a name, the tokens of its grammar, and the check of an input.
macro_rules! fuzz_target {
    ($name:ident, $tokens:expr, $check:expr) => {
        #[test]
        fn $name() {
            // The tool that lists the targets runs nothing.
            if std::env::var_os("CARGO_BOLERO_SELECT").is_none() {
                for (file, seed) in $crate::seeds(stringify!($name)) {
                    println!("seed {file}");
                    $check(&seed);
                }
            }
            bolero::check!().with_max_len(2048).for_each(|input: &[u8]| $check(&$crate::expand(input, $tokens)));
        }
    };
}
pub(crate) use fuzz_target;

/// The files of `tests/fuzz/seeds/TARGET`.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no seed", folder.display());
    files.iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
}

/// Replaces each byte below the number of tokens by its token.
fn expand(input: &[u8], tokens: &[&str]) -> Vec<u8> {
    if let Some((&RAW, rest)) = input.split_first() {
        return rest.to_vec();
    }
    let mut text = Vec::with_capacity(input.len() * 2);
    for byte in input {
        match tokens.get(usize::from(*byte)) {
            Some(token) => text.extend_from_slice(token.as_bytes()),
            None => text.push(*byte),
        }
    }
    text
}

/// Takes numbers from an input, for targets that are sequences of operations. It returns zeros at the end.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        (u64::from(self.byte()) << 8 | u64::from(self.byte())) % limit
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[test]
fn the_seeds_are_small_in_all() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
    let targets = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let bytes: usize = targets.flat_map(|target| seeds(&target)).map(|(_, seed)| seed.len()).sum();
    assert!(bytes < 1 << 20, "{bytes} bytes");
}
