//! The content of an error page: its format, its bound and its variables. Used by the checks and when a file changes.

use std::path::Path;

use super::template::{Template, TemplatePiece, TemplateUse};

/// The maximum bytes of a page.
pub const MAX_PAGE_BYTES: usize = 256 << 10;

/// The media type of an error page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageFormat {
    /// text/html.
    Html,
    /// application/problem+json.
    Json,
    /// text/plain.
    Text,
}

impl PageFormat {
    /// The format that the name of a file tells.
    pub fn of_file(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "html" | "htm" => Some(Self::Html),
            "json" => Some(Self::Json),
            "txt" => Some(Self::Text),
            _ => None,
        }
    }

    /// The value of Content-Type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/problem+json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }
}

/// The problem of a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}. {hint}")]
pub struct BadPage {
    /// The line of the page, from 1.
    pub line: usize,
    /// The problem.
    pub what: String,
    /// A suggestion.
    pub hint: String,
}

/// Parses a page.
///
/// # Errors
/// It is empty, too large, not UTF-8 or not JSON, or has an unknown variable.
pub fn page_template(bytes: &[u8], format: PageFormat) -> Result<Template, BadPage> {
    let bad = |line: usize, what: &str, hint: &str| BadPage { line, what: what.to_owned(), hint: hint.to_owned() };
    if bytes.is_empty() {
        return Err(bad(1, "is empty", "Write the page, or leave it out for Weir's own"));
    }
    if bytes.len() > MAX_PAGE_BYTES {
        return Err(bad(1, "an error page has at most 256KiB", "Load images and styles from another address"));
    }
    let line_of = |offset: usize| 1 + bytes[..offset].iter().filter(|byte| **byte == b'\n').count();
    let text = std::str::from_utf8(bytes)
        .map_err(|error| bad(line_of(error.valid_up_to()), "is not UTF-8", "Save it as UTF-8"))?;
    let template = Template::parse(text, TemplateUse::ErrorPage)
        .map_err(|unknown| bad(line_of(unknown.offset), &unknown.what, &unknown.hint))?;
    if format == PageFormat::Json {
        let sample = template.pieces().iter().map(|piece| match piece {
            TemplatePiece::Text(text) => text,
            TemplatePiece::Variable(_) => "0",
        });
        let sample: String = sample.collect();
        serde_json::from_str::<serde::de::IgnoredAny>(&sample)
            .map_err(|error| bad(error.line().max(1), "is not JSON", "Write variables inside of strings"))?;
    }
    Ok(template)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_page_is_reported_with_its_line() {
        let line = |bytes: &[u8], format| page_template(bytes, format).map_err(|bad| (bad.line, bad.what)).unwrap_err();
        assert_eq!(line(b"", PageFormat::Text), (1, "is empty".into()));
        assert_eq!(line(b"a\n\nb \xff", PageFormat::Html), (3, "is not UTF-8".into()));
        assert_eq!(line(b"<p>\n{stats}", PageFormat::Html), (2, "unknown variable `{stats}`".into()));
        assert_eq!(line(b"{\n\"a\": \"{status}\",\n}", PageFormat::Json), (3, "is not JSON".into()));
        assert_eq!(line(&vec![b'a'; MAX_PAGE_BYTES + 1], PageFormat::Text).0, 1);
        assert!(page_template(&vec![b'a'; MAX_PAGE_BYTES], PageFormat::Text).is_ok());
        assert!(page_template(b"{\"a\": \"{request_id}\", \"status\": {status}}", PageFormat::Json).is_ok());
    }

    #[test]
    fn the_name_of_a_file_tells_its_format() {
        for (name, format) in [
            ("a.HTML", Some(PageFormat::Html)),
            ("b/a.json", Some(PageFormat::Json)),
            ("a.txt", Some(PageFormat::Text)),
        ] {
            assert_eq!(PageFormat::of_file(Path::new(name)), format, "{name}");
        }
        assert_eq!((PageFormat::of_file(Path::new("a")), PageFormat::of_file(Path::new("a.php"))), (None, None));
    }
}
