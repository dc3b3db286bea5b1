//! The rate limits that a request has met, as a part of its context. `rate_limits` and `response_cost` use it.

use std::sync::Arc;

use crate::rate_limit::cost::CostBody;
use crate::rate_limit::{Admission, Limit, LimitRefusal};
use crate::telemetry::limit_meters::{CostResult, LimitResult};

/// The limits that a request has met. It is empty for most requests.
#[derive(Debug, Default)]
pub(super) struct MetLimits {
    pub(super) held: Vec<HeldLimit>,
    /// Refusals, those of limits that are not enforced included, for the access log.
    pub(super) noted: Vec<(Arc<Limit>, LimitResult)>,
    /// The refusal that the client is told.
    pub(super) refusal: Option<LimitRefusal>,
    /// The end of the response's body, if a limit looks for its cost there.
    pub(super) body: Option<CostBody>,
}

impl MetLimits {
    /// The names of the limits that refused the request or would have, with the result.
    pub(super) fn names_of_refusals(&self) -> impl Iterator<Item = (&str, LimitResult)> {
        self.noted.iter().map(|(limit, result)| (limit.name().as_str(), *result))
    }
}

/// A limit that has admitted the request.
#[derive(Debug)]
pub(super) struct HeldLimit {
    pub(super) limit: Arc<Limit>,
    pub(super) admission: Admission,
    /// The cost in a header field of the response.
    pub(super) in_field: Option<Result<u64, CostResult>>,
}
