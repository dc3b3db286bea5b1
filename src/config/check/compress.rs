//! `routes[].compress`: validation of codings and levels.

use super::super::node::DocumentPath;
use super::super::schema::CompressSettings;
use super::Check;

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, compress: &CompressSettings) {
    let levels = at.key("levels");
    check.range(&levels.key("gzip"), compress.levels.gzip.into(), 1..=9);
    check.range(&levels.key("br"), compress.levels.br.into(), 0..=11);
    check.range(&levels.key("zstd"), compress.levels.zstd.into(), 1..=19);
    let encodings = at.key("encodings");
    if compress.encodings.is_empty() {
        check.say(&encodings, "no encoding is listed", "Write `[zstd, br, gzip]`, or leave `compress` out");
    }
    for (index, coding) in compress.encodings.iter().enumerate() {
        if compress.encodings[..index].contains(coding) {
            let what = format!("`{}` is listed twice", coding.name());
            check.say(&encodings.index(index), what, "Leave the second one out");
        }
    }
    if compress.types.is_empty() {
        check.say(&at.key("types"), "no type is listed, so nothing is compressed", "Leave `types` out for the default");
    }
}
