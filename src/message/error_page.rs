//! The error pages of the operator, compiled, and their text for a request.
//!
//! Values of a request are escaped for the format of the page, so they can never add an element of HTML or a member of
//! JSON.

use std::path::Path;

use bytes::Bytes;

use super::variables::RequestValues;
use crate::config::schema::{ErrorPageSettings, ErrorStatus, Errors};
use crate::config::{PageFormat, Template, TemplatePiece, page_template};

/// The maximum bytes of a value in a page. A longer value is cut.
const MAX_VALUE_BYTES: usize = 1 << 10;

/// `errors` of a route, compiled.
#[derive(Debug, Default)]
pub struct ErrorPages {
    exact: Vec<(u16, ErrorPage)>,
    classes: Vec<(u16, ErrorPage)>,
}

/// The page of a status.
#[derive(Debug)]
pub struct ErrorPage {
    formats: Vec<PageFormat>,
    templates: Vec<Template>,
    replaces: bool,
}

impl ErrorPages {
    /// Compiles the pages. `file` returns the content of a file.
    ///
    /// # Errors
    /// A file was not read, or a page is not valid.
    pub fn compile(errors: &Errors, file: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Result<Self, String> {
        let mut pages = Self::default();
        for (status, settings) in errors {
            let page = ErrorPage::compile(settings, file)?;
            match status {
                ErrorStatus::One(status) => pages.exact.push((*status, page)),
                ErrorStatus::Class(first) => pages.classes.push((*first, page)),
            }
        }
        Ok(pages)
    }

    /// The page of a status.
    pub fn find(&self, status: u16) -> Option<&ErrorPage> {
        let of = |pages: &'_ [(u16, ErrorPage)], key: u16| pages.iter().position(|(each, _)| *each == key);
        let exact = of(&self.exact, status).map(|at| &self.exact[at].1);
        exact.or_else(|| of(&self.classes, status / 100).map(|at| &self.classes[at].1))
    }
}

impl ErrorPage {
    fn compile(settings: &ErrorPageSettings, file: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Result<Self, String> {
        let mut page = Self { formats: Vec::new(), templates: Vec::new(), replaces: settings.replace };
        let inline = [
            (&settings.html, PageFormat::Html),
            (&settings.json, PageFormat::Json),
            (&settings.text, PageFormat::Text),
        ];
        for path in &settings.file {
            let format = PageFormat::of_file(path).ok_or_else(|| format!("{}: no known format", path.display()))?;
            let bytes = file(path).ok_or_else(|| format!("{} was not read", path.display()))?;
            page.add(&bytes, format).map_err(|what| format!("{}: {what}", path.display()))?;
        }
        for (text, format) in inline.into_iter().filter(|(text, _)| !text.is_empty()) {
            page.add(text.as_bytes(), format)?;
        }
        Ok(page)
    }

    fn add(&mut self, bytes: &[u8], format: PageFormat) -> Result<(), String> {
        self.templates.push(page_template(bytes, format).map_err(|bad| bad.to_string())?);
        self.formats.push(format);
        Ok(())
    }

    /// Whether it replaces responses of backends too.
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    /// The formats in which it exists, those of files first.
    pub fn formats(&self) -> &[PageFormat] {
        &self.formats
    }

    /// The body in this format. A value that is absent leaves nothing. `None` if the page has no such format.
    pub fn body(&self, format: PageFormat, values: &RequestValues<'_>) -> Option<Bytes> {
        let template = &self.templates[self.formats.iter().position(|each| *each == format)?];
        if let Some(text) = template.as_text() {
            return Some(Bytes::copy_from_slice(text.as_bytes()));
        }
        let mut body = String::new();
        for piece in template.pieces() {
            match piece {
                TemplatePiece::Text(text) => body.push_str(text),
                TemplatePiece::Variable(variable) => {
                    let value = values.get(variable).unwrap_or_default();
                    let value = &value[..value.len().min(MAX_VALUE_BYTES)];
                    escape(&String::from_utf8_lossy(value), format, &mut body);
                }
            }
        }
        Some(Bytes::from(body))
    }
}

fn escape(value: &str, format: PageFormat, out: &mut String) {
    for character in value.chars() {
        match (format, character) {
            (PageFormat::Html, '&') => out.push_str("&amp;"),
            (PageFormat::Html, '<') => out.push_str("&lt;"),
            (PageFormat::Html, '>') => out.push_str("&gt;"),
            (PageFormat::Html, '"') => out.push_str("&quot;"),
            (PageFormat::Html, '\'') => out.push_str("&#39;"),
            // A value has no control characters, which JSON would have to escape as well.
            (PageFormat::Json, '"' | '\\') => out.extend(['\\', character]),
            _ => out.push(character),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use http::HeaderValue;
    use pingora::http::RequestHeader;
    use proptest::prelude::*;

    use super::*;

    fn pages(yaml: &str) -> ErrorPages {
        let file = |path: &Path| Some(format!("from {}", path.display()).into_bytes());
        ErrorPages::compile(&serde_yaml::from_str(yaml).unwrap(), &file).unwrap()
    }

    fn body(page: &ErrorPage, format: PageFormat, user_agent: &[u8]) -> String {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.insert_header("user-agent", HeaderValue::from_bytes(user_agent).unwrap()).unwrap();
        let values = RequestValues { status: Some(502), ..RequestValues::of(&request, "http") };
        String::from_utf8(page.body(format, &values).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_status_comes_before_its_class() {
        let pages = pages("{ 502: { text: one }, 5xx: { text: class, replace: true } }");
        let text = |status| pages.find(status).map(|page| (body(page, PageFormat::Text, b"a"), page.replaces()));
        assert_eq!(text(502), Some(("one".into(), false)));
        assert_eq!(text(503), Some(("class".into(), true)));
        assert_eq!(text(404), None);
    }

    #[test]
    fn files_and_texts_are_formats_of_one_page() {
        let pages = pages("{ 404: { file: [a.html], json: '{\"status\": {status}}', text: '{status} {user}.' } }");
        let page = pages.find(404).unwrap();
        assert_eq!(page.formats(), [PageFormat::Html, PageFormat::Json, PageFormat::Text]);
        assert_eq!(body(page, PageFormat::Html, b"a"), "from a.html");
        assert_eq!(body(page, PageFormat::Json, b"a"), "{\"status\": 502}");
        assert_eq!(body(page, PageFormat::Text, b"a"), "502 .");
    }

    #[test]
    fn values_are_escaped_and_cut() {
        let pages = pages("{ 404: { html: '<p title=\"{header.user-agent}\">', text: '{header.user-agent}' } }");
        let page = pages.find(404).unwrap();
        let hostile = b"\"><script>alert('1')</script>&";
        let want = "<p title=\"&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;\">";
        assert_eq!(body(page, PageFormat::Html, hostile), want);
        assert_eq!(body(page, PageFormat::Text, &[b'a'; 5000]).len(), MAX_VALUE_BYTES);
    }

    proptest! {
        #[test]
        fn a_page_in_json_stays_json(agent in prop::collection::vec(32u8..127, 0..60), more in any::<[u8; 4]>()) {
            let agent: Vec<u8> = agent.into_iter().chain(more.into_iter().filter(|b| *b > 127)).collect();
            let pages = pages("{ 404: { json: '{\"agent\": \"{header.user-agent}\"}' } }");
            let text = body(pages.find(404).unwrap(), PageFormat::Json, &agent);
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(json["agent"].as_str().unwrap(), String::from_utf8_lossy(&agent));
        }
    }
}
