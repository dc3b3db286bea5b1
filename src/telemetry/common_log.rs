//! The access log entry in the Common and Combined Log Format of the NCSA, as Apache and nginx write it.
//!
//! A quotation mark, a backslash and each byte outside printable ASCII becomes `\xHH`, so no client breaks a line.

use std::io::Write;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::access_entry::version;
use super::request_record::Record;

const DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");

/// Writes the entry of this request, with a final line feed. `combined`: with `Referer` and `User-Agent`.
pub(super) fn write(out: &mut Vec<u8>, record: &Record<'_>, combined: bool) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{} - ", record.client.to_canonical());
    escape(out, record.user.map_or(b"-".as_slice(), str::as_bytes), true);
    out.extend_from_slice(b" [");
    if OffsetDateTime::from(record.started).format_into(out, &DATE).is_err() {
        out.push(b'-');
    }
    let _ = write!(out, "] \"{} ", record.method);
    escape(out, record.path, true);
    let _ = write!(out, " {}\" {} {}", version(record.version), record.status, record.bytes_out);
    if combined {
        for field in [record.referer, record.user_agent] {
            out.extend_from_slice(b" \"");
            escape(out, field.unwrap_or(b"-"), false);
            out.push(b'"');
        }
    }
    out.push(b'\n');
}

/// `spaces`: a space is escaped too, because the value stands beside others.
fn escape(out: &mut Vec<u8>, value: &[u8], spaces: bool) {
    for byte in value {
        match byte {
            b' ' if !spaces => out.push(b' '),
            b'"' | b'\\' => drop(write!(out, "\\x{byte:02X}")),
            0x21..=0x7e => out.push(*byte),
            _ => drop(write!(out, "\\x{byte:02X}")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::access_entry::tests::plain;
    use super::*;

    fn written(record: &Record<'_>, combined: bool) -> String {
        let mut out = Vec::new();
        write(&mut out, record, combined);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_common_line_is_that_of_apache() {
        let line = written(&Record { user: Some("ada b"), path: b"/a?b=1", ..plain() }, false);
        let expected = "192.0.2.1 - ada\\x20b [14/Nov/2023:22:13:20 +0000] \"GET /a?b=1 HTTP/1.1\" 200 9\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_combined_line_has_referer_and_user_agent() {
        let record = Record { user_agent: Some(b"a \"b\" \xff"), ..plain() };
        let end = "\"GET / HTTP/1.1\" 200 9 \"-\" \"a \\x22b\\x22 \\xFF\"\n";
        assert!(written(&record, true).ends_with(end), "{}", written(&record, true));
    }

    proptest! {
        #[test]
        fn no_client_bytes_break_a_combined_line(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let line = written(&Record { path: &bytes, user_agent: Some(&bytes), referer: Some(&bytes), ..plain() }, true);
            prop_assert_eq!(line.matches('"').count(), 6);
            prop_assert!(line.trim_end_matches('\n').bytes().all(|b| (0x20..0x7f).contains(&b)));
        }
    }
}
