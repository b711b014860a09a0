//! Observes the store for the machine: the semaphore, the party, operator requests and the session, for as long as the
//! session lives.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::job::{ObserveSpec, Target};
use crate::rollout::driver::lease_task::run_failure;
use crate::rollout::model::{
    Connectivity, Input, Observed, OperatorRequests, SeenLease, SeenMember, Takeover, TargetIndex,
};
use crate::rollout::run_state::{self, AboutVersion, RequestsRecord, RunStateError, RunStateWriter, Runner};
use lockkeeper_coordination::recipe::{Changed, Claims, Holder, Loss, Member, Party, Semaphore, SemaphoreState};
use lockkeeper_coordination::store::{NodePath, SessionState, Store, StoreError};

/// Changes within this time are read together. The run's own leases are known at once; this only delays news of other
/// callers' leases.
const BATCH_PERIOD: Duration = Duration::from_millis(20);

/// Pause after a failed read.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What is observed.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) store: Arc<dyn Store>,
    pub(super) runner: Arc<Runner>,
    pub(super) semaphore: Semaphore,
    pub(super) party: Option<Party>,
    pub(super) others: Vec<ObserveSpec>,
    pub(super) requests: RequestsWatch,
    pub(super) inputs: mpsc::Sender<Input>,
}

impl Observer {
    /// Starts one task for each observed object. A task ends with the session, or after it has reported an error that a
    /// later read cannot repair.
    pub(super) fn start(self) -> JoinSet<()> {
        let Self { store, runner, semaphore, party, others, requests, inputs } = self;
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_runner(runner, inputs.clone()));
        tasks.spawn(connectivity(Arc::clone(&store), inputs.clone()));
        let told = inputs.clone();
        let owners = Owners::new(&store, semaphore.path(), &requests);
        tasks.spawn(async move { report_failure(watch_semaphore(&semaphore, &owners, &told).await, &told).await });
        if let Some(party) = party {
            let told = inputs.clone();
            tasks.spawn(async move { report_failure(watch_party(&party, &told).await, &told).await });
        }
        for (index, object) in others.into_iter().enumerate() {
            tasks.spawn(watch_other(index, ObservedObject::new(&store, &object), inputs.clone()));
        }
        tasks.spawn(watch_requests(store, requests, inputs));
        tasks
    }
}

async fn report_failure(error: StoreError, inputs: &mpsc::Sender<Input>) {
    if error != StoreError::SessionOver {
        send(inputs, Input::Failed(run_failure(&error))).await;
    }
}

/// Ends with this runner's lease of the job.
async fn watch_runner(runner: Arc<Runner>, inputs: mpsc::Sender<Input>) {
    let loss = runner.lost().await;
    let at = runner.safe_until(loss);
    let (reason, takeover) = match loss {
        Loss::SessionOver => ("the session with the store ended", Takeover::From(at.into_std())),
        Loss::Deleted => {
            ("another process deleted this runner's lease of the job", Takeover::Since(Instant::now().into_std()))
        }
    };
    send(&inputs, Input::Lost { reason: reason.to_owned(), takeover }).await;
}

/// Ends with the session.
async fn connectivity(store: Arc<dyn Store>, inputs: mpsc::Sender<Input>) {
    let mut states = store.session();
    loop {
        let connectivity = match *states.borrow_and_update() {
            SessionState::Connected => Connectivity::Connected,
            SessionState::Suspended => Connectivity::Suspended,
            SessionState::Expired | SessionState::Closed => return,
        };
        send(&inputs, Input::Session(connectivity)).await;
        if states.changed().await.is_err() {
            return;
        }
    }
}

/// Returns the error that a later read cannot repair.
async fn watch_semaphore(semaphore: &Semaphore, owners: &Owners, inputs: &mpsc::Sender<Input>) -> StoreError {
    loop {
        let seen = match semaphore.observe().await {
            Ok((state, changed)) => {
                owners.of(state.holders).await.map(|leases| (state.slots, state.queued, leases, changed))
            }
            Err(error) => Err(error),
        };
        match seen {
            Ok((slots, queued, leases, mut changed)) => {
                send(inputs, Input::Semaphore { leases, queued, slots }).await;
                changed.changed().await;
                sleep(BATCH_PERIOD).await;
            }
            Err(error) if is_transient(&error) => sleep(RETRY_PAUSE).await,
            Err(error) => return error,
        }
    }
}

/// Returns the error that a later read cannot repair.
async fn watch_party(party: &Party, inputs: &mpsc::Sender<Input>) -> StoreError {
    loop {
        match party.observe().await {
            Ok((members, mut changed)) => {
                send(inputs, Input::Party(members.into_iter().map(seen_member).collect())).await;
                changed.changed().await;
                sleep(BATCH_PERIOD).await;
            }
            Err(error) if is_transient(&error) => {
                // Members that were present earlier do not count towards the floor.
                send(inputs, Input::PartyUnread).await;
                sleep(RETRY_PAUSE).await;
            }
            Err(error) => return error,
        }
    }
}

/// An object of the job's `observe` list.
enum ObservedObject {
    Semaphore(Semaphore),
    Party(Party),
}

impl ObservedObject {
    fn new(store: &Arc<dyn Store>, spec: &ObserveSpec) -> Self {
        match spec {
            // An observer takes no slot, so the number of slots is never compared.
            ObserveSpec::Semaphore(path) => {
                Self::Semaphore(Semaphore::new(Arc::clone(store), path.clone(), NonZeroU32::MIN))
            }
            ObserveSpec::Party(path) => Self::Party(Party::new(Arc::clone(store), path.clone())),
        }
    }

    async fn observe(&self) -> Result<(Observed, Changed), StoreError> {
        match self {
            Self::Semaphore(semaphore) => {
                let (SemaphoreState { slots, holders, queued, .. }, changed) = semaphore.observe().await?;
                let leases = holders.into_iter().map(seen_lease).collect();
                Ok((Observed::Semaphore { slots, leases, queued }, changed))
            }
            Self::Party(party) => {
                let (members, changed) = party.observe().await?;
                Ok((Observed::Party(members.into_iter().map(seen_member).collect()), changed))
            }
        }
    }
}

/// Reports an object that cannot be read, whatever the error, and keeps trying.
async fn watch_other(index: usize, object: ObservedObject, inputs: mpsc::Sender<Input>) {
    loop {
        match object.observe().await {
            Ok((seen, mut changed)) => {
                send(&inputs, Input::Observed { index, seen: Some(seen) }).await;
                changed.changed().await;
                sleep(BATCH_PERIOD).await;
            }
            Err(StoreError::SessionOver) => return,
            Err(_) => {
                send(&inputs, Input::Observed { index, seen: None }).await;
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Translates operator requests from target names to the run's target indices.
#[derive(Debug)]
pub(super) struct RequestsWatch {
    pub(super) run_state: Arc<RunStateWriter>,
    indexes: HashMap<String, usize>,
}

impl RequestsWatch {
    pub(super) fn new(run_state: Arc<RunStateWriter>, targets: &[Target]) -> Self {
        let names = targets.iter().enumerate().map(|(index, target)| (target.name.to_string(), index));
        Self { run_state, indexes: names.collect() }
    }

    /// Reads the requests that are in force.
    pub(super) async fn read(&self, store: &Arc<dyn Store>) -> Result<OperatorRequests, RunStateError> {
        let (requests, version, _) = run_state::requests_and_watch(store, self.run_state.run()).await?;
        Ok(self.requests(requests, version))
    }

    fn requests(&self, requests: RequestsRecord, version: i32) -> OperatorRequests {
        let RequestsRecord { paused, aborted, approved, retry, accepted } = requests;
        // A request is void if the target's record has changed since.
        let about = |(name, about): (String, AboutVersion)| {
            let index = *self.indexes.get(&name)?;
            (self.run_state.version(index) == about.version).then_some((TargetIndex::new(index), about.request))
        };
        OperatorRequests {
            version,
            paused,
            aborted,
            approved,
            retry: retry.into_iter().filter_map(about).collect(),
            accepted: accepted.into_iter().filter_map(about).map(|(index, _)| index).collect(),
        }
    }
}

async fn watch_requests(store: Arc<dyn Store>, requests_watch: RequestsWatch, inputs: mpsc::Sender<Input>) {
    loop {
        match run_state::requests_and_watch(&store, requests_watch.run_state.run()).await {
            Ok((requests, version, mut watch)) => {
                send(&inputs, Input::OperatorRequests(requests_watch.requests(requests, version))).await;
                watch.fired().await;
            }
            Err(error) if error.is_lost() => return,
            // The run continues with the last requests that could be read.
            Err(_) => sleep(RETRY_PAUSE).await,
        }
    }
}

/// Finds the owners of other holders' leases under the names of the run's targets.
struct Owners {
    claims: Claims,
    run_state: Arc<RunStateWriter>,
    targets: HashMap<String, usize>,
}

impl Owners {
    fn new(store: &Arc<dyn Store>, semaphore: &NodePath, requests: &RequestsWatch) -> Self {
        let claims = Claims::new(Arc::clone(store), semaphore.clone());
        Self { claims, run_state: Arc::clone(&requests.run_state), targets: requests.indexes.clone() }
    }

    /// The leases for the machine. Reads claims only where another holder uses a target's name.
    async fn of(&self, holders: Vec<Holder>) -> Result<Vec<SeenLease>, StoreError> {
        let is_anothers = |holder: &&Holder| {
            let target = self.targets.get(&holder.identifier);
            target.is_some_and(|target| self.run_state.lease(*target).is_none_or(|lease| lease.path != holder.path))
        };
        let names: Vec<&str> = holders.iter().filter(is_anothers).map(|holder| holder.identifier.as_str()).collect();
        let claims = match names.as_slice() {
            [] => HashMap::new(),
            names => self.claims.of_leases(names.iter().copied()).await?,
        };
        let seen = |holder: Holder| SeenLease {
            owner: claims.get(&holder.path).map(|seen| seen.claim.owner.to_string()),
            ..seen_lease(holder)
        };
        Ok(holders.into_iter().map(seen).collect())
    }
}

fn seen_lease(holder: Holder) -> SeenLease {
    let Holder { identifier, fence, since_ms, ephemeral, .. } = holder;
    SeenLease { identifier, fence, since_ms, ephemeral, owner: None }
}

fn seen_member(member: Member) -> SeenMember {
    SeenMember { identifier: member.identifier, since_ms: member.since_ms }
}

async fn send(inputs: &mpsc::Sender<Input>, input: Input) {
    // The loop is gone only when the run is finished, and this task ends with it.
    let _ = inputs.send(input).await;
}

/// Whether a later read may succeed. A read without an answer has changed nothing.
fn is_transient(error: &StoreError) -> bool {
    error.is_retryable() || matches!(error, StoreError::Ambiguous { .. })
}
