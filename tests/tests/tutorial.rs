//! The tutorial of `docs/start/first-policy.md`, run from its own code blocks.
//!
//! A block of `sh` is run in the folder that the last one ended in; a block of `text` behind it has lines that were printed; a
//! block with a file's name is written there, or added with `+`. Blocks before the section's heading and behind the next
//! are not its own.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::path::PathBuf;

use lockkeeper_tests::{World, root, said};

/// A fenced block: the words behind the fence, and its text.
struct Block {
    words: Vec<String>,
    text: String,
}

fn blocks(section: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = section.lines();
    while let Some(line) = lines.next() {
        let Some(words) = line.strip_prefix("```") else { continue };
        let text: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        blocks.push(Block { words: words.split(' ').map(str::to_owned).collect(), text: text.join("\n") + "\n" });
    }
    blocks
}

#[test]
fn the_tutorial_does_what_it_says() {
    let page = fs::read_to_string(root().join("docs/start/first-policy.md")).unwrap();
    let (_, section) = page.split_once("# Your first policy\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let world = World::new();
    let place = world.folder().join("place");
    let mut folder: PathBuf = world.folder().to_owned();
    let mut printed = String::new();
    let mut ran = 0;
    for Block { words, text } in blocks(section) {
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["sh", rest @ ..] => {
                let mut shell = world.command("lockkeeper");
                let path = shell.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned();
                shell = std::process::Command::new("sh");
                let script = format!("set -e\n{text}\npwd > {}\n", place.display());
                shell.arg("-c").arg(script).current_dir(&folder).env("PATH", path);
                shell.env("LOCKKEEPER_STATE_DIR", world.folder().join("state"));
                // Std is built once for all guests.
                shell.env("CARGO_TARGET_DIR", lockkeeper_tests::target_dir());
                let answer = said(&mut shell);
                let should_fail = rest.contains(&"fails");
                assert_eq!(answer.code != Some(0), should_fail, "{text}\n{}\n{}", answer.stdout, answer.stderr);
                if !should_fail {
                    folder = PathBuf::from(fs::read_to_string(&place).unwrap().trim());
                }
                printed = answer.stdout;
                ran += 1;
            }
            ["text"] => {
                for line in text.lines() {
                    assert!(printed.lines().any(|seen| seen == line), "`{line}` was not printed:\n{printed}");
                }
            }
            [_, file, rest @ ..] => {
                let before = if rest.contains(&"+") {
                    fs::read_to_string(folder.join(file)).unwrap() + "\n"
                } else {
                    String::new()
                };
                fs::write(folder.join(file), before + &text).unwrap();
            }
            words => panic!("a block in the tutorial that nobody runs: {words:?}"),
        }
    }
    assert!(ran >= 4, "the tutorial runs something");
}
