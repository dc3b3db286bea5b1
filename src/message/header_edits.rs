//! Header edits of a route, compiled: remove, then set, then add.
//!
//! They never change fields that frame a message or belong to one connection. Weir writes those fields itself.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

use super::variables::{RequestValues, field_value};
use crate::config::values::HeaderEdits;
use crate::config::{Template, TemplateUse};
use crate::message::cgi_name;

/// Fields that edits may not change. They define the end of a message, the use of the connection, or the host of the
/// request (`routes[].host`).
const OURS: [&str; 6] = ["connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"];

/// A field name in the case of the configuration, and its value. All requests share the name's bytes.
type Field = (Bytes, FieldValue);

/// A configured value.
#[derive(Debug, Clone)]
enum FieldValue {
    Fixed(HeaderValue),
    WithVariables(Template),
}

impl FieldValue {
    fn parse(text: &str) -> Result<Self, String> {
        let template = Template::parse(text, TemplateUse::Value).map_err(|unknown| unknown.to_string())?;
        let Some(fixed) = template.as_text() else { return Ok(Self::WithVariables(template)) };
        HeaderValue::from_str(fixed).map(Self::Fixed).map_err(|_| format!("`{text}` cannot be the value of a field"))
    }

    /// The value for a request. `None`: the request gets no such field.
    fn expand(&self, values: Option<&RequestValues<'_>>) -> Option<HeaderValue> {
        match self {
            Self::Fixed(value) => Some(value.clone()),
            Self::WithVariables(template) => field_value(template, values?),
        }
    }
}

/// `request_headers` or `response_headers` of a route, compiled.
#[derive(Debug, Clone, Default)]
pub struct CompiledHeaderEdits {
    remove: Box<[HeaderName]>,
    set: Box<[Field]>,
    add: Box<[Field]>,
    /// The names of `remove` and `set`, in lower case.
    owned: Box<[Box<str>]>,
    has_variables: bool,
}

impl CompiledHeaderEdits {
    /// Compiles the edits.
    ///
    /// # Errors
    /// A name or a value is not valid, or the configuration may not write the field.
    pub fn compile(edits: &HeaderEdits) -> Result<Self, String> {
        let field = |(name, value): (&String, &String)| {
            self::name(name)?;
            Ok::<_, String>((Bytes::copy_from_slice(name.as_bytes()), FieldValue::parse(value)?))
        };
        let owned = edits.remove.iter().chain(edits.set.keys()).map(|name| name.to_ascii_lowercase().into());
        let set: Box<[Field]> = edits.set.iter().map(field).collect::<Result<_, _>>()?;
        let add: Box<[Field]> = edits.add.iter().map(field).collect::<Result<_, _>>()?;
        let has_variables = set.iter().chain(&add).any(|(_, value)| matches!(value, FieldValue::WithVariables(_)));
        let remove = edits.remove.iter().map(|name| self::name(name)).collect::<Result<_, _>>()?;
        Ok(Self { owned: owned.collect(), remove, set, add, has_variables })
    }

    /// Whether there are no edits.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Edits a request. A field that is set or removed is also removed under names that CGI maps to the same name.
    /// Otherwise a client could bypass the edit. For the same reason, a field to set whose value is absent is removed.
    /// `values` is called only if a value has variables.
    ///
    /// # Errors
    /// Pingora's, if the header cannot take another field.
    pub fn request<'v>(
        &self,
        header: &mut RequestHeader,
        values: impl FnOnce() -> RequestValues<'v>,
    ) -> pingora::Result<()> {
        if !self.owned.is_empty() {
            while let Some(alias) = header.headers.keys().find(|name| self.is_alias(name.as_str())).cloned() {
                header.remove_header(&alias);
            }
        }
        let values = self.has_variables.then(values);
        for name in &self.remove {
            header.remove_header(name);
        }
        for (name, value) in &self.set {
            match value.expand(values.as_ref()) {
                Some(value) => header.insert_header(name.clone(), value)?,
                None => drop(header.remove_header(std::str::from_utf8(name).unwrap_or_default())),
            }
        }
        for (name, value) in &self.add {
            if let Some(value) = value.expand(values.as_ref()) {
                header.append_header(name.clone(), value)?;
            }
        }
        Ok(())
    }

    /// Whether CGI maps this name to the same name as another field that is set or removed.
    fn is_alias(&self, name: &str) -> bool {
        cgi_name::is_alias(name) && self.owned.iter().any(|owned| cgi_name::same(name, owned))
    }

    /// Edits a response. `values` is called only if a value has variables.
    ///
    /// # Errors
    /// Pingora's, if the header cannot take another field.
    pub fn response<'v>(
        &self,
        header: &mut ResponseHeader,
        values: impl FnOnce() -> RequestValues<'v>,
    ) -> pingora::Result<()> {
        let values = self.has_variables.then(values);
        for name in &self.remove {
            header.remove_header(name);
        }
        for (name, value) in &self.set {
            match value.expand(values.as_ref()) {
                Some(value) => header.insert_header(name.clone(), value)?,
                None => drop(header.remove_header(std::str::from_utf8(name).unwrap_or_default())),
            }
        }
        for (name, value) in &self.add {
            if let Some(value) = value.expand(values.as_ref()) {
                header.append_header(name.clone(), value)?;
            }
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
        edits.request(&mut request, || panic!("no variables")).unwrap();
        edits.response(&mut response, || panic!("no variables")).unwrap();
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
        edits.request(&mut request, || panic!("no variables")).unwrap();
        let mut rest: Vec<_> = request.headers.keys().map(|name| name.as_str()).collect();
        rest.sort_unstable();
        assert_eq!(rest, ["x-a", "x-a_b", "x-b", "x_d"]);
    }

    #[test]
    fn a_field_to_set_whose_value_is_absent_is_removed_and_one_to_add_is_not_added() {
        let edits = HeaderEdits {
            set: [("x-user".into(), "{user}".into()), ("X-To".into(), "{scheme}:{path}".into())].into(),
            add: [("x-agent".into(), "{header.user-agent}".into())].into(),
            remove: Vec::new(),
        };
        let edits = CompiledHeaderEdits::compile(&edits).unwrap();
        let client = RequestHeader::build("GET", b"/p", None).unwrap();
        let mut request = client.clone();
        request.insert_header("x-user", "admin").unwrap();
        edits.request(&mut request, || RequestValues::of(&client, "http")).unwrap();
        assert_eq!((request.headers.get("x-user"), request.headers.len()), (None, 1));
        assert_eq!(request.headers["x-to"], "http:/p");
        let mut response = ResponseHeader::build(200, None).unwrap();
        let values = RequestValues { user: Some("ada\r\nx-b: c"), ..RequestValues::of(&client, "http") };
        edits.response(&mut response, || values).unwrap();
        assert_eq!(response.headers["x-user"], "adax-b: c");
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
