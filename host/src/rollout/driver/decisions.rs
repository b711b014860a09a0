//! Decisions: made by the policy, written to the journal, and only then given to the machine.

use std::io;

use crate::policy::types::{Admission, Admitted, Member, Outcome, View};
use crate::policy::{Decision, PolicyError};
use crate::rollout::driver::Decide;
use crate::rollout::driver::run::RunError;
use crate::rollout::driver::run_loop::RunLoop;
use crate::rollout::journal::{self, Closing, QuestionKind, Record, Written};
use crate::rollout::model::{Event, Fault, Input, Report, Stamped, TargetIndex};

/// A decision that the policy has to make.
#[derive(Debug)]
pub(super) struct PolicyQuestion {
    pub(super) target: TargetIndex,
    pub(super) view: Box<View>,
    /// The outcome of the action, for a decision about its end.
    pub(super) outcome: Option<Outcome>,
}

impl<P: Decide, T: FnMut(&Stamped) + Send> RunLoop<P, T> {
    /// Makes one decision: asks the policy, records the answer, and only then carries it out.
    pub(super) fn decide(&mut self, question: PolicyQuestion) {
        let PolicyQuestion { target, mut view, outcome } = question;
        let (settings, memory, grants) = (&self.settings, self.rollout.memory(), self.grants);
        let answer = match outcome {
            None => {
                let decision = self.run.policy.admit(settings, &view, memory, grants);
                self.record(QuestionKind::Admit, target, &mut view, None, &decision);
                self.emit_policy_log(target, &decision);
                match self.failed {
                    // An answer that is not recorded is neither carried out nor remembered.
                    Some(_) => Input::Admitted { target, answer: Ok(not_recorded(self.rollout.memory())) },
                    None => Input::Admitted { target, answer: decision.answer.map_err(|error| fault(&error)) },
                }
            }
            Some(outcome) if self.failed.is_some() => Input::NotSettled { target, outcome },
            Some(outcome) => {
                let decision = self.run.policy.settle(settings, &view, &outcome, memory, grants);
                self.record(QuestionKind::Settle, target, &mut view, Some(&outcome), &decision);
                self.emit_policy_log(target, &decision);
                match self.failed {
                    Some(_) => Input::NotSettled { target, outcome },
                    None => Input::Settled { target, answer: decision.answer.map_err(|error| fault(&error)) },
                }
            }
        };
        self.step(answer);
        self.run.run_state.set_memory(self.rollout.memory());
    }

    fn record<'a, A>(
        &mut self,
        question: QuestionKind,
        target: TargetIndex,
        view: &mut View,
        outcome: Option<&Outcome>,
        decision: &'a Decision<A>,
    ) where
        Written<'a>: From<&'a Result<A, PolicyError>>,
    {
        let Some(journal) = &mut self.journal else { return };
        let Written { verdict, answer, memory } = Written::from(&decision.answer);
        let members_as_of = leave_out_known_members(view, &mut self.members);
        let view = &*view;
        let appended = serde_json::to_vec(view).map_err(io::Error::from).and_then(|text| {
            journal.append(&Record {
                question,
                sequence: view.sequence,
                at: view.now,
                target: self.rollout.target(target).name.as_str(),
                verdict,
                answer,
                fuel: decision.fuel,
                said: &decision.trace,
                policy_digest: self.run.policy.digest(),
                view_digest: journal::digest(&text),
                view,
                members_as_of,
                outcome,
                memory: memory.filter(|memory| *memory != self.rollout.memory()).map(hex::encode),
            })
        });
        if let Err(source) = appended {
            self.journal_failed(source);
        }
    }

    fn emit_policy_log<A>(&mut self, target: TargetIndex, decision: &Decision<A>) {
        for line in &decision.trace {
            let target = self.rollout.target(target).name.to_string();
            self.emit(Event::PolicyLog { target, line: line.clone() });
        }
    }

    /// Writes the journal's last record.
    pub(super) fn close_journal(&mut self, report: &Report) {
        let Some(journal) = self.journal.take() else { return };
        let closing = Closing {
            end: report.end.word(&report.counts).to_owned(),
            ended: self.clock.now_ms(),
            counts: report.counts,
        };
        if let Err(source) = journal.close(&closing) {
            self.journal_failed(source);
        }
    }

    /// The journal cannot be written any more: the run is to end.
    pub(super) fn journal_failed(&mut self, source: io::Error) {
        self.journal = None;
        self.failed.get_or_insert(RunError::Journal { folder: self.run.journal.clone(), source });
    }
}

/// The result of an answer that could not be recorded.
fn not_recorded(memory: &[u8]) -> Admitted {
    let (code, reason) = ("not-recorded".to_owned(), "the answer could not be written to the journal".to_owned());
    Admitted { verdict: Admission::Wait, code, reason, wake_after: None, memory: memory.to_vec() }
}

fn fault(error: &PolicyError) -> Fault {
    Fault { kind: error.kind(), message: error.to_string(), hint: error.hint() }
}

/// Removes the party's members from a view if they are those of an earlier decision, and returns that decision's
/// number.
fn leave_out_known_members(view: &mut View, known: &mut Option<(u64, Vec<Member>)>) -> Option<u64> {
    let party = view.party.as_mut()?;
    match known {
        Some((since, members)) if *members == party.members => {
            party.members.clear();
            Some(*since)
        }
        _ => {
            *known = Some((view.sequence, party.members.clone()));
            None
        }
    }
}
