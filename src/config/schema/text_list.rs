//! A file of texts in a condition: `{ file: … }`.

use std::path::{Path, PathBuf};

use regex::bytes::{Regex, RegexBuilder};

/// Maximum size of the compiled texts of a file, in bytes.
const MAX_COMPILED: usize = 32 << 20;

/// A file with one text per line. The condition holds if a text is found in a value, whatever its case.
#[derive(Debug, Clone)]
pub struct TextList {
    /// The file.
    pub path: PathBuf,
    /// `None` until `load`.
    texts: Option<Regex>,
}

impl TextList {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, texts: None }
    }

    /// Takes the texts of the file.
    ///
    /// # Errors
    /// A line of the file is not valid.
    pub fn load(&mut self, file: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Result<(), String> {
        let bytes = file(&self.path).ok_or_else(|| format!("{} was not read", self.path.display()))?;
        let texts = texts_in(&bytes).map_err(|(line, what)| format!("{}:{line}: {what}", self.path.display()))?;
        self.texts = Some(texts);
        Ok(())
    }

    /// Whether one of the texts is found in this value.
    pub(super) fn finds(&self, value: &[u8]) -> bool {
        self.texts.as_ref().is_some_and(|texts| texts.is_match(value))
    }
}

/// The content is no part of the document.
impl PartialEq for TextList {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for TextList {}

/// The texts of a file, compiled. A comment begins with `#`, and empty lines do not count.
///
/// # Errors
/// The number of a line, from 1, and its problem.
pub fn texts_in(bytes: &[u8]) -> Result<Regex, (usize, String)> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut escaped = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let text = std::str::from_utf8(line).map_err(|_| (index + 1, "not UTF-8".to_owned()))?;
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.chars().any(char::is_control) {
            return Err((index + 1, "a control character".to_owned()));
        }
        if !text.is_empty() {
            escaped.push(regex::escape(text));
        }
    }
    if escaped.is_empty() {
        return Err((1, "no text in this file, so the condition would never hold".to_owned()));
    }
    let texts = RegexBuilder::new(&escaped.join("|")).case_insensitive(true).size_limit(MAX_COMPILED).build();
    texts.map_err(|_| (1, "too many texts in this file".to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_a_line_is_found_in_any_case_and_in_any_bytes() {
        let texts = texts_in("\u{feff}# crawlers\n\nGPTBot # of OpenAI\r\na.b+c\n".as_bytes()).unwrap();
        for value in [&b"Mozilla/5.0 (compatible; gptbot/1.2)"[..], b"\xffGPTBOT", b"xa.b+cx"] {
            assert!(texts.is_match(value));
        }
        assert!(!texts.is_match(b"GPT Bot") && !texts.is_match(b"axbbc") && !texts.is_match(b""));
    }

    #[test]
    fn a_file_without_a_text_or_with_a_bad_line_is_an_error_of_that_line() {
        assert_eq!(texts_in(b"# none\n").unwrap_err().0, 1);
        assert_eq!(texts_in(b"a\nb\xff\n").unwrap_err().0, 2);
        assert_eq!(texts_in(b"a\nb\n\x07\n").unwrap_err().0, 3);
    }
}
