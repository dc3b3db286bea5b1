//! `routes[].errors`: validation of error pages. `files` checks the content of their files.

use super::super::error_page::{PageFormat, page_template};
use super::super::node::DocumentPath;
use super::super::schema::{ErrorPageSettings, RouteSettings};
use super::Check;

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, route: &RouteSettings) {
    for (status, page) in &route.errors {
        one(check, &at.key("errors").key(&status.to_string()), page);
    }
}

fn one(check: &mut Check<'_>, at: &DocumentPath, page: &ErrorPageSettings) {
    let mut seen: Vec<PageFormat> = Vec::new();
    let inline = [
        ("html", &page.html, PageFormat::Html),
        ("json", &page.json, PageFormat::Json),
        ("text", &page.text, PageFormat::Text),
    ];
    for (key, text, format) in inline.into_iter().filter(|(_, text, _)| !text.is_empty()) {
        seen.push(format);
        let place = at.key(key);
        if let Err(bad) = page_template(text.as_bytes(), format) {
            // A text from the environment is never printed.
            let shown = if check.quote(&place, "").len() > 2 { check.quote(&place, "") } else { bad.what };
            let what = if shown.starts_with('`') { format!("{shown} is not a valid page") } else { shown };
            check.say(&place, what, bad.hint);
        } else if format == PageFormat::Text && text.trim_start().starts_with('<') {
            check.say(&place, "this looks like HTML, and `text` is sent as plain text", "Write `html: …`");
        }
    }
    for (index, path) in page.file.iter().enumerate() {
        let place = at.key("file").index(index);
        match PageFormat::of_file(path) {
            None => {
                let what = format!("{} does not tell its format", check.quote(&place, &path.display().to_string()));
                check.say(&place, what, "Its name ends in `.html`, `.json` or `.txt`");
            }
            Some(format) if seen.contains(&format) => {
                check.say(&place, "a second page of the same format", "Keep one page of each format");
            }
            Some(format) => seen.push(format),
        }
    }
    if page.file.is_empty() && seen.is_empty() && !check.is_written(&at.key("file")) {
        check.say(at, "there is no page", "Write `file: error.html`, or `text: …`");
    }
}
