//! The README's shell blocks, run exactly as they are written, and its jobs.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::{fs, thread};

use lockkeeper_tests::{World, root};

/// What the README's examples call: a reader's own scripts.
const SCRIPTS: [(&str, &str); 4] = [
    ("reboot.sh", "test -n \"$LOCKKEEPER_FENCE\""),
    ("backup.sh", "mkdir running || { echo two backups >>overlap; exit 1; }; sleep 0.3; rmdir running"),
    ("server", "sleep 0.2"),
    ("restart.sh", "echo \"$1\" >>restarted"),
];

struct Readme {
    /// Blocks of shell, in their order, without those of cargo: what builds and tests the project is no command of its own.
    shell: Vec<String>,
    /// Blocks of TOML.
    jobs: Vec<String>,
}

fn readme() -> Readme {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let (mut shell, mut jobs): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut block, mut fence) = (String::new(), None::<String>);
    for line in text.lines().chain([""]) {
        match (&mut fence, line) {
            (Some(job), "```") => {
                jobs.push(std::mem::take(job));
                fence = None;
            }
            (Some(job), line) => job.push_str(&format!("{line}\n")),
            (None, "```toml") => fence = Some(String::new()),
            (None, line) => match line.strip_prefix("    ") {
                Some(line) => block.push_str(&format!("{line}\n")),
                None if !block.is_empty() => shell.push(std::mem::take(&mut block)),
                None => {}
            },
        }
    }
    shell.retain(|block| !block.lines().all(|line| line.starts_with("cargo ")));
    Readme { shell, jobs }
}

/// A folder with the reader's scripts and the README's first job.
fn folder(readme: &Readme) -> World {
    let world = World::new();
    for (name, script) in SCRIPTS {
        let path = world.file(name, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    world.file("job.toml", &readme.jobs[0]);
    world
}

fn shell(world: &World, block: &str) -> Output {
    // The world's environment, with a shell in place of the program.
    let inside = world.lockkeeper([""; 0]);
    let mut command = Command::new("sh");
    command.args(["-ec", block]).current_dir(world.folder());
    for (name, value) in inside.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().unwrap()
}

#[test]
fn its_shell_blocks_do_what_they_say() {
    let readme = readme();
    assert!(readme.shell.len() >= 2 && readme.jobs.len() == 2, "{} and {}", readme.shell.len(), readme.jobs.len());
    let world = folder(&readme);
    for block in &readme.shell {
        let said = shell(&world, block);
        assert!(said.status.success(), "{block}{}", String::from_utf8_lossy(&said.stderr));
    }
    let restarted = fs::read_to_string(world.folder().join("restarted")).unwrap();
    let mut restarted: Vec<&str> = restarted.lines().collect();
    restarted.sort_unstable();
    assert_eq!(restarted, ["web01", "web02", "web03", "web04", "web05", "web06"]);
    assert!(!world.folder().join("overlap").exists());
}

#[test]
fn its_jobs_are_jobs() {
    let readme = readme();
    let world = folder(&readme);
    for (index, job) in readme.jobs.iter().enumerate() {
        world.file(&format!("{index}.toml"), job);
        let said = shell(&world, &format!("lockkeeper check {index}.toml"));
        assert!(said.status.success(), "{job}{}", String::from_utf8_lossy(&said.stderr));
    }
}

#[test]
fn two_readers_at_once_are_safe() {
    let readme = readme();
    let world = folder(&readme);
    let locks = readme.shell.iter().find(|block| block.contains("./backup.sh")).unwrap();
    let backup = locks.lines().find(|line| line.contains("./backup.sh")).unwrap();
    let codes: Vec<Option<i32>> = thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| shell(&world, backup).status.code())).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    assert!(codes.iter().all(|code| [Some(0), Some(75)].contains(code)) && codes.contains(&Some(0)), "{codes:?}");
    assert!(!world.folder().join("overlap").exists(), "two backups ran at once: {codes:?}");
}
