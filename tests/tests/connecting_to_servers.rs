//! Logins, access control, TLS and a job's store on real servers.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lockkeeper_tests::python::{self, Python};
use lockkeeper_tests::zookeeper::{self, ClientAuth, Options, Server, Tls};
use lockkeeper_tests::{Said, World, eventually, said};
use serde_json::Value;

/// The password of all tests: nothing that is shown has it.
const SECRET: &str = "hunter2";

/// Words for `lockkeeper` in a corner of the shared server, and the error that it ends with.
struct Corner {
    world: World,
    hosts: String,
}

impl Corner {
    /// None where no server can be started.
    fn new() -> Option<Self> {
        zookeeper::available().then(|| Self {
            world: World::new(),
            hosts: format!("{}/corner-{}", zookeeper::shared().hosts(), uuid::Uuid::new_v4().simple()),
        })
    }

    fn run(&self, line: &str) -> Said {
        let mut command = self.world.lockkeeper(line.split(' '));
        command.current_dir(self.world.folder()).env("LOCKKEEPER_ZK_HOSTS", &self.hosts);
        command.env("LOCKKEEPER_PASSWORD_FILE", self.world.folder().join("password"));
        let answer = said(&mut command);
        assert!(!answer.stdout.contains(SECRET) && !answer.stderr.contains(SECRET), "{line}: {answer:?}");
        answer
    }

    /// As somebody with a password.
    fn run_as(&self, name: &str, password: &str, line: &str) -> Said {
        self.world.file("password", password);
        let answer = self.run(&format!("--username {name} --quiet {line}"));
        fs::remove_file(self.world.folder().join("password")).unwrap();
        answer
    }

    fn anonymously(&self, line: &str) -> Said {
        let mut command = self.world.lockkeeper(line.split(' '));
        said(command.current_dir(self.world.folder()).env("LOCKKEEPER_ZK_HOSTS", &self.hosts))
    }

    /// What a refusal says.
    fn refused(answer: &Said) -> String {
        assert_eq!(answer.code, Some(77), "{answer:?}");
        let error: Value = serde_json::from_str(&answer.stderr).unwrap_or_else(|_| panic!("{answer:?}"));
        assert_eq!(error["error"], "refused");
        assert!(error["hint"].as_str().unwrap().contains("--username"), "{error}");
        error["message"].as_str().unwrap().to_owned()
    }
}

#[test]
fn what_was_made_with_access_control_is_for_whom_it_names() {
    let Some(corner) = Corner::new() else { return };
    // Everybody may make locks in the corner itself.
    assert_eq!(corner.anonymously("holders /x").code, Some(0));
    let locked = corner.run_as("ops", SECRET, "lock /ours/x --identifier me --default-acl world:anyone:r,auth::cdrwa");
    assert_eq!(locked.code, Some(0), "{locked:?}");
    // Reading is for everybody.
    let holders = corner.anonymously("holders /ours/x --format json");
    assert_eq!(holders.code, Some(0), "{holders:?}");
    assert!(holders.stdout.contains("\"me\""), "{holders:?}");
    for (line, path, permission) in [
        ("lock /ours/x --identifier you --timeout 0", "/ours/x-__lock__", "create"),
        ("lock /ours/y --identifier you --timeout 0", "/ours", "create"),
        ("unlock /ours/x --identifier me", "/ours/x", "delete"),
        ("party join /ours/x --identifier you -- true", "/ours/x", "create"),
    ] {
        let line =
            line.replacen(' ', " --format json ", 1).replace("party --format json join", "party join --format json");
        let message = Corner::refused(&corner.anonymously(&line));
        let named = format!("needs permission `{permission}` on `{path}");
        assert!(message.contains(&named), "{line}: {message}");
        // A wrong password is no login.
        let message = Corner::refused(&corner.run_as("ops", "wrong", &line));
        assert!(message.contains(&named), "{line}: {message}");
    }
    assert_eq!(corner.run_as("ops", SECRET, "unlock /ours/x --identifier me").code, Some(0));
}

#[test]
fn what_nobody_else_may_read_is_not_listed() {
    let Some(corner) = Corner::new() else { return };
    assert_eq!(corner.run_as("ops", SECRET, "lock /x --identifier me --default-acl auth::cdrwa").code, Some(0));
    for line in ["holders /x --format json", "party members /x --format json"] {
        let message = Corner::refused(&corner.anonymously(line));
        assert!(message.contains("needs permission `read` on"), "{message}");
    }
    let known = corner.run_as("ops", SECRET, "holders /x --format json");
    assert!(known.stdout.contains("\"me\""), "{known:?}");
}

#[test]
fn a_command_that_fails_leaves_no_session_behind() {
    let Some(mut corner) = Corner::new() else { return };
    let server = Server::start();
    corner.hosts = server.hosts();
    assert_eq!(corner.run_as("ops", SECRET, "lock /x --identifier me --default-acl auth::cdrwa").code, Some(0));
    for line in ["holders /x", "party members /x", "unlock /x --identifier me", "party join /x --identifier me"] {
        for _ in 0..10 {
            Corner::refused(&corner.anonymously(&format!("{line} --format json --session-timeout 40s")));
            // Far sooner than by its time-out, however busy the server is.
            let ended = Instant::now();
            eventually("the session is closed", || server.mntr("global_sessions") == 0);
            assert!(ended.elapsed() < Duration::from_secs(10), "{line}: {:?}", ended.elapsed());
        }
    }
}

#[test]
fn a_profile_in_salts_spelling_makes_what_its_user_alone_may_touch() {
    let Some(corner) = Corner::new() else { return };
    let config = format!(
        "[profile.salt]\nzk_hosts = \"{}\"\nusername = \"salt\"\npassword = \"{SECRET}\"\n\
         default_acl = {{ username = \"salt\", password = \"{SECRET}\", allperms = true }}\n",
        corner.hosts
    );
    corner.world.file("config.toml", &config);
    let as_salt = |line: &str| {
        said(
            corner
                .world
                .lockkeeper(line.split(' '))
                .env("LOCKKEEPER_CONFIG", corner.world.folder().join("config.toml")),
        )
    };
    let locked = as_salt("lock /x --identifier me --profile salt --format json");
    assert_eq!(locked.code, Some(0), "{locked:?}");
    assert_eq!(corner.anonymously("holders /x").code, Some(77));
    // The digest is of that name and password, whoever says them.
    let by_flags = corner.run_as("salt", SECRET, "holders /x --format json");
    assert!(by_flags.stdout.contains("\"me\""), "{by_flags:?}");
    assert_eq!(corner.run_as("other", SECRET, "holders /x").code, Some(77));
}

#[test]
fn the_nodes_that_we_make_have_the_access_control_that_kazoos_have() {
    let Some(corner) = Corner::new() else { return };
    if !python::available() {
        return;
    }
    let login = format!("salt:{SECRET}");
    let kazoo = Python::on(corner.hosts.clone()).digest(&login).acl(&login);
    assert_eq!(corner.anonymously("holders /x").code, Some(0));
    let mut theirs = kazoo.spawn("kazoo_cli", ["lock", "/theirs/x", "me"]);
    assert_eq!(theirs.answer().unwrap()["held"], true);
    let digest = kazoo.json("kazoo_cli", ["tree", "/theirs"])[0]["acl"][0][2].as_str().unwrap().to_owned();
    let acl = format!("digest:{digest}:cdrwa");
    for (path, acl) in [("/flags/x", acl.as_str()), ("/login/x", "auth::cdrwa")] {
        let locked = corner.run_as("salt", SECRET, &format!("lock {path} --identifier me --default-acl {acl}"));
        assert_eq!(locked.code, Some(0), "{locked:?}");
    }
    for made in ["/theirs", "/flags", "/login"] {
        let tree = kazoo.json("kazoo_cli", ["tree", made]);
        let tree = tree.as_array().unwrap();
        assert!(tree.len() >= 4, "the path, its parent, its queue and a lease: {tree:?}");
        for node in tree {
            assert_eq!(node["acl"], serde_json::json!([[31, "digest", digest]]), "{node}");
        }
    }
}

#[test]
fn a_scheme_that_no_server_knows_is_refused() {
    let Some(corner) = Corner::new() else { return };
    let message = Corner::refused(&corner.run_as("ops", SECRET, "holders /x --scheme strange --format json"));
    assert!(message.contains("`strange`"), "{message}");
}

#[test]
fn a_chroot_of_several_parts_is_made() {
    let Some(corner) = Corner::new() else { return };
    let deep = format!("{}/a/b/c", corner.hosts);
    let locked = said(&mut corner.world.lockkeeper(["lock", "/x", "--identifier", "me", "--zk-hosts", &deep]));
    assert_eq!(locked.code, Some(0), "{locked:?}");
    let seen = corner.anonymously("holders /a/b/c/x --format json");
    assert!(seen.stdout.contains("\"me\""), "{seen:?}");
}

const JOB: &str = r#"
name = "job"
[store]
zk-hosts = "HOSTS"
username = "ops"
password-file = "password-of-ops"
default-acl = "auth::cdrwa"
session-timeout = "5s"
[semaphore]
path = "/locks/job"
max-concurrency = 2
[targets]
hosts = ["web01", "web02", "web03"]
[policy]
use = "rolling"
[action]
run = ["sh", "-c", "lockkeeper holders /locks/job --format json"]
"#;

#[test]
fn a_job_runs_on_its_store_with_leases_in_the_names_of_its_targets() {
    let Some(corner) = Corner::new() else { return };
    corner.world.file("password-of-ops", SECRET);
    corner.world.file("password", SECRET);
    corner.world.file("job.toml", &JOB.replace("HOSTS", &corner.hosts));
    let planned = corner.anonymously("plan job.toml");
    assert!(planned.stderr.contains(&format!("ZooKeeper at `{}` as `ops`, from the job", corner.hosts)), "{planned:?}");
    // The actions look at the shared path by flags of their own.
    let mut command = corner.world.lockkeeper(["run", "job.toml", "--format", "json"]);
    command.current_dir(corner.world.folder()).env("LOCKKEEPER_ZK_HOSTS", &corner.hosts);
    command.env("LOCKKEEPER_USERNAME", "ops").env("LOCKKEEPER_PASSWORD_FILE", corner.world.folder().join("password"));
    let ran = said(&mut command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let first: Value = serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&first["event"], &first["store"]), (&"planned".into(), &corner.hosts.clone().into()));
    let output = Path::new(first["journal"].as_str().unwrap()).join("output");
    let logs = fs::read_dir(output).unwrap().map(|log| fs::read_to_string(log.unwrap().path()).unwrap());
    let seen: String = logs.collect();
    for target in ["web01", "web02", "web03"] {
        assert!(seen.contains(&format!("\"identifier\":\"{target}\"")), "{target}: {seen}");
    }
    let left = corner.run_as("ops", SECRET, "holders /locks/job --format json");
    assert!(left.stdout.contains("\"holders\":[]"), "{left:?}");
    // And who may not touch it does not run.
    corner.world.file("password-of-ops", "wrong");
    let message = Corner::refused(&corner.anonymously("run job.toml --format json"));
    assert!(message.contains("/lockkeeper/jobs/") && message.contains("permission"), "{message}");
}

#[test]
fn a_server_that_stopped_is_given_up_in_time() {
    if !zookeeper::available() {
        return;
    }
    let world = World::new();
    let server = Server::start_with(&Options::default());
    server.pause();
    let began = Instant::now();
    let line = format!("holders /x --zk-hosts {} --connect-timeout 1s --format json", server.hosts());
    let answer = world.run(&line);
    let took = began.elapsed();
    assert_eq!(answer.code, Some(69), "{answer:?}");
    assert!(answer.stderr.contains(&server.hosts()) && answer.stderr.contains("within 1s"), "{answer:?}");
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10), "{took:?}");
    server.resume();
    assert_eq!(world.run(&line.replace("1s", "30s")).code, Some(0));
}

#[test]
fn a_connection_by_tls_knows_both_ends() {
    if !zookeeper::available() {
        return;
    }
    let world = World::new();
    let tls = Tls { client_auth: ClientAuth::Need, ..Tls::default() };
    let server = Server::start_with(&Options { tls: Some(tls), ..Options::default() });
    let (secure, certificates) = (server.tls_hosts(), server.certificates());
    let (ca, other) = (certificates.authority(), certificates.other_authority());
    let (ca, other) = (ca.display(), other.display());
    let profile = format!(
        "[profile.tls]\nzk-hosts = \"{secure}\"\ntls-ca = \"{ca}\"\ntls-cert = \"{}\"\ntls-key = \"{}\"\n",
        certificates.client_certificate().display(),
        certificates.client_key().display(),
    );
    let config = world.file("config.toml", &profile);
    let run = |line: &str| said(world.lockkeeper(line.split(' ')).env("LOCKKEEPER_CONFIG", &config));
    // The certificate is a login, too: `auth` means it.
    let locked = run("lock /x --identifier me --profile tls --default-acl auth::cdrwa --quiet");
    assert_eq!(locked.code, Some(0), "{locked:?}");
    let holders = run("holders /x --profile tls --format json");
    assert!(holders.stdout.contains("\"me\""), "{holders:?}");
    assert_eq!(run(&format!("holders /x --zk-hosts {}", server.hosts())).code, Some(77));
    for line in [
        // Somebody else vouches for the servers.
        format!("holders /x --profile tls --tls-ca {other} --connect-timeout 1s"),
        // We do not say who we are.
        format!("holders /x --zk-hosts {secure} --tls-ca {ca} --connect-timeout 1s"),
        // In the clear on the port for TLS, and the other way round.
        format!("holders /x --zk-hosts {secure} --connect-timeout 1s"),
        format!("holders /x --profile tls --zk-hosts {} --connect-timeout 1s", server.hosts()),
    ] {
        let answer = run(&line);
        assert_eq!(answer.code, Some(69), "{line}: {answer:?}");
        assert!(answer.stderr.contains("no session with") && answer.stderr.contains("hint:"), "{line}: {answer:?}");
    }
}
