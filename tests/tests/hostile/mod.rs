//! Where the hostile guests come from: a Rust guest built on the spot, and modules in WAT with the contract's canonical
//! ABI written by hand.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use lockkeeper_guest_build::{Build, PROFILE, Stderr, Toolchain};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract, its one copy.
pub(crate) const WIT: &str = include_str!("../../../guest-sdk/wit/policy.wit");

/// The core module of `tests/guests/hostile`, built once.
pub(crate) fn rust_guest() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| built("hostile"))
}

/// The core module of one of this workspace's guests.
pub(crate) fn built(package: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the workspace");
    let modules = Toolchain::find()
        .and_then(|toolchain| {
            toolchain.build(&Build {
                manifest: &root.join("Cargo.toml"),
                packages: &[package],
                profile: PROFILE,
                target_dir: &guest_target_dir(),
                stderr: Stderr::Kept,
            })
        })
        .unwrap_or_else(|error| panic!("{error}"));
    std::fs::read(&modules[0]).unwrap()
}

/// `guests` in cargo's target folder, which the host's build script uses too: std is built once.
fn guest_target_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).expect("a test stands in target/PROFILE/deps").join("guests")
}

/// A module in WAT: well-behaved but for what is changed.
pub(crate) struct Guest {
    /// Further fields: a memory of its own replaces the usual one.
    pub(crate) fields: String,
    pub(crate) memory: &'static str,
    /// The body of what makes room for the host: old place, old size, alignment, new size.
    pub(crate) realloc: &'static str,
    pub(crate) describe: String,
    pub(crate) validate: &'static str,
    pub(crate) admit: String,
    pub(crate) name: &'static str,
    pub(crate) schema: String,
    pub(crate) verdicts: &'static [&'static str],
}

/// Where the manifest lies.
const MANIFEST: usize = 1024;

/// Where an answer of nothing but zeros lies: `lock`, without code, reason, wake or memory.
const ZEROS: usize = 512;

/// Where the manifest's texts lie.
const TEXTS: usize = 4096;

impl Default for Guest {
    fn default() -> Self {
        Self {
            fields: String::new(),
            memory: "(memory (export \"memory\") 16)",
            realloc: "(local $at i32)
                (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
                (global.set $top (i32.add (local.get $at) (local.get 3)))
                (local.get $at)",
            describe: format!("i32.const {MANIFEST}"),
            validate: "i32.const 512",
            admit: format!("i32.const {ZEROS}"),
            name: "wat",
            schema: "{}".to_owned(),
            verdicts: &["lock"],
        }
    }
}

impl Guest {
    /// The module's text.
    pub(crate) fn wat(&self) -> String {
        let mut texts = Vec::new();
        let mut place = |text: &str| {
            let at = TEXTS + texts.len();
            texts.extend_from_slice(text.as_bytes());
            [at, text.len()]
        };
        let mut numbers: Vec<usize> = Vec::new();
        numbers.extend([place(self.name), place("1.0.0"), place("hostile")].concat());
        numbers.extend(place(&self.schema));
        let verdicts: Vec<usize> = self.verdicts.iter().flat_map(|verdict| place(verdict)).collect();
        numbers.extend([MANIFEST + 64, self.verdicts.len()]);
        let (manifest, verdicts, texts) = (escaped(&words(&numbers)), escaped(&words(&verdicts)), escaped(&texts));
        let Self { fields, memory, realloc, describe, validate, admit, .. } = self;
        format!(
            r#"(module
                {memory}
                (global $top (mut i32) (i32.const 262144))
                {fields}
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
                (func (export "lockkeeper:policy/decider@1.0.0#describe") (result i32) {describe})
                (func (export "lockkeeper:policy/decider@1.0.0#validate") (param i32 i32) (result i32) {validate})
                (func (export "lockkeeper:policy/decider@1.0.0#admit") (param i32) (result i32) {admit})
                (func (export "lockkeeper:policy/decider@1.0.0#settle") (param i32) (result i32) i32.const {ZEROS})
                (data (i32.const {MANIFEST}) "{manifest}")
                (data (i32.const {}) "{verdicts}")
                (data (i32.const {TEXTS}) "{texts}")
            )"#,
            MANIFEST + 64
        )
    }

    /// The core module, with the contract's types in it as toolchains write them.
    pub(crate) fn module(&self) -> Vec<u8> {
        with_types(&self.wat(), WIT, "policy")
    }
}

/// A core module that carries the types of a world.
pub(crate) fn with_types(wat: &str, wit: &str, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).unwrap();
    let mut resolve = Resolve::default();
    let package = resolve.push_source("policy.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    module
}

fn words(numbers: &[usize]) -> Vec<u8> {
    numbers.iter().flat_map(|number| u32::try_from(*number).unwrap().to_le_bytes()).collect()
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}
