//! Tests of the browser login, and of requests by a page of another origin.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use super::super::server::BoundSocket;
use super::super::test_double::Running;
use super::*;

const HTML: &str = "Accept: text/html,*/*;q=0.8\r\n";
const JSON: &str = "Content-Type: application/json\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const PUT: &str = "PUT /api/v1/upstreams/a/backends/b%20c";
const DRAIN: &str = "{\"state\":\"draining\"}";

fn exchange<S: Read + Write>(mut stream: S, line: &str, host: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    stream.write_all(format!("{head}{headers}\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Sends a request with these extra header lines and returns the whole response.
fn ask(running: &Running, line: &str, headers: &str, body: &str) -> String {
    let stream = TcpStream::connect(running.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    exchange(stream, line, &running.address.to_string(), headers, body)
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn log_in(running: &Running, token: &str) -> String {
    ask(running, "POST /login", &format!("{HTML}{FORM}"), &format!("token={token}&next=%2Fapi%2Fv1%2Fstatus"))
}

/// Logs in and returns the Cookie header line.
fn session(running: &Running) -> String {
    let answer = log_in(running, "secret");
    let cookie = field(&answer, "set-cookie").unwrap().split(';').next().unwrap();
    format!("Cookie: {cookie}\r\n")
}

fn own_origin(running: &Running) -> String {
    format!("Origin: http://{}\r\n", running.address)
}

#[test]
fn a_browser_gets_a_login_form_and_a_program_an_error() {
    let running = Running::start(Some("secret"));
    let page = ask(&running, "GET /api/v1/status?a=%22", HTML, "");
    assert!(status(&page) == 401 && page.contains("content-type: text/html"), "{page}");
    assert!(page.contains("<form method=\"post\" action=\"/login\">") && page.contains("type=\"password\""), "{page}");
    assert!(page.contains("value=\"/api/v1/status?a=%22\""), "{page}");
    assert!(!page.contains("<script") && !page.contains("http-equiv"), "{page}");
    let policy = field(&page, "content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self'"), "{policy}");
    assert_eq!(field(&page, "www-authenticate"), Some("Bearer"), "no Basic");
    for (line, headers) in [("GET /", ""), ("GET /", "Accept: */*\r\n"), ("POST /api/v1/reload", HTML)] {
        let answer = ask(&running, line, headers, "");
        assert!(status(&answer) == 401 && answer.contains("{\"error\":"), "{answer}");
    }
    for (line, code) in [("GET /healthz", 200), ("GET /readyz", 200), ("GET /login", 200)] {
        assert_eq!(status(&ask(&running, line, HTML, "")), code, "{line}");
    }
}

#[test]
fn a_browser_logs_in_with_the_token_and_the_cookie_does_not_contain_it() {
    let running = Running::start(Some("secret"));
    let wrong = log_in(&running, "secreT");
    assert!(status(&wrong) == 401 && wrong.contains("This is not the token.") && wrong.contains("<form"), "{wrong}");
    assert_eq!(field(&wrong, "set-cookie"), None);
    let answer = log_in(&running, "%20secret%0A");
    assert_eq!((status(&answer), field(&answer, "location")), (303, Some("/api/v1/status")), "{answer}");
    let cookie = field(&answer, "set-cookie").unwrap();
    let name = format!("weir_admin_{}=", running.address.port());
    assert!(cookie.starts_with(&name) && !cookie.contains("secret") && !cookie.contains("Secure"), "{cookie}");
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=28800"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let shown = format!("{HTML}Cookie: other=1; {}\r\n", cookie.split(';').next().unwrap());
    let page = ask(&running, "GET /", &shown, "");
    assert!(status(&page) == 200 && page.contains("generation 3") && page.contains("Log out"), "{page}");
    assert_eq!(status(&ask(&running, "GET /metrics", &shown, "")), 200);
    assert_eq!(field(&ask(&running, "GET /login", &shown, ""), "location"), Some("/"), "is logged in already");
}

#[test]
fn a_login_behind_tls_sets_a_secure_cookie() {
    let running = Running::start(Some("secret"));
    let stream = TcpStream::connect(running.address).unwrap();
    let headers = format!("{FORM}Origin: https://weir.example\r\n");
    let answer = exchange(stream, "POST /login", "weir.example", &headers, "token=secret");
    assert!(field(&answer, "set-cookie").unwrap().ends_with("; Secure"), "{answer}");
}

#[test]
fn a_change_by_a_browser_needs_its_own_origin_and_json() {
    let running = Running::start(Some("secret"));
    let (cookie, own) = (session(&running), own_origin(&running));
    let foreign = "Origin: http://evil.example\r\n";
    for (headers, code) in [
        (format!("{cookie}{own}{JSON}"), 200),
        (format!("{cookie}{JSON}"), 403),
        (format!("{cookie}{foreign}{JSON}"), 403),
        (format!("{cookie}Origin: null\r\n{JSON}"), 403),
        (format!("{cookie}{own}{FORM}"), 415),
        (format!("{own}{JSON}"), 401),
    ] {
        let before = running.fake.asked.lock().unwrap().len();
        let answer = ask(&running, PUT, &headers, DRAIN);
        assert_eq!(status(&answer), code, "{headers}: {answer}");
        assert_eq!(running.fake.asked.lock().unwrap().len() - before, usize::from(code == 200), "{headers}");
    }
}

#[test]
fn a_foreign_origin_changes_nothing_with_any_credentials() {
    let (open, guarded) = (Running::start(None), Running::start(Some("secret")));
    let bearer = "Authorization: Bearer secret\r\n";
    for (running, right) in [(&open, ""), (&guarded, bearer)] {
        let own = own_origin(running);
        let ask = |line: &str, origin: &str, body: &str| ask(running, line, &format!("{right}{JSON}{origin}"), body);
        for (origin, code) in [("", 200), (&*own, 200), ("Origin: http://evil.example\r\n", 403)] {
            let answer = ask(PUT, origin, DRAIN);
            assert_eq!(status(&answer), code, "{origin}{answer}");
        }
        let other_port = "Origin: http://127.0.0.1:1\r\n";
        for line in ["POST /api/v1/reload", "POST /api/v1/diff", PUT] {
            assert_eq!(status(&ask(line, other_port, DRAIN)), 403, "{line}");
        }
    }
    let answer = ask(&guarded, "POST /login", &format!("{FORM}Origin: http://evil.example\r\n"), "token=secret");
    assert!(status(&answer) == 403 && field(&answer, "set-cookie").is_none(), "{answer}");
}

#[test]
fn another_token_and_a_logout_end_a_session() {
    let running = Running::start(Some("secret"));
    let (first, second) = (session(&running), session(&running));
    let code = |cookie: &str| status(&ask(&running, "GET /api/v1/status", cookie, ""));
    assert_eq!((code(&first), code(&second)), (200, 200));
    let out = ask(&running, "POST /logout", &format!("{first}{FORM}{}", own_origin(&running)), "");
    assert_eq!((status(&out), field(&out, "location")), (303, Some("/")));
    assert!(field(&out, "set-cookie").unwrap().contains("Max-Age=0"), "{out}");
    assert_eq!((code(&first), code(&second)), (401, 200));
    running.token.set(Some("another".into()));
    assert_eq!(code(&second), 401);
    running.token.set(Some("secret".into()));
    assert_eq!(code(&second), 401, "the session does not come back with the token");
}

#[test]
fn login_attempts_are_limited_and_bearer_requests_are_not() {
    let running = Running::start(Some("secret"));
    for _ in 0..10 {
        assert_eq!(status(&log_in(&running, "guess")), 401);
    }
    let answer = log_in(&running, "secret");
    assert_eq!(status(&answer), 429, "{answer}");
    let wait: u64 = field(&answer, "retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait) && answer.contains("too many attempts"), "{answer}");
    assert_eq!(status(&ask(&running, "GET /", "Authorization: Bearer secret\r\n", "")), 200);
}

#[test]
fn the_login_form_is_bounded_and_checked() {
    let running = Running::start(Some("secret"));
    let long = format!("token={}", "a".repeat(login::MAX_FORM_BYTES));
    for (headers, body) in [(FORM, "tokn=secret"), (JSON, "{\"token\":\"secret\"}"), (FORM, &*long)] {
        let answer = ask(&running, "POST /login", headers, body);
        assert!(status(&answer) == 400 && field(&answer, "set-cookie").is_none(), "{answer}");
    }
    let open = Running::start(None);
    assert_eq!(status(&ask(&open, "POST /login", FORM, "token=x")), 303, "without a token there is nothing to do");
}

#[test]
fn a_unix_socket_takes_any_host_and_asks_for_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let unused = SocketAddr::from(([127, 0, 0, 1], 1));
    let running = Running::start_on(BoundSocket::Unix(UnixListener::bind(&path).unwrap()), unused, None);
    let ask = |line: &str, headers: &str| exchange(UnixStream::connect(&path).unwrap(), line, "weir", headers, "");
    assert_eq!(status(&ask("GET /api/v1/status", "")), 200);
    running.token.set(Some("secret".into()));
    assert_eq!(status(&ask("GET /api/v1/status", "")), 401);
    assert_eq!(status(&ask("GET /api/v1/status", "Authorization: Bearer secret\r\n")), 200);
}

#[test]
fn large_responses_are_made_off_the_control_thread() {
    let running = Running::start(None);
    for (line, headers) in
        [("GET /", HTML), ("GET /api/v1/status", ""), ("GET /api/v1/config", ""), ("GET /api/v1/explain?url=/", "")]
    {
        assert_eq!(status(&ask(&running, line, headers, "")), 200, "{line}");
    }
    let made_on = running.fake.made_on.lock().unwrap().clone();
    // The sampler of the status page reads the activity too, at any time.
    let what: Vec<_> = made_on.iter().map(|(what, _)| *what).filter(|what| *what != "activity").collect();
    assert_eq!(what, ["status", "limits", "status", "config", "explain"]);
    assert!(made_on.iter().all(|(_, thread)| thread == "weir-background"), "{made_on:?}");
}

#[test]
fn probes_are_answered_while_a_status_is_being_made() {
    let running = Running::start(None);
    let lock = running.fake.hold_status.lock().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| status(&ask(&running, "GET /api/v1/status", "", "")));
        let deadline = Instant::now() + Duration::from_secs(10);
        while running.fake.made_on.lock().unwrap().is_empty() {
            assert!(Instant::now() < deadline, "no status is asked for");
            std::thread::yield_now();
        }
        assert_eq!(status(&ask(&running, "GET /healthz", "", "")), 200);
        assert_eq!(status(&ask(&running, "GET /readyz", "", "")), 200);
        drop(lock);
        assert_eq!(waiting.join().unwrap(), 200);
    });
}
