//! Compiled policies, kept between processes without being trusted.
//!
//! Machine code that an attacker can write is arbitrary code execution, so an entry is taken only if we sealed it
//! ourselves: it carries a MAC under a key that lies beside it, readable by its owner alone, over the entry's name and
//! its bytes. On any mismatch the policy is compiled again. The name is the digest of the policy together with
//! wasmtime's own hash of version, target and configuration, so an upgrade never meets an old entry.

use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

use lockkeeper_coordination::files;

const KEY_BYTES: usize = 32;
const SEAL_BYTES: usize = 32;
const KEY_NAME: &str = "key";

/// What all entries together may take up: some twenty componentised Pythons, or thousands of policies in Rust.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// A folder of sealed entries. Every failure means "compile again"; none is an error.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    /// Wasmtime's compatibility hash.
    engine: u64,
    /// None: the folder cannot be used.
    key: Option<[u8; KEY_BYTES]>,
    max_bytes: u64,
}

impl Cache {
    pub(super) fn new(folder: &Path, engine: &Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self { folder: folder.to_owned(), engine: hasher.finish(), key: key(folder).ok(), max_bytes: MAX_BYTES }
    }

    /// The component compiled from a policy of that digest, if we sealed one.
    pub(super) fn load(&self, digest: &str, engine: &Engine) -> Option<Component> {
        let name = self.name(digest);
        let path = self.folder.join(&name);
        let entry = files::read(&path, u64::MAX).ok()?;
        let (seal, machine_code) = entry.split_at_checked(SEAL_BYTES)?;
        self.seal(&name, machine_code)?.verify_slice(seal).ok()?;
        // What is used stays longest; a time that cannot be set makes it go earlier, and that is all.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
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
        let written = files::create_new(&temporary)
            .and_then(|mut file| file.write_all(&seal).and_then(|()| file.write_all(machine_code)))
            .and_then(|()| fs::rename(&temporary, self.folder.join(&name)));
        if written.is_err() {
            // A full disk costs the cache, not the decision.
            let _ = fs::remove_file(&temporary);
        }
        self.make_room(&name);
    }

    /// Deletes what was not used for longest, until the rest takes up no more than it may; never the entry of that name,
    /// nor the key. Of two processes that do so at once one finds some of it gone, which is all the same.
    fn make_room(&self, newest: &str) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name() != KEY_NAME && entry.file_name() != newest)
            .filter_map(|entry| {
                let found = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((found.modified().ok()?, found.len(), entry.path()))
            })
            .collect();
        entries.sort();
        let newest = fs::metadata(self.folder.join(newest)).map_or(0, |found| found.len());
        let mut bytes = newest + entries.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        for (_, length, path) in entries {
            if bytes <= self.max_bytes {
                return;
            }
            let _ = fs::remove_file(path);
            bytes = bytes.saturating_sub(length);
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
    let path = folder.join(KEY_NAME);
    if !path.exists() {
        // Two processes may both make one: the link of the first stays.
        let temporary = folder.join(format!("key.{}", uuid::Uuid::new_v4().simple()));
        files::create_new(&temporary)?.write_all(&rand::random::<[u8; KEY_BYTES]>())?;
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use crate::policy::{Engine as Policies, EngineOptions, StandardPolicy};

    use super::*;

    /// An engine that keeps its compiled policies there.
    fn engine(folder: &Path) -> Policies {
        Policies::new(&EngineOptions { cache: Some(folder.to_owned()), ..EngineOptions::default() }).unwrap()
    }

    fn rolling() -> &'static [u8] {
        StandardPolicy::named("rolling").unwrap().wasm
    }

    /// How many policies are compiled to load one with this cache; it must be loaded either way.
    fn compiled(folder: &Path) -> u64 {
        let engine = engine(folder);
        assert_eq!(engine.load(rolling()).unwrap().manifest().name, "rolling");
        engine.compilations()
    }

    /// The one entry of a cache that has loaded one policy.
    fn entry(folder: &Path) -> PathBuf {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut entries = entries.filter(|path| path.file_name().is_some_and(|name| name != "key"));
        let entry = entries.next().expect("the cache has an entry");
        assert_eq!(entries.next(), None, "and no other");
        entry
    }

    /// A cache with one entry.
    fn filled() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("compiled");
        assert_eq!(compiled(&cache), 1);
        assert_eq!(compiled(&cache), 0, "it is found the second time");
        folder
    }

    #[test]
    fn an_entry_that_is_not_as_we_sealed_it_is_compiled_again() {
        type Damage = fn(&mut Vec<u8>);
        let damages: [(&str, Damage); 6] = [
            ("a flipped bit of the code", |bytes| *bytes.last_mut().unwrap() ^= 1),
            ("a flipped bit of the seal", |bytes| bytes[0] ^= 0x80),
            ("a truncated entry", |bytes| bytes.truncate(bytes.len() / 2)),
            ("less than a seal", |bytes| bytes.truncate(SEAL_BYTES - 1)),
            ("nothing", Vec::clear),
            ("something appended", |bytes| bytes.push(0)),
        ];
        for (name, damage) in damages {
            let folder = filled();
            let cache = folder.path().join("compiled");
            let entry = entry(&cache);
            let mut bytes = fs::read(&entry).unwrap();
            damage(&mut bytes);
            fs::write(&entry, bytes).unwrap();
            assert_eq!(compiled(&cache), 1, "{name}");
            assert_eq!(compiled(&cache), 0, "{name}: and what is compiled again is kept");
        }
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let engine = wasmtime::Engine::default();
        let cache = Cache { max_bytes: 3_000, ..Cache::new(&folder.path().join("compiled"), &engine) };
        let kept = |digest: &str| cache.folder.join(cache.name(digest)).exists();
        let used = |digest: &str, seconds: u64| {
            let file = File::open(cache.folder.join(cache.name(digest))).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        };
        for (number, digest) in ["a", "b", "c"].into_iter().enumerate() {
            cache.store(digest, &[7; 900]);
            used(digest, 10 + number as u64);
        }
        assert!(["a", "b", "c"].into_iter().all(kept));
        used("a", 20);
        cache.store("d", &[7; 900]);
        assert_eq!(["a", "b", "c", "d"].map(kept), [true, false, true, true]);
        cache.store("huge", &[7; 9_000]);
        assert_eq!(["a", "c", "d", "huge"].map(kept), [false, false, false, true], "the newest stays in any case");
        assert!(cache.folder.join(KEY_NAME).exists());
    }

    #[test]
    fn another_policys_entry_is_not_taken_under_this_name() {
        let folder = filled();
        let cache = folder.path().join("compiled");
        let of_rolling = entry(&cache);
        fs::remove_file(&of_rolling).unwrap();
        engine(&cache).load(StandardPolicy::named("canary").unwrap().wasm).unwrap();
        fs::rename(entry(&cache), &of_rolling).unwrap();
        assert_eq!(compiled(&cache), 1);
    }

    #[test]
    fn an_entry_sealed_under_another_key_is_forged() {
        let (ours, theirs) = (filled(), filled());
        let of = |folder: &tempfile::TempDir| entry(&folder.path().join("compiled"));
        fs::copy(of(&theirs), of(&ours)).unwrap();
        assert_eq!(compiled(&ours.path().join("compiled")), 1);
    }

    #[test]
    fn what_somebody_else_could_write_is_not_used() {
        // Whoever may write there may put a key and sealed code of their own.
        let folder = filled();
        let cache = folder.path().join("compiled");
        for path in [cache.join("key"), cache.clone()] {
            let before = fs::metadata(&path).unwrap().permissions();
            fs::set_permissions(&path, fs::Permissions::from_mode(before.mode() | 0o022)).unwrap();
            assert_eq!(compiled(&cache), 1, "{}", path.display());
            fs::set_permissions(&path, before).unwrap();
            assert_eq!(compiled(&cache), 0, "{}", path.display());
        }
        let elsewhere = folder.path().join("link");
        symlink(&cache, &elsewhere).unwrap();
        assert_eq!(compiled(&elsewhere), 1, "a link to a folder");
    }

    #[test]
    fn what_is_no_file_in_an_entrys_place_hangs_nobody() {
        let folder = filled();
        let cache = folder.path().join("compiled");
        let entry = entry(&cache);
        fs::remove_file(&entry).unwrap();
        fs::create_dir(&entry).unwrap();
        assert_eq!(compiled(&cache), 1, "a folder");
        fs::remove_dir(&entry).unwrap();
        nix::unistd::mkfifo(&entry, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(compiled(&cache), 1, "a pipe that nobody writes to");
    }
}
