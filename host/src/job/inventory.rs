//! Targets listed outside of a job: in an inventory, or by a command.
//!
//! An inventory is a TOML file with `hosts`, written as in a job's `[targets]`:
//!
//! ```toml
//! hosts = ["web01", { name = "web02", labels = { rack = "b" } }]
//! ```
//!
//! or, which is the same in TOML, one table a host:
//!
//! ```toml
//! [[hosts]]
//! name = "web01"
//! labels = { rack = "a" }
//! ```

use std::collections::BTreeMap;

use super::check;
use super::file::InventoryFile;
use super::name::{Target, TargetName};
use super::problem::{Problems, Source, quote};
use super::reader::{At, Report};

/// Reads an inventory's text, in its order; `file` is the name that messages give it.
///
/// # Errors
/// [`Problems`]: everything that is wrong with it, each with its place.
pub fn parse_inventory(file: &str, text: &str) -> Result<Vec<Target>, Problems> {
    let source = Source::new(file, text);
    let mut report = Report::new("inventory", &source);
    let shape = report.read::<InventoryFile>();
    let targets = shape.and_then(|shape| shape.hosts).map(|hosts| check::hosts(hosts, &mut report));
    report.finish(targets).map(|(targets, _)| targets)
}

/// Reads what a command printed: one name a line. Empty lines are skipped, and those that begin with `#`.
///
/// No name at all is no problem here: there may be nothing to do.
///
/// # Errors
/// [`Problems`]: every line that is no name or was there before.
pub fn parse_lines(origin: &str, text: &str) -> Result<Vec<Target>, Problems> {
    let source = Source::new(origin, text);
    let mut report = Report::new("list of targets", &source);
    let mut seen = BTreeMap::<TargetName, At>::new();
    let mut targets = Vec::new();
    for number in 0..source.line_count() {
        let line = source.line(number);
        let written = &source.text()[line.clone()];
        let name = written.trim();
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        let start = line.start + (written.len() - written.trim_start().len());
        let at = At { key: String::new(), span: start..start + name.len() };
        if name.contains(char::is_whitespace) {
            report.complain(&at, format!("{} is more than a name", quote(name))).help("print one name a line");
            continue;
        }
        match TargetName::parse(name) {
            Err(error) => {
                report.complain(&at, format!("{} is no target's name: {error}", quote(name)));
            }
            Ok(name) => match seen.get(&name) {
                Some(first) => {
                    let place = report.place_of(first);
                    report
                        .complain(&at, format!("target `{name}` is listed twice"))
                        .help(format!("it is on line {} already", place.line))
                        .other(first.span.clone(), "listed first");
                }
                None => {
                    seen.insert(name.clone(), at);
                    targets.push(Target::unlabelled(name));
                }
            },
        }
    }
    report.finish(Some(targets)).map(|(targets, _)| targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(problems: &Problems) -> Vec<String> {
        problems.problems().iter().map(|problem| format!("{} {problem}", problem.place)).collect()
    }

    #[test]
    fn an_inventory_keeps_its_order_and_labels() {
        let text = "hosts = [\"b\", { name = \"a\", labels = { rack = \"1\", \"x.y\" = \"2\" } }]";
        let targets = parse_inventory("web.toml", text).unwrap();
        assert_eq!(targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(targets[1].label("x.y").unwrap(), "2");
        let tables = "[[hosts]]\nname = \"b\"\n[[hosts]]\nname = \"a\"\nlabels.rack = \"1\"\n[hosts.labels]\n";
        assert!(parse_inventory("web.toml", tables).is_err(), "TOML does not let a table be written twice");
        let tables =
            "[[hosts]]\nname = \"b\"\n[[hosts]]\nname = \"a\"\n[hosts.labels]\nrack = \"1\"\n\"x.y\" = \"2\"\n";
        assert_eq!(parse_inventory("web.toml", tables).unwrap(), targets);
    }

    #[test]
    fn an_inventory_tells_all_its_problems() {
        let text = "hosts = [\n  \"a\",\n  \"a\",\n  3,\n  { name = \"-b\", rack = \"1\", labels = { zone = 1 } },\n  {},\n]\n";
        assert_eq!(
            told(&parse_inventory("web.toml", text).unwrap_err()),
            [
                "web.toml:3:3 hosts[1]: target `a` is listed twice",
                "web.toml:4:3 hosts[2]: expected a target, found a whole number",
                "web.toml:5:12 hosts[3].name: a name cannot begin with `-`: a command would read it as an option",
                "web.toml:5:18 hosts[3].rack: unknown key",
                "web.toml:5:48 hosts[3].labels.zone: expected text, found a whole number",
                "web.toml:6:3 hosts[4].name: missing key",
            ]
        );
    }

    #[test]
    fn an_inventory_of_another_shape_says_which_is_meant() {
        for (text, told_as) in [
            ("", "web.toml:1:1 hosts: missing key"),
            ("hosts = []", "web.toml:1:9 hosts: no target is listed"),
            ("[hosts.web01]\nrack = \"a\"", "web.toml:1:2 hosts: expected a list, found a table"),
            ("hosts = [", "web.toml:1:10 hosts: not TOML: unclosed array, expected `]`"),
        ] {
            assert_eq!(told(&parse_inventory("web.toml", text).unwrap_err()), [told_as], "{text}");
        }
    }

    #[test]
    fn lines_are_names() {
        let targets = parse_lines("list", "# web\nweb01\r\n\n  web02  \nwéb03").unwrap();
        assert_eq!(targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(), ["web01", "web02", "wéb03"]);
        assert_eq!(parse_lines("list", "").unwrap(), []);
    }

    #[test]
    fn a_line_that_is_no_name_is_named() {
        assert_eq!(
            told(&parse_lines("list", "a\n -b\na b\n a\n\0\n").unwrap_err()),
            [
                "list:2:2 `-b` is no target's name: a name cannot begin with `-`: a command would read it as an option",
                "list:3:1 `a b` is more than a name",
                "list:4:2 target `a` is listed twice",
                "list:5:1 `\\u{0}` is no target's name: a name cannot hold '\\0'",
            ]
        );
    }
}
