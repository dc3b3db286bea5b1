//! What operators meet when something is not as it should be: commands beside a broken file, files that a user cannot read,
//! addresses and files that are taken.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::pki::put;
use crate::support::weir::command;
use crate::support::{Client, Origin, Pki, Weir, eventually, spare};
use crate::tls::{config, folder};

fn serving(admin: &str, more: &str) -> String {
    format!(
        "admin: {{ address: \"{admin}\" }}\nlisteners:\n  - {{ name: web, address: \"127.0.0.1:0\" }}\n\
         routes: [{{ respond: {{ status: 204 }} }}]\n{more}"
    )
}

#[test]
fn commands_find_the_process_whatever_else_is_wrong_with_its_file() {
    let admin = spare().to_string();
    let weir = Weir::start(&serving(&admin, ""));
    let file = weir.config_file();
    let ask = |what: &str, text: &str| {
        std::fs::write(&file, text).unwrap();
        command(&[what, "-c", file.to_str().unwrap()])
    };
    let tls = serving(&admin, "")
        .replace("127.0.0.1:0\" }", "127.0.0.1:0\", tls: { certificates: [{ cert: no.pem, key: no.key }] } }");
    let broken = [
        serving(&admin, "colour: blue\n"),
        serving(&admin, "log: { level: \"${NOBODY_SET_THIS}\" }\n"),
        serving(&admin, "upstreams: [\n"),
        serving(&admin, "log: { level: loud }\n").replace(" }\nlisteners", ", adress: x }\nlisteners"),
        tls,
    ];
    for text in &broken {
        let said = ask("status", text);
        assert!(said.code == Some(0) && said.stdout.contains("web"), "{text}: {}{}", said.stdout, said.stderr);
    }
    let said = ask("reload", &broken[0]);
    assert!(said.code == Some(2) && said.stdout.contains("weir.yaml:5:1: colour: "), "{}", said.stdout);
    assert_eq!(weir.status()["last_reload"]["result"], "rejected", "the process was asked");
    for (text, why) in [
        (serving("nowhere", ""), "weir.yaml:1:19: admin.address: `nowhere` is not an address"),
        (serving("${NOBODY_SET_THIS}", ""), "admin.address: "),
        (serving(&admin, "").replacen("address", "adress", 1), "admin.adress: unknown key"),
        (serving(&admin, "").replace("admin:", "admn:"), "admn: unknown key"),
        (format!("routes: [\n{}", serving(&admin, "")), "not YAML"),
    ] {
        let said = ask("status", &text);
        assert!(said.code == Some(2) && said.stdout.contains(why), "{text}: {}", said.stdout);
        assert!(said.stdout.contains("--admin URL needs no file"), "{}", said.stdout);
    }
}
