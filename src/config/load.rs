//! Loads and validates a configuration. `check`, `run`, `diff` and a reload all use this code.
//!
//! `parse` does no I/O itself: environment and files are passed as functions. Only this module can create a
//! `ValidatedConfig`, so its holder can rely on all checks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check;
use super::defaults;
use super::deserialize;
use super::disk::{self, Disk};
use super::file_watch::{self, FileStamp, Watch};
use super::files::{self, FileContext, LoadedFiles};
use super::in_memory;
use super::io_error::{self, mark_after, whole};
use super::node::Position;
use super::positions::Positions;
use super::problem::{Problem, Problems};
use super::schema::Document;
use super::secret_files;
use super::state_dir::{self, StateDirResult};
use super::stdin;
use super::yaml;
use crate::severity::Severity;

/// A document without problems, and the files that it names.
#[derive(Debug, Clone)]
pub struct ValidatedConfig {
    path: PathBuf,
    document: Document,
    files: LoadedFiles,
    /// The positions of keys that can have problems after the file was parsed.
    positions: Arc<Positions>,
    /// The warnings about the document.
    warnings: Vec<Problem>,
    /// The stamps of the files when they were read, by path.
    seen: BTreeMap<PathBuf, FileStamp>,
}

impl ValidatedConfig {
    /// The document.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The content of a file that the document names; `path` as written in the document.
    pub fn file(&self, path: &Path) -> Option<&[u8]> {
        self.files.held.get(path).map(Vec::as_slice)
    }

    /// The key files and folders that `make_files` created. They belong to the user that created them.
    pub fn made(&self) -> &[PathBuf] {
        &self.files.made
    }

    /// Creates the missing key files and the folder of `server.state_dir`. Call it when no other step can fail, so that
    /// a rejected configuration leaves no trace.
    ///
    /// # Errors
    /// One of them cannot be created.
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

    /// The warnings about the document. They do not depend on this host.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// A problem with a listener's address that is found only when the document is applied.
    pub fn listener_problem(&self, index: usize, what: String, hint: &str) -> Problem {
        self.problem(&format!("listeners[{index}].address"), what, hint)
    }

    /// A problem that is found only when the document is applied. Its position is that of the key, or the start of the
    /// file.
    pub fn problem(&self, path: &str, what: String, hint: &str) -> Problem {
        self.problem_at(self.positions.of(path), path, what, hint)
    }

    /// The same for a fact about this host.
    pub fn host_problem(&self, path: &str, what: String, hint: &str) -> Problem {
        self.problem(path, what, hint).of_this_host()
    }

    /// The key files and the folder that `make_files` would create, with the path of their key.
    pub fn files_to_make(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.files.missing.iter().map(|missing| (missing.place.as_str(), missing.path()))
    }

    /// Pretends that the missing key files exist, to compile the document without creating them.
    pub fn with_placeholder_keys(mut self) -> Self {
        for missing in std::mem::take(&mut self.files.missing) {
            self.files.pretend(&missing);
        }
        self
    }

    fn problem_at(&self, mark: Position, path: &str, what: String, hint: &str) -> Problem {
        let (file, path, hint) = (self.path.clone(), path.to_owned(), hint.to_owned());
        let (line, column, this_host) = (mark.line, mark.column, false);
        Problem { severity: Severity::Error, this_host, file, line, column, path, what, hint }
    }

    /// A watch on its files, from the time when they were read.
    pub fn watch(&self) -> Watch {
        Watch::since(self.seen.clone())
    }

    /// The configuration file and the named files that the current user may not read.
    pub fn forbidden(&self) -> Vec<PathBuf> {
        // Without O_NONBLOCK, opening a FIFO waits for a writer.
        let open = |path: &Path| File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let forbidden = |path: &PathBuf| open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        let named = self.files.held.keys().map(|path| self.folder().join(path));
        std::iter::once(self.path.clone()).chain(named).filter(forbidden).collect()
    }

    /// The base directory of the files that it names.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn files(&self) -> &LoadedFiles {
        &self.files
    }

    pub(super) fn with_files(&self, files: LoadedFiles) -> Self {
        Self { files, ..self.clone() }
    }

    /// The path of the configuration file, as given by the caller.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads a configuration file and every file that it names. The problems are sorted by position.
pub fn load(path: &Path) -> Result<ValidatedConfig, Vec<Problem>> {
    let disk = Disk::default();
    from_disk(path, &read_text_by(&disk, path)?, &disk)
}

/// The findings about a configuration file, and the configuration if it has no error.
#[derive(Debug)]
pub struct Inspection {
    /// Sorted by position. A finding about this host is a warning here, although it rejects the configuration when Weir
    /// applies it.
    pub problems: Vec<Problem>,
    /// The configuration. `None` if it cannot be applied on this host.
    pub config: Option<ValidatedConfig>,
}

/// Reads a configuration file for `weir check`, which may run as another user than Weir.
pub fn inspect(path: &Path) -> Inspection {
    match load(path) {
        Ok(config) => Inspection { problems: config.warnings.clone(), config: Some(config) },
        Err(mut problems) => {
            if problems.iter().all(|problem| problem.this_host) {
                problems = problems.into_iter().map(Problem::into_warning).collect();
            }
            Inspection { problems, config: None }
        }
    }
}

/// The text of a configuration file.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, Vec<Problem>> {
    read_text_by(&Disk::default(), path)
}

fn read_text_by(disk: &Disk, path: &Path) -> Result<String, Vec<Problem>> {
    if let Some(problems) = in_memory::nothing_to_read(path) {
        return Err(problems);
    }
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
        let is_utf16 = error.as_bytes().starts_with(&[0xff, 0xfe]) || error.as_bytes().starts_with(&[0xfe, 0xff]);
        let what = if is_utf16 { "UTF-16, not UTF-8" } else { "not UTF-8" };
        let mut problems = Problems::new(path);
        problems.add(mark_after(valid), "", what, "Save the file as UTF-8");
        problems.sorted()
    })
}

/// Parses a configuration text as if it were the content of the file `name`. Uses this process's environment and the
/// files on disk.
pub fn parse_in_place(name: &Path, text: &str) -> Result<ValidatedConfig, Vec<Problem>> {
    from_disk(name, text, &Disk::default())
}

/// Parses a generated text, which no file has. It names files relative to the working directory.
///
/// # Errors
/// The problems of the text.
pub fn load_in_memory(text: &str) -> Result<ValidatedConfig, Vec<Problem>> {
    parse_in_place(Path::new(in_memory::IN_MEMORY), text)
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

/// Parses and validates a configuration text. Problems use `name` as the file name; named files are relative to its
/// folder. Files are read through `read`, variables through `env`.
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
    let (mut positions, mut warnings) = (Positions::default(), Vec::new());
    let mut document = None;
    if let Some(mut tree) = yaml::read(text, env, &mut problems) {
        defaults::apply(&mut tree, &mut problems);
        document = deserialize::document(&mut tree, &mut problems);
        if let Some(document) = &document {
            check::run(document, &tree, &mut problems);
            positions = Positions::of_document(document, &tree);
            let folder = name.parent().unwrap_or(Path::new(""));
            files = files::read(document, &tree, folder, source, env, &mut problems);
            if problems.is_empty() {
                warnings = check::warnings(document, &tree, name);
            }
        }
    }
    match document {
        Some(document) if problems.is_empty() => {
            let (path, positions, seen) = (name.to_owned(), Arc::new(positions), BTreeMap::new());
            Ok(ValidatedConfig { path, document, files, positions, warnings, seen })
        }
        _ => Err(problems.sorted()),
    }
}
