//! Process trees: the descendants of a process. Empty where the system does not list processes.

use std::collections::HashMap;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process_stat::ProcessStat;

/// How often a tree is listed before it is killed. Stopped processes start nothing, so one listing more than the tree
/// has levels finds everything; the limit ends a race with a system that starts processes without end.
const MAX_LISTINGS: usize = 8;

/// Which descendants belong to a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// All except children of the root in another session, and their descendants: servers that were started to stay,
    /// and whose own parent has ended.
    WithoutServers,
}

/// The descendants of a process that have not ended, without the process itself.
#[must_use]
pub fn below(root: Pid, scope: Scope) -> Vec<Pid> {
    let mut children: HashMap<Pid, Vec<ProcessStat>> = HashMap::new();
    let mut session = None;
    for entry in ProcessStat::all().into_iter().flatten() {
        if entry.pid == root {
            session = Some(entry.session);
        }
        children.entry(entry.parent).or_default().push(entry);
    }
    if let (Scope::WithoutServers, Some(session)) = (scope, session) {
        children.entry(root).or_default().retain(|child| child.session == session);
    }
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            parents.push(child.pid);
            if !child.has_ended {
                found.push(child.pid);
            }
        }
    }
    found
}

/// The children of a process that have ended and were not waited for.
#[must_use]
pub fn ended_children(parent: Pid) -> Vec<Pid> {
    ProcessStat::all()
        .into_iter()
        .flatten()
        .filter(|entry| entry.parent == parent && entry.has_ended)
        .map(|entry| entry.pid)
        .collect()
}

/// Kills the descendants of a process. They are stopped first, so that they start nothing new meanwhile.
pub fn kill_below(root: Pid, scope: Scope) {
    let mut stopped: Vec<Pid> = Vec::new();
    for _ in 0..MAX_LISTINGS {
        let new: Vec<Pid> = below(root, scope).into_iter().filter(|pid| !stopped.contains(pid)).collect();
        if new.is_empty() {
            break;
        }
        send(&new, Signal::SIGSTOP);
        stopped.extend(new);
    }
    send(&stopped, Signal::SIGKILL);
}

fn send(processes: &[Pid], signal: Signal) {
    for process in processes {
        // A process that is gone needs no signal, and one that may not be signalled (a command under sudo) is left to
        // its own parent.
        let _ = kill(*process, signal);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_tree_is_found_and_killed_with_what_has_left_its_group() {
        let script = "setsid sh -c 'sleep 1000 & echo $$ $!; wait' & wait";
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let expected: Vec<Pid> = line.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect();
        let root = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let mut found = below(root, Scope::All);
        found.sort();
        assert_eq!(found, expected, "a shell and its child");
        assert!(below(root, Scope::WithoutServers).is_empty(), "what is below is in another session");
        kill_below(root, Scope::All);
        child.wait().unwrap();
        while expected.iter().any(|pid| ProcessStat::all().unwrap().any(|entry| entry.pid == *pid && !entry.has_ended))
        {
            std::thread::yield_now();
        }
    }
}
