//! The runner's own machine gives out: nothing new starts, what runs ends, and no target is counted as failed.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use lockkeeper_tests::zookeeper::{self, available};
use lockkeeper_tests::{Said, World, binaries, eventually, said};
use serde_json::Value;

const JOB: &str = r#"
name = "trouble"
[semaphore]
path = "/locks/trouble"
max-concurrency = 2
[targets]
hosts = ["t[1-8]"]
[policy]
use = "rolling"
[action]
run = ["sh", "-c", "echo {target} >> {job-dir}/ran; until test -e {job-dir}/go; do sleep 0.02; done"]
"#;

struct Ground {
    world: World,
    store: Vec<String>,
}

impl Ground {
    fn new(store: Vec<String>) -> Self {
        let world = World::new();
        world.file("job.toml", JOB);
        Self { world, store }
    }

    /// A run in a shell that has set limits before.
    fn limited(&self, limits: &str) -> Command {
        let mut command = self.world.command("lockkeeper");
        let mut line = Command::new("bash");
        line.args(["-c", &format!("{limits}; exec \"$@\""), "bash"]);
        line.arg(binaries().join("lockkeeper")).args(["run", "job.toml", "--format", "json"]).args(&self.store);
        line.current_dir(self.world.folder()).stdin(Stdio::null());
        line.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command = line;
        command
    }

    fn ran(&self) -> BTreeMap<String, usize> {
        let mut ran = BTreeMap::new();
        for target in fs::read_to_string(self.world.folder().join("ran")).unwrap_or_default().lines() {
            *ran.entry(target.to_owned()).or_default() += 1;
        }
        ran
    }

    /// The run is resumed without limits, and every target ran once in all.
    fn is_resumed(&self) {
        let resumed = said(&mut self.limited("true"));
        assert_eq!(resumed.code, Some(0), "{resumed:?}");
        let once: BTreeMap<String, usize> = (1..=8).map(|number| (format!("t{number}"), 1)).collect();
        assert_eq!(self.ran(), once);
    }
}

fn charges_nothing(run: &Said) {
    let events: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let charged: Vec<&Value> = events.iter().filter(|event| event["event"] == "failed").collect();
    assert!(charged.is_empty(), "{charged:#?}");
    assert_ne!(run.code, Some(0), "{run:?}");
}

#[test]
fn an_output_folder_that_is_gone_charges_no_target() {
    let ground = Ground::new(Vec::new());
    let child = ground.limited("true").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("two run", || ground.ran().len() == 2);
    let runs = fs::read_dir(ground.world.folder().join("state/runs")).unwrap().flatten();
    for run in runs {
        fs::remove_dir_all(run.path().join("output")).unwrap();
    }
    ground.world.file("go", "");
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let run = Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    charges_nothing(&run);
    assert!(
        run.stderr.contains("its folder is missing") && run.stderr.contains("no target is counted as failed"),
        "{run:?}"
    );
    assert_eq!(ground.ran().len(), 2);
    ground.is_resumed();
}

/// As few open files as the run can start with, and a few more.
#[test]
fn too_few_open_files_charge_no_target() {
    let ground = Ground::new(Vec::new());
    ground.world.file("go", "");
    let mut stopped_in_the_middle = false;
    for files in 8..64 {
        let run = said(&mut ground.limited(&format!("ulimit -n {files}")));
        if run.code == Some(0) {
            break;
        }
        charges_nothing(&run);
        stopped_in_the_middle |= run.stderr.contains("no target is counted as failed");
    }
    assert!(stopped_in_the_middle, "no limit stopped a run that had begun");
    ground.is_resumed();
}

/// A journal that reaches the largest size of a file, as it would the end of the disk.
#[test]
fn a_journal_that_cannot_be_written_charges_no_target() {
    if !available() {
        return;
    }
    let hosts = format!("{}/journal-trouble", zookeeper::shared().address());
    let ground = Ground::new(vec!["--zk-hosts".to_owned(), hosts]);
    ground.world.file("go", "");
    // The policy's component is saved first, and is larger than the journal may be.
    let first = said(&mut ground.limited("true"));
    assert_eq!(first.code, Some(0), "{first:?}");
    fs::remove_file(ground.world.folder().join("ran")).unwrap();
    // Room for the first lines and some decisions.
    let run = said(ground.limited("trap '' XFSZ; ulimit -f 12").arg("--again"));
    charges_nothing(&run);
    assert!(run.stderr.contains("cannot write the journal") && !ground.ran().is_empty(), "{run:?}");
    ground.is_resumed();
}
