//! Messages of the gRPC health check (grpc.health.v1.Health/Check): encodes the request, checks the response.
//!
//! It does no I/O: `probe` sends and receives. The request has the service name and the response one number, so no
//! protobuf library is needed.

use http::HeaderMap;

use crate::telemetry::grpc_status::GrpcStatus;

/// Path of the method.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";
/// Maximum size of a response; a valid one holds a single number.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 * 1024;

/// `HealthCheckRequest { service }` as one length-prefixed message.
pub(super) fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 4);
    if !service.is_empty() {
        // Field 1, a string. The empty string is the default and is omitted.
        message.push(0x0a);
        varint(service.len(), &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), &message].concat()
}

/// Checks `grpc-status`, from the trailers or from the header of a response without body.
///
/// # Errors
/// A readable reason: the status, or that it is missing or malformed.
pub(super) fn check_status(fields: &HeaderMap) -> Result<(), String> {
    let Some(status) = fields.get("grpc-status") else { return Err("answer has no grpc-status".into()) };
    let number = status.to_str().ok().and_then(|text| text.parse::<usize>().ok());
    match number {
        Some(0) => Ok(()),
        Some(number) => {
            let defined = GrpcStatus::defined_name(number);
            let name = defined.map_or_else(|| number.to_string(), str::to_owned);
            let why = match defined.unwrap_or_default() {
                "NOT_FOUND" => ": it does not know the service",
                "UNIMPLEMENTED" => ": it has no health service",
                _ => "",
            };
            Err(format!("grpc status {name}{why}"))
        }
        None => Err("answer's grpc-status is no number".into()),
    }
}

/// Checks the body: the status of `HealthCheckResponse` must be SERVING.
///
/// # Errors
/// A readable reason: the other status, or that the message is malformed.
pub(super) fn check_message(body: &[u8]) -> Result<(), String> {
    let malformed = || "answer is no health response".to_owned();
    let (prefix, message) = body.split_at_checked(5).ok_or_else(malformed)?;
    let length = prefix[1..].iter().fold(0_usize, |all, byte| all << 8 | usize::from(*byte));
    if prefix[0] != 0 || length != message.len() {
        return Err(malformed());
    }
    match status(message).ok_or_else(malformed)? {
        1 => Ok(()),
        0 => Err("health status UNKNOWN, expected SERVING".into()),
        2 => Err("health status NOT_SERVING, expected SERVING".into()),
        3 => Err("health status SERVICE_UNKNOWN, expected SERVING".into()),
        other => Err(format!("health status {other}, expected SERVING")),
    }
}

/// Field 1 of the message; 0, the default, if it is absent. Unknown fields are skipped.
fn status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let key = read_varint(&mut message)?;
        match key & 7 {
            0 => {
                let value = read_varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(read_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(mut number: usize, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn read_varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for at in 0..10 {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f).checked_shl(7 * at)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_names_the_service() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = request(&"x".repeat(300));
        assert_eq!((&long[..8], long.len()), (&[0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02][..], 308));
    }

    #[test]
    fn only_serving_passes() {
        let of = |message: &[u8]| check_message(&[&[0, 0, 0, 0, message.len() as u8], message].concat());
        assert_eq!(of(&[0x08, 1]), Ok(()));
        assert_eq!(of(&[0x12, 1, b'x', 0x08, 1, 0x1d, 0, 0, 0, 0]), Ok(()), "later fields are skipped");
        assert_eq!(of(&[]).unwrap_err(), "health status UNKNOWN, expected SERVING");
        assert_eq!(of(&[0x08, 2]).unwrap_err(), "health status NOT_SERVING, expected SERVING");
        assert_eq!(of(&[0x08, 3]).unwrap_err(), "health status SERVICE_UNKNOWN, expected SERVING");
        for broken in [&[0x08][..], &[0x08, 0x80], &[0x12, 9], &[0x0b]] {
            assert_eq!(of(broken).unwrap_err(), "answer is no health response", "{broken:?}");
        }
        assert!(check_message(&[]).is_err() && check_message(&[1, 0, 0, 0, 2, 8, 1]).is_err());
        assert!(check_message(&[0, 0, 0, 0, 3, 8, 1]).is_err());
    }

    #[test]
    fn a_status_error_names_the_status() {
        let of = |status: &str| {
            let mut fields = HeaderMap::new();
            fields.insert("grpc-status", status.parse().unwrap());
            check_status(&fields)
        };
        assert_eq!(of("0"), Ok(()));
        assert_eq!(of("12").unwrap_err(), "grpc status UNIMPLEMENTED: it has no health service");
        assert_eq!(of("5").unwrap_err(), "grpc status NOT_FOUND: it does not know the service");
        assert_eq!(of("99").unwrap_err(), "grpc status 99");
        assert!(of("x").is_err() && check_status(&HeaderMap::new()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (check_message(&body), status(&body));
        }
    }
}
