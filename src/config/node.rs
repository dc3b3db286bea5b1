//! The file as a tree of values that know their line and column. Reading it is `yaml`'s, typing it `deserialize`'s.
//!
//! A value that turned out to be wrong is pruned: it stays in its place, so that others keep theirs, but counts as
//! left out. Nothing here knows what any key means.

use std::fmt;

/// A place in the file, both from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The line.
    pub(super) line: usize,
    /// The column.
    pub(super) column: usize,
}

impl Position {
    /// Where a file begins.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it begins.
    pub(super) mark: Position,
    /// What it is.
    pub(super) kind: NodeKind,
    /// As the file has it, where `${…}` was replaced: only this is ever quoted.
    pub(super) raw: Option<String>,
    /// Whether something in it, or itself, is pruned.
    damaged: bool,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum NodeKind {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// Text; also whatever came from the environment, which fits every scalar.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Vec<Entry>),
    /// Was wrong and is reported; counts as left out.
    Pruned,
}

/// A key of a mapping and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Where the key is.
    pub(super) mark: Position,
    /// The value.
    pub(super) value: Node,
}

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathStep {
    /// Into a mapping.
    Key(String),
    /// Into a sequence.
    Index(usize),
}

/// The way from the top to a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DocumentPath(pub(super) Vec<PathStep>);

impl DocumentPath {
    /// A key of the top.
    pub(super) fn of(key: &str) -> Self {
        Self::default().key(key)
    }

    /// A key below this.
    pub(super) fn key(&self, key: &str) -> Self {
        self.step(PathStep::Key(key.to_owned()))
    }

    /// An element of this.
    pub(super) fn index(&self, index: usize) -> Self {
        self.step(PathStep::Index(index))
    }

    /// One step below this.
    pub(super) fn step(&self, step: PathStep) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The section that this is in.
    pub(super) fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }
}

impl fmt::Display for DocumentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Index(index) => write!(f, "[{index}]")?,
                PathStep::Key(key) => {
                    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-:".contains(c));
                    let dot = if n == 0 { "" } else { "." };
                    if plain { write!(f, "{dot}{key}")? } else { write!(f, "{dot}{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// Where a place was found.
#[derive(Debug)]
pub(super) struct Located<'a> {
    /// What to point at: a scalar itself, a section's key, or the nearest section that there is.
    pub(super) mark: Position,
    /// The key; an element itself.
    pub(super) key: Position,
    /// The place in the file's own counting, pruned elements included.
    pub(super) place: DocumentPath,
    /// The value, if it is there.
    pub(super) node: Option<&'a Node>,
}

impl Node {
    /// A value at a mark.
    pub(super) fn new(mark: Position, kind: NodeKind) -> Self {
        let damaged = match &kind {
            NodeKind::Pruned => true,
            NodeKind::List(items) => items.iter().any(|item| item.damaged),
            NodeKind::Map(entries) => entries.iter().any(|entry| entry.value.damaged),
            _ => false,
        };
        Self { mark, kind, raw: None, damaged }
    }

    /// A text that came from the environment, and as the file has it.
    pub(super) fn replaced(mark: Position, text: String, raw: Option<String>) -> Self {
        Self { raw, ..Self::new(mark, NodeKind::Text(text)) }
    }

    /// Marks what is at a place as wrong.
    pub(super) fn prune(&mut self, place: &DocumentPath) {
        let mut node = self;
        for step in &place.0 {
            node.damaged = true;
            let Some(next) = node.child(step) else { return };
            node = next;
        }
        node.damaged = true;
        node.kind = NodeKind::Pruned;
    }

    /// Whether this was wrong.
    pub(super) fn is_pruned(&self) -> bool {
        matches!(self.kind, NodeKind::Pruned)
    }

    /// Whether nothing in it was wrong.
    pub(super) fn is_whole(&self) -> bool {
        !self.damaged
    }

    /// The entry of a key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            NodeKind::Map(entries) => entries.iter().find(|e| e.key == key),
            _ => None,
        }
    }

    /// The value at a place in the file's own counting.
    pub(super) fn at(&mut self, place: &DocumentPath) -> Option<&mut Self> {
        place.0.iter().try_fold(self, |node, step| node.child(step))
    }

    fn child(&mut self, step: &PathStep) -> Option<&mut Self> {
        match (step, &mut self.kind) {
            (PathStep::Key(key), NodeKind::Map(entries)) => {
                entries.iter_mut().find(|e| e.key == *key).map(|e| &mut e.value)
            }
            (PathStep::Index(index), NodeKind::List(items)) => items.get_mut(*index),
            _ => None,
        }
    }

    /// Finds a place in the document's counting, in which pruned elements do not exist.
    pub(super) fn find(&self, place: &DocumentPath) -> Located<'_> {
        let mut found = Located { mark: self.mark, key: self.mark, place: DocumentPath::default(), node: Some(self) };
        for step in &place.0 {
            found = match step {
                PathStep::Key(key) => found.into_key(key),
                PathStep::Index(index) => found.into_index(*index),
            };
        }
        found
    }

    /// The heavier, the more memory it takes; for the bound on aliases.
    pub(super) fn weight(&self) -> usize {
        64 + match &self.kind {
            NodeKind::Text(text) => text.len() + self.raw.as_ref().map_or(0, String::len),
            NodeKind::List(items) => items.iter().map(Self::weight).sum(),
            NodeKind::Map(entries) => entries.iter().map(|e| e.key.len() + e.value.weight()).sum(),
            _ => 0,
        }
    }

    /// How many levels it has.
    pub(super) fn depth(&self) -> usize {
        1 + match &self.kind {
            NodeKind::List(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            NodeKind::Map(entries) => entries.iter().map(|e| e.value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

impl Located<'_> {
    fn into_key(self, key: &str) -> Self {
        let place = self.place.key(key);
        match self.node.and_then(|node| node.entry(key)) {
            Some(entry) => Self { mark: entry.points_at(), key: entry.mark, place, node: Some(&entry.value) },
            None => Self { place, node: None, ..self },
        }
    }

    fn into_index(self, index: usize) -> Self {
        let items = match self.node.map(|node| &node.kind) {
            Some(NodeKind::List(items)) => items.as_slice(),
            // One value stands for a list of one.
            Some(NodeKind::Map(_) | NodeKind::Text(_) | NodeKind::Int(_) | NodeKind::Float(_) | NodeKind::Bool(_))
                if index == 0 =>
            {
                return Self { place: self.place.index(index), ..self };
            }
            _ => &[],
        };
        let found = match self.node {
            Some(node) if node.is_whole() => items.get(index).map(|item| (index, item)),
            _ => items.iter().enumerate().filter(|(_, item)| !item.is_pruned()).nth(index),
        };
        match found {
            Some((real, item)) => {
                Self { mark: item.mark, key: item.mark, place: self.place.index(real), node: Some(item) }
            }
            None => Self { place: self.place.index(index), node: None, ..self },
        }
    }
}

impl Entry {
    /// A scalar is pointed at itself; a section, or nothing at all, by its key.
    pub(super) fn points_at(&self) -> Position {
        match self.value.kind {
            NodeKind::Null | NodeKind::List(_) | NodeKind::Map(_) => self.mark,
            _ => self.value.mark,
        }
    }
}
