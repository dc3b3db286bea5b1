//! The status codes of gRPC (statuscodes.md) as metrics and the access log name them. It knows no request.

/// How a call of gRPC ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcStatus(u8);

/// By code. The last stands for all codes that gRPC does not define.
const NAMES: [&str; 18] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
    "other",
];

impl GrpcStatus {
    /// How many values the label has.
    pub(crate) const COUNT: usize = NAMES.len();

    /// A client reports this where a response ends without a status.
    pub const UNKNOWN: Self = Self(2);

    /// The name of a code that gRPC defines.
    pub fn defined_name(code: usize) -> Option<&'static str> {
        NAMES[..NAMES.len() - 1].get(code).copied()
    }

    /// Of this code.
    pub const fn of_code(code: u8) -> Self {
        let other = Self::COUNT as u8 - 1;
        Self(if code < other { code } else { other })
    }

    /// Of the value of a `grpc-status` field.
    pub fn parse(value: &[u8]) -> Self {
        let code = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
        Self::of_code(code.unwrap_or(u8::MAX))
    }

    /// All of them, by index.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// Its place among the counters.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The value of the `grpc_status` label and of the log field.
    pub const fn label(self) -> &'static str {
        NAMES[self.0 as usize]
    }

    /// Whether error ratios count it: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE or DATA_LOSS. The others are
    /// answers of the service, as 4xx statuses are.
    pub const fn is_error(self) -> bool {
        matches!(self.0, 2 | 4 | 13 | 14 | 15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_grpc_and_all_else_is_other() {
        for (value, label) in
            [("0", "OK"), ("1", "CANCELLED"), ("14", "UNAVAILABLE"), ("16", "UNAUTHENTICATED"), (" 5 ", "NOT_FOUND")]
        {
            assert_eq!(GrpcStatus::parse(value.as_bytes()).label(), label);
        }
        for value in ["17", "255", "256", "-1", "", "OK", "1e1"] {
            assert_eq!(GrpcStatus::parse(value.as_bytes()).label(), "other", "{value}");
        }
        assert_eq!(GrpcStatus::parse(b"\xff").label(), "other");
        let errors: Vec<_> = GrpcStatus::all().filter(|status| status.is_error()).map(GrpcStatus::label).collect();
        assert_eq!(errors, ["UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]);
    }
}
