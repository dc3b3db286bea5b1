//! Validation of values with variables, such as `{client}`.

use std::collections::BTreeMap;

use super::super::node::DocumentPath;
use super::super::template::{Template, TemplatePiece, TemplateUse, Variable};
use super::Check;

/// Checks each value of a section of header fields.
pub(super) fn fields(check: &mut Check<'_>, at: &DocumentPath, fields: &BTreeMap<String, String>) {
    for (field, text) in fields {
        value(check, &at.key(field), text, TemplateUse::Value);
    }
}

/// Checks one value. Returns the template if it is valid.
pub(super) fn value(check: &mut Check<'_>, at: &DocumentPath, text: &str, place: TemplateUse) -> Option<Template> {
    let unknown = match Template::parse(text, place) {
        Ok(template) => return Some(template),
        Err(unknown) => unknown,
    };
    let quoted = check.quote(at, text);
    if quoted.contains(&format!("{{{}}}", unknown.word)) {
        check.say(at, unknown.what, unknown.hint);
    } else {
        // The word comes from the environment, which is never printed.
        check.say(at, format!("unknown variable in {quoted}"), "Write `{{` where the text has a brace itself");
    }
    None
}

/// Checks `redirect.to`. A brace is never valid in a Location, so one that is not closed is a mistake.
pub(super) fn location(check: &mut Check<'_>, at: &DocumentPath, text: &str) {
    let Some(template) = value(check, at, text, TemplateUse::Value) else { return };
    let unescaped = text.replace("{{", "");
    if unescaped.split('{').skip(1).any(|rest| !rest.contains('}')) {
        check.say(at, "`{` is not closed", "Write a variable such as `{host}`, `{path}` or `{query}`");
    }
    if let Some(name) = chosen_host(&template) {
        let what = format!("the client would choose the host that `{name}` redirects to");
        check.say(at, what, "Write the host, and the variable behind its `/`");
    }
}

/// A variable with a value of the client at the end of the host in a Location, where it can be any host.
fn chosen_host(template: &Template) -> Option<String> {
    let (mut before, mut last) = (String::new(), None);
    for piece in template.pieces() {
        match piece {
            TemplatePiece::Text(text) => {
                if in_host(&before) && last.is_some() && text.starts_with(['/', '?', '#', ':']) {
                    return last;
                }
                before.push_str(text);
                last = None;
            }
            TemplatePiece::Variable(Variable::Path | Variable::Query) if in_host(&before) => return last,
            TemplatePiece::Variable(Variable::Header(name)) => last = Some(format!("{{header.{name}}}")),
            TemplatePiece::Variable(Variable::User) => last = Some("{user}".to_owned()),
            TemplatePiece::Variable(_) => last = None,
        }
    }
    last.filter(|_| in_host(&before))
}

/// Whether a Location with this beginning continues in its host. At its start a value of one component is a path.
fn in_host(before: &str) -> bool {
    before.split_once("://").is_some_and(|(_, rest)| !rest.contains(['/', '?', '#']))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_a_client_chooses_is_found() {
        let chosen = |text: &str| chosen_host(&Template::parse(text, TemplateUse::Value).unwrap());
        for bad in [
            "https://{header.x-to}/",
            "https://{header.x-to}",
            "https://a.{header.x-to}{path}",
            "https://{header.x-to}:8443/",
            "{scheme}://{header.x-to}{query}",
        ] {
            assert_eq!(chosen(bad).as_deref(), Some("{header.x-to}"), "{bad}");
        }
        for good in
            ["https://{header.x-to}.example.org/", "/{header.x-to}", "https://a/{header.x-to}", "https://{host}/"]
        {
            assert_eq!(chosen(good), None, "{good}");
        }
    }
}
