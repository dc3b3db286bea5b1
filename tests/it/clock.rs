//! The wall clock is set while Weir runs: what is measured in intervals does not notice.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Client, Config, Origin, Reply, Weir, eventually};

/// A library that moves the wall clock of a process by the seconds that a file holds.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, ts);
    const char *path = getenv("CLOCK_STEP_FILE");
    if (result == 0 && id == CLOCK_REALTIME && path) {
        char text[32] = {0};
        int file = open(path, O_RDONLY);
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) > 0) ts->tv_sec += atol(text);
            close(file);
        }
    }
    return result;
}
"#;

fn shim(folder: &Path) -> String {
    let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
    std::fs::write(&source, SHIM).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(built.unwrap().success(), "the build of Weir needs a C compiler too");
    library.to_str().unwrap().to_owned()
}

#[test]
fn an_ejection_ends_in_time_although_the_wall_clock_is_set_back_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let (library, step) = (shim(folder.path()), folder.path().join("step"));
    let failing = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&failing);
    let bad =
        Origin::start(move |_| if fails.load(Ordering::Acquire) { Reply::hang_up() } else { Reply::new(200, "a") });
    let good = Origin::named("b");
    let config = Config::to_all(&[("a", &bad), ("b", &good)]).set("upstreams.up.outlier", "consecutive: 3, eject: 2s");
    let env = [("LD_PRELOAD", library.as_str()), ("CLOCK_STEP_FILE", step.to_str().unwrap())];
    let weir = Weir::start_with_env(folder, config, env);
    let mut client = Client::connect(weir.web());
    assert!((0..20).all(|_| client.get("/").status == 200));
    weir.wait_for_state("a", "ejected");
    std::fs::write(&step, "-3600").unwrap();
    failing.store(false, Ordering::Release);
    eventually("a is back after its trial", || client.get("/").text() == "a");
    weir.wait_for_state("a", "unchecked");
    assert!(weir.stdout().contains("\"time\":"), "the log goes by the wall clock");
}
