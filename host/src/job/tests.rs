//! Whole jobs: what they come to, and everything that is said of those with mistakes.

use std::time::Duration;

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::*;
use lockkeeper_coordination::store::{Lifetime, NodePath};
use lockkeeper_locks::config::{Password, StoreSpec};
use lockkeeper_locks::toml_reader::{Problems, text_of};

const FULL: &str = include_str!("testdata/full.toml");
const OTHER: &str = include_str!("testdata/other.toml");

/// Each problem as one line, with its hint.
fn told(text: &str) -> Vec<String> {
    let problems = JobSpec::parse("job.toml", text).expect_err("it has problems");
    let told = problems.problems().iter().map(|problem| {
        let help = problem.help.as_deref().map(|help| format!(" [{help}]")).unwrap_or_default();
        format!("{}:{} {problem}{help}", problem.place.line, problem.place.column)
    });
    told.collect()
}

fn told_or_none(text: &str) -> Vec<String> {
    JobSpec::parse("job.toml", text).map_or_else(|_| told(text), |_| Vec::new())
}

/// As a terminal without colour shows it.
fn rendered(problems: &Problems) -> String {
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100);
    handler.render_report(&mut text, problems).unwrap();
    text
}

/// The full job with one text in the place of another that must be there.
fn with(old: &str, new: &str) -> String {
    assert!(FULL.contains(old), "{old}");
    FULL.replacen(old, new, 1)
}

#[test]
fn every_key_means_what_it_says() {
    let job = JobSpec::parse("job.toml", FULL).unwrap();
    assert_eq!(job.name.as_str(), "kernel-reboot");
    assert_eq!(
        job.semaphore,
        SemaphoreSpec {
            path: NodePath::parse("/locks/reboot").unwrap(),
            max_concurrency: Limit::Share(Share::parse("5%").unwrap()),
            timeout: Some(Duration::ZERO),
            lifetime: Lifetime::Ephemeral,
        }
    );
    assert_eq!(
        job.party,
        Some(PartySpec {
            path: NodePath::parse("/party/web").unwrap(),
            min_nodes: Limit::Share(Share::parse("85%").unwrap()),
            blocking: true,
            timeout: Some(Duration::from_secs(30 * 60)),
            member: MemberTemplate::target(),
            counts: DEFAULT_PARTY_COUNTS,
        })
    );
    let TargetSource::Hosts(hosts) = &job.targets.source else { panic!("{:?}", job.targets) };
    assert_eq!(hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["web02", "web01"]);
    assert_eq!(hosts[1].label("rack").unwrap(), "a");
    assert_eq!(job.targets.order, Order::Shuffle { seed: 7 });
    assert_eq!(
        job.policy,
        PolicySpec {
            source: PolicySource::Standard(String::from("rolling")),
            grants: Grants::NONE.with(Grant::Lock).with(Grant::Force),
            on_fault: OnFault::Abort,
            settings: serde_json::json!({
                "floor": 8,
                "ratio": 0.5,
                "window": { "start": "01:00:00", "days": ["Tue", "Thu"] },
                "rules": [{ "name": "first" }, { "name": "second" }],
            }),
        }
    );
    assert_eq!(job.action.run.arguments().len(), 6);
    assert_eq!(job.action.timeout, Some(Duration::from_secs(300)));
    assert_eq!(job.action.kill_after, Duration::from_secs(20));
    assert_eq!(job.action.probe.map(|probe| probe.arguments().len()), Some(5));
    assert_eq!(job.action.attempts.get(), 2);
    assert_eq!((job.action.back_off, job.action.on_unknown), (Duration::from_secs(30), OnUnknown::Retry));
    assert_eq!(
        job.action.roll_back.map(|roll_back| roll_back.arguments()[3].to_string()),
        Some("app@{wave}".to_owned())
    );
    let env: Vec<_> = job.action.env.iter().map(|(name, value)| (name.as_str(), value.to_string())).collect();
    assert_eq!(env, [("APP_HOST", "{target}".to_owned()), ("APP_RACK", "rack {job}".to_owned())]);
    assert_eq!(
        job.action.ssh,
        Some(SshSpec {
            user: Some("deploy".to_owned()),
            port: Some(2222),
            connect_timeout: Duration::from_secs(20),
            identity_file: Some("~/.ssh/deploy".into()),
            config: Some("ssh_config".into()),
            options: vec!["StrictHostKeyChecking=accept-new".to_owned(), "Compression yes".to_owned()],
        })
    );
    let below = job.action.ssh.unwrap().below("/jobs".as_ref());
    assert_eq!((below.identity_file, below.config), (Some("~/.ssh/deploy".into()), Some("/jobs/ssh_config".into())));
    let wave = |name: &str| WaveSpec {
        name: name.to_owned(),
        size: None,
        max_concurrency: None,
        stop_at: None,
        bake: Duration::ZERO,
        approve: false,
    };
    let canary = WaveSpec {
        size: Some(Limit::Count(1)),
        max_concurrency: Some(Limit::Share(Share::parse("50%").unwrap())),
        bake: Duration::from_secs(30 * 60),
        ..wave("canary")
    };
    let share = |text| Limit::Share(Share::parse(text).unwrap());
    let stop_at = Some(StopAt::Failures(share("10%")));
    assert_eq!(job.waves, [canary, WaveSpec { approve: true, stop_at, ..wave("rest") }]);
    let path = |text| NodePath::parse(text).unwrap();
    assert_eq!(job.observe, [ObserveSpec::Semaphore(path("/locks/deploy")), ObserveSpec::Party(path("/party/db"))]);
    let orchestration = job.orchestration.unwrap();
    assert_eq!(
        (orchestration.path, orchestration.sha256.map(|sha256| sha256.len())),
        ("failover.wasm".into(), Some(64))
    );
    let slots = |count| std::num::NonZeroU32::new(count).unwrap();
    assert_eq!(orchestration.semaphores, [(path("/locks/failover"), slots(1)), (path("/locks/drain"), slots(3))]);
    assert_eq!((orchestration.parties, orchestration.may_force), (vec![path("/party/db")], true));
    assert_eq!(orchestration.timeout, Some(Duration::from_secs(60 * 60)));
    assert_eq!(orchestration.settings, serde_json::json!({ "members": 2 }));
    let budget = BudgetSpec {
        stop_at: Some(StopAt::Failures(share("1%"))),
        max_failed: Some(share("2%")),
        on_exhausted: OnExhausted::Abort,
    };
    assert_eq!(job.budget, Some(budget));
    let store = job.store.unwrap();
    assert_eq!(store.hosts.unwrap().to_string(), "zk1:2181,zk2:2182/fleet");
    assert_eq!((store.profile.as_deref(), store.scheme.as_deref()), (Some("prod"), Some("digest")));
    assert_eq!((store.username.as_deref(), store.password), (Some("ops"), Some(Password::File("password".into()))));
    assert_eq!(store.acl.unwrap().to_string(), "world:anyone:r,auth::cdrwa");
    let times = (store.session_timeout, store.connect_timeout);
    assert_eq!(times, (Some(Duration::from_secs(30)), Some(Duration::from_secs(5))));
    let tls = (store.tls_ca.unwrap(), store.tls_cert.unwrap(), store.tls_key.unwrap());
    assert_eq!(tls, ("ca.pem".into(), "cert.pem".into(), "key.pem".into()));
    assert_eq!(job.source.text(), FULL);
}

#[test]
fn what_is_left_out_has_its_default() {
    let job = JobSpec::parse("job.toml", OTHER).unwrap();
    assert_eq!(job.semaphore.max_concurrency, DEFAULT_MAX_CONCURRENCY);
    assert_eq!((job.semaphore.timeout, job.semaphore.lifetime), (None, DEFAULT_LIFETIME));
    assert_eq!((job.party, job.budget), (None, None));
    assert_eq!((job.targets.order, job.targets.allow_empty), (DEFAULT_ORDER, DEFAULT_ALLOW_EMPTY));
    assert_eq!((job.policy.grants, job.policy.on_fault), (DEFAULT_GRANTS, DEFAULT_ON_FAULT));
    assert_eq!(job.policy.settings, serde_json::json!({}));
    assert_eq!((job.action.timeout, job.action.kill_after), (None, DEFAULT_KILL_AFTER));
    assert_eq!((job.action.probe, job.action.attempts), (None, DEFAULT_ATTEMPTS));
    assert_eq!((job.action.roll_back, job.action.back_off), (None, DEFAULT_BACK_OFF));
    assert_eq!((job.action.on_unknown, job.action.ssh), (DEFAULT_ON_UNKNOWN, None));
    assert!(job.action.env.is_empty() && job.waves.is_empty() && job.observe.is_empty());
    let digest = Some(String::from("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    assert_eq!(job.policy.source, PolicySource::File { path: "my_policy.wasm".into(), sha256: digest });
}

#[test]
fn the_digest_is_of_the_text() {
    // As `sha256sum` prints it for the same bytes.
    let digest = |text: &str| JobSpec::parse("job.toml", text).unwrap().digest;
    assert_eq!(digest(OTHER), "59b08e8982e249311a99cdff315c136f026dba57e1e14c0e75605f91e1e3e1f3");
    assert_ne!(digest(OTHER), digest(&format!("{OTHER}\n")));
}

#[test]
fn salts_spellings_mean_the_same() {
    let mut snake = FULL.to_owned();
    for key in [
        "max-concurrency",
        "ephemeral-lease",
        "min-nodes",
        "on-fault",
        "kill-after",
        "back-off",
        "roll-back",
        "on-unknown",
        "connect-timeout = \"20s\"",
        "identity-file",
        "max-failed",
        "on-exhausted",
        "stop-at",
    ] {
        assert!(snake.contains(key));
        snake = snake.replace(key, &key.replace('-', "_"));
    }
    let (kebab, snake) = (JobSpec::parse("job.toml", FULL).unwrap(), JobSpec::parse("job.toml", &snake).unwrap());
    assert_eq!(kebab.semaphore, snake.semaphore);
    assert_eq!(kebab.party, snake.party);
    assert_eq!(kebab.policy, snake.policy);
    assert_eq!(kebab.action, snake.action);
    assert_eq!(kebab.budget, snake.budget);
    assert_eq!(kebab.waves, snake.waves);
}

#[test]
fn both_spellings_at_once_are_one_too_many() {
    assert_eq!(
        told(&with("max-concurrency = \"5%\"", "max-concurrency = 4\nmax_concurrency = 5")),
        ["6:1 semaphore.max_concurrency: written twice: `max-concurrency` is the same as `max_concurrency` \
          [keep one of the two]"]
    );
}

#[test]
fn a_job_with_many_mistakes_tells_them_all_at_once() {
    let problems = JobSpec::parse("jobs/reboot.toml", include_str!("testdata/mistakes.toml")).unwrap_err();
    insta::assert_snapshot!(rendered(&problems));
}

#[test]
fn a_job_that_is_not_toml_tells_every_place() {
    let problems = JobSpec::parse("jobs/torn.toml", include_str!("testdata/torn.toml")).unwrap_err();
    insta::assert_snapshot!(rendered(&problems));
}

#[test]
fn the_machine_form_has_every_field() {
    let problems = JobSpec::parse("job.toml", &with("path = \"/locks/reboot\"", "path = \"/a/../b\"")).unwrap_err();
    assert_eq!(
        serde_json::to_value(problems.problems()).unwrap(),
        serde_json::json!([{
            "severity": "error",
            "file": "job.toml",
            "line": 4,
            "column": 8,
            "key": "semaphore.path",
            "message": "path `/a/../b` has a part `..`: a store knows no relative paths",
            "hint": "a path looks like `\"/locks/reboot\"`",
        }])
    );
}

#[test]
fn an_empty_job_misses_what_a_job_needs() {
    insta::assert_snapshot!(told("").join("\n"));
}

/// The full job with another `[store]`.
fn with_store(store: &str) -> String {
    let (before, rest) = FULL.split_once("[store]\n").unwrap();
    let (_, behind) = rest.split_once("[action]\n").unwrap();
    format!("{before}[store]\n{store}\n[action]\n{behind}")
}

#[test]
fn what_is_wrong_with_the_store_is_told() {
    let cases = [
        "",
        "zk-hosts = [\"zk1\"]",
        "zk-hosts = \"me:secret@zk1\"",
        "hosts = \"zk1\"",
        "path = \"store.db\"",
        "zk-hosts = \"zk1\"\nusername = \"ops\"\npassword = \"secret\"",
        "zk-hosts = \"zk1\"\nscheme = \"digest\"",
        "zk-hosts = \"zk1\"\ntls-key = \"key.pem\"",
        "zk-hosts = \"zk1\"\nsession-timeout = \"2h\"",
        "zk-hosts = \"zk1\"\ndefault-acl = \"digest:ops:secret:r\"",
        "zk-hosts = \"zk1\"\ndefault-acl = { username = \"ops\", password = \"secret\", read = true }",
        "profile = \"\"",
    ];
    let told: Vec<_> = cases.iter().map(|case| format!("{case}\n  {}", told(&with_store(case)).join("\n  "))).collect();
    insta::assert_snapshot!(told.join("\n"));
    for case in cases.iter().filter(|case| case.contains("secret")) {
        let shown = rendered(&JobSpec::parse("job.toml", &with_store(case)).unwrap_err());
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn a_store_may_be_all_in_a_profile() {
    let store = JobSpec::parse("job.toml", &with_store("profile = \"prod\"")).unwrap().store.unwrap();
    assert_eq!(store, StoreSpec { profile: Some("prod".to_owned()), ..StoreSpec::default() });
}

#[test]
fn a_freeze_lasts_to_the_end_of_its_last_day() {
    let job = JobSpec::parse("job.toml", FULL).unwrap();
    let freeze = &job.calendar.freezes[0];
    assert_eq!(freeze.from, "2026-12-19T23:00:00Z".parse().unwrap());
    assert_eq!(freeze.until, "2027-01-03T23:00:00Z".parse().unwrap());
    assert_eq!(freeze.reason.as_deref(), Some("nobody is here"));
    assert_eq!(job.calendar.windows[0].fit, super::Fit::Finish);
}

/// Clocks go back from 03:00 to 02:00 that night: 02:30 comes twice.
#[test]
fn a_freeze_lasts_through_both_of_a_doubled_hour() {
    let frozen = |from: &str, until: &str| {
        let text = FULL.split("[[freeze]]").next().unwrap();
        let freeze = format!("[[freeze]]\nfrom = \"{from}\"\nuntil = \"{until}\"\ntime-zone = \"Europe/Berlin\"\n");
        let job = JobSpec::parse("job.toml", &format!("{text}{freeze}")).unwrap();
        let freeze = &job.calendar.freezes[0];
        (freeze.from.to_string(), freeze.until.to_string())
    };
    let both = |from: &str, until: &str| (from.to_owned(), until.to_owned());
    assert_eq!(frozen("2026-10-24", "2026-10-25 02:30"), both("2026-10-23T22:00:00Z", "2026-10-25T01:30:00Z"));
    assert_eq!(frozen("2026-10-25 02:30", "2026-10-25"), both("2026-10-25T00:30:00Z", "2026-10-25T23:00:00Z"));
    assert_eq!(frozen("2026-10-25 02:30", "2026-10-25 02:30"), both("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"));
}

#[test]
fn what_comes_later_and_what_belongs_elsewhere_is_refused_by_name() {
    let text = FULL.replace("kill-after", "cwd = \"/\"\nshell = true\nkill-after");
    let text = text.replace("use = \"rolling\"", "use = \"rolling\"\nobserve = []\napprove = true");
    let text = format!("on-unknown = \"hold\"\napprove = true\nnotify = 1\nroll-back = [\"true\"]\n{text}");
    insta::assert_snapshot!(told(&text).join("\n"));
}

/// The full job with other waves.
fn with_waves(waves: &str) -> String {
    let (before, rest) = FULL.split_once("[[wave]]\n").unwrap();
    let (_, behind) = rest.split_once("[[observe]]\n").unwrap();
    format!("{before}{waves}\n[[observe]]\n{behind}")
}

/// That many waves of these sizes, without a name for any size that is empty.
fn sizes(sizes: &[&str]) -> String {
    let wave = |(index, size): (usize, &&str)| match *size {
        "" => format!("[[wave]]\nname = \"w{index}\"\n"),
        size => format!("[[wave]]\nname = \"w{index}\"\nsize = {size}\n"),
    };
    sizes.iter().enumerate().map(wave).collect()
}

#[test]
fn a_mistake_in_the_waves_is_told() {
    let cases = [
        sizes(&["", ""]),
        sizes(&["0", ""]),
        sizes(&["\"0%\"", ""]),
        sizes(&["1"]),
        sizes(&["\"50%\""]),
        "[[wave]]\nname = \"a b\"\nsize = true\n[[wave]]\n".to_owned(),
        "[[wave]]\nname = \"a\"\nsize = 1\n[[wave]]\nname = \"a\"\n".to_owned(),
        "[[wave]]\nname = \"a\"\nmax_concurrency = 0\nbake = \"5m\"\napprove = \"yes\"\n".to_owned(),
        "[[wave]]\nname = \"a\"\nsiez = 1\n[[wave]]\nname = \"b\"\ntargets = []\nwait = \"1m\"\n".to_owned(),
        "[wave]\nname = \"a\"\n".to_owned(),
    ];
    let told = cases.iter().map(|case| format!("{case}    {}\n", told(&with_waves(case)).join("\n    ")));
    insta::assert_snapshot!(told.collect::<String>());
}

#[test]
fn waves_that_take_every_target_need_no_rest() {
    for waves in [&["1", "1"][..], &["2"], &["5"], &["\"100%\""], &["\"50%\"", "\"50%\""], &["1", "\"33.33%\""], &[""]]
    {
        let job = JobSpec::parse("job.toml", &with_waves(&sizes(waves))).unwrap();
        assert_eq!(job.waves.len(), waves.len());
    }
}

#[test]
fn waves_that_leave_targets_out_are_found_when_the_targets_are_known() {
    let text = |waves: &[&str]| format!("{}\n{}", OTHER.replace("{label.rack}", "x"), sizes(waves));
    let targets: Vec<_> =
        (0..10).map(|number| Target::unlabelled(TargetName::parse(&format!("web{number}")).unwrap())).collect();
    let problems = |waves: &[&str], targets: &[Target]| {
        let job = JobSpec::parse("job.toml", &text(waves)).unwrap();
        let problems = job.problems_with_targets(targets);
        problems.iter().map(|problem| format!("{} {problem}", problem.place)).collect::<Vec<_>>()
    };
    // Three shares, each rounded down, leave one of ten out.
    assert_eq!(
        problems(&["\"33%\"", "\"33%\"", "\"34%\""], &targets),
        ["job.toml:24:8 wave[2].size: the waves take 9 of 10 targets: 1 is left out"]
    );
    assert_eq!(problems(&["4", "4"], &targets)[0].split(": ").last(), Some("2 are left out"));
    assert!(problems(&["4", ""], &targets).is_empty());
    assert!(problems(&["4", "6"], &targets).is_empty());
    assert!(problems(&["4", "4"], &targets[..8]).is_empty());
    // Of shares it can be told at once.
    let told = told(&text(&["\"50%\"", "\"25%\""]));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("wave[1].size: the shares of the waves do not add up to all targets"), "{told:?}");
}

/// One mistake each: what stands there, what is written instead, and what is said.
#[test]
fn a_mistake_is_told_with_its_place_and_a_hint() {
    let cases = [
        ("name = \"kernel-reboot\"", "name = \"kernel reboot\""),
        ("days = [\"Tue\", \"Thu\"]\nstart = \"01:00\"", "days = [\"Tuesday\", 3]\nstart = \"1am\""),
        ("days = [\"Tue\", \"Thu\"]\nstart = \"01:00\"", "days = []\nstart = 25:00"),
        ("duration = \"4h\"\ntime-zone = \"Europe/Berlin\"", "duration = \"8 days\"\ntime-zone = \"Berlin\""),
        ("duration = \"4h\"\ntime-zone = \"Europe/Berlin\"", "duration = \"1s\"\nend = \"05:00\""),
        ("from = \"2026-12-20\"", "from = \"2027-01-04\""),
        ("from = \"2026-12-20\"", "from = \"20.12.2026\""),
        ("name = \"kernel-reboot\"", "name = 3"),
        ("name = \"kernel-reboot\"", "semafore = 3\nname = \"a\""),
        ("name = \"kernel-reboot\"", "name = \"a\"\nmax-concurrency = 3"),
        ("name = \"kernel-reboot\"", "name = \"a\"\nforce = true"),
        ("timeout = \"0s\"", "timeout = 30"),
        ("timeout = \"0s\"", "timeout = \"30\""),
        ("timeout = \"0s\"", "timeout = \"20y\""),
        ("timeout = \"0s\"", "timeout = 1.5"),
        ("timeout = \"0s\"", "identifier = \"me\""),
        ("timeout = \"0s\"", "force = true"),
        ("max-concurrency = \"5%\"", "max-concurrency = 0"),
        ("max-concurrency = \"5%\"", "max-concurrency = \"0%\""),
        ("max-concurrency = \"5%\"", "max-concurrency = \"101%\""),
        ("max-concurrency = \"5%\"", "max-concurrency = -1"),
        ("max-concurrency = \"5%\"", "max-concurrency = 99999999999"),
        ("max-concurrency = \"5%\"", "max-concurrency = \"4\""),
        ("max-concurrency = \"5%\"", "max-concurency = 4"),
        ("blocking = true", "member = \"{target}-{attempt}\""),
        ("blocking = true", "member = \"web01\""),
        ("blocking = true", "member = \"{label.rack}\""),
        ("blocking = true", "member = \"{tarket}\""),
        ("blocking = true", "counts = \"other\""),
        ("blocking = true", "blocking = \"yes\""),
        ("min-nodes = \"85%\"", ""),
        ("min-nodes = \"85%\"", "min-members = 3"),
        ("hosts = [", "host = ["),
        ("order = \"shuffle\"", "order = \"random\""),
        ("order = \"shuffle\"", "order = \"name\""),
        ("order = \"shuffle\"", ""),
        ("seed = 7", ""),
        ("seed = 7", "seed = -7"),
        ("order = \"shuffle\"", "order = \"shuffle\"\nparty = \"/p\"\ninventory = \"x.toml\""),
        ("    \"web02\",", "    \"web01\","),
        ("    \"web02\",", "    \"web/02\",\n    \"\", 7,"),
        ("rack = \"a\"", "rack = 1, \"a b\" = \"c\", x.y = \"z\""),
        ("use = \"rolling\"", ""),
        ("use = \"rolling\"", "use = \"rolling\"\npath = \"x.wasm\""),
        ("use = \"rolling\"", "use = \"x.wasm\""),
        ("use = \"rolling\"", "use = \"rolling\"\nsha256 = \"abc\""),
        ("[\"lock\", \"force\"]", "[\"lock\", \"wait\", \"forse\"]"),
        ("[\"lock\", \"force\"]", "[]"),
        ("on-fault = \"abort\"", "on-fault = \"go\""),
        ("ratio = 0.5", "ratio = nan\nhuge = 99999999999999999999"),
        ("kill-after = \"20s\"", "kill-after = \"0s\""),
        ("attempts = 2", "attempts = 0"),
        ("attempts = 2", ""),
        ("back-off = \"30s\"", "back_off = \"0s\""),
        (
            "roll-back = [\"sudo\", \"systemctl\", \"restart\", \"app@{wave}\"]",
            "roll-back = [\"\", \"{label.zone}\", \"{wafe}\"]",
        ),
        ("roll-back = [\"sudo\", \"systemctl\", \"restart\", \"app@{wave}\"]", "rollback = []"),
        ("on-unknown = \"retry\"", "on-unknown = \"ignore\""),
        (
            "APP_HOST = \"{target}\"",
            "\"A B\" = \"\", \"1A\" = \"\", LOCKKEEPER_X = \"\", OK = 3, L = \"{label.zone}\", T = \"{\"",
        ),
        ("env = { APP_HOST = \"{target}\", APP_RACK = \"rack {job}\" }", "env = [\"A=b\"]"),
        ("user = \"deploy\"", "user = \"-oProxyCommand=x\""),
        ("user = \"deploy\"", "user = \"a b\"\npasword = 3\nhost = \"x\""),
        ("port = 2222", "port = 0"),
        ("port = 2222", "port = 65536"),
        ("connect-timeout = \"20s\"", "connect-timeout = \"1ms\""),
        ("\"Compression yes\"", "\"Compression\", \"\", 3, \"A B\\nC D\", \"-o=x\""),
        ("\"Compression yes\"", "\"controlmaster=no\", \"Port=3\", \"batchmode no\""),
        ("[action.ssh]\nuser = \"deploy\"", "[action.unused]"),
        ("[action.ssh]\nuser = \"deploy\"", "ssh = \"yes\"\n[store]"),
        ("semaphore = \"/locks/deploy\"", "semaphore = \"/locks/reboot\""),
        ("semaphore = \"/locks/deploy\"", "party = \"/party/db\""),
        ("semaphore = \"/locks/deploy\"", "party = \"/party/web\"\nsemaphore = \"/a\""),
        ("semaphore = \"/locks/deploy\"", ""),
        ("semaphore = \"/locks/deploy\"", "path = \"/locks/deploy\""),
        ("on-exhausted = \"abort\"", "on-exhausted = \"stop\""),
        ("run = [\"ssh\", \"{target}\",", "run = [\"ssh\", \"{label.zone}\", \"{tarket}\", \"{\", \"\\u0000\","),
        ("run = [\"ssh\", \"{target}\", \"sudo\", \"systemctl\", \"restart\", \"app\"]", "run = \"reboot\""),
        ("run = [\"ssh\", \"{target}\", \"sudo\", \"systemctl\", \"restart\", \"app\"]", "run = []"),
        ("run = [\"ssh\",", "run = [\"\","),
        ("max-failed = \"2%\"", "max-failed = \"2.123%\""),
        ("max-failed = \"2%\"", "max-failed = true"),
        ("stop-at = \"1%\"", "stop-at = \"never\""),
        ("stop-at = \"1%\"", "stop-at = 0"),
        ("stop-at = \"1%\"", "stop-at = \"0%\""),
        ("stop-at = \"1%\"", "stop-at = -1"),
        ("stop-at = \"1%\"", "stop-at = \"2\""),
        ("stop-at = \"1%\"", "stop-at = \"2.01%\""),
        ("stop-at = \"1%\"", "stop-at = \"unlimited\""),
        ("stop-at = \"10%\"", "stop-at = false"),
        ("stop-at = \"10%\"", "stop-at = \"0.00%\""),
        ("[budget]", "[buget]"),
        ("[budget]", "[semaphore]"),
        ("[policy.settings]", "[policy.setings]"),
    ];
    let mut all = String::new();
    for (old, new) in cases {
        all += &format!("{}\n", new.replace('\n', " ⏎ "));
        for line in told(&with(old, new)) {
            all += &format!("    {line}\n");
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_is_undone_must_be_said() {
    let undo = "roll-back = [\"sudo\", \"systemctl\", \"restart\", \"app@{wave}\"]\n";
    for (word, meant) in
        [("pause", OnExhausted::Pause), ("roll-back", OnExhausted::RollBack), ("roll_back", OnExhausted::RollBack)]
    {
        let text = with("on-exhausted = \"abort\"", &format!("on-exhausted = \"{word}\""));
        assert_eq!(JobSpec::parse("job.toml", &text).unwrap().budget.unwrap().on_exhausted, meant);
        let without = told_or_none(&text.replace(undo, ""));
        match meant {
            OnExhausted::RollBack => assert_eq!(
                without,
                ["67:16 budget.on-exhausted: the job does not say how its action is undone \
                  [give the command as `roll-back` in `[action]`]"]
            ),
            _ => assert!(without.is_empty(), "{without:?}"),
        }
    }
}

#[test]
fn ssh_may_be_on_or_off() {
    let [on, off] = ["true", "false"].map(|word| format!("{OTHER}ssh = {word}\n"));
    assert_eq!(JobSpec::parse("job.toml", &on).unwrap().action.ssh, Some(SshSpec::default()));
    assert_eq!(JobSpec::parse("job.toml", &off).unwrap().action.ssh, None);
}

#[test]
fn a_party_may_call_targets_otherwise_and_count_others() {
    let text = with("blocking = true", "blocking = false\nmember = \"{target}.example.com\"\ncounts = \"others\"");
    let party = JobSpec::parse("job.toml", &text).unwrap().party.unwrap();
    assert_eq!(party.member.member_named("web01").as_deref(), Some("web01.example.com"));
    // After the start the time-out counts: it goes together with `blocking = false`.
    assert_eq!((party.counts, party.blocking, party.timeout.is_some()), (PartyCounts::Others, false, true));
}

#[test]
fn a_members_label_is_held_against_targets_that_are_listed_elsewhere() {
    let party = "[party]\npath = \"/p\"\nmin-nodes = 1\nmember = \"{label.host}\"\n";
    let job = JobSpec::parse("job.toml", &format!("{}{party}", OTHER.replace("--rack={label.rack}", "x"))).unwrap();
    let targets = parse_inventory("web.toml", "hosts = [\"a\", { name = \"c\", labels = { host = \"1\" } }]").unwrap();
    let problems = job.problems_with_targets(&targets);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].to_string(), "party.member: target `a` has no label `host`");
    assert!(job.problems_with_targets(&targets[1..]).is_empty());
}

#[test]
fn a_budget_and_a_floor_may_be_none() {
    let text = with("max-failed = \"2%\"", "max-failed = 0").replace("min-nodes = \"85%\"", "min-nodes = 0");
    let text = text.replace("stop-at = \"1%\"\n", "");
    let job = JobSpec::parse("job.toml", &text).unwrap();
    let budget = job.budget.unwrap();
    assert_eq!((budget.stop_at, budget.max_failed), (None, Some(Limit::Count(0))));
    assert_eq!(job.party.unwrap().min_nodes, Limit::Count(0));
}

#[test]
fn what_the_budget_leaves_out_stops_the_run_at_the_first_failure() {
    let first = BudgetSpec {
        stop_at: Some(StopAt::Failures(Limit::Count(1))),
        max_failed: None,
        on_exhausted: OnExhausted::Abort,
    };
    let without = JobSpec::parse("job.toml", OTHER).unwrap();
    assert_eq!((without.budget, without.budget()), (None, first));
    let with_budget =
        |keys: &str| JobSpec::parse("job.toml", &format!("{OTHER}[budget]\n{keys}")).unwrap().budget.unwrap();
    assert_eq!(with_budget(""), first);
    assert_eq!(with_budget("on-exhausted = \"pause\""), BudgetSpec { on_exhausted: OnExhausted::Pause, ..first });
    assert_eq!(with_budget("stop-at = \"unlimited\"").stop_at, Some(StopAt::Unlimited));
    assert_eq!(with_budget("stop-at = \" 1.5% \"").stop_at.unwrap().of(400), Some(6));
    let alone = with_budget("max-failed = 3");
    assert_eq!((alone.stop_at, alone.max_failed), (None, Some(Limit::Count(3))));
}

#[test]
fn a_count_and_a_share_are_compared_once_the_targets_are_known() {
    let other = OTHER.replace("--rack={label.rack}", "");
    let hosts = |total: usize| (0..total).map(|number| format!("\"web{number}\"")).collect::<Vec<_>>().join(", ");
    let text = |total| {
        other.replace("inventory = \"web.toml\"", &format!("hosts = [{}]", hosts(total)))
            + "[budget]\nmax-failed = \"10%\"\nstop-at = 3\n"
    };
    assert!(JobSpec::parse("job.toml", &text(30)).is_ok());
    let told = told(&text(29));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("budget.max-failed: `max-failed` is 10% (2 of 29 targets), less than `stop-at`, which is 3"),
        "{told:?}"
    );
    // Those that are listed elsewhere are compared by whoever lists them.
    let elsewhere =
        JobSpec::parse("job.toml", &format!("{other}[budget]\nmax-failed = \"10%\"\nstop-at = 3\n")).unwrap();
    let targets = |total: usize| -> Vec<_> {
        (0..total).map(|number| Target::unlabelled(TargetName::parse(&format!("web{number}")).unwrap())).collect()
    };
    assert!(elsewhere.problems_with_targets(&targets(30)).is_empty());
    assert_eq!(elsewhere.problems_with_targets(&targets(29)).len(), 1);
}

#[test]
fn a_max_failed_below_the_slots_is_warned_of() {
    let text = |slots: &str, budget: &str| {
        OTHER.replace("[targets]", &format!("max-concurrency = {slots}\n[targets]")) + "[budget]\n" + budget
    };
    let warned = |slots, budget, total| {
        let job = JobSpec::parse("job.toml", &text(slots, budget)).unwrap();
        job.warnings(total).into_iter().map(|problem| problem.help.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(warned("20", "max-failed = 3", None).len(), 1);
    assert!(warned("20", "stop-at = 3", None).is_empty());
    assert!(warned("20", "max-failed = 23\nstop-at = 3", None).is_empty());
    assert_eq!(warned("\"5%\"", "max-failed = \"2%\"", Some(4000)).len(), 1);
    assert!(JobSpec::parse("job.toml", OTHER).unwrap().warnings(Some(4000)).is_empty());
}

#[test]
fn columns_count_characters() {
    let problems = JobSpec::parse("job.toml", &with("rack = \"a\"", "rack = \"éé\", zone = 1")).unwrap_err();
    let place = &problems.problems()[0].place;
    assert_eq!((place.line, place.column), (18, 54));
    assert!(rendered(&problems).contains("[job.toml:18:54]"), "{}", rendered(&problems));
}

#[test]
fn a_policys_complaint_points_into_the_settings() {
    let job = JobSpec::parse("job.toml", FULL).unwrap();
    let place = |path: &str| {
        let place = job.problem_at(path, "wrong", None).place;
        FULL.lines().nth(place.line - 1).unwrap().chars().skip(place.column - 1).collect::<String>()
    };
    assert_eq!(place("floor"), "8");
    assert_eq!(place("window.start"), "01:00:00, days = [\"Tue\", \"Thu\"] }");
    assert_eq!(place("window.days[1]"), "\"Thu\"] }");
    assert_eq!(place("rules[1].name"), "\"second\" }]");
    assert_eq!(place("rules.1.name"), "\"second\" }]");
    assert_eq!(place("rules[1].missing"), "{ name = \"second\" }]");
    assert_eq!(place("window.missing.deeper"), "{ start = 01:00:00, days = [\"Tue\", \"Thu\"] }");
    assert_eq!(place("missing"), "[policy.settings]");
    assert_eq!(place(""), "[policy.settings]");
    let without = JobSpec::parse("job.toml", OTHER).unwrap();
    let problem = without.problem_at("floor", "must be there", Some(String::from("`floor = 8`"))).into_warning();
    insta::assert_snapshot!(rendered(&without.problems(vec![problem])));
}

#[test]
fn a_key_has_its_place_and_one_that_was_left_out_its_tables() {
    let job = JobSpec::parse("job.toml", FULL).unwrap();
    assert_eq!(job.place_of("party.min-nodes").to_string(), "job.toml:11:13");
    assert_eq!(job.place_of("targets.hosts[1].name").to_string(), "job.toml:18:14");
    assert_eq!(job.place_of("targets.inventory").to_string(), "job.toml:15:1");
    assert_eq!(job.place_of("nowhere.at.all").to_string(), "job.toml:1:1");
}

#[test]
fn targets_listed_elsewhere_are_held_against_the_commands() {
    let job = JobSpec::parse("job.toml", OTHER).unwrap();
    let targets =
        parse_inventory("web.toml", "hosts = [\"a\", \"b\", { name = \"c\", labels = { rack = \"1\" } }]").unwrap();
    let problems = job.problems_with_targets(&targets);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].to_string(), "action.run[1]: target `a` and 1 more have no label `rack`");
    assert_eq!(problems[0].place.to_string(), "job.toml:14:30");
    assert!(job.problems_with_targets(&targets[2..]).is_empty());
}

/// Somebody who misses a setting, dislikes another, and knows an inventory.
struct Critic;

impl Look for Critic {
    fn policy(&mut self, _: &PolicySpec) -> Vec<Complaint> {
        let complaint = |path: &str| Complaint {
            about: PolicyPlace::Setting(path.to_owned()),
            message: format!("bad {path:?}"),
            help: None,
        };
        vec![complaint(""), complaint("window"), complaint("floor")]
    }

    fn inventory(&mut self, path: &std::path::Path) -> Listed {
        parse_inventory(&path.display().to_string(), "hosts = [\"a\", \"a\"]")
            .map_or_else(Listed::Wrong, Listed::Targets)
    }
}

fn told_with_a_critic(text: &str) -> Vec<String> {
    let problems = JobSpec::parse_and_look("job.toml", text, &mut Critic).unwrap_err();
    problems.problems().iter().map(|problem| format!("{} {problem}", problem.place)).collect()
}

#[test]
fn complaints_about_settings_come_with_all_others() {
    let text = with("attempts = 2", "attempts = 0");
    let expected = [
        "job.toml:28:1 policy.settings: bad \"\"",
        "job.toml:29:9 policy.settings.floor: bad \"floor\"",
        "job.toml:31:10 policy.settings.window: bad \"window\"",
    ];
    let told = told_with_a_critic(&text);
    assert_eq!(told[..3], expected);
    assert_eq!(told.len(), 4, "{told:?}");
}

#[test]
fn settings_that_were_not_read_to_their_end_are_not_blamed_for_what_is_missing() {
    let unreadable = told_with_a_critic(&with("ratio = 0.5", "ratio = nan"));
    assert!(unreadable.iter().all(|line| !line.contains("bad")), "{unreadable:?}");
    let recovering = told_with_a_critic(&with("ratio = 0.5", "ratio = "));
    assert_eq!(recovering.iter().filter(|line| line.contains("bad \"floor\"")).count(), 1, "{recovering:?}");
    assert_eq!(recovering.iter().filter(|line| line.contains("bad")).count(), 1, "{recovering:?}");
}

#[test]
fn an_inventorys_problems_stand_behind_the_jobs_own() {
    let text = OTHER.replacen("name = ", "name = 3 #", 1);
    let problems = JobSpec::parse_and_look("job.toml", &text, &mut Critic).unwrap_err();
    let last = problems.problems().last().unwrap();
    assert_eq!(last.place.to_string(), "web.toml:1:15");
    assert!(problems.to_string().ends_with(", 1 of them in `web.toml`"), "{problems}");
}

#[test]
fn bytes_that_are_no_text_have_a_place() {
    let problems = text_of("job", "job.toml", b"a = 1\nb = \"\xc3\xa9\xff\"").unwrap_err();
    assert_eq!(problems.problems()[0].place.to_string(), "job.toml:2:7");
    assert_eq!(problems.problems()[0].message, "the byte 0xff is no UTF-8");
    assert!(rendered(&problems).contains("job.toml:2:7"));
}

#[test]
fn a_mistake_is_told_once() {
    let problems = JobSpec::parse("job.toml", include_str!("testdata/mistakes.toml")).unwrap_err();
    assert_eq!(problems.problems().len(), 13, "{}", rendered(&problems));
}

#[test]
fn only_so_many_problems_are_kept() {
    let hosts: String = (0..1000).map(|_| "\"-\", ").collect();
    let problems = JobSpec::parse("job.toml", &with("    \"web02\",", &hosts)).unwrap_err();
    assert_eq!((problems.problems().len(), problems.left_out()), (Problems::MAX, 1000 - Problems::MAX));
    assert_eq!(problems.to_string(), "job `job.toml` has 1000 problems, of which these are the first 100");
}

/// Whatever the text, there is a job, or problems that each name a place inside it and can be shown.
fn check_any(text: &str) {
    let Err(problems) = JobSpec::parse("job.toml", text) else { return };
    assert!(!problems.problems().is_empty(), "{text:?}");
    let lines: Vec<_> = text.split('\n').collect();
    for problem in problems.problems() {
        let place = &problem.place;
        let line = lines.get(place.line - 1).unwrap_or_else(|| panic!("{problem:?} of {text:?}"));
        assert!((1..=line.chars().count() + 1).contains(&place.column), "{problem:?} of {text:?}");
        assert!(!problem.message.is_empty(), "{problem:?} of {text:?}");
    }
    assert!(rendered(&problems).contains("job.toml"), "{text:?}");
}

const CORPUS: [&str; 4] = [FULL, OTHER, include_str!("testdata/mistakes.toml"), include_str!("testdata/torn.toml")];

#[test]
fn a_text_with_a_character_missing_is_read_or_refused_with_a_place() {
    for text in CORPUS {
        for (at, character) in text.char_indices() {
            check_any(&format!("{}{}", &text[..at], &text[at + character.len_utf8()..]));
            check_any(&text[..at]);
        }
    }
}

#[test]
fn a_text_with_a_line_missing_or_twice_is_read_or_refused_with_a_place() {
    for text in CORPUS {
        let lines: Vec<_> = text.lines().collect();
        for at in 0..lines.len() {
            let mut fewer = lines.clone();
            let line = fewer.remove(at);
            check_any(&fewer.join("\n"));
            check_any(&fewer.join("\r\n"));
            fewer.push(line);
            check_any(&fewer.join("\n"));
            let mut more = lines.clone();
            more.insert(at, line);
            check_any(&more.join("\n"));
        }
    }
}

#[test]
fn a_value_of_another_type_is_read_or_refused_with_a_place() {
    let deep = format!("{}1{}", "[".repeat(2000), "]".repeat(2000));
    let values = [
        "1",
        "-1",
        "0x1F",
        "99999999999999999999",
        "1.5",
        "inf",
        "true",
        "1979-05-27",
        "\"\"",
        "\"x\"",
        "\"é\\u0000\"",
        "[]",
        "[1]",
        "[[]]",
        "[{}]",
        "{}",
        "{ a = 1 }",
        "{ name = 1, labels = 2 }",
        "bare",
        "",
        "\"\"\"",
        "[",
        "{",
        &deep,
    ];
    for text in CORPUS {
        let lines: Vec<_> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some((key, _)) = line.split_once('=') else { continue };
            for value in values {
                let changed = format!("{key}= {value}");
                let mut changed_lines = lines.clone();
                changed_lines[at] = &changed;
                check_any(&changed_lines.join("\n"));
            }
        }
    }
}

#[test]
fn hostile_texts_are_refused_with_a_place() {
    let dotted = format!("{}a = 1", "a.".repeat(50_000));
    let headers = format!("[{}a]\n{}a = 1", "a.".repeat(70), "a.".repeat(70));
    let settings = format!("{FULL}\n[policy.settings.{}a]\n{}a = 1", "a.".repeat(60), "a.".repeat(70));
    for text in [
        "",
        "\n",
        "\r",
        "\0",
        "\u{feff}",
        "=",
        "[",
        "[[",
        "]",
        "[]",
        "a",
        "a=",
        "é=é",
        "\"\"\"",
        "'''é",
        "a.b.c = 1\na.b = 2",
        "[a]\n[a.b]\n[a]\n[[a.b]]",
        "[[semaphore]]",
        "semaphore = 1",
        "[name]",
        "policy.settings = 1",
        "targets.hosts.x = 1",
        "[[targets.hosts]]\n[targets.hosts.labels]\n[[targets.hosts]]",
        "\u{202e}= 1",
        &dotted,
        &headers,
        &settings,
    ] {
        check_any(text);
    }
}

#[test]
fn a_value_may_stand_elsewhere() {
    let env = "{ A = \"{target}\", B = { from-file = \"b.txt\" }, C = { from_env = \"THEIRS\" } }";
    let text = format!(
        "name = \"j\"\n[semaphore]\npath = \"/s\"\n[targets]\nhosts = [\"a\"]\n[policy]\nuse = \"rolling\"\n[action]\nrun = [\"x\"]\nenv = {env}\n"
    );
    let job = JobSpec::parse("job.toml", &text).unwrap();
    assert_eq!(job.action.env.keys().collect::<Vec<_>>(), ["A"]);
    let elsewhere: Vec<_> = job.action.env_elsewhere.into_iter().collect();
    let expected = [("B", ValueSource::File("b.txt".into())), ("C", ValueSource::Variable("THEIRS".into()))];
    assert_eq!(elsewhere, expected.map(|(name, source)| (name.to_owned(), source)));
    let schema = super::schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let instance: toml::Value = toml::from_str(&text.replace("from_env", "from-env")).unwrap();
    assert!(validator.is_valid(&serde_json::to_value(&instance).unwrap()));
    let wrong: toml::Value = toml::from_str(&text.replace("from_env", "from-nowhere")).unwrap();
    assert!(!validator.is_valid(&serde_json::to_value(&wrong).unwrap()));
}

#[test]
fn what_looks_like_a_secret_is_warned_of_wherever_it_stands() {
    let text = r#"
name = "j"
[semaphore]
path = "/s"
[targets]
command = ["list", "--token=abcd"]
[policy]
path = "p.wasm"
[policy.settings]
hooks = [{ password = "abcd" }]
[orchestration]
path = "o.wasm"
settings = { api-token = "abcd", people = 3 }
[action]
run = ["x", "https://me:abcd@host/"]
env = { DB_PASSWORD = "abcd", PORT = "80" }
"#;
    let warnings = JobSpec::parse("job.toml", text).unwrap().warnings(None);
    let told: Vec<_> = warnings.iter().map(|warning| format!("{} {}", warning.place, warning.key)).collect();
    let expected = [
        "job.toml:16:23 action.env.DB_PASSWORD",
        "job.toml:15:13 action.run[1]",
        "job.toml:6:20 targets.command[1]",
        "job.toml:10:23 policy.settings.hooks[0].password",
        "job.toml:13:26 orchestration.settings.api-token",
    ];
    assert_eq!(told, expected);
    assert!(warnings.iter().all(|warning| warning.help.is_some() && !warning.to_string().contains("abcd")));
}
