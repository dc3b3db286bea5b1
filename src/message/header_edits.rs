//! Header edits of a route, compiled: remove, then set, then add.
//!
//! They never change fields that frame a message or belong to one connection. Weir writes those fields itself.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::config::values::HeaderEdits;
use crate::message::cgi_name;

/// Fields that edits may not change. They define the end of a message, the use of the connection, or the host of the
/// request (`routes[].host`).
const OURS: [&str; 6] = ["connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"];

/// A field name in the case of the configuration, and its value. All requests share the name's bytes.
type Field = (Bytes, HeaderValue);

/// `request_headers` or `response_headers` of a route, compiled.
#[derive(Debug, Clone, Default)]
pub struct CompiledHeaderEdits {
    remove: Box<[HeaderName]>,
    set: Box<[Field]>,
    add: Box<[Field]>,
    /// The names of `remove` and `set`, in lower case.
    owned: Box<[Box<str>]>,
}

impl CompiledHeaderEdits {
    /// Compiles the edits.
    ///
    /// # Errors
    /// A name or a value is not valid, or the configuration may not write the field.
    pub fn compile(edits: &HeaderEdits) -> Result<Self, String> {
        let field = |(name, value): (&String, &String)| {
            let parsed = self::name(name)?;
            let value =
                HeaderValue::from_str(value).map_err(|_| format!("`{value}` cannot be the value of {parsed}"))?;
            Ok::<_, String>((Bytes::copy_from_slice(name.as_bytes()), value))
        };
        let owned = edits.remove.iter().chain(edits.set.keys()).map(|name| name.to_ascii_lowercase().into());
        Ok(Self {
            owned: owned.collect(),
            remove: edits.remove.iter().map(|name| self::name(name)).collect::<Result<_, _>>()?,
            set: edits.set.iter().map(field).collect::<Result<_, _>>()?,
            add: edits.add.iter().map(field).collect::<Result<_, _>>()?,
        })
    }

    /// Whether there are no edits.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Edits a request. A field that is set or removed is also removed under names that CGI maps to the same name.
    /// Otherwise a client could bypass the edit.
    ///
    /// # Errors
    /// Pingora's, if the header cannot take another field.
    pub fn request(&self, header: &mut RequestHeader) -> pingora::Result<()> {
        if !self.owned.is_empty() {
            while let Some(alias) = header.headers.keys().find(|name| self.is_alias(name.as_str())).cloned() {
                header.remove_header(&alias);
            }
        }
        for name in &self.remove {
            header.remove_header(name);
        }
        for (name, value) in &self.set {
            header.insert_header(name.clone(), value.clone())?;
        }
        for (name, value) in &self.add {
            header.append_header(name.clone(), value.clone())?;
        }
        Ok(())
    }

    /// Whether CGI maps this name to the same name as another field that is set or removed.
    fn is_alias(&self, name: &str) -> bool {
        cgi_name::is_alias(name) && self.owned.iter().any(|owned| cgi_name::same(name, owned))
    }

    /// Edits a response.
    ///
    /// # Errors
    /// Pingora's, if the header cannot take another field.
    pub fn response(&self, header: &mut ResponseHeader) -> pingora::Result<()> {
        for name in &self.remove {
            header.remove_header(name);
        }
        for (name, value) in &self.set {
            header.insert_header(name.clone(), value.clone())?;
        }
        for (name, value) in &self.add {
            header.append_header(name.clone(), value.clone())?;
        }
        Ok(())
    }
}

/// Parses the name of a field that the configuration may write.
///
/// # Errors
/// The name is not valid, or Weir writes the field itself.
pub fn name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("`{text}` is not a header name"))?;
    if OURS.contains(&name.as_str()) {
        return Err(format!("`{text}` frames the message or names its host: Weir writes it itself"));
    }
    Ok(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn edits() -> HeaderEdits {
        HeaderEdits {
            set: [("X-A".into(), "new".into()), ("x-b".into(), "b".into())].into(),
            add: [("x-a".into(), "more".into())].into(),
            remove: vec!["X-B".into(), "x-c".into()],
        }
    }

    #[test]
    fn removes_then_sets_then_adds() {
        let edits = CompiledHeaderEdits::compile(&edits()).unwrap();
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [("x-a", "1"), ("x-a", "2"), ("x-b", "old"), ("x-c", "c"), ("x-d", "d")] {
            request.append_header(name, value).unwrap();
            response.append_header(name, value).unwrap();
        }
        edits.request(&mut request).unwrap();
        edits.response(&mut response).unwrap();
        for headers in [&request.headers, &response.headers] {
            let all = |name| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
            assert_eq!(all("x-a"), ["new", "more"]);
            assert_eq!((all("x-b"), all("x-c"), all("x-d")), (vec!["b"], vec![], vec!["d"]));
        }
        // Pingora keeps the original case of the names in a second map. It panics here if the two maps differ.
        let mut wire = Vec::new();
        request.header_to_h1_wire(&mut wire);
        assert!(String::from_utf8(wire).unwrap().contains("X-A: new"));
    }

    #[test]
    fn a_field_that_is_set_or_removed_does_not_pass_in_another_spelling() {
        let edits = CompiledHeaderEdits::compile(&edits()).unwrap();
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for name in ["x_a", "X.B", "x~c", "x_d", "x-a_b"] {
            request.append_header(name, "client").unwrap();
        }
        edits.request(&mut request).unwrap();
        let mut rest: Vec<_> = request.headers.keys().map(|name| name.as_str()).collect();
        rest.sort_unstable();
        assert_eq!(rest, ["x-a", "x-a_b", "x-b", "x_d"]);
    }

    #[test]
    fn refuses_framing_and_nonsense() {
        for name in ["Content-Length", "transfer-encoding", "Host", "a b", ""] {
            assert!(
                CompiledHeaderEdits::compile(&HeaderEdits { remove: vec![name.into()], ..Default::default() }).is_err(),
                "{name}"
            );
        }
        let set = |value: &str| HeaderEdits { set: [("x-a".into(), value.into())].into(), ..Default::default() };
        assert!(CompiledHeaderEdits::compile(&set("a\r\nb")).is_err());
        assert!(CompiledHeaderEdits::compile(&HeaderEdits::default()).unwrap().is_empty());
    }
}
