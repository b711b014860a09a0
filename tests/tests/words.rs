//! The language of the documentation: banned words do not come back, and links lead to files.
//!
//! The table between `<!-- words: begin -->` and `<!-- words: end -->` in `CONTRIBUTING.md` is the list of banned words; this file has
//! none of its own. Code is exempt, because its words are those of the program: fenced and indented blocks, and code spans.
//!
//! To check more texts, add a row to [`TEXTS`].

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The file with the table of banned words.
const STYLE: &str = "CONTRIBUTING.md";

/// How the prose of a file is told from its code.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Everything but blocks of code and code spans.
    Markdown,
    /// Doc comments, read as Markdown.
    Rust,
}

/// The texts that are checked: a path in which a `*` stands for a name, or, as `**`, for any number of folders; and the kind.
const TEXTS: &[(&str, Kind)] = &[
    ("README.md", Kind::Markdown),
    ("CONTRIBUTING.md", Kind::Markdown),
    ("CHANGELOG.md", Kind::Markdown),
    ("docs/**/*.md", Kind::Markdown),
    ("examples/*/README.md", Kind::Markdown),
];

/// Banned words that may stand in a file, and why.
const ALLOWED: &[(&str, &str, &str)] = &[("README.md", "batch", "Salt calls it so")];

/// Regions that are neither prose nor written by hand.
const REGIONS: &[(&str, &str)] = &[
    ("<!-- words: begin -->", "<!-- words: end -->"),
    // Written by `cargo xtask bench … --write`, in its own words.
    ("<!-- bench zookeeper: begin -->", "<!-- bench zookeeper: end -->"),
    ("<!-- bench waiting: begin -->", "<!-- bench waiting: end -->"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The files that match one of [`TEXTS`], each with its kind, by its path in the repository.
fn texts() -> BTreeMap<String, Kind> {
    let mut found = BTreeMap::new();
    for (pattern, kind) in TEXTS {
        let before = found.len();
        let parts: Vec<&str> = pattern.split('/').collect();
        collect(&root(), "", &parts, &mut |path| {
            found.insert(path, *kind);
        });
        assert!(found.len() > before, "no file matches `{pattern}`");
    }
    found
}

fn collect(folder: &Path, path: &str, parts: &[&str], add: &mut impl FnMut(String)) {
    let Some((part, rest)) = parts.split_first() else { return };
    if *part == "**" {
        collect(folder, path, rest, add);
    }
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let is_folder = entry.file_type().unwrap().is_dir();
        let inside = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        // Hidden folders and what was built or installed are not ours.
        if is_folder && (name.starts_with('.') || ["target", "node_modules"].contains(&name.as_str())) {
            continue;
        }
        match (is_folder, *part) {
            (true, "**") => collect(&entry.path(), &inside, parts, add),
            (true, part) if matches(part, &name) => collect(&entry.path(), &inside, rest, add),
            (false, part) if rest.is_empty() && matches(part, &name) => add(inside),
            _ => {}
        }
    }
}

/// Whether a name fits a pattern with at most one `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
        None => pattern == name,
    }
}

/// The prose of a file, each line with its number; code is blank.
fn prose(text: &str, kind: Kind) -> Vec<(usize, String)> {
    let doc = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?;
        Some(line.strip_prefix(' ').unwrap_or(line).to_owned())
    };
    let mut lines = Vec::new();
    let (mut fenced, mut indented, mut blank, mut region) = (false, false, true, None);
    for (number, line) in (1..).zip(text.lines()) {
        let line = if kind == Kind::Rust { doc(line).unwrap_or_default() } else { line.to_owned() };
        if let Some(end) = region {
            region = (!line.contains(end)).then_some(end);
            continue;
        }
        region = REGIONS.iter().find(|(begin, _)| line.contains(begin)).map(|(_, end)| *end);
        let is_fence = line.trim_start().starts_with("```");
        // Indented code follows an empty line; an indented line that follows another is a paragraph's.
        indented = line.starts_with("    ") && (blank || indented) && !line.trim_start().starts_with("- ");
        blank = line.trim().is_empty();
        if !(fenced || is_fence || indented) {
            lines.push((number, without_code(&line)));
        }
        fenced ^= is_fence;
    }
    lines
}

/// A line without code spans and without the addresses of its links.
fn without_code(line: &str) -> String {
    let text: String =
        line.split('`').enumerate().map(|(index, part)| if index % 2 == 0 { part } else { "." }).collect();
    let mut kept = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("](") {
        kept.push_str(before);
        rest = after.split_once(')').map_or("", |(_, behind)| behind);
    }
    kept + rest
}

/// The words of some prose in lower case, each with its line; an empty one where a sentence or its part ends.
fn words(prose: &[(usize, String)]) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (number, line) in prose {
        let mut word = String::new();
        for letter in line.to_lowercase().chars().chain([' ']) {
            if letter.is_alphanumeric() || letter == '-' || letter == '\'' {
                word.push(letter);
                continue;
            }
            if !word.is_empty() {
                words.push((*number, std::mem::take(&mut word)));
            }
            if !letter.is_whitespace() && letter != '*' {
                words.push((*number, String::new()));
            }
        }
        if line.trim().is_empty() {
            words.push((*number, String::new()));
        }
    }
    words
}

/// The banned words and phrases, from the first column of the table.
fn banned() -> Vec<String> {
    let style = fs::read_to_string(root().join(STYLE)).unwrap();
    let (begin, end) = REGIONS[0];
    let table = style.split_once(begin).unwrap().1.split_once(end).unwrap().0;
    let rows = table.trim().lines().skip(2);
    let cells = rows.map(|row| row.split('|').nth(1).unwrap().trim().to_owned());
    cells.flat_map(|cell| cell.split(", ").map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Each place in a text at which one of the banned words stands.
fn offences<'a>(text: &str, kind: Kind, banned: &'a [String]) -> Vec<(usize, &'a str)> {
    let words = words(&prose(text, kind));
    let mut found = Vec::new();
    for phrase in banned {
        let parts: Vec<&str> = phrase.split(' ').collect();
        for place in words.windows(parts.len()) {
            if place.iter().map(|(_, word)| word.as_str()).eq(parts.iter().copied()) {
                found.push((place[0].0, phrase.as_str()));
            }
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn banned_words_do_not_occur() {
    let banned = banned();
    assert!(banned.len() > 20, "the table has few words: {banned:?}");
    let mut wrong = Vec::new();
    let mut unused: Vec<_> = ALLOWED.to_vec();
    for (path, kind) in texts() {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        for (line, phrase) in offences(&text, kind, &banned) {
            let allowed = ALLOWED.iter().any(|(file, word, _)| *file == path && *word == phrase);
            unused.retain(|(file, word, _)| !(*file == path && *word == phrase));
            if !allowed {
                wrong.push(format!("{path}:{line}: `{phrase}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{STYLE} says what to write instead:\n{}", wrong.join("\n"));
    assert!(unused.is_empty(), "allowed, and does not occur: {unused:?}");
}

#[test]
fn every_link_leads_to_a_file_and_its_heading() {
    let mut wrong = Vec::new();
    for (path, _) in texts().into_iter().filter(|(_, kind)| *kind == Kind::Markdown) {
        let file = root().join(&path);
        let text = fs::read_to_string(&file).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.contains("://") {
                continue;
            }
            let (to, heading) = link.split_once('#').unwrap_or((link, ""));
            let to = if to.is_empty() { file.clone() } else { file.parent().unwrap().join(to) };
            let leads = to.exists()
                && (heading.is_empty() || headings(&fs::read_to_string(&to).unwrap()).iter().any(|it| it == heading));
            if !leads {
                wrong.push(format!("{path}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

/// The anchors of a page's headings, as GitHub makes them.
fn headings(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
    };
    lines.map(anchor).collect()
}

#[test]
fn prose_is_told_from_code() {
    let banned = ["wish".to_owned(), "let go".to_owned()];
    let lines = |text, kind| offences(text, kind, &banned).iter().map(|(line, _)| *line).collect::<Vec<_>>();
    assert_eq!(lines("A Wish.\n\nIt is let\ngo.", Kind::Markdown), [1, 3]);
    assert_eq!(lines("`wish` and wishful\n\n    wish\n    wish\n\n```\nwish\n```\n\nLet. Go.", Kind::Markdown), []);
    assert_eq!(lines("[a](wish.md) b\n- c\n  wish", Kind::Markdown), [3]);
    assert_eq!(lines("let wish = 1; // wish\n/// A wish.\n//! `wish`\n/// ```\n/// wish\n/// ```", Kind::Rust), [2]);
}
