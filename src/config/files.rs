//! The files that a document names, each read once: missing, unreadable and empty ones are problems at their keys. Those of
//! secrets that Weir makes itself (`keys`) may be missing.
//!
//! What is in them is never printed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::keys::Had;
use super::list;
use super::locate::Env;
use super::pem::{self, BadPair};
use super::problem::Problems;
use super::schema::{CertificatePair, ClientAuth, Document, Upstream};
use super::state_dir::{self, State};
use super::tree::{Node, Place};

/// What to do about a file that is closed to this process.
pub(super) const TO_BE_READ: &str = "It has to be readable for who runs Weir: `server.user`, where that is written";

/// What the files of a document are had with.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// Reads a file.
    pub(super) read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    /// Reads a key file.
    pub(super) key: &'a dyn Fn(&Path) -> Had,
    /// Makes one that is missing, if the document is about to be put in force.
    pub(super) make: Option<&'a dyn Fn(&Path) -> Had>,
    /// Looks at the folder of what is kept.
    pub(super) state: &'a dyn Fn(&Path) -> State,
}

/// What was in the files that a document names.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    /// By the path as the document has it.
    pub(super) held: BTreeMap<PathBuf, Vec<u8>>,
    /// Key files and the folder of what is kept, where they were made; the whole path.
    pub(super) made: Vec<PathBuf>,
}

/// Reads every file that the document names; paths are relative to `folder`.
pub(super) fn read(
    document: &Document,
    tree: &Node,
    folder: &Path,
    source: Source<'_>,
    env: Env<'_>,
    problems: &mut Problems,
) -> Files {
    let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    for (place, path, judge) in named(document) {
        if !files.contains_key(path) {
            match (source.read)(&folder.join(path)) {
                Ok(bytes) => drop(files.insert(path.to_owned(), bytes)),
                Err(error) => {
                    let hint = match error.kind() {
                        io::ErrorKind::PermissionDenied => TO_BE_READ,
                        _ => "Its path is relative to the folder of this file",
                    };
                    say(tree, &place, problems, format!("cannot be read: {}", reason(&error)), hint);
                    continue;
                }
            }
        }
        match (files.get(path), judge) {
            (Some(bytes), Judge::Here(judge)) => {
                if let Some((what, hint)) = judge(bytes) {
                    say(tree, &place, problems, what, hint);
                }
            }
            // It has places of its own.
            (Some(bytes), Judge::List(upstream)) => {
                let read = list::read(&folder.join(path), bytes, upstream, env);
                problems.extend(read.err().unwrap_or_default());
            }
            (Some(_), Judge::Together) | (None, _) => {}
        }
    }
    belong_together(document, tree, &files, problems);
    let mut files = Files { held: files, made: Vec::new() };
    keys(document, tree, folder, source, problems, &mut files);
    files
}

/// Reads the key files, then makes those that are missing: only where nothing at all is wrong, so that what is refused
/// leaves no trace.
fn keys(
    document: &Document,
    tree: &Node,
    folder: &Path,
    source: Source<'_>,
    problems: &mut Problems,
    files: &mut Files,
) {
    let mut missing = Vec::new();
    let named = document.upstreams.iter().filter_map(|(name, upstream)| Some((name, upstream.sticky.as_ref()?)));
    for (name, sticky) in named {
        let place = Place::of("upstreams").key(name.as_str()).key("sticky").key("key_file");
        match (source.key)(&folder.join(&sticky.key_file)) {
            Had::Key(key) => drop(files.held.insert(sticky.key_file.clone(), key)),
            Had::Missing => missing.push((place, &sticky.key_file)),
            Had::Unfit(what, hint) => say(tree, &place, problems, what, hint),
        }
    }
    let missing_state = state(document, tree, folder, source, problems);
    let Some(make) = source.make.filter(|_| problems.is_empty()) else { return };
    if let Some(path) = missing_state {
        match state_dir::make(&path) {
            State::Unfit(what, hint) => say(tree, &state_place(), problems, what, hint),
            State::There | State::Missing => files.made.push(path),
        }
    }
    for (place, path) in missing {
        let whole = folder.join(path);
        match make(&whole) {
            Had::Key(key) => {
                files.held.insert(path.clone(), key);
                files.made.push(whole);
            }
            Had::Missing => say(tree, &place, problems, "was made and is gone again".into(), ""),
            Had::Unfit(what, hint) => say(tree, &place, problems, what, hint),
        }
    }
}

/// Looks at `server.state_dir`; the whole path if it has to be made.
fn state(
    document: &Document,
    tree: &Node,
    folder: &Path,
    source: Source<'_>,
    problems: &mut Problems,
) -> Option<PathBuf> {
    let path = folder.join(document.server.state_dir.as_deref().filter(|path| *path != Path::new(""))?);
    match (source.state)(&path) {
        State::There => None,
        State::Missing => Some(path),
        State::Unfit(what, hint) => {
            say(tree, &state_place(), problems, what, hint);
            None
        }
    }
}

fn state_place() -> Place {
    Place::of("server").key("state_dir")
}

/// Who judges a file's content.
enum Judge<'a> {
    /// What is wrong with it and what to do, said at the key that names it.
    Here(fn(&[u8]) -> Option<pem::Fault>),
    /// Nobody before its other half is there.
    Together,
    /// It is a list of backends for this upstream.
    List(&'a Upstream),
}

/// `admin.token_file`.
pub(super) fn token_file(document: &Document) -> Option<&Path> {
    document.admin.settings()?.token_file.as_deref()
}

fn named(document: &Document) -> Vec<(Place, &Path, Judge<'_>)> {
    let mut named: Vec<(Place, &Path, Judge<'_>)> = Vec::new();
    if let Some(path) = token_file(document) {
        named.push((Place::of("admin").key("token_file"), path, Judge::Here(bad_token)));
    }
    for (at, pair) in pairs(document) {
        let halves = [(at.key("cert"), &*pair.cert), (at.key("key"), &*pair.key)];
        named.extend(halves.map(|(at, path)| (at, path, Judge::Together)));
    }
    for (index, listener) in document.listeners.iter().enumerate() {
        let at = Place::of("listeners").index(index).key("tls").key("acme").key("directory_ca");
        let ca = listener.tls.as_ref().and_then(|tls| tls.acme.as_ref()?.directory_ca.as_deref());
        named.extend(ca.map(|ca| (at, ca, Judge::Here(bad_authorities))));
    }
    for (at, auth) in client_auths(document) {
        named.push((at.key("ca"), &auth.ca, Judge::Here(bad_authorities)));
        named.extend(auth.crl.as_deref().map(|crl| (at.key("crl"), crl, Judge::Together)));
    }
    for (name, upstream) in &document.upstreams {
        if let Some(path) = upstream.tls.as_ref().and_then(|tls| tls.ca.as_deref()) {
            let place = Place::of("upstreams").key(name.as_str()).key("tls").key("ca");
            named.push((place, path, Judge::Here(bad_authorities)));
        }
        if let Some(path) = upstream.discover.as_ref().and_then(|source| source.file.as_deref()) {
            let place = Place::of("upstreams").key(name.as_str()).key("discover").key("file");
            named.push((place, path, Judge::List(upstream)));
        }
    }
    named
}

/// All certificates with their keys, and where they stand.
fn pairs(document: &Document) -> Vec<(Place, &CertificatePair)> {
    let mut pairs = Vec::new();
    for (index, listener) in document.listeners.iter().enumerate() {
        let at = Place::of("listeners").index(index).key("tls").key("certificates");
        let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
        pairs.extend(certificates.enumerate().map(|(index, pair)| (at.index(index), pair)));
    }
    for (name, upstream) in &document.upstreams {
        let at = Place::of("upstreams").key(name.as_str()).key("tls").key("certificate");
        pairs.extend(upstream.tls.as_ref().and_then(|tls| tls.certificate.as_ref()).map(|pair| (at, pair)));
    }
    pairs
}

fn client_auths(document: &Document) -> Vec<(Place, &ClientAuth)> {
    let mut auths = Vec::new();
    for (index, listener) in document.listeners.iter().enumerate() {
        let at = Place::of("listeners").index(index).key("tls").key("client_auth");
        let auth = listener.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
        auths.extend(auth.map(|auth| (at, auth)));
    }
    auths
}

/// What only two files together can be judged by.
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
        if pem::authorities(ca).is_ok()
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

fn bad_token(bytes: &[u8]) -> Option<pem::Fault> {
    let visible = |token: &str| token.bytes().all(|b| b.is_ascii_graphic());
    let hint = "Its first line is the token, such as `openssl rand -hex 32` makes";
    match token(bytes) {
        None => Some(("there is no token in this file".into(), hint)),
        Some(token) if !visible(token) => Some(("the token has characters that no header can carry".into(), hint)),
        Some(_) => None,
    }
}

fn bad_authorities(bytes: &[u8]) -> Option<pem::Fault> {
    pem::authorities(bytes).err()
}

/// An I/O error without the operating system's number.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

fn say(tree: &Node, place: &Place, problems: &mut Problems, what: String, hint: &str) {
    let found = tree.find(place);
    problems.add(found.mark, found.place, what, hint);
}
