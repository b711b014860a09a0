//! Logins, access control, TLS and a job's store on real servers.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lockkeeper_tests::python::{self, Python};
use lockkeeper_tests::zookeeper::{self, ClientAuth, Ensemble, Options, Server, Tls};
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

    /// Logged in with a password.
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

    /// The text of a refusal.
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
    assert_eq!(corner.anonymously("lock /made --ephemeral-lease -- true").code, Some(0));
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
fn a_caller_without_rights_locks_without_the_id_of_the_store() {
    let Some(corner) = Corner::new() else { return };
    // Every caller may make locks in the corner itself.
    assert_eq!(corner.anonymously("party join /p --identifier you -- true").code, Some(0));
    // All that is Lockkeeper's own is made for one account, and without an id.
    let acl = "world:anyone:r,auth::cdrwa";
    let locked = corner.run_as("ops", SECRET, &format!("lock /ours --identifier me --default-acl {acl}"));
    assert_eq!(locked.code, Some(0), "{locked:?}");
    let anonymous = || corner.anonymously("lock /free -- printenv LOCKKEEPER_STORE_ID");
    let answer = anonymous();
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "\n"), "{answer:?}");
    let known = corner.run_as("ops", SECRET, "lock /theirs -- printenv LOCKKEEPER_STORE_ID");
    assert_eq!((known.code, known.stdout.trim().len()), (Some(0), 32), "{known:?}");
    assert_eq!(anonymous().stdout, known.stdout, "reading it is for everybody");
}

#[test]
fn private_nodes_are_not_listed() {
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
    // The digest depends only on that name and password.
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
    assert_eq!(corner.anonymously("lock /made --ephemeral-lease -- true").code, Some(0));
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
    // The actions use the shared path with flags of their own.
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
    // A caller without rights to the path does not run the command.
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
    for (line, cause) in [
        // Another authority signed the servers' certificates.
        (
            format!("holders /x --profile tls --tls-ca {other}"),
            "that no authority in the file of `--tls-ca` has signed",
        ),
        // No client certificate is presented.
        (format!("holders /x --zk-hosts {secure} --tls-ca {ca}"), "wants to see a certificate of ours: `--tls-cert`"),
        // In the clear on the port for TLS, and the other way round.
        (format!("holders /x --zk-hosts {secure}"), "speaks TLS there: `--tls-ca`"),
        (
            format!("holders /x --profile tls --zk-hosts {}", server.hosts()),
            "does not speak TLS there: it is a ZooKeeper",
        ),
    ] {
        let answer = run(&format!("{line} --connect-timeout 2s"));
        assert_eq!(answer.code, Some(69), "{line}: {answer:?}");
        assert!(answer.stderr.contains("no session with") && answer.stderr.contains("hint:"), "{line}: {answer:?}");
        assert!(answer.stderr.contains(cause), "{line}: {answer:?}");
    }
}

#[test]
fn a_certificate_for_another_name_is_reported() {
    if !zookeeper::available() {
        return;
    }
    let world = World::new();
    let tls = Tls { names: vec!["DNS:zk.example".to_owned()], ..Tls::default() };
    let server = Server::start_with(&Options { tls: Some(tls), ..Options::default() });
    let ca = server.certificates().authority();
    let line = format!("holders /x --zk-hosts {} --connect-timeout 2s --tls-ca {}", server.tls_hosts(), ca.display());
    let answer = world.run(&line);
    assert_eq!(answer.code, Some(69), "{answer:?}");
    let told = format!("{} shows a certificate for other names than `localhost`", server.tls_hosts());
    assert!(answer.stderr.contains(&told) && answer.stderr.contains("zk.example"), "{answer:?}");
    // A connection that cannot work is not attempted.
    let none = world.file("none.pem", "no certificate");
    let line = format!("holders /x --zk-hosts zk --connect-timeout 2s --tls-ca {}", none.display());
    let answer = world.run(&line);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.stderr.contains("none.pem"), "{answer:?}");
}

#[test]
fn servers_that_require_sasl_are_reported() {
    if !zookeeper::available() {
        return;
    }
    let world = World::new();
    let login = world.file(
        "jaas.conf",
        "Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_ops=\"secret\"; };\n",
    );
    let java = vec![
        "-Dzookeeper.sessionRequireClientSASLAuth=true".to_owned(),
        "-Dzookeeper.authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider".to_owned(),
        format!("-Djava.security.auth.login.config={}", login.display()),
    ];
    let server = Server::start_with(&Options { java, ..Options::default() });
    for hosts in [server.hosts(), format!("{}/chroot", server.hosts())] {
        for line in ["holders /x", "lock /x --timeout 0"] {
            let answer = world.run(&format!("{line} --zk-hosts {hosts} --connect-timeout 2s"));
            assert_eq!(answer.code, Some(77), "{line}: {answer:?}");
            assert!(answer.stderr.contains("SASL") && !answer.stderr.contains("wrong password"), "{line}: {answer:?}");
            let login = world.file("password", SECRET).display().to_string();
            let line = format!("{line} --zk-hosts {hosts} --username ops --password-file {login}");
            let answer = world.run(&line);
            assert_eq!(answer.code, Some(77), "{line}: {answer:?}");
            assert!(answer.stderr.contains("SASL") && !answer.stderr.contains("wrong password"), "{line}: {answer:?}");
        }
    }
}

#[test]
fn a_server_without_a_majority_differs_from_a_missing_one() {
    if !zookeeper::available() {
        return;
    }
    let world = World::new();
    let ensemble = Ensemble::start(3);
    let servers = ensemble.servers();
    servers[1].kill();
    servers[2].kill();
    let alone = servers[0].hosts();
    eventually("it serves no more", || servers[0].mode().is_none());
    let answer = world.run(&format!("holders /x --zk-hosts {alone},{} --connect-timeout 3s", servers[1].hosts()));
    assert_eq!(answer.code, Some(69), "{answer:?}");
    assert!(answer.stderr.contains(&format!("{alone} is a ZooKeeper that does not serve")), "{answer:?}");
    assert!(answer.stderr.contains(&format!("{} refuses connections", servers[1].hosts())), "{answer:?}");
}

#[test]
fn what_only_looks_makes_no_chroot() {
    let Some(corner) = Corner::new() else { return };
    let deep = format!("{}/tpyo/deep", corner.hosts);
    for (line, code) in [
        ("holders /x", 0),
        ("unlock /x", 1),
        ("party members /p", 0),
        ("party members /p --min-nodes 1 --timeout 300ms", 75),
        ("status", 0),
        ("status latest", 2),
        ("abort latest", 2),
        ("prune", 0),
    ] {
        let answer = corner.world.run(&format!("{line} --zk-hosts {deep}"));
        assert_eq!(answer.code, Some(code), "{line}: {answer:?}");
        assert!(answer.stderr.contains("the chroot `/corner-") && answer.stderr.contains("is not there"), "{answer:?}");
        let corner = corner.anonymously("holders /tpyo");
        assert!(corner.stderr.contains("is not there"), "{line} made something: {corner:?}");
    }
    // A caller that waits for members sees them join.
    let waiting =
        corner.world.lockkeeper(["party", "members", "/p", "--min-nodes", "1", "--zk-hosts", &deep, "--quiet"]);
    let mut waiting = waiting;
    let waiting = waiting.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let join = format!("party join /p --identifier web01 --zk-hosts {deep} -- sleep 2");
    assert_eq!(corner.world.run(&join).code, Some(0));
    let seen = waiting.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&seen.stdout).contains("web01"), "{seen:?}");
}

#[test]
fn the_entry_that_servers_do_not_take_is_named() {
    let Some(corner) = Corner::new() else { return };
    for (acl, entry, why) in [
        ("world:anyone:r,sasl:kafka:cdrwa", "entry `sasl:kafka:cdrwa`", "do not know the scheme `sasl`"),
        ("ip:::1:cdrwa", "entry `ip:::1:cdrwa`", "IPv4 addresses only"),
        ("world:anyone:cdrwa,custom:me:r", "entry `custom:me:r`", "do not know the scheme `custom`"),
    ] {
        for line in [format!("lock /{} --timeout 0 -- true", acl.len()), format!("party join /p{} -- true", acl.len())]
        {
            let line = line.replacen(" /", &format!(" --default-acl {acl} /"), 1);
            let answer = corner.anonymously(&line);
            assert_eq!(answer.code, Some(2), "{line}: {answer:?}");
            assert!(answer.stderr.contains(entry) && answer.stderr.contains(why), "{line}: {answer:?}");
            assert!(!answer.stderr.contains("password") && !answer.stderr.contains("entry `world"), "{answer:?}");
        }
    }
}

#[test]
fn hints_repeat_the_store_in_use_and_no_password() {
    let Some(corner) = Corner::new() else { return };
    let acl = "--default-acl world:anyone:r,auth::cdrwa";
    let taken = corner.run_as("ops", SECRET, &format!("lock /x --identifier a {acl} --session-timeout 20s"));
    assert_eq!(taken.code, Some(0), "{taken:?}");
    let flags = format!("--zk-hosts {} --username ops --password {SECRET} --scheme digest {acl}", corner.hosts);
    let ways = [
        // By flags, by the environment, by a profile, by a system-wide file.
        (flags, vec![], format!("--zk-hosts {} --scheme digest --username ops {acl}", corner.hosts)),
        (String::new(), vec![("LOCKKEEPER_ZK_HOSTS", corner.hosts.clone())], format!("--zk-hosts {}", corner.hosts)),
        ("--profile here --config config.toml".to_owned(), vec![], "--profile here --config config.toml".to_owned()),
        (
            String::new(),
            vec![("LOCKKEEPER_SYSTEM_CONFIG", corner.world.folder().join("system.toml").display().to_string())],
            String::new(),
        ),
    ];
    let login = format!("zk-hosts = \"{}\"\nusername = \"ops\"\npassword-file = \"password\"\n", corner.hosts);
    corner.world.file("config.toml", &format!("[profile.here]\n{login}"));
    corner.world.file("system.toml", &format!("[store]\n{login}"));
    corner.world.file("password", SECRET);
    for (flags, variables, repeated) in ways {
        let run = |words: Vec<String>| {
            let mut command = corner.world.lockkeeper(words);
            said(command.current_dir(corner.world.folder()).envs(variables.iter().map(|(name, value)| (name, value))))
        };
        let words = |line: &str| line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let refused = run(words(&format!("lock /x --identifier b --timeout 0 --format json {flags}")));
        let error: Value = serde_json::from_str(&refused.stderr).unwrap_or_else(|_| panic!("{refused:?}"));
        let hint = error["hint"].as_str().unwrap();
        assert!(!refused.stderr.contains(SECRET), "{refused:?}");
        let expected = format!("lockkeeper holders /x {repeated}");
        let command = hint.split('`').nth(1).unwrap();
        if refused.code == Some(75) {
            assert_eq!(command, expected.trim_end(), "{hint}");
        } else {
            // Without a login no caller may queue there.
            assert_eq!(refused.code, Some(77), "{refused:?}");
            continue;
        }
        // The password is given again, and nothing else.
        let mut pasted = words(command);
        pasted.remove(0);
        if repeated.contains("--username") {
            pasted.extend(["--password-file".to_owned(), "password".to_owned()]);
        }
        pasted.extend(["--format".to_owned(), "json".to_owned()]);
        let shown = run(pasted);
        assert!(shown.stdout.contains("\"a\""), "{command}: {shown:?}");
    }
}

#[test]
fn a_hint_of_a_job_names_the_job_s_store() {
    let Some(corner) = Corner::new() else { return };
    let job = JOB.replace("username = \"ops\"\n", "").replace("password-file = \"password-of-ops\"\n", "");
    let job = job.replace("default-acl = \"auth::cdrwa\"\n", "").replace("HOSTS", &corner.hosts);
    let job = job.replace("lockkeeper holders /locks/job --format json", "exit 1");
    corner.world.file("job.toml", &format!("{job}[[wave]]\nname = \"all\"\nsize = \"100%\"\napprove = true\n"));
    let mut command = corner.world.lockkeeper(["run", "job.toml"]);
    command.current_dir(corner.world.folder()).stderr(std::process::Stdio::piped());
    let mut running = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(running.stderr.take().unwrap()));
    let waiting = lines.find_map(|line| line.ok().filter(|line| line.contains("`lockkeeper approve ")));
    let command = waiting.unwrap().split('`').find(|part| part.starts_with("lockkeeper approve ")).unwrap().to_owned();
    assert!(command.contains(&format!("--zk-hosts {}", corner.hosts)), "{command}");
    let words = command.split(' ').skip(1);
    let approved = said(&mut corner.world.lockkeeper(words));
    assert_eq!(approved.code, Some(0), "{approved:?}");
    running.wait().unwrap();
}
