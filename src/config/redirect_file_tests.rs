//! The lines of a file of redirects, their look-up and their problems.

use proptest::prelude::*;

use super::*;

fn table(text: &str) -> RedirectTable {
    let (table, bad) = RedirectTable::checked(text.as_bytes());
    assert!(bad.is_empty(), "{bad:?}");
    table
}

fn bad(text: &str) -> Vec<(usize, String)> {
    RedirectTable::checked(text.as_bytes()).1.into_iter().map(|bad| (bad.line, bad.what)).collect()
}

#[test]
fn a_whole_path_comes_before_a_prefix_and_a_longer_prefix_before_a_shorter_one() {
    let table = table(
        "# moved\n\n/a/* /x/*\n/a/b/* https://b.example/* 301\n/a/b/c /c\n/d/* /e\n/* https://home.example/ 302\n",
    );
    let found = |path: &str| table.find(path).map(|(line, rest)| (line.line, rest.to_owned())).unwrap();
    for (path, line, rest) in [
        ("/a", 3, ""),
        ("/a/", 3, ""),
        ("/a/q/r", 3, "q/r"),
        ("/a/b", 4, ""),
        ("/a/b/cd", 4, "cd"),
        ("/a/b/c", 5, ""),
        ("/ab", 7, "ab"),
        ("/d/x", 6, "x"),
        ("/a//evil.example", 3, "evil.example"),
        ("/a/\\evil.example", 3, "evil.example"),
    ] {
        assert_eq!(found(path), (line, rest.to_owned()), "{path}");
    }
    assert_eq!(table.len(), 5);
}

#[test]
fn paths_are_compared_in_their_normal_form() {
    let table = table("/%61b /x\n/p/../q/* /y\n/ü /z\n");
    assert!(table.find("/ab").is_some() && table.find("/q/1").is_some() && table.find("/%C3%BC").is_some());
    assert!(table.find("/AB").is_none() && table.find("*").is_none() && table.find("").is_none());
}

#[test]
fn a_bad_line_is_a_problem_with_its_number() {
    for (text, what) in [
        ("/a", "no target"),
        ("a /b", "not a path"),
        ("/a?b=1 /b", "query or a fragment"),
        ("/a*b /b", "only at the end"),
        ("/a/*/b /b", "only at the end"),
        ("/a b", "no target"),
        ("/a //b.example/", "no target"),
        ("/a /\\b.example/", "no target"),
        ("/a javascript:alert(1)", "no target"),
        ("/a https:///b", "no target"),
        ("/a /b*", "FROM does not"),
        ("/a/* /b*", "after `/`"),
        ("/a/* /*/b", "only at the end"),
        ("/a/* /b?c=/*", "after `/`"),
        ("/a /b|c", "cannot contain"),
        ("/a /ü", "cannot contain"),
        ("/a /b 300", "not a redirect's status"),
        ("/a /b 301 x", "too much"),
        ("/a /b\n/%61 /c", "in line 2 already"),
    ] {
        let found = bad(&format!("\n{text}"));
        assert!(found.len() == 1 && found[0].1.contains(what), "{text}: {found:?}");
        assert_eq!(found[0].0, if text.contains('\n') { 3 } else { 2 }, "{text}");
    }
    let file = b"/a /b\n/c \xff\n";
    assert_eq!(RedirectTable::checked(file).1[0].line, 2);
}

#[test]
fn a_loop_is_a_problem_of_each_of_its_lines() {
    assert_eq!(bad("/a /a"), [(1, "the redirect never ends; it passes line 1".to_owned())]);
    let of_three = bad("/a /b\n/b /c?x=1\n/c /a#top\n/d /e\n");
    assert_eq!(of_three.iter().map(|bad| bad.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(of_three[1].1.ends_with("line 2, 3, 1"), "{of_three:?}");
    assert_eq!(bad("/a/* /a/b/*").len(), 1, "the path grows");
    assert_eq!(bad("/* /home").len(), 1, "`/home` is below `/`");
    assert_eq!(bad("/a/* /b/*\n/b/* /a/*\n").len(), 2);
    assert!(bad("/* /home\n/home https://example.org/").is_empty(), "another host is not followed");
    assert!(bad("/a/* /b/*\n/b/x /c\n").is_empty());
}

#[test]
fn a_chain_that_a_browser_would_not_follow_to_its_end_is_a_problem() {
    let chain = |count: usize| (0..count).map(|n| format!("/{n} /{}\n", n + 1)).collect::<String>();
    assert!(bad(&chain(MAX_REDIRECTS - 1)).is_empty());
    assert_eq!(bad(&chain(MAX_REDIRECTS)).len(), 1);
}

proptest! {
    /// The same decision as a walk over all lines.
    #[test]
    fn a_lookup_finds_what_a_walk_over_all_lines_finds(
        froms in prop::collection::btree_set("(/[ab]{0,2}){1,3}(/\\*)?", 0..12),
        path in "(/[ab]{0,2}){1,4}",
    ) {
        let text: String = froms.iter().map(|from| format!("{from} https://example.org/\n")).collect();
        let table = RedirectTable::read(text.as_bytes());
        let covers = |from: &&String| match from.strip_suffix("/*") {
            Some(prefix) => {
                let prefix = prefix.trim_end_matches('/');
                path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            None => **from == path,
        };
        let rank = |from: &&String| match from.strip_suffix("/*") {
            Some(prefix) => prefix.trim_end_matches('/').len(),
            None => usize::MAX,
        };
        let best = froms.iter().filter(covers).map(|from| rank(&from)).max();
        let found = table.find(&path).map(|(line, _)| {
            let from = text.lines().nth(line.line - 1).unwrap().split(' ').next().unwrap().to_owned();
            rank(&&from)
        });
        prop_assert_eq!(found, best);
    }

    /// No text makes the reader panic, and no path a look-up.
    #[test]
    fn any_text_is_read(text in "(?s).{0,80}", path in ".{0,20}") {
        let (table, _) = RedirectTable::checked(text.as_bytes());
        let _ = table.find(&path);
    }
}
