//! `server.pid_file`: which files it may be, and when it is removed.

use std::os::unix::fs::FileTypeExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::child::Process;
use crate::support::files::fifo;
use crate::support::weir::command;
use crate::support::{Config, eventually};

fn folder_with(pid_file: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    let config =
        Config::new().set("admin", "off").set("server.pid_file", pid_file).route("all", "respond: { status: 200 }");
    std::fs::write(&file, config.to_string()).unwrap();
    let config = file.to_str().unwrap().to_owned();
    (folder, config)
}

#[test]
fn a_pid_file_that_is_no_regular_file_ends_the_start_and_is_left_alone() {
    let (folder, config) = folder_with("odd");
    let odd = folder.path().join("odd");
    let run = |kind: &str| {
        let began = Instant::now();
        let mut weir = Process::start(&["run", "-c", &config], Stdio::null(), Stdio::null());
        assert_eq!(weir.wait().code(), Some(1), "{kind}");
        assert!(began.elapsed() < Duration::from_secs(5), "{kind}: {:?}", began.elapsed());
        let told = command(&["run", "-c", &config]).stdout;
        assert!(
            told.contains("server.pid_file") && told.contains(&format!("it is {kind}, not a regular file")),
            "{told}"
        );
    };
    fifo(&odd);
    run("a FIFO");
    assert!(odd.symlink_metadata().unwrap().file_type().is_fifo());
    std::fs::remove_file(&odd).unwrap();
    std::os::unix::fs::symlink("/dev/null", &odd).unwrap();
    run("a device");
    assert!(odd.symlink_metadata().unwrap().is_symlink());
    std::fs::remove_file(&odd).unwrap();
    std::fs::create_dir(&odd).unwrap();
    run("a folder");
}

#[test]
fn the_end_of_a_process_removes_its_own_pid_file_and_not_that_of_its_successor() {
    for successor in [None, Some("4194305\n")] {
        let (folder, config) = folder_with("pid");
        let pid = folder.path().join("pid");
        let mut weir = Process::start(&["run", "-c", &config], Stdio::null(), Stdio::null());
        let own = format!("{}\n", weir.0.id());
        eventually("the pid file", || (std::fs::read_to_string(&pid).ok()? == own).then_some(()));
        if let Some(successor) = successor {
            std::fs::write(&pid, successor).unwrap();
        }
        weir.signal(libc::SIGTERM);
        assert_eq!(weir.wait().code(), Some(0));
        assert_eq!(std::fs::read_to_string(&pid).ok().as_deref(), successor);
    }
}
