//! The command line from outside: whole stdout, stderr and exit code, with times, paths and numbers that differ filtered.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::process::{Command, Stdio};

use lockkeeper_tests::{Said, World, said};
use serde_json::Value;

/// Answers as a snapshot shows them.
fn shown(world: &World, line: &str) -> String {
    shown_of(world, &line.split(' ').collect::<Vec<_>>())
}

fn shown_of(world: &World, arguments: &[&str]) -> String {
    let mut command = world.lockkeeper(arguments);
    let Said { code, stdout, stderr } = said(command.env("COLUMNS", "100").current_dir(world.folder()));
    let line = arguments.iter().map(|argument| match argument.is_empty() || argument.contains(char::is_whitespace) {
        true => format!("{argument:?}"),
        false => (*argument).to_owned(),
    });
    let line = line.collect::<Vec<_>>().join(" ");
    let code = code.map_or("signal".to_owned(), |code| code.to_string());
    format!("$ lockkeeper {line}\n{stdout}--- stderr\n{stderr}--- exit {code}\n")
}

fn transcript(world: &World, lines: &[&str]) -> String {
    lines.iter().map(|line| shown(world, line)).collect::<Vec<_>>().join("\n")
}

/// Replaces what differs from run to run.
macro_rules! snapshot {
    ($world:expr, $text:expr) => {
        let folder = $world.folder().display().to_string();
        insta::with_settings!({
            filters => vec![
                (folder.as_str(), "[FOLDER]"),
                (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ \([^)]*ago\)", "[MOMENT]"),
                (r"\d{8}T\d{6}Z-[0-9a-f]{6}", "[RUN]"),
                (r#""(since|at)":\d+"#, r#""$1":[TIME]"#),
                (r#""fence":\d+"#, r#""fence":[FENCE]"#),
                (r#""store-id":"[0-9a-f]{32}""#, r#""store-id":[STORE]"#),
                (r"fence \d+", "fence [FENCE]"),
                (r"(?m)^\d+$", "[FENCE]"),
                (r"(\[MOMENT\]  )\d+( *)", "$1[FENCE]$2"),
                (r"\b\d+(ms|us)\b", "[SPAN]"),
            ],
            omit_expression => true,
        }, { insta::assert_snapshot!($text) });
    };
}

#[test]
fn locks_are_acquired_shown_and_released() {
    let world = World::new();
    let text = transcript(
        &world,
        &[
            "holders /locks/x",
            "lock /locks/x --identifier me",
            "lock /locks/x --identifier me",
            "lock locks//x/ --identifier me --format json",
            "holders /locks/x",
            "lock-holders /locks/x --format json",
            "lock /locks/x --identifier you --timeout 0",
            "lock /locks/x --identifier you --timeout 50ms --format json",
            "lock /locks/x --identifier you --max-concurrency 2",
            "unlock /locks/x --identifier you",
            "unlock /locks/x --identifier me",
            "unlock /locks/x --identifier me --format json",
        ],
    );
    snapshot!(world, text);
}

#[test]
fn bad_arguments_are_named() {
    let world = World::new();
    let text = transcript(
        &world,
        &[
            "lock /",
            "lock /a/../b",
            "lock /zookeeper/x",
            "lock /x --identifier=",
            "lock /x --max-concurrency 0",
            "lock /x --kill-after 5",
            "lock /x --timeout soon",
            "lock /x --ephemeral-lease",
            "lock /x --force",
            "lock /x --session-timeout 1ms",
            "lock /a/../b --format json",
            "lock /x --max-concurrency many --format json",
            "party join /p --identifier a/b",
            "holder /x",
            "run no-such-job.toml",
            "policy inspect rollin",
            "policy inspect ./no.wasm --format json",
        ],
    );
    snapshot!(world, text);
}

#[test]
fn a_wrong_command_line_gets_a_hint() {
    let world = World::new();
    let text = transcript(
        &world,
        &[
            "--format json",
            "party",
            "frob",
            "frob --format json",
            "holdrs /x",
            "party member /x",
            "lock",
            "lock --format json",
            "lock /x --wat",
            "lock /x --max-concurency 3",
            "lock /x --format=json --max-concurency 3",
            "lock /x ./backup.sh --fast",
            "lock /x --ephemeral-lease --format json",
            "lock /x --reason why",
            "lock /x --force --reason why --timeout 3s",
            "lock /x --timeout 3s --timeout 4s",
            "holders /x /y",
            "holders /x --format xml",
            "holders /x --store ",
            "party members /x --timeout 3s",
            "completions tcsh",
        ],
    );
    let odd = [
        shown_of(&world, &["lock", ""]),
        shown_of(&world, &["lock", "/x", "--force", "--reason", " "]),
        shown_of(&world, &["lock", "/a\u{1}b", "--format", "json"]),
        shown_of(&world, &["lock", "/x", "--timeout", &"9".repeat(200)]),
    ];
    snapshot!(world, format!("{text}\n{}", odd.join("\n")));
}

#[test]
fn every_command_explains_itself() {
    let world = World::new();
    let commands = [
        "lock",
        "unlock",
        "holders",
        "semaphore",
        "semaphore resize",
        "party",
        "party join",
        "party members",
        "guard",
        "check",
        "plan",
        "run",
        "status",
        "pause",
        "resume",
        "abort",
        "approve",
        "retry",
        "prune",
        "explain",
        "replay",
        "policy",
        "policy list",
        "policy inspect",
        "schema",
        "completions",
        "man",
    ];
    // The options that every command has are shown once.
    let own = |text: String| {
        let mut is_global = false;
        let lines = text.lines().filter(|line| {
            is_global = if line.starts_with(' ') || line.is_empty() { is_global } else { *line == "Global options:" };
            !is_global
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let long: String = commands.map(|command| own(shown(&world, &format!("{command} --help")))).join("\n\n");
    let short: String =
        ["lock", "run", "policy test"].map(|command| own(shown(&world, &format!("{command} -h")))).join("\n\n");
    let root = [shown(&world, "-h"), shown(&world, "--help"), shown(&world, "help store")].join("\n");
    snapshot!(world, format!("{root}\n{short}\n\n{long}"));
    // The bare name shows the commands.
    let alone = said(&mut world.command("lockkeeper"));
    assert_eq!((alone.code, alone.stdout.as_str()), (Some(2), ""));
    assert!(alone.stderr.contains("Usage: lockkeeper") && alone.stderr.contains("holders"), "{alone:?}");
}

#[test]
fn a_command_without_a_store_shows_no_store_options_and_refuses_them() {
    let world = World::new();
    for (line, option) in [
        ("policy list --store s.db", "--store"),
        ("--zk-hosts zk1 schema job", "--zk-hosts"),
        ("completions bash --profile prod", "--profile"),
        ("man --tls-ca ca.pem", "--tls-ca"),
        ("explain latest --username ops", "--username"),
        ("replay latest --session-timeout 5s", "--session-timeout"),
        ("guard --fence-file f --fence 1 --attempt 1 --config c.toml -- true", "--config"),
    ] {
        let answer = world.run(line);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""), "{line}: {answer:?}");
        assert!(answer.stderr.contains(&format!("`{option}` chooses a store")), "{line}: {answer:?}");
    }
    for line in ["policy list", "schema job", "completions", "man", "explain", "replay", "guard"] {
        for help in ["-h", "--help"] {
            let text = world.run(&format!("{line} {help}")).stdout;
            assert!(!text.contains("--zk-hosts") && !text.contains("help store"), "{line} {help}: {text}");
        }
    }
    for line in ["lock", "party join", "semaphore list", "run", "check"] {
        let text = world.run(&format!("{line} -h")).stdout;
        assert!(text.contains("`lockkeeper help store`") && !text.contains("--tls-ca"), "{line}: {text}");
    }
    let page = world.run("help store");
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    assert!(page.stdout.contains("--tls-ca") && page.stdout.contains("LOCKKEEPER_ZK_HOSTS"), "{page:?}");
}

#[test]
fn the_words_of_other_tools_lead_to_the_command() {
    let world = World::new();
    for (word, command) in [
        ("dry-run", "plan"),
        ("stop", "abort"),
        ("cancel", "abort"),
        ("kill", "abort"),
        ("rollback", "abort"),
        ("undo", "abort"),
        ("revert", "abort"),
        ("list", "status"),
        ("ls", "status"),
        ("ps", "status"),
        ("logs", "run"),
        ("release", "unlock"),
        ("acquire", "lock"),
        ("validate", "check"),
        ("lint", "check"),
        ("continue", "resume"),
    ] {
        let answer = world.run(word);
        assert_eq!(answer.code, Some(2), "{word}: {answer:?}");
        let hint = answer.stderr.lines().find(|line| line.starts_with("hint: ")).unwrap();
        assert!(hint.contains(&format!("`lockkeeper {command}")), "{word}: {hint}");
    }
}

#[test]
fn the_small_program_has_the_same_commands_under_its_own_name() {
    let world = World::new();
    let small = |line: &str| said(world.command("lockkeeper-host").args(line.split(' ')));
    assert_eq!(small("lock /x").code, Some(0));
    assert!(world.run("holders /x").stdout.contains("by hand"), "{:?}", world.run("holders /x"));
    let held = small("lock /x --one-per-identifier --timeout 0 -- true");
    assert!(held.stderr.contains("`lockkeeper-host unlock /x"), "{held:?}");
    assert_eq!(small("unlock /x").code, Some(0));
    let absent = small("run job.toml");
    assert_eq!(absent.code, Some(2), "{absent:?}");
    let help = small("lock -h").stdout;
    assert!(help.contains("lockkeeper-host lock /locks/db") && help.contains("`lockkeeper-host help store`"), "{help}");
}

#[test]
fn a_party_is_shown_to_people_and_programs() {
    let world = World::new();
    let text = transcript(
        &world,
        &[
            "party members /p",
            "party members /p --format json",
            "party members /p --min-nodes 1 --timeout 0",
            "party members p/ --min-nodes 2 --timeout 10ms --format json",
            "party join /p --identifier web01 -- lockkeeper party members /p --quiet",
            "party join /p --identifier web01 --kind party -- lockkeeper party-members /p --format json",
            "party join /p --identifier web01 -- no-such-command",
            "party join /p --identifier web01 --format json -- no-such-command",
            "party members /p --format json",
        ],
    );
    snapshot!(world, text);
}

#[test]
fn a_command_under_a_lease_keeps_its_exit_code() {
    let world = World::new();
    let text = transcript(
        &world,
        &[
            "lock /x --identifier me -- echo hello",
            "lock /x --identifier me --quiet -- echo hello",
            "lock /x --identifier me --format json -- echo hello",
            "lock /x --identifier me --ephemeral-lease -- lockkeeper holders /x",
            "lock /x --identifier me -- false",
            "lock /x --identifier me -- no-such-command",
            "lock /x --identifier me --ephemeral-lease -- no-such-command",
            "lock /x --identifier me --ephemeral-lease --format json -- no-such-command",
            "lock /x --identifier me -- --format json",
            "holders /x",
        ],
    );
    let odd = [
        shown_of(&world, &["lock", "/x", "--identifier", "me", "--", "ls -l"]),
        shown_of(&world, &["lock", "/x", "--identifier", "me", "--", "sh", "-c", "kill -TERM $$"]),
    ];
    snapshot!(world, format!("{text}\n{}", odd.join("\n")));
}

#[test]
fn a_lease_of_another_holder_stays() {
    let world = World::new();
    let text = transcript(
        &world,
        &[
            "lock /x --identifier one --max-concurrency 3 --quiet",
            "lock /x --identifier two --max-concurrency 3 --quiet",
            "unlock /x --identifier me --format json",
            "lock /x --identifier two --max-concurrency 3 --force --reason again",
            "holders /x",
            "unlock /x --identifier two",
            "lock /x --identifier me --max-concurrency 3 --ephemeral-lease -- lockkeeper unlock /x --identifier me",
            "lock /x --identifier me --max-concurrency 4 --format json",
            "holders /x --format json",
        ],
    );
    let text = text.replace(&by(), "[BY]");
    snapshot!(world, text);
}

/// The operator of a force, as `holders` shows it.
fn by() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::current()).unwrap().unwrap();
    format!("{}@{}", user.name, nix::unistd::gethostname().unwrap().to_string_lossy())
}

#[test]
fn odd_identifiers_are_refused_or_kept_as_they_are() {
    let world = World::new();
    let long = "x".repeat(10_240);
    for identifier in ["a\nb", long.as_str(), "\u{1b}[31m"] {
        let refused = said(&mut world.lockkeeper(["lock", "/x", "--identifier", identifier]));
        assert_eq!(refused.code, Some(2), "{identifier:?}");
        assert!(refused.stderr.contains("identifier") && refused.stderr.len() < 500, "{refused:?}");
        assert!(!refused.stderr.contains('\u{1b}'), "{refused:?}");
    }
    assert_eq!(world.run("lock /x --identifier a/b").code, Some(0));
    assert_eq!(world.holders("/x"), ["a/b"]);
}

#[test]
fn an_argument_that_is_no_text_is_an_error() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let odd = std::ffi::OsStr::from_bytes(b"/x\xff");
    let refused = said(world.lockkeeper(["lock"]).arg(odd));
    assert_eq!(refused.code, Some(2), "{refused:?}");
}

const JOB: &str = r#"
name = "job"
[semaphore]
path = "/locks/job"
max-concurrency = 1
[targets]
hosts = ["a", "b"]
[policy]
use = "rolling"
[action]
run = ["sh", "-c", "echo to $LOCKKEEPER_TARGET; test $LOCKKEEPER_TARGET = a"]
[budget]
max-failed = 5
"#;

#[test]
fn a_job_is_checked_planned_and_run() {
    let world = World::new();
    let job = world.file("job.toml", JOB);
    let job = job.to_str().unwrap();
    let text = transcript(
        &world,
        &[&format!("check {job}"), &format!("plan {job}"), &format!("plan {job} --format json"), &format!("run {job}")],
    );
    snapshot!(world, text);
}

#[test]
fn all_mistakes_of_a_job_are_reported_together() {
    let world = World::new();
    let job = world.file(
        "job.toml",
        r#"name = "bad job"
[semaphore]
path = "/locks/../x"
max-concurency = 2
[targets]
hosts = ["a", "a"]
[policy]
use = "rolling"
[policy.settings]
keep-slot = 30
max-failure = 3
[action]
run = ["sh", "{taget}"]
timeout = "5"
[[wave]]
size = 1
"#,
    );
    let line = format!("check {} --format json", job.display());
    let answer = world.run(&line);
    assert_eq!(answer.code, Some(2));
    let error: Value = serde_json::from_str(&answer.stderr).expect("one error object");
    assert_eq!(error["error"], "bad-job");
    let problems = error["problems"].as_array().unwrap();
    let keys: Vec<&str> = problems.iter().map(|problem| problem["key"].as_str().unwrap()).collect();
    for key in [
        "name",
        "semaphore.path",
        "semaphore.max-concurency",
        "targets.hosts[1]",
        "policy.settings.keep-slot",
        "policy.settings.max-failure",
        "action.run[1]",
        "action.timeout",
    ] {
        assert!(keys.contains(&key), "{key} is missing in {keys:?}");
    }
    assert!(keys.iter().any(|key| key.starts_with("wave")), "{keys:?}");
    for problem in problems {
        assert!(problem["line"].as_u64().unwrap() > 0 && problem["column"].as_u64().unwrap() > 0, "{problem}");
    }
    snapshot!(world, shown(&world, &format!("check {}", job.display())));
}

/// A job with a mistake of every kind, and the places of all of them.
const MISTAKES: &str = r#"name = "bad job"
slots = 3
[semaphore]
path = "/locks/../x"
max-concurency = 2
[targets]
inventory = "none.toml"
[policy]
use = "roling"
[action]
run = ["sh", "{taget}"
timeout = "5"
attempts = 0
[budget]
max-failed = "101%"
[[wave]]
size = 1
"#;

#[test]
fn ten_mistakes_of_all_kinds_are_ten_errors_with_line_and_column() {
    let world = World::new();
    world.file("job.toml", MISTAKES);
    let answer = said(world.lockkeeper(["check", "job.toml", "--format", "json"]).current_dir(world.folder()));
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""));
    let error: Value = serde_json::from_str(&answer.stderr).expect("one error object");
    let told: Vec<String> = error["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| {
            let text = |key: &str| problem[key].as_str().unwrap_or("-").to_owned();
            let (line, column) = (problem["line"].as_u64().unwrap(), problem["column"].as_u64().unwrap());
            format!("{}:{line}:{column} {}: {} [{}]", text("file"), text("key"), text("message"), text("hint"))
        })
        .collect();
    assert!(told.len() >= 10, "{told:#?}");
    snapshot!(world, told.join("\n"));
}

#[test]
fn files_that_a_job_names_are_checked() {
    let world = World::new();
    let job = |name: &str, changes: &[(&str, &str)]| {
        let text = changes.iter().fold(JOB.to_owned(), |text, (old, new)| text.replace(old, new));
        world.file(name, &text);
    };
    let inventory = ("hosts = [\"a\", \"b\"]", "inventory = \"inventory.toml\"");
    world.file("inventory.toml", "hosts = [\"a\", \"a\", 7]\nhost = 3\n");
    job("inventory-of-mistakes.toml", &[inventory, ("name = \"job\"", "name = 3")]);
    job("no-inventory.toml", &[inventory, ("inventory.toml", "none.toml")]);
    world.file("plain.toml", "hosts = [\"a\", { name = \"b\", labels = { rack = \"x\" } }]\n");
    job("no-label.toml", &[inventory, ("inventory.toml", "plain.toml"), ("\"sh\", ", "\"sh\", \"{label.rack}\", ")]);
    let policy = |path: &'static str| [("use = \"rolling\"", path)];
    job("no-policy.toml", &policy("path = \"none.wasm\""));
    world.file("text.wasm", "no wasm at all");
    job("text-as-policy.toml", &policy("path = \"text.wasm\""));
    job(
        "another-policy.toml",
        &policy(
            r#"path = "text.wasm"
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855""#,
        ),
    );
    job("text-and-more.toml", &[policy("path = \"text.wasm\"")[0], ("name = \"job\"", "name = 3")]);
    std::fs::write(world.folder().join("latin.toml"), b"name = \"J\xfcrgen\"\n").unwrap();
    std::fs::write(world.folder().join("latin-inventory.toml"), b"hosts = [\"J\xfcrgen\"]\n").unwrap();
    job("latin-in-inventory.toml", &[inventory, ("inventory.toml", "latin-inventory.toml")]);
    let text = transcript(
        &world,
        &[
            "check inventory-of-mistakes.toml",
            "check no-inventory.toml",
            "check no-inventory.toml --format json",
            "run no-label.toml",
            "plan no-policy.toml",
            "check text-as-policy.toml",
            "run text-as-policy.toml --format json",
            "check another-policy.toml",
            "check text-and-more.toml",
            "check latin.toml",
            "check latin.toml --format json",
            "check latin-in-inventory.toml --format json",
            "check none.toml --format json",
            "check .",
            "policy inspect text.wasm",
            "policy inspect none --format json",
        ],
    );
    snapshot!(world, text);
}

#[test]
fn a_store_that_cannot_be_used_is_unavailable() {
    let world = World::new();
    let long = "this is no database, and longer than a header of one would be: a hundred bytes of text, or more still";
    world.file("text", long);
    world.file("short", "no");
    let text = transcript(
        &world,
        &[
            "holders /x --store .",
            "lock /x --store text --format json",
            "holders /x --store short",
            "lock /x --store /proc/store.db",
            "party members /x --state-dir text --format json",
        ],
    );
    assert_eq!(text.matches("--- exit 69").count(), 5, "{text}");
    assert_eq!(std::fs::read_to_string(world.folder().join("text")).unwrap(), long);
    snapshot!(world, text);
}

#[test]
fn a_pipe_that_closes_is_no_error() {
    let world = World::new();
    for line in ["schema job", "completions bash", "man", "policy list"] {
        let mut child =
            world.lockkeeper(line.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{line}");
    }
}

#[test]
fn data_that_cannot_be_written_is_an_error() {
    let world = World::new();
    for line in ["holders /x", "lock /x", "schema job", "man", "completions bash", "policy list --format json"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let child = world.lockkeeper(line.split(' ')).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        // Without holders nothing is printed.
        let code = if line == "holders /x" { 0 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told.contains("cannot write to stdout: "), code == 1, "{line}: {told}");
    }
}

#[test]
fn what_is_no_terminal_gets_no_colours() {
    let world = World::new();
    for line in ["lock /x", "lock /a/../b", "--help", "unlock /y"] {
        let answer = world.run(line);
        assert!(!answer.stdout.contains('\u{1b}') && !answer.stderr.contains('\u{1b}'), "{line}: {answer:?}");
    }
}

#[test]
fn scripts_pages_and_schemas_are_made() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.run(&format!("completions {shell}"));
        assert_eq!(script.code, Some(0));
        assert!(script.stdout.contains("holders") && script.stdout.contains("max-concurrency"), "{shell}");
        assert!(!script.stdout.contains(" __guard"), "{shell}");
        let mut check = Command::new(shell);
        check.args(["-n", world.file(shell, &script.stdout).to_str().unwrap()]);
        // Not every machine has every shell.
        if let Ok(output) = check.output() {
            assert!(output.status.success(), "{shell}: {output:?}");
        }
    }
    let page = world.run("man").stdout;
    let first = page.lines().find(|line| !line.starts_with(".ie") && !line.starts_with(".el")).unwrap();
    assert!(first.starts_with(".TH lockkeeper 1"), "{first}");
    let pages = world.folder().join("pages");
    assert_eq!(world.run(&format!("man --out {}", pages.display())).code, Some(0));
    let names: Vec<_> = std::fs::read_dir(&pages).unwrap().map(|page| page.unwrap().file_name()).collect();
    for page in ["lockkeeper.1", "lockkeeper-lock.1", "lockkeeper-party-join.1", "lockkeeper-policy-inspect.1"] {
        assert!(names.iter().any(|name| name == page), "{page} is missing in {names:?}");
    }
    let schema: Value = serde_json::from_str(&world.run("schema job").stdout).unwrap();
    assert!(schema["properties"]["semaphore"].is_object());
}

#[test]
fn quiet_says_nothing_but_data() {
    let world = World::new();
    let answer = world.run("lock /x --quiet");
    assert!(answer.stderr.is_empty(), "{answer:?}");
    assert!(answer.stdout.trim().parse::<u64>().is_ok(), "{answer:?}");
}

#[test]
fn ctrl_c_finishes_what_runs_and_starts_nothing() {
    let world = World::new();
    let started = world.folder().join("started");
    let job = JOB.replace(
        "echo to $LOCKKEEPER_TARGET; test $LOCKKEEPER_TARGET = a",
        &format!(": > {}; sleep 0.5", started.display()),
    );
    let job = world.file("job.toml", &job);
    let rollout: Command = world.lockkeeper(["run", "--format", "json", job.to_str().unwrap()]);
    let mut rollout = rollout;
    let rollout = rollout.stdout(Stdio::piped()).spawn().unwrap();
    lockkeeper_tests::eventually("the first acts", || started.exists());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(rollout.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = rollout.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let last = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!(
        (last["end"].as_str(), last["succeeded"].as_u64(), last["pending"].as_u64()),
        (Some("interrupted"), Some(1), Some(1))
    );
    assert!(world.holders("/locks/job").is_empty());
}
