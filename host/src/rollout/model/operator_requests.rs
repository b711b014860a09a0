//! What operators request of a run while it is in progress.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::rollout::model::TargetIndex;

/// Every request that is in force, not only the new ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorRequests {
    /// The version of the node that holds the requests. The run status repeats it, which acknowledges them.
    pub version: i32,
    /// Nothing new starts while this is set.
    pub paused: Option<OperatorRequest>,
    /// The run is to end.
    pub aborted: Option<OperatorRequest>,
    /// Approved waves, by name.
    pub approved: BTreeMap<String, OperatorRequest>,
    /// Final targets that are to start again. A target is listed until that is written down.
    pub retry: BTreeMap<TargetIndex, OperatorRequest>,
    /// Targets whose failure or unknown outcome is accepted: the budget does not count them and they block no other target.
    pub accepted: BTreeSet<TargetIndex>,
}

impl OperatorRequests {
    /// Every request that names its operator: accepted targets do not.
    pub fn all(&self) -> impl Iterator<Item = &OperatorRequest> {
        let run = [&self.paused, &self.aborted].into_iter().flatten();
        run.chain(self.approved.values()).chain(self.retry.values())
    }
}

/// One request: its operator, time and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OperatorRequest {
    /// The operator, as user and host.
    pub by: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The operator's reason. `None` if the operator gave none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
