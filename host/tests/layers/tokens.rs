//! The paths of a source file, read from its tokens: neither a comment, a string nor the form of a `use` makes a
//! difference.

use std::path::Path;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Keywords that begin an item.
const ITEMS: [&str; 10] = ["const", "enum", "fn", "impl", "mod", "static", "struct", "trait", "type", "use"];

/// Keywords after which a name is made, not used.
const NAMES_ITEM: [&str; 7] = ["enum", "fn", "mod", "struct", "trait", "type", "union"];

/// What code is for: some rules are the product's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Product,
    Tests,
}

/// A path as it stands in the code; a `use` tree gives one for each of its leaves.
#[derive(Debug)]
pub(crate) struct CodePath {
    pub(crate) segments: Vec<String>,
    pub(crate) part: Part,
    /// The modules that are opened in the same file around it.
    pub(crate) inline: Vec<String>,
    pub(crate) form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// A leaf of a `use`: the name that it gives, `*` for a glob.
    Use {
        name: String,
        visible: Visible,
    },
    /// Before a `!`.
    Macro,
    /// A call of a function.
    Call {
        arguments: bool,
    },
    /// A call of a method: the path is its name alone.
    Method {
        arguments: bool,
    },
    Other,
}

/// Whether a `use` gives its name to other modules, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visible {
    Here,
    Elsewhere,
}

/// Every path of a file.
pub(crate) fn paths(name: &Path, text: &str, part: Part) -> Vec<CodePath> {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", name.display()));
    let mut found = Vec::new();
    walk(tokens, part, &[], &mut found);
    found
}

/// The modules that a file declares for tests alone.
pub(crate) fn test_modules(text: &str) -> Vec<String> {
    // A file that cannot be read is reported with its name when its paths are read.
    let tokens: Vec<TokenTree> = text.parse::<TokenStream>().unwrap_or_default().into_iter().collect();
    let declared = tokens.windows(4).filter_map(|four| match four {
        [TokenTree::Group(cfg), TokenTree::Ident(word), TokenTree::Ident(name), end]
            if is_cfg_test(cfg) && word == "mod" && is_punct(end, ';') =>
        {
            Some(name.to_string())
        }
        _ => None,
    });
    declared.collect()
}

/// The first item of a file that is neither a module, a `use` nor for tests alone: logic, in a file that only declares.
pub(crate) fn first_logic(text: &str) -> Option<String> {
    let tokens: Vec<TokenTree> = text.parse::<TokenStream>().unwrap().into_iter().collect();
    let mut is_of_tests = false;
    let mut place = 0;
    while place < tokens.len() {
        match &tokens[place] {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                place += 1 + usize::from(tokens.get(place + 1).is_some_and(|token| is_punct(token, '!')));
                if let Some(TokenTree::Group(group)) = tokens.get(place) {
                    is_of_tests |= is_cfg_test(group);
                }
                place += 1;
            }
            // A visibility, with its `(crate)`.
            TokenTree::Ident(word) if word == "pub" => {
                place += 1 + usize::from(is_scope(tokens.get(place + 1)));
            }
            TokenTree::Ident(word) => {
                // An item ends with a block or a semicolon; a `use` holds blocks of its own.
                let is_use = word == "use";
                let length = tokens[place..].iter().position(|token| {
                    let is_block = matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                    is_punct(token, ';') || is_block && !is_use
                });
                let end = length.map_or(tokens.len(), |length| place + length);
                let only_declares =
                    is_use || word == "mod" && tokens.get(end).is_some_and(|token| is_punct(token, ';'));
                if !only_declares && !is_of_tests {
                    return Some(
                        tokens[place..tokens.len().min(place + 2)].iter().map(|it| format!("{it} ")).collect(),
                    );
                }
                (place, is_of_tests) = (end + 1, false);
            }
            _ => place += 1,
        }
    }
    None
}

fn walk(tokens: TokenStream, part: Part, inline: &[String], found: &mut Vec<CodePath>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    // The attribute `#[cfg(test)]` holds up to the end of what it stands before: an item's block or semicolon, or the
    // comma after a field.
    let (mut here, mut is_item) = (part, false);
    let mut place = 0;
    while place < tokens.len() {
        match &tokens[place] {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                if matches!(tokens.get(place + 1), Some(TokenTree::Group(group)) if is_cfg_test(group)) {
                    (here, is_item) = (Part::Tests, false);
                }
                place += 1;
            }
            // A lifetime is no path.
            TokenTree::Punct(punct) if punct.as_char() == '\'' => place += 2,
            TokenTree::Punct(punct) => {
                if punct.as_char() == ';' || punct.as_char() == ',' && !is_item {
                    here = part;
                }
                place += 1;
            }
            TokenTree::Group(group) => {
                let is_block = group.delimiter() == Delimiter::Brace;
                let mut inside = inline.to_vec();
                if let (true, Some([TokenTree::Ident(word), TokenTree::Ident(name)])) =
                    (is_block, place.checked_sub(2).map(|start| &tokens[start..place]))
                    && word == "mod"
                {
                    inside.push(name.to_string());
                }
                walk(group.stream(), here, &inside, found);
                if is_block {
                    here = part;
                }
                place += 1;
            }
            TokenTree::Ident(word)
                if word == "use" && tokens.get(place + 1).is_some_and(|next| !is_punct(next, '<')) =>
            {
                let length = tokens[place..].iter().position(|token| is_punct(token, ';'));
                let end = length.map_or(tokens.len(), |length| place + length);
                let visible = if is_visible(&tokens[..place]) { Visible::Elsewhere } else { Visible::Here };
                let mut leaves = Vec::new();
                use_tree(&tokens[place + 1..end], &[], &mut leaves);
                found.extend(leaves.into_iter().map(|(segments, name)| CodePath {
                    segments,
                    part: here,
                    inline: inline.to_vec(),
                    form: Form::Use { name, visible },
                }));
                (place, is_item) = (end, true);
            }
            // Neither a visibility nor the name that an item is given is a path.
            TokenTree::Ident(word) if word == "pub" => place += 1 + usize::from(is_scope(tokens.get(place + 1))),
            TokenTree::Ident(word) if NAMES_ITEM.contains(&word.to_string().as_str()) => {
                (place, is_item) = (place + 2, true);
            }
            TokenTree::Ident(_) => {
                let before = &tokens[..place];
                let is_member = before.last().is_some_and(|token| is_punct(token, '.'));
                let goes_on = before.len() > 1 && before[before.len() - 2..].iter().all(|token| is_punct(token, ':'));
                let segments;
                (segments, place) = path_at(&tokens, place);
                is_item |= ITEMS.contains(&segments[0].as_str());
                let arguments = match tokens.get(place) {
                    Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => {
                        Some(!group.stream().is_empty())
                    }
                    _ => None,
                };
                let form = match (tokens.get(place), arguments) {
                    (_, Some(arguments)) if is_member => Form::Method { arguments },
                    // A field, or the rest of a path that begins with a type in angle brackets.
                    _ if is_member || goes_on && segments.len() == 1 => continue,
                    (_, Some(arguments)) => Form::Call { arguments },
                    (Some(next), None) if is_punct(next, '!') => Form::Macro,
                    _ => Form::Other,
                };
                found.push(CodePath { segments, part: here, inline: inline.to_vec(), form });
            }
            TokenTree::Literal(_) => place += 1,
        }
    }
}

/// The path that begins at `start`, and the place after it.
fn path_at(tokens: &[TokenTree], start: usize) -> (Vec<String>, usize) {
    let (mut segments, mut place) = (Vec::new(), start);
    while let Some(TokenTree::Ident(word)) = tokens.get(place) {
        segments.push(word.to_string());
        place += 1;
        let goes_on = tokens.len() > place + 2
            && is_punct(&tokens[place], ':')
            && is_punct(&tokens[place + 1], ':')
            && matches!(tokens[place + 2], TokenTree::Ident(_));
        if !goes_on {
            break;
        }
        place += 2;
    }
    (segments, place)
}

/// The leaves of a `use` tree: the path of each, and the name that it gives.
fn use_tree(tokens: &[TokenTree], above: &[String], leaves: &mut Vec<(Vec<String>, String)>) {
    let mut segments = above.to_vec();
    let mut tokens = tokens.iter();
    let mut name = None;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if word == "as" => name = tokens.next().map(ToString::to_string),
            TokenTree::Ident(word) if word == "self" && !segments.is_empty() => {}
            TokenTree::Ident(word) => segments.push(word.to_string()),
            TokenTree::Group(group) => {
                let branches: Vec<TokenTree> = group.stream().into_iter().collect();
                for branch in branches.split(|token| is_punct(token, ',')).filter(|branch| !branch.is_empty()) {
                    use_tree(branch, &segments, leaves);
                }
                return;
            }
            TokenTree::Punct(punct) if punct.as_char() == '*' => name = Some(String::from("*")),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    if let Some(last) = segments.last() {
        let name = name.unwrap_or_else(|| last.clone());
        leaves.push((segments, name));
    }
}

/// Whether the tokens before an item end with a visibility.
fn is_visible(before: &[TokenTree]) -> bool {
    let without_scope = before.len() - usize::from(is_scope(before.last()));
    matches!(before[..without_scope].last(), Some(TokenTree::Ident(word)) if word == "pub")
}

/// The `(crate)` of a `pub(crate)`, or another of its kind.
fn is_scope(token: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = token else { return false };
    let first = group.stream().into_iter().next().map(|first| first.to_string());
    let begins = first.is_some_and(|first| ["crate", "self", "super", "in"].contains(&first.as_str()));
    group.delimiter() == Delimiter::Parenthesis && begins
}

/// Whether an attribute is `#[cfg(test)]`, or that with more conditions.
fn is_cfg_test(group: &Group) -> bool {
    let text = group.stream().to_string().replace(' ', "");
    group.delimiter() == Delimiter::Bracket && (text == "cfg(test)" || text.starts_with("cfg(all(test,"))
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}
