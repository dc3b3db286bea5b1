//! The names of the code: the field's words, one meaning for each, and no word of the old private vocabulary.

use std::collections::BTreeMap;

use crate::source_tree::{Kind, shipped};

#[test]
fn dump() {
    for source in shipped() {
        for d in source.declarations() {
            println!("DECL {:?} {} src/{}:{}", d.kind, d.name, source.path.display(), d.line);
        }
    }
    let _: Option<(BTreeMap<u8, u8>, Kind)> = None;
}
