//! The files of access policies: problems at start, changes while running, and `weir hash-key`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use weir::auth::Refusal;
use weir::auth::basic::htpasswd::Users;
use weir::auth::basic::{BasicPolicy, PasswordVerifier};

use crate::support::weir::{Output, command};
use crate::support::{Config, Origin, Weir};

/// The password of `alice` is `pass`.
const USERS: &str = "alice:$2y$04$9gaZ0gdgvIbMab3QSVlMMO88m/BDD/0vcHv/Y.KCfThKSR13T6FmO\n";
const KEYS: &str = "acme sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
const REJECTED: &[&str] = &["weir_auth_files_rejected_total"];

fn config(origin: &Origin) -> Config {
    Config::to(origin)
        .set("auth.staff", "basic: { file: users.htpasswd }")
        .set("auth.programs", "api_keys: { file: keys.txt, header: x-api-key }")
}

fn folder(users: Option<&str>, keys: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("users.htpasswd", users), ("keys.txt", Some(keys))] {
        if let Some(content) = content {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
    }
    folder
}

fn check(folder: &Path, config: &Config) -> Output {
    let file = folder.join("weir.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    command(&["check", file.to_str().unwrap()])
}

/// `weir hash-key` with these arguments and this standard input.
fn hash_key(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("hash-key").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn a_missing_file_and_each_bad_line_are_problems_at_start_and_at_a_reload() {
    let origin = Origin::named("a");
    let weir = Weir::start_in(folder(Some(USERS), KEYS), config(&origin));
    let weak = format!("{USERS}bob:$apr1$01W9iHce$zxSbCagM.rj09oll6RZ3R0\n");
    for (users, keys, problem) in [
        (None, KEYS, "auth.staff.basic.file: cannot be read: there is no such file"),
        (Some(weak.as_str()), KEYS, "users.htpasswd:2:1: auth.staff.basic.file: MD5, which is too weak"),
        (Some("# none\n"), KEYS, "users.htpasswd:1:1: auth.staff.basic.file: no user in this file"),
        (Some(USERS), "acme topsecret\n", "keys.txt:1:1: auth.programs.api_keys.file: no hash `sha256:"),
        (Some(USERS), "", "keys.txt:1:1: auth.programs.api_keys.file: no key in this file"),
    ] {
        let checked = check(folder(users, keys).path(), &config(&origin));
        assert_eq!(checked.code, Some(2), "{problem}: {}", checked.stdout);
        assert!(checked.stdout.contains(problem), "{problem}: {}", checked.stdout);
        assert!(!checked.stdout.contains("topsecret") && !checked.stdout.contains("$apr1$"), "{}", checked.stdout);
    }
    let bad = config(&origin).set("auth.staff.basic.file", "other.htpasswd");
    assert!(!weir.reload(bad));
}

#[test]
fn a_changed_file_is_applied_without_a_reload_and_a_bad_one_keeps_the_old_content() {
    let origin = Origin::named("a");
    let weir = Weir::start_in(folder(Some(USERS), KEYS), config(&origin));
    let write = |name: &str, content: &str| {
        std::fs::write(weir.config_file().parent().unwrap().join(name), content).unwrap();
    };
    assert_eq!(weir.sum(REJECTED), 0.0);
    write("users.htpasswd", &format!("{USERS}{}", USERS.replace("alice", "bob")));
    weir.wait_for_log("users or keys of an access policy renewed from their file");
    write("users.htpasswd", &format!("{USERS}bob:hunter2\n"));
    weir.wait_for(REJECTED, 1.0);
    weir.wait_for_log("users.htpasswd:2: no known hash");
    write("keys.txt", &format!("{KEYS}other hunter2\n"));
    weir.wait_for(REJECTED, 2.0);
    weir.wait_for_log("keys.txt:2: no hash");
    std::fs::remove_file(weir.config_file().parent().unwrap().join("keys.txt")).unwrap();
    weir.wait_for(REJECTED, 3.0);
    let shown = weir.stderr() + &String::from_utf8(weir.admin_get("/api/v1/config").body).unwrap();
    for secret in ["hunter2", "$2y$", "ba7816bf"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}

/// The line that `htpasswd` prints for `alice` with these options.
fn htpasswd(options: &[&str], password: &str) -> String {
    let mut command = Command::new("htpasswd");
    command.arg("-nb").args(options).args(["alice", password]);
    let output = command.output().expect("htpasswd is installed by `make test`");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_strong_formats_of_htpasswd_let_their_user_pass_and_the_weak_ones_are_problems() {
    let password = "correct horse: Z\u{fc}rich";
    let with = |password: &str| {
        let value = format!("Basic {}", STANDARD.encode(format!("alice:{password}")));
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::try_from(value).unwrap())])
    };
    for options in [&["-B"][..], &["-B", "-C", "6"], &["-2"], &["-5"], &["-5", "-r", "2000"]] {
        let users = Users::parse(htpasswd(options, password).as_bytes()).unwrap();
        let verifier = PasswordVerifier::shared().unwrap();
        let policy = BasicPolicy::new("staff", "staff".parse().unwrap(), users, verifier);
        let now = std::time::Instant::now();
        assert_eq!(&*policy.verify(&with(password), now).await.unwrap().name, "alice", "{options:?}");
        assert_eq!(policy.verify(&with("wrong"), now).await.unwrap_err(), Refusal::Wrong, "{options:?}");
    }
    for (options, what) in [("-m", "MD5"), ("-s", "SHA-1"), ("-d", "DES crypt"), ("-p", "a password in clear")] {
        let bad = Users::parse(htpasswd(&[options], "hunter2").as_bytes()).unwrap_err();
        assert!(bad[0].what.contains(what) && !bad[0].what.contains("hunter2"), "{options}: {bad:?}");
    }
}

#[test]
fn hash_key_prints_a_line_that_the_file_accepts() {
    let given = hash_key(&["acme"], "0123456789abcdef0123456789abcdef\n");
    let hash = "3eb1bd439947eb762998e566ccc2e099c791118b2f40579cc4f7da2b5061b7f9";
    let expected = (Some(0), format!("acme sha256:{hash}\n"), String::new());
    assert_eq!((given.code, given.stdout.clone(), given.stderr), expected);
    let generated = hash_key(&["--generate"], "");
    assert_eq!(generated.code, Some(0));
    let key = generated.stderr.lines().last().unwrap();
    assert!(key.len() == 43 && !generated.stdout.contains(key), "{}", generated.stderr);
    assert_eq!(hash_key(&["key"], key).stdout, generated.stdout, "the same key again");
    let origin = Origin::named("a");
    let checked = check(folder(Some(USERS), &(given.stdout + &generated.stdout)).path(), &config(&origin));
    assert_eq!(checked.code, Some(0), "{}", checked.stdout);
}

#[test]
fn hash_key_refuses_a_key_that_could_be_guessed_and_prints_no_line() {
    for (arguments, input, code) in [
        (&["acme"][..], "", 1),
        (&["acme"], "hunter2\n", 1),
        (&["acme"], "0123456789 abcdef 0123456789\n", 1),
        (&["a b"], "0123456789abcdef\n", 64),
        (&["#a"], "0123456789abcdef\n", 64),
    ] {
        let output = hash_key(arguments, input);
        assert_eq!((output.code, output.stdout.as_str()), (Some(code), ""), "{arguments:?}: {}", output.stderr);
        assert!(!output.stderr.is_empty());
    }
}
