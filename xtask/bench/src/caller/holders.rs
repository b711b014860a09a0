//! Reading who holds.

use std::sync::Arc;

use anyhow::Result;
use lockkeeper_coordination::recipe::Semaphore;
use lockkeeper_coordination::store::Store;
use serde_json::json;

use super::{Arguments, heard, micros, say};

pub(super) async fn read(arguments: &Arguments, sessions: &[Arc<dyn Store>]) -> Result<()> {
    let semaphore = Semaphore::new(Arc::clone(&sessions[0]), arguments.path.clone(), arguments.slots);
    say("ready")?;
    heard("go").await?;
    let (begin, mut times, mut found) = (micros(), Vec::new(), 0);
    while times.is_empty() || u128::from(micros() - begin) < arguments.window().as_micros() {
        let started = micros();
        found = semaphore.holders().await?.len();
        times.push(micros() - started);
    }
    say("end")?;
    say(&json!({"times": times, "found": found}).to_string())?;
    heard("close").await
}
