//! Whether this account may use a store's files, and if not, whose they are.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, Gid, Group, Uid, User, faccessat};

/// What SQLite puts beside a file while it is in use.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// The bit of a folder whose files get its group.
pub(super) const SETGID: u32 = 0o2000;

/// The bits of what its group may change.
const GROUP_WRITES: u32 = 0o020;

/// The folder that a file is in.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a folder is shared by its group: its files get that group, and the group may make some.
pub(super) fn is_shared(folder: &Metadata) -> bool {
    let both = SETGID | GROUP_WRITES;
    folder.mode() & both == both
}

/// What this account may not do with the store at `path`, and who may; `None` if it may do all that a store needs.
pub(super) fn denied(path: &Path) -> Option<String> {
    let folder = folder(path);
    // Where one may not enter, nothing below can be looked at.
    let ancestors: Vec<&Path> = folder.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    if let Some(shut) = ancestors.iter().rev().find(|part| part.exists() && !may(part, AccessFlags::X_OK)) {
        return Some(told(shut, "enter", "folder"));
    }
    let files = [path.to_owned()].into_iter().chain(BESIDE.map(|end| beside(path, end)));
    let shut = files.filter(|file| file.exists()).find(|file| !may(file, AccessFlags::R_OK | AccessFlags::W_OK));
    if let Some(file) = shut {
        return Some(told(&file, "read and write", "file"));
    }
    // The files beside it come and go.
    let existing = ancestors.iter().find(|part| part.exists())?;
    (!may(existing, AccessFlags::W_OK | AccessFlags::X_OK)).then(|| told(existing, "make files in", "folder"))
}

/// A file or folder that stands beside the one at `path`.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// What a disk that is read-only forbids to everybody is not meant here.
fn may(path: &Path, flags: AccessFlags) -> bool {
    !matches!(
        faccessat(AT_FDCWD, path, flags, AtFlags::AT_EACCESS),
        Err(nix::errno::Errno::EACCES | nix::errno::Errno::EPERM)
    )
}

fn told(path: &Path, what: &str, kind: &str) -> String {
    let us = account(Uid::effective());
    let denied = format!("permission denied: {us} may not {what} `{}`", path.display());
    match fs::metadata(path) {
        Ok(metadata) => {
            let owner = account(Uid::from_raw(metadata.uid()));
            let group = group(Gid::from_raw(metadata.gid()));
            format!("{denied}, a {kind} of owner {owner} and group {group} with mode {:04o}", metadata.mode() & 0o7777)
        }
        Err(_) => denied,
    }
}

fn account(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("user {uid}"), |user| format!("`{}`", user.name))
}

fn group(gid: Gid) -> String {
    Group::from_gid(gid).ok().flatten().map_or_else(|| gid.to_string(), |group| format!("`{}`", group.name))
}
