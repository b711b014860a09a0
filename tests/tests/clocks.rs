//! Wall clocks that are wrong or are set: a preloaded library shifts the clock of one process by the number in a file.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lockkeeper_tests::zookeeper::{self, available};
use lockkeeper_tests::{World, eventually};

/// Shifts the wall clock, and no other.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(id, time);
    const char *path = getenv("CLOCK_FILE");
    FILE *file = id == CLOCK_REALTIME && path ? fopen(path, "r") : NULL;
    long seconds = 0;
    if (file) {
        if (fscanf(file, "%ld", &seconds) == 1) time->tv_sec += seconds;
        fclose(file);
    }
    return answer;
}
"#;

struct Ground {
    world: World,
    shim: PathBuf,
    store: Vec<String>,
}

impl Ground {
    fn new(store: Vec<String>, job: &str) -> Self {
        let world = World::new();
        world.file("job.toml", job);
        let (source, shim) = (world.file("shim.c", SHIM), world.folder().join("shim.so"));
        let mut compiler = Command::new("cc");
        let made = compiler.args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(&source).arg("-ldl").status();
        assert!(made.unwrap().success(), "cc makes the library");
        Self { world, shim, store }
    }

    /// The clock of a process that reads this file.
    fn clock(&self, name: &str, seconds: i64) -> PathBuf {
        // Whole at once: it may be read at any moment.
        let (new, file) = (self.world.folder().join("new"), self.world.folder().join(name));
        fs::write(&new, seconds.to_string()).unwrap();
        fs::rename(new, &file).unwrap();
        file
    }

    fn run(&self, clock: &str, log: &str) -> Child {
        let log = fs::File::create(self.world.folder().join(log)).unwrap();
        let mut command = self.world.lockkeeper(["run", "job.toml"]);
        command.args(&self.store).current_dir(self.world.folder());
        command.env("LD_PRELOAD", &self.shim).env("CLOCK_FILE", self.world.folder().join(clock));
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.world.folder().join(file)).unwrap_or_default()
    }
}

const BAKE: Duration = Duration::from_secs(6);

const BAKING: &str = r#"
name = "bake"
[semaphore]
path = "/locks/bake"
max-concurrency = 1
[targets]
hosts = ["a", "b"]
[policy]
use = "rolling"
[action]
run = ["sh", "-c", "echo {target} >> {job-dir}/ran"]
[[wave]]
name = "first"
size = 1
bake = "6s"
[[wave]]
name = "rest"
"#;

/// The first runner is killed in the bake; the second has another clock.
fn a_bake_is_neither_repeated_nor_shortened(store: impl Fn(usize) -> Vec<String>) {
    for (index, (first, second)) in [(-3_600, 0), (3_600, 0), (0, 7_200), (0, -7_200)].into_iter().enumerate() {
        let ground = Ground::new(store(index), BAKING);
        ground.clock("one", first);
        ground.clock("two", second);
        let mut one = ground.run("one", "log-one");
        eventually("the first is done and bakes", || ground.text("log-one").contains("Baking"));
        let baking_since = Instant::now();
        one.kill().unwrap();
        one.wait().unwrap();
        let mut two = ground.run("two", "log-two");
        eventually("the second goes", || ground.text("ran").lines().count() == 2);
        let baked = baking_since.elapsed();
        assert_eq!(two.wait().unwrap().code(), Some(0), "{}", ground.text("log-two"));
        let logs = ground.text("log-one") + &ground.text("log-two");
        // It ended shortly after the measurement started. An upper bound would measure the machine; twice means a
        // repetition.
        assert!(baked + Duration::from_secs(1) >= BAKE, "{first} {second}: {baked:?}\n{logs}");
        let off = ground.text(if first == 0 { "log-two" } else { "log-one" });
        assert!(off.contains("the store's: windows and freezes use this machine's clock"), "{logs}");
        assert_eq!(logs.matches("Warning this machine's clock").count(), 1, "{logs}");
        // The same end, but for the difference of the clocks: nothing was added.
        let ends: Vec<i64> = logs.lines().filter(|line| line.contains("Baking")).map(end_of_bake).collect();
        let shift = second - first;
        let differ = (ends[1] - ends[0] - shift).rem_euclid(86_400);
        assert!(differ <= 1 || differ >= 86_399, "{first} {second}: {ends:?}\n{logs}");
    }
}

/// Time of day, in seconds, at which a bake ends by its output line.
fn end_of_bake(line: &str) -> i64 {
    let time = line.split_whitespace().find(|word| word.ends_with('Z')).unwrap();
    let parts: Vec<i64> = time.trim_end_matches('Z').split(':').map(|part| part.parse().unwrap()).collect();
    parts[0] * 3_600 + parts[1] * 60 + parts[2]
}

#[test]
fn a_bake_is_neither_repeated_nor_shortened_on_the_embedded_store() {
    a_bake_is_neither_repeated_nor_shortened(|_| Vec::new());
}

#[test]
fn a_bake_is_neither_repeated_nor_shortened_on_zookeeper() {
    if available() {
        a_bake_is_neither_repeated_nor_shortened(|index| {
            let hosts = format!("{}/clocks-{index}", zookeeper::shared().address());
            ["--zk-hosts", &hosts, "--session-timeout", "2s"].map(str::to_owned).to_vec()
        });
    }
}

/// The clock jumps into a freeze and is corrected: the run continues at once, and does not wait for the freeze's end.
#[test]
fn a_clock_that_jumps_and_is_corrected_holds_nothing_up() {
    let frozen_from = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(10);
    let moment = |at: jiff::Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
    let frozen_until = frozen_from + jiff::SignedDuration::from_hours(100);
    let job = format!(
        "name = \"jump\"\n[semaphore]\npath = \"/locks/jump\"\nmax-concurrency = 1\n[targets]\nhosts = [\"a\", \"b\", \"c\"]\n\
         [policy]\nuse = \"rolling\"\n[action]\nrun = [\"sh\", \"-c\", \"echo {{target}} >> {{job-dir}}/ran; until test -e {{job-dir}}/go; \
         do sleep 0.02; done\"]\n[[freeze]]\nfrom = \"{}\"\nuntil = \"{}\"\ntime-zone = \"UTC\"\n",
        moment(frozen_from),
        moment(frozen_until),
    );
    let ground = Ground::new(Vec::new(), &job);
    ground.clock("one", 0);
    let mut run = ground.run("one", "log");
    eventually("the first runs", || ground.text("ran").lines().count() == 1);
    ground.clock("one", 20 * 3_600);
    eventually("the jump is noticed", || ground.text("log").contains("was set forward by"));
    ground.world.file("go", "");
    eventually("the freeze holds the next", || ground.text("log").contains("by the job's limits"));
    assert_eq!(ground.text("ran").lines().count(), 1);
    ground.clock("one", 0);
    eventually("the others go", || ground.text("ran").lines().count() == 3);
    assert_eq!(run.wait().unwrap().code(), Some(0), "{}", ground.text("log"));
    assert!(ground.text("log").contains("was set back by"), "{}", ground.text("log"));
}
