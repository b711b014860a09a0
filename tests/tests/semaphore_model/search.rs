//! The search itself: every state that can come, breadth first, from a start.

use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// What is searched: where it starts, what may come next, and what must not come.
pub(crate) trait Model: Debug {
    /// Everything at one moment: the store and its callers.
    type State: Copy + Eq + Hash + Display;

    /// Where it starts.
    fn start(&self) -> Self::State;

    /// Everything that may come next.
    fn next(&self, state: &Self::State, out: &mut Vec<Self::State>);

    /// The promise that is broken in this state; `None` if all are kept.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;

    /// Whether every caller has finished.
    fn is_finished(&self, state: &Self::State) -> bool;
}

/// What a search came to.
#[derive(Debug)]
pub(crate) struct Found<S> {
    /// How many states were found.
    pub(crate) states: usize,
    /// The promise that is broken, and a shortest way there.
    pub(crate) violation: Option<(&'static str, Vec<S>)>,
    /// A way to where no caller can do anything and one has not finished.
    pub(crate) stuck: Option<Vec<S>>,
}

/// Breadth first, so that the first violation found is a shortest one.
pub(crate) fn search<M: Model>(model: &M) -> Found<M::State> {
    let start = model.start();
    let mut known: HashMap<M::State, u32, BuildHasherDefault<Mix>> = HashMap::default();
    let mut all: Vec<(M::State, u32)> = vec![(start, 0)];
    known.insert(start, 0);
    let mut stuck = None;
    let mut at = 0;
    let mut successors = Vec::new();
    while let Some((state, _)) = all.get(at).copied() {
        successors.clear();
        model.next(&state, &mut successors);
        let mut moves = false;
        for next in &successors {
            moves |= *next != state;
            if known.contains_key(next) {
                continue;
            }
            let index = u32::try_from(all.len()).expect("a small search");
            known.insert(*next, index);
            all.push((*next, u32::try_from(at).expect("a small search")));
            if let Some(promise) = model.broken(next) {
                let violation = Some((promise, way(&all, all.len() - 1)));
                return Found { states: all.len(), violation, stuck };
            }
        }
        if !moves && stuck.is_none() && !model.is_finished(&state) {
            stuck = Some(way(&all, at));
        }
        at += 1;
    }
    Found { states: all.len(), violation: None, stuck }
}

/// Searches, and fails on a broken promise and, with `Stuck::Fails`, on callers that wait for ever. Answers how many states
/// there were.
pub(crate) fn holds<M: Model>(model: &M, stuck: Stuck) -> usize {
    let found = search(model);
    if let Some((promise, way)) = &found.violation {
        panic!("{model:?}: {promise}, after {} states:\n{}", way.len(), history(way));
    }
    if let (Some(way), Stuck::Fails) = (&found.stuck, stuck) {
        panic!("{model:?}: stuck after {} states:\n{}", way.len(), history(way));
    }
    found.states
}

/// Searches, and fails unless the model is wrong: a promise is broken or, with `Stuck::Fails`, a caller waits for ever. Answers
/// which, and how long the way there is.
pub(crate) fn fails<M: Model>(slip: &str, model: &M, stuck: Stuck) -> String {
    let found = search(model);
    let (what, way) = match (found.violation, found.stuck, stuck) {
        (Some(violation), _, _) => violation,
        (None, Some(way), Stuck::Fails) => ("a caller waits for ever", way),
        _ => panic!("{slip}: not found in {} states of {model:?}", found.states),
    };
    format!("{slip}: {} states to \"{what}\", {} searched", way.len(), found.states)
}

/// What a state means in which no caller can do anything and one has not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// A caller waits for ever: nothing told it of what it waits for.
    Fails,
    /// Nothing: a caller has crashed, and others wait for what it held.
    Allowed,
}

/// Every multiset of `size` of these kinds.
pub(crate) fn mixtures<K: Copy>(kinds: &[K], size: usize) -> Vec<Vec<K>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (first, kind) in kinds.iter().enumerate() {
        for mut rest in mixtures(&kinds[first..], size - 1) {
            rest.insert(0, *kind);
            all.push(rest);
        }
    }
    all
}

/// The states from the start to the one at `index`.
fn way<S: Copy>(all: &[(S, u32)], mut index: usize) -> Vec<S> {
    let mut way = vec![all[index].0];
    while index != 0 {
        index = usize::try_from(all[index].1).expect("an index");
        way.push(all[index].0);
    }
    way.reverse();
    way
}

/// The way as text, a line a state.
fn history<S: Display>(way: &[S]) -> String {
    way.iter().map(|state| format!("  {state}\n")).collect()
}

/// A quick hash of small fields: the standard one takes most of a search's time in a debug build.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(u64::from_ne_bytes(value.to_ne_bytes()));
    }
}
