//! Compiled policies, kept between processes without being trusted.
//!
//! Machine code that an attacker can write is arbitrary code execution, so an entry is taken only if we sealed it
//! ourselves: it carries a MAC under a key that lies beside it, readable by its owner alone, over the entry's name and
//! its bytes. On any mismatch the policy is compiled again. The name is the digest of the policy together with
//! wasmtime's own hash of version, target and configuration, so an upgrade never meets an old entry.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

const KEY_BYTES: usize = 32;
const SEAL_BYTES: usize = 32;

/// A folder of sealed entries. Every failure means "compile again"; none is an error.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    /// Wasmtime's compatibility hash.
    engine: u64,
    /// None: the folder cannot be used.
    key: Option<[u8; KEY_BYTES]>,
}

impl Cache {
    pub(super) fn new(folder: &Path, engine: &Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self { folder: folder.to_owned(), engine: hasher.finish(), key: key(folder).ok() }
    }

    /// The component compiled from a policy of that digest, if we sealed one.
    pub(super) fn load(&self, digest: &str, engine: &Engine) -> Option<Component> {
        let name = self.name(digest);
        let entry = fs::read(self.folder.join(&name)).ok()?;
        let (seal, machine_code) = entry.split_at_checked(SEAL_BYTES)?;
        self.seal(&name, machine_code)?.verify_slice(seal).ok()?;
        #[expect(unsafe_code, reason = "wasmtime cannot check machine code; the seal says that it is our own")]
        // SAFETY: the bytes are what `Component::serialize` gave this user's own process: the MAC over them was just
        // verified under a key that only this user can read.
        unsafe { Component::deserialize(engine, machine_code) }.ok()
    }

    /// Keeps machine code, by rename: a reader sees an old entry, this one or none.
    pub(super) fn store(&self, digest: &str, machine_code: &[u8]) {
        let name = self.name(digest);
        let Some(seal) = self.seal(&name, machine_code) else { return };
        let seal = seal.finalize().into_bytes();
        let temporary = self.folder.join(format!("{name}.{}", uuid::Uuid::new_v4().simple()));
        let written = private_file(&temporary)
            .and_then(|mut file| file.write_all(&seal).and_then(|()| file.write_all(machine_code)))
            .and_then(|()| fs::rename(&temporary, self.folder.join(&name)));
        if written.is_err() {
            // A full disk costs the cache, not the decision.
            let _ = fs::remove_file(&temporary);
        }
    }

    fn name(&self, digest: &str) -> String {
        format!("{digest}-{:016x}", self.engine)
    }

    fn seal(&self, name: &str, machine_code: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key?).ok()?;
        mac.update(name.as_bytes());
        mac.update(machine_code);
        Some(mac)
    }
}

/// The key, made on first use. A folder or key that somebody else owns or can write is not used.
fn key(folder: &Path) -> io::Result<[u8; KEY_BYTES]> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let owner = nix::unistd::geteuid().as_raw();
    let is_private = |path: &Path| -> io::Result<bool> {
        let found = fs::symlink_metadata(path)?;
        Ok(!found.is_symlink() && found.uid() == owner && found.permissions().mode() & 0o077 == 0)
    };
    let refused = || io::Error::new(io::ErrorKind::PermissionDenied, "not private");
    if !is_private(folder)? {
        return Err(refused());
    }
    let path = folder.join("key");
    if !path.exists() {
        // Two processes may both make one: the link of the first stays.
        let temporary = folder.join(format!("key.{}", uuid::Uuid::new_v4().simple()));
        private_file(&temporary)?.write_all(&rand::random::<[u8; KEY_BYTES]>())?;
        let _ = fs::hard_link(&temporary, &path);
        fs::remove_file(&temporary)?;
    }
    if !is_private(&path)? {
        return Err(refused());
    }
    let mut key = [0; KEY_BYTES];
    File::open(&path)?.read_exact(&mut key)?;
    Ok(key)
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
