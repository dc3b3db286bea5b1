//! Starts a process with descriptors.

use std::env;
use std::ffi::{CString, OsStr, OsString, c_char};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{FIRST, LISTEN, UPGRADE_FD};

/// A variable that systemd sets for one process id only.
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Room for the digits of a process id and the final zero.
const PID_ROOM: usize = 12;

/// The descriptors that pass to the new process.
#[derive(Debug)]
pub struct Passed<'a> {
    /// The listening sockets with their names. A name must not contain a colon.
    pub sockets: Vec<(String, BorrowedFd<'a>)>,
    /// Further descriptors, in the order in which the new process gets them.
    pub others: Vec<BorrowedFd<'a>>,
}

/// Starts `program` with these arguments, of which the first is the program's name. It has the environment of this
/// process, its standard input and output, and `stderr`.
///
/// # Errors
/// The program cannot be executed, or no process or descriptor is available.
pub fn spawn(program: &Path, arguments: &[OsString], passed: &Passed<'_>, stderr: Stdio) -> io::Result<Child> {
    let count = passed.sockets.len() + passed.others.len();
    let beyond = RawFd::try_from(count).map_err(io::Error::other)? + FIRST;
    let all = passed.sockets.iter().map(|(_, fd)| fd).chain(&passed.others);
    // Copies with high numbers: a copy to its place then overwrites no descriptor that has yet to be copied.
    let copies = all.map(|fd| duplicate(*fd, beyond)).collect::<io::Result<Vec<_>>>()?;
    // `Command` opens a pipe of its own for the error of exec. It must not get one of the places.
    let _places = fill_below(beyond)?;
    let mut exec = Exec::new(program, arguments, passed, &copies)?;
    let mut command = Command::new(program);
    command.stderr(stderr);
    run_before_exec(&mut command, move || exec.replace_process());
    let child = command.spawn();
    drop(copies);
    child
}

#[allow(unsafe_code)]
fn run_before_exec(command: &mut Command, step: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: the only caller passes `Exec::replace_process`. It calls only functions that are async-signal-safe (dup2,
    // getpid, execve) and neither allocates nor takes a lock.
    unsafe { command.pre_exec(step) };
}

#[allow(unsafe_code)]
fn duplicate(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open, as it is borrowed.
    let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Opens descriptors until none below `beyond` is free.
fn fill_below(beyond: RawFd) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    loop {
        let file = File::open("/dev/null")?;
        if file.as_raw_fd() >= beyond {
            return Ok(files);
        }
        files.push(file);
    }
}

/// Everything that the new process needs between fork and exec, prepared before the fork.
struct Exec {
    program: CString,
    /// The strings that the two arrays point to.
    _strings: Vec<CString>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// `LISTEN_PID=` and room for the digits. An entry of `envp` points to it.
    listen_pid: *mut u8,
    _listen_pid: Box<[u8]>,
    moves: Vec<(RawFd, RawFd)>,
}

// SAFETY: the pointers point to heap memory that the value itself owns and that no other value uses.
#[allow(unsafe_code)]
unsafe impl Send for Exec {}
// SAFETY: as above; the only method takes `&mut self`.
#[allow(unsafe_code)]
unsafe impl Sync for Exec {}

const LISTEN_PID: &[u8] = b"LISTEN_PID=";

impl Exec {
    fn new(program: &Path, arguments: &[OsString], passed: &Passed<'_>, copies: &[OwnedFd]) -> io::Result<Self> {
        let mut strings = Vec::new();
        let mut argv = Vec::new();
        for argument in arguments {
            strings.push(CString::new(argument.as_bytes())?);
        }
        argv.extend(strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]));
        let variables = environment(passed)?;
        let mut listen_pid = [LISTEN_PID, &[0; PID_ROOM]].concat().into_boxed_slice();
        let pid_pointer = listen_pid.as_mut_ptr();
        let mut envp: Vec<_> = variables.iter().map(|variable| variable.as_ptr()).collect();
        envp.extend([pid_pointer.cast_const().cast(), std::ptr::null()]);
        strings.extend(variables);
        let moves = copies.iter().map(AsRawFd::as_raw_fd).zip(FIRST..).collect();
        let program = CString::new(program.as_os_str().as_bytes())?;
        Ok(Self { program, _strings: strings, argv, envp, listen_pid: pid_pointer, _listen_pid: listen_pid, moves })
    }

    /// Puts the descriptors in their places, completes `LISTEN_PID` and executes the program. It returns only an error.
    #[allow(unsafe_code)]
    fn replace_process(&mut self) -> io::Result<()> {
        for (from, to) in &self.moves {
            // SAFETY: dup2 accepts any numbers. It overwrites descriptors of the forked process only. The copy is
            // without FD_CLOEXEC.
            if unsafe { libc::dup2(*from, *to) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: getpid has no preconditions.
        let mut rest = unsafe { libc::getpid() };
        let digits = std::iter::successors(Some(rest), |n| Some(n / 10).filter(|n| *n > 0)).count();
        for at in (0..digits.min(PID_ROOM - 1)).rev() {
            // SAFETY: the box has LISTEN_PID.len() + PID_ROOM bytes.
            unsafe { self.listen_pid.add(LISTEN_PID.len() + at).write(b'0' + (rest % 10) as u8) };
            rest /= 10;
        }
        // SAFETY: both arrays end with a null pointer, and `self` owns the strings that they point to.
        unsafe { libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
        Err(io::Error::last_os_error())
    }
}

/// The variables of the new process, without `LISTEN_PID`.
fn environment(passed: &Passed<'_>) -> io::Result<Vec<CString>> {
    let replaced = |name: &OsStr| LISTEN.iter().chain(&[UPGRADE_FD, WATCHDOG_PID]).any(|variable| name == *variable);
    let kept = env::vars_os().filter(|(name, _)| !replaced(name));
    let mut variables = kept.map(|(name, value)| variable(&name, &value)).collect::<io::Result<Vec<_>>>()?;
    let names: Vec<&str> = passed.sockets.iter().map(|(name, _)| name.as_str()).collect();
    if names.iter().any(|name| name.contains(':')) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name of a socket contains a colon"));
    }
    variables.push(variable(LISTEN[0].as_ref(), names.len().to_string().as_ref())?);
    if !names.is_empty() {
        variables.push(variable(LISTEN[2].as_ref(), names.join(":").as_ref())?);
    }
    if let Some(last) = passed.others.len().checked_sub(1) {
        let first = FIRST as usize + names.len();
        variables.push(variable(UPGRADE_FD.as_ref(), format!("{first}-{}", first + last).as_ref())?);
    }
    Ok(variables)
}

fn variable(name: &OsStr, value: &OsStr) -> io::Result<CString> {
    Ok(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Runs a script of the shell with descriptors, and returns its standard error.
    fn run(script: &str, passed: &Passed<'_>) -> String {
        let arguments = ["sh", "-c", script].map(OsString::from);
        let child = spawn(Path::new("/bin/sh"), &arguments, passed, Stdio::piped()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    }

    #[test]
    #[cfg_attr(miri, ignore = "starts a process")]
    fn the_new_process_has_the_descriptors_in_order_and_the_variables_of_the_protocol() {
        let (mut one, its_end) = UnixStream::pair().unwrap();
        let (two, file) = (File::open("/dev/null").unwrap(), File::open("/proc/self/status").unwrap());
        let passed = Passed {
            sockets: vec![("web".into(), file.as_fd()), ("admin".into(), two.as_fd())],
            others: vec![its_end.as_fd(), two.as_fd()],
        };
        let script = "[ $LISTEN_PID = $$ ] && echo \"$LISTEN_FDS $LISTEN_FDNAMES $WEIR_UPGRADE_FD\" >&2; \
            for n in 3 4 5 6 7; do readlink /proc/$$/fd/$n >&2; done; echo hello >&5";
        let said = run(script, &passed);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "2 web:admin 5-6", "{said}");
        assert!(lines[1].ends_with("/status") && lines[2] == "/dev/null", "{said}");
        assert!(lines[3].starts_with("socket:") && lines[4] == "/dev/null" && lines.len() == 5, "{said}");
        drop(passed);
        drop(its_end);
        let mut text = String::new();
        one.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\n");
    }

    #[test]
    #[cfg_attr(miri, ignore = "starts a process")]
    fn a_program_that_cannot_be_executed_is_an_error() {
        let passed = Passed { sockets: Vec::new(), others: Vec::new() };
        let error = spawn(Path::new("/nowhere/weir"), &["weir".into()], &passed, Stdio::null()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let null = File::open("/dev/null").unwrap();
        let colon = Passed { sockets: vec![("a:b".into(), null.as_fd())], others: Vec::new() };
        assert!(spawn(Path::new("/bin/true"), &["true".into()], &colon, Stdio::null()).is_err());
    }
}
