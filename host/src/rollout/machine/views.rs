//! What a policy sees when it decides.

use crate::job::ObserveSpec;
use crate::policy::types::{self as contract, Cause};
use crate::rollout::machine::Rollout;
use crate::rollout::machine::targets::HeldLease;
use crate::rollout::model::{Counts, Observed, SeenLease, SeenMember, TargetIndex};
use lockkeeper_coordination::store::Lifetime;

impl Rollout {
    /// The view of the next decision, about this target.
    pub(super) fn view(&mut self, target: TargetIndex, cause: Cause) -> contract::View {
        let sequence = self.decisions.sequence;
        self.decisions.sequence += 1;
        let (now, wave) = (self.now, self.wave_of(target).unwrap_or_default().to_owned());
        let entry = &mut self.targets[target];
        let waiting_since = entry.waiting.since.get_or_insert(now).get();
        let labels = entry.target.labels.iter();
        let subject = contract::Target {
            name: entry.target.name.to_string(),
            labels: labels.map(|(key, value)| contract::Label { key: key.clone(), value: value.clone() }).collect(),
            wave,
            attempt: entry.attempts.started.max(1),
            waiting_since,
        };
        contract::View {
            sequence,
            now: now.get(),
            seed: mix(self.setup.seed, sequence),
            cause,
            target: subject,
            semaphore: self.semaphore_view(),
            party: self.party_view(target),
            other_semaphores: self.other_semaphores(),
            other_parties: self.other_parties(),
            progress: self.progress(),
            events: self.decisions.events.iter().cloned().collect(),
        }
    }

    /// Other holders' leases as last read, and the run's own.
    fn semaphore_view(&self) -> contract::Semaphore {
        let alive = |identifier: &str| self.store_view.roster.is_alive(self.setup.party.as_ref()?, identifier);
        let others = self
            .store_view
            .other_leases()
            .map(|lease| contract::Lease { alive: alive(&lease.identifier), ..lease_view(lease) });
        let ours = self.targets.leases().map(|(target, HeldLease { fence, since })| contract::Lease {
            alive: alive(target.name.as_str()),
            identifier: target.name.to_string(),
            fence: fence.get(),
            since: since.get(),
            ephemeral: self.setup.lifetime == Lifetime::Ephemeral,
            mine: true,
        });
        let mut leases: Vec<contract::Lease> = others.chain(ours).collect();
        leases.sort_by_key(|lease| lease.fence);
        contract::Semaphore {
            path: self.setup.semaphore.clone(),
            slots: self.setup.limits.slots,
            leases,
            queued: self.store_view.queued,
        }
    }

    fn other_semaphores(&self) -> Vec<contract::Semaphore> {
        let pairs = self.setup.observe.iter().zip(self.store_view.observed());
        let semaphores = pairs.filter_map(|pair| match pair {
            (ObserveSpec::Semaphore(path), Some(Observed::Semaphore { slots, leases, queued })) => {
                let leases = leases.iter().map(lease_view).collect();
                Some(contract::Semaphore { path: path.to_string(), slots: slots.unwrap_or(0), leases, queued: *queued })
            }
            _ => None,
        });
        semaphores.collect()
    }

    fn other_parties(&self) -> Vec<contract::Party> {
        let pairs = self.setup.observe.iter().zip(self.store_view.observed());
        let parties = pairs.filter_map(|pair| match pair {
            (ObserveSpec::Party(path), Some(Observed::Party(members))) => Some(contract::Party {
                path: path.to_string(),
                min_members: 0,
                members: members.iter().map(member_view).collect(),
            }),
            _ => None,
        });
        parties.collect()
    }

    fn progress(&self) -> contract::Progress {
        let Counts { total, pending, waiting, running, succeeded, failed, unknown, rolled_back, skipped } =
            self.counts();
        contract::Progress {
            job: self.setup.job.clone(),
            run: self.setup.run.to_string(),
            started: self.setup.started.get(),
            total,
            pending,
            waiting,
            running,
            succeeded,
            failed,
            rolled_back,
            skipped,
            unknown,
            budget_left: self.setup.limits.budget.left(self.charged(), running),
        }
    }
}

/// Another holder's lease. Whether its holder is alive is not known here.
fn lease_view(lease: &SeenLease) -> contract::Lease {
    contract::Lease {
        identifier: lease.identifier.clone(),
        fence: lease.fence.get(),
        since: lease.since_ms,
        ephemeral: lease.ephemeral,
        alive: None,
        mine: false,
    }
}

fn member_view(member: &SeenMember) -> contract::Member {
    contract::Member { identifier: member.identifier.clone(), since: member.since_ms }
}

/// A decision's seed: splitmix64 of the run's seed and the decision's number, so that a replay gets the same.
fn mix(seed: u64, sequence: u64) -> u64 {
    let mut z = seed.wrapping_add(sequence.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
