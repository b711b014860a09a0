//! What the harness promises, so that a failure of a scenario is the scenario's.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lockkeeper_tests::proxy::{Break, Direction, Mute, Proxy, opcode};
use lockkeeper_tests::python::{self, Python};
use lockkeeper_tests::zookeeper::{
    self, ClientAuth, Ensemble, Mode, Options, SUPER_DIGEST, SUPER_PASSWORD, SUPER_USER, Server, Tls,
};
use lockkeeper_tests::{eventually, said};
use serde_json::json;

/// Both, or neither with a word why.
fn all_available() -> bool {
    zookeeper::available() && python::available()
}

#[test]
fn a_server_counts_and_keeps_its_data_over_kill_and_restart() {
    if !all_available() {
        return;
    }
    let server = Server::start();
    let python = Python::on(server.hosts());
    assert_eq!(server.mode(), Some(Mode::Standalone));
    assert_eq!(server.word("ruok").unwrap(), "imok");
    let (packets, zxid) = (server.packets_received(), server.zxid());
    python.json("kazoo_cli", ["put", "/a", "ä"]);
    assert!(server.packets_received() > packets);
    // A session that starts, a node, and the session's end.
    assert_eq!(server.zxid() - zxid, 3);
    assert_eq!(server.mntr("ephemerals_count"), 0);

    server.kill();
    assert_eq!(server.word("ruok").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    server.restart();
    assert_eq!(python.json("kazoo_cli", ["tree", "/a"])[0]["data"], "ä");

    server.pause();
    let mut stuck = TcpStream::connect(server.address()).unwrap();
    stuck.write_all(b"ruok").unwrap();
    stuck.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(stuck.read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.resume();
    stuck.set_read_timeout(None).unwrap();
    let mut answer = String::new();
    stuck.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "imok");
}

#[test]
fn sessions_may_be_short() {
    if !all_available() {
        return;
    }
    let server = zookeeper::shared();
    let mut holder =
        Python::on(server.hosts()).spawn("kazoo_cli", ["--session", "1", "put", "/short", "", "--ephemeral"]);
    assert_eq!(holder.answer(), Some(json!("/short")));
    let killed = Instant::now();
    drop(holder);
    let python = Python::on(server.hosts());
    eventually("the session ends", || python.json("kazoo_cli", ["tree", "/short"]) == json!([]));
    assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
}

#[test]
fn an_ensemble_has_a_leader_and_survives_it() {
    if !all_available() {
        return;
    }
    let ensemble = Ensemble::start(3);
    let leader = ensemble.leader();
    assert_eq!(ensemble.followers().len(), 2);
    let python = Python::on(ensemble.hosts());
    python.json("kazoo_cli", ["put", "/kept", "yes"]);
    ensemble.server(leader).kill();
    let mut next = leader;
    eventually("another one leads", || {
        next = ensemble.leader();
        next != leader
    });
    assert_eq!(python.json("kazoo_cli", ["tree", "/kept"])[0]["data"], "yes");
    ensemble.server(leader).restart();
    assert_eq!(ensemble.server(leader).mode(), Some(Mode::Follower));
    assert_eq!(ensemble.leader(), next);
}

#[test]
fn a_server_ends_with_the_process_that_started_it() {
    if !zookeeper::available() {
        return;
    }
    // The test below in a process of its own, which is killed.
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "--ignored", "a_process_with_a_server"]).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut stdout = std::io::BufReader::new(process.stdout.take().unwrap());
    let mut found = None;
    while found.is_none() {
        let mut line = String::new();
        assert!(std::io::BufRead::read_line(&mut stdout, &mut line).unwrap() > 0, "it says where its server is");
        found = line.trim().split_once("server: ").map(|(_, rest)| rest.to_owned());
    }
    let found = found.unwrap();
    let (hosts, folder) = found.split_once(' ').unwrap();
    assert!(TcpStream::connect(hosts).is_ok());
    process.kill().unwrap();
    process.wait().unwrap();
    eventually("the server is gone", || TcpStream::connect(hosts).is_err());
    eventually("its folder is gone", || !std::path::Path::new(folder).exists());
}

#[test]
#[ignore = "only as a process of the test above"]
fn a_process_with_a_server() {
    let server = zookeeper::shared();
    println!("server: {} {}", server.hosts(), server.folder().display());
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn the_administrator_may_do_anything() {
    if !all_available() {
        return;
    }
    let options = Options { super_digest: Some(SUPER_DIGEST.to_owned()), ..Options::default() };
    let server = Server::start_with(&options);
    let owner = Python::on(server.hosts()).digest("u:pw").acl("u:pw");
    owner.json("kazoo_cli", ["put", "/private", "x"]);
    let (error, _) = Python::on(server.hosts()).error("kazoo_cli", ["write", "/private", "y"]);
    assert_eq!(error, "NoAuthError");
    let administrator = Python::on(server.hosts()).digest(&format!("{SUPER_USER}:{SUPER_PASSWORD}"));
    let tree = administrator.json("kazoo_cli", ["tree", "/private"]);
    assert_eq!(tree[0]["acl"], json!([[31, "digest", "u:BvFaefuhWURhnvpD7ipe45CKTpk="]]));
}

/// Connects to a server with OpenSSL: whether both sides accepted, and the output.
fn tls(server: &Server, arguments: &[&std::ffi::OsStr]) -> String {
    let mut command = Command::new("openssl");
    command.args([
        "s_client",
        "-verify_return_error",
        "-brief",
        "-tls1_2",
        "-verify_hostname",
        "localhost",
        "-connect",
    ]);
    command.arg(server.tls_address().to_string()).args(arguments).stdin(Stdio::null());
    let said = said(&mut command);
    said.stdout + &said.stderr
}

#[test]
fn tls_shows_a_certificate_and_may_want_one() {
    if !zookeeper::available() {
        return;
    }
    let tls_options = |client_auth| Options { tls: Some(Tls { client_auth, ..Tls::default() }), ..Options::default() };
    let server = Server::start_with(&tls_options(ClientAuth::None));
    let files = server.certificates();
    let (authority, other) = (files.authority(), files.other_authority());
    let good = tls(&server, &["-CAfile".as_ref(), authority.as_os_str()]);
    assert!(good.contains("Verification: OK"), "{good}");
    let bad = tls(&server, &["-CAfile".as_ref(), other.as_os_str()]);
    assert!(bad.contains("certificate verify failed"), "{bad}");

    let server = Server::start_with(&tls_options(ClientAuth::Need));
    let files = server.certificates();
    let (authority, certificate, key) = (files.authority(), files.client_certificate(), files.client_key());
    let stranger = tls(&server, &["-CAfile".as_ref(), authority.as_os_str()]);
    assert!(!stranger.contains("CONNECTION ESTABLISHED"), "{stranger}");
    let ours = ["-CAfile".as_ref(), authority.as_os_str(), "-cert".as_ref(), certificate.as_os_str(), "-key".as_ref()];
    let known = tls(&server, &[&ours[..], &[key.as_os_str()]].concat());
    assert!(known.contains("CONNECTION ESTABLISHED"), "{known}");
}

/// A server that sends everything back.
fn echo() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let accepting = listener.try_clone().unwrap();
    thread::spawn(move || {
        for mut connection in accepting.incoming().flatten() {
            connection.set_nodelay(true).unwrap();
            thread::spawn(move || std::io::copy(&mut connection.try_clone().unwrap(), &mut connection));
        }
    });
    listener
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

#[test]
fn a_delay_is_no_limit_and_keeps_the_order() {
    let echo = echo();
    let proxy = Proxy::start(echo.local_addr().unwrap());
    proxy.delay(Duration::from_millis(50));
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.set_nodelay(true).unwrap();
    let sent: Vec<u8> = (0..200_u8).flat_map(|number| frame(&[number; 9])).collect();
    let started = Instant::now();
    // Spread over 40 ms; if each waited for the one before, this would take 20 s.
    for part in sent.chunks(sent.len() / 8) {
        client.write_all(part).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    let mut received = vec![0; sent.len()];
    client.read_exact(&mut received).unwrap();
    let took = started.elapsed();
    assert_eq!(received, sent);
    assert!(took >= Duration::from_millis(100) && took < Duration::from_millis(1000), "{took:?}");

    proxy.delay(Duration::ZERO);
    let mut rounds: Vec<Duration> = (0..200)
        .map(|_| {
            let started = Instant::now();
            client.write_all(&frame(b"x")).unwrap();
            client.read_exact(&mut [0; 5]).unwrap();
            started.elapsed()
        })
        .collect();
    rounds.sort();
    println!("a round trip through the proxy takes {:?}", rounds[100]);
    proxy.delay(Duration::from_millis(5));
    let started = Instant::now();
    for _ in 0..20 {
        client.write_all(&frame(b"x")).unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
    }
    println!("with 5 ms each way {:?}", started.elapsed() / 20);
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[test]
fn connections_are_cut_reset_and_refused() {
    let echo = echo();
    let proxy = Proxy::start(echo.local_addr().unwrap());
    let open = || {
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client.write_all(&frame(b"hello")).unwrap();
        client.read_exact(&mut [0; 9]).unwrap();
        client
    };
    let mut client = open();
    proxy.cut();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    let mut client = open();
    proxy.reset();
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut client = open();
    proxy.refuse();
    assert_eq!(TcpStream::connect(proxy.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    client.write_all(&frame(b"still")).unwrap();
    client.read_exact(&mut [0; 9]).unwrap();
    proxy.heal();
    open();
}

#[test]
fn a_hole_keeps_back_until_it_is_healed() {
    let echo = echo();
    let proxy = Proxy::start(echo.local_addr().unwrap());
    for direction in [Direction::ToServer, Direction::ToClient] {
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        proxy.hole(direction);
        client.write_all(&frame(b"hello")).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        proxy.heal();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = [0; 9];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer[4..], b"hello");
    }
    let mute = Mute::start();
    let mut client = TcpStream::connect(mute.address()).unwrap();
    client.write_all(&frame(b"hello")).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_connection_breaks_exactly_before_a_request_or_its_reply() {
    if !all_available() {
        return;
    }
    let server = zookeeper::shared();
    let proxy = Proxy::start(server.address());
    let through = Python::on(proxy.hosts());
    let direct = Python::on(server.hosts());
    let exists = |path: &str| direct.json("kazoo_cli", ["tree", path]) != json!([]);
    for (number, how) in [Break::Fin, Break::Reset].into_iter().enumerate() {
        let path = format!("/cut{number}");
        let wanted = path.clone();
        let caught = proxy
            .cut_after_request(how, move |request| request.opcode == opcode::CREATE && request.path() == Some(&wanted));
        let (error, _) = through.error("kazoo_cli", ["put", &path, ""]);
        assert_eq!(error, "ConnectionLoss");
        assert!(caught.wait().mentions(&path));
        assert!(exists(&path), "its reply was lost, not the request");

        let path = format!("/dropped{number}");
        let wanted = path.clone();
        let caught = proxy.drop_request(how, move |request| request.path() == Some(&wanted));
        let (error, _) = through.error("kazoo_cli", ["put", &path, ""]);
        assert_eq!(error, "ConnectionLoss");
        assert_eq!(caught.wait().opcode, opcode::CREATE);
        assert!(!exists(&path), "the request was lost");
    }
    proxy.forget_requests();
    assert_eq!(through.json("kazoo_cli", ["put", "/whole", ""]), "/whole");
    let counts = proxy.requests();
    assert_eq!((counts[&opcode::CONNECT], counts[&opcode::CREATE], counts[&opcode::CLOSE]), (1, 1, 1), "{counts:?}");
}

#[test]
fn kazoo_takes_and_gives_back_a_slot() {
    if !all_available() {
        return;
    }
    let python = Python::on(zookeeper::shared().hosts());
    let mut holder = python.spawn("kazoo_cli", ["lock", "/kazoo/lock", "me", "--slots", "2"]);
    assert_eq!(holder.answer(), Some(json!({ "held": true })));
    assert_eq!(python.json("kazoo_cli", ["holders", "/kazoo/lock", "--slots", "2"]), json!(["me"]));
    let (error, _) = python.error("kazoo_cli", ["lock", "/kazoo/lock", "me", "--slots", "3"]);
    assert_eq!(error, "ValueError");
    assert_eq!(holder.stop(), [json!({ "released": true })]);
    assert_eq!(python.json("kazoo_cli", ["holders", "/kazoo/lock", "--slots", "2"]), json!([]));

    for kind in ["party", "shallow"] {
        let mut member = python.spawn("kazoo_cli", ["join", "/kazoo/party", "web01", "--kind", kind]);
        assert_eq!(member.answer(), Some(json!({ "joined": true })));
        let members = python.json("kazoo_cli", ["members", "/kazoo/party", "--kind", kind]);
        assert_eq!(members, json!(["web01"]));
        let left = member.stop();
        assert_eq!(left, [json!({ "left": true })]);
    }
}

#[test]
fn salt_takes_and_gives_back_a_slot() {
    if !all_available() {
        return;
    }
    let python = Python::on(zookeeper::shared().hosts());
    let call =
        |function: &str, arguments: serde_json::Value| python.json("salt_cli", [function, &arguments.to_string()]);
    let path = "/salt/lock";
    let ours = json!({ "path": path, "identifier": "minion1", "max_concurrency": 1 });
    assert_eq!(call("lock", ours.clone()), true);
    assert_eq!(call("lock_holders", json!({ "path": path })), json!(["minion1"]));
    assert_eq!(call("lock", ours.clone()), true, "it finds its own");
    let theirs = json!({ "path": path, "identifier": "minion2", "timeout": 0.5 }).to_string();
    assert_eq!(python.error("salt_cli", ["lock", &theirs]).0, "LockTimeout");
    let other = json!({ "path": path, "identifier": "minion2", "max_concurrency": 2 }).to_string();
    assert_eq!(python.error("salt_cli", ["lock", &other]).0, "ValueError");
    assert_eq!(call("unlock", ours), true);
    assert_eq!(call("lock_holders", json!({ "path": path })), json!([]));
    assert_eq!(call("party_members", json!({ "path": "/salt/party" })), json!([]));
}
