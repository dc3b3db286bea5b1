//! Weir's own error pages for people: HTML without a script and without another resource.

use maud::{DOCTYPE, PreEscaped, html};

/// Follows the colours of the device, and fits a phone.
const STYLE: &str = "
:root{color-scheme:light dark;--dim:#5f6670;--line:#8884;--accent:#2b6cb0}
@media(prefers-color-scheme:dark){:root{--dim:#a3aab4;--accent:#7db4ea}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;min-height:100svh;display:grid;place-items:center;padding:1.5rem;font:1.0625rem/1.6 system-ui,sans-serif}
main{width:100%;max-width:34rem}
.status{margin:0;font-size:.95rem;font-weight:600;letter-spacing:.06em;color:var(--accent)}
h1{margin:.25rem 0 1rem;font-size:clamp(1.6rem,6vw,2.2rem);line-height:1.2}
p{margin:0 0 1rem}
a{color:var(--accent)}
footer{margin-top:2rem;padding-top:1rem;border-top:1px solid var(--line);color:var(--dim);font-size:.9rem}
code{font:.9em/1.5 ui-monospace,monospace;overflow-wrap:anywhere}
";

/// The page. `message` is the problem in one sentence.
pub fn html(status: u16, message: &str, retry_after: Option<u64>, request_id: &str) -> String {
    let (title, advice) = texts(status);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    p.status { "Error " (status) }
                    h1 { (title) }
                    // For 429 it would repeat the title.
                    @if status != 429 { p { (message) } }
                    p { (wait(status, retry_after).unwrap_or_else(|| advice.to_owned())) }
                    @if status >= 500 { p { a href="" { "Try again" } } }
                    footer {
                        "If this goes on, tell the operator of this site. Send this request id along:" br;
                        code { (request_id) }
                    }
                }
            }
        }
    };
    page.into_string()
}

/// How long a visitor has to wait, if the response tells it. A second is only a hint for programs.
fn wait(status: u16, retry_after: Option<u64>) -> Option<String> {
    let seconds = retry_after.filter(|seconds| matches!(status, 429 | 503) && *seconds > 1)?;
    Some(match seconds {
        ..=120 => format!("Please try again in {seconds} seconds."),
        121..=7200 => format!("Please try again in {} minutes.", seconds.div_ceil(60)),
        _ => format!("Please try again in {} hours.", seconds.div_ceil(3600)),
    })
}

/// The title, and the advice to a visitor.
fn texts(status: u16) -> (&'static str, &'static str) {
    match status {
        401 => ("Please sign in", "Sign in, then open this page again."),
        403 => ("Access denied", "If you should have access, ask the operator of this site."),
        404 | 410 => {
            ("Page not found", "Check the address for typing errors, or start at the first page of this site.")
        }
        408 => ("The request took too long", "Check your connection, then try again."),
        413 => ("Too much data", "Send less data, for example a smaller file."),
        414 | 431 => ("The request is too large", "Delete the cookies of this site, or use a shorter address."),
        421 => ("Wrong connection", "Open this page again in a new window."),
        429 => ("Too many requests", "Wait a little, then try again."),
        503 => ("Temporarily unavailable", "Please try again in a few moments."),
        504 => ("This takes too long", "Please try again in a few moments."),
        500.. => ("Something went wrong", "This is not your fault. Please try again in a few moments."),
        _ => ("This request cannot be answered", "Go back, and try another way."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_advice_and_the_request_id_and_loads_nothing() {
        for status in (400..600).filter(|status| *status != 429) {
            let page = html(status, "No server is available.", None, "r-1");
            for part in ["r-1", "No server is available.", "width=device-width", "prefers-color-scheme:dark", "<h1>"] {
                assert!(page.contains(part), "{status}: {part}");
            }
            assert!(!page.contains("<script") && !page.contains("src=") && page.len() < 4096, "{status}");
        }
    }

    #[test]
    fn a_page_tells_how_long_to_wait() {
        assert!(html(429, "m", Some(17), "i").contains("Please try again in 17 seconds."));
        assert!(html(503, "m", Some(3581), "i").contains("Please try again in 60 minutes."));
        assert!(html(503, "m", Some(90_000), "i").contains("Please try again in 25 hours."));
        assert!(html(429, "m", None, "i").contains("Wait a little"));
        assert!(html(503, "m", Some(1), "i").contains("in a few moments"));
    }

    #[test]
    fn texts_of_a_page_are_escaped() {
        assert!(html(400, "<b>", None, "<i>").contains("&lt;b&gt;"));
    }
}
