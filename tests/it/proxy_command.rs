//! `weir proxy`: a proxy without a configuration file.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use crate::support::acme::Ports;
use crate::support::child::Process;
use crate::support::weir::{Output, command};
use crate::support::{Client, Origin, Pebble, Weir, eventually, tls_config};

/// Starts `weir proxy` with these arguments, on free ports. It stops with the value.
fn start(arguments: &[&str]) -> Weir {
    start_with(&[], arguments)
}

fn start_with(variables: &[(&str, &str)], arguments: &[&str]) -> Weir {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("proxy").args(arguments).envs(variables.iter().copied());
    Weir::start_command(command)
}

/// Runs `weir proxy` with these variables and arguments to its end.
fn run_to_end(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("proxy").args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

const FREE: [&str; 4] = ["--from", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

#[test]
fn requests_reach_each_backend_without_a_configuration_file() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let (to_a, to_b) = (format!("http://{a}"), b.to_string());
    let weir = start(&[&FREE[..], &["--to", &to_a, "--to", &to_b, "--health", "/"]].concat());
    let mut client = Client::connect(weir.web());
    // A backend takes no request before its first check has passed.
    for name in ["a", "b"] {
        eventually(&format!("{name} answers"), || client.get("/").text() == name);
    }
    assert_eq!(weir.access_log_of(2)[0]["upstream"], "app");
    weir.wait_for_log(&format!("status page: http://{}/", weir.admin()));
    weir.wait_for_log("backend is up");
}

#[test]
fn the_printed_configuration_passes_the_check_and_runs_the_same_proxy() {
    let origin = Origin::named("a");
    let to = origin.to_string();
    let arguments = [&FREE[..], &["--to", &to, "--balance", "least_connections", "--health", "/"]].concat();
    let printed = command(&[&["proxy", "--print-config"], &arguments[..]].concat());
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("printed.yaml");
    std::fs::write(&file, &printed.stdout).unwrap();
    let checked = command(&["check", "--strict", file.to_str().unwrap()]);
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);

    let proxy = start(&arguments);
    let from_file = Weir::start(&printed.stdout);
    let effective = |weir: &Weir| {
        let mut config = weir.admin_get("/api/v1/config").json();
        config.as_object_mut().unwrap().remove("generation");
        config
    };
    assert_eq!(effective(&proxy), effective(&from_file));
    // The running proxy compares the file with its own settings.
    let same = proxy.command(&["diff", "-c", file.to_str().unwrap()]);
    assert_eq!((same.code, same.stdout.as_str()), (Some(0), "no changes\n"));
}

#[test]
fn the_status_page_takes_the_next_free_port_and_prints_it() {
    let taken = TcpListener::bind("127.0.0.1:9180");
    let printed = command(&["proxy", "--to", "127.0.0.1:3000", "--print-config"]).stdout;
    let address = printed.split("admin: { address: \"").nth(1).unwrap().split('"').next().unwrap();
    let address: SocketAddr = address.parse().unwrap();
    assert!(address.ip().is_loopback() && address.port() > 9180, "{printed}");
    drop(taken);
}

#[test]
fn a_reload_is_refused_and_says_how_to_get_a_file() {
    let origin = Origin::named("a");
    let weir = start(&[&FREE[..], &["--to", &origin.to_string()]].concat());
    let (code, said) = weir.status_and_output(&["reload"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("there is nothing to read again") && said.contains("--print-config"), "{said}");
    weir.signal(libc::SIGHUP);
    weir.wait_for_log("without a file, so there is nothing to read again");
    assert_eq!(Client::connect(weir.web()).get("/").text(), "a", "the proxy goes on");
}

#[test]
fn a_stop_signal_ends_it_with_status_0() {
    let origin = Origin::named("a");
    let mut weir = start(&[&FREE[..], &["--to", &origin.to_string()]].concat());
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
    weir.signal(libc::SIGTERM);
    assert_eq!(weir.wait().code(), Some(0));
}

#[test]
fn environment_variables_alone_configure_it_and_empty_ones_count_as_absent() {
    let origin = Origin::named("a");
    let to = origin.to_string();
    let variables = [
        ("WEIR_FROM", "127.0.0.1:0"),
        ("WEIR_TO", &to),
        ("WEIR_ADMIN_ADDRESS", "127.0.0.1:0"),
        ("WEIR_ACCESS_LOG", "off"),
        ("WEIR_HEALTH", ""),
        ("WEIR_TLS_NAMES", ""),
        ("WEIR_BALANCE", ""),
    ];
    let weir = start_with(&variables, &[]);
    assert_eq!(Client::connect(weir.web()).get("/").text(), "a");
    assert_eq!(weir.stdout(), "");
    let printed = run_to_end(&[("WEIR_TO", ":1,:2")], &["--print-config"]).stdout;
    assert!(printed.contains("\"127.0.0.1:1\"") && printed.contains("\"127.0.0.1:2\""), "{printed}");
}

#[test]
fn each_wrong_option_is_a_usage_error_with_a_hint() {
    let wrong = [
        (&[][..], "--to"),
        (&["--to", "api.test"], "name:port"),
        (&["--to", "http://127.0.0.1:1/api"], "has a path"),
        (&["--to", ":1", "--from", "a.test:80"], "write `:8080`"),
        (&["--to", ":1", "--balance", "fastest"], "least_connections"),
        (&["--to", "https://a.test,http://b.test"], "different schemes"),
        (&["--to", ":1", "--tls-email", "a@b.test"], "--tls-names"),
    ];
    for (arguments, hint) in wrong {
        let output = run_to_end(&[], arguments);
        assert_eq!(output.code, Some(64), "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(hint), "{arguments:?}: {}", output.stderr);
    }
    let output = run_to_end(&[], &["--to", ":1", "--health", "no-slash", "--admin", "off"]);
    assert!(output.code == Some(2) && output.stdout.contains("(weir proxy):"), "{}{}", output.stdout, output.stderr);
    let output = run_to_end(&[], &["--to", ":1", "--admin", "0.0.0.0:0"]);
    assert!(output.code == Some(2) && output.stdout.contains("token_file"), "{}", output.stdout);
}

#[test]
fn an_address_in_use_is_named_with_the_option_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (option, other) in [("--from", "--admin"), ("--admin", "--from")] {
        let output = run_to_end(&[], &["--to", ":1", option, &taken, other, "127.0.0.1:0"]);
        assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
        assert!(output.stdout.contains(&taken) && output.stdout.contains(option), "{}", output.stdout);
    }
}

#[test]
fn a_signal_during_the_start_stops_it_with_status_0() {
    let arguments = ["proxy", "--to", "127.0.0.1:1", "--from", "127.0.0.1:0", "--admin", "off"];
    let mut process = Process::start(&arguments, Stdio::null(), Stdio::null());
    process.wait_for_handler(libc::SIGTERM);
    process.signal(libc::SIGTERM);
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn names_for_tls_get_certificates_by_acme_and_http_redirects_to_https() {
    let mut pebble = Pebble::new(&["a"]);
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::named("a"));
    pebble.settings(folder.path(), &["a"]);
    let (ca, state) = (folder.path().join("ca.pem"), folder.path().join("state"));
    let weir = start(&[
        "--from",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--to",
        &origin.to_string(),
        "--tls-names",
        "a.zone.test",
        "--tls-directory",
        &format!("https://127.0.0.1:{}/dir", pebble.port()),
        "--tls-directory-ca",
        ca.to_str().unwrap(),
        "--state-dir",
        state.to_str().unwrap(),
    ]);
    let (http, https) = (weir.address("http"), weir.web());
    let redirect = Client::connect(http).get_with("/x", &[("Host", "a.zone.test")]);
    assert_eq!((redirect.status, redirect.header("location")), (308, Some("https://a.zone.test/x")));
    pebble.start(&Ports { http: http.port(), tls: https.port() }, 3600);
    let config = std::sync::Arc::new(tls_config(None));
    let mut client =
        eventually("a certificate", || crate::support::TlsClient::handshake(https, "a.zone.test", &config).ok());
    assert_eq!(client.get_with("/", &[("Host", "a.zone.test")]).text(), "a");
}

#[test]
fn the_commands_of_the_readme_lead_from_a_package_to_a_response() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("\n## Install\n").nth(1).unwrap();
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let commands: Vec<&str> = block.lines().collect();
    let [install, proxy, request] = commands[..] else { panic!("three commands: {block}") };
    assert!(install.starts_with("sudo apt install ./weir_"), "{install}");
    // The other two run as they are, with other ports.
    let origin = Origin::named("application");
    let arguments: Vec<&str> =
        proxy.strip_prefix("weir proxy ").unwrap().strip_suffix(" &").unwrap().split(' ').collect();
    let to = origin.to_string();
    let arguments: Vec<&str> = arguments
        .into_iter()
        .map(|argument| match argument {
            ":8080" => "127.0.0.1:0",
            "127.0.0.1:3000" => &to,
            other => other,
        })
        .collect();
    let weir = start(&[&arguments[..], &["--admin", "127.0.0.1:0"]].concat());
    let request = request.replace("127.0.0.1:8080", &weir.web().to_string());
    let output = Command::new("sh").args(["-c", &request]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "application", "{}", String::from_utf8_lossy(&output.stderr));
}
