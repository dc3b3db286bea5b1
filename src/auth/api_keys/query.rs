//! Query parameters by name, in every percent-encoded spelling of the name.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// The decoded values of all parameters with this name.
pub(super) fn values_of<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (!pair.is_empty() && *decoded(key.as_bytes()) == *name.as_bytes()).then(|| decoded(value.as_bytes()))
    })
}

/// A request target without all parameters with this name. The other parameters stay as they are.
pub fn without_parameter<'a>(target: &'a [u8], name: &str) -> Cow<'a, [u8]> {
    let Some(mark) = target.iter().position(|byte| *byte == b'?') else { return Cow::Borrowed(target) };
    let (path, query) = (&target[..mark], &target[mark + 1..]);
    let is_other = |pair: &&[u8]| {
        let key = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        pair.is_empty() || *decoded(key) != *name.as_bytes()
    };
    let pairs = || query.split(|byte| *byte == b'&');
    if pairs().all(|pair| is_other(&pair)) {
        return Cow::Borrowed(target);
    }
    let others: Vec<&[u8]> = pairs().filter(is_other).collect();
    let query = others.join(&b'&');
    Cow::Owned(if query.is_empty() { path.to_vec() } else { [path, b"?", &query].concat() })
}

/// Decodes as forms are encoded: `+` is a space.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'+') {
        return percent_decode(text).into();
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stripped(target: &str) -> String {
        String::from_utf8(without_parameter(target.as_bytes(), "api_key").into()).unwrap()
    }

    #[test]
    fn all_spellings_and_repetitions_of_the_parameter_are_removed() {
        for (target, expected) in [
            ("/a?api_key=k", "/a"),
            ("/a?api_key", "/a"),
            ("/a?x=1&api_key=k&y=2", "/a?x=1&y=2"),
            ("/a?api_key=k&x=1&api_key=l", "/a?x=1"),
            ("/a?%61pi_key=k&x=1", "/a?x=1"),
            ("/a?api%5Fkey=k&api%5fkey=l&x", "/a?x"),
            ("/a?%61%70%69%5F%6B%65%79=k", "/a"),
            ("/a?x=1&&api_key=a=b?c", "/a?x=1&"),
            ("?api_key=k", ""),
        ] {
            assert_eq!(stripped(target), expected, "{target}");
        }
    }

    #[test]
    fn everything_else_stays_byte_for_byte() {
        for target in [
            "/api_key=k",
            "/a",
            "/a?",
            "/a?x=api_key=k",
            "/a?API_KEY=k",
            "/a?api_keys=k&my_api_key=l",
            "/a?api%255Fkey=k",
            "/a?x=%2f+%zz&&=&",
            "*",
        ] {
            assert_eq!(stripped(target), target);
        }
        assert_eq!(&*without_parameter(b"/\xff?\xff=1&api_key=k", "api_key"), b"/\xff?\xff=1");
        assert_eq!(&*without_parameter(b"/?a+b=1&a%20b=2&c", "a b"), b"/?c");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_value_of_the_parameter_is_left(query in r"(a|%61|b|%6|=|&|\+|%|\?){0,30}") {
            let target = format!("/p?{query}");
            let left = without_parameter(target.as_bytes(), "a");
            let left = std::str::from_utf8(&left).unwrap();
            let query_left = left.split_once('?').map_or("", |(_, query)| query);
            prop_assert_eq!(values_of(query_left, "a").count(), 0);
            let others = |query: &str| values_of(query, "b").map(Cow::into_owned).collect::<Vec<_>>();
            prop_assert_eq!(others(query_left), others(&query));
        }
    }
}
