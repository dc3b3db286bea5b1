//! `grpc-timeout`: how long a client of gRPC waits for its call (gRPC over HTTP/2, *Requests*).

use std::time::Duration;

use http::HeaderMap;

/// The name of the field.
const NAME: &str = "grpc-timeout";
/// The longest number.
const MAX_DIGITS: usize = 8;

/// A value that the protocol does not allow, or two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The timeout of a call. `None` without the field.
///
/// # Errors
/// The field is malformed.
pub fn of(request: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    let mut values = request.get_all(NAME).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => parse(value.as_bytes()).map(Some).ok_or(Malformed),
        (Some(_), Some(_)) => Err(Malformed),
    }
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=MAX_DIGITS).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of_values(values: &[&'static str]) -> Result<Option<Duration>, Malformed> {
        let mut request = HeaderMap::new();
        for value in values {
            request.append(NAME, HeaderValue::from_static(value));
        }
        of(&request)
    }

    #[test]
    fn every_unit_is_read() {
        for (value, nanos) in [
            ("2H", 7_200_000_000_000),
            ("3M", 180_000_000_000),
            ("7S", 7_000_000_000),
            ("250m", 250_000_000),
            ("5u", 5_000),
            ("9n", 9),
            ("0S", 0),
            ("00000001S", 1_000_000_000),
        ] {
            assert_eq!(of_values(&[value]), Ok(Some(Duration::from_nanos(nanos))), "{value}");
        }
        assert_eq!(of_values(&[]), Ok(None));
        assert_eq!(of_values(&["99999999H"]), Ok(Some(Duration::from_secs(99_999_999 * 3600))));
    }

    #[test]
    fn other_values_are_malformed() {
        for value in ["", "S", "1", "1s", "1 S", "-1S", "+1S", "1.5S", "123456789S", "1SS", " 1S"] {
            assert_eq!(of_values(&[value]), Err(Malformed), "{value}");
        }
        assert_eq!(of_values(&["1S", "1S"]), Err(Malformed));
    }
}
