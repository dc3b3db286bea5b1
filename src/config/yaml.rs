//! YAML parser that builds a tree of values with positions, in one pass over the events of saphyr.
//!
//! A single reader gives both values and positions, so they always agree. It reports syntax errors, duplicate keys,
//! unset variables and unsupported YAML features. It never interprets a key. Aliases and `<<` are resolved as copies,
//! with limits on depth and size, so that a small file cannot expand without bound.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::env;
use super::node::{DocumentPath, Entry, Node, NodeKind, PathStep, Position};
use super::problem::Problems;
use super::scalar;
use super::syntax_hint;

/// Maximum size of a file, in bytes.
pub(super) const MAX_DOCUMENT_BYTES: usize = 8 << 20;
/// Maximum nesting depth; the configuration itself needs 7.
const MAX_DEPTH: usize = 64;
/// Maximum size of a tree, by `Node::weight`.
const MAX_TREE_BYTES: usize = 96 << 20;

/// A function that returns environment variables by name.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Parses a file's text. Returns `None` if it cannot be parsed to its end. An empty file gives a null value.
pub(super) fn read(text: &str, env: Env<'_>, problems: &mut Problems) -> Option<Node> {
    read_as_far(text, env, problems).ok()
}

/// As `read`, but after an error it returns the part before the error.
pub(super) fn read_as_far(text: &str, env: Env<'_>, problems: &mut Problems) -> Result<Node, Node> {
    let mut builder = Builder { env, problems, frames: Vec::new(), anchors: HashMap::new(), top: None, weight: 0 };
    let stopped = builder.run(text).err().map(|stop| (builder.place(), stop));
    // After an error, lists and sections are still open. They end where the parser stopped.
    while !builder.frames.is_empty() && builder.close().is_ok() {}
    let top = builder.top.unwrap_or(Node::new(Position::START, NodeKind::Null));
    match stopped {
        None => Ok(top),
        Some((place, stop)) => {
            problems.add(stop.mark, place, stop.what, stop.hint);
            Err(top)
        }
    }
}

/// The reason why parsing stopped early.
struct Stop {
    mark: Position,
    what: String,
    hint: String,
}

fn stop<T>(mark: Position, what: &str, hint: &str) -> Result<T, Stop> {
    Err(Stop { mark, what: what.into(), hint: hint.into() })
}

/// A list or section whose end was not reached yet.
struct Frame {
    mark: Position,
    anchor: usize,
    state: State,
}

enum State {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashSet<String>, key: Option<(String, Position)> },
}

struct Builder<'a> {
    env: Env<'a>,
    problems: &'a mut Problems,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    top: Option<Node>,
    weight: usize,
}

impl Builder<'_> {
    fn run(&mut self, text: &str) -> Result<(), Stop> {
        let mut parser = Parser::new(StrInput::new(text));
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| syntax(&error, text))?;
            let mark = at(&span.start);
            match event {
                Event::Scalar(value, style, anchor, tag) => self.scalar(&value, style, anchor, tag.as_deref(), mark)?,
                Event::SequenceStart(anchor, tag) => {
                    self.open(mark, anchor, tag.as_deref(), State::List(Vec::new()))?
                }
                Event::MappingStart(anchor, tag) => {
                    let state = State::Map { entries: Vec::new(), seen: HashSet::new(), key: None };
                    self.open(mark, anchor, tag.as_deref(), state)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close()?,
                Event::Alias(anchor) => self.alias(anchor, mark)?,
                Event::DocumentStart(_) if self.top.is_some() => {
                    return stop(mark, "a second document begins here", "Keep one document in a file");
                }
                Event::DocumentStart(_) | Event::DocumentEnd => {}
                Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
            }
        }
        Ok(())
    }

    fn open(&mut self, mark: Position, anchor: usize, tag: Option<&Tag>, state: State) -> Result<(), Stop> {
        if self.wants_key() {
            return stop(mark, "a key must be plain text", "");
        }
        if self.frames.len() >= MAX_DEPTH {
            return stop(mark, "nested deeper than 64 levels", "");
        }
        self.refuse_tag(tag, mark);
        self.frames.push(Frame { mark, anchor, state });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let kind = match frame.state {
            State::List(items) => NodeKind::List(items),
            State::Map { entries, .. } => NodeKind::Map(self.merged(entries)),
        };
        self.weight += 64;
        self.put(Node::new(frame.mark, kind), frame.anchor)
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        mark: Position,
    ) -> Result<(), Stop> {
        if self.take_key(text, mark) {
            return Ok(());
        }
        let text_tag = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
        if !text_tag {
            self.refuse_tag(tag, mark);
        }
        let plain = style == ScalarStyle::Plain && !text_tag;
        let node = match env::replace(text, self.env) {
            Ok(None) if plain => Node::new(mark, scalar::resolve(text)),
            Ok(None) => Node::new(mark, NodeKind::Text(text.to_owned())),
            Ok(Some(new)) => {
                let raw = new.from_env.then(|| text.to_owned());
                Node::replaced(mark, new.text, raw)
            }
            Err((what, hint)) => {
                self.problems.add(mark, self.place(), what, hint);
                Node::new(mark, NodeKind::Pruned)
            }
        };
        self.weight += node.weight();
        self.put(node, anchor)
    }

    fn alias(&mut self, anchor: usize, mark: Position) -> Result<(), Stop> {
        if self.wants_key() {
            return stop(mark, "a key must be plain text", "");
        }
        let Some(node) = self.anchors.get(&anchor) else {
            return stop(mark, "an alias inside what it stands for", "");
        };
        if node.depth() + self.frames.len() > MAX_DEPTH {
            return stop(mark, "nested deeper than 64 levels", "");
        }
        self.weight += node.weight();
        if self.weight > MAX_TREE_BYTES {
            return stop(mark, "aliases make this file too large", "");
        }
        let node = node.clone();
        self.put(node, 0)
    }

    /// Adds a complete value to the innermost open list or section.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        if anchor != 0 {
            self.weight += node.weight();
            self.anchors.insert(anchor, node.clone());
        }
        if self.weight > MAX_TREE_BYTES {
            return stop(node.mark, "this file is too large", "");
        }
        match self.frames.last_mut().map(|frame| &mut frame.state) {
            None => self.top = Some(node),
            Some(State::List(items)) => items.push(node),
            Some(State::Map { entries, seen, key }) => {
                let Some((key, mark)) = key.take() else { return Ok(()) };
                if seen.insert(key.clone()) {
                    entries.push(Entry { key, mark, value: node, inherited: false });
                }
            }
        }
        Ok(())
    }

    fn wants_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { state: State::Map { key: None, .. }, .. }))
    }

    /// Takes a scalar as the next key, if a key is expected.
    fn take_key(&mut self, text: &str, mark: Position) -> bool {
        let Some(Frame { state: State::Map { entries, seen, key }, .. }) = self.frames.last_mut() else { return false };
        if key.is_some() {
            return false;
        }
        *key = Some((text.to_owned(), mark));
        if seen.contains(text) {
            let first = entries.iter().find(|e| e.key == text).map_or(mark, |e| e.mark);
            let hint = format!("It was first written in line {}: keep one", first.line);
            self.problems.add(mark, self.place(), format!("`{text}` is written twice"), hint);
        }
        true
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, mark: Position) {
        if let Some(tag) = tag {
            let what = format!("the tag `{}{}` is not supported", tag.handle, tag.suffix);
            self.problems.add(mark, self.place(), what, "Leave it out; quotes make a value text");
        }
    }

    /// Adds the entries of the mappings that `<<` refers to. Keys that are written in the section itself take
    /// precedence.
    fn merged(&mut self, mut entries: Vec<Entry>) -> Vec<Entry> {
        let Some(at) = entries.iter().position(|e| e.key == "<<") else { return entries };
        let merge = entries.remove(at);
        let sources = match merge.value.kind {
            NodeKind::List(items) => items,
            _ => vec![merge.value],
        };
        for source in sources {
            let NodeKind::Map(more) = source.kind else {
                let place = self.place().key("<<");
                self.problems.add(merge.mark, place, "`<<` merges sections and this is none", "Write `<<: *anchor`");
                continue;
            };
            let written: HashSet<String> = entries.iter().map(|e| e.key.clone()).collect();
            entries.extend(more.into_iter().filter(|e| !written.contains(&e.key)));
        }
        entries
    }

    fn place(&self) -> DocumentPath {
        let steps = self.frames.iter().filter_map(|frame| match &frame.state {
            State::List(items) => Some(PathStep::Index(items.len())),
            State::Map { key, .. } => key.as_ref().map(|(key, _)| PathStep::Key(key.clone())),
        });
        DocumentPath(steps.collect())
    }
}

fn at(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

fn syntax(error: &ScanError, text: &str) -> Stop {
    let mark = at(error.marker());
    let hint = syntax_hint::of(error.info(), mark, text);
    Stop { mark, what: format!("not YAML: {}", error.info()), hint }
}
