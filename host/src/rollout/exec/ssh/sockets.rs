//! The folder of the sockets of a run's connections: private, with a short path, and removed with the run.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::{env, io, process};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

/// Prefix of the folders; the process ID and random characters follow.
const PREFIX: &str = "lockkeeper-ssh-";

/// Longest path of the folder: a socket's path has 108 bytes with its end, and ssh adds 17 while it creates one.
const MAX_FOLDER: usize = 108 - 1 - 17 - 1 - NAME;

/// Length of a socket's name.
const NAME: usize = 16;

/// A private folder. It is removed on drop.
#[derive(Debug)]
pub(super) struct Sockets(PathBuf);

impl Sockets {
    /// Creates the folder, and removes those of runners that were killed.
    pub(super) fn new() -> io::Result<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{PREFIX}{}-{}", process::id(), &id[..12]);
        let above = ["XDG_RUNTIME_DIR", "TMPDIR"].into_iter().filter_map(env::var_os).map(PathBuf::from);
        let above: Vec<_> = above.chain([PathBuf::from("/tmp")]).filter(|above| is_fit(&above.join(&name))).collect();
        let mut failed = io::Error::other("no folder has a path that is short enough");
        for above in above {
            sweep(&above);
            let folder = above.join(&name);
            // A folder that exists belongs to another process.
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Self(folder)),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Path of the socket for a host.
    pub(super) fn of(&self, host: &str) -> PathBuf {
        let digest = hex::encode(Sha256::digest(host));
        self.0.join(&digest[..NAME])
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether ssh takes the folder's path literally, and a socket's path is short enough.
fn is_fit(folder: &Path) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let bytes = folder.as_os_str().as_encoded_bytes();
    folder.is_absolute() && bytes.len() <= MAX_FOLDER && bytes.iter().all(plain)
}

/// Removes the empty folders of processes that are gone. One with a live connection has its socket and stays.
fn sweep(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        let owner = owner.and_then(|(owner, _)| owner.parse().ok()).map(Pid::from_raw);
        if owner.is_some_and(|owner| kill(owner, None) == Err(Errno::ESRCH)) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_is_private_and_goes_with_its_owner() {
        let sockets = Sockets::new().unwrap();
        let folder = sockets.0.clone();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let socket = sockets.of(&"a long name, with spaces and é, ".repeat(50));
        assert_eq!(socket.parent(), Some(&*folder));
        assert!(socket.as_os_str().len() + 17 < 108, "{socket:?}");
        assert_ne!(socket, sockets.of("web01"));
        drop(sockets);
        assert!(!folder.exists());
    }

    #[test]
    fn a_folder_whose_name_ssh_would_change_is_not_taken() {
        for (folder, fits) in
            [("/run/user/1000", true), ("/t%h", false), ("/a b", false), ("/${HOME}", false), ("tmp", false)]
        {
            assert_eq!(is_fit(Path::new(folder)), fits, "{folder}");
        }
        assert!(!is_fit(Path::new(&format!("/{}", "a".repeat(MAX_FOLDER)))));
    }

    #[test]
    fn only_folders_of_dead_processes_are_removed() {
        let above = tempfile::tempdir().unwrap();
        let mut child = process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let [dead, busy, mine] = [child.id(), child.id(), process::id()]
            .map(|id| format!("{PREFIX}{id}"))
            .map(|name| above.path().join(name));
        let [dead, busy, mine] = [(dead, "-a"), (busy, "-b"), (mine, "-c")]
            .map(|(folder, end)| PathBuf::from(format!("{}{end}", folder.display())));
        for folder in [&dead, &busy, &mine] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(busy.join("socket"), "").unwrap();
        fs::create_dir(above.path().join("other")).unwrap();
        sweep(above.path());
        assert_eq!((dead.exists(), busy.exists(), mine.exists()), (false, true, true));
        assert!(above.path().join("other").exists());
    }
}
