//! A bare Pingora proxy: one listener, round robin over plain HTTP/1.1 backends, and nothing else. No routes, metrics,
//! health, retries, deadlines or header edits: what is left is what Pingora itself costs.
//!
//! `bare LISTEN FRONT BACKEND...`; FRONT is `http`, `h2c` or `tls:CERT:KEY`. One thread, on Pingora's work-stealing runtime.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::modules::http::HttpModules;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bare {
    backends: Vec<SocketAddr>,
    turn: AtomicUsize,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();
    fn new_ctx(&self) {}

    // Empty: the default puts a compression module into the way of every response.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(HttpPeer::new(self.backends[turn % self.backends.len()], false, String::new())))
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(front)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: bare LISTEN http|h2c|tls:CERT:KEY BACKEND...");
        std::process::exit(64);
    };
    let backends: Vec<SocketAddr> = arguments.map(|a| a.parse().expect("a backend is IP:PORT")).collect();
    assert!(!backends.is_empty(), "no backend");
    let conf =
        ServerConf { threads: 1, work_stealing: true, upstream_keepalive_pool_size: 1024, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let bare = Bare { backends, turn: AtomicUsize::new(0) };
    let mut service = http_proxy_service(&Arc::clone(&server.configuration), bare);
    match front.split(':').collect::<Vec<_>>().as_slice() {
        ["tls", cert, key] => {
            let mut tls = TlsSettings::intermediate(cert, key).expect("a certificate and its key");
            tls.enable_h2();
            service.add_tls_with_settings(&listen, None, tls);
        }
        [plain] => {
            if *plain == "h2c" {
                let mut options = HttpServerOptions::default();
                options.h2c = true;
                service.app_logic_mut().expect("a new service has its logic").server_options = Some(options);
            }
            service.add_tcp(&listen);
        }
        _ => panic!("{front}: not http, h2c or tls:CERT:KEY"),
    }
    server.add_service(service);
    server.run_forever();
}
