//! Tests of stored hashes, with the output of the usual tools.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

/// Hashes of [`PASSWORD`] by htpasswd 2.4.71, mkpasswd 5.5.17, argon2 20171227, OpenSSL and crypt(3).
const RECORDED: [(&str, &str); 14] = [
    ("htpasswd -B -C 5", "$2y$05$54nqWJrVuetLw5O1R6OwMOJce.9zfM.J3gYYU14FKpJGMvMbD7ThO"),
    ("htpasswd -B -C 10", "$2y$10$O1YiZgaGgCH9vZs/1Si5J.0OxKXj/3VYgMPtBpPjWfDCBl5gsl.E2"),
    ("mkpasswd -m bcrypt", "$2b$05$iEkNV0x7NkWPxHH30FCbHu9PcT5/fVTvKQKQYVtHEbV3/moMIeBri"),
    ("mkpasswd -m bcrypt-a", "$2a$05$rIOR2fPAPr9QWRk3mdrHpOKyhZ70qXL/NdFgevgd6qGhDjA6x4oSC"),
    ("htpasswd -2", "$5$8jVcveNqCj4lNr22$bpqRkv1Co4VvH9ITUgFTCFYLizNHEAZyvXqobdFPJp6"),
    ("htpasswd -2 -r 10000", "$5$rounds=10000$p.UtaMoH8nJEqdzY$WbIbSE0tajysNKvVxAXGrJcEIDI3W4r1DAO1BtWOq5."),
    (
        "htpasswd -5",
        "$6$jU2D1cpH8WV8JOA3$IzQ5/IjjbgilrllhZwB9jHUl6aJG.pONB5pyXz59FoE5VrPbLR457/9KYBSV0qwnKRXn7z5vNHa0GYpdOQI/C.",
    ),
    (
        "htpasswd -5 -r 1000",
        "$6$rounds=1000$TShqntevbO1jqt5C$AebjwlyIkCIRPdHE0K.VphBHc9W2hBiDnAumiXspELAZoFmDxZAHJ7dBP95UInVJLMVq/LR/2MR//bp/.bVAu/",
    ),
    ("mkpasswd -m sha256crypt", "$5$USVaGC9PNR5GSCd1$U5yxsWYgGwArUCmHDx2uSOMBCWA5XIqXjehSFXzxFUB"),
    (
        "openssl passwd -6",
        "$6$Fmq7akWeEJ9yR2QC$XFwMvWW7MhsJZkZ/QDhfw.LBp4MLIPF6GJyK0p3JJzLub0u4HltWMRIsn8iekHWDPFBwer5cPChQJUV7ZFQKm/",
    ),
    ("argon2 -i", "$argon2i$v=19$m=4096,t=2,p=1$c29tZXNhbHQxNmJ5dGVzIQ$62ZUzZB9xe6r5FQ8ryPzgkL9VDpd9zMgbdVtqwWNWPk"),
    ("argon2 -id", "$argon2id$v=19$m=4096,t=2,p=1$c29tZXNhbHQxNmJ5dGVzIQ$DahZZ4oW1J4FnSxGDOpnpX1qbg0ep708xdChbSLvuXw"),
    (
        "argon2 -id -p 4",
        "$argon2id$v=19$m=4096,t=2,p=4$c29tZXNhbHQxNmJ5dGVzIQ$Lrrjqzh5bQrc3+Q5+IXeUm9v3dh/MaTwPRfObSnvaxo",
    ),
    (
        "argon2 -id -v 10",
        "$argon2id$v=16$m=4096,t=2,p=1$c29tZXNhbHQxNmJ5dGVzIQ$YCJ3D649LI1hN0YLMsT0daxlxxXODwYVNOFWNKWwd7M",
    ),
];

const PASSWORD: &str = "correct horse: Z\u{fc}rich";

fn parsed(text: &str) -> Result<PasswordHash, BadHash> {
    text.parse()
}

#[test]
fn the_hashes_of_the_usual_tools_verify_their_password_and_no_other() {
    for (tool, text) in RECORDED {
        let hash = parsed(text).unwrap_or_else(|bad| panic!("{tool}: {bad}"));
        assert!(hash.verify(PASSWORD.as_bytes()), "{tool}");
        for wrong in ["", "correct horse", "Correct horse: Z\u{fc}rich", "correct horse: Z\u{fc}rich "] {
            assert!(!hash.verify(wrong.as_bytes()), "{tool}: {wrong:?}");
        }
    }
}

#[test]
fn weak_and_unknown_formats_are_named() {
    for (text, what) in [
        ("$apr1$01W9iHce$zxSbCagM.rj09oll6RZ3R0", "MD5, which is too weak"),
        ("$1$AC3Zbb38$oQoXTpe4u1d2Hu/yKIaeb1", "MD5, which is too weak"),
        ("{SHA}rhAr4RiFGVYv0ksOTvvHl7qjIaU=", "{SHA}, SHA-1 without a salt, which is too weak"),
        ("{SSHA}rhAr4RiFGVYv0ksOTvvHl7qjIaUxxxx", "{SSHA}, a single SHA-1, which is too weak"),
        ("wm8FybTT8zFj6", "DES crypt or a password in clear, which is too weak"),
        (
            "$2x$05$54nqWJrVuetLw5O1R6OwMOJce.9zfM.J3gYYU14FKpJGMvMbD7ThO",
            "bcrypt of a faulty version, which is too weak",
        ),
        (
            "$y$j9T$4jfiHLiNavatyZgW7NUZF1$mzifEeorXTn005xUhqp9i2OMKcw2YxdeJFCeVHoSdo0",
            "yescrypt, which is not supported",
        ),
        (
            "$argon2d$v=19$m=4096,t=2,p=1$c29tZXNhbHQxNmJ5dGVzIQ$cY0CQs6AMWvIf0VCWohoKvxhJk3/l3ek6u8oKvOD588",
            "Argon2d, which is not supported",
        ),
        ("hunter2", "no known hash: a password in clear or an unknown format"),
        ("", "no hash after the user"),
    ] {
        assert_eq!(parsed(text).unwrap_err().to_string(), what, "{text}");
    }
}

#[test]
fn a_cost_out_of_bounds_is_rejected() {
    let bcrypt = |cost: &str| RECORDED[0].1.replacen("05", cost, 1);
    let argon2 = |params: &str| RECORDED[11].1.replacen("m=4096,t=2,p=1", params, 1);
    let sha = |rounds: &str| RECORDED[7].1.replacen("1000", rounds, 1);
    for text in [bcrypt("04"), bcrypt("16"), argon2("m=262144,t=16,p=16"), sha("1000000")] {
        assert!(parsed(&text).is_ok(), "{text}");
    }
    for (text, what) in [
        (bcrypt("03"), "the cost of bcrypt 3 is out of bounds: 4 to 16"),
        (bcrypt("17"), "the cost of bcrypt 17 is out of bounds: 4 to 16"),
        (bcrypt("31"), "the cost of bcrypt 31 is out of bounds: 4 to 16"),
        (argon2("m=262145,t=2,p=1"), "the memory (`m`) of Argon2 262145 is out of bounds: 8 to 262144"),
        (argon2("m=4096,t=17,p=1"), "the passes (`t`) of Argon2 17 is out of bounds: 1 to 16"),
        (argon2("m=4096,t=2,p=17"), "the lanes (`p`) of Argon2 17 is out of bounds: 1 to 16"),
        (sha("999"), "the rounds of SHA-crypt 999 is out of bounds: 1000 to 1000000"),
        (sha("1000001"), "the rounds of SHA-crypt 1000001 is out of bounds: 1000 to 1000000"),
        (sha("99999999999"), "the rounds of SHA-crypt 4294967295 is out of bounds: 1000 to 1000000"),
    ] {
        assert_eq!(parsed(&text).unwrap_err().to_string(), what);
    }
}

#[test]
fn a_malformed_hash_is_rejected_when_it_is_read_and_not_at_a_request() {
    let mut malformed = vec![
        "$2y$".to_owned(),
        "$5$$".to_owned(),
        "$6$rounds=$salt$".to_owned(),
        "$argon2id$v=19$m=4096,t=2,p=1$c29tZXNhbHQxNmJ5dGVzIQ".to_owned(),
        RECORDED[11].1.replacen("v=19$", "", 1),
        RECORDED[11].1.replacen("v=19", "v=18", 1),
        RECORDED[6].1.replacen("jU2D", "jU2D:", 1),
        RECORDED[6].1.replacen("jU2D1cpH8WV8JOA3", "", 1),
        RECORDED[6].1.replacen("jU2D1cpH8WV8JOA3", "jU2D1cpH8WV8JOA3x", 1),
    ];
    malformed.extend(RECORDED.iter().flat_map(|(_, text)| [text[..text.len() - 1].to_owned(), format!("{text}!")]));
    for text in malformed {
        assert!(matches!(parsed(&text), Err(BadHash::Malformed(_))), "{text}: {:?}", parsed(&text));
    }
}

#[test]
fn debug_shows_no_part_of_a_hash() {
    assert_eq!(format!("{:?}", parsed(RECORDED[0].1).unwrap()), "PasswordHash { algorithm: Bcrypt, .. }");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_no_hash_and_causes_no_panic(start in 0usize..9, rest in r"[$./=,a-zA-Z0-9\PC]{0,100}") {
        let prefixes = ["", "$", "$2y$05$", "$5$", "$6$", "$6$rounds=1000$", "$argon2id$v=19$m=64,t=1,p=1$", "{SHA}", "$apr1$"];
        let text = format!("{}{rest}", prefixes[start]);
        // A text that is a hash by chance matches no fixed password.
        if let Ok(hash) = parsed(&text) {
            prop_assert!(!hash.verify(b"password"));
        }
    }

    #[test]
    fn a_damaged_hash_never_verifies_another_password(which in 0usize..2, at in 0usize..60, byte in "[ -~]") {
        let mut text = [RECORDED[0].1, RECORDED[7].1][which].to_owned();
        text.replace_range(at..=at, &byte);
        if let Ok(hash) = parsed(&text) {
            prop_assert!(!hash.verify(b"another password"));
        }
    }
}
