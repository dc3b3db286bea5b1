//! Who speaks TLS in a test that runs more than one way: clients with Weir, Weir with its backend.

use super::pki::{Issued, Pki, put};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub client: bool,
    pub backend: bool,
}

pub const PLAIN: Way = Way { client: false, backend: false };
pub const EDGE: Way = Way { client: true, backend: false };
pub const THROUGHOUT: Way = Way { client: true, backend: true };
pub const WAYS: [Way; 3] = [PLAIN, EDGE, THROUGHOUT];

impl Way {
    /// What a listener has for it.
    pub fn listener(self) -> &'static str {
        if self.client { ", tls: { certificates: [{ cert: edge.pem, key: edge.key }] }" } else { "" }
    }

    /// What an upstream has for it.
    pub fn upstream(self) -> &'static str {
        if self.backend { "tls: { server_name: server.test, ca: ca.pem }, " } else { "" }
    }

    /// A folder with the files that they name, and what the backend shows. Weir's certificate covers two names.
    pub fn files(self) -> (tempfile::TempDir, Option<Issued>) {
        let (pki, folder) = (Pki::new(), tempfile::tempdir().unwrap());
        pki.issue(&["example.org", "example.com"]).put(folder.path(), "edge");
        put(folder.path(), "ca.pem", &pki.ca());
        (folder, self.backend.then(|| pki.issue(&["server.test"])))
    }
}
