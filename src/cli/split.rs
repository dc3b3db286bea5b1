//! `weir split`: the shares of a route's split in the running process.

use std::collections::BTreeMap;

use clap::Args;

use super::RemoteOptions;
use super::backend_commands::encode;
use super::remote::{CommandOutput, DONE, Remote, TIMEOUT};
use super::remote_commands::ask;
use crate::admin::api::SplitReply;

/// `weir split`.
#[derive(Debug, Args)]
pub(super) struct SplitOptions {
    /// The name of the route
    #[arg(value_name = "ROUTE")]
    route: String,
    /// A weight, 0 to 65535, of an upstream, or `configured` to undo; without it, the shares are shown
    #[arg(value_name = "UPSTREAM=N", value_parser = wanted)]
    weights: Vec<WantedShare>,
    #[command(flatten)]
    remote: RemoteOptions,
}

/// One argument.
#[derive(Debug, Clone, PartialEq, Eq)]
enum WantedShare {
    Configured,
    Weight(String, u16),
}

fn wanted(text: &str) -> Result<WantedShare, String> {
    if text == "configured" {
        return Ok(WantedShare::Configured);
    }
    let (upstream, weight) = text.rsplit_once('=').ok_or("write UPSTREAM=N, such as v2=10, or `configured`")?;
    let weight = weight.parse().map_err(|_| format!("`{weight}` is not a weight; write 0 to 65535"))?;
    Ok(WantedShare::Weight(upstream.to_owned(), weight))
}

pub(super) fn split(options: &SplitOptions) -> u8 {
    ask(&options.remote, |remote| remote.split(&options.route, &options.weights))
}

impl Remote {
    fn split(&self, route: &str, wanted: &[WantedShare]) -> CommandOutput {
        let path = format!("/api/v1/routes/{}/split", encode(route));
        let say = |split: SplitReply| (text(&split), DONE);
        if wanted.is_empty() {
            return self.ask("GET", &path, None, TIMEOUT, say);
        }
        let mut weights = BTreeMap::new();
        for one in wanted {
            match one {
                WantedShare::Configured if wanted.len() > 1 => {
                    return self.fail("`configured` stands alone: it undoes all weights");
                }
                WantedShare::Configured => {}
                WantedShare::Weight(upstream, weight) => {
                    if weights.insert(upstream, weight).is_some() {
                        return self.fail(&format!("`{upstream}` is named twice"));
                    }
                }
            }
        }
        let weights = (!weights.is_empty()).then_some(weights);
        let body = serde_json::json!({ "weights": weights }).to_string();
        self.ask("PUT", &path, Some(("application/json", body.as_bytes())), TIMEOUT, say)
    }
}

fn text(split: &SplitReply) -> String {
    let by = split.by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
    let set = if split.overridden { ", set at run time" } else { "" };
    format!("{}: {}{by}{set}\n", split.route, split.summary())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::admin::test_double::Running;
    use crate::cli::remote::FAILED;

    #[test]
    fn arguments_are_parsed() {
        assert_eq!(wanted("v2=10"), Ok(WantedShare::Weight("v2".into(), 10)));
        assert_eq!(wanted("configured"), Ok(WantedShare::Configured));
        assert!(["v2", "v2=", "v2=-1", "v2=65536", "v2=x"].iter().all(|text| wanted(text).is_err()));
    }

    #[test]
    fn shares_are_shown_set_and_undone() {
        let running = Running::start(None);
        let remote = Remote { url: format!("http://{}", running.address), ..Remote::default() };
        let shares = "r: a 90%, b 10%, by cookie `user`, set at run time\n";
        assert_eq!(remote.split("r", &[]), CommandOutput { text: shares.into(), code: DONE });
        let weight = |name: &str, weight| WantedShare::Weight(name.to_owned(), weight);
        assert_eq!(remote.split("r", &[weight("a", 90), weight("b", 10)]).text, shares);
        assert_eq!(remote.split("r", &[WantedShare::Configured]).code, DONE);
        assert_eq!(*running.fake.asked.lock().unwrap(), [r#"Some({"a": 90, "b": 10})"#, "None"]);
        for refused in [
            remote.split("x", &[]),
            remote.split("r", &[weight("x", 1)]),
            remote.split("r", &[weight("a", 1), weight("a", 2)]),
            remote.split("r", &[weight("a", 1), WantedShare::Configured]),
        ] {
            assert_eq!(refused.code, FAILED, "{}", refused.text);
        }
    }
}
