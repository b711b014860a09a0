//! What looks like a secret in a job. A job is copied into the store, for the next runner, and its values into journals.

use serde_json::Value;

use super::template::{Piece, Template};

/// Words of a variable's name, or of a setting's, that say what it holds.
const WORDS: &[&str] = &[
    "accesskey",
    "apikey",
    "auth",
    "authorization",
    "authtoken",
    "credential",
    "credentials",
    "key",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "pw",
    "pwd",
    "secret",
    "secretkey",
    "secrets",
    "sshpass",
    "token",
];

/// Words that say it also at the end of a longer word, such as `PGPASSWORD`.
const ENDINGS: &[&str] = &["passphrase", "passwd", "password"];

/// Names that hold a folder, though they look like a password's.
const FOLDERS: &[&str] = &["oldpwd", "pwd"];

/// Last words of a name that holds where something is, what it is called or how it is used, and not the thing itself.
const NO_SECRETS: &[&str] = &[
    "address",
    "age",
    "algo",
    "algorithm",
    "command",
    "cost",
    "count",
    "dir",
    "enabled",
    "endpoint",
    "expiry",
    "file",
    "folder",
    "format",
    "header",
    "host",
    "id",
    "length",
    "lifetime",
    "max",
    "method",
    "min",
    "mode",
    "name",
    "path",
    "policy",
    "port",
    "prompt",
    "provider",
    "realm",
    "required",
    "rounds",
    "server",
    "size",
    "stdin",
    "timeout",
    "ttl",
    "type",
    "uri",
    "url",
    "user",
    "username",
    "version",
];

/// Words before `key` that make it something to find data by, or the half of a key pair that is no secret.
const PLAIN_KEYS: &[&str] =
    &["cache", "column", "foreign", "index", "partition", "primary", "pub", "public", "routing", "sort", "unique"];

/// Values of `AUTH` that name a way to log in.
const WAYS: &[&str] = &[
    "basic", "bearer", "cert", "digest", "gssapi", "jwt", "kerberos", "ldap", "local", "none", "oauth", "oauth2",
    "oidc", "saml", "trust",
];

/// First words of options that take no value.
const SWITCHES: &[&str] = &["ask", "no", "prompt", "use"];

/// The fewest characters that a secret has.
const SHORTEST: usize = 4;

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

/// What of a command's arguments looks like a secret, each with its index.
pub(super) fn of_command(arguments: &[Template]) -> Vec<(usize, String)> {
    let written: Vec<String> = arguments.iter().map(literals).collect();
    of_words(&written)
}

/// Likewise of arguments without placeholders.
pub(super) fn of_words<W: AsRef<str>>(words: &[W]) -> Vec<(usize, String)> {
    let found = |index: usize| {
        let word = words[index].as_ref();
        let of_word = || of_value(word).map(str::to_owned).or_else(|| of_argument(words, index));
        Some((index, of_word().or_else(|| of_script(word))?))
    };
    (0..words.len()).filter_map(found).collect()
}

fn of_argument<W: AsRef<str>>(words: &[W], index: usize) -> Option<String> {
    let word = words[index].as_ref();
    let before = index.checked_sub(1).map_or("", |before| words[before].as_ref());
    // `--password=value` and `PASSWORD=value`
    let assigned = || {
        let (name, value) = word.split_once('=')?;
        // `key=value` is what labels and filters are written as.
        of_name(option(name).or_else(|| is_name(name).then_some(name).filter(|name| *name != "key"))?, value)
    };
    // `--password value`
    let follows = || {
        // `--key FILE`, `--key COLUMN`
        let name = option(before).filter(|name| *name != "key" && !word.starts_with('-'))?;
        let says_where = ["env:", "file:", "fd:", "id=", "type="].iter().any(|prefix| word.starts_with(prefix));
        of_name(name, word).filter(|_| !says_where)
    };
    assigned().or_else(follows).or_else(|| of_header(word)).or_else(|| {
        // `-uUSER:PASSWORD`; two words may also be a user and a group.
        let is_curls = || matches!(before, "-u" | "--user") && words.iter().any(|word| is_curl(word.as_ref()));
        let login = word.strip_prefix("-u").or_else(|| is_curls().then_some(word))?;
        let (user, password) = login.split_once(':')?;
        let is_login = is_name(user) && holds_secret("password", password) && password.parse::<f64>().is_err();
        is_login.then(|| "a login with a password".to_owned())
    })
}

/// `Authorization: Bearer value`
fn of_header(word: &str) -> Option<String> {
    let header = word.strip_prefix("--header=").or_else(|| word.strip_prefix("-H")).unwrap_or(word);
    let (name, value) = header.trim_start().split_once(": ")?;
    let mut parts = value.split_whitespace();
    let value = match (parts.next()?, parts.next(), parts.next()) {
        (value, None, _) | (_, Some(value), None) => value,
        _ => return None,
    };
    is_name(name).then(|| of_name(name, value))?
}

/// A script for a shell is several words in one.
fn of_script(script: &str) -> Option<String> {
    if !script.contains(char::is_whitespace) {
        return None;
    }
    let is_between = |c: char| c.is_whitespace() || ";&|()`".contains(c);
    let words = script.split(is_between).map(|word| word.replace(['"', '\''], ""));
    let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
    let arguments = (0..words.len()).find_map(|index| of_argument(&words, index));
    // `-H "Authorization: Bearer value"` is three of them.
    let header = || {
        let ends = words.windows(3).filter(|words| words[0].ends_with(':'));
        ends.map(|words| words.join(" ")).find_map(|header| of_header(&header))
    };
    arguments.or_else(header)
}

/// An option's name, if it may have a value.
fn option(word: &str) -> Option<&str> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|name| is_name(name))?;
    let is_switch = name.split('-').next().is_some_and(|first| SWITCHES.contains(&first));
    (!is_switch).then_some(name)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

fn is_curl(program: &str) -> bool {
    program.rsplit('/').next() == Some("curl")
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
    let words = words_of(name);
    if words.last().is_some_and(|last| NO_SECRETS.contains(&last.as_str())) || FOLDERS.contains(&&*name.to_lowercase())
    {
        return None;
    }
    let holds = words.iter().enumerate().find_map(|(index, word)| {
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let is_plain = word == "key" && index > 0 && PLAIN_KEYS.contains(&words[index - 1].as_str());
        let known = WORDS.iter().find(|known| **known == word).filter(|_| !is_plain);
        known.or_else(|| ENDINGS.iter().find(|ending| word.ends_with(*ending)))
    })?;
    holds_secret(holds, value).then(|| format!("a secret, as its name has `{holds}`"))
}

/// The words of a name in lower case: `db`, `password` of `DB_PASSWORD`, `db-password` and `dbPassword`.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let characters: Vec<char> = name.chars().collect();
    for (index, c) in characters.iter().enumerate() {
        let is_before = |is: fn(&char) -> bool| index > 0 && is(&characters[index - 1]);
        let is_next_lower = characters.get(index + 1).is_some_and(char::is_ascii_lowercase);
        let begins = c.is_ascii_uppercase()
            && (is_before(char::is_ascii_lowercase) || is_before(char::is_ascii_uppercase) && is_next_lower);
        if begins || "_-.".contains(*c) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| !"_-.".contains(*c)) {
            word.push(c.to_ascii_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether this may be the secret that a name with the word `holds` has.
fn holds_secret(holds: &str, value: &str) -> bool {
    let value = value.trim_matches(['"', '\'']);
    let lower = value.to_ascii_lowercase();
    let is_switch = ["true", "false", "none"].contains(&lower.as_str());
    let is_way = ["auth", "authorization"].contains(&holds) && WAYS.contains(&lower.as_str());
    // A path names where a secret is.
    let is_path = value.starts_with(['/', '.']) || value.starts_with("~/");
    let is_number = holds == "key" && value.parse::<f64>().is_ok();
    let is_short = value.chars().count() < SHORTEST;
    !(is_short || is_switch || is_way || is_path || is_number || is_filled_in(value))
}

/// Whether a shell or a target fills in the value: `$TOKEN`, `${TOKEN}`, `$(command)`, `{label.token}`.
fn is_filled_in(value: &str) -> bool {
    let is_variable = value.strip_prefix('$').is_some_and(|rest| {
        rest.starts_with(['{', '(']) || rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    });
    is_variable || value.starts_with('`') || value.starts_with('{') && value.ends_with('}')
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

    fn command(words: &[&str]) -> Vec<usize> {
        let templates: Vec<Template> = words.iter().map(|word| Template::parse(word).unwrap()).collect();
        of_command(&templates).into_iter().map(|(index, _)| index).collect()
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "PASSWORD",
            "DB_PASSWORD",
            "DB_PASS",
            "RESTIC_PASSWORD",
            "API_TOKEN",
            "token",
            "CLIENT_SECRET",
            "API_KEY",
            "PGPASS_PASS",
            "Auth",
            "PGPASSWORD",
            "MYSQL_PWD",
            "SSHPASS",
            "dbPassword",
            "DBPassword",
            "apiKey",
            "SECRETKEY",
            "PASSWORD2",
        ] {
            assert!(variable(name, "hunter2").is_some_and(|what| what.contains("its name")), "{name}");
        }
        assert!(variable("PASSWORD", "12345").is_some());
        for (name, value) in [
            ("TOKEN_FILE", "token.txt"),
            ("SECRET_NAME", "database"),
            ("KEYBOARD", "qwertz"),
            ("PASSWORD", ""),
            ("PASS", "2"),
            ("SSH_KEY", "/etc/key.pem"),
            ("KEY_COUNT", "3"),
            ("USE_TOKEN", "true"),
            ("TOKEN", "{label.token}"),
            ("TOKEN", "$TOKEN"),
            ("TOKEN", "${{TOKEN:-none}}"),
            ("MONKEY", "banana"),
            ("APP_HOST", "{target}.example.com"),
            ("KEY", "7"),
            ("KEY", "12345"),
            ("PASSWORD_LENGTH", "12"),
            ("PASSWORD_LENGTH", "10000"),
            ("TOKEN_TTL", "3600"),
            ("SESSION_TOKEN_LIFETIME", "1h"),
            ("SESSION_TOKEN_LIFETIME", "90 days"),
            ("PASSWORD_HASH_ALGORITHM", "argon2"),
            ("PRIMARY_KEY", "id"),
            ("PRIMARY_KEY", "customer"),
            ("CACHE_KEY", "v2"),
            ("CACHE_KEY", "build-v2"),
            ("PUBLIC_KEY", "ssh-ed25519 AAAA"),
            ("AUTH_MODE", "ldap"),
            ("AUTH", "ldap"),
            ("PWD", "work"),
        ] {
            assert_eq!(variable(name, value), None, "{name}");
        }
    }

    #[test]
    fn secrets_are_known_in_every_way_to_write_an_argument() {
        for (words, index) in [
            (&["x", "PASSWORD=hunter22xx"][..], 1),
            (&["env", "PGPASSWORD=hunter22xx", "psql"], 1),
            (&["x", "--password=hunter22xx"], 1),
            (&["x", "--password", "hunter22xx"], 2),
            (&["x", "--token", "hunter22xx"], 2),
            (&["x", "-password", "hunter22xx"], 2),
            (&["curl", "-uadmin:hunter22xx", "https://h/"], 1),
            (&["curl", "-u", "admin:hunter22xx", "https://h/"], 2),
            (&["curl", "-H", "Authorization: Bearer hunter22xx"], 2),
            (&["curl", "-HAuthorization: Bearer hunter22xx"], 1),
            (&["curl", "--header=X-Api-Key: hunter22xx"], 1),
            (&["sh", "-c", "export DB_PASSWORD=hunter22xx; ./x"], 2),
            (&["sh", "-c", "DB_PASSWORD='hunter22xx' ./x"], 2),
            (&["sh", "-c", "x --password hunter22xx && y"], 2),
            (&["sh", "-c", "curl -H 'Authorization: Bearer hunter22xx' https://h/"], 2),
            (&["sh", "-c", "curl -u admin:hunter22xx https://h/"], 2),
        ] {
            assert_eq!(command(words), [index], "{words:?}");
        }
        for words in [
            &["x", "--password={label.pw}"][..],
            &["x", "--password", "{label.pw}"],
            &["x", "--password", "$PASSWORD"],
            &["x", "--password", "--verbose"],
            &["x", "--password-stdin", "registry"],
            &["ansible-playbook", "--ask-become-pass", "site.yml"],
            &["x", "--token-file", "token.txt"],
            &["x", "--token-file=x"],
            &["sort", "--key", "2,2n"],
            &["kubectl", "label", "key=value"],
            &["docker", "build", "--secret", "id=npm,src=npmrc"],
            &["openssl", "-pass", "env:SECRET"],
            &["docker", "run", "-u", "app:apps", "image"],
            &["docker", "run", "-u1000:1000", "image"],
            &["curl", "-H", "Authorization: Bearer {label.token}"],
            &["curl", "-H", "Authorization: Bearer $TOKEN"],
            &["curl", "-H", "Accept: text/html"],
            &["sh", "-c", "export DB_PASSWORD=$(cat /run/secret/db); ./x --token \"$TOKEN\""],
            &["sh", "-c", "curl -H \"Authorization: Bearer $TOKEN\" https://h/"],
            &["sh", "-c", "PASSWORD_LENGTH=12 ./x; echo the token is gone"],
        ] {
            assert_eq!(command(words), [0; 0], "{words:?}");
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
            assert_eq!(command(&["x", value]), [1], "{value}");
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
    fn settings_are_looked_at_too() {
        let settings = json!({ "hooks": [{ "token": "abcd" }], "people": 3, "url": "https://u:p@h/" });
        let paths: Vec<String> = of_settings(&settings).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["hooks.0.token", "url"]);
    }
}
