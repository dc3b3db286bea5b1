//! The users of an htpasswd file: one `USER:HASH` per line. A comment begins with `#`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use super::password_hash::{BadHash, PasswordHash};
use crate::auth::Identity;
use crate::auth::bad_line::{BadAuthLine, lines};

/// Maximum length of a line, in bytes. The longest hash has about 200.
const MAX_LINE_BYTES: usize = 1024;
/// Maximum length of a user, in bytes.
const MAX_USER_BYTES: usize = 256;

const MAKE_A_LINE: &str = "Make the line with `htpasswd -nB USER`";
const WRITE_A_LINE: &str = "Write `USER:HASH`; `htpasswd -nB USER` makes such a line";

/// The users, at least one. `Debug` shows only their number.
pub struct Users {
    list: Vec<User>,
    by_name: HashMap<Box<str>, usize>,
}

pub(super) struct User {
    pub(super) identity: Identity,
    pub(super) hash: Arc<PasswordHash>,
}

/// The hash that the password of a request is verified against.
pub(super) enum FoundUser<'a> {
    /// The hash of the user.
    Known(&'a User),
    /// The user does not exist. The hash of another user costs the same time, and its result must be ignored.
    Unknown(&'a User),
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("count", &self.list.len()).finish_non_exhaustive()
    }
}

impl Users {
    /// Parses a file.
    ///
    /// # Errors
    /// All bad lines, at least one. A file without a user is an error at line 1.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<BadAuthLine>> {
        let (mut users, mut bad) = (Self { list: Vec::new(), by_name: HashMap::new() }, Vec::new());
        let mut first_lines = Vec::new();
        for (line, text) in lines(bytes) {
            match parse_line(text) {
                Ok((name, hash)) => match users.by_name.entry(name.into()) {
                    Entry::Occupied(entry) => {
                        let what = format!("the user has a line already: line {}", first_lines[*entry.get()]);
                        bad.push(BadAuthLine { line, what, hint: "Remove one of the two lines" });
                    }
                    Entry::Vacant(entry) => {
                        let identity = Identity::named(entry.key());
                        entry.insert(users.list.len());
                        users.list.push(User { identity, hash: Arc::new(hash) });
                        first_lines.push(line);
                    }
                },
                Err((what, hint)) => bad.push(BadAuthLine { line, what, hint }),
            }
        }
        if bad.is_empty() && users.list.is_empty() {
            let what = "no user in this file, so every request would be refused".to_owned();
            bad.push(BadAuthLine { line: 1, what, hint: WRITE_A_LINE });
        }
        if bad.is_empty() { Ok(users) } else { Err(bad) }
    }

    /// The user with this name. For another name always the same user, whom the client cannot choose. So unknown names
    /// take as long as known ones, also if the users have hashes of different costs.
    pub(super) fn find(&self, name: &str) -> Option<FoundUser<'_>> {
        static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        // Computed for each name, so that a known name takes no other way.
        let count = u64::try_from(self.list.len()).unwrap_or(u64::MAX).max(1);
        let other = usize::try_from(SECRET.hash_one(name) % count).unwrap_or_default();
        match self.by_name.get(name) {
            Some(known) => self.list.get(*known).map(FoundUser::Known),
            None => self.list.get(other).map(FoundUser::Unknown),
        }
    }
}

fn parse_line(bytes: &[u8]) -> Result<(&str, PasswordHash), (String, &'static str)> {
    if bytes.len() > MAX_LINE_BYTES {
        return Err((format!("the line is longer than {MAX_LINE_BYTES} bytes"), WRITE_A_LINE));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|_| ("the line is not UTF-8".to_owned(), "Save the file as UTF-8"))?;
    let (user, rest) = text.split_once(':').ok_or_else(|| ("no `:` after the user".to_owned(), WRITE_A_LINE))?;
    if user.is_empty() {
        return Err(("the user is empty".to_owned(), WRITE_A_LINE));
    }
    if user.len() > MAX_USER_BYTES {
        return Err((format!("the user is longer than {MAX_USER_BYTES} bytes"), "Choose a shorter name"));
    }
    if user.trim() != user || user.chars().any(char::is_control) {
        let what = "the user begins or ends with a space, or contains a control character";
        return Err((what.to_owned(), WRITE_A_LINE));
    }
    // A comment may follow, as in files of nginx. No hash contains a colon.
    let hash = rest.split(':').next().unwrap_or_default().trim();
    let hash = hash.parse().map_err(|bad: BadHash| (bad.to_string(), hint(&bad)))?;
    Ok((user, hash))
}

fn hint(bad: &BadHash) -> &'static str {
    match bad {
        BadHash::OutOfBounds { .. } => "Make the line again with another cost, such as `htpasswd -nB -C 10 USER`",
        _ => MAKE_A_LINE,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BCRYPT: &str = "$2y$05$54nqWJrVuetLw5O1R6OwMOJce.9zfM.J3gYYU14FKpJGMvMbD7ThO";

    fn bad(text: &str) -> Vec<String> {
        Users::parse(text.as_bytes()).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn comments_empty_lines_and_line_ends_of_windows_do_not_count() {
        let file = format!("\u{feff}# staff\r\n\r\n  # more\nalice:{BCRYPT}\r\nb\u{f6}b:{BCRYPT}:since May\n\n");
        let users = Users::parse(file.as_bytes()).unwrap();
        for name in ["alice", "b\u{f6}b"] {
            assert!(matches!(users.find(name), Some(FoundUser::Known(user)) if &*user.identity.name == name));
        }
        assert_eq!(format!("{users:?}"), "Users { count: 2, .. }");
    }

    #[test]
    fn each_bad_line_is_reported_with_its_number_and_without_its_secret() {
        let lines = [
            "# users".to_owned(),
            format!("alice:{BCRYPT}"),
            "bob:$apr1$01W9iHce$zxSbCagM.rj09oll6RZ3R0".to_owned(),
            "carol:{SHA}rhAr4RiFGVYv0ksOTvvHl7qjIaU=".to_owned(),
            "dave:wm8FybTT8zFj6".to_owned(),
            "erin:hunter2".to_owned(),
            format!("alice:{BCRYPT}"),
            format!(":{BCRYPT}"),
            "frank".to_owned(),
            format!("{}:{BCRYPT}", "x".repeat(257)),
            format!("{}:{BCRYPT}", "x".repeat(2000)),
            format!("gina :{BCRYPT}"),
            format!("h\u{1}:{BCRYPT}"),
            format!("ivan:{}", BCRYPT.replace("$05$", "$17$")),
            "judy:".to_owned(),
        ];
        let problems = bad(&lines.join("\n"));
        let expected = [
            "line 3: MD5, which is too weak",
            "line 4: {SHA}, SHA-1 without a salt, which is too weak",
            "line 5: DES crypt or a password in clear, which is too weak",
            "line 6: no known hash: a password in clear or an unknown format",
            "line 7: the user has a line already: line 2",
            "line 8: the user is empty",
            "line 9: no `:` after the user",
            "line 10: the user is longer than 256 bytes",
            "line 11: the line is longer than 1024 bytes",
            "line 12: the user begins or ends with a space, or contains a control character",
            "line 13: the user begins or ends with a space, or contains a control character",
            "line 14: the cost of bcrypt 17 is out of bounds: 4 to 16",
            "line 15: no hash after the user",
        ];
        assert_eq!(problems, expected);
        let bytes = [b"\xff:".as_slice(), BCRYPT.as_bytes()].concat();
        assert_eq!(Users::parse(&bytes).unwrap_err()[0].what, "the line is not UTF-8");
    }

    #[test]
    fn a_file_without_a_user_is_bad() {
        for text in ["", "\n# none\n"] {
            assert_eq!(bad(text), ["line 1: no user in this file, so every request would be refused"]);
        }
    }

    #[test]
    fn unknown_users_get_the_hashes_of_all_users_in_equal_shares_and_each_name_always_the_same() {
        let file: String = (0..4).map(|n| format!("user{n}:{BCRYPT}\n")).collect();
        let users = Users::parse(file.as_bytes()).unwrap();
        let of = |name: &str| match users.find(name).unwrap() {
            FoundUser::Unknown(user) => user.identity.name.to_string(),
            FoundUser::Known(_) => panic!("{name} does not exist"),
        };
        let mut counts = HashMap::<String, usize>::new();
        for n in 0..4_000 {
            let name = format!("nobody{n}");
            assert_eq!(of(&name), of(&name));
            *counts.entry(of(&name)).or_default() += 1;
        }
        assert!(counts.len() == 4 && counts.values().all(|count| (700..1_300).contains(count)), "{counts:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn arbitrary_bytes_are_no_users_and_cause_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Users::parse(&bytes).is_err());
        }

        #[test]
        fn arbitrary_lines_cause_no_panic(text in r"([a-z:#$./2y5]{0,70}\n){0,5}") {
            if let Err(bad) = Users::parse(text.as_bytes()) {
                let last = text.lines().count().max(1);
                prop_assert!(bad.iter().all(|bad| (1..=last).contains(&bad.line)));
            }
        }
    }
}
