//! Field names as CGI and what follows it (FastCGI, WSGI, PHP) see them: in upper case, and with one character for all
//! punctuation (RFC 3875 section 4.1.18). There `X.Real_IP` is `X-Real-IP`.
//!
//! Names of requests come in lower case (`HeaderName`), and so are those that they are compared with.

/// Whether some of the punctuation is not a hyphen: a name that another one, with hyphens, could be mistaken for.
pub fn is_alias(name: &str) -> bool {
    name.bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-')
}

/// Whether two names are one to CGI.
pub fn same(name: &str, other: &str) -> bool {
    name.len() == other.len() && begins(name, other)
}

/// Whether a name begins with another one, as CGI sees them.
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
