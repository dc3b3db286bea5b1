//! `routes[].compress`: compression of responses. `off` is the default.

use std::borrow::Cow;

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::values::{MediaPattern, Size};
use super::section_or_off::{self, SectionOrOff};

/// `routes[].compress`: the settings, or `off`.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Compression {
    /// Responses are compressed according to these settings.
    On(CompressSettings),
    /// No response is compressed.
    #[default]
    Off,
}

impl Compression {
    /// The settings; `None` if compression is off.
    pub fn settings(&self) -> Option<&CompressSettings> {
        match self {
            Self::On(settings) => Some(settings),
            Self::Off => None,
        }
    }
}

/// `routes[].compress`: which responses are compressed, and how.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CompressSettings {
    /// Content codings, in order of preference: `zstd`, `br`, `gzip`. The client's weights come first.
    pub encodings: Vec<ContentCoding>,
    /// Compression levels.
    pub levels: CompressLevels,
    /// Shorter responses are not compressed. It does not apply to responses of unknown length.
    pub min: Size,
    /// Media types that are compressed: `text/html`, `text/*` or `*+json`.
    pub types: Vec<MediaPattern>,
    /// Compress `text/event-stream` too. Each piece of the backend is passed on at once.
    pub streams: bool,
}

/// A content coding (RFC 9110 section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContentCoding {
    /// Zstandard (RFC 8878, RFC 9659).
    Zstd,
    /// Brotli (RFC 7932).
    Br,
    /// gzip (RFC 1952).
    Gzip,
}

impl ContentCoding {
    /// All codings, in the default order of preference.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// The name in Content-Encoding.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// `routes[].compress.levels`: a higher level costs more CPU time for a smaller response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CompressLevels {
    /// 1 to 9.
    #[schemars(range(min = 1, max = 9))]
    pub gzip: u8,
    /// 0 to 11. Above 9 a response of 1 MB takes more than a second.
    #[schemars(range(min = 0, max = 11))]
    pub br: u8,
    /// 1 to 19.
    #[schemars(range(min = 1, max = 19))]
    pub zstd: u8,
}

impl Default for CompressLevels {
    fn default() -> Self {
        Self { gzip: 4, br: 4, zstd: 3 }
    }
}

/// Text, JSON, JavaScript, XML, SVG, wasm, and fonts other than woff and woff2, which are compressed already.
const TYPES: [&str; 12] = [
    "text/*",
    "application/json",
    "*+json",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "*+xml",
    "application/wasm",
    "font/ttf",
    "font/otf",
    "font/collection",
    "application/vnd.ms-fontobject",
];

impl Default for CompressSettings {
    fn default() -> Self {
        Self {
            encodings: ContentCoding::ALL.into(),
            levels: CompressLevels::default(),
            min: Size::kib(1),
            types: TYPES.iter().filter_map(|text| text.parse().ok()).collect(),
            streams: false,
        }
    }
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match SectionOrOff::deserialize(deserializer)? {
            SectionOrOff::On(settings) => Self::On(settings),
            SectionOrOff::Off => Self::Off,
            SectionOrOff::Empty => Self::default(),
        })
    }
}

impl Serialize for Compression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        section_or_off::serialize(self.settings(), serializer)
    }
}

impl JsonSchema for Compression {
    fn schema_name() -> Cow<'static, str> {
        "Compression".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        section_or_off::json_schema::<CompressSettings>(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_default_type_is_a_valid_pattern() {
        assert_eq!(CompressSettings::default().types.len(), TYPES.len());
    }
}
