//! Whether whoever waits is ever asked again.

use lockkeeper_cases::Answer;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{Eye, random_views};
use crate::author::Question;
use crate::policy::types::View;

/// Other worlds that are tried before a policy is said to wait for nothing.
const WORLDS: usize = 60;

/// Times after which only the clock has changed, in milliseconds.
const LATER: [u64; 7] = [1_000, 60_000, 600_000, 3_600_000, 6 * 3_600_000, 86_400_000, 7 * 86_400_000];

/// Why a target that waits on this question waits for ever; none: it does not wait, has a wake, or something that the view
/// shows would change the answer.
pub(super) fn never_wakes(eye: &mut Eye<'_>, question: &Question) -> Option<String> {
    let is_out_of_reach =
        question.view.party.as_ref().is_some_and(|party| u64::from(party.min_members) > random_views::MODEST);
    if question.outcome.is_some() || is_out_of_reach || !random_views::is_modest(&question.settings) {
        return None;
    }
    let answer = eye.decide(question).answer.ok()?;
    if !["wait", "hold"].contains(&answer.verdict.as_str()) || answer.wake_after.is_some() {
        return None;
    }
    // What the policy remembers changes with what happens to others, too.
    for memory in [question.memory.clone(), Vec::new()] {
        for view in worlds(eye, &question.view) {
            let other = Question { view, memory: memory.clone(), ..question.clone() };
            // A fault is a change, too: it has a property of its own. So is to wait with a wake: that is asked again.
            let waits_on = |other: Answer| other.verdict == answer.verdict && other.wake_after.is_none();
            if eye.decide(&other).answer.is_ok_and(waits_on) {
                continue;
            }
            return None;
        }
        if question.memory.is_empty() {
            break;
        }
    }
    let says = format!("`{}` ({})", answer.verdict, answer.code);
    for after in LATER {
        let mut later = question.clone();
        later.view.now = later.view.now.saturating_add(after);
        if eye.decide(&later).answer.is_ok_and(|later| later.verdict != answer.verdict) {
            return Some(format!("{says} without a wake, and only time changes that: nobody asks again"));
        }
    }
    Some(format!("{says} without a wake, and nothing that the view shows changes that: it waits for ever"))
}

/// The same view at the same time, with whatever a host would ask again for changed.
fn worlds(eye: &Eye<'_>, view: &View) -> Vec<View> {
    let mut worlds = Vec::with_capacity(WORLDS + 8);
    let mut best = view.clone();
    random_views::clear(&mut best);
    worlds.push(best.clone());
    // One thing at a time, then all together.
    worlds.push(View { semaphore: best.semaphore.clone(), ..view.clone() });
    worlds.push(View { party: best.party.clone(), ..view.clone() });
    worlds.push(View { progress: best.progress.clone(), ..view.clone() });
    let mut alone = view.clone();
    for party in alone.party.iter_mut().chain(&mut alone.other_parties) {
        party.members.clear();
    }
    worlds.push(alone);
    let mut done = best.clone();
    (done.progress.succeeded, done.progress.pending) = (done.progress.total.saturating_sub(1), 0);
    worlds.push(done);
    let mut rng = StdRng::seed_from_u64(11);
    for _ in 0..WORLDS {
        let other = eye.maker.view(&mut rng);
        let mut world = view.clone();
        // The target and the time stay what they are.
        (world.semaphore.leases, world.semaphore.queued) = (other.semaphore.leases, other.semaphore.queued);
        if let (Some(party), Some(other)) = (&mut world.party, other.party) {
            party.members = other.members;
        }
        (world.progress, world.events, world.cause) = (other.progress, other.events, other.cause);
        for (semaphore, other) in world.other_semaphores.iter_mut().zip(other.other_semaphores) {
            semaphore.leases = other.leases;
        }
        for (party, other) in world.other_parties.iter_mut().zip(other.other_parties) {
            party.members = other.members;
        }
        worlds.push(world);
    }
    worlds
}
