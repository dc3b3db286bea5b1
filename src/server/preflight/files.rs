//! The files and folders of a configuration on this host: whether they can be created, written and read by the user
//! that Weir becomes. Only unnamed temporary files are created.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::super::writable::can_create;
use super::Preflight;
use super::user::{self, Target};
use crate::acme;
use crate::config::values::LogTarget;
use crate::config::{Disk, must_be_regular};

/// The hint for a file that `server.user` has to use.
const FOR_THE_USER: &str = "Its folder must exist, and the user that Weir runs as must be able to write there";

pub(super) fn check(preflight: &mut Preflight<'_>) {
    created_files(preflight);
    pid_file(preflight);
    let target = match user::target(preflight.document().server.user.as_deref()) {
        Ok(target) => target,
        Err(what) => return preflight.say("server.user", what, "Start as root, or leave the key out"),
    };
    state_dir(preflight, &target);
    access_log(preflight, &target);
    unreadable_files(preflight, &target);
}

/// The key files and the state folder that a start creates.
fn created_files(preflight: &mut Preflight<'_>) {
    let folders: Vec<PathBuf> = preflight.checked.files_to_make().map(|(_, path)| path.to_owned()).collect();
    let wanted: Vec<(String, PathBuf)> =
        preflight.checked.files_to_make().map(|(key, path)| (key.to_owned(), path.to_owned())).collect();
    for (key, path) in wanted {
        // The folder of a key file may be the state folder, which is created first.
        if path.parent().is_some_and(|parent| folders.iter().any(|folder| folder == parent)) {
            continue;
        }
        if let Err(error) = on_disk(&path, can_create) {
            let what = format!("{} cannot be created: {error}", path.display());
            preflight.say(
                &key,
                what,
                "Its folder must exist, and the user that starts Weir must be able to write there",
            );
        }
    }
}

fn pid_file(preflight: &mut Preflight<'_>) {
    let Some(path) = preflight.document().server.pid_file.clone() else { return };
    let path = preflight.checked.folder().join(path);
    if let Err(error) = on_disk(&path, can_write_regular) {
        let what = format!("{} cannot be written: {error}", path.display());
        let hint = "Its folder must exist, and the user that starts Weir must be able to write there";
        preflight.say("server.pid_file", what, hint);
    }
}

fn state_dir(preflight: &mut Preflight<'_>, target: &Target) {
    let Some(path) = preflight.document().server.state_dir.clone() else { return };
    let path = preflight.checked.folder().join(path);
    let as_user = target.clone();
    let result = on_disk(&path, move |path| as_user.with_its_rights(|| can_keep_state(path)));
    if let Err(error) = result {
        let what = format!("nothing can be written in {}: {error}", path.display());
        preflight.say("server.state_dir", what, FOR_THE_USER);
    }
}

fn access_log(preflight: &mut Preflight<'_>, target: &Target) {
    let LogTarget::File(path) = preflight.document().access_log.path.clone() else { return };
    let path = preflight.checked.folder().join(path);
    let as_user = target.clone();
    let result = on_disk(&path, move |path| as_user.with_its_rights(|| can_append(path)));
    if let Err(error) = result {
        preflight.say("access_log.path", format!("{} cannot be opened: {error}", path.display()), FOR_THE_USER);
    }
}

/// Files that were read, but that `server.user` may not read: a start succeeds, a reload does not.
fn unreadable_files(preflight: &mut Preflight<'_>, target: &Target) {
    let Target::Other(user) = target else { return };
    let (as_user, checked) = (target.clone(), preflight.checked.clone());
    let result =
        Disk::default().run(preflight.checked.path(), move || as_user.with_its_rights(|| Ok(checked.forbidden())));
    let name = user.name.clone();
    for path in result.and_then(|forbidden| forbidden).unwrap_or_default() {
        let what = format!("`{name}` may not read {}: a reload will be refused", path.display());
        preflight.say("server.user", what, "Make it readable for that user");
    }
}

/// Runs a check of a file with a timeout.
fn on_disk(path: &Path, check: impl FnOnce(&Path) -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let whole = path.to_owned();
    Disk::default().run(path, move || check(&whole))?
}

fn can_write_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(about) => {
            must_be_regular(&about)?;
            File::options().write(true).open(path).map(drop)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => can_create(path),
        Err(error) => Err(error),
    }
}

fn can_append(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        // Opening a FIFO affects its reader.
        Ok(about) if about.file_type().is_fifo() => Ok(()),
        Ok(_) => File::options().append(true).custom_flags(libc::O_NONBLOCK).open(path).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => can_create(path),
        Err(error) => Err(error),
    }
}

/// Whether ACME can keep its state in the folder. If the folder is missing, a start creates it for the user.
fn can_keep_state(folder: &Path) -> io::Result<()> {
    let below = acme::folder(folder);
    if below.try_exists()? {
        tempfile::tempfile_in(below).map(drop)
    } else if folder.try_exists()? {
        tempfile::tempfile_in(folder).map(drop)
    } else {
        Ok(())
    }
}
