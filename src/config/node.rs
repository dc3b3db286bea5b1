//! Tree of YAML values with line and column. `yaml` builds it, `deserialize` converts it to the document.
//!
//! An invalid value is pruned: it stays in place, so that indices do not change, but counts as absent. This module
//! never interprets a key.

use std::fmt;

/// A position in the file; line and column count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The line.
    pub(super) line: usize,
    /// The column.
    pub(super) column: usize,
}

impl Position {
    /// The start of a file.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// A value with its position.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The position where it starts.
    pub(super) mark: Position,
    /// The value.
    pub(super) kind: NodeKind,
    /// The text in the file, if a `${…}` in it was replaced. Messages quote only this text.
    pub(super) raw: Option<String>,
    /// Whether this value or a value inside it is pruned.
    damaged: bool,
}

/// A value.
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
    /// Text. A value from the environment is text as well, and fits every scalar.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Vec<Entry>),
    /// An invalid value that was reported. It counts as absent.
    Pruned,
}

/// A key of a mapping with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// The position of the key.
    pub(super) mark: Position,
    /// The value.
    pub(super) value: Node,
    /// The value comes from `defaults`.
    pub(super) inherited: bool,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathStep {
    /// To the value of a key.
    Key(String),
    /// To an element of a sequence.
    Index(usize),
}

/// The path from the root to a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DocumentPath(pub(super) Vec<PathStep>);

impl DocumentPath {
    /// The path of a top-level key.
    pub(super) fn of(key: &str) -> Self {
        Self::default().key(key)
    }

    /// The path of a key below this path.
    pub(super) fn key(&self, key: &str) -> Self {
        self.step(PathStep::Key(key.to_owned()))
    }

    /// The path of an element below this path.
    pub(super) fn index(&self, index: usize) -> Self {
        self.step(PathStep::Index(index))
    }

    /// One step below this path.
    pub(super) fn step(&self, step: PathStep) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The path of the enclosing section.
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

/// The result of a path look-up.
#[derive(Debug)]
pub(super) struct Located<'a> {
    /// The position to report: of a scalar, of the key of a section, or of the nearest section that exists.
    pub(super) mark: Position,
    /// The position of the key; for an element, of the element itself.
    pub(super) key: Position,
    /// The path in the file, with indices that count pruned elements.
    pub(super) place: DocumentPath,
    /// The value, if it exists.
    pub(super) node: Option<&'a Node>,
}

impl Node {
    /// A value at a position.
    pub(super) fn new(mark: Position, kind: NodeKind) -> Self {
        let damaged = match &kind {
            NodeKind::Pruned => true,
            NodeKind::List(items) => items.iter().any(|item| item.damaged),
            NodeKind::Map(entries) => entries.iter().any(|entry| entry.value.damaged),
            _ => false,
        };
        Self { mark, kind, raw: None, damaged }
    }

    /// A text from the environment, with the text in the file.
    pub(super) fn replaced(mark: Position, text: String, raw: Option<String>) -> Self {
        Self { raw, ..Self::new(mark, NodeKind::Text(text)) }
    }

    /// Marks the value at a path as invalid.
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

    /// Whether this value was invalid.
    pub(super) fn is_pruned(&self) -> bool {
        matches!(self.kind, NodeKind::Pruned)
    }

    /// Whether neither this value nor a value inside it was invalid.
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

    /// The value at a path whose indices count pruned elements.
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

    /// Looks up a path whose indices do not count pruned elements, as in the document.
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

    /// Approximate memory use in bytes, for the limit on aliases.
    pub(super) fn weight(&self) -> usize {
        64 + match &self.kind {
            NodeKind::Text(text) => text.len() + self.raw.as_ref().map_or(0, String::len),
            NodeKind::List(items) => items.iter().map(Self::weight).sum(),
            NodeKind::Map(entries) => entries.iter().map(|e| e.key.len() + e.value.weight()).sum(),
            _ => 0,
        }
    }

    /// The number of nesting levels.
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
            Some(entry) => {
                let place = if entry.inherited { DocumentPath::of("defaults").key(key) } else { place };
                Self { mark: entry.points_at(), key: entry.mark, place, node: Some(&entry.value) }
            }
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
    /// The position to report: of a scalar itself; of the key for a section or an empty value.
    pub(super) fn points_at(&self) -> Position {
        match self.value.kind {
            NodeKind::Null | NodeKind::List(_) | NodeKind::Map(_) => self.mark,
            _ => self.value.mark,
        }
    }
}
