//! A policy compiled, linked and checked once.

use std::sync::Arc;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};

use super::bindings::PolicyPre;
use super::evaluate::{self, Guest};
use super::settings::SettingsSchema;
use super::types::{Diagnostic, Manifest};
use super::{Engine, Limits, PolicyError};

/// The contract's package, as every import and export of a policy begins.
pub(super) const PACKAGE: &str = "lockkeeper:policy/";

/// The version of the contract that this host speaks.
pub(super) const VERSION: &str = "1.0.0";

/// What a policy may import: the log, and types without functions.
const ALLOWED_IMPORTS: [&str; 2] = ["trace", "types"];

/// Every verdict of the contract.
const VERDICTS: [&str; 10] =
    ["lock", "wait", "hold", "force", "skip", "abort", "release", "keep", "retry", "roll-back"];

/// A policy that can decide. Cheap to clone; every decision gets an instance of its own.
#[derive(Clone)]
pub struct Module {
    pub(super) engine: Engine,
    pub(super) component: PolicyPre<Guest>,
    pub(super) about: Arc<About>,
}

/// What is known of a policy before it decides.
#[derive(Debug)]
pub(super) struct About {
    pub(super) manifest: Manifest,
    pub(super) digest: String,
    pub(super) bytes: u64,
    pub(super) imports: Vec<String>,
    pub(super) schema: SettingsSchema,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Module {
    /// What the policy says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.about.manifest
    }

    /// The sha256 of its file, in lower-case hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.about.digest
    }

    /// How long its file is.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.about.bytes
    }

    /// The interfaces that it calls, without those that are types alone: `trace`, or nothing.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.about.imports
    }

    /// What one decision may use.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.engine.limits()
    }

    /// The contract's version that host and policy speak.
    #[must_use]
    pub fn contract(&self) -> String {
        format!("lockkeeper:policy@{VERSION}")
    }

    /// Everything that is wrong with settings: what the schema says, and where that has nothing to say the policy's own
    /// `validate`.
    ///
    /// # Errors
    /// The policy itself failed.
    pub fn validate(&self, settings: &serde_json::Value) -> Result<Vec<Diagnostic>, PolicyError> {
        let by_schema = self.about.schema.complaints(settings);
        match by_schema.is_empty() {
            true => evaluate::validate(self, &settings.to_string()),
            false => Ok(by_schema),
        }
    }
}

/// Checks a component against the contract, links it, and asks it for its manifest.
pub(super) fn link(engine: &Engine, component: &Component, digest: String, bytes: u64) -> Result<Module, PolicyError> {
    let imports = check_imports(engine, component)?;
    check_exports(engine, component)?;
    let unlinked = |error: wasmtime::Error| wrong_world(format!("{error:#}"));
    let linked: InstancePre<Guest> = engine.linker().instantiate_pre(component).map_err(unlinked)?;
    let component = PolicyPre::new(linked).map_err(unlinked)?;
    let manifest = evaluate::describe(engine, &component)?;
    let schema = check_manifest(&manifest)?;
    let about = Arc::new(About { manifest, digest, bytes, imports, schema });
    Ok(Module { engine: engine.clone(), component, about })
}

/// Its differences are made out by who has the bytes.
fn wrong_world(reason: String) -> PolicyError {
    PolicyError::WrongWorld { reason, differences: Vec::new() }
}

fn check_imports(engine: &Engine, component: &Component) -> Result<Vec<String>, PolicyError> {
    let mut called = Vec::new();
    for (name, item) in component.component_type().imports(engine.wasmtime()) {
        let ours = name.strip_prefix(PACKAGE).and_then(|rest| rest.split('@').next());
        if !ours.is_some_and(|interface| ALLOWED_IMPORTS.contains(&interface)) {
            return Err(PolicyError::ForbiddenImport { import: name.to_owned() });
        }
        check_version(name)?;
        let has_functions = match &item.ty {
            ComponentItem::ComponentInstance(instance) => {
                instance.exports(engine.wasmtime()).any(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
            }
            _ => false,
        };
        if has_functions {
            called.extend(ours.map(str::to_owned));
        }
    }
    Ok(called)
}

fn check_exports(engine: &Engine, component: &Component) -> Result<(), PolicyError> {
    let decider = component
        .component_type()
        .exports(engine.wasmtime())
        .find(|(name, _)| name.strip_prefix(PACKAGE).is_some_and(|rest| rest.split('@').next() == Some("decider")))
        .map(|(name, item)| (name.to_owned(), matches!(item.ty, ComponentItem::ComponentInstance(_))));
    match decider {
        Some((name, true)) => check_version(&name),
        Some((name, false)) => Err(wrong_world(format!("`{name}` is no interface"))),
        None => Err(wrong_world(format!("it does not export `{PACKAGE}decider`"))),
    }
}

fn check_version(name: &str) -> Result<(), PolicyError> {
    match name.split_once('@') {
        Some((_, found)) if !is_spoken(found, VERSION) => {
            Err(PolicyError::WrongVersion { found: found.to_owned(), spoken: VERSION.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Whether who speaks one version understands another: the same major version, and no newer minor one, which may have what
/// is not known here.
fn is_spoken(found: &str, spoken: &str) -> bool {
    let parts = |version: &str| {
        let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u64>().ok());
        Some((parts.next()??, parts.next()??))
    };
    match (parts(found), parts(spoken)) {
        (Some((major, minor)), Some((our_major, our_minor))) => major == our_major && minor <= our_minor,
        _ => false,
    }
}

pub(super) fn check_manifest(manifest: &Manifest) -> Result<SettingsSchema, PolicyError> {
    if manifest.name.is_empty() {
        return Err(PolicyError::BadManifest { reason: "it names no policy".to_owned() });
    }
    if let Some(unknown) = manifest.verdicts.iter().find(|verdict| !VERDICTS.contains(&verdict.as_str())) {
        return Err(PolicyError::BadManifest { reason: format!("there is no verdict `{unknown}`") });
    }
    SettingsSchema::parse(&manifest.settings_schema).map_err(|reason| PolicyError::BadManifest { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_minor_version_is_understood_and_a_newer_one_is_not() {
        for (found, spoken, is) in [
            ("1.0.0", "1.0.0", true),
            ("1.0.7", "1.0.0", true),
            ("1.0.0", "1.4.2", true),
            ("1.5.0", "1.4.2", false),
            ("2.0.0", "1.4.2", false),
            ("0.1.0", "1.0.0", false),
            ("one", "1.0.0", false),
        ] {
            assert_eq!(is_spoken(found, spoken), is, "{found} where {spoken} is spoken");
        }
    }
}
