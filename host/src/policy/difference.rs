//! How a component's interfaces differ from the contract's: for whoever built it against something else.

use std::collections::HashSet;

use wit_component::{DecodedWasm, decode};
use wit_parser::{Function, InterfaceId, PackageId, Resolve, Type, TypeDefKind, TypeId, WorldId, WorldItem};

use lockkeeper_locks::terminal::prose;

/// The contract, its one copy.
const WIT: &str = include_str!("../../../guest-sdk/wit/policy.wit");

/// Differences that are told.
const MOST: usize = 12;

/// The interface that a policy exports, and the one that an orchestration will.
const DECIDER: &str = "decider";
const ORCHESTRATION: &str = "driver";

/// Every difference that keeps a component from being a policy, function by function and type by type; empty where none can
/// be made out.
pub(super) fn of(component: &[u8]) -> Vec<String> {
    match decode(component) {
        Ok(DecodedWasm::Component(theirs, their_world)) => between(&theirs, their_world),
        _ => Vec::new(),
    }
}

/// How a world differs from the contract's.
fn between(theirs: &Resolve, their_world: WorldId) -> Vec<String> {
    let mut ours = Resolve::default();
    let our_world = ours.push_source("policy.wit", WIT).ok().and_then(|package| world(&mut ours, package));
    let Some(our_world) = our_world else { return Vec::new() };
    let Some(decider) = exported(&ours, our_world, DECIDER) else { return Vec::new() };
    let Some(their_decider) = exported(theirs, their_world, DECIDER) else {
        return vec![instead(theirs, their_world)];
    };
    let mut difference = Difference { ours: &ours, theirs, told: Vec::new(), seen: HashSet::new() };
    for (name, function) in &ours.interfaces[decider].functions {
        match theirs.interfaces[their_decider].functions.get(name) {
            Some(their_function) => difference.functions(name, function, their_function),
            None => difference.tell(format!("`{DECIDER}.{name}` is not exported")),
        }
    }
    let mut told = difference.told;
    if told.len() > MOST {
        let more = told.len() - MOST;
        told.truncate(MOST);
        told.push(format!("and {more} more"));
    }
    told
}

fn world(resolve: &mut Resolve, package: PackageId) -> Option<WorldId> {
    resolve.select_world(&[package], Some("policy")).ok()
}

/// The interface of that name among a world's exports, of whatever version.
fn exported(resolve: &Resolve, world: WorldId, name: &str) -> Option<InterfaceId> {
    resolve.worlds[world].exports.values().find_map(|item| match item {
        WorldItem::Interface { id, .. } if resolve.interfaces[*id].name.as_deref() == Some(name) => Some(*id),
        _ => None,
    })
}

/// What a component exports that has no decider.
fn instead(resolve: &Resolve, world: WorldId) -> String {
    if exported(resolve, world, ORCHESTRATION).is_some() {
        return format!(
            "it exports `{ORCHESTRATION}`: an orchestration, which this version of Lockkeeper does not run"
        );
    }
    let exports = &resolve.worlds[world].exports;
    let names: Vec<String> =
        exports.keys().take(MOST).map(|key| format!("`{}`", prose(&resolve.name_world_key(key), 80))).collect();
    match names.is_empty() {
        true => "it exports nothing".to_owned(),
        false => format!("it exports {}", names.join(", ")),
    }
}

struct Difference<'a> {
    ours: &'a Resolve,
    theirs: &'a Resolve,
    told: Vec<String>,
    /// Named types that were compared: each is told once.
    seen: HashSet<(TypeId, TypeId)>,
}

impl Difference<'_> {
    fn tell(&mut self, what: String) {
        let what = prose(&what, 200);
        if !self.told.contains(&what) {
            self.told.push(what);
        }
    }

    fn functions(&mut self, name: &str, ours: &Function, theirs: &Function) {
        let at = format!("{DECIDER}.{name}");
        for (index, param) in ours.params.iter().enumerate() {
            match theirs.params.get(index) {
                Some(other) if other.name == param.name => {
                    self.types(&format!("{at}: parameter `{}`", param.name), &param.ty, &other.ty);
                }
                Some(other) => {
                    self.tell(format!("`{at}`: parameter `{}` where the contract has `{}`", other.name, param.name));
                }
                None => self.tell(format!("`{at}` has no parameter `{}`", param.name)),
            }
        }
        for extra in theirs.params.iter().skip(ours.params.len()) {
            self.tell(format!("`{at}`: the contract has no parameter `{}`", extra.name));
        }
        self.maybe(&format!("{at}: result"), ours.result.as_ref(), theirs.result.as_ref());
    }

    fn maybe(&mut self, at: &str, ours: Option<&Type>, theirs: Option<&Type>) {
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => self.types(at, ours, theirs),
            (None, None) => {}
            (Some(_), None) => self.tell(format!("`{at}` is not there")),
            (None, Some(_)) => self.tell(format!("`{at}`: the contract has none")),
        }
    }

    fn types(&mut self, at: &str, ours: &Type, theirs: &Type) {
        let (ours, theirs) = (aliased(self.ours, *ours), aliased(self.theirs, *theirs));
        let (Type::Id(our_id), Type::Id(their_id)) = (ours, theirs) else {
            if ours != theirs {
                let (our_name, their_name) = (named(self.ours, ours), named(self.theirs, theirs));
                self.tell(format!("`{at}`: {their_name} where the contract has {our_name}"));
            }
            return;
        };
        if !self.seen.insert((our_id, their_id)) {
            return;
        }
        let (our_def, their_def) = (&self.ours.types[our_id], &self.theirs.types[their_id]);
        let at = our_def.name.as_deref().unwrap_or(at).to_owned();
        match (&our_def.kind, &their_def.kind) {
            (TypeDefKind::Record(ours), TypeDefKind::Record(theirs)) => {
                let ours: Vec<_> = ours.fields.iter().map(|field| (field.name.as_str(), Some(&field.ty))).collect();
                let theirs: Vec<_> = theirs.fields.iter().map(|field| (field.name.as_str(), Some(&field.ty))).collect();
                self.members(&at, "field", &ours, &theirs);
            }
            (TypeDefKind::Variant(ours), TypeDefKind::Variant(theirs)) => {
                let ours: Vec<_> = ours.cases.iter().map(|case| (case.name.as_str(), case.ty.as_ref())).collect();
                let theirs: Vec<_> = theirs.cases.iter().map(|case| (case.name.as_str(), case.ty.as_ref())).collect();
                self.members(&at, "case", &ours, &theirs);
            }
            (TypeDefKind::Enum(ours), TypeDefKind::Enum(theirs)) => {
                let ours: Vec<_> = ours.cases.iter().map(|case| (case.name.as_str(), None)).collect();
                let theirs: Vec<_> = theirs.cases.iter().map(|case| (case.name.as_str(), None)).collect();
                self.members(&at, "case", &ours, &theirs);
            }
            (TypeDefKind::Option(ours), TypeDefKind::Option(theirs))
            | (TypeDefKind::List(ours), TypeDefKind::List(theirs)) => self.types(&at, ours, theirs),
            (TypeDefKind::Result(ours), TypeDefKind::Result(theirs)) => {
                self.maybe(&at, ours.ok.as_ref(), theirs.ok.as_ref());
                self.maybe(&at, ours.err.as_ref(), theirs.err.as_ref());
            }
            (our_kind, their_kind) => {
                self.tell(format!("`{at}`: {} where the contract has {}", their_kind.as_str(), our_kind.as_str()));
            }
        }
    }

    /// The fields of a record or the cases of a variant, which are told apart by their places, too.
    fn members(&mut self, at: &str, what: &str, ours: &[(&str, Option<&Type>)], theirs: &[(&str, Option<&Type>)]) {
        let before = self.told.len();
        for (name, kind) in ours {
            match theirs.iter().find(|(other, _)| other == name) {
                Some((_, other)) => self.maybe(&format!("{at}.{name}"), *kind, *other),
                None => self.tell(format!("`{at}` has no {what} `{name}`")),
            }
        }
        for (name, _) in theirs.iter().filter(|(name, _)| !ours.iter().any(|(our, _)| our == name)) {
            self.tell(format!("`{at}`: the contract has no {what} `{name}`"));
        }
        let names =
            |members: &[(&str, Option<&Type>)]| members.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        if self.told.len() == before && names(ours) != names(theirs) {
            self.tell(format!("`{at}` has its {what}s in another order"));
        }
    }
}

/// What a type stands for.
fn aliased(resolve: &Resolve, mut kind: Type) -> Type {
    while let Type::Id(id) = kind {
        match resolve.types[id].kind {
            TypeDefKind::Type(of) => kind = of,
            _ => break,
        }
    }
    kind
}

fn named(resolve: &Resolve, kind: Type) -> String {
    match kind {
        Type::Id(id) => {
            let of = &resolve.types[id];
            of.name
                .as_ref()
                .map_or_else(|| of.kind.as_str().to_owned(), |name| format!("{} `{name}`", of.kind.as_str()))
        }
        kind => format!("{kind:?}").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a world of this text differs.
    fn text(wit: &str, name: &str) -> Vec<String> {
        let mut resolve = Resolve::default();
        let package = resolve.push_source("other.wit", wit).unwrap();
        let world = resolve.select_world(&[package], Some(name)).unwrap();
        between(&resolve, world)
    }

    fn changed(changes: &[(&str, &str)]) -> Vec<String> {
        let mut wit = WIT.to_owned();
        for (from, to) in changes {
            assert!(wit.contains(from), "{from}");
            wit = wit.replacen(from, to, 1);
        }
        text(&wit, "policy")
    }

    #[test]
    fn the_contract_differs_in_nothing_from_itself() {
        assert_eq!(text(WIT, "policy"), Vec::<String>::new());
        // Another version alone is not told here.
        assert_eq!(changed(&[("policy@1.0.0", "policy@2.0.0")]), Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_told_by_its_place() {
        assert_eq!(changed(&[("    seed: u64,\n", "")]), ["`view` has no field `seed`"]);
        assert_eq!(
            changed(&[("    queued: u32,\n", "    queued: string,\n    colour: u8,\n")]),
            [
                "`semaphore.queued`: string where the contract has u32",
                "`semaphore`: the contract has no field `colour`"
            ]
        );
        assert_eq!(changed(&[("    hold,\n", "")]), ["`admission` has no case `hold`"]);
        assert_eq!(
            changed(&[("settle: func(settings: string, view: view,", "settle: func(view: view,")]),
            [
                "`decider.settle`: parameter `view` where the contract has `settings`",
                "`decider.settle`: parameter `outcome` where the contract has `view`",
                "`decider.settle`: parameter `memory` where the contract has `outcome`",
                "`decider.settle` has no parameter `memory`",
            ]
        );
        assert_eq!(
            changed(&[("  validate: func(settings: string) -> list<diagnostic>;\n", "")]),
            ["`decider.validate` is not exported"]
        );
        assert_eq!(
            changed(&[("record label { key: string, value: string }", "record label { value: string, key: string }")]),
            ["`label` has its fields in another order"]
        );
    }

    #[test]
    fn another_world_is_told_by_what_it_exports() {
        let http = "package a:b@0.3.0; interface handler { handle: func(); } world w { export handler; }";
        assert_eq!(text(http, "w"), ["it exports `a:b/handler@0.3.0`"]);
        let driver = "package lockkeeper:policy@1.1.0; interface driver { run: func(); } world w { export driver; }";
        assert!(text(driver, "w")[0].contains("an orchestration"));
        assert!(of(b"no wasm").is_empty());
    }
}
