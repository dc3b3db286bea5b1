//! What operators meet when something is not as it should be: commands beside a broken file, files that a user cannot read,
//! addresses and files that are taken.

use crate::support::files::{folder, put, set_mode};
use crate::support::weir::command;
use crate::support::{Client, Config, Gate, LISTENER_TLS, Origin, Pki, Weir, eventually, spare};

/// As text: the places in it are told.
fn serving(admin: &str, more: &str) -> String {
    const TEXT: &str = "\
admin: { address: \"ADMIN\" }
listeners:
  - { name: web, address: \"127.0.0.1:0\" }
routes: [{ respond: { status: 204 } }]
";
    TEXT.replace("ADMIN", admin) + more
}

#[test]
fn commands_find_the_process_whatever_else_is_wrong_with_its_file() {
    let admin = spare().to_string();
    let weir = Weir::start(serving(&admin, ""));
    let file = weir.config_file();
    let ask = |what: &str, text: &str| {
        std::fs::write(&file, text).unwrap();
        command(&[what, "-c", file.to_str().unwrap()])
    };
    let tls = serving(&admin, "")
        .replace("127.0.0.1:0\" }", "127.0.0.1:0\", tls: { certificates: [{ cert: no.pem, key: no.key }] } }");
    let broken = [
        serving(&admin, "colour: blue\n"),
        serving(&admin, "log: { level: \"${NOBODY_SET_THIS}\" }\n"),
        serving(&admin, "upstreams: [\n"),
        serving(&admin, "log: { level: loud }\n").replace(" }\nlisteners", ", adress: x }\nlisteners"),
        tls,
    ];
    for text in &broken {
        let said = ask("status", text);
        assert!(said.code == Some(0) && said.stdout.contains("web"), "{text}: {}{}", said.stdout, said.stderr);
    }
    let said = ask("reload", &broken[0]);
    assert!(said.code == Some(2) && said.stdout.contains("weir.yaml:5:1: colour: "), "{}", said.stdout);
    assert_eq!(weir.status()["last_reload"]["result"], "rejected", "the process was asked");
    for (text, why) in [
        (serving("nowhere", ""), "weir.yaml:1:19: admin.address: `nowhere` is not an address"),
        (serving("${NOBODY_SET_THIS}", ""), "admin.address: "),
        (serving(&admin, "").replacen("address", "adress", 1), "admin.adress: unknown key"),
        (serving(&admin, "").replace("admin:", "admn:"), "admn: unknown key"),
        (format!("routes: [\n{}", serving(&admin, "")), "not YAML"),
    ] {
        let said = ask("status", &text);
        assert!(said.code == Some(2) && said.stdout.contains(why), "{text}: {}", said.stdout);
        assert!(said.stdout.contains("--admin URL needs no file"), "{}", said.stdout);
    }
}

#[test]
fn files_that_the_user_cannot_read_are_reported_at_the_start_and_do_not_count_as_changed() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let folder =
        folder(&[("a", &pki.issue(&["a.test"])), ("b", &pki.issue(&["b.test"])), ("c", &pki.issue(&["c.test"]))]);
    set_mode(folder.path(), 0o755);
    set_mode(&folder.path().join("a.key"), 0o600);
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    for name in ["c.pem", "c.key"] {
        std::fs::rename(folder.path().join(name), locked.join(name)).unwrap();
    }
    set_mode(&locked, 0o700);
    for name in ["a.pem", "a.key", "b.pem", "b.key", "locked/c.pem", "locked/c.key"] {
        let file = std::fs::File::options().append(true).open(folder.path().join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(60)).unwrap();
    }
    let config = Config::to(&origin).certificates(&["a", "b", "locked/c"]).set("server.user", "nobody");
    let weir = Weir::start_in(folder, &config);
    eventually("it is told", || {
        let said = weir.stderr();
        let told = |file: &str| said.lines().any(|l| l.contains("WARN") && l.contains("`nobody`") && l.contains(file));
        told("a.key") && told("locked/c.key") && !told("b.key")
    });
    let here = weir.config_file().parent().unwrap().to_owned();
    pki.issue(&["b.test"]).put(&here, "b");
    weir.wait_for_log("renewed from its files");
    assert!(!weir.stderr().contains("changed on disk"), "{}", weir.stderr());
    weir.wait_for(&["weir_tls_certificate_reloads_total", "rejected"], 0.0);
    assert!(!weir.reload(config.route("more", "match: { path: /more }, upstream: up")));
    let problem = weir.status()["last_reload"]["problems"].to_string();
    assert!(problem.contains("certificates[0].key") && problem.contains("server.user"), "{problem}");
    assert!(!problem.contains("relative to the folder"), "{problem}");
}

#[test]
fn an_address_that_weir_has_itself_is_not_blamed_on_another_process() {
    let own = spare();
    const TEXT: &str = "\
listeners:
  - { name: edge, address: \"ADDRESS\" }
routes: [{ respond: { status: 204 } }]
";
    let at = |address: &str| TEXT.replace("ADDRESS", address);
    let weir = Weir::start(at(&own.to_string()));
    let wide = at(&format!("0.0.0.0:{}", own.port()));
    assert!(!weir.reload(&wide));
    let problem = weir.status()["last_reload"]["problems"][0].clone();
    let (what, hint) = (problem["what"].as_str().unwrap(), problem["hint"].as_str().unwrap());
    assert!(what.contains("`edge`") && what.contains(&own.to_string()), "{problem}");
    assert!(!what.contains("another process") && hint.contains("two"), "{problem}");
    assert_eq!(problem["line"], 2);
    assert_eq!(Client::connect(own).get("/").status, 204, "the old one goes on");
    assert!(weir.reload(at("127.0.0.1:0")) && weir.reload(wide), "in two steps");
}

#[test]
fn an_access_log_that_cannot_be_opened_refuses_a_reload_at_its_key() {
    let weir = Weir::start(serving("127.0.0.1:0", ""));
    assert!(!weir.reload(serving("127.0.0.1:0", "access_log:\n  path: no/such/folder/access.log\n")));
    let problem = weir.status()["last_reload"]["problems"][0].clone();
    let place = (&problem["path"], &problem["line"], &problem["column"]);
    assert_eq!(place, (&"access_log.path".into(), &6.into(), &9.into()), "{problem}");
}

#[test]
fn a_broken_revocation_list_is_reported_once_and_by_its_name() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let folder = folder(&[("edge", &pki.issue(&["a.test"]))]);
    put(folder.path(), "ca.pem", pki.ca());
    put(folder.path(), "cur.crl", pki.revoke(&[]));
    let client_auth = "mode: required, ca: ca.pem, crl: cur.crl";
    let config = Config::to(&origin)
        .set("listeners.web", LISTENER_TLS)
        .set("listeners.web.tls.client_auth", client_auth)
        .listener("other", LISTENER_TLS)
        .set("listeners.other.tls.client_auth", client_auth);
    let weir = Weir::start_in(folder, config);
    let here = weir.config_file().parent().unwrap().to_owned();
    put(&here, "cur.crl", "x\n");
    let rejected = ["weir_tls_certificate_reloads_total", "ca.pem", "rejected"];
    weir.wait_for_at_least(&rejected, 1.0);
    put(&here, "cur.crl", pki.revoke(&[7]));
    let applied = ["weir_tls_certificate_reloads_total", "ca.pem", "applied"];
    weir.wait_for_at_least(&applied, 1.0);
    let log = weir.stderr();
    let told: Vec<_> = log.lines().filter(|line| line.contains("no revocation list")).collect();
    assert!(told.len() == 1 && told[0].contains("cur.crl") && !told[0].contains("ca.pem"), "{told:?}");
    assert_eq!((weir.sum(&rejected), weir.sum(&applied)), (1.0, 1.0), "two listeners, one file");
}

#[test]
fn sigquit_stops_gracefully() {
    let gate = Gate::default();
    let origin = gate.origin();
    let mut weir = Weir::start(Config::to(&origin));
    let mut client = Client::connect(weir.web());
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    weir.wait_for(&["weir_backend_in_flight"], 1.0);
    weir.signal(libc::SIGQUIT);
    eventually("draining", || weir.admin_get("/readyz").status == 503);
    gate.open();
    assert_eq!(client.response("GET").text(), "/a", "what is under way finishes");
    assert_eq!(weir.wait().code(), Some(0));
}
