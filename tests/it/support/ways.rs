//! Who speaks TLS in a test that runs more than one way: clients with Weir, Weir with its backend.

use std::fmt::Display;

use super::Config;
use super::files::put;
use super::pki::{Issued, Pki};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub client: bool,
    pub backend: bool,
}

pub const PLAIN: Way = Way { client: false, backend: false };
pub const EDGE: Way = Way { client: true, backend: false };
pub const THROUGHOUT: Way = Way { client: true, backend: true };
pub const WAYS: [Way; 3] = [PLAIN, EDGE, THROUGHOUT];

/// The settings of a listener that speaks TLS, and of an upstream that does; `Way::files` makes the files.
pub const LISTENER_TLS: &str = "tls: { certificates: [{ cert: edge.pem, key: edge.key }] }";
pub const UPSTREAM_TLS: &str = "tls: { server_name: server.test, ca: ca.pem }";

impl Way {
    /// A listener `web` and an upstream `up` with one backend that speak TLS or not.
    pub fn config(self, backend: impl Display) -> Config {
        Config::to(backend)
            .set("listeners.web", if self.client { LISTENER_TLS } else { "" })
            .set("upstreams.up", if self.backend { UPSTREAM_TLS } else { "" })
    }

    /// A folder with the files that these settings name, and the backend's certificate. Weir's covers two names.
    pub fn files(self) -> (tempfile::TempDir, Option<Issued>) {
        let (pki, folder) = (Pki::new(), tempfile::tempdir().unwrap());
        pki.issue(&["example.org", "example.com"]).put(folder.path(), "edge");
        put(folder.path(), "ca.pem", pki.ca());
        (folder, self.backend.then(|| pki.issue(&["server.test"])))
    }
}
