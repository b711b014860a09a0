//! Where what is kept.

use crate::job::JobName;
use crate::store::NodePath;

/// The folder of everything that is Lockkeeper's own.
const ROOT: &str = "/lockkeeper";

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

    /// What people want of it.
    pub(super) fn wishes(&self) -> NodePath {
        self.0.child("wishes")
    }

    /// What it waits for now.
    pub(super) fn now(&self) -> NodePath {
        self.0.child("now")
    }
}

fn root() -> NodePath {
    NodePath::parse(ROOT).expect("the root is a path")
}

/// A name as a node's: what a store takes in no name stands as `%` and its bytes in hex, and so does `%` itself.
pub(super) fn node_name(name: &str) -> String {
    let mut spelt = String::with_capacity(name.len());
    for c in name.chars() {
        if c == '%' || c == '/' || NodePath::parse(&format!("/_{c}")).is_err() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                spelt.push_str(&format!("%{byte:02x}"));
            }
        } else {
            spelt.push(c);
        }
    }
    spelt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_spelt_so_that_no_two_are_one() {
        assert_eq!(node_name("web01.example"), "web01.example");
        assert_eq!(node_name("50%"), "50%25");
        assert_ne!(node_name("a\u{f000}"), node_name("a%ef%80%80"));
        assert!(NodePath::parse(&format!("/{}", node_name("a\u{f000}b\tc"))).is_ok());
    }
}
