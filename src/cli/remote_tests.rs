//! Commands against a running process, with an admin address of the test's own.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::admin::test_double::Running;

fn remote(running: &Running) -> Remote {
    Remote { url: format!("http://{}", running.address), ..Remote::default() }
}

fn answers(running: &Running, reply: ReloadReply) {
    *running.fake.reply.lock().unwrap() = reply;
}

fn valid(changes: &[&str], fixed: &[&str]) -> ReloadReply {
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    ReloadReply::Valid { generation: 4, changes: owned(changes), fixed: owned(fixed) }
}

#[test]
fn status_is_a_table_or_json() {
    let running = Running::start(None);
    let said = remote(&running).status();
    assert_eq!(said.code, DONE);
    assert!(said.text.starts_with("weir 9.9.9  pid 7  generation 3  ready\n"), "{}", said.text);
    let said = Remote { json: true, ..remote(&running) }.status();
    assert_eq!(serde_json::from_str::<StatusReply>(&said.text).unwrap().pid, 7);
}

#[test]
fn a_reload_exits_by_its_result() {
    let running = Running::start(None);
    let what = "no such upstream".to_owned();
    answers(&running, ReloadReply::Rejected { problems: vec![ProblemReply { what, ..ProblemReply::default() }] });
    let said = remote(&running).reload();
    assert_eq!((said.code, said.text.lines().next()), (PROBLEMS, Some("no such upstream")));
    answers(&running, ReloadReply::Applied { generation: 5, changes: vec!["upstream api: + c".into()], fixed: vec![] });
    let said = remote(&running).reload();
    assert_eq!(said, CommandOutput { text: "upstream api: + c\napplied: generation 5\n".into(), code: DONE });
}

#[test]
fn a_diff_exits_by_what_it_finds() {
    let running = Running::start(None);
    answers(&running, valid(&[], &[]));
    assert_eq!(remote(&running).diff(b"x"), CommandOutput { text: "no changes\n".into(), code: DONE });
    answers(&running, valid(&["route a: new"], &["server.threads"]));
    let said = remote(&running).diff(b"x");
    assert_eq!(said.code, CHANGES);
    assert!(said.text.starts_with("route a: new\nserver.threads: fixed"), "{}", said.text);
    answers(&running, ReloadReply::Rejected { problems: vec![] });
    assert_eq!(Remote { json: true, ..remote(&running) }.diff(b"x").code, PROBLEMS);
    assert_eq!(running.fake.asked.lock().unwrap().len(), 3);
}

#[test]
fn what_is_out_of_reach_or_refuses_exits_1() {
    let running = Running::start(Some("secret"));
    let said = remote(&running).status();
    assert_eq!(said.code, FAILED);
    assert!(said.text.contains("401") && said.text.contains("a bearer token is needed"), "{}", said.text);
    let token = Some("secret".to_owned());
    assert_eq!(Remote { token, ..remote(&running) }.status().code, DONE);
    let url = format!("http://{}", running.address);
    drop(running);
    for url in [url, "https://a:1".into(), "nonsense url".into()] {
        assert_eq!(Remote { url, ..Remote::default() }.status().code, FAILED);
    }
}
