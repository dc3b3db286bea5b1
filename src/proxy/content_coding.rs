//! Compresses and decompresses response bodies. It never decides about the header of a failed response.
//!
//! A downstream module does the work, because Pingora calls modules at each end of a body. It skips `ProxyHttp`'s own
//! filter if a body ends without a last piece, or with trailers.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Version, header};
use pingora::http::ResponseHeader;
use pingora::modules::http::{HttpModule, HttpModuleBuilder, Module};
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use crate::content_coding::body_coder::{BodyCoder, CodingError};
use crate::content_coding::eligibility::{Accepted, CodingDecision};
use crate::content_coding::header_fields;
use crate::telemetry::coding_meters::CodingAction;
use crate::telemetry::meters::RouteMeters;

/// The encoder has failed. No backend is at fault.
pub(super) const ENCODER_FAILED: ErrorType = ErrorType::new("EncoderFailed");

/// Decides about the body of a response, and edits its header. `length`: the length of the body, if it is known.
///
/// # Errors
/// A header field is not valid, which cannot happen.
pub(super) fn header(
    session: &mut Session,
    response: &mut ResponseHeader,
    length: Option<u64>,
    ctx: &RequestCtx,
) -> Result<()> {
    let Some(route) = ctx.route.as_ref().filter(|route| route.compress.is_some() || route.decompress) else {
        return Ok(());
    };
    if ctx.version == Version::HTTP_10 {
        // It has no framing for a body of unknown length but the end of the connection.
        return Ok(());
    }
    let accepted = Accepted::of(&session.req_header().headers);
    let coder = match accepted.decide(&ctx.method, route.compress.as_ref(), route.decompress, response) {
        CodingDecision::Unchanged => return Ok(()),
        CodingDecision::Varies => return header_fields::varies(response),
        CodingDecision::NotModified => {
            header_fields::weaken_etag(response)?;
            return header_fields::varies(response);
        }
        CodingDecision::Compress(coding) => {
            header_fields::compressed(response, coding)?;
            let levels = route.compress.as_ref().map(|compress| compress.levels).unwrap_or_default();
            BodyCoder::encode(coding, levels, length)
        }
        CodingDecision::Decompress(coding) => {
            header_fields::decompressed(response)?;
            BodyCoder::decode(coding)
        }
    };
    if ctx.version == Version::HTTP_11 {
        response.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
    }
    if let Some(module) = session.downstream_modules_ctx.get_mut::<ContentCodingModule>() {
        module.next = Some(Box::new(CodedBody { coder, meters: Arc::clone(&route.meters), failed: false }));
    }
    Ok(())
}

/// The body of one response, and the instruments of its route.
struct CodedBody {
    coder: BodyCoder,
    meters: Arc<RouteMeters>,
    failed: bool,
}

impl CodedBody {
    fn failed(&mut self, error: &CodingError) -> Box<Error> {
        self.failed = true;
        let pingora = match error {
            CodingError::Encode { .. } => Error::explain(ENCODER_FAILED, error.to_string()),
            CodingError::Decode { .. } | CodingError::TooLarge { .. } => {
                Error::explain(ErrorType::InvalidHTTPHeader, error.to_string()).into_up()
            }
        };
        tracing::warn!(route = %self.meters.name(), %error, "a response ends as incomplete");
        pingora
    }
}

impl Drop for CodedBody {
    fn drop(&mut self) {
        let action = if self.coder.is_encoder() { CodingAction::Compress } else { CodingAction::Decompress };
        let counters = self.meters.codings().of(action, self.coder.coding());
        let bytes = self.coder.bytes();
        counters.responses.bump();
        counters.before.add(bytes.before);
        counters.after.add(bytes.after);
        if self.failed {
            counters.failures.bump();
        }
    }
}

/// The module of one request. It does nothing until a response is to be coded.
#[derive(Default)]
pub(super) struct ContentCodingModule {
    /// For the response whose header was decided about and is not sent yet.
    next: Option<Box<CodedBody>>,
    /// For the response that is being sent.
    current: Option<Box<CodedBody>>,
}

/// Makes the module of each request.
pub(super) struct ContentCodingBuilder;

impl HttpModuleBuilder for ContentCodingBuilder {
    fn init(&self) -> Module {
        Box::new(ContentCodingModule::default())
    }
}

impl ContentCodingModule {
    /// The rest of the output, at an end without a last piece.
    fn finish(&mut self) -> Result<Option<Bytes>> {
        let Some(coded) = &mut self.current else { return Ok(None) };
        coded.coder.end().map_err(|error| coded.failed(&error))
    }
}

#[async_trait]
impl HttpModule for ContentCodingModule {
    /// The header of another attempt, or of an error response, ends the coding of an earlier one.
    async fn response_header_filter(&mut self, response: &mut ResponseHeader, _end: bool) -> Result<()> {
        if !response.status.is_informational() {
            self.current = self.next.take();
        }
        Ok(())
    }

    fn response_body_filter(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        let Some(coded) = &mut self.current else { return Ok(()) };
        let piece = body.take().unwrap_or_default();
        let output = coded.coder.piece(&piece, end).map_err(|error| coded.failed(&error))?;
        *body = (end || !output.is_empty()).then_some(output);
        Ok(())
    }

    /// The trailers of a coded response are dropped, because Pingora sends either them or the rest of the body
    /// (RFC 9110 section 6.5.1 allows it).
    fn response_trailer_filter(&mut self, _trailers: &mut Option<Box<HeaderMap>>) -> Result<Option<Bytes>> {
        self.finish()
    }

    fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        self.finish()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
