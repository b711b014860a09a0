//! Commands on their targets over ssh: a real client, a real sshd of the test, and everything that can fail in between.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lockkeeper_tests::sshd::{Sshd, available};
use lockkeeper_tests::{Said, World, eventually, said};
use serde_json::Value;

/// A state folder with a server, and jobs for its targets.
struct Fleet {
    world: World,
    sshd: Sshd,
    config: PathBuf,
    /// Where the sockets of connections are, and nothing else.
    sockets: PathBuf,
}

impl Fleet {
    fn new() -> Self {
        Self::with("")
    }

    /// A fleet whose server has this configuration, too.
    fn with(server: &str) -> Self {
        let sshd = Sshd::start(server);
        let config = sshd.client_config();
        let world = World::new();
        let sockets = world.folder().join("s");
        fs::create_dir(&sockets).unwrap();
        Self { world, sshd, config, sockets }
    }

    /// A job with these targets and this `[action]`.
    fn job(&self, name: &str, hosts: &str, action: &str) -> PathBuf {
        let config = self.config.display();
        let text = format!(
            "name = \"{name}\"\n[semaphore]\npath = \"/locks/{name}\"\nmax-concurrency = 2\n[targets]\n\
             hosts = [{hosts}]\n[policy]\nuse = \"rolling\"\n[budget]\nstop-at = \"unlimited\"\n[action]\n{action}\non-unknown = \"fail\"\n\
             [action.ssh]\nconnect-timeout = \"5s\"\nconfig = \"{config}\"\n"
        );
        self.world.file(&format!("{name}.toml"), &text)
    }

    fn command(&self, job: &Path) -> Command {
        let mut command = self.world.lockkeeper(["run", &job.display().to_string(), "--format", "json"]);
        command.env("XDG_RUNTIME_DIR", &self.sockets);
        command
    }

    /// Runs it to its end.
    fn run(&self, job: &Path) -> Run {
        Run::of(said(&mut self.command(job)))
    }

    fn start(&self, job: &Path) -> Child {
        let mut command = self.command(job);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.folder().join(name)
    }

    /// Nothing of ours is left: no connection, no socket, no client.
    fn check_nothing_is_left(&self) {
        eventually("no connection is left", || self.sshd.connections().is_empty());
        let left: Vec<_> = fs::read_dir(&self.sockets).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(clients(&self.config), Vec::<String>::new());
    }
}

/// How a run went.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    events: Vec<Value>,
    stderr: String,
}

impl Run {
    fn of(said: Said) -> Self {
        let events = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { code: said.code, events, stderr: said.stderr }
    }

    fn of_child(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self::of(Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
    }

    /// How the action on a target ended, with its detail.
    fn ending(&self, target: &str) -> (String, String) {
        let is_it = |event: &&Value| {
            let kinds = ["succeeded", "failed", "contact-lost"];
            event["target"] == target && kinds.contains(&event["event"].as_str().unwrap())
        };
        let event = self.events.iter().find(is_it).unwrap_or_else(|| panic!("{target}: {self:#?}"));
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str() {
            Some("succeeded") => ("succeeded".to_owned(), String::new()),
            Some("contact-lost") => ("unknown".to_owned(), text("detail")),
            _ => (text("ending"), text("detail")),
        }
    }

    /// The output of the last attempt on a target.
    fn output(&self, target: &str) -> String {
        let planned = self.events.iter().find(|event| event["event"] == "planned").unwrap();
        let folder = Path::new(planned["journal"].as_str().unwrap());
        fs::read_to_string(folder.join(format!("output/{target}.1.log"))).unwrap()
    }

    #[track_caller]
    fn check(&self, target: &str, ending: &str, detail: &str) {
        assert_eq!(self.ending(target), (ending.to_owned(), detail.to_owned()), "{}\n{self:#?}", self.stderr);
    }
}

/// The command lines of ssh clients that use a configuration.
fn clients(config: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    // A connection in the background shows its socket instead, which is not there.
    lines.filter(|line| line.contains("ssh") && line.contains(&*config.display().to_string())).collect()
}

fn is_running(file: &Path) -> bool {
    let Ok(text) = fs::read_to_string(file) else { return false };
    let stat = fs::read_to_string(format!("/proc/{}/stat", text.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn arguments_and_the_environment_arrive_as_they_are() {
    if !available() {
        return;
    }
    let fleet = Fleet::new();
    let hostile =
        "$(touch hacked) `touch hacked` ; touch hacked & | > hacked ' \\\" \\\\ é—☃  two  spaces * ~ ! %s {{x}}";
    let meant = "$(touch hacked) `touch hacked` ; touch hacked & | > hacked ' \" \\ é—☃  two  spaces * ~ ! %s {x}";
    let label = hostile.replace("{{x}}", "{x}");
    let job = fleet.job(
        "arriving",
        &format!("{{ name = \"web01\", labels = {{ odd = \"{label}\", rack = \"-n\" }} }}"),
        &format!(
            "run = [\"printf\", '<%s>', \"{{label.odd}}\", \"a\\nb\\tc\", \"\", \"{{label.rack}}\", \"{{target}}\", \"{hostile}\"]\n\
             probe = [\"sh\", \"-c\", \"printf '[%s]' \\\"$LOCKKEEPER_LABEL_ODD\\\" \\\"$LOCKKEEPER_TARGET\\\" \\\"$LOCKKEEPER_ATTEMPT\\\" \
             \\\"$ODD\\\"\"]\n\
             env = {{ ODD = \"<{{label.odd}}>\\n{hostile}\" }}"
        ),
    );
    let run = fleet.run(&job);
    run.check("web01", "succeeded", "");
    let expected = format!("<{meant}><a\nb\tc><><-n><web01><{meant}>[{meant}][web01][1][<{meant}>\n{meant}]");
    assert_eq!(run.output("web01"), expected);
    assert_eq!(run.code, Some(0));
    fleet.check_nothing_is_left();
}

#[test]
fn exit_codes_are_the_commands_own() {
    if !available() {
        return;
    }
    let fleet = Fleet::new();
    let hosts = "\"a0\", \"a1\", \"a75\", \"a254\", \"a255\", \"gone\", \"shot\"";
    let run = "run = [\"sh\", \"-c\", \"echo out; echo err >&2; case $LOCKKEEPER_TARGET in gone) exec /no/such/file ;; \
               shot) kill -s KILL $$ ;; *) exit $(echo $LOCKKEEPER_TARGET | tr -d a) ;; esac\"]";
    let run = fleet.run(&fleet.job("codes", hosts, run));
    run.check("a0", "succeeded", "");
    for (target, code) in [("a1", 1), ("a75", 75), ("a254", 254), ("a255", 255), ("gone", 127), ("shot", 137)] {
        run.check(target, "failed", &format!("command exited with {code}"));
        assert!(run.output(target).starts_with("out\nerr\n"), "{}", run.output(target));
    }
    fleet.check_nothing_is_left();
}

#[test]
fn a_failed_connection_runs_nothing_and_says_why() {
    if !available() {
        return;
    }
    let fleet = Fleet::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = fs::read_to_string(&fleet.config).unwrap();
    let port = silent.local_addr().unwrap().port();
    fs::write(&fleet.config, format!("Host silent\n    Port {port}\n{config}")).unwrap();
    let ran = fleet.path("ran");
    let action = format!("run = [\"touch\", \"{}\"]", ran.display());
    let hosts = "\"refused\", \"nowhere\", \"changed\", \"stranger\", \"denied\", \"silent\"";
    let job = fleet.job("nobody", hosts, &action);
    let text = fs::read_to_string(&job).unwrap().replace("connect-timeout = \"5s\"", "connect-timeout = \"1s\"");
    fs::write(&job, text).unwrap();
    let run = fleet.run(&job);
    for (target, reason, next) in [
        ("refused", "Connection refused", "check that its sshd is running"),
        ("nowhere", "Could not resolve hostname", "give `nowhere` a `HostName`"),
        ("changed", "its host key has changed", "find out why"),
        ("stranger", "its host key is unknown", "accept-new"),
        ("denied", "Permission denied (publickey)", "must work with a key"),
        ("silent", "timed out", "check that it is up"),
    ] {
        let (ending, detail) = run.ending(target);
        assert_eq!(ending, "failed", "{detail}");
        assert!(detail.starts_with(&format!("cannot connect to `{target}`: ")), "{detail}");
        assert!(detail.contains(reason) && detail.contains(next), "{detail}");
    }
    assert!(!ran.exists());
    fleet.check_nothing_is_left();
}

#[test]
fn what_a_login_shell_says_is_taken_for_nothing_else() {
    if !available() {
        return;
    }
    let fleet = Fleet::new();
    let noise = "echo noise; echo noise >&2; echo ready 1 >&2; echo ended 0 >&2; printf 'no end of line' >&2\n";
    for file in [".bashrc", ".zshenv"] {
        fs::write(fleet.sshd.home().join(file), noise).unwrap();
    }
    let run = fleet.run(&fleet.job("noise", "\"a\", \"b\"", "run = [\"sh\", \"-c\", \"test $LOCKKEEPER_TARGET = a\"]"));
    run.check("a", "succeeded", "");
    run.check("b", "failed", "command exited with 1");
    fleet.check_nothing_is_left();
}

#[test]
fn a_connection_that_breaks_meanwhile_leaves_the_end_unknown() {
    if !available() {
        return;
    }
    let fleet = Fleet::new();
    let (pid, done) = (fleet.path("pid"), fleet.path("done"));
    let wait = "i=0; while [ ! -e \\\"$DONE\\\" ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done; echo over >> \\\"$DONE\\\"";
    let action = format!(
        "run = [\"sh\", \"-c\", \"echo $$ > $PID; {wait}\"]\nenv = {{ PID = \"{}\", DONE = \"{}\" }}",
        pid.display(),
        done.display()
    );
    let child = fleet.start(&fleet.job("broken", "\"web01\"", &action));
    eventually("the command runs", || is_running(&pid));
    fleet.sshd.cut();
    let run = Run::of_child(child);
    run.check("web01", "unknown", "the connection to `web01` broke while the command was running");
    // As reported: it may continue on the target, and here it does.
    assert!(is_running(&pid));
    fs::write(&done, "").unwrap();
    eventually("the command ends", || fs::read_to_string(&done).unwrap() == "over\n");
    fleet.check_nothing_is_left();
}

#[test]
fn a_timeout_ends_the_command_over_there() {
    if !available() {
        return;
    }
    let fleet = Fleet::new();
    let action = format!(
        "run = [\"sh\", \"-c\", \"echo $$ > $PIDS/$LOCKKEEPER_TARGET; case $LOCKKEEPER_TARGET in stubborn) trap '' TERM ;; esac; \
         sleep 300 & echo $! > $PIDS/child-$LOCKKEEPER_TARGET; touch $PIDS/begun; wait; sleep 300\"]\n\
         env = {{ PIDS = \"{}\" }}\ntimeout = \"2s\"\nkill-after = \"1s\"",
        fleet.world.folder().display()
    );
    let run = fleet.run(&fleet.job("late", "\"gentle\", \"stubborn\"", &action));
    for target in ["gentle", "stubborn"] {
        run.check(target, "timed-out", "command stopped after 2s");
        for name in [target.to_owned(), format!("child-{target}")] {
            assert!(fleet.path(&name).exists() && !is_running(&fleet.path(&name)), "{name}");
        }
    }
    fleet.check_nothing_is_left();
}

#[test]
fn what_cannot_be_reached_to_be_stopped_may_still_run() {
    if !available() {
        return;
    }
    let fleet = Fleet::new();
    let (pid, done) = (fleet.path("pid"), fleet.path("done"));
    let action = format!(
        "run = [\"sh\", \"-c\", \"echo $$ > $PID; i=0; while [ ! -e $DONE ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done\"]\n\
         env = {{ PID = \"{}\", DONE = \"{}\" }}\ntimeout = \"4s\"\nkill-after = \"1s\"",
        pid.display(),
        done.display()
    );
    let child = fleet.start(&fleet.job("unreached", "\"web01\"", &action));
    eventually("the command runs", || is_running(&pid));
    // The server stops: everything stays as it was, and nothing answers.
    let connections = fleet.sshd.connections();
    let signal = |signal: &str| {
        for connection in &connections {
            assert!(Command::new("kill").args([signal, &connection.to_string()]).status().unwrap().success());
        }
    };
    signal("-STOP");
    let run = Run::of_child(child);
    let (ending, detail) = run.ending("web01");
    assert_eq!(ending, "unknown", "{detail}");
    assert_eq!(
        detail,
        "command exceeded its time-out of 4s and may still run: `web01` did not answer the request to stop it"
    );
    assert!(is_running(&pid));
    fs::write(&done, "").unwrap();
    signal("-CONT");
    eventually("the command ends", || !is_running(&pid));
    fleet.check_nothing_is_left();
}

#[test]
fn commands_of_a_target_share_a_connection_and_targets_do_not() {
    if !available() {
        return;
    }
    let fleet = Fleet::new();
    let action = "run = [\"sh\", \"-c\", \"echo $SSH_CONNECTION\"]\nprobe = [\"sh\", \"-c\", \"echo $SSH_CONNECTION\"]";
    let run = fleet.run(&fleet.job("sharing", "\"web01\", \"web02\"", action));
    let ports = |target: &str| -> Vec<String> {
        run.output(target).lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
    };
    let (first, second) = (ports("web01"), ports("web02"));
    assert_eq!((first.len(), second.len()), (2, 2), "{}{}", run.output("web01"), run.output("web02"));
    assert_eq!(first[0], first[1]);
    assert_eq!(second[0], second[1]);
    assert_ne!(first[0], second[0]);
    assert_eq!(fleet.sshd.log().matches("Accepted publickey").count(), 2, "{}", fleet.sshd.log());
    fleet.check_nothing_is_left();
}

#[test]
fn another_connection_is_opened_where_the_first_takes_no_more() {
    if !available() {
        return;
    }
    let fleet = Fleet::new();
    let (client, sockets) = (format!("ssh -F {}", fleet.config.display()), fleet.sockets.display());
    // The command has its own connection end after it; a stale socket stays behind or does not.
    for (name, then) in [("ended", "true"), ("stale", "touch $socket")] {
        let action = format!(
            "run = [\"sh\", \"-c\", \"for socket in {sockets}/*/*; do case $socket in *.err) ;; *) \
             {client} -S $socket -O stop web01 2>/dev/null; {then}; break ;; esac; done; echo $SSH_CONNECTION\"]\n\
             probe = [\"sh\", \"-c\", \"echo $SSH_CONNECTION\"]"
        );
        let run = fleet.run(&fleet.job(name, "\"web01\"", &action));
        run.check("web01", "succeeded", "");
        let output = run.output("web01");
        let ports: Vec<_> = output.lines().filter_map(|line| line.split(' ').nth(1)?.parse::<u16>().ok()).collect();
        assert!(ports.len() == 2 && ports[0] != ports[1], "{output}");
        fleet.check_nothing_is_left();
    }
}

#[test]
fn a_server_that_takes_one_session_at_a_time_is_enough() {
    if !available() {
        return;
    }
    let fleet = Fleet::with("MaxSessions 1");
    let pid = fleet.path("pid");
    let action = format!(
        "run = [\"sh\", \"-c\", \"echo $$ > {}; exec sleep 300\"]\nprobe = [\"true\"]\ntimeout = \"2s\"",
        pid.display()
    );
    let run = fleet.run(&fleet.job("one", "\"web01\"", &action));
    run.check("web01", "timed-out", "command stopped after 2s");
    assert!(pid.exists() && !is_running(&pid));
    let run = fleet.run(&fleet.job("two", "\"web01\"", "run = [\"true\"]\nprobe = [\"true\"]"));
    run.check("web01", "succeeded", "");
    fleet.check_nothing_is_left();
}

#[test]
fn a_run_that_is_killed_leaves_no_more_than_an_idle_connection() {
    if !available() {
        return;
    }
    let fleet = Fleet::new();
    let pid = fleet.path("pid");
    let action = format!("run = [\"sh\", \"-c\", \"echo $$ > {}; exec sleep 3\"]", pid.display());
    let mut child = fleet.start(&fleet.job("killed", "\"web01\"", &action));
    eventually("the command runs", || is_running(&pid));
    child.kill().unwrap();
    child.wait().unwrap();
    // The command continues to its end, as on this machine.
    assert!(is_running(&pid));
    eventually("the command ends", || !is_running(&pid));
    // The connection ends by itself after an idle minute, and its socket with it.
    assert_eq!(fleet.sshd.connections().len(), 1);
    let left: Vec<_> = fs::read_dir(&fleet.sockets).unwrap().flatten().map(|entry| entry.path()).collect();
    assert_eq!(left.len(), 1, "the folder is there for whoever sweeps: {left:?}");
}

/// The example: each reboot kills the server, which comes back under another boot id.
#[test]
fn a_reboot_is_done_when_the_target_is_back() {
    if !available() {
        return;
    }
    let mut fleet = Fleet::new();
    let (boot_clock, seen) = (fleet.path("boot-id"), fleet.path("seen"));
    // One that takes its time, and one that returns at once.
    let wanted = fleet.path("wanted").display().to_string();
    let reboot = format!("touch {wanted}.$LOCKKEEPER_TARGET; test $LOCKKEEPER_TARGET = web01 || exec sleep 20");
    let reboot = fleet.world.file("reboot.sh", &reboot);
    fs::write(&boot_clock, "boot-0\n").unwrap();
    let example = fs::read_to_string(lockkeeper_tests::root().join("examples/reboot/job.toml")).unwrap();
    let job = example
        .replace("/proc/sys/kernel/random/boot_id", &boot_clock.display().to_string())
        .replace("/var/tmp/lockkeeper-reboot", &seen.display().to_string())
        .replace("sudo systemctl reboot", &format!("sh {}", reboot.display()))
        .replace("max-concurrency = 2", "max-concurrency = 1")
        .replace("[action.ssh]\n", &format!("[action.ssh]\nconfig = \"{}\"\n", fleet.config.display()));
    assert_eq!(
        job.matches(&fleet.world.folder().display().to_string()).count(),
        3,
        "the example has its own words: {job}"
    );
    let job = fleet.world.file("reboot.toml", &job);
    let child = fleet.start(&job);
    for target in ["web01", "web02", "web03"] {
        let wanted = fleet.path(&format!("wanted.{target}"));
        eventually("a reboot is wanted", || wanted.exists());
        fleet.sshd.go_down();
        fs::write(&boot_clock, format!("booted-for-{target}\n")).unwrap();
        fleet.sshd.come_back();
    }
    let run = Run::of_child(child);
    assert_eq!(run.code, Some(0), "{run:#?}");
    for target in ["web01", "web02", "web03"] {
        let of_target =
            |kind: &str| run.events.iter().filter(|event| event["event"] == kind && event["target"] == target).count();
        assert_eq!((of_target("started"), of_target("released")), (1, 1), "{run:#?}");
    }
}

/// A probe after a command that has succeeded may say that it is under way, or not reach its target.
#[test]
fn a_probe_is_asked_until_it_knows() {
    if !available() {
        return;
    }
    let fleet = Fleet::new();
    let asked = fleet.path("asked");
    let probe = format!("echo >> {0}; test $(wc -l < {0}) -ge 3 || exit 75", asked.display());
    let action = format!("run = [\"true\"]\nprobe = [\"sh\", \"-c\", \"{probe}\"]\ntimeout = \"1m\"");
    let run = fleet.run(&fleet.job("patient", "\"web01\"", &action));
    assert_eq!(run.code, Some(0), "{run:#?}");
    run.check("web01", "unknown", "its probe reports that it is still running");
    assert_eq!(fs::read_to_string(&asked).unwrap().lines().count(), 3);
    fleet.check_nothing_is_left();
}

/// More targets at once than the server lets log in at a time.
#[test]
fn a_connection_that_is_turned_away_is_retried() {
    if !available() {
        return;
    }
    let fleet = Fleet::with("");
    let config = fleet.sshd.config();
    let text = fs::read_to_string(&config).unwrap().replace("MaxStartups 100", "MaxStartups 1:100:1");
    fs::write(&config, text).unwrap();
    let mut fleet = fleet;
    fleet.sshd.go_down();
    fleet.sshd.come_back();
    let hosts: Vec<String> = (0..12).map(|number| format!("\"web{number:02}\"")).collect();
    let job = fleet.job("crowd", &hosts.join(", "), "run = [\"true\"]");
    let text = fs::read_to_string(&job).unwrap().replace("max-concurrency = 2", "max-concurrency = 12");
    fs::write(&job, text).unwrap();
    let run = fleet.run(&job);
    assert!(fleet.sshd.log().contains("past MaxStartups"), "nobody was turned away: {}", fleet.sshd.log());
    assert_eq!(run.code, Some(0), "{run:#?}");
    fleet.check_nothing_is_left();
}
