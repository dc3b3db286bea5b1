//! A value with variables, such as `https://{host}{path}`, parsed into pieces.
//!
//! A value without a known variable is plain text, so braces of JSON or CSS need no escape. It never knows a request:
//! `message::variables` expands the pieces.

use http::HeaderName;

use super::problem::did_you_mean;

/// A variable of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// The client's address.
    Client,
    /// The id of the request.
    RequestId,
    /// The user that an access policy found.
    User,
    /// The name of the route.
    Route,
    /// The host, with its port.
    Host,
    /// The host without its port.
    Hostname,
    /// The port, or the default port of the scheme.
    Port,
    /// `http` or `https`.
    Scheme,
    /// The path of the client's request.
    Path,
    /// The query with its `?`. Empty if there is none.
    Query,
    /// The version of TLS, such as `TLSv1.3`.
    TlsVersion,
    /// The name that the client sent in its TLS handshake.
    TlsSni,
    /// When the request arrived, RFC 3339.
    Time,
    /// The status of the response. Only in error pages.
    Status,
    /// A header field of the client's request.
    Header(HeaderName),
}

/// The variables without a parameter.
const NAMED: [(&str, Variable); 14] = [
    ("client", Variable::Client),
    ("request_id", Variable::RequestId),
    ("user", Variable::User),
    ("route", Variable::Route),
    ("host", Variable::Host),
    ("hostname", Variable::Hostname),
    ("port", Variable::Port),
    ("scheme", Variable::Scheme),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("tls.version", Variable::TlsVersion),
    ("tls.sni", Variable::TlsSni),
    ("time", Variable::Time),
    ("status", Variable::Status),
];

/// The prefix of `{header.NAME}`.
const HEADER: &str = "header.";

/// Prefix of the fields that carry a client certificate.
const CLIENT_CERT: &str = "x-client-cert-";

/// The maximum bytes of a word in braces.
const MAX_WORD_BYTES: usize = 128;

/// Where a template is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateUse {
    /// `request_headers`, `response_headers` and `redirect.to`.
    Value,
    /// An error page. `{status}` is known too.
    ErrorPage,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePiece {
    /// Literal text.
    Text(Box<str>),
    /// The value of this variable.
    Variable(Variable),
}

/// A parsed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Box<[TemplatePiece]>,
}

/// A word in braces that is not a variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}. {hint}")]
pub struct UnknownVariable {
    /// The word, without its braces.
    pub word: String,
    /// The offset of the brace in the text.
    pub offset: usize,
    /// The problem.
    pub what: String,
    /// The known variables, or one with a similar name.
    pub hint: String,
}

impl Template {
    /// Parses a value. `{{` is a literal brace where the value has a variable, or where a word follows: `{{host}`.
    ///
    /// # Errors
    /// The first word in braces that is not a variable.
    pub fn parse(text: &str, place: TemplateUse) -> Result<Self, UnknownVariable> {
        let (mut pieces, mut literal) = (Vec::new(), String::new());
        let (mut at, mut is_template) = (0, false);
        while let Some(found) = text[at..].find('{') {
            let open = at + found;
            literal.push_str(&text[at..open]);
            literal.push('{');
            at = open + 1;
            if text[at..].starts_with('{') {
                at += 1;
                is_template |= word(&text[at..]).is_some();
                continue;
            }
            let Some(word) = word(&text[at..]) else { continue };
            if let Some(variable) = variable(word, place).map_err(|(what, hint)| unknown(word, open, what, hint))? {
                literal.pop();
                if !literal.is_empty() {
                    pieces.push(TemplatePiece::Text(std::mem::take(&mut literal).into()));
                }
                pieces.push(TemplatePiece::Variable(variable));
                (at, is_template) = (at + word.len() + 1, true);
            }
        }
        if !is_template {
            return Ok(Self { pieces: Box::new([TemplatePiece::Text(text.into())]) });
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() || pieces.is_empty() {
            pieces.push(TemplatePiece::Text(literal.into()));
        }
        Ok(Self { pieces: pieces.into() })
    }

    /// A template of these pieces.
    pub fn of(pieces: Vec<TemplatePiece>) -> Self {
        Self { pieces: pieces.into() }
    }

    /// The text, if there is no variable.
    pub fn as_text(&self) -> Option<&str> {
        match &*self.pieces {
            [TemplatePiece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The parts in order.
    pub fn pieces(&self) -> &[TemplatePiece] {
        &self.pieces
    }
}

fn unknown(word: &str, offset: usize, what: String, hint: String) -> UnknownVariable {
    UnknownVariable { word: word.to_owned(), offset, what, hint }
}

/// The word up to the closing brace, if it could name a variable: letters, joined by `_` or `.`. The name of a header
/// field may have any character of a token.
fn word(text: &str) -> Option<&str> {
    let end = text.bytes().take(MAX_WORD_BYTES).position(|byte| byte == b'}')?;
    let word = &text[..end];
    let is_field = word.strip_prefix(HEADER).is_some_and(|name| !name.contains(['{', ' ', '"', ':', ';', '\n']));
    let is_word = || {
        let parts =
            word.split(['_', '.']).all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphabetic()));
        !word.is_empty() && parts
    };
    (is_field || is_word()).then_some(word)
}

/// The variable of a word. The error is the problem and a hint.
fn variable(word: &str, place: TemplateUse) -> Result<Option<Variable>, (String, String)> {
    if let Some(name) = word.strip_prefix(HEADER) {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let parsed = parsed.map_err(|_| {
            let what = format!("`{{{word}}}` does not name a header field");
            (what, "Write a name such as `{header.user-agent}`".to_owned())
        })?;
        if parsed.as_str().starts_with(CLIENT_CERT) {
            let what = format!("`{{{word}}}` is the client's own word: Weir sets that field for backends");
            return Err((what, "Backends get the field without an edit: leave it out".to_owned()));
        }
        return Ok(Some(Variable::Header(parsed)));
    }
    let known = |(_, variable): &&(&str, Variable)| place == TemplateUse::ErrorPage || *variable != Variable::Status;
    if let Some((_, variable)) = NAMED.iter().filter(known).find(|(name, _)| *name == word) {
        return Ok(Some(variable.clone()));
    }
    let names = NAMED.iter().filter(known).map(|(name, _)| *name).chain(["header.NAME"]);
    let all: Vec<String> = names.clone().map(|name| format!("`{{{name}}}`")).collect();
    let similar = did_you_mean(word, names);
    let similar = if similar.starts_with("Did") { similar + " " } else { String::new() };
    let hint = format!("{similar}Known are {}; write `{{{{{word}}}` for the text itself", all.join(", "));
    Err((format!("unknown variable `{{{word}}}`"), hint))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The pieces in a readable form: variables in angle brackets.
    fn shown(text: &str) -> String {
        let template = Template::parse(text, TemplateUse::Value).unwrap();
        let shown = template.pieces().iter().map(|piece| match piece {
            TemplatePiece::Text(text) => text.to_string(),
            TemplatePiece::Variable(variable) => format!("<{variable:?}>"),
        });
        shown.collect()
    }

    #[test]
    fn known_variables_are_parsed() {
        for (name, variable) in NAMED {
            let parsed = Template::parse(&format!("{{{name}}}"), TemplateUse::ErrorPage).unwrap();
            assert_eq!(parsed.pieces(), [TemplatePiece::Variable(variable)], "{name}");
        }
        assert_eq!(shown("a{host}b{query}"), "a<Host>b<Query>");
        assert_eq!(shown("{header.X-A_b.1}"), "<Header(\"x-a_b.1\")>");
    }

    #[test]
    fn other_braces_stay_literal() {
        for text in [
            "",
            "{}",
            "{ host }",
            "{1}",
            "{host",
            "host}",
            "{a-b}",
            "{\"group\":\"default\",\"max_age\":10886400,\"endpoints\":[{\"url\":\"https://a\"}]}",
            "body{margin:0}a:hover{color:red}",
            "{{",
            "}}{{}}",
            "{a b}",
            "{_}",
        ] {
            assert_eq!(shown(text), text);
            assert_eq!(Template::parse(text, TemplateUse::Value).unwrap().as_text(), Some(text));
        }
        assert_eq!(shown("{\"a\":{\"b\":\"{client}\"}}"), "{\"a\":{\"b\":\"<Client>\"}}");
    }

    #[test]
    fn two_braces_are_a_literal_one_in_a_template_and_before_a_word() {
        assert_eq!(shown("{{host}"), "{host}");
        assert_eq!(shown("{{nope}"), "{nope}");
        assert_eq!(shown("{{host}} {host}"), "{host}} <Host>");
        assert_eq!(shown("{{{host}"), "{<Host>");
        assert_eq!(shown("a{{ {path}"), "a{ <Path>");
    }

    #[test]
    fn an_unknown_word_is_a_problem_that_lists_the_known_variables() {
        let error = |text: &str| Template::parse(text, TemplateUse::Value).unwrap_err();
        let bad = error("id: {requst_id}");
        assert_eq!((&*bad.word, bad.offset, &*bad.what), ("requst_id", 4, "unknown variable `{requst_id}`"));
        assert!(bad.hint.starts_with("Did you mean `request_id`? Known are `{client}`, "), "{}", bad.hint);
        assert!(bad.hint.contains("`{header.NAME}`; write `{{requst_id}` for the text itself"), "{}", bad.hint);
        for text in ["{HOST}", "x{remote_addr}", "{{a}{http.host}", "{tls.cipher}", "{status}"] {
            assert!(error(text).what.starts_with("unknown variable"), "{text}");
        }
        assert!(error("{header.}").what.contains("does not name a header field"));
        assert!(error("{header.X-Client-Cert-Verify}").what.contains("the client's own word"));
    }

    proptest! {
        #[test]
        fn a_text_without_a_word_in_braces_is_kept_as_it_is(text in "[{} :\"0-9-]{0,20}") {
            prop_assert_eq!(shown(&text), text);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "[{}a-z._ -]{0,30}") {
            if let Ok(template) = Template::parse(&text, TemplateUse::ErrorPage) {
                prop_assert!(!template.pieces().is_empty());
            }
        }
    }
}
