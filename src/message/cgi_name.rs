//! Field names as CGI maps them: in upper case, with one character for all punctuation (RFC 3875 section 4.1.18).
//! FastCGI, WSGI and PHP use the same mapping. For them, `X.Real_IP` and `X-Real-IP` are the same name.
//!
//! All names must be lower case, as in `HeaderName`.

/// Whether the name has punctuation other than a hyphen. CGI could confuse it with a name that has hyphens.
pub fn is_alias(name: &str) -> bool {
    name.bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-')
}

/// Whether CGI maps both names to the same name.
pub fn same(name: &str, other: &str) -> bool {
    name.len() == other.len() && begins(name, other)
}

/// Whether a name begins with a prefix after CGI's mapping.
pub fn begins(name: &str, prefix: &str) -> bool {
    let same = |(a, b): (u8, u8)| a == b || (!a.is_ascii_alphanumeric() && !b.is_ascii_alphanumeric());
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_punctuation_is_one_character() {
        for punctuation in "!#$%&'*+-.^_`|~".chars() {
            let name = format!("x{punctuation}real-ip");
            assert!(same(&name, "x-real-ip") && begins(&name, "x-real-"), "{name}");
            assert_eq!(is_alias(&name), punctuation != '-', "{name}");
        }
        assert!(!same("x-real-ip2", "x-real-ip") && !same("xreal-ip", "x-real-ip") && !begins("x-re", "x-real"));
    }
}
