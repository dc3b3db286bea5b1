//! The sources of `src/`, parsed by `syn`: the paths that each file names and the items that it declares.
//!
//! Code under `#[cfg(test)]` is left out, wherever it stands in a file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// A parsed file that ships.
pub struct Source {
    /// Below `src/`.
    pub path: PathBuf,
    /// Its module, without `crate`: `["pool", "http1", "session"]`.
    pub module: Vec<String>,
    pub text: String,
    pub file: syn::File,
}

impl Source {
    /// The top-level module.
    pub fn layer(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }

    /// Every path below `crate` that the file names, outside tests, without `crate` itself.
    pub fn paths(&self) -> BTreeSet<Vec<String>> {
        let mut found = Paths { module: self.module.clone(), paths: BTreeSet::new() };
        found.visit_file(&self.file);
        found.paths
    }

    /// The items that the file declares outside tests: functions, types, constants, modules, fields, variants.
    pub fn declarations(&self) -> Vec<Declaration> {
        let mut found = Declarations { found: Vec::new() };
        found.visit_file(&self.file);
        found.found
    }

    /// The lines of code outside tests, with their numbers and without comments.
    pub fn code(&self) -> Vec<(usize, &str)> {
        let mut tests = TestSpans { spans: Vec::new() };
        tests.visit_file(&self.file);
        let in_tests = |number: usize| tests.spans.iter().any(|(from, to)| (*from..=*to).contains(&number));
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        lines.filter(|(number, line)| !line.starts_with("//") && !in_tests(*number)).collect()
    }
}

/// A name that a file declares.
pub struct Declaration {
    pub kind: Kind,
    pub name: String,
    pub line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Type,
    Function,
    Constant,
    Module,
    Field,
}

/// All files of `src/`.
pub fn every_file() -> Vec<Source> {
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// The files of `src/` that ship.
pub fn shipped() -> Vec<Source> {
    let all = every_file();
    let of_tests: BTreeSet<PathBuf> = all.iter().flat_map(test_files).collect();
    let is_of_tests =
        |path: &Path| of_tests.iter().any(|test| path == test || path.starts_with(test.with_extension("")));
    let shipped: Vec<Source> = all.into_iter().filter(|source| !is_of_tests(&source.path)).collect();
    assert!(shipped.len() > 50, "the sources are where this test looks for them");
    shipped
}

fn files(root: &Path) -> Vec<Source> {
    let parse = |(path, text): (PathBuf, String)| {
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let path = path.strip_prefix(root).unwrap().to_owned();
        Source { module: module_of(&path), path, text, file }
    };
    rust_files(root).into_iter().map(parse).collect()
}

/// The Rust files below a folder and their texts, by path.
pub fn rust_files(root: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

fn module_of(path: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    if parts == ["lib"] {
        parts.clear();
    }
    parts
}

/// The files that a `#[cfg(test)] mod name;` of this file brings in.
fn test_files(source: &Source) -> Vec<PathBuf> {
    let folder = match source.path.file_name().and_then(|name| name.to_str()) {
        Some("mod.rs" | "lib.rs" | "main.rs") => source.path.parent().unwrap().to_owned(),
        _ => source.path.with_extension(""),
    };
    let mut found = Vec::new();
    for item in &source.file.items {
        let syn::Item::Mod(module) = item else { continue };
        if module.content.is_some() || !is_for_tests(&module.attrs) {
            continue;
        }
        match path_attribute(&module.attrs) {
            Some(path) => found.push(source.path.parent().unwrap().join(path)),
            None => {
                found.push(folder.join(format!("{}.rs", module.ident)));
                found.push(folder.join(module.ident.to_string()).join("mod.rs"));
            }
        }
    }
    // A folder module of tests brings its whole folder in.
    let folders: Vec<PathBuf> =
        found.iter().filter(|path| path.ends_with("mod.rs")).map(|path| path.parent().unwrap().to_owned()).collect();
    found.extend(folders);
    found
}

fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || matches!(&attribute.meta, syn::Meta::List(list)
                if list.path.is_ident("cfg") && list.tokens.to_string() == "test")
    })
}

/// The attributes of an item, of whichever kind it is.
fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item::{Const, Enum, Fn, Impl, Macro, Mod, Static, Struct, Trait, Type, Use};
    match item {
        Const(item) => &item.attrs,
        Enum(item) => &item.attrs,
        Fn(item) => &item.attrs,
        Impl(item) => &item.attrs,
        Macro(item) => &item.attrs,
        Mod(item) => &item.attrs,
        Static(item) => &item.attrs,
        Struct(item) => &item.attrs,
        Trait(item) => &item.attrs,
        Type(item) => &item.attrs,
        Use(item) => &item.attrs,
        _ => &[],
    }
}

struct Paths {
    /// Of the scope that is visited now, inline modules included.
    module: Vec<String>,
    paths: BTreeSet<Vec<String>>,
}

impl Paths {
    fn add(&mut self, segments: &[String]) {
        let Some(first) = segments.first() else { return };
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            _ => return,
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => {
                    at.pop();
                }
                name => at.push(name.to_owned()),
            }
        }
        self.paths.insert(at);
    }

    fn add_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let joined = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&joined(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.add(&joined(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&joined(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(before, tree)),
        }
    }

    /// `syn` does not parse what stands in a macro: paths are found by their tokens.
    fn add_tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let mut path: Vec<String> = Vec::new();
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Ident(ident) => {
                    if path.last().is_some_and(|last| last == "::") {
                        path.pop();
                    } else {
                        self.add(&path);
                        path.clear();
                    }
                    path.push(ident.to_string());
                }
                proc_macro2::TokenTree::Punct(colon) if colon.as_char() == ':' && !path.is_empty() => {
                    if path.last().is_some_and(|last| last != "::") {
                        path.push("::".to_owned());
                    }
                }
                other => {
                    path.retain(|part| part != "::");
                    self.add(&path);
                    path.clear();
                    if let proc_macro2::TokenTree::Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
        }
        path.retain(|part| part != "::");
        self.add(&path);
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        if let syn::Item::Mod(module) = item
            && module.content.is_some()
        {
            self.module.push(module.ident.to_string());
            visit::visit_item(self, item);
            self.module.pop();
            return;
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, method: &'ast syn::ImplItemFn) {
        if !is_for_tests(&method.attrs) {
            visit::visit_impl_item_fn(self, method);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.add_tokens(mac.tokens.clone());
    }
}

struct TestSpans {
    spans: Vec<(usize, usize)>,
}

impl<'ast> Visit<'ast> for TestSpans {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        use syn::spanned::Spanned;
        if is_for_tests(attributes(item)) {
            self.spans.push((item.span().start().line, item.span().end().line));
            return;
        }
        visit::visit_item(self, item);
    }
}

struct Declarations {
    found: Vec<Declaration>,
}

impl Declarations {
    fn add(&mut self, kind: Kind, ident: &syn::Ident) {
        self.found.push(Declaration { kind, name: ident.to_string(), line: ident.span().start().line });
    }
}

impl<'ast> Visit<'ast> for Declarations {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        match item {
            syn::Item::Const(item) => self.add(Kind::Constant, &item.ident),
            syn::Item::Static(item) => self.add(Kind::Constant, &item.ident),
            syn::Item::Struct(item) => self.add(Kind::Type, &item.ident),
            syn::Item::Enum(item) => self.add(Kind::Type, &item.ident),
            syn::Item::Trait(item) => self.add(Kind::Type, &item.ident),
            syn::Item::Type(item) => self.add(Kind::Type, &item.ident),
            syn::Item::Mod(item) => self.add(Kind::Module, &item.ident),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, method: &'ast syn::ImplItemFn) {
        if !is_for_tests(&method.attrs) {
            visit::visit_impl_item_fn(self, method);
        }
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.add(Kind::Function, &signature.ident);
        visit::visit_signature(self, signature);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.add(Kind::Constant, &item.ident);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(ident) = &field.ident {
            self.add(Kind::Field, ident);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.add(Kind::Field, &variant.ident);
        visit::visit_variant(self, variant);
    }
}
