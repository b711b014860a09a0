//! The promises of the trait, and what is the embedded store's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::{Embedded, EmbeddedOptions};
use crate::store::conformance::Subject;
use crate::store::{Connect, NodeKind, NodePath, Reply, SessionState, Store, StoreError, Version, WatchEvent};

/// A store in a folder that goes with it.
struct OnAFile {
    connector: Arc<Embedded>,
    _folder: TempDir,
}

impl OnAFile {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let options = EmbeddedOptions { session_timeout: Duration::from_secs(2) };
        Self { connector: Arc::new(Embedded::new(folder.path().join("store.db"), options)), _folder: folder }
    }
}

impl Subject for OnAFile {
    fn connector(&self) -> Arc<dyn Connect> {
        Arc::clone(&self.connector) as Arc<dyn Connect>
    }

    fn silence(&self, session: &dyn Store) -> Reply<()> {
        self.connector.silence(session.session_id());
        Box::pin(async { Ok(()) })
    }
}

mod promises {
    use super::OnAFile;

    crate::conformance_tests!(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        OnAFile::new()
    );
}
