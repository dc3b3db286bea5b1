//! Every command of README.md and of the pages in docs/ is run by a test, or stands on a list with the reason why not.
//!
//! A block of commands is fenced as `sh`, `bash`, `shell` or `console`. Each line of it falls into one of these classes:
//!
//! 1. It uses a program of `NOT_RUN`, such as systemctl.
//! 2. Its section is in `RUN_BY`, which names the test that runs the section.
//! 3. Its section is in `SANDBOX`. This test runs it, beside a Weir with three backends.
//! 4. Its section is in `LISTED`, with the reason.
//!
//! A line of no class fails the test. So do commands in prose that `--help` or the Makefile does not know.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Config, Origin, Weir};

/// Programs that this test does not start, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("systemctl", "systemd"),
    ("journalctl", "systemd"),
    ("systemd-analyze", "systemd"),
    ("systemd-sysusers", "systemd"),
    ("systemd-tmpfiles", "systemd"),
    ("sudo", "root"),
    ("install", "root"),
    ("apt", "root"),
    ("apt-get", "root"),
    ("dpkg", "root"),
    ("rpm", "root"),
    ("dnf", "root"),
    ("useradd", "root"),
    ("chown", "root"),
    ("setcap", "root"),
    ("docker", "network, and a container engine"),
    ("podman", "network, and a container engine"),
    ("kubectl", "a cluster"),
    ("certbot", "network"),
    ("git", "network"),
    ("make", "a long build; `make` targets are checked against the Makefile"),
    ("cargo", "a long build"),
];

/// Sections whose commands another test runs: page, heading, function.
const RUN_BY: &[(&str, &str, &str)] = &[
    ("README.md", "Install", "the_commands_of_the_readme_lead_from_a_package_to_a_response"),
    ("README.md", "Start", "the_readme_shows_the_commands_and_the_answers_of_the_demo"),
    ("docs/access.md", "Protect an API with keys", "hash_key_prints_a_line_that_the_file_accepts"),
    ("docs/upgrading.md", "Upgrading", "upgrades_under_load_fail_no_request_and_streams_go_on_in_the_old_process"),
    ("README.md", "Tour", "the_tour_works_when_it_is_pasted_at_once_and_prints_what_the_readme_shows"),
];

/// Sections whose commands this test runs: page, heading.
const SANDBOX: &[(&str, &str)] = &[("docs/operations.md", "Reload"), ("docs/runtime.md", "A rolling drain")];

/// Other sections that no test runs: page, heading, reason.
const LISTED: &[(&str, &str, &str)] = &[];

/// Inline code that begins with `weir` and is no command: lines of the process log.
const NOT_COMMANDS: [&str; 2] = ["weir starts ", "weir itself lacks something"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md and the other pages at the top, grafana/README.md, and all pages below docs/.
fn pages() -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> = vec![root().join("grafana/README.md")];
    let mut folders = vec![root().join("docs")];
    let is_page = |path: &Path| path.extension().is_some_and(|extension| extension == "md");
    let here = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    files.extend(here.filter(|path| is_page(path) && !path.ends_with("CHANGELOG.md")));
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if is_page(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    let name = |path: &PathBuf| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// A block of commands.
struct Block {
    page: String,
    heading: String,
    /// The line of the page on which its first line stands.
    line: usize,
    is_console: bool,
    text: String,
}

fn blocks(page: &str, text: &str) -> Vec<Block> {
    let (mut blocks, mut heading, mut open) = (Vec::new(), String::new(), None::<(String, Block)>);
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(tag)) => {
                let (page, heading) = (page.to_owned(), heading.clone());
                let (tag, is_console) = (tag.trim().to_owned(), tag.trim() == "console");
                open = Some((tag, Block { page, heading, line: index + 2, is_console, text: String::new() }));
            }
            (Some((tag, _)), Some(_)) => {
                let is_shell = ["sh", "bash", "shell", "console"].contains(&tag.as_str());
                blocks.extend(open.take().map(|(_, block)| block).filter(|_| is_shell));
            }
            (Some((_, block)), None) => block.text += &format!("{line}\n"),
            (None, None) if line.starts_with('#') => heading = line.trim_start_matches('#').trim().to_owned(),
            (None, None) => {}
        }
    }
    blocks
}

impl Block {
    /// Its commands with the numbers of their lines. A line that ends with `\\`, and a here-document, belong to one command.
    fn commands(&self) -> Vec<(usize, String)> {
        let (mut commands, mut goes_on, mut until) = (Vec::<(usize, String)>::new(), false, None::<String>);
        for (index, line) in self.text.lines().enumerate() {
            let prompt = line.strip_prefix("$ ").or(line.strip_prefix("# ").filter(|_| self.is_console));
            let is_more = goes_on || until.is_some();
            match commands.last_mut().filter(|_| is_more) {
                Some((_, command)) => *command += &format!("\n{line}"),
                None if self.is_console => commands.extend(prompt.map(|text| (self.line + index, text.to_owned()))),
                None if line.trim().is_empty() || line.trim_start().starts_with('#') => continue,
                None => commands.push((self.line + index, line.trim().to_owned())),
            }
            until = match until {
                Some(end) if line.trim() == end => None,
                Some(end) => Some(end),
                None => line.split_once("<<").map(|(_, end)| end.trim_matches(['-', '\'', '"', ' ']).to_owned()),
            };
            goes_on = line.ends_with('\\');
        }
        commands
    }

    fn is_in(&self, sections: &[(&str, &str)]) -> bool {
        sections.iter().any(|(page, heading)| self.page == *page && self.heading == *heading)
    }
}

/// The first word of each simple command, without assignments and keywords of the shell.
fn programs(command: &str) -> Vec<String> {
    let (mut parts, mut quote) = (vec![String::new()], None);
    for c in command.lines().next().unwrap_or_default().chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            // A comment.
            (None, '#') if parts.last().is_some_and(|part| part.is_empty() || part.ends_with(' ')) => break,
            (None, ';' | '&' | '|' | '(') => parts.push(String::new()),
            _ => parts.last_mut().unwrap().push(c),
        }
    }
    let keywords = ["do", "then", "else", "until", "while", "if", "time", "exec", "env", "!"];
    let program = |part: &String| {
        part.split_whitespace().find(|word| !keywords.contains(word) && !word.contains('=')).map(str::to_owned)
    };
    parts.iter().filter_map(program).collect()
}

fn why_not_run(command: &str) -> Option<&'static str> {
    let programs = programs(command);
    NOT_RUN.iter().find(|(program, _)| programs.iter().any(|used| used == program)).map(|(_, why)| *why)
}

/// The sources of all tests.
fn sources() -> String {
    let files = std::fs::read_dir(root().join("tests/it")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn every_command_of_the_pages_is_run_by_a_test_or_is_listed_with_a_reason() {
    let (mut wrong, mut seen, sources) = (Vec::new(), 0, sources());
    for (page, text) in pages() {
        for block in blocks(&page, &text) {
            let run_by = RUN_BY.iter().find(|(page, heading, _)| block.page == *page && block.heading == *heading);
            if let Some((_, _, test)) = run_by.filter(|(_, _, test)| !sources.contains(&format!("fn {test}()"))) {
                wrong.push(format!("{page}: the section `{}` is run by `{test}`, which does not exist", block.heading));
            }
            let is_listed = LISTED.iter().any(|(page, heading, _)| block.page == *page && block.heading == *heading);
            for (number, command) in block.commands() {
                seen += 1;
                if run_by.is_none() && !is_listed && !block.is_in(SANDBOX) && why_not_run(&command).is_none() {
                    wrong.push(format!("{page}:{number}: in `{}`: {command}", block.heading));
                }
            }
        }
    }
    assert!(
        wrong.is_empty() && seen >= 8,
        "{seen} commands. No test runs these. Add the section to SANDBOX or RUN_BY, or the program to NOT_RUN, of \
         tests/it/doc_commands.rs:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_commands_of_the_sections_in_the_sandbox_succeed() {
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let backends: Vec<_> = ["a", "b", "c"].into_iter().zip(&origins).collect();
    for (page, heading) in SANDBOX {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let blocks = blocks(page, &text);
        let lines = blocks.iter().filter(|block| block.heading == *heading).flat_map(Block::commands);
        let lines: Vec<_> = lines.map(|(_, command)| command).filter(|line| why_not_run(line).is_none()).collect();
        assert!(!lines.is_empty(), "{page}: no command in the section `{heading}`: remove it from SANDBOX");
        let weir = Weir::start(Config::new().route("all", "upstream: api").upstream("api", &backends));
        let script = lines.join("\n").replace("127.0.0.1:8080", &weir.web().to_string());
        let script = script.replace("127.0.0.1:9180", &weir.admin().to_string());
        let script = script.replace("FILE", "weir.yaml").replace("PID", &weir.status()["pid"].to_string());
        let said = run(&weir, &script);
        assert!(said.0, "{page}: `{heading}`:\n{script}\n{}", said.1);
    }
}

/// Runs a script in the folder of this Weir, with a stub of ssh. Returns whether all commands succeeded, and the output.
fn run(weir: &Weir, script: &str) -> (bool, String) {
    let programs = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_weir"), programs.path().join("weir")).unwrap();
    std::fs::write(programs.path().join("ssh"), "#!/bin/sh\nexit 0\n").unwrap();
    crate::support::files::set_mode(&programs.path().join("ssh"), 0o755);
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    let folder = weir.config_file().parent().unwrap().to_owned();
    let mut bash = Command::new("bash");
    bash.args(["-ec", script]).current_dir(folder).env("PATH", path);
    bash.env("WEIR_ADMIN", format!("http://{}", weir.admin())).env("WEIR_CONFIG", "weir.yaml");
    let output = bash.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Inline code of a page, outside of blocks.
fn inline_code(text: &str) -> Vec<String> {
    let outside: String = text.split("```").step_by(2).collect();
    outside.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")).collect()
}

#[test]
fn every_command_in_the_prose_is_known_to_help_or_the_makefile() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let help = |command: &str| crate::support::weir::command(&[command, "--help"]);
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for (page, text) in pages() {
        for code in inline_code(&text) {
            let words: Vec<_> = code.split([' ', '[', ']', '…', '|']).filter(|word| !word.is_empty()).collect();
            let ok = match words.as_slice() {
                _ if NOT_COMMANDS.iter().any(|begin| code.starts_with(begin)) => continue,
                ["weir", flag] if flag.starts_with('-') => true,
                ["weir", command, rest @ ..] if command.bytes().all(|byte| byte.is_ascii_lowercase()) => {
                    let help = help(command);
                    let flags = rest.iter().filter(|word| word.starts_with('-') && word.len() > 1);
                    let flags = flags.map(|flag| flag.split('=').next().unwrap());
                    help.code == Some(0) && flags.into_iter().all(|flag| help.stdout.contains(flag))
                }
                ["make", target, ..] if target.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') => {
                    makefile.lines().any(|line| line.starts_with(&format!("{target}:")))
                }
                _ => continue,
            };
            if !ok {
                wrong.push(format!("{page}: `{code}`"));
            }
            seen.insert(code);
        }
    }
    assert!(wrong.is_empty() && seen.len() > 20, "{} commands; not known:\n{}", seen.len(), wrong.join("\n"));
}

#[test]
fn the_classes_of_commands_see_through_pipes_quotes_and_here_documents() {
    assert_eq!(programs("A=1 weir check && sudo x; echo 'a; systemctl b' | wc &"), ["weir", "sudo", "echo", "wc"]);
    assert_eq!(why_not_run("echo 'systemctl stop' # or; systemctl stop"), None);
    assert_eq!(why_not_run("weir check && systemctl reload weir"), Some("systemd"));
    let page = "# Page\n## Part\n```sh\ncat > a <<'END'\nx: $ 1\nEND\n# a comment\nweir \\\n  check\n```\n```console\n$ weir run\nout\n# install a\n```\n";
    let blocks = blocks("p.md", page);
    let commands: Vec<_> = blocks.iter().flat_map(Block::commands).collect();
    let expected = [(4, "cat > a <<'END'\nx: $ 1\nEND"), (8, "weir \\\n  check"), (12, "weir run"), (14, "install a")];
    assert_eq!(commands, expected.map(|(line, text)| (line, text.to_owned())));
    assert!(blocks.iter().all(|block| block.heading == "Part"));
}
