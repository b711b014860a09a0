//! The hard limits: what they are checked against, and what a refusal does.

use crate::policy::types::Ending;
use crate::rollout::machine::Rollout;
use crate::rollout::model::{Blocker, EpochMs, Event, Facts, Refusal, TargetIndex, TargetStatus};
use lockkeeper_coordination::store::millis;

/// The step before which the limits are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitCheck {
    ToQueue,
    ToStart,
}

/// A limit that refused, and the facts that it was checked against.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) facts: Facts,
}

impl Rollout {
    pub(super) fn check_limits(&self, check: LimitCheck, target: TargetIndex) -> Result<(), Box<Refused>> {
        self.check_facts(self.facts(target, check))
    }

    /// As [`Self::check_limits`] to queue, for a force that breaks the leases of these fences.
    pub(super) fn check_limits_to_force(&self, target: TargetIndex, victims: &[u64]) -> Result<(), Box<Refused>> {
        let name = self.targets[target].target.name.as_str();
        let held = self.store_view.held_by_another(name, |lease| !victims.contains(&lease.fence.get()));
        self.check_facts(Facts { held, ..self.facts(target, LimitCheck::ToQueue) })
    }

    fn check_facts(&self, facts: Facts) -> Result<(), Box<Refused>> {
        self.setup.limits.allow_one_more(&facts).map_err(|refusal| Box::new(Refused { refusal, facts }))
    }

    /// To queue, whatever is in flight counts as if it ran already, so that no slot is acquired that could not be used.
    pub(super) fn facts(&self, target: TargetIndex, check: LimitCheck) -> Facts {
        let (mut in_flight, mut reserved, mut leaving) = (0, 0, vec![target]);
        for other in self.targets.in_flight().iter().copied().filter(|other| *other != target) {
            in_flight += 1;
            let (may_be_down, may_fail) = match self.status(other) {
                TargetStatus::Running | TargetStatus::Unsettled | TargetStatus::RollingBack => (true, true),
                // Its slot is still held, so that it may not have joined the party again. And until its success is written
                // down, with its slot released or kept, the next runner finds it running, and may have to charge it.
                TargetStatus::ActionEnded(Ending::Succeeded) => (true, self.schedule.keeps.of(other).is_none()),
                TargetStatus::ActionEnded(_) | TargetStatus::RollBackEnded(_) => (true, true),
                _ => (check == LimitCheck::ToQueue, check == LimitCheck::ToQueue),
            };
            if may_be_down {
                leaving.push(other);
            }
            // One that has failed is counted as that.
            reserved += u32::from(may_fail && !self.has_failed(other));
        }
        let (roster, name) = (&self.store_view.roster, self.targets[target].target.name.as_str());
        Facts {
            in_flight,
            reserved,
            failed: self.failed_before(target),
            remaining: roster.is_known().then(|| roster.remaining(leaving.into_iter())),
            strangers: self.setup.party.as_ref().and_then(|party| roster.strangers(party)),
            connected: self.store_view.is_connected(),
            now_ms: self.now.get(),
            usual_ms: self.totals.longest_ms.or_else(|| self.setup.action_timeout.map(millis)),
            paused: self.requests.paused.clone(),
            unknown: self.unknown_that_blocks().map(|target| self.name(target)),
            wave_spent: self.wave_spent_before(target),
            wave: self.wave_gate(target),
            // Under its slot the claim keeps other holders away.
            held: self.store_view.held_by_another(name, |_| check == LimitCheck::ToQueue),
        }
    }

    /// A hard limit refuses a target. The floor may allow another target, which is no member; a lease of another holder is
    /// about this target alone. Every other limit is about all targets: the policy decides about none until something changes.
    pub(super) fn refuse(&mut self, target: TargetIndex, refused: &Refused) {
        let refusal = &refused.refusal;
        self.targets[target].waiting.refused = Some(refusal.to_string());
        match refusal {
            Refusal::Held { by } => {
                self.targets[target].waiting.held_by = Some(by.clone());
                if let Some(until) = self.wants_slot(target) {
                    self.schedule.give_ups.set(target, until);
                }
            }
            Refusal::Floor { .. } => {
                let takes_a_member = self.takes_a_member(target);
                self.sweep.refused_by_floor(takes_a_member);
            }
            refusal => {
                let from = match refusal {
                    Refusal::Wave { .. } => self.wave_start(target),
                    _ => TargetIndex::new(0),
                };
                self.sweep.hold_at_least(from, refusal.changes_ms().map(EpochMs::new));
            }
        }
        self.report_refused(target, refused);
    }

    /// Reports a refusal, once for the target if it is about this target alone, else once for all.
    pub(super) fn report_refused(&mut self, target: TargetIndex, Refused { refusal, facts }: &Refused) {
        let (reason, code, until) = (refusal.to_string(), refusal.code(), refusal.changes_ms());
        self.sweep.blocker = Some(Blocker { code: code.to_owned(), reason: reason.clone(), until });
        let reported = match refusal {
            Refusal::Held { .. } => &mut self.targets[target].waiting.reported,
            _ => &mut self.sweep.reported,
        };
        if *reported != reason {
            reported.clone_from(&reason);
            let (limit, facts) = (code.into(), Some(Box::new(facts.clone())));
            self.emit(Event::Refused { target: self.name(target), limit, reason, until, facts });
        }
    }
}
