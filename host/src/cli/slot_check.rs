//! The numbers of slots that a job names, held against those in force before a run begins.

use std::num::NonZeroU32;

use crate::job::{JobSpec, Limit};
use crate::rollout::model::Plan;
use lockkeeper_coordination::recipe::{
    ResizeError, Resized, Writer, agree, nested_semaphore, read_number, would_agree,
};
use lockkeeper_coordination::store::{NodePath, Store};
use lockkeeper_locks::cli::caller;
use lockkeeper_locks::cli::exit::Failure;
use lockkeeper_locks::cli::output::{Output, of};

/// A semaphore that a job names.
struct Named<'a> {
    path: &'a NodePath,
    slots: NonZeroU32,
    is_share: bool,
}

fn named<'a>(job: &'a JobSpec, plan: &Plan) -> Vec<Named<'a>> {
    let slots = NonZeroU32::new(plan.limits.slots).unwrap_or(NonZeroU32::MIN);
    let is_share = matches!(job.semaphore.max_concurrency, Limit::Share(_));
    let own = Named { path: &job.semaphore.path, slots, is_share };
    let others = job.orchestration.iter().flat_map(|spec| &spec.semaphores);
    let others = others.map(|(path, slots)| Named { path, slots: *slots, is_share: false });
    std::iter::once(own).chain(others).collect()
}

/// Makes the numbers in force those of the job, or refuses the difference; says what was written over another number.
///
/// # Errors
/// Before anything has begun: another number is in force, or the store refuses.
pub(super) async fn settle(output: &Output, store: &dyn Store, job: &JobSpec, plan: &Plan) -> Result<(), Failure> {
    let by = caller::person();
    for Named { path, slots, is_share } in named(job, plan) {
        let writer = Writer { job: job.name.as_str(), is_share, by: &by };
        if let Resized::Written(Some(before)) = agree(store, path, slots, writer).await? {
            output.talk("Resized", &change(path, before, slots));
        }
    }
    Ok(())
}

/// The same comparison, and nothing is written.
///
/// # Errors
/// As [`settle`].
pub(super) async fn compare(output: &Output, store: &dyn Store, job: &JobSpec, plan: &Plan) -> Result<(), Failure> {
    let by = caller::person();
    for Named { path, slots, is_share } in named(job, plan) {
        let writer = Writer { job: job.name.as_str(), is_share, by: &by };
        let seen =
            read_number(store, path).await.map_err(|source| ResizeError::Store { path: path.clone(), source })?;
        match would_agree(path, seen.as_ref(), slots, writer)? {
            Resized::Written(Some(before)) => {
                output.talk("Resize", &format!("{}; `run` writes it", change(path, before, slots)));
            }
            Resized::Written(None) => {
                let nested = nested_semaphore(store, path).await;
                let nested = nested.map_err(|source| ResizeError::Store { path: path.clone(), source })?;
                if let Some(nested) = nested {
                    return Err(ResizeError::Nested(nested).into());
                }
            }
            Resized::Same => {}
        }
    }
    Ok(())
}

fn change(path: &NodePath, before: i64, slots: NonZeroU32) -> String {
    let slots = of(slots.get() as usize, "slot");
    format!("`{path}` from {before} to {slots}: the job's share of its targets")
}
