//! Discovery over DNS servers that differ from the usual one: no EDNS, aliases of services, names with an underscore,
//! addresses that no host can have.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::support::scripted_dns::{A, CNAME, FORMERR, NO_ERROR, Question, Record, SRV, serve};
use crate::support::{Client, Config, Origin, Weir, eventually};

/// An upstream that asks this server.
fn weir(dns: SocketAddr, discover: &str) -> Weir {
    let config = Config::new()
        .route("all", "upstream: up")
        .set("upstreams.up.balance", "weighted_round_robin")
        .set("upstreams.up.discover", discover)
        .set("upstreams.up.discover", format!("resolver: \"{dns}\", min_ttl: 200ms, max_ttl: 500ms"));
    Weir::start(config)
}

fn serves(weir: &Weir) {
    eventually(&format!("200; {}", weir.status()), || Client::connect(weir.web()).get("/").status == 200);
}

/// The address of 127.0.0.1 for this question.
fn local(question: &Question) -> (u8, Vec<Record>) {
    let known = (question.kind == A).then(|| Record::address(&question.name, "127.0.0.1"));
    (NO_ERROR, known.into_iter().collect())
}

#[test]
fn a_server_without_edns_is_asked_again_without_it() {
    let origin = Origin::named("a");
    let dns = serve(|question| if question.edns { (FORMERR, Vec::new()) } else { local(question) });
    serves(&weir(dns, &format!("dns: api.zone.test, port: {}", origin.address().port())));
}

#[test]
fn a_name_with_an_underscore_is_asked_for() {
    let origin = Origin::named("a");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let dns = serve(move |question| {
        log.lock().unwrap().push(question.name.clone());
        local(question)
    });
    for name in ["my_api", "my_api.zone.test", "_x.my_api_2.zone.test"] {
        serves(&weir(dns, &format!("dns: {name}, port: {}", origin.address().port())));
        assert!(asked.lock().unwrap().iter().any(|asked| asked.starts_with(name)), "{name}: {asked:?}");
    }
}

#[test]
fn a_service_behind_an_alias_is_found_and_its_target_may_have_an_underscore() {
    let origin = Origin::named("a");
    let port = origin.address().port();
    for whole in [true, false] {
        // A server may answer with the alias alone, or with all that it knows of the chain.
        let dns = serve(move |question| match (question.name.as_str(), question.kind) {
            ("_http._tcp.zone.test", SRV | CNAME) => {
                let mut records = vec![Record::alias("_http._tcp.zone.test", "_http._tcp.green.zone.test")];
                if whole && question.kind == SRV {
                    records.push(Record::service("_http._tcp.green.zone.test", "my_api.zone.test", port));
                }
                (NO_ERROR, records)
            }
            ("_http._tcp.green.zone.test", SRV) => {
                (NO_ERROR, vec![Record::service(&question.name, "my_api.zone.test", port)])
            }
            ("my_api.zone.test", A) => local(question),
            _ => (NO_ERROR, Vec::new()),
        });
        serves(&weir(dns, "srv: _http._tcp.zone.test"));
    }
}

#[test]
fn aliases_in_a_circle_end() {
    let dns = serve(|question| {
        let target = if question.name.starts_with("_a") { "_b.zone.test" } else { "_a.zone.test" };
        (NO_ERROR, vec![Record::alias(&question.name, target)])
    });
    let weir = weir(dns, "srv: _a.zone.test");
    weir.wait_for_log("discovery fails");
    assert_eq!(Client::connect(weir.web()).get("/").status, 503);
}

#[test]
fn addresses_that_no_host_can_have_are_no_backends() {
    let origin = Origin::named("a");
    let port = origin.address().port();
    let dns = serve(move |question| match question.kind {
        SRV => (NO_ERROR, vec![Record::service(&question.name, "api.zone.test", port)]),
        A => {
            let all = ["0.0.0.0", "224.0.0.1", "255.255.255.255", "127.0.0.1"];
            (NO_ERROR, all.map(|ip| Record::address(&question.name, ip)).into())
        }
        _ => (NO_ERROR, Vec::new()),
    });
    for discover in [format!("dns: api.zone.test, port: {port}"), "srv: _http._tcp.zone.test".to_owned()] {
        let weir = weir(dns, &discover);
        serves(&weir);
        let status = weir.status();
        let backends = status["upstreams"][0]["backends"].as_array().unwrap();
        let addresses: Vec<_> = backends.iter().map(|backend| backend["address"].as_str().unwrap()).collect();
        assert_eq!(addresses, [origin.address().to_string()], "{status}");
        assert!(status.to_string().contains("0.0.0.0 is no host's address"), "{status}");
    }
}
