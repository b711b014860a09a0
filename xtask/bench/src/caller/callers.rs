//! Callers that take a slot, work and give it back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use lockkeeper_coordination::recipe::{Identifier, Patience, Semaphore};
use lockkeeper_coordination::store::{Lifetime, Store};
use serde_json::json;

use super::sequence::Sequence;
use super::{Arguments, Recipe, heard, micros, say};

/// When it was asked for, had, given back, and gone.
type Cycle = [u64; 4];

/// One caller's way to a slot.
enum Way {
    Lockkeeper(Semaphore, Identifier),
    Sequence(Sequence),
}

impl Way {
    fn new(arguments: &Arguments, session: &Arc<dyn Store>, caller: u32) -> Result<Self> {
        let (session, path, slots) = (Arc::clone(session), arguments.path.clone(), arguments.slots);
        let identifier = format!("caller-{caller}");
        Ok(match arguments.recipe {
            Recipe::Lockkeeper => Self::Lockkeeper(Semaphore::new(session, path, slots), Identifier::new(identifier)?),
            Recipe::Sequence => Self::Sequence(Sequence::new(session, path, slots, identifier)),
        })
    }

    async fn cycle(&mut self, work: Duration) -> Result<Cycle> {
        let asked = micros();
        Ok(match self {
            Self::Lockkeeper(semaphore, identifier) => {
                let lease = semaphore.acquire(identifier, Lifetime::Ephemeral, Patience::Forever).await?.lease;
                let got = micros();
                work_for(work).await;
                let releasing = micros();
                lease.release().await?;
                [asked, got, releasing, micros()]
            }
            Self::Sequence(sequence) => {
                let lease = sequence.acquire().await?;
                let got = micros();
                work_for(work).await;
                let releasing = micros();
                sequence.release(&lease).await?;
                [asked, got, releasing, micros()]
            }
        })
    }
}

async fn work_for(work: Duration) {
    if !work.is_zero() {
        tokio::time::sleep(work).await;
    }
}

/// One caller alone, whose every request falls into the window.
pub(super) async fn one(arguments: &Arguments, sessions: &[Arc<dyn Store>]) -> Result<()> {
    let mut way = Way::new(arguments, &sessions[0], 0)?;
    let warm = micros() + 1000 * arguments.warm_ms;
    for _ in 0..3 {
        way.cycle(Duration::ZERO).await?;
    }
    while micros() < warm {
        way.cycle(Duration::ZERO).await?;
    }
    say("ready")?;
    heard("go").await?;
    let (begin, mut cycles) = (micros(), Vec::new());
    while u128::from(micros() - begin) < arguments.window().as_micros() {
        cycles.push(way.cycle(arguments.work()).await?);
    }
    let end = micros();
    say("end")?;
    say(&json!({"begin": begin, "end": end, "cycles": cycles}).to_string())?;
    heard("close").await
}

pub(super) async fn many(arguments: &Arguments, sessions: &[Arc<dyn Store>]) -> Result<()> {
    let (done, ending) = (Arc::new(Mutex::new(Vec::<Cycle>::new())), Arc::new(AtomicBool::new(false)));
    let mut callers = tokio::task::JoinSet::new();
    for (caller, session) in (0..arguments.callers).zip(sessions.iter().cycle()) {
        let mut way = Way::new(arguments, session, caller)?;
        let (done, ending) = (Arc::clone(&done), Arc::clone(&ending));
        let (work, once) = (arguments.work(), arguments.once);
        callers.spawn(async move {
            while !ending.load(Ordering::Relaxed) {
                let cycle = way.cycle(work).await?;
                done.lock().unwrap_or_else(PoisonError::into_inner).push(cycle);
                if once {
                    break;
                }
            }
            anyhow::Ok(())
        });
    }
    say("ready")?;
    heard("go").await?;
    let begin = micros();
    let window = tokio::time::sleep(arguments.window());
    tokio::pin!(window);
    loop {
        tokio::select! {
            () = &mut window => break,
            // None is left: only when each takes one slot.
            ended = callers.join_next(), if !callers.is_empty() => if let Some(ended) = ended { ended??; },
        }
    }
    let end = micros();
    say("end")?;
    let cycles = done.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let within: Vec<Cycle> = cycles.into_iter().filter(|[_, got, ..]| (begin..end).contains(got)).collect();
    say(&json!({"begin": begin, "end": end, "cycles": within}).to_string())?;
    heard("close").await?;
    ending.store(true, Ordering::Relaxed);
    // What they were about to do ends with their sessions.
    callers.abort_all();
    Ok(())
}
