//! The forms in which commands can be written, and where they find the configuration and the process.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::weir::{Output, command};
use crate::support::{Client, Config, Weir};

const GOOD: &str = "admin: { address: \"127.0.0.1:0\" }\nlisteners: [{ name: web, address: \"127.0.0.1:0\" }]\n\
                    routes: [{ respond: { status: 204 } }]\n";

/// Runs `weir` in this folder with these variables, and writes this to its standard input.
fn run_in(folder: &Path, env: &[(&str, &str)], arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).current_dir(folder).env_remove("WEIR_CONFIG").env_remove("WEIR_ADMIN");
    command.envs(env.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("conf")).unwrap();
    for name in ["conf/weir.yaml", "own.yaml"] {
        std::fs::write(folder.path().join(name), GOOD).unwrap();
    }
    folder
}

#[test]
fn the_configuration_is_the_option_then_the_variable_then_conf_weir_yaml() {
    let folder = folder();
    let checked = |env: &[(&str, &str)], arguments: &[&str]| {
        let output = run_in(folder.path(), env, &[&["check"], arguments].concat(), "");
        assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
        output.stdout.split(": ok").next().unwrap().to_owned()
    };
    let variable = [("WEIR_CONFIG", "own.yaml")];
    assert_eq!(checked(&[], &[]), "conf/weir.yaml");
    assert_eq!(checked(&[("WEIR_CONFIG", "")], &[]), "conf/weir.yaml");
    assert_eq!(checked(&variable, &[]), "own.yaml");
    assert_eq!(checked(&variable, &["-c", "conf/weir.yaml"]), "conf/weir.yaml");
    assert_eq!(checked(&variable, &["conf/weir.yaml"]), "conf/weir.yaml", "as an argument");
    assert_eq!(checked(&[], &["--config", "own.yaml"]), "own.yaml");
}

#[test]
fn without_a_configuration_the_places_are_named() {
    if Path::new("/etc/weir/weir.yaml").exists() {
        return;
    }
    let empty = tempfile::tempdir().unwrap();
    for verb in ["check", "run"] {
        let output = run_in(empty.path(), &[], &[verb], "");
        assert_eq!(output.code, Some(2), "{verb}");
        for place in ["conf/weir.yaml", "/etc/weir/weir.yaml", "-c FILE", "$WEIR_CONFIG"] {
            assert!(output.stdout.contains(place), "{verb}: {}", output.stdout);
        }
    }
}

#[test]
fn a_file_and_the_option_together_are_a_usage_error() {
    assert_eq!(command(&["check", "a.yaml", "-c", "b.yaml"]).code, Some(64));
}

#[test]
fn a_dash_reads_the_configuration_from_standard_input() {
    let folder = folder();
    for arguments in [&["check", "-c", "-"][..], &["check", "-"]] {
        let good = run_in(folder.path(), &[], arguments, GOOD);
        assert_eq!((good.code, good.stdout.starts_with("-: ok. 1 listener")), (Some(0), true), "{}", good.stdout);
        let bad = run_in(folder.path(), &[], arguments, "listeners:\n  - { adress: x }\n");
        assert!(bad.code == Some(2) && bad.stdout.contains("-:2:7: listeners[0].adress:"), "{}", bad.stdout);
    }
    // A file that the text names is relative to the working directory.
    std::fs::write(folder.path().join("found.yaml"), "- address: 127.0.0.1:1\n").unwrap();
    let text = "listeners: [{ address: \"127.0.0.1:0\" }]\nroutes: [{ upstream: u }]\n\
                upstreams: { u: { discover: { file: found.yaml } } }\n";
    let output = run_in(folder.path(), &[], &["check", "-"], text);
    assert_eq!(output.code, Some(0), "{}", output.stdout);
}

#[test]
fn diff_takes_the_new_configuration_from_standard_input() {
    let weir = Weir::start(GOOD);
    let admin = format!("http://{}", weir.admin());
    let text = GOOD.replace("204", "205");
    let output = run_in(Path::new("/"), &[], &["diff", "-c", "-", "--admin", &admin], &text);
    assert!(output.code == Some(3) && output.stdout.contains("route"), "{}", output.stdout);
}

#[test]
fn a_process_with_its_configuration_from_standard_input_serves_and_rejects_a_reload() {
    let mut command = Command::new("sh");
    command.arg("-c").arg("exec \"$0\" run -c - < \"$3\"").arg(env!("CARGO_BIN_EXE_weir"));
    let weir = Weir::start_by(command, GOOD);
    assert_eq!(Client::connect(weir.web()).get("/").status, 204);
    let output = crate::support::weir::command(&["reload", "--admin", &format!("http://{}", weir.admin())]);
    assert_eq!(output.code, Some(2), "{}", output.stdout);
    assert!(output.stdout.contains("standard input was read at the start"), "{}", output.stdout);
    assert_eq!(Client::connect(weir.web()).get("/").status, 204);
}

#[test]
fn each_form_of_help_shows_it_with_exit_status_0() {
    let forms = [
        &["--help"][..],
        &["-h"],
        &["-?"],
        &["-help"],
        &["help"],
        &["help", "--help"],
        &["help", "-h"],
        &["help", "help"],
    ];
    for form in forms {
        let output = command(form);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{form:?}");
        assert!(
            output.stdout.contains("Usage: weir <COMMAND>") && output.stdout.contains("check"),
            "{}",
            output.stdout
        );
    }
    for form in [&["check", "--help"][..], &["check", "-h"], &["check", "-?"], &["check", "help"], &["help", "check"]] {
        let output = command(form);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{form:?}");
        assert!(output.stdout.contains("Usage: weir check"), "{form:?}: {}", output.stdout);
    }
    assert_eq!(command(&["help", "nothing"]).code, Some(64));
    assert_eq!(command(&[]).code, Some(64));
}

#[test]
fn the_version_names_commit_pingora_rustc_and_target() {
    let version = command(&["version"]);
    assert_eq!(version.code, Some(0));
    let lines: Vec<_> = version.stdout.lines().collect();
    assert_eq!(lines[0], format!("weir {}", weir::VERSION));
    let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    let lock = include_str!("../../Cargo.lock");
    assert!(lock.contains(&format!("name = \"pingora\"\nversion = \"{}\"", value("pingora:"))), "{lines:?}");
    assert!(value("rustc:").starts_with("1.") && value("target:").contains("linux"), "{lines:?}");
    assert!(!value("commit:").is_empty());
    assert_eq!(command(&["--version"]).stdout, version.stdout);
    assert_eq!(command(&["-V"]).stdout.trim(), format!("weir {}", weir::VERSION));
}

#[test]
fn the_first_line_of_the_log_states_version_commit_file_and_pid() {
    let weir = Weir::start(Config::to("127.0.0.1:1"));
    let stderr = weir.stderr();
    let first = stderr.lines().next().unwrap();
    let commit = std::env::var("WEIR_COMMIT").ok().filter(|commit| !commit.is_empty()).unwrap_or("unknown".to_owned());
    let pid = weir.kernel_says("status").lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().to_owned();
    for part in [
        format!("version=\"{}\"", weir::VERSION),
        format!("commit=\"{commit}\""),
        format!("file={}", weir.config_file().display()),
        format!("pid={pid}"),
    ] {
        assert!(first.contains(&part), "{part}: {first}");
    }
}

#[test]
fn commands_for_the_process_need_no_configuration_and_use_the_default_address() {
    if Path::new("/etc/weir/weir.yaml").exists() {
        return;
    }
    let empty = tempfile::tempdir().unwrap();
    let commands = [
        &["status"][..],
        &["reload"],
        &["drain", "up/a"],
        &["disable", "up/a"],
        &["enable", "up/a"],
        &["weight", "up/a", "2"],
        &["explain", "GET", "http://a/"],
    ];
    // Each connection is closed at once. A process of someone else at this address is left alone.
    let Ok(held) = std::net::TcpListener::bind("127.0.0.1:9180") else { return };
    std::thread::spawn(move || held.incoming().for_each(drop));
    for arguments in commands {
        let output = run_in(empty.path(), &[], arguments, "");
        assert_eq!(output.code, Some(1), "{arguments:?}: {}", output.stdout);
        assert!(output.stdout.contains("http://127.0.0.1:9180"), "{arguments:?}: {}", output.stdout);
    }
}

#[test]
fn diff_shows_the_shares_of_a_split_and_the_keys_that_need_a_restart() {
    let text = GOOD.replace(
        "respond: { status: 204 }",
        "name: c, split: [{ upstream: v1, weight: 95 }, { upstream: v2, weight: 5 }]",
    );
    let text = text
        + "upstreams:\n  v1: { backends: [{ address: \"127.0.0.1:1\" }] }\n  v2: { backends: [{ address: \"127.0.0.1:2\" }] }\n";
    let weir = Weir::start(&text);
    let admin = format!("http://{}", weir.admin());
    let new =
        text.replace("weight: 95", "weight: 50").replace("weight: 5 }", "weight: 50 }") + "server: { threads: 3 }\n";
    let output = run_in(Path::new("/"), &[], &["diff", "-c", "-", "--admin", &admin], &new);
    assert_eq!(output.code, Some(3), "{}", output.stdout);
    for line in [
        "route c: changed (split v1 95% → 50%, v2 5% → 50%)\n",
        "server.threads: fixed while the process lives; `weir upgrade` or a restart applies it\n",
    ] {
        assert!(output.stdout.contains(line), "{line}{}", output.stdout);
    }
}
