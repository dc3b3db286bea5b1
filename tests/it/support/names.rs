//! Names that the system's resolver knows in a test: a library in front of getaddrinfo reads them from a file that the test
//! changes.

use std::path::PathBuf;
use std::process::Command;

/// Reads `NAME ADDRESS...` lines; a name with the address `hang` never gets an answer.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
typedef int look(const char *, const char *, const struct addrinfo *, struct addrinfo **);
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    look *real = (look *)dlsym(RTLD_NEXT, "getaddrinfo");
    FILE *names = node ? fopen(getenv("TEST_NAMES"), "r") : NULL;
    char line[1024];
    struct addrinfo *first = NULL, **next = &first;
    int found = 0;
    while (names && fgets(line, sizeof line, names)) {
        char *rest, *word = strtok_r(line, " \n", &rest);
        if (!word || strcmp(word, node)) continue;
        found = 1;
        while ((word = strtok_r(NULL, " \n", &rest))) {
            if (!strcmp(word, "hang")) for (;;) pause();
            if (real(word, service, hints, next)) continue;
            while (*next) next = &(*next)->ai_next;
        }
    }
    if (names) fclose(names);
    if (!found) return real(node, service, hints, result);
    *result = first;
    return first ? 0 : EAI_NONAME;
}
"#;

pub struct Names(tempfile::TempDir);

impl Names {
    /// With these names and addresses.
    pub fn new(names: &[(&str, &str)]) -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        std::fs::write(this.path("names.c"), LIBRARY).unwrap();
        let (source, library) = (this.path("names.c"), this.path("names.so"));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(library).arg(source).arg("-ldl");
        assert!(cc.status().expect("cc; Debian's package gcc has it").success());
        this.set(names);
        this
    }

    /// Other names and addresses from now on.
    pub fn set(&self, names: &[(&str, &str)]) {
        let text: String = names.iter().map(|(name, addresses)| format!("{name} {addresses}\n")).collect();
        std::fs::write(self.path("next"), text).unwrap();
        std::fs::rename(self.path("next"), self.path("names")).unwrap();
    }

    /// For the environment of a process that is to know them.
    pub fn env(&self) -> [(String, String); 2] {
        let path = |name| self.path(name).to_str().unwrap().to_owned();
        [("LD_PRELOAD".into(), path("names.so")), ("TEST_NAMES".into(), path("names"))]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
