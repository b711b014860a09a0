//! Reads only what is a regular file. Opening a named pipe waits for a writer, a device never ends, and a folder has no text:
//! each is refused before a byte is read.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The largest text that is read, in bytes: a job or an inventory with 100,000 targets and their labels has a tenth of that.
pub const MAX_TEXT_BYTES: u64 = 64 << 20;

/// The largest component that is copied, in bytes: more than the engine loads.
pub const MAX_POLICY_BYTES: u64 = 256 << 20;

/// Where a process finds what it was given open, such as by `<(…)` of a shell.
const GIVEN: [&str; 4] = ["/dev/fd/", "/dev/stdin", "/proc/self/fd/", "/dev/null"];

/// Opens a regular file.
///
/// # Errors
/// As the file system has them, or what it is instead.
pub fn open(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        // A pipe is opened at once, and a terminal does not become ours.
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        // A socket cannot be opened at all.
        Err(error) => {
            return Err(std::fs::metadata(path).ok().and_then(|found| refused(found.file_type())).unwrap_or(error));
        }
    };
    match refused(file.metadata()?.file_type()) {
        Some(error) => Err(error),
        None => Ok(file),
    }
}

/// Opens a regular file, or a pipe that the caller has opened for us: `/dev/stdin`, `/dev/fd/63`.
///
/// # Errors
/// As [`open`].
pub fn open_given(path: &Path) -> io::Result<File> {
    let is_given = path.to_str().is_some_and(|path| GIVEN.iter().any(|given| path.starts_with(given)));
    match is_given {
        true => File::open(path),
        false => open(path),
    }
}

/// All bytes of a regular file, if they are not more than `most`.
///
/// # Errors
/// As [`open`], or that it is larger.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    bounded(open(path)?, most)
}

/// All bytes of what [`open_given`] opens, if they are not more than `most`.
///
/// # Errors
/// As [`open_given`], or that it is larger.
pub fn read_given(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    bounded(open_given(path)?, most)
}

/// The text that [`read_given`] reads.
///
/// # Errors
/// As [`read_given`], or that it is no UTF-8.
pub fn read_to_string(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_given(path, most)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "the text is not UTF-8"))
}

fn bounded(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

fn refused(kind: std::fs::FileType) -> Option<io::Error> {
    let what = match kind {
        kind if kind.is_file() => return None,
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Some(io::Error::new(ErrorKind::InvalidInput, format!("it is {what}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink(at("pipe"), at("link")).unwrap();
        for (path, what) in [
            (at("pipe"), "a named pipe"),
            (at("link"), "a named pipe"),
            (at("socket"), "a socket"),
            (at(""), "a folder"),
            ("/dev/zero".into(), "a device"),
        ] {
            let error = read(&path, 10).unwrap_err().to_string();
            assert_eq!(error, format!("it is {what}, not a regular file"));
        }
        assert_eq!(read(&at("none"), 10).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "0123456789").unwrap();
        assert_eq!(read(&file, 10).unwrap(), b"0123456789");
        assert_eq!(read(&file, 9).unwrap_err().to_string(), "it has more than 9 bytes");
        assert_eq!(read_to_string(Path::new("/dev/null"), 9).unwrap(), "");
    }
}
