//! Paths of the run state's nodes.

use crate::job::JobName;
use lockkeeper_coordination::recipe::ROOT;
use lockkeeper_coordination::store::{NodePath, node_name};

/// Digits of a plan part's number, so that the names sort in the order of writing.
const PART_DIGITS: usize = 6;

/// Folder of all jobs.
pub(super) fn jobs() -> NodePath {
    root().child("jobs")
}

/// A job's node; its data names the newest run.
pub(super) fn job(name: &JobName) -> NodePath {
    jobs().child(&node_name(name.as_str()))
}

/// The semaphore with one slot whose holder is the job's runner.
pub(super) fn runner(name: &JobName) -> NodePath {
    job(name).child("runner")
}

/// Folder of all runs.
pub(super) fn runs() -> NodePath {
    root().child("runs")
}

/// Paths of one run's nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunPaths(NodePath);

impl RunPaths {
    pub(super) fn new(run: &str) -> Self {
        Self(runs().child(&node_name(run)))
    }

    /// The run's node; its data is the record.
    pub(super) fn run(&self) -> &NodePath {
        &self.0
    }

    pub(super) fn job_text(&self) -> NodePath {
        self.0.child("job")
    }

    /// Folder of the target list, in parts.
    pub(super) fn plan(&self) -> NodePath {
        self.0.child("plan")
    }

    pub(super) fn plan_part(&self, part: usize) -> NodePath {
        self.plan().child(&format!("{part:0PART_DIGITS$}"))
    }

    /// Folder with a node for each target that has a recorded status.
    pub(super) fn targets(&self) -> NodePath {
        self.0.child("targets")
    }

    pub(super) fn target(&self, name: &str) -> NodePath {
        self.targets().child(&node_name(name))
    }

    pub(super) fn memory(&self) -> NodePath {
        self.0.child("memory")
    }

    /// Folder of an orchestration's calls.
    pub(super) fn calls(&self) -> NodePath {
        self.0.child("calls")
    }

    pub(super) fn call(&self, number: u32) -> NodePath {
        self.calls().child(&format!("{number:08}"))
    }

    /// Folder of the orchestration's leases.
    pub(super) fn leases(&self) -> NodePath {
        self.0.child("leases")
    }

    pub(super) fn lease(&self, semaphore: &NodePath) -> NodePath {
        self.leases().child(&node_name(semaphore.as_str()))
    }

    /// The operator requests.
    pub(super) fn requests(&self) -> NodePath {
        self.0.child("requests")
    }

    /// The run status: what the runner waits for.
    pub(super) fn now(&self) -> NodePath {
        self.0.child("now")
    }
}

fn root() -> NodePath {
    NodePath::parse(ROOT).expect("the root is a path")
}
