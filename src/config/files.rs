//! Reads the files that a document names, each once. Missing, unreadable and empty files are problems at their keys.
//! Key files and folders that Weir creates itself (`secret_files`, `state_dir`) may be missing.
//!
//! The content of a file is never printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::auth_files::{AuthFileFormat, auth_files};
use super::authority::PeerRole;
use super::backend_list;
use super::disk::Disk;
use super::error_page_files::{bad_error_page, error_page_files};
use super::io_error::{hint, is_of_host, reason};
use super::list_files::{ListKind, list_files};
use super::network_files::{bad_lines, network_files};
use super::node::{DocumentPath, Node, Position};
use super::pem::{self, BadPair};
use super::pem_blocks;
use super::problem::Problems;
use super::schema::{CertificatePair, ClientAuth, Document, UpstreamSettings};
use super::secret_files::{self, Had};
use super::state_dir::{self, StateDirResult};
use super::yaml::Env;

/// Functions that read the files of a document.
#[derive(Clone, Copy)]
pub(super) struct FileContext<'a> {
    /// Reads a file.
    pub(super) read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    /// Reads a key file.
    pub(super) key: &'a dyn Fn(&Path) -> Had,
    /// Checks the state directory.
    pub(super) state: &'a dyn Fn(&Path) -> StateDirResult,
}

/// The content of the files that a document names.
#[derive(Clone, Default)]
pub(super) struct LoadedFiles {
    /// The content by path as written in the document.
    pub(super) held: BTreeMap<PathBuf, Vec<u8>>,
    /// Key files and the state directory, if they were created; absolute or relative to the working directory.
    pub(super) made: Vec<PathBuf>,
    /// Files and folders to create before the document becomes active.
    pub(super) missing: Vec<Missing>,
}

impl fmt::Debug for LoadedFiles {
    /// Without the content, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.held.keys();
        f.debug_struct("LoadedFiles").field("paths", &paths).field("missing", &self.missing).finish_non_exhaustive()
    }
}

/// A file or folder that Weir creates itself, and that does not exist yet.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    /// The position and the path of the key that names it.
    pub(super) mark: Position,
    pub(super) place: String,
    /// The path, joined with the folder of the configuration.
    whole: PathBuf,
    /// The path of a key file as written in the document; `None` for the state directory.
    key: Option<PathBuf>,
}

impl Missing {
    fn new(tree: &Node, place: &DocumentPath, whole: PathBuf, key: Option<&Path>) -> Self {
        let found = tree.find(place);
        Self { mark: found.mark, place: found.place.to_string(), whole, key: key.map(Path::to_owned) }
    }

    /// The path, joined with the folder of the configuration.
    pub(super) fn path(&self) -> &Path {
        &self.whole
    }
}

impl LoadedFiles {
    /// Pretends that a missing file exists.
    pub(super) fn pretend(&mut self, missing: &Missing) {
        if let Some(path) = &missing.key {
            self.held.insert(path.clone(), vec![0; secret_files::MIN_SECRET_BYTES]);
        }
    }

    /// Creates a missing file or folder.
    ///
    /// # Errors
    /// The problem and its hint.
    pub(super) fn make(&mut self, missing: &Missing, disk: &Disk) -> Result<(), (String, &'static str)> {
        let whole = missing.whole.clone();
        if let Some(path) = &missing.key {
            let made = disk.run(&missing.whole, move || secret_files::make(&whole));
            match made.unwrap_or_else(|error| secret_files::from(Err(error))) {
                Had::Key(key) => drop(self.held.insert(path.clone(), key)),
                Had::Missing => return Err(("was made and is gone again".into(), "")),
                Had::Forbidden(what, hint) | Had::Unfit(what, hint) => return Err((what, hint)),
            }
        } else {
            let made = disk.run(&missing.whole, move || state_dir::make(&whole));
            if let StateDirResult::Unfit(what, hint) = made.unwrap_or_else(|error| state_dir::unfit(&error)) {
                return Err((what, hint));
            }
        }
        self.made.push(missing.whole.clone());
        Ok(())
    }
}

/// Reads every file that the document names. Paths are relative to `folder`.
pub(super) fn read(
    document: &Document,
    tree: &Node,
    folder: &Path,
    source: FileContext<'_>,
    env: Env<'_>,
    problems: &mut Problems,
) -> LoadedFiles {
    let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let mut broken = BTreeSet::new();
    for (place, path, judge) in named(document) {
        if broken.contains(path) {
            continue;
        }
        if !files.contains_key(path) {
            match (source.read)(&folder.join(path)) {
                Ok(bytes) if judge.is_pem() && broken_blocks(&folder.join(path), &bytes, &place, problems) => {
                    broken.insert(path);
                    continue;
                }
                Ok(bytes) => drop(files.insert(path.to_owned(), bytes)),
                Err(error) => {
                    let relative = || {
                        format!(
                            "It was looked for as {}: a path is relative to the folder of this file",
                            folder.join(path).display()
                        )
                    };
                    let absolute = "Check the path".to_owned();
                    let usual = || if path.is_absolute() { absolute } else { relative() };
                    let hint = hint(&error).map_or_else(usual, str::to_owned);
                    let say = if is_of_host(&error) { say_of_host } else { say };
                    say(tree, &place, problems, format!("cannot be read: {}", reason(&error)), &hint);
                    continue;
                }
            }
        }
        match (files.get(path), judge) {
            (Some(bytes), Judge::Here(judge) | Judge::Pem(judge)) => {
                if let Some((what, hint)) = judge(bytes) {
                    say(tree, &place, problems, what, hint);
                }
            }
            // Its problems carry positions in the list file.
            (Some(bytes), Judge::List(upstream)) => {
                let read = backend_list::read(&folder.join(path), bytes, upstream, env);
                problems.extend(read.err().unwrap_or_default());
            }
            (Some(bytes), Judge::Networks { is_allow }) => {
                let mut of_file = Problems::new(&folder.join(path));
                for (line, what) in bad_lines(bytes, is_allow) {
                    of_file.add(Position { line, column: 1 }, &place, what, "Write one network per line");
                }
                problems.extend(of_file.sorted());
            }
            (Some(bytes), Judge::Credentials(format)) => {
                let mut of_file = Problems::new(&folder.join(path));
                for bad in format.bad_lines(bytes) {
                    of_file.add(Position { line: bad.line, column: 1 }, &place, bad.what, bad.hint);
                }
                problems.extend(of_file.sorted());
            }
            (Some(bytes), Judge::ErrorPage) => {
                if let Some(bad) = bad_error_page(path, bytes) {
                    let mut of_file = Problems::new(&folder.join(path));
                    of_file.add(Position { line: bad.line, column: 1 }, &place, bad.what, bad.hint);
                    problems.extend(of_file.sorted());
                }
            }
            (Some(bytes), Judge::Lines(kind)) => {
                kind.report(&folder.join(path), bytes, &tree.find(&place).place.to_string(), problems);
            }
            (Some(_), Judge::Together) | (None, _) => {}
        }
    }
    belong_together(document, tree, &files, problems);
    let mut files = LoadedFiles { held: files, ..LoadedFiles::default() };
    key_files(document, tree, folder, source, problems, &mut files);
    files
}

/// Reads the key files, and records those that are missing.
fn key_files(
    document: &Document,
    tree: &Node,
    folder: &Path,
    source: FileContext<'_>,
    problems: &mut Problems,
    files: &mut LoadedFiles,
) {
    let named = document.upstreams.iter().filter_map(|(name, upstream)| Some((name, upstream.sticky.as_ref()?)));
    for (name, sticky) in named {
        let place = DocumentPath::of("upstreams").key(name.as_str()).key("sticky").key("key_file");
        match (source.key)(&folder.join(&sticky.key_file)) {
            Had::Key(key) => drop(files.held.insert(sticky.key_file.clone(), key)),
            Had::Missing => {
                let path = &sticky.key_file;
                files.missing.push(Missing::new(tree, &place, folder.join(path), Some(path)));
            }
            Had::Forbidden(what, hint) => say_of_host(tree, &place, problems, what, hint),
            Had::Unfit(what, hint) => say(tree, &place, problems, what, hint),
        }
    }
    if let Some(path) = state(document, tree, folder, source, problems) {
        files.missing.insert(0, Missing::new(tree, &state_place(), path, None));
    }
}

/// Checks `server.state_dir`. Returns its path if it must be created.
fn state(
    document: &Document,
    tree: &Node,
    folder: &Path,
    source: FileContext<'_>,
    problems: &mut Problems,
) -> Option<PathBuf> {
    let path = folder.join(document.server.state_dir.as_deref().filter(|path| *path != Path::new(""))?);
    match (source.state)(&path) {
        StateDirResult::There => None,
        StateDirResult::Missing => Some(path),
        StateDirResult::Unfit(what, hint) => {
            say_of_host(tree, &state_place(), problems, what, hint);
            None
        }
    }
}

fn state_place() -> DocumentPath {
    DocumentPath::of("server").key("state_dir")
}

/// How the content of a file is checked.
enum Judge<'a> {
    /// The function returns the problem and its hint. Both are reported at the key that names the file.
    Here(fn(&[u8]) -> Option<pem::FileFault>),
    /// As `Here`, for a PEM file. Broken markers are reported at their line of the file.
    Pem(fn(&[u8]) -> Option<pem::FileFault>),
    /// A file with one network per line.
    Networks { is_allow: bool },
    /// A file of users or of API keys.
    Credentials(AuthFileFormat),
    /// A page of `errors`.
    ErrorPage,
    /// A file whose problems are reported at their lines.
    Lines(ListKind),
    /// A PEM file that is checked together with a second file.
    Together,
    /// A list of backends for this upstream.
    List(&'a UpstreamSettings),
}

/// `admin.token_file`.
pub(super) fn token_file(document: &Document) -> Option<&Path> {
    document.admin.settings()?.token_file.as_deref()
}

impl Judge<'_> {
    fn is_pem(&self) -> bool {
        matches!(self, Self::Pem(_) | Self::Together)
    }
}

fn named(document: &Document) -> Vec<(DocumentPath, &Path, Judge<'_>)> {
    let mut named: Vec<(DocumentPath, &Path, Judge<'_>)> = Vec::new();
    if let Some(path) = token_file(document) {
        named.push((DocumentPath::of("admin").key("token_file"), path, Judge::Here(bad_token)));
    }
    for (at, pair) in pairs(document) {
        let halves = [(at.key("cert"), &*pair.cert), (at.key("key"), &*pair.key)];
        named.extend(halves.map(|(at, path)| (at, path, Judge::Together)));
    }
    for (name, store) in &document.stores {
        let at = DocumentPath::of("stores").key(name.as_str());
        let password = store.password_file.as_deref();
        named.extend(password.map(|path| (at.key("password_file"), path, Judge::Here(bad_password))));
        let ca = store.tls.as_ref().and_then(|tls| tls.ca.as_deref());
        named.extend(ca.map(|ca| (at.key("tls").key("ca"), ca, Judge::Pem(bad_authorities_of_servers))));
    }
    for (index, listener) in document.listeners.iter().enumerate() {
        let at = DocumentPath::of("listeners").index(index).key("tls").key("acme").key("directory_ca");
        let ca = listener.tls.as_ref().and_then(|tls| tls.acme.as_ref()?.directory_ca.as_deref());
        named.extend(ca.map(|ca| (at, ca, Judge::Pem(bad_authorities_of_servers))));
    }
    for (at, auth) in client_auths(document) {
        named.push((at.key("ca"), &auth.ca, Judge::Pem(bad_authorities_of_clients)));
        named.extend(auth.crl.as_deref().map(|crl| (at.key("crl"), crl, Judge::Together)));
    }
    for (index, route) in document.routes.iter().enumerate() {
        let at = DocumentPath::of("routes").index(index).key("respond").key("body_file");
        let file = route.respond.as_ref().and_then(|respond| respond.body_file.as_deref());
        named.extend(file.map(|path| (at, path, Judge::Here(bad_body))));
    }
    for (name, upstream) in &document.upstreams {
        if let Some(path) = upstream.tls.as_ref().and_then(|tls| tls.ca.as_deref()) {
            let place = DocumentPath::of("upstreams").key(name.as_str()).key("tls").key("ca");
            named.push((place, path, Judge::Pem(bad_authorities_of_servers)));
        }
        if let Some(path) = upstream.discover.as_ref().and_then(|source| source.file.as_deref()) {
            let place = DocumentPath::of("upstreams").key(name.as_str()).key("discover").key("file");
            named.push((place, path, Judge::List(upstream)));
        }
    }
    for (name, policy) in &document.auth {
        let at = DocumentPath::of("auth").key(name.as_str()).key("jwt").key("ca");
        let ca = policy.jwt().and_then(|jwt| jwt.ca.as_deref());
        named.extend(ca.map(|ca| (at, ca, Judge::Pem(bad_authorities_of_servers))));
    }
    named.extend(error_page_files(document).into_iter().map(|(place, path)| (place, path, Judge::ErrorPage)));
    let networks = network_files(document).into_iter();
    named.extend(list_files(document).into_iter().map(|file| (file.place, file.path, Judge::Lines(file.kind))));
    named.extend(networks.map(|file| (file.place, file.path, Judge::Networks { is_allow: file.is_allow })));
    let credentials = auth_files(document).into_iter();
    named.extend(credentials.map(|file| (file.place, file.path, Judge::Credentials(file.format))));
    named
}

/// All certificate pairs, with their paths in the document.
fn pairs(document: &Document) -> Vec<(DocumentPath, &CertificatePair)> {
    let mut pairs = Vec::new();
    for (index, listener) in document.listeners.iter().enumerate() {
        let at = DocumentPath::of("listeners").index(index).key("tls").key("certificates");
        let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
        pairs.extend(certificates.enumerate().map(|(index, pair)| (at.index(index), pair)));
    }
    for (name, upstream) in &document.upstreams {
        let at = DocumentPath::of("upstreams").key(name.as_str()).key("tls").key("certificate");
        pairs.extend(upstream.tls.as_ref().and_then(|tls| tls.certificate.as_ref()).map(|pair| (at, pair)));
    }
    for (name, store) in &document.stores {
        let at = DocumentPath::of("stores").key(name.as_str()).key("tls").key("certificate");
        pairs.extend(store.tls.as_ref().and_then(|tls| tls.certificate.as_ref()).map(|pair| (at, pair)));
    }
    pairs
}

fn client_auths(document: &Document) -> Vec<(DocumentPath, &ClientAuth)> {
    let mut auths = Vec::new();
    for (index, listener) in document.listeners.iter().enumerate() {
        let at = DocumentPath::of("listeners").index(index).key("tls").key("client_auth");
        let auth = listener.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
        auths.extend(auth.map(|auth| (at, auth)));
    }
    auths
}

/// Checks that need two files together.
fn belong_together(document: &Document, tree: &Node, files: &BTreeMap<PathBuf, Vec<u8>>, problems: &mut Problems) {
    for (at, pair) in pairs(document) {
        let (Some(cert), Some(key)) = (files.get(&pair.cert), files.get(&pair.key)) else { continue };
        if let Err(bad) = pem::pair(cert, key) {
            let at = if matches!(bad, BadPair::Cert(..)) { at.key("cert") } else { at.key("key") };
            say(tree, &at, problems, bad.to_string(), bad.hint());
        }
    }
    for (at, auth) in client_auths(document) {
        let (Some(ca), Some(crl)) = (files.get(&auth.ca), auth.crl.as_ref().and_then(|crl| files.get(crl))) else {
            continue;
        };
        if pem::authorities(ca, PeerRole::Client).is_ok()
            && let Err((what, hint)) = pem::client_verifier(auth.mode, ca, Some(crl))
        {
            say(tree, &at.key("crl"), problems, what, hint);
        }
    }
}

/// The token in a token file.
pub(super) fn token(bytes: &[u8]) -> Option<&str> {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    std::str::from_utf8(line).ok().map(str::trim).filter(|token| !token.is_empty())
}

fn bad_token(bytes: &[u8]) -> Option<pem::FileFault> {
    let visible = |token: &str| token.bytes().all(|b| b.is_ascii_graphic());
    let hint = "Its first line is the token, such as `openssl rand -hex 32` makes";
    match token(bytes) {
        None => Some(("there is no token in this file".into(), hint)),
        Some(token) if !visible(token) => Some(("the token has characters that no header can carry".into(), hint)),
        Some(_) => None,
    }
}

/// An empty file is rather a failed write than a body.
pub(super) fn bad_body(bytes: &[u8]) -> Option<pem::FileFault> {
    bytes.is_empty().then(|| ("is empty".to_owned(), "Leave `body_file` out for a response without a body"))
}

/// The first line is the password, as for `admin.token_file`.
fn bad_password(bytes: &[u8]) -> Option<pem::FileFault> {
    token(bytes)
        .is_none()
        .then(|| ("has no password in its first line".to_owned(), "Write the password into its first line"))
}

fn bad_authorities_of_servers(bytes: &[u8]) -> Option<pem::FileFault> {
    pem::authorities(bytes, PeerRole::Server).err()
}

fn bad_authorities_of_clients(bytes: &[u8]) -> Option<pem::FileFault> {
    pem::authorities(bytes, PeerRole::Client).err()
}

/// Reports each PEM marker without a complete block, at its line of the PEM file. Returns whether there is one.
fn broken_blocks(whole: &Path, bytes: &[u8], place: &DocumentPath, problems: &mut Problems) -> bool {
    let strays = pem_blocks::strays(bytes);
    let mut of_file = Problems::new(whole);
    for stray in &strays {
        of_file.add(Position { line: stray.line, column: 1 }, place, stray.what.clone(), stray.hint);
    }
    problems.extend(of_file.sorted());
    !strays.is_empty()
}

fn say(tree: &Node, place: &DocumentPath, problems: &mut Problems, what: String, hint: &str) {
    let found = tree.find(place);
    problems.add(found.mark, found.place, what, hint);
}

/// The same for a finding that depends on this host.
fn say_of_host(tree: &Node, place: &DocumentPath, problems: &mut Problems, what: String, hint: &str) {
    let found = tree.find(place);
    problems.add_of_host(found.mark, found.place, what, hint);
}
