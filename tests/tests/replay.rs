//! `lockkeeper replay` from outside: the same decisions again, journals that were changed, other policies.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

#[allow(dead_code, reason = "the guest in Rust is all that is wanted here")]
mod hostile;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lockkeeper::rollout::journal::{JournalError, Reader, digest};
use lockkeeper_tests::{Said, World, eventually, said};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// Lines of a job: so many targets, three at once, under a standard policy; the fifth target fails.
fn job(targets: usize, policy: &str) -> String {
    let hosts: Vec<String> = (1..=targets).map(|number| format!("web{number:02}")).collect();
    format!(
        "name = \"demo\"\n[semaphore]\npath = \"/locks/demo\"\nmax-concurrency = 3\n[targets]\nhosts = {hosts:?}\n\
         [action]\nrun = [\"sh\", \"-c\", \"test $0 != web05\", \"{{target}}\"]\n\
         [budget]\nstop-at = \"unlimited\"\n{policy}"
    )
}

const ROLLING: &str = "[policy]\nuse = \"rolling\"\n[policy.settings]\nmax-failures = 2\n";

/// A job under a policy of its own, whose setting selects its behaviour.
fn hostile_job(mode: &str) -> String {
    job(
        2,
        &format!(
            "[policy]\npath = \"hostile.wasm\"\non-fault = \"abort\"\n[policy.settings]\nmode = \"{mode}\"\nsize = 9\n"
        ),
    )
}

/// Runs a job; where its journal is.
fn run(world: &World, job: &str) -> PathBuf {
    world.file("job.toml", job);
    let ran = said(world.lockkeeper(["run", "--again", "job.toml", "--quiet"]).current_dir(world.folder()));
    assert!(ran.stderr.is_empty(), "{ran:?}");
    journals(world).pop().expect("the run has a journal")
}

fn journals(world: &World) -> Vec<PathBuf> {
    let runs = fs::read_dir(world.folder().join("state/runs")).into_iter().flatten().map(Result::unwrap);
    let journals = runs.map(|run| run.path().join("journal.jsonl"));
    let mut runs: Vec<PathBuf> = journals.filter(|journal| journal.is_file()).collect();
    runs.sort();
    runs
}

fn lines(journal: &Path) -> Vec<String> {
    fs::read_to_string(journal).unwrap().lines().map(ToOwned::to_owned).collect()
}

/// Where the decisions are among the lines, from 0.
fn decisions(lines: &[String]) -> Vec<usize> {
    let is_decision = |line: &String| line.split_once("\",\"").is_some_and(|(_, rest)| rest.starts_with("question\":"));
    (0..lines.len()).filter(|at| is_decision(&lines[*at])).collect()
}

fn replay(world: &World, arguments: &[&str]) -> Said {
    let mut command = world.lockkeeper(["replay"]);
    said(command.args(arguments).current_dir(world.folder()))
}

/// Replays what was made of a journal.
fn replay_of(world: &World, bytes: impl AsRef<[u8]>) -> Said {
    let path = world.folder().join("changed.jsonl");
    fs::write(&path, bytes).unwrap();
    replay(world, &[path.to_str().unwrap()])
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Lines chained again, as a forger of a journal would do it: each `prev` and `hash` is right again.
fn rechained(lines: &[String]) -> String {
    let mut previous = String::new();
    let mut text = String::new();
    for line in lines {
        let rest = line.strip_prefix("{\"prev\":\"").unwrap().split_once('"').unwrap().1;
        let content = format!("{{\"prev\":\"{previous}\"{}", rest.rsplit_once(",\"hash\":").unwrap().0);
        previous = digest(content.as_bytes());
        text.push_str(&format!("{content},\"hash\":\"{previous}\"}}\n"));
    }
    text
}

fn parsed(journal: &Path) -> Vec<Value> {
    lines(journal).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn identical(decisions: usize) -> String {
    format!("Replayed {decisions} decisions: {decisions} of {decisions} identical\n")
}

#[test]
fn every_decision_is_the_same_again_by_whatever_name_the_run_is_called() {
    let world = World::new();
    let journal = run(&world, &job(6, ROLLING));
    let decisions = decisions(&lines(&journal)).len();
    assert!(decisions >= 18, "{decisions}");
    let folder = journal.parent().unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap();
    for wanted in [name, "demo-", "latest", journal.to_str().unwrap(), folder.to_str().unwrap()] {
        let again = replay(&world, &[wanted]);
        assert_eq!(
            (again.code, again.stdout.as_str()),
            (Some(0), identical(decisions).as_str()),
            "{wanted}: {again:?}"
        );
        assert!(again.stderr.contains(", of this program, SHA-256 "), "{again:?}");
    }
    let told = world.json("replay latest");
    assert_eq!(
        (&told["decisions"], &told["identical"], &told["closed"], &told["difference"]),
        (&json!(decisions), &json!(decisions), &json!(true), &Value::Null)
    );
    // The policy is beside the journal, too.
    let kept = fs::read(folder.join(format!("policy-{}.wasm", told["policy"]["sha256"].as_str().unwrap()))).unwrap();
    assert_eq!(digest(&kept), told["policy"]["sha256"].as_str().unwrap());
}

#[test]
fn an_unknown_run_lists_the_candidates() {
    let world = World::new();
    let none = replay(&world, &["latest"]);
    assert_eq!(none.code, Some(2), "{none:?}");
    assert!(none.stderr.contains("` has no runs") && none.stderr.contains("`lockkeeper run JOB`"), "{none:?}");
    run(&world, &job(1, ROLLING));
    run(&world, &job(1, ROLLING));
    let names = journals(&world);
    let names = names.iter().map(|path| path.parent().unwrap().file_name().unwrap().to_str().unwrap());
    for wanted in ["dem", "nope"] {
        let refused = replay(&world, &[wanted]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(names.clone().all(|name| refused.stderr.contains(name)), "{refused:?}");
    }
    let refused = replay(&world, &["./nope.jsonl", "--format", "json"]);
    let error: Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!((refused.code, &error["error"]), (Some(2), &json!("no-such-run")), "{refused:?}");
}

#[test]
fn members_that_stayed_the_same_and_memory_are_found_again() {
    let world = World::new();
    let policy = format!("[party]\npath = \"/party/demo\"\nmin-nodes = 1\ncounts = \"others\"\n{ROLLING}");
    world.file("job.toml", &job(3, &policy));
    let line =
        ["party", "join", "/party/demo", "--identifier", "other", "--quiet", "--", "lockkeeper", "run", "job.toml"];
    let ran = said(world.lockkeeper(line).current_dir(world.folder()));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let journal = journals(&world).pop().unwrap();
    let records = parsed(&journal);
    assert!(records.iter().any(|record| record["members-as-of"].is_u64()), "some members are left out");
    assert_eq!(replay(&world, &["latest"]).stdout, identical(decisions(&lines(&journal)).len()));
    // Where they were is part of what is checked.
    let mut lying = lines(&journal);
    let at = lying.iter().position(|line| line.contains("\"members-as-of\":")).unwrap();
    lying[at] = lying[at].replace("\"members-as-of\":", "\"members-as-of\":9");
    let found = replay_of(&world, rechained(&lying));
    assert!(found.code == Some(1) && found.stderr.contains(&format!("line {} contradicts", at + 1)), "{found:?}");

    let world = World::new();
    fs::write(world.folder().join("hostile.wasm"), hostile::rust_guest()).unwrap();
    let journal = run(&world, &hostile_job("memory"));
    let records = parsed(&journal);
    assert_eq!(records.iter().filter(|record| record["memory"] == "01".repeat(9)).count(), 1, "{records:?}");
    let again = replay(&world, &["latest"]);
    assert_eq!(again.stdout, identical(decisions(&lines(&journal)).len()), "{again:?}");
}

#[test]
fn a_policys_faults_are_the_same_again() {
    for (mode, fault) in
        [("lock", "not-in-manifest"), ("panic", "trap"), ("give-up", "gave-up"), ("memory", "not-in-manifest")]
    {
        let world = World::new();
        fs::write(world.folder().join("hostile.wasm"), hostile::rust_guest()).unwrap();
        let journal = run(&world, &hostile_job(mode));
        let records = parsed(&journal);
        let faults = records.iter().filter(|record| record["answer"]["fault"] == fault).count();
        assert!(faults > 0, "{mode}: {records:?}");
        // The job's file may be gone: the run has its own.
        fs::remove_file(world.folder().join("hostile.wasm")).unwrap();
        let again = replay(&world, &["latest"]);
        let decisions = decisions(&lines(&journal)).len();
        let plural = if decisions == 1 { "" } else { "s" };
        let expected = format!("Replayed {decisions} decision{plural}: {decisions} of {decisions} identical\n");
        assert_eq!((again.code, again.stdout), (Some(0), expected), "{mode}");
        assert!(again.stderr.contains("saved with the run"), "{}", again.stderr);
    }
}

#[test]
fn a_missing_policy_differs_from_a_changed_one() {
    let world = World::new();
    fs::write(world.folder().join("hostile.wasm"), hostile::rust_guest()).unwrap();
    let journal = run(&world, &hostile_job("lock"));
    let kept = fs::read_dir(journal.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.into_iter().find(|path| path.extension().is_some_and(|of| of == "wasm")).unwrap();
    let mut wasm = fs::read(&kept).unwrap();
    let last = wasm.len() - 1;
    wasm[last] ^= 1;
    fs::write(&kept, &wasm).unwrap();
    let changed = replay(&world, &["latest"]);
    assert_eq!(changed.code, Some(1), "{changed:?}");
    for word in ["was changed", &digest(&wasm), &digest(hostile::rust_guest()), "--policy FILE"] {
        assert!(changed.stderr.contains(word), "{word}: {changed:?}");
    }
    fs::remove_file(&kept).unwrap();
    let gone = replay(&world, &["latest"]);
    assert_eq!(gone.code, Some(2), "{gone:?}");
    assert!(gone.stderr.contains(&digest(hostile::rust_guest())) && gone.stderr.contains("--policy FILE"), "{gone:?}");
    let named = replay(&world, &["latest", "--policy", "hostile.wasm"]);
    assert_eq!(named.code, Some(0), "{named:?}");
    assert!(named.stdout.starts_with("Replayed "), "{named:?}");
}

#[test]
fn every_byte_that_changes_is_found_and_its_line_is_named() {
    let world = World::new();
    let journal = run(&world, &job(1, ROLLING));
    let text = fs::read(&journal).unwrap();
    assert_eq!(lines_read(&text).unwrap(), (lines(&journal).len(), None));
    let seed = std::env::var("LOCKKEEPER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    let line_of = |place: usize| 1 + text[..place].iter().filter(|byte| **byte == b'\n').count();
    let check = |place: usize, mask: u8| {
        let mut flipped = text.clone();
        flipped[place] ^= mask;
        let error = lines_read(&flipped)
            .err()
            .unwrap_or_else(|| panic!("LOCKKEEPER_SEED={seed}: byte {place} ^ {mask:#04x} is not seen"));
        assert_eq!(error.line(), Some(line_of(place)), "LOCKKEEPER_SEED={seed}, byte {place} ^ {mask:#04x}: {error}");
    };
    let mut random = StdRng::seed_from_u64(seed);
    for place in 0..text.len() {
        check(place, random.random_range(1..=255));
    }
    // Every bit, and every other byte, of ends of lines and of some more.
    let ends = (0..text.len()).filter(|place| text[*place] == b'\n');
    let sample: Vec<usize> = ends.chain((0..10).map(|_| random.random_range(0..text.len()))).collect();
    for place in sample {
        (1..=255).for_each(|mask| check(place, mask));
    }
    for end in 1..text.len() {
        // Cut anywhere but between lines it has a torn line; there it is a journal without an end.
        match lines_read(&text[..end]) {
            Ok((read, incomplete_line)) => {
                let whole = text[end - 1] == b'\n';
                assert!(read < lines(&journal).len(), "cut after {end} bytes");
                assert_eq!(incomplete_line, (!whole).then(|| line_of(end - 1)), "cut after {end} bytes");
            }
            Err(error) => assert_eq!(error.line(), Some(1), "cut after {end} bytes: {error}"),
        }
    }
}

/// Reads it all: how many lines there were, and which has no end.
fn lines_read(bytes: &[u8]) -> Result<(usize, Option<usize>), JournalError> {
    let mut reader = Reader::new(bytes)?;
    let mut lines = 1;
    while reader.entry()?.is_some() {
        lines += 1;
    }
    Ok((lines + usize::from(reader.closing().is_some()), reader.incomplete_line()))
}

#[test]
fn a_changed_journal_is_described() {
    let world = World::new();
    let journal = run(&world, &job(3, ROLLING));
    let whole = lines(&journal);
    let last = whole.len();
    let broken = |lines: &[String], words: &[&str]| {
        let found = replay_of(&world, joined(lines));
        assert_eq!((found.code, found.stdout.as_str()), (Some(1), ""), "{found:?}");
        for word in words.iter().chain(&["changed.jsonl"]) {
            assert!(found.stderr.contains(word), "`{word}` is not said: {found:?}");
        }
    };
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = whole.clone();
        change(&mut lines);
        lines
    };
    // Behind two decisions, and counted from 0.
    let at = decisions(&whole)[2];
    let gap = format!("between lines {at} and {}", at + 1);
    let gap = gap.as_str();
    broken(&changed(&|lines| drop(lines.remove(at))), &[gap, "the 2 decisions before it"]);
    broken(&changed(&|lines| lines.swap(at, at + 1)), &[gap]);
    broken(&changed(&|lines| lines.insert(at, whole[2].clone())), &[gap]);
    broken(&changed(&|lines| drop(lines.remove(0))), &["line 1", "the beginning was removed or moved"]);
    broken(&changed(&|lines| lines.push(whole[last - 1].clone())), &["between lines"]);
    broken(&changed(&|lines| drop(lines.remove(last - 2))), &[&format!("between lines {} and {}", last - 2, last - 1)]);
    let line = format!("line {} was changed: ", at + 1);
    broken(&changed(&|lines| lines[at] = "nonsense".to_owned()), &[&line, "it is not JSON"]);
    broken(&changed(&|lines| lines[at] = "{}".to_owned()), &[&line, "it does not start with `prev`"]);
    broken(&changed(&|lines| lines[at] = lines[at].replace("lock", "wait")), &[&line, "its hash"]);
    // An event is one link of the same chain.
    let event = whole.iter().position(|line| line.contains("\"event\":\"leased\"")).unwrap();
    let gap = format!("between lines {event} and {}", event + 1);
    broken(&changed(&|lines| drop(lines.remove(event))), &[&gap]);
    broken(&changed(&|lines| lines[event] = lines[event].replace("leased", "forced")), &["was changed: its hash"]);
    broken(&[], &["the file is empty"]);
    // In the middle a line without an end is one that was changed.
    let mut incomplete_line = joined(&whole);
    let cut = incomplete_line.len() - whole[last - 1].len() - 2;
    incomplete_line.replace_range(cut - 10..=cut, "");
    let incomplete_line = replay_of(&world, incomplete_line);
    assert!(
        incomplete_line.code == Some(1) && incomplete_line.stderr.contains(&format!("line {} was changed", last - 1)),
        "{incomplete_line:?}"
    );
    let other = joined(&whole).replace("\"journal\":3", "\"journal\":1");
    let other = replay_of(&world, rechained(&other.lines().map(ToOwned::to_owned).collect::<Vec<_>>()));
    assert!(other.code == Some(1) && other.stderr.contains("its format is 1, this program reads 3"), "{other:?}");
    // Something after the end that was chained to it.
    let more = replay_of(&world, rechained(&changed(&|lines| lines.push(whole[last - 1].clone()))));
    assert!(more.code == Some(1) && more.stderr.contains("after the line that closes"), "{more:?}");
    // For programs.
    let path = world.folder().join("changed.jsonl");
    fs::write(&path, joined(&changed(&|lines| lines.swap(at, at + 1)))).unwrap();
    let error = replay(&world, &["changed.jsonl", "--format", "json"]);
    let error: Value = serde_json::from_str(&error.stderr).unwrap();
    assert_eq!(
        (&error["error"], &error["line"], &error["identical-before"]),
        (&json!("bad-journal"), &json!(at + 1), &json!(2)),
        "{error}"
    );
}

#[test]
fn a_decision_that_was_forged_is_shown_field_by_field() {
    let world = World::new();
    let journal = run(&world, &job(3, ROLLING));
    let at = decisions(&lines(&journal))[3];
    let forge = |change: &dyn Fn(&str) -> String| {
        let mut lines = lines(&journal);
        lines[at] = change(&lines[at]);
        replay_of(&world, rechained(&lines))
    };
    let unchanged = forge(&|line| line.to_owned());
    assert_eq!((unchanged.code, unchanged.stdout), (Some(0), identical(decisions(&lines(&journal)).len())));
    let fuel = parsed(&journal)[at]["fuel"].as_u64().unwrap();
    let forged = forge(&|line| {
        line.replace(&format!("\"fuel\":{fuel}"), &format!("\"fuel\":{}", fuel + 1))
            .replace("\"code\":\"", "\"code\":\"not-")
    });
    assert_eq!(forged.code, Some(1), "{forged:?}");
    let sequence = parsed(&journal)[at]["sequence"].as_u64().unwrap();
    let mut shown = forged.stdout.lines();
    let first = shown.next().unwrap();
    assert!(
        first.starts_with(&format!("Decision {sequence} about web")) && first.contains(&format!("line {} of", at + 1)),
        "{forged:?}"
    );
    let rest: Vec<Vec<&str>> = shown.map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rest[0], ["FIELD", "JOURNAL", "REPLAY"]);
    assert!(rest[1][0] == "code" && rest[1][1] == format!("not-{}", rest[1][2]), "{forged:?}");
    assert_eq!(rest[2], ["fuel", &(fuel + 1).to_string(), &fuel.to_string()]);
    assert!(forged.stderr.contains("Identical 3 decisions"), "{forged:?}");
    // A view that was forged gives itself away by its digest.
    let forged = forge(&|line| line.replace("\"slots\":3", "\"slots\":4"));
    assert!(
        forged.code == Some(1) && forged.stderr.contains(&format!("line {} contradicts its own `view-digest`", at + 1)),
        "{forged:?}"
    );
}

#[test]
fn a_run_that_was_killed_is_replayed_as_far_as_it_came() {
    let world = World::new();
    let slow = job(6, ROLLING).replace("\"sh\", \"-c\", \"test $0 != web05\", \"{target}\"", "\"sleep\", \"600\"");
    world.file("job.toml", &slow);
    let mut command = world.lockkeeper(["run", "job.toml", "--quiet"]);
    let mut running = command.current_dir(world.folder()).stdout(Stdio::null()).spawn().unwrap();
    eventually("three are asked when they have their slots", || {
        let decided = journals(&world).pop().map(|journal| lines(&journal));
        decided.is_some_and(|lines| lines.iter().filter(|line| line.contains("\"event\":\"started\"")).count() == 3)
    });
    running.kill().unwrap();
    running.wait().unwrap();
    let journal = journals(&world).pop().unwrap();
    let decisions = decisions(&lines(&journal)).len();
    let again = replay(&world, &["latest"]);
    assert_eq!((again.code, again.stdout), (Some(0), identical(decisions)));
    assert!(again.stderr.contains("has no closing line"), "{}", again.stderr);
    assert_eq!(world.json("replay latest")["closed"], json!(false));
    // Killed in the middle of a line: that is reported, and everything before it is valid.
    let text = fs::read(&journal).unwrap();
    let incomplete_line = replay_of(&world, &text[..text.len() - 10]);
    assert_eq!(incomplete_line.code, Some(0), "{incomplete_line:?}");
    let said = format!("ends in the middle of line {}", lines(&journal).len());
    assert!(
        incomplete_line.stdout.starts_with("Replayed ") && incomplete_line.stderr.contains(&said),
        "{incomplete_line:?}"
    );
}

/// The same journal for another runner epoch: chained again.
fn as_runner_epoch(text: &str, runner_epoch: u32) -> String {
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    lines[0] = lines[0].replace("\"runner-epoch\":1", &format!("\"runner-epoch\":{runner_epoch}"));
    rechained(&lines)
}

#[test]
fn a_run_is_read_through_all_epochs_and_gaps_are_reported() {
    let world = World::new();
    let journal = run(&world, &job(3, ROLLING));
    let text = fs::read_to_string(&journal).unwrap();
    let folder = journal.parent().unwrap();
    let number = decisions(&lines(&journal)).len();
    // Killed in the middle of a line, resumed on another host, and resumed here.
    let third = as_runner_epoch(&text, 3);
    fs::write(&journal, &text[..text.len() - 30]).unwrap();
    fs::write(folder.join("journal-3.jsonl"), &third).unwrap();
    let all = replay(&world, &["latest"]);
    assert_eq!((all.code, all.stdout.as_str()), (Some(0), identical(2 * number).as_str()), "{all:?}");
    for said in [
        "the journal of runner epoch 2 is missing",
        &format!("the journal of runner epoch 1 ends in the middle of line {}", text.lines().count()),
    ] {
        assert!(all.stderr.contains(said), "`{said}` is not said: {all:?}");
    }
    let told = world.json("replay latest");
    assert_eq!((&told["missing"], &told["closed"]), (&json!([2]), &json!(true)), "{told}");
    assert_eq!(told["runner-epochs"][0]["torn"], json!(text.lines().count()), "{told}");
    assert_eq!(
        (&told["runner-epochs"][1]["runner-epoch"], &told["runner-epochs"][1]["end"]),
        (&json!(3), &json!("succeeded")),
        "{told}"
    );
    // A single journal is that of its epoch.
    let one = replay(&world, &[folder.join("journal-3.jsonl").to_str().unwrap()]);
    assert_eq!((one.code, one.stdout, one.stderr.contains("runner-epoch")), (Some(0), identical(number), false));
    // An epoch that ended at its start hides nothing.
    fs::write(folder.join("journal-2.jsonl"), "{\"prev\":\"\",\"jour").unwrap();
    let all = replay(&world, &["latest"]);
    assert_eq!((all.code, all.stdout.as_str()), (Some(0), identical(2 * number).as_str()), "{all:?}");
    assert!(all.stderr.contains("the journal of runner epoch 2 is empty"), "{all:?}");
    // The journal of one epoch is not another's.
    fs::write(folder.join("journal-2.jsonl"), &third).unwrap();
    let moved = replay(&world, &["latest"]);
    assert!(moved.code == Some(1) && moved.stderr.contains("journal-2.jsonl`: line 1 contradicts"), "{moved:?}");
    // What comes later can be read when the first is on another host.
    fs::remove_file(folder.join("journal-2.jsonl")).unwrap();
    fs::remove_file(&journal).unwrap();
    let rest = replay(&world, &["latest"]);
    assert_eq!((rest.code, rest.stdout), (Some(0), identical(number)));
    assert!(
        rest.stderr.contains("the journal of runner epoch 1 is missing")
            && rest.stderr.contains("the journal of runner epoch 2 is missing"),
        "{}",
        rest.stderr
    );
}

#[test]
fn another_policy_says_what_it_would_change_and_why() {
    let world = World::new();
    let journal = run(&world, &job(12, ROLLING));
    let decisions = decisions(&lines(&journal)).len();
    world.file("strict.toml", "max-failures = 0\n");
    let strict = replay(&world, &["latest", "--settings", "strict.toml"]);
    assert_eq!(strict.code, Some(0), "{strict:?}");
    assert!(strict.stdout.contains("abort (too-many-failures)"), "{strict:?}");
    assert!(strict.stdout.contains("1 of 12 targets failed, 0 may"), "{strict:?}");
    assert!(strict.stdout.contains(&format!(" of {decisions} decisions would change: ")), "{strict:?}");
    assert!(strict.stderr.contains("each view is as recorded"), "{strict:?}");
    let same = replay(&world, &["latest", "--policy", "rolling"]);
    assert_eq!(same.stdout, identical(decisions), "the same policy is no other");

    let refused = replay(&world, &["latest", "--policy", "canary"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("missing setting `bake`") && refused.stderr.contains("--settings FILE"),
        "{refused:?}"
    );
    world.file("canary.toml", "bake = \"10m\"\n");
    let told = world
        .json(&format!("replay latest --policy canary --settings {}", world.folder().join("canary.toml").display()));
    assert_eq!((&told["decisions"], &told["faults"]), (&json!(decisions), &json!(0)), "{told}");
    let counted: u64 = told["kinds"].as_array().unwrap().iter().map(|kind| kind["count"].as_u64().unwrap()).sum();
    assert_eq!(told["changed"], json!(counted));
    assert_eq!(told["changes"].as_array().unwrap().len() as u64, counted);
    assert!(told["changes"].as_array().unwrap().iter().any(|change| change["would-be"]["verdict"] == "hold"), "{told}");

    world.file("broken.toml", "bake = \n");
    let broken = replay(&world, &["latest", "--policy", "canary", "--settings", "broken.toml"]);
    assert!(broken.code == Some(2) && broken.stderr.contains("broken.toml"), "{broken:?}");
}

#[test]
fn another_policy_that_fails_is_a_policys_fault_and_long_lists_are_cut() {
    let world = World::new();
    let journal = run(&world, &job(20, ROLLING));
    let decisions = decisions(&lines(&journal)).len();
    assert!(decisions > 50);
    fs::write(world.folder().join("hostile.wasm"), hostile::rust_guest()).unwrap();
    world.file("settings.toml", "mode = \"panic\"\n");
    let line = ["latest", "--policy", "hostile.wasm", "--settings", "settings.toml"];
    let failed = replay(&world, &line);
    assert_eq!(failed.code, Some(70), "{failed:?}");
    assert_eq!(failed.stdout.lines().count(), 1 + 50 + 1, "{failed:?}");
    assert!(failed.stdout.contains("fault (trap)") && failed.stdout.contains("no slot for web"), "{failed:?}");
    assert!(failed.stderr.contains(&format!("{} more; --all shows them", decisions - 50)), "{failed:?}");
    let all = replay(&world, &[&line[..], &["--all"]].concat());
    assert_eq!(all.stdout.lines().count(), 1 + decisions + 1);
}
