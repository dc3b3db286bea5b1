//! Tests of the commands against an in-process admin server.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::admin::test_double::Running;
use crate::config::Severity;

fn remote(running: &Running) -> Remote {
    Remote { url: format!("http://{}", running.address), ..Remote::default() }
}

fn answers(running: &Running, reply: ReloadReply) {
    *running.fake.reply.lock().unwrap() = reply;
}

fn valid(changes: &[&str], fixed: &[&str]) -> ReloadReply {
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    ReloadReply::Valid { generation: 4, changes: owned(changes), fixed: owned(fixed), warnings: vec![] }
}

#[test]
fn status_is_a_table_or_json() {
    let running = Running::start(None);
    let output = remote(&running).status();
    assert_eq!(output.code, DONE);
    assert!(output.text.starts_with("weir 9.9.9  pid 7  generation 3  ready\n"), "{}", output.text);
    let output = Remote { json: true, ..remote(&running) }.status();
    assert_eq!(serde_json::from_str::<StatusReply>(&output.text).unwrap().pid, 7);
}

#[test]
fn the_exit_status_of_reload_depends_on_its_result() {
    let running = Running::start(None);
    let what = "no such upstream".to_owned();
    answers(&running, ReloadReply::Rejected { problems: vec![ProblemReply { what, ..ProblemReply::default() }] });
    let output = remote(&running).reload();
    assert_eq!((output.code, output.text.lines().next()), (PROBLEMS, Some("no such upstream")));
    let (changes, fixed) = (vec!["upstream api: + c".to_owned()], vec![]);
    answers(&running, ReloadReply::Applied { generation: 5, changes: changes.clone(), fixed, warnings: vec![] });
    let output = remote(&running).reload();
    assert_eq!(output, CommandOutput { text: "upstream api: + c\napplied: generation 5\n".into(), code: DONE });
    let (severity, what) = (Severity::Warning, "not used".to_owned());
    let warnings = vec![ProblemReply { severity, what, ..ProblemReply::default() }];
    answers(&running, ReloadReply::Applied { generation: 5, changes, fixed: vec![], warnings });
    let output = remote(&running).reload();
    let expected = "upstream api: + c\nwarning: not used\napplied: generation 5\n".into();
    assert_eq!(output, CommandOutput { text: expected, code: DONE });
}

#[test]
fn the_exit_status_of_diff_depends_on_its_result() {
    let running = Running::start(None);
    answers(&running, valid(&[], &[]));
    assert_eq!(remote(&running).diff(b"x"), CommandOutput { text: "no changes\n".into(), code: DONE });
    answers(&running, valid(&["route a: new"], &["server.threads"]));
    let output = remote(&running).diff(b"x");
    assert_eq!(output.code, CHANGES);
    assert!(output.text.starts_with("route a: new\nserver.threads: fixed"), "{}", output.text);
    answers(&running, ReloadReply::Rejected { problems: vec![] });
    assert_eq!(Remote { json: true, ..remote(&running) }.diff(b"x").code, PROBLEMS);
    assert_eq!(running.fake.asked.lock().unwrap().len(), 3);
}

#[test]
fn an_unreachable_or_refusing_server_gives_exit_status_1() {
    let running = Running::start(Some("secret"));
    let output = remote(&running).status();
    assert_eq!(output.code, FAILED);
    assert!(output.text.contains("401") && output.text.contains("a bearer token is needed"), "{}", output.text);
    let token = Some("secret".to_owned());
    assert_eq!(Remote { token, ..remote(&running) }.status().code, DONE);
    let url = format!("http://{}", running.address);
    drop(running);
    for url in [url, "https://a:1".into(), "nonsense url".into()] {
        assert_eq!(Remote { url, ..Remote::default() }.status().code, FAILED);
    }
}

#[test]
fn an_upgrade_gives_exit_status_0_only_if_the_new_process_serves() {
    let running = Running::start(None);
    let output = remote(&running).upgrade(None);
    assert_eq!(output, CommandOutput { text: "upgraded: weir 10.0.0, pid 8\n".into(), code: DONE });
    let output = remote(&running).upgrade(Some(Duration::from_secs(2)));
    let text = "  line one\nfailed, and nothing has changed: it ended\n".to_owned();
    assert_eq!(output, CommandOutput { text, code: FAILED });
    let output = remote(&running).upgrade(Some(Duration::ZERO));
    assert!(output.code == FAILED && output.text.contains("409: 8 old processes still drain"), "{}", output.text);
    let asked = running.fake.asked.lock().unwrap();
    assert_eq!(*asked, ["upgrade None", "upgrade Some(2s)", "upgrade Some(0ns)"]);
}
