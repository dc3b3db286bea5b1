//! Checks the markers of PEM blocks (RFC 7468 section 2): each `-----BEGIN` needs its `-----END`, and each must be
//! alone on a line.
//!
//! PEM parsers skip text between blocks, so a broken marker would silently remove a certificate. This module reports it
//! as a fault. It never prints the content of a block.

/// A marker that belongs to no complete block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stray {
    /// Its line, from 1.
    pub(super) line: usize,
    /// The problem.
    pub(super) what: String,
    /// The hint.
    pub(super) hint: &'static str,
}

const ALONE: &str =
    "A marker stands alone on its line, such as `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`";
const CONVERT: &str =
    "Convert it: `openssl x509 -in OLD -out NEW`, or for PKCS #7 `openssl pkcs7 -print_certs -in OLD -out NEW`";

/// Types of blocks that are read, or that may occur in such files and are skipped.
const KINDS: [&str; 17] = [
    "CERTIFICATE",
    "X509 CRL",
    "PRIVATE KEY",
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "DSA PRIVATE KEY",
    "OPENSSH PRIVATE KEY",
    "PUBLIC KEY",
    "RSA PUBLIC KEY",
    "CERTIFICATE REQUEST",
    "NEW CERTIFICATE REQUEST",
    "EC PARAMETERS",
    "DH PARAMETERS",
    "X9.42 DH PARAMETERS",
    "DSA PARAMETERS",
    "ECHCONFIG",
];

/// Types of blocks that contain certificates in an unsupported form.
const UNREAD: [&str; 4] = ["TRUSTED CERTIFICATE", "X509 CERTIFICATE", "PKCS7", "CMS"];

/// Maximum number of characters of a type in a message.
const MAX_SHOWN: usize = 40;

/// The meaning of a line.
enum PemLine<'a> {
    Begin(&'a str),
    End(&'a str),
    /// Looks like one or more markers, but no parser accepts it.
    Broken(&'a str),
    Other,
}

/// All markers of a file that belong to no complete block, in the order of their lines.
pub(super) fn strays(bytes: &[u8]) -> Vec<Stray> {
    let text = String::from_utf8_lossy(bytes);
    let mut scan = Scan::default();
    for (line, text) in lines(&text).enumerate().map(|(index, text)| (index + 1, text)) {
        match read(text) {
            PemLine::Begin(kind) => scan.begin(line, kind),
            PemLine::End(kind) => scan.end(line, kind),
            PemLine::Broken(text) => scan.broken(line, text),
            PemLine::Other => {}
        }
    }
    scan.leave_open();
    scan.found.sort_by_key(|stray| stray.line);
    scan.found
}

#[derive(Default)]
struct Scan<'a> {
    found: Vec<Stray>,
    /// The line of the marker that opened the current block, and its type. The type is `None` if that marker was
    /// broken.
    open: Option<(usize, Option<&'a str>)>,
}

impl<'a> Scan<'a> {
    fn begin(&mut self, line: usize, kind: &'a str) {
        self.leave_open();
        self.open = Some((line, Some(kind)));
        let shown: String = kind.chars().take(MAX_SHOWN).collect();
        if UNREAD.contains(&kind) {
            self.say(line, format!("blocks of the kind `{shown}` are not read"), CONVERT);
        } else if !KINDS.contains(&kind) {
            self.say(line, format!("`{shown}` is no known kind of block"), ALONE);
        }
    }

    fn end(&mut self, line: usize, kind: &str) {
        match self.open.take() {
            None => self.say(line, "the end of a block that has no beginning".into(), ALONE),
            Some((began, Some(other))) if other != kind => {
                self.say(
                    line,
                    format!("the end of another kind of block than the one that begins in line {began}"),
                    ALONE,
                );
            }
            Some(_) => {}
        }
    }

    fn broken(&mut self, line: usize, text: &str) {
        let upper = text.to_ascii_uppercase();
        let (begins, ends) = (upper.rfind("BEGIN"), upper.contains("END "));
        let what = if begins.is_some() && ends { "two markers on one line" } else { "a broken marker" };
        self.say(line, what.into(), ALONE);
        if begins.is_some() {
            if !ends {
                self.leave_open();
            }
            self.open = Some((line, None));
        } else {
            self.open = None;
        }
    }

    /// Reports a block without an end marker, unless its begin marker was reported already.
    fn leave_open(&mut self) {
        if let Some((line, Some(_))) = self.open.take() {
            self.say(line, "the beginning of a block that has no end".into(), ALONE);
        }
    }

    fn say(&mut self, line: usize, what: String, hint: &'static str) {
        self.found.push(Stray { line, what, hint });
    }
}

/// Splits at LF, CR LF or CR, as editors and the parser do.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let plain = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    plain.flat_map(|line| line.split('\r'))
}

fn read(line: &str) -> PemLine<'_> {
    let trimmed = line.trim_end_matches(' ');
    let exact = |begin: &str| {
        let kind = trimmed.strip_prefix(begin)?.strip_suffix("-----")?;
        (!kind.is_empty() && !kind.contains('-') && kind.trim() == kind).then_some(kind)
    };
    if let Some(kind) = exact("-----BEGIN ") {
        return PemLine::Begin(kind);
    }
    if let Some(kind) = exact("-----END ") {
        return PemLine::End(kind);
    }
    if is_meant_as_marker(line) { PemLine::Broken(line) } else { PemLine::Other }
}

/// Any text may occur between blocks, so only text that is almost certainly a marker counts.
fn is_meant_as_marker(line: &str) -> bool {
    let is_dash = |c: char| matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    if !line.contains(is_dash) {
        return false;
    }
    let upper = line.to_ascii_uppercase();
    if upper.contains("-----BEGIN") || upper.contains("-----END") {
        return true;
    }
    let joined = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let is_kind = |text: &str| KINDS.iter().chain(&UNREAD).any(|kind| joined(kind) == text);
    upper.split(is_dash).map(joined).any(|part| {
        let kind = part.strip_prefix("BEGIN").or_else(|| part.strip_prefix("END"));
        kind.is_some_and(is_kind)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const BLOCK: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    fn found(text: &str) -> Vec<(usize, String)> {
        strays(text.as_bytes()).into_iter().map(|stray| (stray.line, stray.what)).collect()
    }

    #[test]
    fn whole_blocks_with_text_around_them_have_no_fault() {
        let texts = [
            String::new(),
            BLOCK.repeat(2),
            BLOCK.replace('\n', "\r\n"),
            BLOCK.replace('\n', "\r"),
            BLOCK.trim_end().to_owned(),
            BLOCK.replace("-----\n", "-----  \n"),
            format!(
                "Bag Attributes\n    friendlyName: -- the end --\n# ---- begin of the chain ----\nsubject=CN = a-b\n{BLOCK}"
            ),
            format!(
                "Certificate:\n    Data:\n        Version: 3 (0x2)\n{BLOCK}-----BEGIN EC PARAMETERS-----\nA\n-----END EC PARAMETERS-----\n"
            ),
        ];
        for text in texts {
            assert_eq!(found(&text), [], "{text}");
        }
    }

    #[test]
    fn every_broken_marker_is_reported_once_at_its_line() {
        let two = BLOCK.repeat(2);
        let cases = [
            (two.replace("-----\n-----BEGIN", "----------BEGIN"), 3, "two markers on one line"),
            (two.replace("-----\n-----BEGIN", "-----BEGIN"), 3, "two markers on one line"),
            (format!("{BLOCK}-{BLOCK}"), 4, "a broken marker"),
            (format!("{BLOCK}{}", &BLOCK[1..]), 4, "a broken marker"),
            (format!("{BLOCK} {BLOCK}"), 4, "a broken marker"),
            (format!("\u{feff}{BLOCK}"), 1, "a broken marker"),
            (BLOCK.replacen("E-----", "E----", 1), 1, "a broken marker"),
            (BLOCK.replacen("BEGIN ", "BEGIN", 1), 1, "a broken marker"),
            (BLOCK.replacen("-----BEGIN", "\u{2014}-BEGIN", 1), 1, "a broken marker"),
            (BLOCK.replacen("BEGIN", "begin", 1), 1, "a broken marker"),
            (BLOCK.replacen("\n-----END", "-----END", 1), 2, "a broken marker"),
            (BLOCK.replacen("-----END", "--END", 1), 3, "a broken marker"),
            (BLOCK.replacen("BEGIN CERTIFICATE", "BEGIN CERTIFCATE", 1), 1, "`CERTIFCATE` is no known kind of block"),
            (
                BLOCK.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
                1,
                "blocks of the kind `TRUSTED CERTIFICATE` are not read",
            ),
            (format!("AAAA\n-----END CERTIFICATE-----\n{BLOCK}"), 2, "the end of a block that has no beginning"),
            (format!("-----BEGIN CERTIFICATE-----\nAAAA\n{BLOCK}"), 1, "the beginning of a block that has no end"),
            (format!("{BLOCK}-----BEGIN CERTIFICATE-----\nAAAA\n"), 4, "the beginning of a block that has no end"),
        ];
        for (text, line, what) in cases {
            let reported = found(&text);
            assert_eq!(reported.first(), Some(&(line, what.to_owned())), "{text}");
            let same_line = reported.iter().filter(|(at, _)| *at == line).count();
            assert!(same_line == 1 && reported.len() <= 2, "{text}\n{reported:?}");
        }
    }

    #[test]
    fn several_broken_markers_are_all_reported() {
        let text = format!("{BLOCK}-{BLOCK}-{BLOCK}");
        assert_eq!(found(&text).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [4, 7]);
    }
}
