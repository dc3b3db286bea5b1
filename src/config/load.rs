//! From a file, or its text, to a document that is right: the one way in for check, run, diff and reload.
//!
//! `parse` is the pure core: environment and files come in as functions. What it hands out, `ValidatedConfig`, cannot be made
//! elsewhere, so whoever has one relies on all that is judged here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::check;
use super::deserialize;
use super::disk::{self, Disk};
use super::file_watch::{self, FileStamp, Watch};
use super::files::{self, FileContext, LoadedFiles};
use super::io_error::{self, mark_after, whole};
use super::node::{DocumentPath, Position};
use super::problem::{Problem, Problems};
use super::schema::Document;
use super::secret_files;
use super::state_dir::{self, StateDirResult};
use super::stdin;
use super::yaml;

/// A document without problems, and the files that it names.
#[derive(Debug, Clone)]
pub struct ValidatedConfig {
    path: PathBuf,
    document: Document,
    files: LoadedFiles,
    /// Where each listener's address stands.
    listeners: Vec<Position>,
    /// Where `access_log.path` stands.
    access_log: Position,
    /// What the file system said of its files when they were read, by their whole paths.
    seen: BTreeMap<PathBuf, FileStamp>,
}

impl ValidatedConfig {
    /// The document.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// What was in a file that the document names; `path` as it stands in the document.
    pub fn file(&self, path: &Path) -> Option<&[u8]> {
        self.files.held.get(path).map(Vec::as_slice)
    }

    /// The key files and folders that `make_files` made, which belong to the user that made them.
    pub fn made(&self) -> &[PathBuf] {
        &self.files.made
    }

    /// Makes the key files and the folder of `server.state_dir` that are not there yet. To be called when nothing else
    /// can keep the configuration from being put in force, so that a refused one leaves no trace.
    ///
    /// # Errors
    /// One of them cannot be made.
    pub fn make_files(mut self) -> Result<Self, Vec<Problem>> {
        let disk = Disk::default();
        for missing in std::mem::take(&mut self.files.missing) {
            if let Err((what, hint)) = self.files.make(&missing, &disk) {
                return Err(vec![self.problem_at(missing.mark, &missing.place, what, hint)]);
            }
        }
        Ok(self)
    }

    /// The admin's bearer token: the first line of `admin.token_file`.
    pub fn admin_token(&self) -> Option<&str> {
        files::token(self.file(files::token_file(&self.document)?)?)
    }

    /// A problem that shows only when the document is put in force: with the address of that listener.
    pub fn listener_problem(&self, index: usize, what: String, hint: &str) -> Problem {
        let mark = self.listeners.get(index).copied().unwrap_or(Position::START);
        self.problem_at(mark, &format!("listeners[{index}].address"), what, hint)
    }

    /// The same with `access_log.path`.
    pub fn access_log_problem(&self, what: String, hint: &str) -> Problem {
        self.problem_at(self.access_log, "access_log.path", what, hint)
    }

    /// The same with another key; it has no place of its own.
    pub fn problem(&self, path: &str, what: String, hint: &str) -> Problem {
        self.problem_at(Position::START, path, what, hint)
    }

    fn problem_at(&self, mark: Position, path: &str, what: String, hint: &str) -> Problem {
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

    pub(super) fn files(&self) -> &LoadedFiles {
        &self.files
    }

    pub(super) fn with_files(&self, files: LoadedFiles) -> Self {
        Self { files, ..self.clone() }
    }

    /// The configuration file, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads a configuration file and every file it names. The problems are sorted by their place.
pub fn load(path: &Path) -> Result<ValidatedConfig, Vec<Problem>> {
    let disk = Disk::default();
    from_disk(path, &read_text_by(&disk, path)?, &disk)
}

/// What is in a configuration file.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, Vec<Problem>> {
    read_text_by(&Disk::default(), path)
}

fn read_text_by(disk: &Disk, path: &Path) -> Result<String, Vec<Problem>> {
    let max_bytes = yaml::MAX_DOCUMENT_BYTES as u64;
    let read = if path == Path::new("-") { stdin::read(max_bytes) } else { disk.read_main(path, max_bytes) };
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) => {
            return Err(whole(path, Position::START, format!("cannot be read: {}", io_error::reason(&error))));
        }
    };
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        whole(path, mark_after(valid), "not UTF-8".into())
    })
}

/// Reads a configuration's text as if it stood in the file `name`: with this process's variables, and the files on the disk.
pub fn parse_in_place(name: &Path, text: &str) -> Result<ValidatedConfig, Vec<Problem>> {
    from_disk(name, text, &Disk::default())
}

fn from_disk(name: &Path, text: &str, disk: &Disk) -> Result<ValidatedConfig, Vec<Problem>> {
    let seen = RefCell::new(BTreeMap::new());
    let read = |path: &Path| {
        let whole = path.to_owned();
        let (stamp, bytes) =
            disk.run(path, move || (file_watch::stamp_to_go_by(&whole), disk::read_regular(&whole)))?;
        seen.borrow_mut().extend(stamp.map(|stamp| (path.to_owned(), stamp)));
        bytes
    };
    let key = |path: &Path| {
        let whole = path.to_owned();
        disk.run(path, move || secret_files::read(&whole)).unwrap_or_else(|error| secret_files::from(Err(error)))
    };
    let state = |path: &Path| {
        let whole = path.to_owned();
        disk.run(path, move || state_dir::inspect(&whole)).unwrap_or_else(|error| state_dir::unfit(&error))
    };
    let source = FileContext { read: &read, key: &key, state: &state };
    let checked = parse_with(name, text, &|name| std::env::var(name).ok(), source)?;
    Ok(ValidatedConfig { seen: seen.take(), ..checked })
}

/// Reads a configuration's text. `name` is what problems call it, and its folder is what the files it names are
/// relative to; they are had through `read`, variables through `env`.
pub fn parse(
    name: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<ValidatedConfig, Vec<Problem>> {
    let key = |path: &Path| secret_files::from(read(path));
    let state = |path: &Path| match read(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => state_dir::unfit(&error),
        _ => StateDirResult::There,
    };
    parse_with(name, text, env, FileContext { read, key: &key, state: &state })
}

fn parse_with(
    name: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    source: FileContext<'_>,
) -> Result<ValidatedConfig, Vec<Problem>> {
    let mut problems = Problems::new(name);
    if text.len() > yaml::MAX_DOCUMENT_BYTES {
        return Err(whole(name, Position::START, "longer than 8 MiB".into()));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut files = LoadedFiles::default();
    let (mut listeners, mut access_log) = (Vec::new(), Position::START);
    let mut document = None;
    if let Some(mut tree) = yaml::read(text, env, &mut problems) {
        document = deserialize::document(&mut tree, &mut problems);
        if let Some(document) = &document {
            check::run(document, &tree, &mut problems);
            let address = |index| DocumentPath::of("listeners").index(index).key("address");
            listeners = (0..document.listeners.len()).map(|index| tree.find(&address(index)).mark).collect();
            access_log = tree.find(&DocumentPath::of("access_log").key("path")).mark;
            let folder = name.parent().unwrap_or(Path::new(""));
            files = files::read(document, &tree, folder, source, env, &mut problems);
        }
    }
    match document {
        Some(document) if problems.is_empty() => {
            Ok(ValidatedConfig { path: name.to_owned(), document, files, listeners, access_log, seen: BTreeMap::new() })
        }
        _ => Err(problems.sorted()),
    }
}
