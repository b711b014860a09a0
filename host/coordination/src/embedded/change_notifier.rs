//! Hears that somebody writes to the file, where the system can tell, so that nobody need look at a quiet one.

use std::path::Path;

#[cfg(target_os = "linux")]
pub(super) use linux::ChangeNotifier;

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

    use super::{Path, log_of};

    /// How long it is deaf after it heard something: who writes a thousand times a second is not heard as often.
    const DEAF: Duration = Duration::from_millis(4);

    /// Listens until it is dropped.
    #[derive(Debug)]
    pub(in super::super) struct ChangeNotifier {
        inotify: Arc<Inotify>,
        watch: WatchDescriptor,
    }

    impl ChangeNotifier {
        /// Calls `ring` soon after anybody wrote to the database at `path`, ourselves included: before what was written
        /// can be seen. `None` where the system has no such thing to give, or no more of it.
        pub(in super::super) fn open(path: &Path, ring: impl Fn() + Send + 'static) -> Option<Self> {
            let inotify = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC).ok()?);
            let watch = inotify.add_watch(&log_of(path), AddWatchFlags::IN_MODIFY).ok()?;
            let listening = Arc::clone(&inotify);
            let listen = move || {
                // It fails or says `IN_IGNORED` when the file or the ear is gone.
                while let Ok(events) = listening.read_events() {
                    if events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_IGNORED)) {
                        break;
                    }
                    ring();
                    thread::sleep(DEAF);
                }
            };
            thread::Builder::new().name("store-ear".into()).spawn(listen).ok()?;
            Some(Self { inotify, watch })
        }
    }

    impl Drop for ChangeNotifier {
        fn drop(&mut self) {
            // Gone already with the file, if it cannot be removed.
            let _ = self.inotify.rm_watch(self.watch);
        }
    }
}

/// Elsewhere there is none.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(super) enum ChangeNotifier {}

#[cfg(not(target_os = "linux"))]
impl ChangeNotifier {
    pub(super) fn open(_path: &Path, _ring: impl Fn() + Send + 'static) -> Option<Self> {
        None
    }
}

/// The file that SQLite appends each change to first.
#[cfg(target_os = "linux")]
fn log_of(path: &Path) -> std::path::PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}
