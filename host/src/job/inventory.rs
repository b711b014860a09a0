//! Targets listed in a file of their own.
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

use super::check;
use super::file::InventoryFile;
use super::name::Target;
use lockkeeper_locks::toml_reader::{Problems, Report, Source};

/// Reads an inventory's text, in its order; `file` is the name that messages give it.
///
/// No target at all is no problem here: the job says whether there may be none.
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
    fn an_inventory_has_ranges_and_each_host_once() {
        let text = "hosts = [\"web[08:10]\", { name = \"db[a:b]\", labels = { rack = \"1\" } }]";
        let targets = parse_inventory("web.toml", text).unwrap();
        let names: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
        assert_eq!(names, ["web08", "web09", "web10", "dba", "dbb"]);
        assert_eq!((targets[2].labels.len(), targets[4].label("rack").unwrap()), (0, "1"));
        assert_eq!(parse_inventory("web.toml", "hosts = []").unwrap(), []);
        let text = "hosts = [\n \"web[1:3]\",\n \"WEB2.\",\n \"web[3:9]\",\n \"web[9:1]\", \"a b\"]\n";
        assert_eq!(
            told(&parse_inventory("web.toml", text).unwrap_err()),
            [
                "web.toml:3:2 hosts[1]: targets `web2` and `WEB2.` are the same host: their names differ only in case or a \
                 trailing dot",
                "web.toml:4:2 hosts[2]: target `web3` is listed twice",
                "web.toml:5:2 hosts[3]: the range `[9:1]` ends before it begins",
                "web.toml:5:14 hosts[4]: a name cannot hold ' '",
            ]
        );
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
            ("[hosts.web01]\nrack = \"a\"", "web.toml:1:2 hosts: expected a list, found a table"),
            ("hosts = [", "web.toml:1:10 hosts: not TOML: unclosed array, expected `]`"),
        ] {
            assert_eq!(told(&parse_inventory("web.toml", text).unwrap_err()), [told_as], "{text}");
        }
    }
}
