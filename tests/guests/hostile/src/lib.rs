//! A policy that does what no policy should: its setting `mode` says what. `tests/hostile_guests.rs` runs it.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use lockkeeper_sdk::prelude::*;

/// Settings.
#[settings]
struct Hostile {
    /// What to do.
    mode: String,
    /// How much of it.
    #[serde(default)]
    size: usize,
}

static ASKED: AtomicU32 = AtomicU32::new(0);

#[policy("lock", "wait", "force", "release", "keep")]
impl Policy for Hostile {
    fn admit(&self, view: &View, memory: &mut Memory) -> Admitted {
        match self.mode.as_str() {
            "loop" => spin(),
            "recurse" => return lock("deep", recurse(1).to_string()),
            "allocate" => {
                let mut all = Vec::new();
                loop {
                    all.push(black_box(vec![1_u8; 1 << 20]));
                }
            }
            "fill" => {
                let mut block = vec![0_u8; 1 << 20];
                for byte in 0_u8.. {
                    block.fill(byte);
                    black_box(&mut block);
                }
            }
            "answer" => return lock("long", String::from_utf8(vec![b'x'; self.size]).unwrap_or_default()),
            "fences" => return force(vec![1; self.size], "many", ""),
            "panic" => panic!("no slot for {}", view.target.name),
            "index" => return lock("", ["only one"][black_box(self.size)]),
            "memory" => *memory = Memory::from_bytes(vec![1; self.size]),
            "lock" => {}
            "force" => return force(vec![], "forced", ""),
            "skip" => return skip("not-listed", ""),
            "give-up" => return fault("cannot\u{1b}[2J decide"),
            "trace" => (0..self.size).for_each(|index| trace(Level::Info, format!("line {index}"))),
            "shout" => (0..self.size).for_each(|_| trace(Level::Info, "x".repeat(100_000))),
            "escape" => return lock("a\u{7}\n", format!("\u{1b}[31m{}", "y".repeat(self.size))),
            "count" => return lock("counted", ASKED.fetch_add(1, Ordering::Relaxed).to_string()),
            other => return fault(format!("no mode `{other}`")),
        }
        lock("done", "")
    }

    fn settle(&self, view: &View, outcome: &Outcome, memory: &mut Memory) -> Settled {
        match self.mode.as_str() {
            "loop" => spin(),
            "tell" => {
                let told = format!("{} {outcome:?} {:?}", view.target.name, memory.clone().into_bytes());
                *memory = Memory::from_bytes(vec![7; self.size]);
                return release("told", told);
            }
            "keep" => return keep(Duration::from_secs(60), "kept", ""),
            _ => {}
        }
        retry("not-listed", "")
    }

    fn check(&self) -> Vec<Diagnostic> {
        match self.mode.as_str() {
            "loop" => spin(),
            "escape" => vec![problem("\u{1b}[2Jmode", "\u{1b}[31mred")],
            "many" => (0..self.size).map(|_| problem("mode", "again")).collect(),
            _ => Vec::new(),
        }
    }
}

fn spin() -> ! {
    loop {
        black_box(());
    }
}

#[expect(unconditional_recursion, reason = "what it is for")]
fn recurse(depth: u64) -> u64 {
    black_box(depth) + recurse(black_box(depth + 1))
}
