//! The thread behind the time limit. It moves the epoch on while a guest computes, and sleeps while none does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::EngineWeak;

/// How often the epoch moves on: the grain of the time limit.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// After so many ticks without a guest it sleeps: decisions that follow each other need not wake it each.
const IDLE_TICKS: u32 = 50;

/// One an engine, and the only one that moves its epoch. Ends with it.
#[derive(Debug)]
pub(super) struct Ticker {
    state: Arc<State>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct State {
    computing: AtomicUsize,
    asleep: AtomicBool,
}

/// A guest computes, until this is dropped.
#[derive(Debug)]
pub(super) struct Computing(Arc<State>);

impl Ticker {
    pub(super) fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let state = Arc::new(State::default());
        let its = Arc::clone(&state);
        let thread = thread::Builder::new().name("policy-ticker".to_owned()).spawn(move || tick(&engine, &its))?;
        Ok(Self { state, thread: thread.thread().clone() })
    }

    /// From now on the epoch moves.
    pub(super) fn computing(&self) -> Computing {
        // Either we see that it sleeps, or it sees that somebody computes: both write before they read, in one order.
        self.state.computing.fetch_add(1, Ordering::SeqCst);
        if self.state.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Computing(Arc::clone(&self.state))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.thread.unpark();
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        self.0.computing.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(engine: &EngineWeak, state: &State) {
    let mut idle = 0;
    while let Some(engine) = engine.upgrade() {
        engine.increment_epoch();
        drop(engine);
        idle = if state.computing.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
        if idle < IDLE_TICKS {
            thread::sleep(TICK);
            continue;
        }
        state.asleep.store(true, Ordering::SeqCst);
        if state.computing.load(Ordering::SeqCst) == 0 {
            // Woken without need it goes to sleep again half a second later.
            thread::park();
        }
        state.asleep.store(false, Ordering::SeqCst);
        idle = 0;
    }
}
