//! Hints for text that is not YAML: what the parser says of it is seldom what to do.

use super::node::Position;
use super::value_hints::OTHER_FORMAT;

/// What to do about a text that cannot be read past a mark; empty if there is nothing to say.
pub(super) fn of(info: &str, mark: Position, text: &str) -> String {
    let line = text.lines().nth(mark.line - 1).unwrap_or_default();
    if line.contains("${") && line.contains(['{', '[']) && !info.contains("anchor") {
        return "Inside `{ }` and `[ ]`, `${…}` needs quotes".to_owned();
    }
    if let Some(number) = indented_by_tab(text, mark.line) {
        return format!("Indent with spaces: line {number} begins with a tab");
    }
    if let Some(hint) = of_another_format(info, mark, text) {
        return hint;
    }
    if let Some(word) = special(line, mark.column).filter(|_| {
        info.contains("anchor") || info.contains("alias") || info.contains("token") || info.contains("character")
    }) {
        return format!("Quote it: `\"{word}\"`");
    }
    if let Some((bracket, place)) = unclosed(text, mark) {
        return format!("`{bracket}` of line {} is not closed", place.line);
    }
    if let Some(place) = open_quote(text) {
        return format!("The quote of line {} is not closed", place.line);
    }
    if info.contains("block mapping")
        || info.contains("block collection")
        || info.contains("indentation")
        || info.contains("mapping values")
    {
        return "Keys of the same mapping begin in the same column; a value with `: ` in it needs quotes".to_owned();
    }
    String::new()
}

/// The line at the mark, or the next one, if a tab is in its indentation.
fn indented_by_tab(text: &str, line: usize) -> Option<usize> {
    let has_tab = |line: &str| line[..line.len() - line.trim_start().len()].contains('\t');
    text.lines().enumerate().skip(line.saturating_sub(1)).take(2).find(|(_, line)| has_tab(line)).map(|(at, _)| at + 1)
}

/// Habits of other formats: a key without a colon, a semicolon, an IPv6 address without quotes, a file that is no YAML.
fn of_another_format(info: &str, mark: Position, text: &str) -> Option<String> {
    let line = text.lines().nth(mark.line - 1)?;
    if info.contains("document start") {
        return Some(OTHER_FORMAT.to_owned());
    }
    if info.contains("trailing content") {
        let rest: String = line.chars().skip(mark.column.saturating_sub(1)).collect();
        let is_end = rest.starts_with([';', ',']);
        return Some(if is_end {
            format!("Leave out `{}`", rest.trim_end())
        } else {
            "Quote the whole value".to_owned()
        });
    }
    if let Some(address) = line.split([' ', ',', '{', '}']).find(|word| word.starts_with('[') && word.contains("]:")) {
        return Some(format!("Quote it: `\"{address}\"`"));
    }
    if info.contains("expect ':'") || info.contains("expected ':'") || info.contains("mapping values") {
        let is_word = |line: &str| {
            let word = line.trim();
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        // A word in a text further above is no key.
        let near = text.lines().enumerate().take(mark.line).skip(mark.line.saturating_sub(3));
        let (at, word) = near.filter(|(_, line)| is_word(line)).last()?;
        return Some(format!("A colon is missing after `{}` in line {}", word.trim(), at + 1));
    }
    None
}

/// The word at a column that begins with a character which YAML keeps for itself, or the first such word of the line.
fn special(line: &str, column: usize) -> Option<&str> {
    let is_special = |word: &&str| word.starts_with(['*', '&', '@', '`', '%']) && (word.len() > 1 || *word == "*");
    let words = || line.split([' ', ',', '[', ']', '{', '}']);
    let start = line.char_indices().nth(column.saturating_sub(1)).map_or(0, |(at, _)| at);
    let here = line[start..].split([' ', ',', ']', '}']).next().filter(is_special);
    here.or_else(|| words().find(is_special))
}

/// The last bracket before a mark that is open there and was opened in an earlier line.
fn unclosed(text: &str, mark: Position) -> Option<(char, Position)> {
    let mut open = Vec::new();
    let end = |place: Position| (place.line, place.column) >= (mark.line, mark.column);
    for (c, place) in outside_of_quotes(text).0 {
        if end(place) {
            break;
        }
        match c {
            '[' | '{' => open.push((c, place)),
            ']' | '}' => drop(open.pop()),
            _ => {}
        }
    }
    open.pop().filter(|(_, place)| place.line < mark.line || text.lines().count() <= mark.line)
}

/// Where a quote begins that never ends.
fn open_quote(text: &str) -> Option<Position> {
    outside_of_quotes(text).1
}

/// The characters outside of quotes and comments with their places, and the place of a quote that is not closed.
fn outside_of_quotes(text: &str) -> (Vec<(char, Position)>, Option<Position>) {
    let mut out = Vec::new();
    let mut quote: Option<(char, Position)> = None;
    for (index, line) in text.lines().enumerate() {
        let (mut before, mut escaped) = (' ', false);
        for (at, c) in line.chars().enumerate() {
            let place = Position { line: index + 1, column: at + 1 };
            match quote {
                Some((mark, _)) => {
                    if c == mark && !escaped {
                        quote = None;
                    }
                    escaped = c == '\\' && mark == '"' && !escaped;
                }
                None if c == '#' && before == ' ' => break,
                None if matches!(c, '"' | '\'') && matches!(before, ' ' | '[' | '{' | ',') => quote = Some((c, place)),
                None => out.push((c, place)),
            }
            before = c;
        }
    }
    (out, quote.map(|(_, place)| place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_quotes_and_comments_do_not_count() {
        let end = |line| Position { line, column: 1 };
        assert_eq!(unclosed("a: [1, 2\nb: 1\n", end(2)).map(|(c, at)| (c, at.line)), Some(('[', 1)));
        assert_eq!(unclosed("a: \"[\" # {\nb: '{'\n", end(3)), None);
        assert_eq!(unclosed("a: [1]\nb: { c: [2] }\n", end(3)), None);
        assert_eq!(open_quote("a: 'x\nb: 1\n").map(|at| at.line), Some(1));
        assert_eq!(open_quote("a: \"x\\\"y\" # it's\n"), None);
    }
}
