//! Tests of the decision about a response.
#![allow(clippy::unwrap_used)]

use ContentCoding::{Br, Gzip, Zstd};

use super::*;

const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");

fn response(status: u16, fields: &[(&'static str, &'static str)]) -> ResponseHeader {
    let mut response = ResponseHeader::build(status, None).unwrap();
    for (name, value) in fields {
        response.append_header(*name, *value).unwrap();
    }
    response
}

fn accepted(fields: &[(&'static str, &'static str)]) -> Accepted {
    Accepted::of(&response(200, fields).headers)
}

fn decided(status: u16, fields: &[(&'static str, &'static str)]) -> CodingDecision {
    let settings = CompressSettings::default();
    accepted(&[("accept-encoding", "gzip")]).decide(&Method::GET, Some(&settings), false, &response(status, fields))
}

#[test]
fn text_is_compressed_for_a_client_that_accepts_it() {
    for status in [200, 201, 203, 404, 410, 500, 503] {
        assert_eq!(decided(status, &[TEXT]), CodingDecision::Compress(Gzip), "{status}");
    }
    for media_type in ["application/json", "image/svg+xml", "TEXT/HTML", "application/problem+json", "font/ttf"] {
        assert_eq!(decided(200, &[("content-type", media_type)]), CodingDecision::Compress(Gzip), "{media_type}");
    }
    assert_eq!(decided(200, &[TEXT, ("content-length", "1024")]), CodingDecision::Compress(Gzip));
    assert_eq!(decided(200, &[TEXT, ("content-encoding", "identity")]), CodingDecision::Compress(Gzip));
}

#[test]
fn responses_that_must_not_change_pass_unchanged() {
    for status in [100, 103, 204, 206] {
        assert_eq!(decided(status, &[TEXT]), CodingDecision::Unchanged, "{status}");
    }
    for field in [
        ("content-length", "1023"),
        ("content-length", "0"),
        ("content-encoding", "br"),
        ("content-encoding", "gzip"),
        ("content-encoding", "compress"),
        ("content-encoding", "gzip, br"),
        ("content-range", "bytes 0-9/100"),
        ("cache-control", "max-age=5, No-Transform"),
        ("trailer", "Repr-Digest"),
    ] {
        assert_eq!(decided(200, &[TEXT, field]), CodingDecision::Unchanged, "{field:?}");
    }
    for media_type in
        ["image/png", "font/woff2", "application/grpc", "application/grpc+proto", "text/event-stream", "video/mp4"]
    {
        assert_eq!(decided(200, &[("content-type", media_type)]), CodingDecision::Unchanged, "{media_type}");
    }
    assert_eq!(decided(200, &[]), CodingDecision::Unchanged, "no Content-Type");
    let settings = CompressSettings::default();
    let forbids = accepted(&[("accept-encoding", "gzip"), ("cache-control", "no-transform")]);
    let decision = forbids.decide(&Method::GET, Some(&settings), true, &response(200, &[TEXT]));
    assert_eq!(decision, CodingDecision::Unchanged, "the request forbids it");
    let off = accepted(&[("accept-encoding", "gzip")]).decide(&Method::GET, None, false, &response(200, &[TEXT]));
    assert_eq!(off, CodingDecision::Unchanged);
}

#[test]
fn the_response_varies_also_for_a_client_that_gets_no_coding() {
    let settings = CompressSettings::default();
    for accept in [&[][..], &[("accept-encoding", "deflate")], &[("accept-encoding", "gzip;q=0")]] {
        let decision = accepted(accept).decide(&Method::GET, Some(&settings), false, &response(200, &[TEXT]));
        assert_eq!(decision, CodingDecision::Varies, "{accept:?}");
    }
    let gzip = accepted(&[("accept-encoding", "gzip")]);
    assert_eq!(gzip.decide(&Method::HEAD, Some(&settings), false, &response(200, &[TEXT])), CodingDecision::Varies);
    assert_eq!(decided(304, &[]), CodingDecision::NotModified);
    assert_eq!(accepted(&[]).decide(&Method::GET, Some(&settings), false, &response(304, &[])), CodingDecision::Varies);
}

#[test]
fn event_streams_need_a_key_and_a_client_without_identity_gets_each_type() {
    let settings = CompressSettings { streams: true, ..CompressSettings::default() };
    let events = response(200, &[("content-type", "text/event-stream")]);
    let all = accepted(&[("accept-encoding", "gzip, br, zstd")]);
    assert_eq!(all.decide(&Method::GET, Some(&settings), false, &events), CodingDecision::Compress(Zstd));
    let strict = accepted(&[("accept-encoding", "br, identity;q=0")]);
    let picture = response(200, &[("content-type", "image/png"), ("content-length", "5")]);
    assert_eq!(strict.decide(&Method::GET, Some(&settings), false, &picture), CodingDecision::Compress(Br));
}

#[test]
fn a_coding_is_removed_for_clients_that_do_not_accept_it() {
    let coded = response(200, &[TEXT, ("content-encoding", "x-gzip")]);
    let decide = |accept, decompress| accepted(accept).decide(&Method::GET, None, decompress, &coded);
    assert_eq!(decide(&[("accept-encoding", "br")], true), CodingDecision::Decompress(Gzip));
    assert_eq!(decide(&[], true), CodingDecision::Decompress(Gzip));
    assert_eq!(decide(&[("accept-encoding", "gzip")], true), CodingDecision::Varies);
    assert_eq!(decide(&[("accept-encoding", "br")], false), CodingDecision::Unchanged);
    let twice = response(200, &[TEXT, ("content-encoding", "gzip, br")]);
    assert_eq!(accepted(&[]).decide(&Method::GET, None, true, &twice), CodingDecision::Unchanged);
}
