//! The files that `errors` names.

use std::collections::BTreeSet;
use std::path::Path;

use super::error_page::{BadPage, PageFormat, page_template};
use super::node::DocumentPath;
use super::schema::Document;

/// The files of all error pages with the path of their key, each file once: those of `defaults` come first, because most
/// routes inherit them.
pub(super) fn error_page_files(document: &Document) -> Vec<(DocumentPath, &Path)> {
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    let of_defaults = document.defaults.errors.iter().map(|errors| (DocumentPath::of("defaults"), errors));
    let of_routes = document.routes.iter().enumerate();
    let of_routes = of_routes.map(|(index, route)| (DocumentPath::of("routes").index(index), &route.errors));
    for (at, errors) in of_defaults.chain(of_routes) {
        for (status, page) in errors {
            let place = at.key("errors").key(&status.to_string()).key("file");
            let paths = page.file.iter().enumerate().filter(|(_, path)| seen.insert(path.as_path()));
            files.extend(paths.map(|(index, path)| (place.index(index), path.as_path())));
        }
    }
    files
}

/// The problem of the content of a file. A name without a known format is reported at its key.
pub(super) fn bad_error_page(path: &Path, bytes: &[u8]) -> Option<BadPage> {
    page_template(bytes, PageFormat::of_file(path)?).err()
}
