//! `routes[].errors`: pages in place of Weir's own error responses, by status.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

/// `routes[].errors`: pages by status.
pub type Errors = BTreeMap<ErrorStatus, ErrorPageSettings>;

/// A key of `errors`: `502`, or `5xx` for all others of its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum ErrorStatus {
    /// This status.
    One(u16),
    /// All statuses with this first digit.
    Class(u16),
}

impl FromStr for ErrorStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a status of errors; write 400 to 599, `4xx` or `5xx`");
        match text.to_ascii_lowercase().as_str() {
            "4xx" => Ok(Self::Class(4)),
            "5xx" => Ok(Self::Class(5)),
            number => match number.parse() {
                Ok(status @ 400..=599) => Ok(Self::One(status)),
                _ => Err(wrong()),
            },
        }
    }
}

impl TryFrom<String> for ErrorStatus {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for ErrorStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(status) => write!(f, "{status}"),
            Self::Class(first) => write!(f, "{first}xx"),
        }
    }
}

impl From<ErrorStatus> for String {
    fn from(status: ErrorStatus) -> Self {
        status.to_string()
    }
}

impl JsonSchema for ErrorStatus {
    fn schema_name() -> Cow<'static, str> {
        "ErrorStatus".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[45]([0-9][0-9]|[xX][xX])$" })
    }
}

/// `routes[].errors.*`: the page of a status. Accept of the request selects HTML, JSON or text. Weir's own page is sent
/// in a form that is not set here. Calls of gRPC get no page.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorPageSettings {
    /// Files of at most 256KiB: `.html`, `.json` (sent as problem+json, RFC 9457) or `.txt`. Pages may have variables,
    /// such as `{request_id}`. Changes of the files are served within a few seconds.
    pub file: Vec<PathBuf>,
    /// A page in HTML.
    pub html: String,
    /// A page in JSON.
    pub json: String,
    /// A page in plain text.
    pub text: String,
    /// Also replace responses of backends with this status.
    pub replace: bool,
}
