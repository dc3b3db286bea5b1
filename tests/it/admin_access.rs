//! Who reaches the admin API: by which address, by a Unix socket, by a token, by a login, or not at all.

use std::fmt::Display;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::support::weir::command;
use crate::support::{Client, Config, Weir, eventually, exchange};

const TOKEN: &str = "0123456789abcdef";

/// The section `admin` is in the first line.
fn serving(admin: &str) -> String {
    let config = Config::to("127.0.0.1:1")
        .without("routes.all")
        .route("all", "match: { path_prefix: / }, respond: { status: 204 }");
    format!("admin: {admin}\n{config}")
}

/// The section `admin` with this address, and more settings.
fn at(address: impl Display, more: &str) -> String {
    ["{ address: \"", &address.to_string(), "\"", more, " }"].concat()
}

fn folder_with_token() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("admin.token"), TOKEN).unwrap();
    folder
}

/// Runs `weir` with a file of this text in this folder.
fn with_file(folder: &Path, what: &str, text: &str) -> crate::support::weir::Output {
    let file = folder.join("other.yaml");
    std::fs::write(&file, text).unwrap();
    command(&[what, "-c", file.to_str().unwrap()])
}

#[test]
fn an_admin_address_that_other_machines_reach_needs_a_token_or_an_explicit_insecure() {
    let folder = folder_with_token();
    for address in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0", "192.0.2.7:9180"] {
        let text = serving(&at(address, ""));
        for what in ["check", "run"] {
            let said = with_file(folder.path(), what, &text);
            assert_eq!(said.code, Some(2), "{what} {address}: {}{}", said.stdout, said.stderr);
            assert!(said.stdout.contains("other.yaml:1:19: admin.address: "), "{}", said.stdout);
            for way in ["token_file", "127.0.0.1:PORT", "unix:/path", "insecure: true", "admin: off"] {
                assert!(said.stdout.contains(way), "{way}: {}", said.stdout);
            }
        }
        for more in [", token_file: admin.token", ", insecure: true"] {
            let text = serving(&at(address, more));
            let said = with_file(folder.path(), "check", &text);
            assert_eq!(said.code, Some(0), "{}", said.stdout);
        }
    }
    for address in ["127.0.0.1:0", "127.1.2.3:0", "[::1]:0", "unix:/tmp/a.sock"] {
        let said = with_file(folder.path(), "check", &serving(&at(address, "")));
        assert_eq!(said.code, Some(0), "{}", said.stdout);
    }
}

#[test]
fn a_change_without_the_token_is_refused_on_an_exposed_address() {
    let put = "PUT /api/v1/upstreams/up/backends/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
               Content-Length: 20\r\n\r\n{\"state\":\"draining\"}";
    let exposed = "{ address: \"0.0.0.0:0\", token_file: admin.token }";
    let weir = Weir::start_in(folder_with_token(), serving(exposed));
    let answer = exchange(weir.admin(), put);
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("application/json"), "{answer}");
    let allowed = put.replace("Host: x\r\n", &format!("Host: x\r\nAuthorization: Bearer {TOKEN}\r\n"));
    assert!(exchange(weir.admin(), allowed).starts_with("HTTP/1.1 200 "));
    for path in ["/healthz", "/readyz"] {
        assert_eq!(weir.admin_get(path).status, 200, "{path}");
    }
    let insecure = Weir::start(serving("{ address: \"0.0.0.0:0\", insecure: true }"));
    assert!(exchange(insecure.admin(), put).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_browser_logs_in_to_the_status_page_and_a_new_token_ends_its_session() {
    let yaml = serving("{ address: \"127.0.0.1:0\", token_file: admin.token }");
    let weir = Weir::start_in(folder_with_token(), &yaml);
    let mut client = Client::connect(weir.admin());
    let page = client.get_with("/", &[("Host", "localhost"), ("Accept", "text/html")]);
    assert!(page.status == 401 && page.text().contains("<form"), "{}", page.text());
    let body = format!("token={TOKEN}&next=%2F");
    client.send(format!(
        "POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nAccept: text/html\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let answer = client.response("POST");
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert!(!cookie.contains(TOKEN), "{cookie}");
    let shown =
        |path: &str| Client::connect(weir.admin()).get_with(path, &[("Host", "localhost"), ("Cookie", &cookie)]);
    assert!(shown("/").text().contains("<h2>up "), "the status page");
    let here = weir.config_file().parent().unwrap().to_owned();
    weir.signal(libc::SIGHUP);
    weir.wait_for_log("configuration reloaded");
    assert_eq!(shown("/api/v1/status").status, 200, "the same token ends no session");
    std::fs::write(here.join("admin.token"), "another").unwrap();
    weir.signal(libc::SIGHUP);
    eventually("the session has ended", || shown("/api/v1/status").status == 401);
}

#[test]
fn commands_reach_the_process_by_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let url = format!("unix:{}", path.display());
    let yaml = serving(&at(&url, ""));
    let mut weir = Weir::start_in(folder, &yaml);
    assert!(weir.stderr().lines().any(|line| line == format!("listening admin {url}")), "{}", weir.stderr());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let file = weir.config_file();
    for arguments in [["status", "--admin", &url], ["status", "-c", file.to_str().unwrap()]] {
        let said = command(&arguments);
        assert!(said.code == Some(0) && said.stdout.contains("web"), "{arguments:?}: {}", said.stdout);
    }
    assert_eq!(command(&["drain", "up/a", "--admin", &url]).code, Some(0));
    assert_eq!(command(&["reload", "--admin", &url]).code, Some(0));
    assert_eq!(command(&["diff", "-c", file.to_str().unwrap()]).code, Some(0));
    let mut client = Client::over(UnixStream::connect(&path).unwrap());
    assert!(client.get("/metrics").text().contains("weir_build_info"));
    let second = with_file(file.parent().unwrap(), "run", &yaml);
    assert_eq!(second.code, Some(1), "{}", second.stdout);
    assert!(second.stdout.contains(&url) && second.stdout.contains("another process"), "{}", second.stdout);
    assert_eq!(command(&["status", "--admin", &url]).code, Some(0), "the first one goes on");
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(0));
    assert!(!path.exists(), "removed at the end");
    let gone = command(&["status", "--admin", &url]);
    assert!(gone.code == Some(1) && gone.stdout.contains(&url), "{}", gone.stdout);
}

#[test]
fn the_unix_socket_of_a_process_that_crashed_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let yaml = serving(&at(format!("unix:{}", path.display()), ""));
    let folder = Weir::start_in(folder, &yaml).crash();
    assert!(path.exists(), "left behind");
    let _weir = Weir::start_in(folder, &yaml);
    assert_eq!(command(&["status", "--admin", &format!("unix:{}", path.display())]).code, Some(0));
}

#[test]
fn admin_off_serves_traffic_and_nothing_else_and_commands_say_so() {
    let weir = Weir::start(serving("off"));
    assert!(!weir.stderr().contains("listening admin"), "{}", weir.stderr());
    assert_eq!(Client::connect(weir.web()).get("/").status, 204);
    let file = weir.config_file();
    let file = file.to_str().unwrap();
    for arguments in [
        &["status"][..],
        &["reload"],
        &["diff"],
        &["drain", "up/a"],
        &["weight", "up/a", "3"],
        &["explain", "GET", "/"],
    ] {
        let said = command(&[arguments, &["-c", file]].concat());
        assert_eq!(said.code, Some(1), "{arguments:?}: {}", said.stdout);
        assert!(said.stdout.contains("`admin: off`") && said.stdout.contains("SIGHUP"), "{}", said.stdout);
        let json = command(&[arguments, &["-c", file, "--json"]].concat());
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert!(json["error"].as_str().unwrap().contains("admin: off"), "{json}");
    }
    assert_eq!(command(&["check", "-c", file]).code, Some(0));
    std::fs::write(file, serving("off").replace("204", "202")).unwrap();
    weir.signal(libc::SIGHUP);
    eventually("it is reloaded", || Client::connect(weir.web()).get("/").status == 202);
}

#[test]
fn a_reload_can_neither_move_nor_close_the_admin_address_and_says_so() {
    let weir = Weir::start(serving("{ address: \"127.0.0.1:0\" }"));
    for (admin, fixed) in [
        ("off", "admin"),
        ("{ address: \"unix:/tmp/weir-never.sock\" }", "admin.address"),
        ("{ address: \"127.0.0.1:1\" }", "admin.address"),
    ] {
        let told = format!("{fixed}: fixed while the process lives");
        let before = weir.stderr().matches(&told).count();
        assert!(weir.reload(serving(admin)), "{admin}");
        assert!(weir.stderr().matches(&told).count() > before, "{admin}: {}", weir.stderr());
        assert_eq!(weir.admin_get("/api/v1/status").status, 200, "{admin}");
    }
    assert!(!Path::new("/tmp/weir-never.sock").exists());
}

#[test]
fn a_reload_that_drops_the_token_does_not_open_an_address_that_other_machines_reach() {
    let exposed = "{ address: \"0.0.0.0:0\", token_file: admin.token }";
    let weir = Weir::start_in(folder_with_token(), serving(exposed));
    let code = || weir.admin_get("/api/v1/status").status;
    assert_eq!(code(), 401);
    let mut reloads = 0;
    let mut reload = |admin: &str| {
        std::fs::write(weir.config_file(), serving(admin)).unwrap();
        weir.signal(libc::SIGHUP);
        reloads += 1;
        let done = || weir.stderr().matches("configuration reloaded").count();
        eventually("a reload", || done() == reloads);
    };
    for admin in ["{ address: \"127.0.0.1:9180\" }", "off", "{ address: \"unix:/tmp/weir-never.sock\" }"] {
        reload(admin);
        weir.wait_for_log("the token stays");
        assert_eq!(code(), 401, "{admin}");
    }
    reload("{ address: \"0.0.0.0:0\", insecure: true }");
    eventually("it is open, as the file says", || code() == 200);
}

#[test]
fn the_demo_does_not_put_its_admin_page_where_other_machines_reach_it() {
    let said = command(&["demo", "--admin", "0.0.0.0:0"]);
    assert_eq!(said.code, Some(64), "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("127.0.0.1"), "{}", said.stderr);
}
