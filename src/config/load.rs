//! From a file, or its text, to a document that is right: the one way in for check, run, diff and reload.
//!
//! `parse` is the pure core: environment and files come in as functions. What it hands out, `Checked`, cannot be made
//! elsewhere, so whoever has one relies on all that is judged here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::check;
use super::files::{self, Files, Source};
use super::keys::{self, Had, Keys};
use super::locate;
use super::problem::{Problem, Problems};
use super::schema::Document;
use super::state_dir::{self, State};
use super::tree::{Mark, Place};
use super::typed;
use super::watch::{self, Stamp, Watch};

/// The longest file that a configuration may name, in bytes.
const LONGEST_NAMED: u64 = 4 << 20;

/// A document without problems, and the files that it names.
#[derive(Debug, Clone)]
pub struct Checked {
    path: PathBuf,
    document: Document,
    files: Files,
    /// Where each listener's address stands.
    listeners: Vec<Mark>,
    /// Where `access_log.path` stands.
    access_log: Mark,
    /// What the file system said of its files when they were read, by their whole paths.
    seen: BTreeMap<PathBuf, Stamp>,
}

impl Checked {
    /// The document.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// What was in a file that the document names; `path` as it stands in the document.
    pub fn file(&self, path: &Path) -> Option<&[u8]> {
        self.files.held.get(path).map(Vec::as_slice)
    }

    /// The key files and folders that were made on the way here, which belong to who made them.
    pub fn made(&self) -> &[PathBuf] {
        &self.files.made
    }

    /// The admin's bearer token: the first line of `admin.token_file`.
    pub fn admin_token(&self) -> Option<&str> {
        files::token(self.file(files::token_file(&self.document)?)?)
    }

    /// A problem that shows only when the document is put in force: with the address of that listener.
    pub fn listener_problem(&self, index: usize, what: String, hint: &str) -> Problem {
        let mark = self.listeners.get(index).copied().unwrap_or(Mark::START);
        self.problem_at(mark, &format!("listeners[{index}].address"), what, hint)
    }

    /// The same with `access_log.path`.
    pub fn access_log_problem(&self, what: String, hint: &str) -> Problem {
        self.problem_at(self.access_log, "access_log.path", what, hint)
    }

    /// The same with another key; it has no place of its own.
    pub fn problem(&self, path: &str, what: String, hint: &str) -> Problem {
        self.problem_at(Mark::START, path, what, hint)
    }

    fn problem_at(&self, mark: Mark, path: &str, what: String, hint: &str) -> Problem {
        let (file, path, hint) = (self.path.clone(), path.to_owned(), hint.to_owned());
        Problem { file, line: mark.line, column: mark.column, path, what, hint }
    }

    /// What looks after its files from when they were read on.
    pub fn watch(&self) -> Watch {
        Watch::since(self.seen.clone())
    }

    /// Those of its files, the configuration itself among them, that this process may not read as who it is now.
    pub fn forbidden(&self) -> Vec<PathBuf> {
        // A pipe would have it wait for somebody who writes.
        let open = |path: &Path| File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let forbidden = |path: &PathBuf| open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        let named = self.files.held.keys().map(|path| self.folder().join(path));
        std::iter::once(self.path.clone()).chain(named).filter(forbidden).collect()
    }

    /// The folder that the files it names are relative to.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    pub(super) fn with_files(&self, files: Files) -> Self {
        Self { files, ..self.clone() }
    }

    /// The configuration file, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads a configuration file and every file it names. The problems are sorted by their place.
pub fn load(path: &Path) -> Result<Checked, Vec<Problem>> {
    load_with(path, Keys::Read)
}

/// The same for a configuration that is about to be put in force: key files that are not there are made.
pub fn load_to_run(path: &Path) -> Result<Checked, Vec<Problem>> {
    load_with(path, Keys::Make)
}

fn load_with(path: &Path, keys: Keys) -> Result<Checked, Vec<Problem>> {
    from_disk(path, &read_text(path)?, keys)
}

/// What is in a configuration file.
pub(super) fn read_text(path: &Path) -> Result<String, Vec<Problem>> {
    let bytes = match read_bounded(path, locate::LONGEST as u64) {
        Ok(bytes) => bytes,
        Err(error) => return Err(whole(path, Mark::START, format!("cannot be read: {}", files::reason(&error)))),
    };
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        whole(path, mark_after(valid), "not UTF-8".into())
    })
}

/// Reads a configuration's text as if it stood in the file `name`: with this process's variables, and the files on the disk.
pub fn parse_in_place(name: &Path, text: &str) -> Result<Checked, Vec<Problem>> {
    from_disk(name, text, Keys::Read)
}

fn from_disk(name: &Path, text: &str, keys: Keys) -> Result<Checked, Vec<Problem>> {
    let make: Option<&dyn Fn(&Path) -> Had> = if keys == Keys::Make { Some(&keys::make) } else { None };
    let seen = RefCell::new(BTreeMap::new());
    let read = |path: &Path| {
        seen.borrow_mut().extend(watch::stamp_to_go_by(path).map(|stamp| (path.to_owned(), stamp)));
        read_named(path)
    };
    let source = Source { read: &read, key: &keys::read, make, state: &state_dir::look };
    let checked = parse_with(name, text, &|name| std::env::var(name).ok(), source)?;
    Ok(Checked { seen: seen.take(), ..checked })
}

/// Reads a configuration's text. `name` is what problems call it, and its folder is what the files it names are
/// relative to; they are had through `read`, variables through `env`.
pub fn parse(
    name: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Checked, Vec<Problem>> {
    let key = |path: &Path| keys::from(read(path));
    let state = |path: &Path| match read(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => state_dir::unfit(&error),
        _ => State::There,
    };
    parse_with(name, text, env, Source { read, key: &key, make: None, state: &state })
}

fn parse_with(
    name: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    source: Source<'_>,
) -> Result<Checked, Vec<Problem>> {
    let mut problems = Problems::new(name);
    if text.len() > locate::LONGEST {
        return Err(whole(name, Mark::START, "longer than 8 MiB".into()));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut files = Files::default();
    let (mut listeners, mut access_log) = (Vec::new(), Mark::START);
    let mut document = None;
    if let Some(mut tree) = locate::read(text, env, &mut problems) {
        document = typed::document(&mut tree, &mut problems);
        if let Some(document) = &document {
            check::run(document, &tree, &mut problems);
            let address = |index| Place::of("listeners").index(index).key("address");
            listeners = (0..document.listeners.len()).map(|index| tree.find(&address(index)).mark).collect();
            access_log = tree.find(&Place::of("access_log").key("path")).mark;
            let folder = name.parent().unwrap_or(Path::new(""));
            files = files::read(document, &tree, folder, source, env, &mut problems);
        }
    }
    match document {
        Some(document) if problems.is_empty() => {
            Ok(Checked { path: name.to_owned(), document, files, listeners, access_log, seen: BTreeMap::new() })
        }
        _ => Err(problems.sorted()),
    }
}

/// Reads a file that a configuration names: a regular file of bounded length.
pub fn read_named(path: &Path) -> io::Result<Vec<u8>> {
    read_bounded(path, LONGEST_NAMED)
}

fn read_bounded(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    let mut bytes = Vec::new();
    let read = file.take(longest + 1).read_to_end(&mut bytes)?;
    if read as u64 > longest { Err(io::Error::other("it is too long")) } else { Ok(bytes) }
}

pub(super) fn whole(path: &Path, mark: Mark, what: String) -> Vec<Problem> {
    let mut problems = Problems::new(path);
    problems.add(mark, "", what, "");
    problems.sorted()
}

pub(super) fn mark_after(text: &[u8]) -> Mark {
    let text = String::from_utf8_lossy(text);
    let line = text.matches('\n').count() + 1;
    Mark { line, column: text.rsplit('\n').next().unwrap_or_default().chars().count() + 1 }
}
