//! Which store is meant, and that no password is seen on the way there.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lockkeeper_tests::{Said, World, eventually, said};

/// The password of all tests: nothing that is shown has it.
const SECRET: &str = "hunter2";

const JOB: &str = r#"
name = "job"
[semaphore]
path = "/locks/job"
[targets]
hosts = ["a"]
[policy]
use = "rolling"
[action]
run = ["sh", "-c", "env; ls -l /proc/self/fd"]
"#;

const CONFIG: &str = r#"
[profile.prod]
zk-hosts = "zk1,zk2/fleet"
username = "ops"
password-file = "password"
default-acl = "auth::cdrwa"

[profile.test]
zk-hosts = "test:2182"

[profile.login]
username = "me"
password = "hunter2"
default-acl = { username = "me", password = "hunter2", allperms = true }
"#;

/// A world with a configuration that only its owner reads.
fn world() -> World {
    let world = World::new();
    let folder = world.folder().join("config/lockkeeper");
    fs::create_dir_all(&folder).unwrap();
    for (name, text) in [("config.toml", CONFIG), ("password", "hunter2\n")] {
        fs::write(folder.join(name), text).unwrap();
        owner_only(&folder.join(name));
    }
    world.file("job.toml", JOB);
    world.file(
        "job-of-prod.toml",
        &format!("{JOB}[store]\nprofile = \"prod\"\nusername = \"job\"\npassword-file = \"pw\"\n"),
    );
    world.file("job-of-hosts.toml", &format!("{JOB}[store]\nzk-hosts = \"job:1\"\n"));
    owner_only(&world.file("pw", SECRET));
    world
}

fn owner_only(file: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A line of a shell, with what it sets before the command, as a snapshot shows it.
fn shown(world: &World, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let variables = words.iter().take_while(|word| word.starts_with("LOCKKEEPER_")).count();
    let mut command = world.lockkeeper(&words[variables..]);
    command.current_dir(world.folder());
    for (name, value) in words[..variables].iter().filter_map(|word| word.split_once('=')) {
        command.env(name, value);
    }
    let Said { code, stdout, stderr } = said(&mut command);
    assert!(!stdout.contains(SECRET) && !stderr.contains(SECRET), "{line}: {stdout}{stderr}");
    let code = code.map_or("signal".to_owned(), |code| code.to_string());
    format!("$ {line}\n{stdout}--- stderr\n{stderr}--- exit {code}\n")
}

fn transcript(world: &World, lines: &[&str]) -> String {
    lines.iter().map(|line| shown(world, line)).collect::<Vec<_>>().join("\n")
}

macro_rules! snapshot {
    ($world:expr, $text:expr) => {
        let folder = $world.folder().display().to_string();
        insta::with_settings!({
            filters => vec![(folder.as_str(), "[FOLDER]"), (SECRET, "[SECRET]")],
            omit_expression => true,
        }, { insta::assert_snapshot!($text) });
    };
}

#[test]
fn the_nearest_setting_selects_the_store() {
    let world = world();
    let lines = [
        "check job.toml",
        "check job.toml --store other.db",
        "LOCKKEEPER_STORE=env.db check job.toml",
        "LOCKKEEPER_ZK_HOSTS=env:1 check job.toml",
        "LOCKKEEPER_PROFILE=prod check job.toml",
        "LOCKKEEPER_PROFILE=prod LOCKKEEPER_ZK_HOSTS=env:1 check job.toml",
        "LOCKKEEPER_ZK_HOSTS= LOCKKEEPER_PROFILE= check job.toml",
        "LOCKKEEPER_ZK_HOSTS=env:1 check job-of-hosts.toml",
        "LOCKKEEPER_STORE=env.db check job-of-hosts.toml",
        "check job-of-prod.toml",
        "check job-of-prod.toml --profile test",
        "check job-of-prod.toml --zk-hosts flag:1/x",
        "check job-of-prod.toml --store other.db",
        "check job.toml --profile prod --zk-hosts flag:1",
        "LOCKKEEPER_ZK_HOSTS=env:1 check job.toml --profile login",
        "LOCKKEEPER_STORE=env.db check job.toml --profile login --zk_hosts flag:1",
        "check job-of-hosts.toml --format json",
    ];
    // Each has one line with its result.
    let told = lines.map(|line| {
        let text = shown(&world, line);
        let kept = text.lines().filter(|line| !line.contains("Checked job") && !line.starts_with("---"));
        kept.collect::<Vec<_>>().join("\n")
    });
    let told = without_digests(&told.join("\n"));
    snapshot!(world, told);
}

/// Without the digest of the job.
fn without_digests(text: &str) -> String {
    let mut parts = text.split("\"digest\":\"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| format!("{text}\"digest\":\"[DIGEST]{}", &part[64..]))
}

#[test]
fn a_login_stays_whole() {
    let world = world();
    let lines = [
        "LOCKKEEPER_USERNAME=me LOCKKEEPER_PASSWORD=hunter2 check job-of-hosts.toml",
        "LOCKKEEPER_USERNAME=me LOCKKEEPER_PASSWORD_FILE=pw check job-of-hosts.toml",
        "LOCKKEEPER_PASSWORD=hunter2 check job-of-hosts.toml --username me",
        "LOCKKEEPER_PASSWORD=hunter2 check job-of-prod.toml",
        "check job-of-hosts.toml --username me --password hunter2",
        "check job-of-hosts.toml --username me --password=hunter2 --scheme custom",
        "check job-of-hosts.toml --username me --password-file pw",
        // A password from another source applies to no user name here.
        "check job.toml --profile prod --username me",
        "check job.toml --profile prod --password hunter2",
        "LOCKKEEPER_PASSWORD=hunter2 check job.toml --profile prod --username me",
        // A store without servers needs none.
        "LOCKKEEPER_USERNAME=me LOCKKEEPER_PASSWORD=hunter2 check job.toml",
    ];
    snapshot!(world, transcript(&world, &lines));
}

#[test]
fn conflicting_settings_are_reported() {
    let world = world();
    let pem = world.file("some.pem", "");
    let pem = pem.file_name().unwrap().to_str().unwrap().to_owned();
    let with_key = format!("holders /x --zk-hosts zk1 --tls-ca {pem} --tls-key {pem}");
    let with_certificate = format!("holders /x --zk-hosts zk1 --tls-cert {pem}");
    let without_ca = format!("holders /x --zk-hosts zk1 --tls-cert {pem} --tls-key {pem}");
    let lines = [
        "holders /x --store a --zk-hosts zk1",
        "holders /x --store a --zk-hosts zk1 --format json",
        "holders /x --store a --profile prod",
        "LOCKKEEPER_STORE=a LOCKKEEPER_ZK_HOSTS=zk1 holders /x",
        "LOCKKEEPER_STORE=a LOCKKEEPER_PROFILE=prod holders /x",
        "holders /x --username me",
        "holders /x --store a --password hunter2",
        "holders /x --default-acl auth::r",
        "LOCKKEEPER_STORE=a holders /x --connect-timeout 3s",
        "holders /x --zk-hosts zk1 --username me",
        "holders /x --zk-hosts zk1 --username me:you --password hunter2",
        "holders /x --zk-hosts zk1 --username= --password hunter2",
        "holders /x --zk-hosts zk1 --password hunter2",
        "LOCKKEEPER_PASSWORD=hunter2 holders /x --zk-hosts zk1",
        "LOCKKEEPER_USERNAME=a:b LOCKKEEPER_PASSWORD=hunter2 holders /x --zk-hosts zk1",
        "LOCKKEEPER_PASSWORD=hunter2 LOCKKEEPER_PASSWORD_FILE=pw holders /x --zk-hosts zk1 --username me",
        "holders /x --zk-hosts zk1 --username me --password hunter2 --password-file pw",
        "holders /x --zk-hosts zk1 --username me --password hunter2 --password hunter2",
        "holders /x --zk-hosts zk1 --username me --password",
        "holders /x --zk-hosts zk1 --username me --password=",
        "holders /x --zk-hosts zk1 --username me --password-file none",
        "holders /x --zk-hosts zk1 --username me --password-file .",
        "holders /x --zk-hosts zk1 --username me --password-file job.toml",
        "holders /x --zk-hosts zk1 --username me --password-fd 99",
        "holders /x --zk-hosts zk1 --scheme digest",
        "holders /x --zk-hosts zk1 --scheme world --username me --password hunter2",
        "holders /x --zk-hosts zk1 --default-acl auth::cdrwa",
        "holders /x --zk-hosts zk1 --default-acl world:anyone:q",
        "holders /x --zk-hosts zk1 --default-acl digest:me:hunter2:r --format json",
        "holders /x --zk-hosts me:hunter2@zk1",
        "holders /x --zk-hosts zk1,",
        "holders /x --zk-hosts zk1:x",
        "holders /x --zk-hosts zk1/../x",
        "LOCKKEEPER_ZK_HOSTS=zk1:x holders /x",
        "holders /x --zk-hosts zk1 --connect-timeout 0",
        "holders /x --zk-hosts zk1 --session-timeout 2h",
        &with_key,
        &with_certificate,
        &without_ca,
        "holders /x --zk-hosts zk1 --tls-ca none.pem",
        "holders /x --zk-hosts zk1 --config c.toml",
        "lock /x ./backup --password hunter2",
    ];
    let text = transcript(&world, &lines);
    assert_eq!(text.matches("--- exit 2\n").count(), lines.len(), "{text}");
    snapshot!(world, text);
}

#[test]
fn mistakes_in_a_profile_are_reported() {
    let world = world();
    world.file(
        "torn.toml",
        "[profile.a]\nzk-hosts = \"zk1\"\nusername = \"me\"\npasword = \"hunter2\"\npassword = hunter2\n",
    );
    world.file("empty.toml", "");
    world.file("open.toml", CONFIG);
    world.file("job-of-none.toml", &format!("{JOB}[store]\nprofile = \"none\"\n"));
    world.file("job-with-password.toml", &format!("{JOB}[store]\nzk-hosts = \"zk1\"\npassword = \"hunter2\"\n"));
    let lines = [
        "holders /x --profile prd",
        "holders /x --profile none --format json",
        "holders /x --profile login",
        "check job-of-none.toml",
        "check job-with-password.toml",
        "holders /x --profile a --config torn.toml",
        "holders /x --profile a --config torn.toml --format json",
        "holders /x --profile a --config empty.toml",
        "LOCKKEEPER_CONFIG=none.toml holders /x --profile a",
    ];
    let text = transcript(&world, &lines);
    assert_eq!(text.matches("--- exit 2\n").count(), lines.len(), "{text}");
    let warned = shown(&world, "LOCKKEEPER_ZK_HOSTS=zk1 check job.toml --config open.toml --profile login");
    let readable = shown(&world, "check job-of-hosts.toml --username me --password-file open.toml");
    assert!(warned.contains("chmod 600") && readable.contains("chmod 600"), "{warned}{readable}");
    snapshot!(world, format!("{text}\n{warned}"));
}

/// A server that accepts connections and never answers.
fn mute() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn servers_that_do_not_answer_are_given_up_in_time() {
    let world = world();
    let (_listener, mute) = mute();
    // Nothing listens on a port that was just released.
    let gone = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string() };
    for hosts in [mute.clone(), gone.clone(), format!("{mute},{gone}/chroot")] {
        let began = Instant::now();
        let line = format!("lock /x --zk-hosts {hosts} --connect-timeout 700ms --format json");
        let answer =
            said(world.lockkeeper(line.split(' ')).env("LOCKKEEPER_USERNAME", "me").env("LOCKKEEPER_PASSWORD", SECRET));
        let took = began.elapsed();
        assert_eq!(answer.code, Some(69), "{answer:?}");
        let error: serde_json::Value = serde_json::from_str(&answer.stderr).unwrap();
        let message = error["message"].as_str().unwrap();
        assert_eq!(error["error"], "unavailable");
        assert!(message.contains(hosts.as_str()) && message.contains("700ms"), "{message}");
        assert!(!answer.stderr.contains(SECRET));
        assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(10), "{took:?}");
    }
}

/// What everybody, and what the owner, can read of a process.
fn process_list(child: &Child) -> String {
    let of = |name: &str| fs::read(format!("/proc/{}/{name}", child.id())).unwrap_or_default();
    let bytes = [of("cmdline"), b"\0".to_vec(), of("environ")].concat();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_list_shows_no_password() {
    let world = world();
    let (_listener, mute) = mute();
    let connecting = |command: &mut Command| {
        command.args(["holders", "/x", "--zk-hosts", &mute, "--username", "me", "--connect-timeout", "1m"]);
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    let line = |arguments: &[&str]| world.lockkeeper(arguments);
    for (mut command, mark) in [
        (line(&["--password", SECRET]), "--password ***"),
        (line(&[&format!("--password={SECRET}")]), "--password=***"),
        (line(&[]), "--password-fd"),
    ] {
        if mark == "--password-fd" {
            command.env("LOCKKEEPER_PASSWORD", SECRET);
        }
        let child = connecting(&mut command);
        eventually(mark, || process_list(&child).contains(mark));
        let listed = process_list(&child);
        end(child);
        assert!(listed.contains("holders /x") && !listed.contains(SECRET), "{listed}");
        assert!(!listed.contains("LOCKKEEPER_PASSWORD="), "{listed}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn no_command_that_is_started_gets_the_password() {
    let world = world();
    let mut given = Vec::new();
    for line in ["lock /a -- sh -c", "lock /b --ephemeral-lease -- sh -c", "party join /p -- sh -c", "run job.toml"] {
        let mut outputs = Vec::new();
        for password in [None, Some(SECRET)] {
            let mut command = world.lockkeeper(line.split(' '));
            command.current_dir(world.folder());
            if line.ends_with("sh -c") {
                // An empty pipe would not show what was in it; there must be none.
                command.arg("env; ls -l /proc/self/fd");
            }
            if let Some(password) = password {
                command.env("LOCKKEEPER_PASSWORD", password);
            }
            let answer = said(&mut command);
            assert_eq!(answer.code, Some(0), "{line}: {answer:?}");
            outputs.push(format!("{}{}", answer.stdout, answer.stderr));
        }
        for output in &outputs {
            assert!(!output.contains(SECRET) && !output.contains("LOCKKEEPER_PASSWORD"), "{output}");
        }
        let open = |output: &str| output.matches(" -> ").count();
        assert_eq!(open(&outputs[0]), open(&outputs[1]), "{outputs:#?}");
        given.extend(outputs);
    }
    // The logs of actions, the journal and the store.
    let mut folders = vec![world.folder().join("state")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let text = fs::read(&path).unwrap();
                    let has = |what: &str| text.windows(what.len()).any(|part| part == what.as_bytes());
                    assert!(!has(SECRET) && !has("LOCKKEEPER_PASSWORD"), "{}", path.display());
                    files += 1;
                }
            }
        }
    }
    assert!(files > 2);
}
