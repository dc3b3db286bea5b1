//! The forms in which people ask for help, turned into the one that clap knows.

use std::ffi::{OsStr, OsString};

/// The same arguments with `--help` for each other form: `weir help`, `weir help COMMAND`, `weir COMMAND help`, `-?`,
/// `-help`, and any of them twice.
pub(super) fn normalize(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.into_iter().collect();
    let is_flag = |argument: &OsStr| ["-h", "-help", "-?", "--help", "--?"].iter().any(|form| argument == *form);
    let command = arguments.iter().skip(1).position(|argument| !is_flag(argument)).map(|at| at + 1);
    let asks = arguments.get(1).is_some_and(|first| first == "help");
    let asks_after = arguments.len() == 3 && arguments[2] == "help";
    if asks || asks_after || command.is_some_and(|at| at > 1) {
        let named = arguments
            .drain(..)
            .enumerate()
            .filter(|(at, argument)| *at == 0 || !(is_flag(argument) || argument == "help"));
        return named.map(|(_, argument)| argument).chain(["--help".into()]).collect();
    }
    for argument in arguments.iter_mut().skip(1).filter(|argument| *argument != "-h" && is_flag(argument)) {
        *argument = "--help".into();
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> String {
        let words = normalize(line.split(' ').map(OsString::from));
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_form_of_help_becomes_the_flag() {
        for line in
            ["weir help", "weir --help", "weir -?", "weir -help", "weir help --help", "weir help -h", "weir help help"]
        {
            assert_eq!(of(line), "weir --help", "{line}");
        }
        for line in [
            "weir help check",
            "weir check help",
            "weir check --help",
            "weir check -?",
            "weir help check -h",
            "weir --help check",
        ] {
            assert_eq!(of(line), "weir check --help", "{line}");
        }
    }

    #[test]
    fn other_arguments_stay() {
        for line in [
            "weir",
            "weir -h",
            "weir check -h",
            "weir check -c help",
            "weir drain up/help",
            "weir explain GET /help -H a:b",
        ] {
            assert_eq!(of(line), line);
        }
    }
}
