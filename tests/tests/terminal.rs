//! Strangers' bytes at a real terminal: whatever a guest, a file, a store, a target or a caller wrote, each command shows it as
//! text. The terminal is a pseudo-terminal, and what is read from it is judged by rules of this file's own.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

#[expect(dead_code, reason = "other tests use the rest")]
mod hostile;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use lockkeeper_coordination::embedded::{Embedded, EmbeddedOptions};
use lockkeeper_coordination::store::{Connect as _, NodeKind, NodePath, Store, create_all};
use lockkeeper_tests::{World, eventually, said};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};

/// What a terminal obeys, or shows so that people read something else. Each is followed by `~` in [`all`].
const CORPUS: [(&str, &str); 30] = [
    ("clear the screen", "\u{1b}[2J\u{1b}[H"),
    ("colours", "\u{1b}[8;31mhidden\u{1b}[0m"),
    ("move the cursor", "\u{1b}[1A\u{1b}[2K\u{1b}[10D"),
    ("ask for an answer", "\u{1b}[6n\u{1b}[c\u{5}"),
    ("alternate screen", "\u{1b}[?1049h"),
    ("title by OSC 0", "\u{1b}]0;title\u{7}"),
    ("link by OSC 8", "\u{1b}]8;;http://127.0.0.1/\u{1b}\\click\u{1b}]8;;\u{1b}\\"),
    ("clipboard by OSC 52", "\u{1b}]52;c;cm0gLXJm\u{7}"),
    ("DCS", "\u{1b}P+q544e\u{1b}\\"),
    ("APC and PM", "\u{1b}_x\u{1b}\\\u{1b}^x\u{1b}\\"),
    ("reset", "\u{1b}c"),
    ("character set", "\u{1b}(0\u{e}\u{f}"),
    ("C1 CSI", "\u{9b}2J"),
    ("C1 OSC", "\u{9d}0;title\u{9c}"),
    ("C1 DCS and NEL", "\u{90}x\u{9c}\u{85}\u{8d}"),
    ("bell", "\u{7}"),
    ("backspace", "safe\u{8}\u{8}\u{8}\u{8}evil"),
    ("carriage return", "safe\revil"),
    ("a line of its own", "x\nerror: forged\n    Finished 9 done"),
    ("tab, vertical tab, form feed", "a\tb\u{b}c\u{c}d"),
    ("DEL", "a\u{7f}b"),
    ("embeddings and overrides", "\u{202a}a\u{202b}b\u{202c}c\u{202d}d\u{202e}e"),
    ("isolates", "\u{2066}a\u{2067}b\u{2068}c\u{2069}"),
    ("marks of direction", "a\u{200e}b\u{200f}c\u{61c}d"),
    ("separators", "a\u{2028}b\u{2029}c"),
    ("zero width", "a\u{200b}b\u{200c}c\u{200d}d\u{2060}e\u{feff}f\u{ad}g\u{180e}h\u{34f}i\u{3164}j"),
    ("annotations", "a\u{fff9}b\u{fffa}c\u{fffb}d\u{206a}e\u{2064}f"),
    ("tags", "a\u{e0001}\u{e0041}\u{e0042}\u{e007f}b"),
    ("variation selectors", "a\u{fe0e}b\u{fe0f}c\u{e0100}d"),
    ("noncharacters", "a\u{fffe}b\u{1ffff}c"),
];

/// All of them in one text.
fn all() -> String {
    CORPUS.iter().map(|(_, text)| format!("{text}~")).collect()
}

/// All control characters except those that names may not contain: C0, C1 and DEL are refused there.
fn all_but_controls() -> String {
    all().chars().filter(|c| !c.is_control()).collect()
}

/// No line may be longer, in characters.
const LONGEST_LINE: usize = 4_200;

/// Whether a terminal may get a character: an oracle of this file's own.
fn is_plain(c: char) -> bool {
    let obeyed =
        ['\0'..='\u{1f}', '\u{7f}'..='\u{9f}', '\u{ad}'..='\u{ad}', '\u{34f}'..='\u{34f}', '\u{61c}'..='\u{61c}']
            .into_iter()
            .chain(['\u{180b}'..='\u{180f}', '\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}'])
            .chain(['\u{3164}'..='\u{3164}', '\u{fe00}'..='\u{fe0f}', '\u{feff}'..='\u{feff}', '\u{fff0}'..='\u{fffb}'])
            .chain(['\u{fffe}'..='\u{ffff}', '\u{1fffe}'..='\u{1ffff}', '\u{e0000}'..='\u{e0fff}']);
    !obeyed.into_iter().any(|range| range.contains(&c))
}

/// What the commands themselves send to a terminal: colours, and the control sequences of bars and `status --watch`.
fn own_sequence(rest: &str) -> Option<usize> {
    let parameters = rest.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    let (numbers, last) = (&parameters[..end], parameters[end..].chars().next()?);
    let is_ours = match last {
        // None of ours conceals, blinks or reverses.
        'm' => numbers.split(';').all(|number| !["5", "6", "7", "8"].contains(&number)),
        // A line deleted; up or down so many lines.
        'K' => numbers == "2",
        'A' | 'B' => !numbers.is_empty(),
        _ => false,
    };
    is_ours.then_some("\u{1b}[".len() + end + 1)
}

/// Panics at the first byte that a terminal must not get.
fn judge(what: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes)
        .unwrap_or_else(|error| panic!("{what}: {error}: {:?}", String::from_utf8_lossy(bytes)));
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\u{1b}' => own_sequence(rest),
            // The terminal itself turns a line's end into `\r
            // `; a bar returns to the start of its line.
            '\n' | '\r' => Some(1),
            c => is_plain(c).then_some(c.len_utf8()),
        };
        let Some(length) = length else {
            let at = text.len() - rest.len();
            let around =
                text.floor_char_boundary(at.saturating_sub(200))..text.ceil_char_boundary((at + 60).min(text.len()));
            panic!("{what}: {c:?} reaches the terminal: {:?}", &text[around]);
        };
        rest = &rest[length..];
    }
    // Redrawn output returns to the start of its lines.
    for line in text.split(['\n', '\r']).flat_map(|line| line.split("\u{1b}[2K")) {
        assert!(!line.trim_start().starts_with("error: forged"), "{what}: a value forges a line: {text:?}");
        assert!(line.chars().count() <= LONGEST_LINE, "{what}: a line of {} characters", line.chars().count());
    }
}

/// Runs a command on a terminal of its own to its end, and gives what the terminal got.
fn shown(command: &mut Command) -> Vec<u8> {
    let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    // A process that another test starts meanwhile must not have this terminal open, too.
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let ends = openpty(Some(&size), None).unwrap();
    for end in [&ends.master, &ends.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    let terminal = File::from(ends.slave);
    command.env("TERM", "xterm-256color").stdin(Stdio::null());
    command.stdout(terminal.try_clone().unwrap()).stderr(terminal);
    let mut child = command.spawn().unwrap();
    drop(alone);
    // Ours of the other end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut screen = File::from(ends.master);
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let (mut all, mut bytes) = (Vec::new(), [0; 65536]);
        // The last process on the terminal closes it: that is an error here.
        while let Ok(count @ 1..) = screen.read(&mut bytes) {
            all.extend_from_slice(&bytes[..count]);
        }
        let _ = tell.send(all);
    });
    let read = told.recv_timeout(Duration::from_secs(120));
    let _ = child.kill();
    child.wait().unwrap();
    read.unwrap_or_else(|_| panic!("{command:?} does not end"))
}

/// A state folder whose commands are checked.
struct Ground {
    world: World,
}

impl Ground {
    fn new() -> Self {
        Self { world: World::new() }
    }

    fn command<A: AsRef<OsStr>>(&self, line: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.world.lockkeeper(line);
        command.current_dir(self.world.folder());
        command
    }

    /// Runs a command in both formats, and judges what the terminal got.
    fn judged<A: AsRef<OsStr> + Copy>(&self, line: &[A]) -> String {
        let told = line.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
        let told: String = told.chars().take(300).collect();
        // As JSON a value has no bound.
        let mut json = self.command(line);
        let json = if line.iter().any(|word| word.as_ref() == "--") {
            String::new()
        } else {
            json.args(["--format", "json"]);
            let bytes = shown(&mut json);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let short: Vec<String> = text.lines().map(|line| line.chars().take(LONGEST_LINE).collect()).collect();
            judge(&format!("{told:?} as JSON"), short.join("\n").as_bytes());
            for line in text.lines().filter(|line| line.starts_with('{') && line.ends_with('}')) {
                serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{told:?}: {error}: {line}"));
            }
            text
        };
        let human = shown(&mut self.command(line));
        judge(&format!("{told:?}"), &human);
        format!("{}{json}", String::from_utf8_lossy(&human))
    }

    fn store(&self) -> PathBuf {
        self.world.folder().join("state/store.db")
    }

    /// Writes nodes past every check, as another client may, and runs what follows while that client is alive.
    fn with_nodes(&self, nodes: &[(&str, Vec<u8>)], ephemeral: &[(&str, Vec<u8>)], then: impl FnOnce()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            fs::create_dir_all(self.store().parent().unwrap()).unwrap();
            let options = EmbeddedOptions { session_timeout: Duration::from_secs(10) };
            let store: Arc<dyn Store> = Embedded::new(self.store(), options).connect().await.unwrap();
            let kinds = nodes.iter().map(|node| (node, NodeKind::Persistent));
            for ((path, data), kind) in kinds.chain(ephemeral.iter().map(|node| (node, NodeKind::Ephemeral))) {
                let path = NodePath::parse(path).unwrap();
                if let Some(parent) = path.parent() {
                    create_all(&*store, &parent).await.unwrap();
                }
                store.create(&path, Bytes::from(data.clone()), kind).await.unwrap();
            }
            tokio::task::block_in_place(then);
            store.close().await.unwrap();
        });
    }
}

/// Every command, up to the place of a foreign value.
const COMMANDS: [&str; 36] = [
    "",
    "lock",
    "lock /locks/a --identifier",
    "lock /locks/a --timeout",
    "lock /locks/a --force --reason",
    "lock /locks/a --zk-hosts",
    "lock /locks/a --default-acl",
    "unlock",
    "unlock /locks/a --identifier",
    "holders",
    "holders /locks/a --profile",
    "holders /locks/a --store",
    "semaphore list",
    "semaphore show",
    "semaphore resize /locks/a",
    "party members",
    "party join /p --identifier",
    "guard --fence-file",
    "guard --fence-file t --outcome 1 --fence",
    "check",
    "plan",
    "run",
    "status",
    "status --watch",
    "pause latest --reason",
    "resume",
    "abort",
    "approve",
    "retry",
    "prune --job",
    "explain",
    "replay",
    "schema job --policy",
    "completions",
    "policy inspect",
    "policy",
];

#[test]
fn caller_input_is_shown_as_text() {
    let ground = Ground::new();
    let long = "x".repeat(100_000);
    let bytes = OsStr::from_bytes(b"bytes-\xff\xfe\x9b2J\x1b[2J");
    for command in COMMANDS {
        for word in [OsString::from(all()), OsString::from(all_but_controls()), bytes.into(), OsString::from(&long)] {
            let mut line: Vec<OsString> = command.split_whitespace().map(OsString::from).collect();
            line.push(word);
            ground.judged(&line.iter().map(OsString::as_os_str).collect::<Vec<_>>());
        }
    }
    for (what, text) in CORPUS {
        for line in [vec![text], vec!["status", text], vec!["--no-such-flag", text], vec!["lock", "/a", "--", text]] {
            let shown = ground.judged(&line);
            assert!(!shown.is_empty(), "{what}: nothing is said");
        }
    }
}

#[test]
fn environment_values_are_shown_as_text() {
    let ground = Ground::new();
    for name in ["STORE", "ZK_HOSTS", "PROFILE", "CONFIG", "SYSTEM_CONFIG", "STATE_DIR", "USERNAME", "PASSWORD_FILE"] {
        for text in [all().as_bytes().to_vec(), b"/\xff\xfe\x9b2J\x1b[2J".to_vec()] {
            for line in ["holders /a", "status", "run none.toml", "--help", "policy inspect rolling"] {
                let mut command = ground.command(line.split(' '));
                command.env(format!("LOCKKEEPER_{name}"), OsStr::from_bytes(&text));
                judge(&format!("{line} with LOCKKEEPER_{name}"), &shown(&mut command));
            }
        }
    }
    // The name that the program is started under.
    let mut command = ground.command(["lock", "--help"]);
    std::os::unix::process::CommandExt::arg0(&mut command, all().replace('\0', ""));
    judge("argv[0]", &shown(&mut command));
}

#[test]
fn help_pages_and_scripts_have_nothing_that_is_not_ours() {
    let ground = Ground::new();
    for line in [
        "--help",
        "-h",
        "lock --help",
        "policy test --help",
        "--version",
        "man",
        "policy views",
        "policy list",
        "schema job",
    ] {
        ground.judged(&line.split(' ').collect::<Vec<_>>());
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = said(&mut ground.command(["completions", shell]));
        assert!(!script.stdout.contains('\u{1b}'), "{shell}");
    }
}

/// A guest whose manifest, settings, imports and answers are hostile.
fn guest(world: &World, file: &str) -> PathBuf {
    let text = all();
    let words: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let (at, length) = (100_000, text.len());
    let schema = json!({
        "type": "object",
        "title": text,
        "properties": { (text.clone()): { "type": "string", "description": text, "default": text, "enum": [text, "a"] } },
        "additionalProperties": true,
    });
    let place = |offset: usize| {
        format!(
            "(i32.store (i32.const {offset}) (i32.const {at})) (i32.store (i32.const {}) (i32.const {length}))",
            offset + 4
        )
    };
    let guest = hostile::Guest {
        fields: format!("(data (i32.const {at}) \"{words}\")"),
        name: Box::leak(text.into_boxed_str()),
        schema: schema.to_string(),
        // Its answer is `lock` with this code and reason.
        admit: format!("{} {} i32.const 512", place(532), place(540)),
        ..hostile::Guest::default()
    };
    let path = world.folder().join(file);
    fs::write(&path, guest.module()).unwrap();
    path
}

#[test]
fn guest_output_is_shown_as_text() {
    let ground = Ground::new();
    let wasm = guest(&ground.world, "policy\u{1b}[2J\u{202e}.wasm");
    let wasm = wasm.to_str().unwrap();
    let cases = ground
        .world
        .file("cases.toml", &format!("[[case]]\nname = {}\nexpect = {{ code = \"other\" }}\n", toml(&all())));
    let cases = cases.to_str().unwrap();
    let inspected = ground.judged(&["policy", "inspect", wasm]);
    assert!(inspected.contains("\\u{1b}[2J"), "{inspected}");
    for line in [
        vec!["policy", "decide", wasm],
        vec!["policy", "decide", wasm, "--case", "a name"],
        vec!["policy", "test", wasm, cases, "--views", "10"],
        vec!["policy", "bench", wasm, cases, "--rounds", "2"],
        vec!["policy", "digest", wasm],
        vec!["schema", "job", "--policy", wasm],
    ] {
        ground.judged(&line);
    }
    // A module that imports what it must not, by hostile names.
    let import = ground.world.folder().join("import.wasm");
    let escaped: String = all().bytes().map(|byte| format!("\\{byte:02x}")).collect();
    fs::write(&import, wat::parse_str(format!("(module (import \"{escaped}\" \"{escaped}\" (func)))")).unwrap())
        .unwrap();
    for file in [import.to_str().unwrap(), cases, "none\u{1b}[2J"] {
        ground.judged(&["policy", "inspect", file]);
    }
}

/// A text as TOML writes it.
fn toml(text: &str) -> String {
    let escape =
        |c: char| if is_plain(c) && !"\"\\".contains(c) { c.to_string() } else { format!("\\U{:08x}", u32::from(c)) };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

#[test]
fn job_values_are_shown_as_text() {
    let ground = Ground::new();
    let raw = all().replace(['\r', '\n'], "");
    let texts = [
        all(),
        format!("name = \"{raw}\"\n"),
        format!("[semaphore]\npath = {}\n[targets]\nhosts = [{}]\n", toml(&all()), toml(&all())),
        format!("{} = 1\n[{raw}]\n\"{raw}\" = '{raw}'\n", toml(&all())),
        format!(
            "name = \"j\"\n[semaphore]\npath = \"/s\"\n[targets]\ncommand = [\"sh\", \"-c\", {}, \"sh\", {}]\n[policy]\nuse = \"rolling\"\n[action]\nrun = [\"true\"]\n",
            toml("printf '%s' \"$1\" >&2; printf '%s' \"$1\"; exit 1"),
            toml(&all()),
        ),
        format!("name = \"j\"\n# {}\nx = \"{}\"\n", "y".repeat(100_000), "z".repeat(100_000)),
    ];
    for text in texts {
        for name in ["job.toml", "job\u{1b}[2J\u{9b}2J\n\u{202e}.toml"] {
            ground.world.file(name, &text);
            for command in ["check", "plan", "run"] {
                ground.judged(&[command, name]);
            }
        }
    }
    fs::write(ground.world.folder().join("bytes.toml"), b"name = \"\xff\xfe\x9b\x1b[2J\"\n").unwrap();
    ground.judged(&["check", "bytes.toml"]);
}

#[test]
fn recorded_values_are_shown_as_text() {
    let ground = Ground::new();
    let guest = guest(&ground.world, "guest.wasm");
    let label = all_but_controls();
    // The target prints everything, with bytes that are no UTF-8, and fails.
    fs::write(
        ground.world.folder().join("noise"),
        [all().as_bytes(), b"\xff\xfe\x9b2J\x80\n\x1b[31mred\x1b[0m\n"].concat(),
    )
    .unwrap();
    let job = format!(
        "name = \"loud\"\n[semaphore]\npath = \"/locks/loud\"\n[targets]\nhosts = [{{ name = \"a\", labels = {{ rack = {0} }} }}, \"b\"]\n\
         [policy]\npath = \"{1}\"\n[[freeze]]\nfrom = \"2001-01-01\"\nuntil = \"2001-01-02\"\ntime-zone = \"UTC\"\nreason = {0}\n\
         [action]\nrun = [\"sh\", \"-c\", \"cat {{job-dir}}/noise; exit 3\"]\nroll-back = [\"sh\", \"-c\", {2}]\n",
        toml(&label),
        guest.file_name().unwrap().to_str().unwrap(),
        toml(&label),
    );
    ground.world.file("job.toml", &job);
    for line in [vec!["check", "job.toml"], vec!["plan", "job.toml"]] {
        ground.judged(&line);
    }
    let ran = shown(&mut ground.command(["run", "job.toml"]));
    judge("run", &ran);
    assert!(
        String::from_utf8_lossy(&ran).contains("\\u{1b}]0;title"),
        "the output is shown: {}",
        String::from_utf8_lossy(&ran)
    );
    ground.judged(&["run", "job.toml", "--again"]);
    // What people ask of it.
    for line in [
        vec!["pause", "loud", "--reason", &label],
        vec!["abort", "loud", "--reason", &label],
        vec!["retry", "loud", "--failed", "--reason", &label],
        vec!["status"],
        vec!["status", "loud", "--all"],
        vec!["status", "loud"],
        vec!["explain", "loud"],
        vec!["explain", "loud", "a"],
        vec!["explain", "loud", &label],
        vec!["approve", "loud", &label],
        vec!["replay", "loud"],
        vec!["replay", "loud", "--policy", "rolling"],
        vec!["policy", "decide", guest.to_str().unwrap(), "--from", "loud#1"],
        vec!["policy", "decide", guest.to_str().unwrap(), "--from", "loud#1", "--case", &label],
        vec!["resume", "loud", "--accept"],
        vec!["abort", "loud"],
        vec!["status", "loud", "--watch"],
        vec!["status", "loud", "--timeline", "run.svg"],
        vec!["prune", "--older-than", "0", "--dry-run"],
    ] {
        ground.judged(&line);
    }
    let picture = fs::read_to_string(ground.world.folder().join("run.svg")).unwrap();
    judge("the picture", picture.replace('\n', "\r\n").as_bytes());
    // A journal that was changed.
    let runs = ground.world.folder().join("state/runs");
    for run in fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap().path()) {
        for journal in fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            let mut text = fs::read(&journal).unwrap();
            text.splice(0..1, b"{\"\x1b[2J\xff\":1,".iter().copied());
            fs::write(&journal, text).unwrap();
            for command in ["explain", "replay"] {
                ground.judged(&[command, journal.to_str().unwrap()]);
            }
        }
    }
}

#[test]
fn a_watched_run_is_drawn_as_text() {
    let ground = Ground::new();
    let label = all_but_controls();
    let job = format!(
        "name = \"watched\"\n[semaphore]\npath = \"/locks/watched\"\n[targets]\nhosts = [{{ name = \"a\", labels = {{ rack = {0} }} }}, \"b\"]\n\
         [policy]\nuse = \"rolling\"\n[action]\nenv = {{ NOISE = {1} }}\nrun = [\"sh\", \"-c\", \"until test -e {{job-dir}}/go; do sleep 0.05; done\"]\n",
        toml(&label),
        toml(&all().replace(['{', '}', '\0'], "")),
    );
    ground.world.file("job.toml", &job);
    let mut run = ground.command(["run", "job.toml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the first target acts", || {
        let status = said(&mut ground.command(["status", "watched", "--all", "--format", "json"]));
        status.stdout.contains("\"running\":1")
    });
    let mut watching = ground.command(["status", "watched", "--watch", "--all"]);
    let watcher = thread::spawn(move || shown(&mut watching));
    ground.judged(&["pause", "watched", "--reason", &label]);
    eventually("it has been drawn for a while", || {
        thread::sleep(Duration::from_secs(3));
        true
    });
    fs::write(ground.world.folder().join("go"), "").unwrap();
    ground.judged(&["resume", "watched"]);
    run.wait().unwrap();
    let drawn = watcher.join().unwrap();
    judge("status --watch", &drawn);
    let text = String::from_utf8_lossy(&drawn);
    assert!(text.contains("\u{1b}[") && text.contains("\\u{202e}"), "it is drawn over, and the reason shown: {text}");
}

#[test]
fn foreign_data_in_a_store_is_shown_as_text() {
    let ground = Ground::new();
    let (text, noise) = (all(), [all().as_bytes(), b"\xff\xfe\x9b2J"].concat());
    // As kazoo writes leases and members; names of nodes cannot hold controls.
    let name = "n\u{200b}\u{feff}\u{2060}\u{202e}m".replace(['\u{feff}', '\u{202e}'], "");
    let lease = "/locks/x/0123456789abcdef0123456789abcdef";
    let claims = json!({ "owner": { "kind": text }, "by": text }).to_string();
    let nodes = [
        ("/locks/x", b"2".to_vec()),
        (lease, text.clone().into_bytes()),
        ("/locks/x/1123456789abcdef0123456789abcdef", noise.clone()),
        ("/locks/y", noise.clone()),
        (&format!("/other/{name}"), claims.clone().into_bytes()),
        (&format!("/lockkeeper/runs/{name}"), claims.clone().into_bytes()),
        ("/lockkeeper/runs/loud", noise.clone()),
    ];
    let members = [
        ("/party/x/0123456789abcdef0123456789abcdef__party__", text.clone().into_bytes()),
        ("/party/x/1123456789abcdef0123456789abcdef__party__", noise.clone()),
    ];
    ground.with_nodes(&nodes, &members, || look_around(&ground));
}

/// What shows what is in a store.
fn look_around(ground: &Ground) {
    let members = ground.judged(&["party", "members", "/party/x"]);
    assert!(members.contains("\\u{1b}]0;title"), "the members are shown: {members}");
    for line in [
        vec!["holders", "/locks/x"],
        vec!["holders", "/locks/y"],
        vec!["semaphore", "list"],
        vec!["semaphore", "show", "/locks/x"],
        vec!["semaphore", "show", "/locks/y"],
        vec!["semaphore", "resize", "/locks/y", "3", "--reason", "why"],
        vec!["lock", "/locks/x", "--max-concurrency", "2", "--timeout", "0"],
        vec!["lock", "/locks/y", "--timeout", "0", "--", "true"],
        vec!["unlock", "/locks/x", "--identifier", "other"],
        vec!["unlock", "/locks/x", "--identifier", "other", "--force", "--reason", "r"],
        vec!["party", "members", "/other"],
        vec!["status"],
        vec!["status", "loud"],
        vec!["prune", "--dry-run"],
        vec!["pause", "loud"],
    ] {
        ground.judged(&line);
    }
}

#[test]
fn fence_file_values_are_shown_as_text() {
    let ground = Ground::new();
    let file = ground.world.folder().join("token\u{202e}\u{200b}");
    let file = file.to_str().unwrap();
    let (text, program) = (all().replace('\0', ""), "./pro\u{202e}\u{1b}[2Jgram");
    for line in [
        vec!["guard", "--fence-file", file, "--fence", "7", "--", program],
        vec!["guard", "--fence-file", file, "--fence", "6", "--", "true"],
        vec!["guard", "--fence-file", file, "--outcome", "1"],
        vec!["guard", "--fence-file", file, "--outcome", "1", "--fence", "7"],
    ] {
        let mut command = ground.command(&line);
        command.env("LOCKKEEPER_RUN", &text).env("LOCKKEEPER_TARGET", &text);
        judge(&format!("{line:?}"), &shown(&mut command));
    }
    fs::write(file, [text.as_bytes(), b"\xff\x9b"].concat()).unwrap();
    ground.judged(&["guard", "--fence-file", file, "--outcome", "1"]);
}

#[test]
fn output_of_build_tools_is_shown_as_text() {
    let ground = Ground::new();
    ground.world.file("Cargo.toml", &format!("[package]\nname = {}\n", toml(&all())));
    ground.judged(&["policy", "build"]);
    ground.world.file("Cargo.toml", &all());
    ground.judged(&["policy", "build"]);
}

#[test]
fn a_commands_own_output_passes_as_it_is() {
    let ground = Ground::new();
    let own = shown(&mut ground.command(["--quiet", "lock", "/locks/own", "--", "printf", "\\033[2J\\033[31m"]));
    assert_eq!(own, b"\x1b[2J\x1b[31m");
}
