//! Tests of encoders and decoders with each other. tests/it uses independent decoders.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn coded(coder: &mut BodyCoder, pieces: &[&[u8]]) -> Result<Vec<u8>, CodingError> {
    let mut output = Vec::new();
    for piece in pieces {
        output.extend_from_slice(&coder.piece(piece, false)?);
    }
    output.extend_from_slice(&coder.end()?.unwrap_or_default());
    assert!(coder.end()?.is_none(), "the end is written once");
    Ok(output)
}

fn encoder(coding: ContentCoding, length: Option<u64>) -> BodyCoder {
    BodyCoder::encode(coding, CompressLevels::default(), length)
}

#[test]
fn a_flushed_piece_is_decodable_before_the_next_one() {
    for coding in ContentCoding::ALL {
        let (mut encoder, mut decoder) = (encoder(coding, None), BodyCoder::decode(coding));
        for piece in [&b"data: one\n\n"[..], b"x", &[7; 100_000], b"data: last\n\n"] {
            let output = encoder.piece(piece, false).unwrap();
            let decoded = decoder.piece(&output, false).unwrap();
            assert!(decoded == piece, "{coding:?}: {} of {} bytes", decoded.len(), piece.len());
        }
        let rest = encoder.end().unwrap().unwrap();
        assert_eq!(decoder.piece(&rest, true).unwrap(), "", "{coding:?}");
    }
}

#[test]
fn a_cut_or_changed_body_is_no_complete_one() {
    let body = b"a line of text\n".repeat(100);
    for coding in ContentCoding::ALL {
        let whole = coded(&mut encoder(coding, None), &[&body]).unwrap();
        for cut in [whole.len() - 1, whole.len() / 2, 1] {
            let decoded = BodyCoder::decode(coding).piece(&whole[..cut], true);
            assert!(matches!(decoded, Err(CodingError::Decode { .. })), "{coding:?} {cut}: {decoded:?}");
        }
        let garbage = BodyCoder::decode(coding).piece(b"<html>", true);
        assert!(matches!(garbage, Err(CodingError::Decode { .. })), "{coding:?}");
    }
}

#[test]
fn a_body_that_expands_more_than_a_hundred_times_is_refused_beyond_1_mib() {
    for coding in ContentCoding::ALL {
        let bomb = coded(&mut encoder(coding, None), &[&vec![0; 30 << 20]]).unwrap();
        let mut decoder = BodyCoder::decode(coding);
        let result = bomb.chunks(1000).map(|piece| decoder.piece(piece, false)).find_map(Result::err);
        assert!(matches!(result, Some(CodingError::TooLarge { .. })), "{coding:?} {}", bomb.len());
        assert!(decoder.bytes().after < 4 << 20, "{coding:?}");
        let small = coded(&mut encoder(coding, None), &[&vec![0; 1 << 20]]).unwrap();
        let decoded = BodyCoder::decode(coding).piece(&small, true).unwrap();
        assert_eq!(decoded.len(), 1 << 20, "{coding:?}: 1 MiB is allowed at any ratio");
    }
}

#[test]
fn a_body_of_another_length_than_announced_fails_for_zstd() {
    let mut encoder = encoder(ContentCoding::Zstd, Some(10));
    assert!(encoder.piece(b"short", true).is_err());
}

#[test]
fn an_empty_body_is_a_complete_coded_one() {
    for coding in ContentCoding::ALL {
        let empty = coded(&mut encoder(coding, None), &[]).unwrap();
        assert!(!empty.is_empty(), "{coding:?}");
        assert_eq!(BodyCoder::decode(coding).piece(&empty, true).unwrap(), "", "{coding:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_body_in_any_pieces_arrives_unchanged(
        body in proptest::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..20_000),
        cuts in proptest::collection::vec(0usize..20_000, 0..8),
        known in any::<bool>(),
        coding in prop::sample::select(ContentCoding::ALL.to_vec()),
    ) {
        let split = |body: &[u8]| {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(body.len());
            let starts = std::iter::once(0).chain(cuts.clone());
            starts.zip(cuts.clone()).map(|(start, end)| body[start..end].to_vec()).collect::<Vec<_>>()
        };
        let pieces = split(&body);
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let length = known.then_some(body.len() as u64);
        let output = coded(&mut encoder(coding, length), &pieces).unwrap();
        let pieces = split(&output);
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let decoded = coded(&mut BodyCoder::decode(coding), &pieces).unwrap();
        prop_assert!(decoded == body);
    }
}

/// Prints the memory of an encoder for docs/compress.md.
#[test]
#[ignore = "a measurement"]
fn memory_of_an_encoder() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    // No piece is like another one, so that the encoder uses all of its tables.
    let mut random = fastrand::Rng::with_seed(1);
    let pieces: Vec<Vec<u8>> = (0..48).map(|_| (0..32_768).map(|_| random.u8(b'a'..=b'z')).collect()).collect();
    for (coding, levels, length) in [
        (ContentCoding::Gzip, CompressLevels { gzip: 1, ..Default::default() }, None),
        (ContentCoding::Gzip, CompressLevels::default(), None),
        (ContentCoding::Gzip, CompressLevels { gzip: 9, ..Default::default() }, None),
        (ContentCoding::Br, CompressLevels::default(), None),
        (ContentCoding::Br, CompressLevels { br: 9, ..Default::default() }, None),
        (ContentCoding::Br, CompressLevels { br: 11, ..Default::default() }, None),
        (ContentCoding::Zstd, CompressLevels::default(), None),
        (ContentCoding::Zstd, CompressLevels::default(), Some(100_000)),
        (ContentCoding::Zstd, CompressLevels { zstd: 9, ..Default::default() }, None),
        (ContentCoding::Zstd, CompressLevels { zstd: 19, ..Default::default() }, None),
    ] {
        let before = resident();
        let encoders: Vec<BodyCoder> = (0..20)
            .map(|_| {
                let mut coder = BodyCoder::encode(coding, levels, length);
                let count = if length.is_some() { 2 } else { pieces.len() };
                pieces.iter().take(count).for_each(|piece| drop(coder.piece(piece, false).unwrap()));
                coder
            })
            .collect();
        println!("{coding:?} {levels:?} {length:?}: {} KiB", (resident() - before) / encoders.len());
    }
}
