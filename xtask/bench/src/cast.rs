//! Who takes part, and how each is started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use lockkeeper_tests::root;
use tempfile::TempDir;

/// Where Debian puts jars.
const JARS: &str = "/usr/share/java";

/// What Curator is made of.
const CURATOR: [&str; 8] = [
    "curator-client.jar",
    "curator-framework.jar",
    "curator-recipes.jar",
    "guava.jar",
    "slf4j-api.jar",
    "slf4j-nop.jar",
    "zookeeper.jar",
    "zookeeper-jute.jar",
];

/// A compiler for Java that needs no JDK, a tenth of its size.
const ECLIPSE_COMPILER: &str = "eclipse-jdt-core.jar";

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Ours.
    Lockkeeper,
    /// The real one, in Python.
    Kazoo,
    /// kazoo's sequence of requests, sent by our client.
    Sequence,
    /// The real one, in Java.
    Curator,
}

/// In which order they are told of.
pub(crate) const EVERYBODY: [Who; 4] = [Who::Lockkeeper, Who::Kazoo, Who::Sequence, Who::Curator];

/// Those who are here.
#[derive(Debug)]
pub(crate) struct Cast {
    python: Option<Python>,
    curator: Option<Curator>,
}

#[derive(Debug)]
struct Python {
    interpreter: PathBuf,
    version: String,
}

#[derive(Debug)]
struct Curator {
    classes: TempDir,
    class_path: String,
    version: String,
}

impl Cast {
    /// Looks who is here, and says who is not.
    pub(crate) fn gather() -> Result<Self> {
        let python = python();
        if python.is_none() {
            eprintln!("left out: no kazoo here; `cargo xtask setup` brings it");
        }
        let curator = curator()?;
        if curator.is_none() {
            eprintln!("left out: no Curator here, or nothing that compiles Java");
        }
        Ok(Self { python, curator })
    }

    pub(crate) fn is_here(&self, who: Who) -> bool {
        match who {
            Who::Lockkeeper | Who::Sequence => true,
            Who::Kazoo => self.python.is_some(),
            Who::Curator => self.curator.is_some(),
        }
    }

    /// Where kazoo's Python is.
    pub(crate) fn python(&self) -> Option<&Path> {
        self.python.as_ref().map(|python| python.interpreter.as_path())
    }

    /// What it is called in a table.
    pub(crate) fn name(&self, who: Who) -> String {
        match who {
            Who::Lockkeeper => format!("Lockkeeper {}", env!("CARGO_PKG_VERSION")),
            Who::Kazoo => self.python.as_ref().map_or_else(|| "kazoo".to_owned(), |python| python.version.clone()),
            Who::Sequence => "kazoo's sequence".to_owned(),
            Who::Curator => self
                .curator
                .as_ref()
                .map_or_else(|| "Curator".to_owned(), |curator| format!("Curator {}", curator.version)),
        }
    }

    /// The program that does its work.
    pub(crate) fn command(&self, who: Who) -> Result<Command> {
        Ok(match who {
            Who::Lockkeeper | Who::Sequence => {
                let mut command = Command::new(env::current_exe()?);
                command.arg("caller");
                command
            }
            Who::Kazoo => {
                let python = self.python.as_ref().context("no kazoo here")?;
                let mut command = Command::new(&python.interpreter);
                // Nothing of its own beside the sources.
                command.arg("-B").arg(root().join("xtask/bench/peers/kazoo_bench.py")).env_remove("PYTHONPATH");
                command
            }
            Who::Curator => {
                let curator = self.curator.as_ref().context("no Curator here")?;
                let class_path = format!("{}:{}", curator.classes.path().display(), curator.class_path);
                let mut command = Command::new("java");
                command.args(["-Xmx1g", "-cp", &class_path, "Bench"]);
                command
            }
        })
    }
}

fn python() -> Option<Python> {
    // Where `cargo xtask setup` makes it: in cargo's target folder, beside that of our profile.
    let interpreter = env::current_exe().ok()?.ancestors().nth(2)?.join("python/bin/python");
    let mut command = Command::new(&interpreter);
    let asked =
        "import platform, kazoo.version as v; print(f'kazoo {v.__version__} (Python {platform.python_version()})')";
    let output = command.args(["-c", asked]).env_remove("PYTHONPATH").stderr(Stdio::null()).output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !version.is_empty()).then_some(Python { interpreter, version })
}

fn curator() -> Result<Option<Curator>> {
    let jars = CURATOR.map(|jar| Path::new(JARS).join(jar));
    if !jars.iter().all(|jar| jar.exists()) {
        return Ok(None);
    }
    let class_path = jars.map(|jar| jar.display().to_string()).join(":");
    let classes = TempDir::with_prefix("lockkeeper-bench-")?;
    let Some(mut compiler) = compiler() else { return Ok(None) };
    compiler.args(["-nowarn", "-proc:none", "-cp", &class_path, "-d"]).arg(classes.path());
    let output = compiler.arg(root().join("xtask/bench/peers/Bench.java")).output()?;
    if !output.status.success() {
        bail!("Curator's side does not compile: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(Some(Curator { classes, class_path, version: version_of("curator-recipes-") }))
}

fn compiler() -> Option<Command> {
    let javac = Command::new("javac").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if javac.is_ok_and(|status| status.success()) {
        return Some(Command::new("javac"));
    }
    let jar = Path::new(JARS).join(ECLIPSE_COMPILER);
    jar.exists().then(|| {
        let mut command = Command::new("java");
        command.arg("-cp").arg(jar).args(["org.eclipse.jdt.internal.compiler.batch.Main", "-11"]);
        command
    })
}

/// The version in the name of a jar.
fn version_of(jar: &str) -> String {
    let names =
        fs::read_dir(JARS).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let versions = names.filter_map(|name| Some(name.strip_prefix(jar)?.strip_suffix(".jar")?.to_owned()));
    versions.filter(|version| version.starts_with(|first: char| first.is_ascii_digit())).max().unwrap_or_default()
}
