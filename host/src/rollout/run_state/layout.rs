//! Where what is kept.

use crate::job::JobName;
use lockkeeper_coordination::recipe::ROOT;
use lockkeeper_coordination::store::{NodePath, node_name};

/// A digit for every plan's part, so that their names sort as they were written.
const PART_DIGITS: usize = 6;

/// Where all jobs are.
pub(super) fn jobs() -> NodePath {
    root().child("jobs")
}

/// A job: which run is its newest.
pub(super) fn job(name: &JobName) -> NodePath {
    jobs().child(&node_name(name.as_str()))
}

/// The semaphore with one slot whose holder runs the job.
pub(super) fn runner(name: &JobName) -> NodePath {
    job(name).child("runner")
}

/// Where all runs are.
pub(super) fn runs() -> NodePath {
    root().child("runs")
}

/// Where the parts of one run are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunPaths(NodePath);

impl RunPaths {
    pub(super) fn new(run: &str) -> Self {
        Self(runs().child(&node_name(run)))
    }

    /// The run itself: its record.
    pub(super) fn run(&self) -> &NodePath {
        &self.0
    }

    /// The job's text.
    pub(super) fn job_text(&self) -> NodePath {
        self.0.child("job")
    }

    /// Its targets in their order, in parts.
    pub(super) fn plan(&self) -> NodePath {
        self.0.child("plan")
    }

    pub(super) fn plan_part(&self, part: usize) -> NodePath {
        self.plan().child(&format!("{part:0PART_DIGITS$}"))
    }

    /// Where each target that was touched has a node.
    pub(super) fn targets(&self) -> NodePath {
        self.0.child("targets")
    }

    pub(super) fn target(&self, name: &str) -> NodePath {
        self.targets().child(&node_name(name))
    }

    /// The policy's memory.
    pub(super) fn memory(&self) -> NodePath {
        self.0.child("memory")
    }

    /// An orchestration's calls.
    pub(super) fn calls(&self) -> NodePath {
        self.0.child("calls")
    }

    pub(super) fn call(&self, number: u32) -> NodePath {
        self.calls().child(&format!("{number:08}"))
    }

    /// The leases of its orchestration.
    pub(super) fn leases(&self) -> NodePath {
        self.0.child("leases")
    }

    pub(super) fn lease(&self, semaphore: &NodePath) -> NodePath {
        self.leases().child(&node_name(semaphore.as_str()))
    }

    /// What people want of it.
    pub(super) fn requests(&self) -> NodePath {
        self.0.child("requests")
    }

    /// What it waits for now.
    pub(super) fn now(&self) -> NodePath {
        self.0.child("now")
    }
}

fn root() -> NodePath {
    NodePath::parse(ROOT).expect("the root is a path")
}
