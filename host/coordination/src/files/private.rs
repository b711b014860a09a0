//! Files and folders that only their owner reads and enters, whatever the umask is: journals, outputs, copies of policies. What
//! targets print may be anything.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Of a file: read and written by its owner.
const FILE: u32 = 0o600;

/// Of a folder: entered by its owner.
const FOLDER: u32 = 0o700;

/// Makes a folder and those above it that are missing. The folder itself becomes private if it was there and is ours; those
/// above it that were there stay as they are.
///
/// # Errors
/// As the file system has them.
pub fn make_folders(folder: &Path) -> io::Result<()> {
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above.filter(|above| !above.is_dir()) {
        make_folders(above)?;
    }
    match DirBuilder::new().mode(FOLDER).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Err(_) if !folder.is_dir() => Err(ErrorKind::NotADirectory.into()),
        // The umask may have taken from it, or an earlier version been more generous.
        _ => tighten(folder),
    }
}

/// Makes a file or folder private that is ours; what is another account's stays as it is.
///
/// # Errors
/// As the file system has them.
pub fn tighten(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    let mode = if found.is_dir() { FOLDER } else { FILE };
    if found.uid() == nix::unistd::geteuid().as_raw() && found.permissions().mode() & 0o777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Makes a new file.
///
/// # Errors
/// As the file system has them, or that there is one.
pub fn create_new(path: &Path) -> io::Result<File> {
    made(OpenOptions::new().write(true).create_new(true), path)
}

/// Opens a file to append to it, made if it is missing.
///
/// # Errors
/// As the file system has them.
pub fn append(path: &Path) -> io::Result<File> {
    made(OpenOptions::new().create(true).append(true), path)
}

/// Writes a file that is private from its first byte on.
///
/// # Errors
/// As the file system has them.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = made(OpenOptions::new().create(true).write(true).truncate(true), path)?;
    file.write_all(bytes)
}

fn made(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.mode(FILE).open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != FILE {
        file.set_permissions(Permissions::from_mode(FILE))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let above = folder.path().join("above");
        fs::create_dir(&above).unwrap();
        fs::set_permissions(&above, Permissions::from_mode(0o777)).unwrap();
        let (between, below) = (above.join("between"), above.join("between/below"));
        make_folders(&below).unwrap();
        assert_eq!([mode(&above), mode(&between), mode(&below)], [0o777, 0o700, 0o700]);
        create_new(&below.join("new")).unwrap();
        append(&below.join("log")).unwrap();
        write(&below.join("copy"), b"x").unwrap();
        for name in ["new", "log", "copy"] {
            assert_eq!(mode(&below.join(name)), 0o600, "{name}");
        }
        assert_eq!(create_new(&below.join("new")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(make_folders(&below.join("new")).unwrap_err().kind(), ErrorKind::NotADirectory);
    }

    #[test]
    fn what_was_open_to_others_becomes_private() {
        let folder = tempfile::tempdir().unwrap();
        let (runs, log) = (folder.path().join("runs"), folder.path().join("runs/log"));
        fs::create_dir(&runs).unwrap();
        fs::write(&log, "before").unwrap();
        fs::set_permissions(&runs, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&log, Permissions::from_mode(0o644)).unwrap();
        make_folders(&runs).unwrap();
        append(&log).unwrap();
        assert_eq!([mode(&runs), mode(&log)], [0o700, 0o600]);
    }
}
