//! The README is right: the tour works when it is pasted at once and prints what the page shows, the table has marks only,
//! and the figures are those of the measurements.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{eventually, spare};

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The section under this heading.
fn section(text: &str, heading: &str) -> String {
    let rest = text.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap().to_owned()
}

/// The blocks of this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Pastes these lines into a shell that has the program where `make run` builds it. Returns all output.
fn paste(lines: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("target/trial");
    std::fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_weir"), programs.join("weir")).unwrap();
    let output = std::fs::File::create(folder.path().join("output")).unwrap();
    let mut bash = Command::new("bash")
        .current_dir(folder.path())
        .env_remove("WEIR_CONFIG")
        .env_remove("WEIR_ADMIN")
        .stdin(Stdio::piped())
        .stderr(output.try_clone().unwrap())
        .stdout(output)
        // A group of its own, so that nothing of it outlives a failed test.
        .process_group(0)
        .spawn()
        .unwrap();
    bash.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let group = nix::unistd::Pid::from_raw(i32::try_from(bash.id()).unwrap());
    let said = || std::fs::read_to_string(folder.path().join("output")).unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the end of the tour", || bash.try_wait().unwrap());
    }));
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    assert!(ended.is_ok(), "{}", said());
    said()
}

/// The tour with ports that are free.
fn with_spare_ports(tour: &str) -> String {
    let ports = ["8080", "9180", "3001", "3002", "3003"];
    let marked = ports.iter().fold(tour.to_owned(), |text, port| text.replace(port, &format!("<{port}>")));
    ports.iter().fold(marked, |text, port| text.replace(&format!("<{port}>"), &spare().port().to_string()))
}

/// A line without what differs from run to run: numbers, the width of columns, and the order of `a b c`.
fn constant(line: &str) -> String {
    let mut words: Vec<_> = line.split_whitespace().collect();
    if words.iter().all(|word| word.len() == 1) {
        words.sort_unstable();
        words.dedup();
    }
    let mut text = String::new();
    for c in words.join(" ").chars() {
        match c {
            '0'..='9' if text.ends_with('0') => {}
            '0'..='9' => text.push('0'),
            c => text.push(c),
        }
    }
    text
}

/// The names of the fields of a JSON text, in order.
fn fields(json: &str) -> Vec<String> {
    let names = json.split("\":").map(|part| part.rsplit('"').next().unwrap().to_owned());
    names.collect::<Vec<_>>().split_last().unwrap().1.to_vec()
}

#[test]
fn the_tour_works_when_it_is_pasted_at_once_and_prints_what_the_readme_shows() {
    let tour = section(&page("README.md"), "Tour");
    let said = paste(&with_spare_ports(&blocks(&tour, "sh").concat()));
    let printed: BTreeSet<_> = said.lines().map(constant).collect();
    for line in blocks(&tour, "text").iter().flat_map(|block| block.lines()) {
        assert!(printed.contains(&constant(line)), "not printed: {line}\n{said}");
    }
    assert!(said.contains("exit status 0") && !said.contains("No such file"), "{said}");
    let sample = blocks(&tour, "json").remove(0);
    let line = said.lines().find(|line| line.starts_with("{\"time\"")).expect("a line of the access log");
    assert_eq!(fields(&sample), fields(line), "{line}");
    assert!(
        sample.replace('\n', "").contains("\"outcome\":\"connect_error\",\"reason\":\"connect\",\"error\":\"refused\"")
    );
}

#[test]
fn the_readme_shows_the_commands_and_the_answers_of_the_demo() {
    let start = section(&page("README.md"), "Start");
    let commands = blocks(&start, "sh").concat();
    let said = with_demo(|web| paste(&commands.replace("127.0.0.1:8080", web)));
    assert_eq!(said.replace("}{", "}\n{").trim(), blocks(&start, "text").concat().trim());
}

/// Does this while a demo runs, with the address of its proxy.
fn with_demo(act: impl FnOnce(&str) -> String) -> String {
    use crate::support::child::Process;
    let (web, admin) = (spare().to_string(), spare().to_string());
    let demo = Process::start(&["demo", "--listen", &web, "--admin", &admin], Stdio::null(), Stdio::null());
    eventually("the demo", || std::net::TcpStream::connect(&web).is_ok());
    let said = act(&web);
    demo.signal(libc::SIGINT);
    said
}

#[test]
fn the_comparison_of_the_readme_has_only_marks_and_a_source_for_each_row() {
    let rows: Vec<Vec<String>> = section(&page("README.md"), "Beside others")
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| |"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    let sources = page("docs/comparison.md");
    assert!(rows.len() >= 8, "{rows:?}");
    for row in rows {
        assert!(row.len() == 7 && row[1..].iter().all(|mark| ["yes", "no", "partly"].contains(&&**mark)), "{row:?}");
        let source = sources.lines().find(|line| line.starts_with(&format!("| {} |", row[0])));
        let source = source.unwrap_or_else(|| panic!("no source: {row:?}"));
        assert_eq!(row[1] == "no", source.contains("| none |"), "{source}");
    }
}

#[test]
fn the_reasons_of_the_readme_are_those_that_the_comparison_proves() {
    let readme = page("README.md");
    let reasons: Vec<_> =
        readme.lines().filter(|line| line.contains(". **") && line.starts_with(char::is_numeric)).collect();
    assert_eq!(reasons.len(), 5, "{reasons:?}");
    let proofs = section(&page("docs/comparison.md"), "Reasons");
    for reason in &reasons {
        let name = reason.split("**").nth(1).unwrap().trim_end_matches('.');
        assert!(proofs.contains(&format!("| {name} |")), "{name}");
    }
    let measured = section(&page("docs/performance.md"), "Side by side");
    let get = measured.split("<!-- begin get -->").nth(1).unwrap().split("<!-- end get -->").next().unwrap();
    for (proxy, figure) in
        [("weir-release", "19.9"), ("nginx", "18.2"), ("haproxy", "20.6"), ("bare", "23.3"), ("caddy", "65.6")]
    {
        assert!(get.contains(&format!("| {proxy} | {figure} ±")) && reasons[4].contains(figure), "{proxy}");
    }
}

#[test]
fn the_readme_is_short() {
    let lines = page("README.md").lines().count();
    assert!(lines <= 210, "{lines} lines: move details to docs/");
}
