//! What looks like a secret in a job. A job is copied into the store, for the next runner, and its values into journals.

use serde_json::Value;

use super::template::{Piece, Template};

/// Words of a variable's name, or of a setting's, that say what it holds.
const WORDS: [&str; 13] = [
    "auth",
    "apikey",
    "credential",
    "credentials",
    "key",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pw",
    "secret",
    "secrets",
    "token",
];

/// Last words of a name that holds where something is, or what it is called, and not the thing itself.
const NO_SECRETS: [&str; 14] = [
    "command", "count", "dir", "file", "folder", "host", "id", "name", "path", "policy", "size", "timeout", "type",
    "url",
];

/// What the values of known kinds begin with, how many characters follow at least, and what they are.
const PREFIXES: [(&str, usize, &str); 17] = [
    ("AKIA", 16, "an access key of AWS"),
    ("ASIA", 16, "an access key of AWS"),
    ("AIza", 35, "a key of Google's"),
    ("ghp_", 20, "a token of GitHub's"),
    ("gho_", 20, "a token of GitHub's"),
    ("ghu_", 20, "a token of GitHub's"),
    ("ghs_", 20, "a token of GitHub's"),
    ("ghr_", 20, "a token of GitHub's"),
    ("github_pat_", 20, "a token of GitHub's"),
    ("glpat-", 16, "a token of GitLab's"),
    ("xoxb-", 10, "a token of Slack's"),
    ("xoxp-", 10, "a token of Slack's"),
    ("xoxa-", 10, "a token of Slack's"),
    ("sk_live_", 16, "a key of Stripe's"),
    ("hvs.", 20, "a token of Vault's"),
    ("npm_", 30, "a token of npm's"),
    ("dop_v1_", 30, "a token of DigitalOcean's"),
];

/// What of a variable looks like a secret, by its name or its value.
pub(super) fn of_variable(name: &str, value: &Template) -> Option<String> {
    let written = literals(value);
    // A value that only a target fills in is no secret of the job's.
    of_value(&written).map(str::to_owned).or_else(|| of_name(name, &written))
}

/// What of an argument of a command looks like a secret.
pub(super) fn of_argument(argument: &Template) -> Option<String> {
    of_word_of_command(&literals(argument))
}

/// Likewise of an argument without placeholders.
pub(super) fn of_word_of_command(written: &str) -> Option<String> {
    let option = written.strip_prefix("--").and_then(|rest| rest.split_once('='));
    of_value(written).map(str::to_owned).or_else(|| of_name(option?.0, option?.1))
}

/// What of a policy's settings looks like a secret, each with its path, such as `hooks.0.token`.
pub(super) fn of_settings(settings: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    look(settings, "", "", &mut found);
    found
}

fn look(value: &Value, path: &str, name: &str, found: &mut Vec<(String, String)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::String(text) => {
            if let Some(what) = of_value(text).map(str::to_owned).or_else(|| of_name(name, text)) {
                found.push((path.to_owned(), what));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                look(item, &below(&index.to_string()), name, found);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                look(member, &below(key), key, found);
            }
        }
        _ => {}
    }
}

/// What stands in the job itself.
fn literals(template: &Template) -> String {
    let pieces = template.pieces().iter();
    pieces.filter_map(|piece| if let Piece::Literal(text) = piece { Some(text.as_str()) } else { None }).collect()
}

fn of_name(name: &str, value: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let words: Vec<&str> = name.split(['_', '-', '.']).filter(|word| !word.is_empty()).collect();
    let holds = words.iter().find(|word| WORDS.contains(word))?;
    let is_about = words.last().is_some_and(|last| NO_SECRETS.contains(last));
    let is_switch = ["true", "false", "yes", "no", "on", "off", "none"].contains(&value.to_ascii_lowercase().as_str());
    // A path names where a secret is.
    let is_plain = value.is_empty() || is_switch || value.starts_with(['/', '.']) || value.parse::<f64>().is_ok();
    let is_secret = !is_about && (!is_plain || *holds != "key" && value.parse::<f64>().is_ok());
    is_secret.then(|| format!("a secret, as its name has `{holds}`"))
}

fn of_value(text: &str) -> Option<&'static str> {
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY") {
        return Some("a private key");
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    text.split(|c: char| !is_part(c)).find_map(of_word).or_else(|| {
        // `https://user:password@host`
        let (_, rest) = text.split_once("://")?;
        let (login, _) = rest.split(['/', '?', '#']).next()?.rsplit_once('@')?;
        login.split_once(':').filter(|(_, password)| !password.is_empty()).map(|_| "a URL with a password")
    })
}

fn of_word(word: &str) -> Option<&'static str> {
    let known = PREFIXES.iter().find(|(prefix, least, _)| {
        let rest = word.strip_prefix(prefix).unwrap_or_default();
        rest.len() >= *least && rest.bytes().take(*least).all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    });
    let is_jwt = || {
        let parts: Vec<&str> = word.split('.').collect();
        // Both begin with `{"` in base64.
        matches!(parts.as_slice(), [header, claims, _] if [header, claims].iter().all(|part| part.starts_with("eyJ") && part.len() > 10))
    };
    known.map(|(.., what)| *what).or_else(|| is_jwt().then_some("a JSON web token"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variable(name: &str, value: &str) -> Option<String> {
        of_variable(name, &Template::parse(value).unwrap())
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in ["PASSWORD", "DB_PASSWORD", "API_TOKEN", "token", "CLIENT_SECRET", "API_KEY", "PGPASS_PASS", "Auth"]
        {
            assert!(variable(name, "hunter2").is_some_and(|what| what.contains("its name")), "{name}");
        }
        assert!(variable("PASSWORD", "12345").is_some());
        for (name, value) in [
            ("TOKEN_FILE", "token.txt"),
            ("PASSWORD", ""),
            ("SSH_KEY", "/etc/key.pem"),
            ("KEY_COUNT", "3"),
            ("USE_TOKEN", "true"),
            ("TOKEN", "{label.token}"),
            ("MONKEY", "banana"),
            ("APP_HOST", "{target}.example.com"),
            ("KEY", "7"),
        ] {
            assert_eq!(variable(name, value), None, "{name}");
        }
    }

    #[test]
    fn secrets_are_known_by_their_shapes() {
        for value in [
            "-----BEGIN OPENSSH PRIVATE KEY-----\nx",
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_0123456789abcdefghijklmnopqrstuvwxyz",
            "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
            "glpat-0123456789abcdefghij",
            "postgres://app:hunter2@db1/app",
        ] {
            assert!(variable("X", value).is_some(), "{value}");
            assert!(of_argument(&Template::parse(value).unwrap()).is_some(), "{value}");
        }
        for value in [
            "AKIA",
            "ghp_short",
            "eyJ.eyJ.x",
            "https://example.com/a@b",
            "https://user@host/",
            "-----BEGIN CERTIFICATE-----",
        ] {
            assert_eq!(variable("X", value), None, "{value}");
        }
    }

    #[test]
    fn arguments_and_settings_are_looked_at_too() {
        let argument = |text| of_argument(&Template::parse(text).unwrap());
        assert!(argument("--password=hunter2").is_some());
        assert_eq!(argument("--password={label.pw}"), None);
        assert_eq!(argument("--token-file=x"), None);
        let settings = json!({ "hooks": [{ "token": "abc" }], "people": 3, "url": "https://u:p@h/" });
        let paths: Vec<String> = of_settings(&settings).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["hooks.0.token", "url"]);
    }
}
