//! The file of API keys: one `NAME sha256:HEX` per line. A comment begins with `#`.

use std::collections::HashMap;

use super::key_digest::{BadDigest, KeyDigest};
use crate::auth::Identity;
use crate::auth::bad_line::{BadAuthLine, lines};

/// Maximum length of a line, in bytes.
const MAX_LINE_BYTES: usize = 1024;
/// Maximum length of a name, in bytes.
const MAX_NAME_BYTES: usize = 256;

const MAKE_A_LINE: &str = "Make the line with `weir hash-key NAME`";

/// The keys by digest, at least one. A name may have several keys, so that a key can be replaced without a gap.
pub struct ApiKeys {
    by_digest: HashMap<KeyDigest, Identity>,
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeys").field("count", &self.by_digest.len()).finish()
    }
}

impl ApiKeys {
    /// Parses a file.
    ///
    /// # Errors
    /// All bad lines, at least one. A file without a key is an error at line 1.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<BadAuthLine>> {
        let (mut by_digest, mut bad) = (HashMap::new(), Vec::new());
        let mut first_lines = HashMap::new();
        for (line, text) in lines(bytes) {
            match parse_line(text) {
                Ok((name, digest)) => match first_lines.get(&digest) {
                    Some(first) => {
                        let what = format!("the key has a line already: line {first}");
                        bad.push(BadAuthLine { line, what, hint: "Remove one of the two lines" });
                    }
                    None => {
                        first_lines.insert(digest, line);
                        by_digest.insert(digest, Identity::named(name));
                    }
                },
                Err(what) => bad.push(BadAuthLine { line, what, hint: MAKE_A_LINE }),
            }
        }
        if bad.is_empty() && by_digest.is_empty() {
            let what = "no key in this file, so every request would be refused".to_owned();
            bad.push(BadAuthLine { line: 1, what, hint: MAKE_A_LINE });
        }
        if bad.is_empty() { Ok(Self { by_digest }) } else { Err(bad) }
    }

    /// The identity of the key with this digest.
    pub(super) fn find(&self, digest: &KeyDigest) -> Option<&Identity> {
        self.by_digest.get(digest)
    }
}

/// Whether this can be the name of a key: 1 to 256 visible ASCII characters except `#`.
pub fn is_key_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(fits)
}

/// The line of a key in the file.
pub fn key_line(name: &str, key: &[u8]) -> String {
    format!("{name} {}", KeyDigest::of(key))
}

/// The messages contain no part of the line, because a key in clear may stand anywhere in it.
fn parse_line(bytes: &[u8]) -> Result<(&str, KeyDigest), String> {
    if bytes.len() > MAX_LINE_BYTES {
        return Err(format!("the line is longer than {MAX_LINE_BYTES} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "the line is not UTF-8".to_owned())?;
    let text = text.split('#').next().unwrap_or_default();
    let mut words = text.split_ascii_whitespace();
    let name = words.next().filter(|name| is_key_name(name));
    let name = name.ok_or_else(|| format!("a name is 1 to {MAX_NAME_BYTES} visible ASCII characters"))?;
    let digest = words.next().unwrap_or_default().parse().map_err(|bad: BadDigest| bad.to_string())?;
    match words.next() {
        None => Ok((name, digest)),
        Some(_) => Err("more than a name and a hash".to_owned()),
    }
}
