//! A password that is given as an argument or in the environment, out of both before anything else is done.
//!
//! Everybody can list the arguments of every process, and what a process starts inherits its environment. Neither can be
//! changed from within without reaching behind the language's back, so this process starts itself anew, under the same
//! number, with the password in a pipe: `--password SECRET` becomes `--password-fd N … --password ***`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::exit::{ErrorKind, Failure};
use crate::process::inherited_signals;
use lockkeeper_coordination::zookeeper::Secret;

const FLAG: &[u8] = b"--password";
const VARIABLE: &str = "LOCKKEEPER_PASSWORD";
const PIPE_FLAG: &str = "--password-fd";

/// What the process list shows instead.
const HIDDEN: &str = "***";

/// The longest password: a pipe holds as much before anybody reads it, on every system.
pub(super) const MAX_BYTES: usize = 4096;

/// Starts this process anew if a password can be seen; else there is nothing to do.
pub(super) fn draw() -> Result<(), Failure> {
    let line: Vec<OsString> = env::args_os().collect();
    let (line, given) = hide(&line);
    let inherited = env::var_os(VARIABLE);
    if given.is_none() && inherited.is_none() {
        return Ok(());
    }
    let has_pipe = line.iter().take_while(|argument| *argument != "--").any(|argument| {
        argument.as_bytes() == PIPE_FLAG.as_bytes() || argument.as_bytes().starts_with(b"--password-fd=")
    });
    // A variable that is empty says nothing.
    let password = given.or(inherited.filter(|password| !password.is_empty())).filter(|_| !has_pipe);
    let Some((name, arguments)) = line.split_first() else { return Ok(()) };
    let mut again = Command::new(ourselves().map_err(|error| not_hidden(&error))?);
    again.arg0(name).env_remove(VARIABLE);
    inherited_signals::pass_on(&mut again);
    if let Some(password) = password {
        if password.len() > MAX_BYTES {
            return Err(too_long());
        }
        let (from, to) = nix::unistd::pipe().map_err(|error| not_hidden(&error.into()))?;
        nix::unistd::write(&to, password.as_bytes()).map_err(|error| not_hidden(&error.into()))?;
        drop(to);
        again.arg(PIPE_FLAG).arg(from.into_raw_fd().to_string());
    }
    Err(not_hidden(&again.args(arguments).exec()))
}

/// The command line without its password, and the password.
fn hide(line: &[OsString]) -> (Vec<OsString>, Option<OsString>) {
    let mut hidden = line.to_vec();
    let mut password = None;
    let ours = line.iter().position(|argument| argument == "--").unwrap_or(line.len());
    let mut place = 1;
    while place < ours {
        let argument = line[place].as_bytes();
        let found = match argument.strip_prefix(FLAG) {
            // As for every flag: what looks like another is no value.
            Some([]) if place + 1 < ours && !is_flag(&line[place + 1]) => {
                place += 1;
                hidden[place] = HIDDEN.into();
                Some(line[place].as_bytes())
            }
            Some([b'=', value @ ..]) => {
                hidden[place] = format!("--password={HIDDEN}").into();
                Some(value)
            }
            _ => None,
        };
        if let Some(value) = found.filter(|value| *value != HIDDEN.as_bytes()) {
            password = password.or(Some(OsStr::from_bytes(value).to_owned()));
        }
        place += 1;
    }
    (hidden, password)
}

fn is_flag(argument: &OsStr) -> bool {
    argument.as_bytes().starts_with(b"-") && argument != "-"
}

/// This binary by its own name, which is what process lists show; if it has none any more, the very file that we are.
fn ourselves() -> io::Result<std::path::PathBuf> {
    match env::current_exe() {
        #[cfg(target_os = "linux")]
        Ok(path) if !path.exists() => Ok("/proc/self/exe".into()),
        named => named,
    }
}

fn not_hidden(error: &io::Error) -> Failure {
    Failure::message(ErrorKind::Internal, format!("cannot keep the password out of the process list: {error}"))
        .hint("`--password-file FILE` does not put it there")
}

fn too_long() -> Failure {
    Failure::message(ErrorKind::BadArgument, format!("the password is longer than {MAX_BYTES} bytes"))
}

/// The password from a file descriptor, which no child process inherits.
pub(super) fn receive(descriptor: RawFd) -> Result<Secret, Failure> {
    let read = File::open(format!("/dev/fd/{descriptor}")).and_then(read);
    if descriptor > 2 {
        // Where it was never open there is nothing to close.
        let _ = nix::unistd::close(descriptor);
    }
    let text = read.map_err(|error| {
        Failure::message(ErrorKind::BadArgument, format!("no password can be read from `--password-fd`: {error}"))
    })?;
    secret(text, "the password")
}

/// A password of bytes that are nothing else but for a line's end.
pub(super) fn secret(mut text: Vec<u8>, what: &str) -> Result<Secret, Failure> {
    if text.len() > MAX_BYTES {
        return Err(too_long());
    }
    if text.ends_with(b"\n") {
        text.pop();
    }
    if text.ends_with(b"\r") {
        text.pop();
    }
    let bad = |how: &str| Failure::message(ErrorKind::BadArgument, format!("{what} {how}"));
    match String::from_utf8(text) {
        Ok(text) if text.is_empty() => Err(bad("is empty")),
        Ok(text) if text.contains(['\n', '\0']) => Err(bad("is more than one line of text")),
        Ok(text) => Ok(Secret::new(text)),
        Err(_) => Err(bad("is not UTF-8")),
    }
}

/// As much of a file as tells whether it is a password.
pub(super) fn read(file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // One byte more, to see that it is too long, and the end of its line.
    file.take(MAX_BYTES as u64 + 3).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(line: &str) -> (String, Option<String>) {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let (line, password) = hide(&words);
        let line: Vec<_> = line.iter().map(|word| word.to_string_lossy()).collect();
        (line.join(" "), password.map(|password| password.to_string_lossy().into_owned()))
    }

    #[test]
    fn a_password_is_taken_out_of_the_line_in_each_of_its_spellings() {
        for (given, shown, password) in [
            ("lk holders /x", "lk holders /x", None),
            ("lk --password pw holders /x", "lk --password *** holders /x", Some("pw")),
            ("lk holders /x --password=p=w", "lk holders /x --password=***", Some("p=w")),
            ("lk holders /x --password=", "lk holders /x --password=***", Some("")),
            ("lk x --password a --password b", "lk x --password *** --password ***", Some("a")),
            ("lk x --password - --quiet", "lk x --password *** --quiet", Some("-")),
        ] {
            assert_eq!(hidden(given), (shown.to_owned(), password.map(str::to_owned)), "{given}");
            assert_eq!(hidden(shown), (shown.to_owned(), None), "{given}: once is enough");
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        for line in [
            "lk lock /x -- psql --password pw",
            "lk x --password-file pw",
            "lk x --password-fd 3",
            "lk x --password --quiet",
            "lk x --password",
            "lk x --password -- a",
        ] {
            assert_eq!(hidden(line), (line.to_owned(), None));
        }
    }

    #[test]
    fn a_line_s_end_is_no_part_of_a_password() {
        for (given, meant) in [("pw", "pw"), ("pw\n", "pw"), ("pw\r\n", "pw"), (" p w ", " p w ")] {
            assert_eq!(secret(given.into(), "it").unwrap().expose(), meant);
        }
        for given in ["", "\n", "a\nb\n", "a\0"] {
            assert!(secret(given.into(), "it").is_err(), "{given:?}");
        }
        assert!(secret(vec![b'x'; MAX_BYTES + 1], "it").is_err());
        assert!(secret(vec![0xff], "it").is_err());
    }
}
