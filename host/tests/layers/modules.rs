//! The modules of the crates, and what a path in one of them leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::tokens::{CodePath, Form, Part, paths, test_modules};

/// A `use` of a `use` of a `use`: more than this many is a circle.
const MAX_STEPS: usize = 16;

/// A module by its path: the short name of its crate, then the modules below it.
pub(crate) type ModulePath = Vec<String>;

/// A source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the folder `host`.
    pub(crate) name: PathBuf,
    pub(crate) module: ModulePath,
    pub(crate) text: String,
    pub(crate) part: Part,
    pub(crate) paths: Vec<CodePath>,
}

impl Source {
    /// The module in which a path of this file stands.
    pub(crate) fn module_of(&self, path: &CodePath) -> ModulePath {
        [self.module.as_slice(), &path.inline].concat()
    }
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Of one of our crates: the module, `use`s followed, and what remains in it.
    Ours { module: ModulePath, rest: Vec<String> },
    /// Of another crate, or a name that only its own module knows.
    Other(Vec<String>),
}

/// Every module of the crates, with the names that it gives.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    /// As paths name them, and in short.
    crates: BTreeMap<String, String>,
    known: BTreeSet<ModulePath>,
    names: BTreeMap<ModulePath, BTreeMap<String, Vec<String>>>,
    globs: BTreeMap<ModulePath, Vec<Vec<String>>>,
}

impl Modules {
    /// Of crates, each as paths name it and in short, and their sources.
    pub(crate) fn of<'a>(crates: &[(&str, &str)], sources: impl IntoIterator<Item = &'a Source>) -> Self {
        let crates = crates.iter().map(|(name, short)| (String::from(*name), String::from(*short))).collect();
        let mut modules = Self { crates, ..Self::default() };
        for source in sources {
            modules.add(source);
        }
        modules
    }

    pub(crate) fn add(&mut self, source: &Source) {
        self.known.extend((1..=source.module.len()).map(|length| source.module[..length].to_vec()));
        for path in &source.paths {
            let module = source.module_of(path);
            match &path.form {
                Form::Use { name, .. } if name == "*" => {
                    self.globs.entry(module.clone()).or_default().push(path.segments.clone());
                }
                Form::Use { name, .. } => {
                    self.names.entry(module.clone()).or_default().insert(name.clone(), path.segments.clone());
                }
                _ => {}
            }
            self.known.insert(module);
        }
    }

    /// Forgets the names that a file gives.
    pub(crate) fn remove(&mut self, source: &Source) {
        for module in source.paths.iter().map(|path| source.module_of(path)) {
            self.names.remove(&module);
            self.globs.remove(&module);
        }
    }

    /// What a path in a module leads to; `use`s are followed wherever they lead.
    pub(crate) fn resolve(&self, module: &[String], path: &[String]) -> Target {
        self.step(module, path, 0).unwrap_or_else(|| Target::Other(path.to_vec()))
    }

    /// The modules that a path names on its way, `use`s not followed: what it says, not what it leads to.
    pub(crate) fn named(&self, module: &[String], path: &[String]) -> Option<ModulePath> {
        let (mut here, mut rest) = self.start(module, path)?;
        while let Some((first, more)) = rest.split_first() {
            let child = [here.as_slice(), std::slice::from_ref(first)].concat();
            if !self.known.contains(&child) {
                break;
            }
            (here, rest) = (child, more);
        }
        Some(here)
    }

    /// Where a path begins that says it by `crate`, `self`, `super` or the name of one of our crates.
    fn start<'a>(&self, module: &[String], path: &'a [String]) -> Option<(ModulePath, &'a [String])> {
        let first = path.first()?.as_str();
        match first {
            "crate" => Some((module[..1].to_vec(), &path[1..])),
            "self" => Some((module.to_vec(), &path[1..])),
            "super" => {
                let ups = path.iter().take_while(|segment| *segment == "super").count();
                Some((module[..module.len().saturating_sub(ups).max(1)].to_vec(), &path[ups..]))
            }
            _ => self.crates.get(first).map(|short| (vec![short.clone()], &path[1..])),
        }
    }

    fn step(&self, module: &[String], path: &[String], steps: usize) -> Option<Target> {
        if steps > MAX_STEPS {
            return None;
        }
        if let Some((start, rest)) = self.start(module, path) {
            return Some(self.descend(start, rest, steps));
        }
        let (first, rest) = path.split_first()?;
        if let Some(target) = self.given_by(module, first, rest, steps) {
            return Some(target);
        }
        let child = [module, std::slice::from_ref(first)].concat();
        if !rest.is_empty() && self.known.contains(&child) {
            return Some(self.descend(child, rest, steps));
        }
        Some(Target::Other(path.to_vec()))
    }

    /// From a module on, a segment at a time.
    fn descend(&self, module: ModulePath, path: &[String], steps: usize) -> Target {
        let Some((first, rest)) = path.split_first() else { return Target::Ours { module, rest: Vec::new() } };
        let child = [module.as_slice(), std::slice::from_ref(first)].concat();
        if self.known.contains(&child) && (!rest.is_empty() || !self.gives(&module, first)) {
            return self.descend(child, rest, steps);
        }
        let given = self.given_by(&module, first, rest, steps);
        given.unwrap_or(Target::Ours { module, rest: path.to_vec() })
    }

    fn gives(&self, module: &[String], name: &str) -> bool {
        self.names.get(module).is_some_and(|names| names.contains_key(name))
    }

    /// What a name of a module leads to that a `use` there gives.
    fn given_by(&self, module: &[String], name: &str, rest: &[String], steps: usize) -> Option<Target> {
        if let Some(path) = self.names.get(module).and_then(|names| names.get(name)) {
            let whole = [path.as_slice(), rest].concat();
            // `use tokio;` and `use super::plan;` beside `mod plan` name what they give.
            return if *path == [name] { Some(Target::Other(whole)) } else { self.step(module, &whole, steps + 1) };
        }
        self.globs.get(module).into_iter().flatten().find_map(|glob| {
            let Some(Target::Ours { module: from, rest: none }) = self.step(module, glob, steps + 1) else {
                return None;
            };
            let child = [from.as_slice(), &[String::from(name)]].concat();
            if !none.is_empty() || steps > MAX_STEPS {
                return None;
            }
            if self.known.contains(&child) {
                return Some(self.descend(child, rest, steps + 1));
            }
            self.given_by(&from, name, rest, steps + 1)
        })
    }
}

/// The source of one file.
pub(crate) fn source(name: &Path, crate_name: &str, below: &Path, text: String, part: Part) -> Source {
    let mut module: ModulePath = vec![String::from(crate_name)];
    module.extend(below.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()));
    if module.len() == 2 && module[1] == "lib" || module[1..].last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    let paths = paths(name, &text, part);
    Source { name: name.to_owned(), module, text, part, paths }
}

/// Every file of a crate, named from the folder `host`; files that only tests reach are theirs.
pub(crate) fn sources(host: &Path, crate_name: &str, folder: &str) -> Vec<Source> {
    let src = host.join(folder);
    let mut folders = vec![src.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Templates are for the projects of others.
                folders.extend(Some(path).filter(|path| !path.ends_with("templates")));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let of_tests: Vec<PathBuf> = files
        .iter()
        .flat_map(|file| {
            let is_root = ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| file.ends_with(name));
            let folder = if is_root { file.parent().unwrap().to_owned() } else { file.with_extension("") };
            let declared = test_modules(&fs::read_to_string(file).unwrap());
            declared.into_iter().map(move |name| folder.join(name))
        })
        .collect();
    let read = files.into_iter().map(|file| {
        let is_of_tests = of_tests.iter().any(|tests| file == tests.with_extension("rs") || file.starts_with(tests));
        let part = if is_of_tests { Part::Tests } else { Part::Product };
        let text = fs::read_to_string(&file).unwrap();
        source(file.strip_prefix(host).unwrap(), crate_name, file.strip_prefix(&src).unwrap(), text, part)
    });
    read.collect()
}

/// The files that each file uses, by the names of their modules: of the product, in one crate. A declaration (`mod x`) and
/// a re-export are no use.
pub(crate) fn uses_between_files(sources: &[Source], modules: &Modules) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
    let files: BTreeSet<&ModulePath> = sources.iter().map(|source| &source.module).collect();
    let mut uses: BTreeMap<ModulePath, BTreeSet<ModulePath>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.part == Part::Product) {
        for path in &source.paths {
            let is_re_export = matches!(path.form, Form::Use { visible: crate::tokens::Visible::Elsewhere, .. });
            if path.part == Part::Tests || is_re_export || matches!(path.form, Form::Method { .. }) {
                continue;
            }
            let Target::Ours { module, .. } = modules.resolve(&source.module_of(path), &path.segments) else {
                continue;
            };
            // A module that is opened in a file is part of that file.
            let file = (1..=module.len()).rev().map(|length| module[..length].to_vec()).find(|it| files.contains(it));
            if let Some(file) = file.filter(|file| *file != source.module && file[0] == source.module[0]) {
                uses.entry(source.module.clone()).or_default().insert(file);
            }
        }
    }
    uses
}

/// Groups of more than one file in which each uses each of the others, directly or by way of others of the group.
pub(crate) fn cycles(uses: &BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> Vec<BTreeSet<ModulePath>> {
    let reach = |start: &ModulePath| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(file) = next.pop() {
            next.extend(uses.get(file).into_iter().flatten().filter(|used| seen.insert((*used).clone())));
        }
        seen
    };
    let reached: BTreeMap<&ModulePath, BTreeSet<ModulePath>> = uses.keys().map(|file| (file, reach(file))).collect();
    let mut groups = Vec::<BTreeSet<ModulePath>>::new();
    for (file, all) in &reached {
        if all.contains(*file) && !groups.iter().any(|group| group.contains(*file)) {
            let back = all.iter().filter(|other| reached.get(other).is_some_and(|all| all.contains(*file)));
            groups.push(back.cloned().collect());
        }
    }
    groups
}
