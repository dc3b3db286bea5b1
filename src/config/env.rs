//! Expands environment variables in values: `${VAR}` and `${VAR:-default}`. `$${` is a literal `${`.
//!
//! An inserted value is never expanded again, and no message contains it.

/// Maximum length of an expanded value, in bytes.
const MAX_EXPANDED_BYTES: usize = 1 << 20;

/// A value after expansion.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    /// The text.
    pub(super) text: String,
    /// Whether a variable or its default was inserted. `false` if only `$${` was unescaped.
    pub(super) from_env: bool,
}

/// The problem of an expansion, and a hint.
pub(super) type Refused = (String, String);

/// Expands the variables of a value; `None` if it contains no `${`.
pub(super) fn replace(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Expanded>, Refused> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = Expanded { text: String::with_capacity(text.len()), from_env: false };
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            out.text.push_str(before);
            out.text.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.text.push_str(&rest[..at]);
        let (inside, after) = rest[at + 2..].split_once('}').ok_or_else(unclosed)?;
        out.text.push_str(&value(inside, env)?);
        out.from_env = true;
        rest = after;
        if out.text.len() > MAX_EXPANDED_BYTES {
            return Err((format!("`{}` becomes longer than 1 MiB", shortened(text)), String::new()));
        }
    }
    out.text.push_str(rest);
    Ok(Some(out))
}

fn value(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Refused> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let head = |c: char| c.is_ascii_alphabetic() || c == '_';
    let tail = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.starts_with(head) || !name.chars().all(tail) {
        let what = format!("`${{{}}}` names no variable", shortened(inside));
        return Err((what, "Write `${NAME}` or `${NAME:-default}`; `$${` stands for a literal `${`".into()));
    }
    match (env(name), default) {
        (Some(text), Some(default)) if text.is_empty() => Ok(default.to_owned()),
        (Some(text), _) => Ok(text),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the environment variable `{name}` is not set"),
            format!("Set it, or write `${{{name}:-default}}`"),
        )),
    }
}

fn unclosed() -> Refused {
    ("`${` is not closed".into(), "Write `${NAME}`, or `$${` for a literal `${`".into())
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("api.example.com".into()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".into()),
            _ => None,
        }
    }

    fn text(value: &str) -> String {
        replace(value, &env).unwrap().map_or_else(|| value.to_owned(), |r| r.text)
    }

    #[test]
    fn variables_and_defaults_are_expanded() {
        assert_eq!(text("http://${HOST}:1"), "http://api.example.com:1");
        assert_eq!(text("${NO:-1}${NO:-2}"), "12");
        assert_eq!(text("${EMPTY:-x}"), "x");
        assert_eq!(text("${EMPTY}"), "");
        assert_eq!(text("plain $HOST {x} $"), "plain $HOST {x} $");
        assert_eq!(text("$${HOST} $${"), "${HOST} ${");
        assert_eq!(text("${NESTED}"), "${HOST}", "what was put in is not read again");
        assert!(!replace("$${A}", &env).unwrap().unwrap().from_env);
    }

    #[test]
    fn invalid_variables_are_reported() {
        let what = |value: &str| replace(value, &env).unwrap_err().0;
        assert_eq!(what("${NO}"), "the environment variable `NO` is not set");
        assert_eq!(what("${"), "`${` is not closed");
        assert_eq!(what("${A-B}"), "`${A-B}` names no variable");
        assert_eq!(what("${}"), "`${}` names no variable");
    }
}
