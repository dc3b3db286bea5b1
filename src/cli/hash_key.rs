//! `weir hash-key`: prints the line of an API key for the file of `auth.*.api_keys`.

use std::io::{self, BufRead, IsTerminal};

use clap::Args;

use super::{exit, say};
use crate::auth::api_keys::{MIN_KEY_BYTES, generate_key, is_key_name, key_line};

/// Maximum length of a key that is read, in bytes.
const MAX_KEY_BYTES: u64 = 4096;

/// Options of `weir hash-key`.
#[derive(Debug, Args)]
pub(super) struct HashKey {
    /// The name of the key in logs and limits
    #[arg(default_value = "key", value_parser = name)]
    name: String,
    /// Make a new key of 256 random bits, and print it to stderr
    #[arg(long)]
    generate: bool,
}

fn name(text: &str) -> Result<String, String> {
    let what = "use 1 to 256 visible ASCII characters except `#`";
    if is_key_name(text) { Ok(text.to_owned()) } else { Err(what.to_owned()) }
}

/// Prints the line to stdout.
pub(super) fn hash_key(options: &HashKey) -> u8 {
    let key = if options.generate { generated() } else { from_stdin() };
    match key {
        Ok(key) => {
            say(key_line(&options.name, key.as_bytes()));
            exit::DONE
        }
        Err(what) => {
            eprintln!("weir: {what}");
            exit::FAILED
        }
    }
}

fn generated() -> Result<String, String> {
    let key = generate_key().map_err(|error| format!("no random bytes: {error}"))?;
    eprintln!("The key, which is stored nowhere: give it to its owner.\n{key}");
    Ok(key)
}

fn from_stdin() -> Result<String, String> {
    if io::stdin().is_terminal() {
        eprintln!("Enter the key, or stop and use --generate:");
    }
    first_line(io::stdin().lock())
}

/// The key in the first line, as a client sends it.
fn first_line(input: impl BufRead) -> Result<String, String> {
    let mut line = Vec::new();
    let read = input.take(MAX_KEY_BYTES + 1).read_until(b'\n', &mut line);
    read.map_err(|error| format!("the key cannot be read: {error}"))?;
    let key = line.trim_ascii();
    if key.len() < MIN_KEY_BYTES {
        return Err(format!("the key is shorter than {MIN_KEY_BYTES} bytes and could be guessed; use --generate"));
    }
    if line.len() as u64 > MAX_KEY_BYTES {
        return Err(format!("the key is longer than {MAX_KEY_BYTES} bytes"));
    }
    let is_sent_as_it_is = key.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(key).ok().filter(|_| is_sent_as_it_is);
    text.map(str::to_owned).ok_or_else(|| "the key has a space or a character that is not visible ASCII".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_first_line_without_white_space() {
        for input in ["0123456789abcdef", "0123456789abcdef\n", "  0123456789abcdef \r\nmore\n"] {
            assert_eq!(first_line(input.as_bytes()).unwrap(), "0123456789abcdef", "{input:?}");
        }
    }

    #[test]
    fn short_long_and_unprintable_keys_are_refused() {
        let long = "k".repeat(4097);
        for (input, what) in [
            ("", "shorter than 16 bytes"),
            ("0123456789abcde\nmore", "shorter than 16 bytes"),
            (&long, "longer than 4096 bytes"),
            ("0123456789 abcdef", "not visible ASCII"),
            ("0123456789abcdef\u{e9}", "not visible ASCII"),
        ] {
            let error = first_line(input.as_bytes()).unwrap_err();
            assert!(error.contains(what), "{input:?}: {error}");
        }
    }
}
