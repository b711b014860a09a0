//! The recipes' behaviour on the embedded store: the same cases that the library runs in memory.

use std::sync::Arc;
use std::time::Duration;

use lockkeeper_coordination::embedded::{Embedded, EmbeddedOptions};

/// A store in a folder that lasts as long as the test's process.
fn store() -> Arc<Embedded> {
    let folder = tempfile::tempdir().expect("a folder for the store").keep();
    Arc::new(Embedded::new(folder.join("store.db"), EmbeddedOptions { session_timeout: Duration::from_secs(4) }))
}

lockkeeper_coordination::behaviour_tests!(store());
